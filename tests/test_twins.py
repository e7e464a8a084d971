"""Modules that are hard to copy: they are read, and left as they were, whatever their forward does."""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.utils.prune as pruning
from torch import Tensor, nn

import reluctant as rl
from reluctant.theory.twins import twin

X = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
STATEMENTS = ["dual.inner-product", "dual.relu-is-dgn", "dual.frozen-gates-linear"]


class Restless(nn.Module):
    """Hold what cannot be copied, and change all that it can reach in a run."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)
        self.register_buffer("runs", torch.zeros(1))
        self.fails, self.calls, self.lock = fails, 0, threading.Lock()
        self.seen: list[int] = []
        self.cache: dict[str, Any] = {"lock": self.lock, "sums": []}
        self.last = self.a.weight * 2  # no leaf, so that it cannot be copied either

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            self.calls += 1
        self.seen.append(self.calls)
        self.cache["sums"].append(self.calls)
        self.runs += 1
        self.a.eval()
        vars(self.a)["extra"] = self.calls
        if self.fails:
            self.a.weight.data.mul_(2)
            self.a.weight.requires_grad_(False)
            raise ValueError("no")
        output: Tensor = self.b(torch.relu(self.a(x)))
        return output


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False), nn.Identity()
    )
    return net.double()


def normalised() -> nn.Module:
    net = plain()
    with pytest.warns(FutureWarning, match="deprecated"):
        nn.utils.weight_norm(net[0])
    return net


def pruned() -> nn.Module:
    net = plain()
    mask = torch.tensor([[1.0, 0.0, 1.0]]).expand(4, 3)
    pruning.custom_from_mask(net[0], "weight", mask)  # type: ignore[no-untyped-call]
    return net


def with_a_forward_that_closes_over_it() -> nn.Module:
    net = plain()
    vars(net)["forward"] = lambda y: net[2](torch.relu(net[0](y)))
    return net


def with_a_method_that_closes_over_it() -> nn.Module:
    net = plain()
    vars(net)["forward"] = types.MethodType(lambda _, y: net[2](torch.relu(net[0](y))), net)
    return net


def with_a_wrapped_layer() -> nn.Module:
    net = plain()
    former = net[0].forward

    def wrapped(_: nn.Module, y: Tensor) -> Tensor:
        output: Tensor = former(y)
        return output

    vars(net[0])["forward"] = functools.partial(wrapped, net[0])
    return net


def with_a_hook_that_runs_another_part() -> nn.Module:
    net = plain()
    last, parts = net[2], [net[2]]
    net[2] = nn.Identity()
    net[2].later = last
    net[3].register_forward_hook(lambda _module, _args, output: parts[0](output))
    return net


HARD: dict[str, Callable[[], nn.Module]] = {
    "holds a lock": lambda: Restless().double(),
    "weight norm": normalised,
    "pruned": pruned,
    "closure": with_a_forward_that_closes_over_it,
    "method": with_a_method_that_closes_over_it,
    "wrapped layer": with_a_wrapped_layer,
    "hook": with_a_hook_that_runs_another_part,
}


def state(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Go through all that a run could change, values as text and objects by identity."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            yield f"{path}.{name}", (id(value), repr(value))
    for name, parameter in module.named_parameters():
        yield name, (id(parameter), parameter.data_ptr(), parameter.requires_grad, parameter.grad)


@pytest.mark.parametrize("kind", HARD)
def test_what_is_hard_to_copy_is_read_and_left_as_it_was(kind: str) -> None:
    module = HARD[kind]()
    with torch.no_grad():
        expected = twin(module)(X)
    before = dict(state(module))
    net = rl.trace(module, X)
    report = rl.check(module, X, STATEMENTS)  # the second of its trials draws other weights
    kernel = rl.ntk(module, X)
    assert dict(state(module)) == before
    assert [verdict.outcome for verdict in report] == [rl.Outcome.HOLDS] * 3
    assert torch.equal(net.program.run(X).output, expected)
    assert torch.equal(kernel, kernel.T) and bool((kernel.diagonal() > 0).all())
    assert len(net.weighted) == 2 and net.gate_layers[0].own


@pytest.mark.parametrize("call", [rl.trace, rl.npk, rl.ntk, rl.check])
def test_a_forward_that_raises_leaves_no_trace_either(call: Callable[..., object]) -> None:
    module = Restless(fails=True).double()
    before = dict(state(module))
    weight = module.a.weight.detach().clone()
    with pytest.raises(rl.InputError, match=r"test_twins\.py:\d+: .*fails on an example"):
        call(module, X)
    assert dict(state(module)) == before
    assert torch.equal(module.a.weight, weight)


def test_a_twin_shares_what_cannot_be_copied_and_nothing_else() -> None:
    module = Restless()
    made = twin(module)
    assert isinstance(made, Restless) and made.lock is module.lock
    assert made.cache["lock"] is module.lock and made.cache["sums"] is not module.cache["sums"]
    own = {p.data_ptr() for p in (*module.parameters(), *module.buffers(), module.last)}
    assert not own & {p.data_ptr() for p in (*made.parameters(), *made.buffers(), made.last)}


def test_functions_that_do_not_reach_the_module_stay_themselves() -> None:
    calls: list[int] = []
    module = plain()
    module[0].register_forward_hook(lambda *_: calls.append(1))
    (hook,) = twin(module)[0]._forward_hooks.values()  # type: ignore[index]
    assert hook is next(iter(module[0]._forward_hooks.values()))


@pytest.mark.parametrize("call", [rl.trace, rl.npk, rl.ntk, rl.check])
def test_weights_and_inputs_made_in_inference_mode_are_fine(call: Callable[..., object]) -> None:
    with torch.inference_mode():
        module, x = plain(), X.clone()
    call(module, x)
