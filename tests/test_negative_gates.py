"""Gates that can be negative, and gates that are booleans, as a user writes them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import reluctant as rl
from reluctant.properties.bounds import kernel_tolerance
from reluctant.theory.kernels import kernel_magnitude
from reluctant.theory.rounding import output_bound, undecided_gates
from reluctant.theory.tracing import trace

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()


class Folded(nn.Module):
    """Take absolute values between dense layers: gates of 1 and -1."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 4, bias=bias), nn.Linear(4, 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).abs())


class Compared(nn.Module):
    """Multiply by a comparison as it is, without a cast to floating point."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.value, self.feature = nn.Linear(3, 4, bias=False), nn.Linear(3, 4)
        self.last = nn.Linear(4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.value(x) * (self.feature(x) > 0))


def test_bounds_are_those_of_absolute_gates() -> None:
    net = trace(Folded().double(), X)
    gates = net.gates(X)
    assert min(float(g.min()) for g in gates) == -1
    opened = [g.abs() for g in gates]
    assert torch.equal(output_bound(net, X, gates), output_bound(net, X, opened))
    assert torch.equal(kernel_magnitude(net, X, gates), kernel_magnitude(net, X, opened))
    bound, _ = kernel_tolerance(net, X, gates, output=0)
    assert bool((torch.as_tensor(bound) > 0).all())
    assert undecided_gates(net, X, gates) == 0


def test_no_statement_about_negative_gates_is_refuted_by_its_bound() -> None:
    names = ["dual.inner-product", "dual.npk-hadamard", "dual.permute-units", "dual.homogeneous"]
    for verdict in rl.check(Folded().double(), X, names):
        assert verdict.outcome is rl.Outcome.HOLDS, verdict.reason


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_that_are_booleans_can_be_measured(dtype: torch.dtype) -> None:
    report = rl.check(Compared().to(dtype), X.to(dtype), "dual", effort="quick")
    assert report["dual.inner-product"].outcome is rl.Outcome.HOLDS
    assert not report.failures
    assert report["dual.homogeneous"].outcome is rl.Outcome.NOT_IMPLIED
