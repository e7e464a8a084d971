"""Odd spellings: read as what they are at every input and weight, or refused by name and line."""

from __future__ import annotations

import re

import pytest
import torch
from model_specimens import F64, seeded
from odd_specimens import READ, REFUSED, WHOLE, Odd
from torch import Tensor, nn

import reluctant as rl
from reluctant.theory.network import PathNetwork
from reluctant.theory.rounding import output_bound

# Zeros and ones: whatever rounds, clips above 1 or takes a root looks like the identity here.
EASY = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], dtype=F64)


def _eased(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)
    return module.double().eval()


def _agrees(module: nn.Module, net: PathNetwork, x: Tensor) -> bool:
    with torch.no_grad():
        wanted = module(x.clone())
    gates = net.gates(x)
    ours = net.forward(x, gates, net.weight_values())
    return bool(((ours - wanted).abs() <= output_bound(net, x, gates)).all())


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("name", [*READ, *WHOLE])
def test_what_is_read_is_the_module_at_other_inputs_and_weights(name: str) -> None:
    module = _eased(WHOLE[name]() if name in WHOLE else Odd(READ[name]))
    net = rl.trace(module, EASY)
    draws = seeded(3)
    for _ in range(4):
        for x in (torch.randn(4, 3, generator=draws, dtype=F64), 100 * EASY - 50):
            assert _agrees(module, net, x)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draws, dtype=F64))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_with_its_line_even_where_it_looks_readable(name: str) -> None:
    act, operation = REFUSED[name]
    for module in (_eased(Odd(act)), Odd(act).double().eval()):
        with pytest.raises((rl.UnsupportedOperation, rl.InputError)) as caught:
            rl.trace(module, EASY)
        error = caught.value
        assert "\n" not in str(error)
        if isinstance(error, rl.UnsupportedOperation):
            assert error.operation.startswith(operation), error
            is_placed = re.search(r"odd_specimens.py:\d+", str(error))
            is_by_part = error.operation == "torch.export" and str(error).startswith("after last: ")
            assert is_placed or is_by_part or operation == "reading", error
