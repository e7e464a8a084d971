"""Numbers in a module's source: padding with them, adding them, scaling by them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from model_specimens import integer_weights, seeded
from torch import Tensor, nn
from torch.nn import functional as F

import reluctant as rl
from reluctant.properties.bounds import kernel_tolerance
from reluctant.properties.exact import exact_evidence
from reluctant.properties.hypotheses import BIAS_FREE
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant
from reluctant.theory.tracing import trace
from reluctant.theory.verdicts import Outcome

Function = Callable[[Tensor], Tensor]
PADDINGS: dict[str, Function] = {
    "ends": lambda z: F.pad(z, (1, 2), value=3.0),
    "channels": lambda z: F.pad(z, (0, 0, 1, 0), value=-2.0),
    "one more, one less": lambda z: F.pad(z, (2, -1), "constant", 1.0),
    "module": nn.ConstantPad1d((0, 2), 2.0),
    "operator": lambda z: torch.constant_pad_nd(z, [1, 1], 2),
}
ONES: dict[str, Function] = {
    "add": lambda z: z + 0.1,
    "subtract": lambda z: z - 0.1,
    "subtract from": lambda z: 0.1 - z,
    "multiple": lambda z: torch.add(z, z.flip(1), alpha=0.3),
    "divide": lambda z: z / 0.3,
    "multiply": lambda z: z * 0.3,
    "filled": lambda z: z + torch.full_like(z, 0.1),
    "clip": lambda z: z.clamp(-0.1, 0.3),
    "hard tanh": lambda z: F.hardtanh(z, 0.0, 0.7),
    "pad": lambda z: F.pad(z, (1, -1), value=0.1),
}


class Part(nn.Module):
    """Turn a function into a module."""

    def __init__(self, part: Function) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


def padded(part: Function) -> tuple[nn.Module, Tensor]:
    """Make a network with integer weights that pads between two convolutions, and inputs."""
    module = nn.Sequential(
        nn.Conv1d(1, 2, 2, bias=False), nn.ReLU(), Part(part), nn.LazyConv1d(2, 2, bias=False),
        nn.ReLU(), nn.Flatten(), nn.LazyLinear(1, bias=False),
    ).double()  # fmt: skip
    x = torch.randint(-3, 4, (3, 1, 5), generator=seeded()).double()
    module(x)
    integer_weights(module, seeded())
    return module, x


@pytest.mark.parametrize("name", PADDINGS)
def test_padding_with_a_number_starts_paths(name: str) -> None:
    module, x = padded(PADDINGS[name])
    net = trace(module, x)
    listed = rl.paths(net, x)
    with torch.no_grad():
        assert torch.equal(listed.output(), module(x))
    _, exact = kernel_tolerance(net, x, net.gates(x))
    assert exact == "exact"
    features = listed.bundle_features
    assert torch.equal(rl.npk(net, x), features @ features.T)
    from_data = listed.features[:, listed.starts >= 0]
    assert from_data.shape[1] < listed.features.shape[1]
    assert torch.equal(rl.npk(net, x, sources=False), from_data @ from_data.T)
    assert rl.count_paths(net, x, sources=True) == len(listed)
    assert rl.count_paths(net, x) == from_data.shape[1]


@pytest.mark.parametrize("name", PADDINGS)
def test_padding_with_a_number_is_no_bias_free_network(name: str) -> None:
    net = trace(*padded(PADDINGS[name]))
    unmet = BIAS_FREE(net)
    assert unmet is not None
    assert "adds a constant that is not data" in unmet.reason
    assert "test_constants.py" in unmet.where or "ConstantPad1d" in unmet.where


def test_padding_with_zero_is_none() -> None:
    net = trace(*padded(lambda z: F.pad(z, (1, 2), value=0)))
    assert BIAS_FREE(net) is None
    assert not any(isinstance(node, Constant) for node in net.nodes)


def test_padding_with_infinity_is_refused() -> None:
    with pytest.raises(rl.UnsupportedOperation, match="pads with -inf, and a source is a finite"):
        trace(*padded(lambda z: F.max_pool1d(F.pad(z, (1, 1), value=-torch.inf), 3, 1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ONES)
def test_numbers_are_the_same_on_all_routes(name: str, dtype: torch.dtype) -> None:
    """No float32 has the value 0.1: rounded on one route only, it would refute an identity."""
    module = nn.Sequential(nn.Linear(2, 2), Part(ONES[name]), nn.ReLU(), nn.Linear(2, 1))
    x = torch.randn(3, 2, generator=seeded(), dtype=dtype)
    net: PathNetwork = trace(module.to(dtype), x)
    (verdict,) = exact_evidence(net, ["dual.inner-product"])
    assert verdict.outcome is Outcome.HOLDS, verdict.reason


def test_a_number_written_into_a_part_is_not_rounded() -> None:
    def write(z: Tensor) -> Tensor:
        z = z.clone()
        z[:, :1] = 0.1
        return z

    module = nn.Sequential(nn.Linear(2, 2), Part(write), nn.Linear(2, 1)).double()
    net = trace(module, torch.zeros(1, 2).double())
    (found,) = (node for node in net.nodes if isinstance(node, Constant))
    assert found.value.tolist() == [0.1]
