"""Kernels beyond float64 are refused with a remedy that works; below it they become 0."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from model_specimens import F64
from torch import Tensor, nn

import reluctant as rl

X = torch.tensor([[1.0, 2.0], [3.0, 1.0]], dtype=F64)


class Scaled(nn.Module):
    """Multiply by a constant twice, and by weights that are all the same."""

    def __init__(self, size: float, factor: float) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False, dtype=F64)
        self.last = nn.Linear(2, 1, bias=False, dtype=F64)
        self.factor = factor
        for parameter in self.parameters():
            nn.init.constant_(parameter, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.factor * torch.relu(self.first(self.factor * x)))


PLAIN, SCALED = Scaled(1.0, 1.0), Scaled(1e-80, 1e100)


@pytest.mark.parametrize(
    ("kernel", "name", "remedy"),
    [
        (rl.npk, "the neural path kernel", "scale the inputs down, or take nngp_law"),
        (rl.nngp_law, "the law of the outputs", "scale the inputs or the weights"),
        (rl.ntk_law, "the law of the tangent kernel", "scale the inputs or the weights"),
    ],
)
@pytest.mark.parametrize(("module", "x"), [(PLAIN, 1e200 * X), (SCALED, X)])
def test_what_exceeds_float64_is_refused(
    kernel: Callable[[nn.Module, Tensor], Tensor],
    name: str,
    remedy: str,
    module: nn.Module,
    x: Tensor,
) -> None:
    with pytest.raises(
        rl.InputError, match=f"{name} exceeds the largest float64; {remedy}"
    ) as told:
        kernel(module, x)
    assert "\n" not in str(told.value)


def test_the_remedies_work() -> None:
    found = [rl.npk(PLAIN, 1e150 * X), rl.nngp_law(SCALED, X, variance=1e-160)]
    found += [kernel(SCALED, 1e-100 * X) for kernel in (rl.npk, rl.nngp_law, rl.ntk_law)]
    assert all(bool((torch.isfinite(k) & (k > 0)).all()) for k in found)


def test_what_is_below_float64_is_zero() -> None:
    assert not rl.npk(PLAIN, 1e-200 * X).any()


class Dead(nn.Module):
    """The second of two outputs has no open path at positive data."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1] * (x[:, :1] > 0), x[:, 1:] * (x[:, 1:] < 0)], 1)


@pytest.mark.parametrize(
    ("module", "x", "output", "whose"),
    [
        (PLAIN, 0.0 * X, None, "the kernel"),
        (PLAIN, 1e-200 * X, None, "the kernel"),
        (Dead(), torch.ones(3, 2, dtype=torch.float64), None, "output 1's kernel"),
        (Dead(), torch.ones(3, 2, dtype=torch.float64), 1, "output 1's kernel"),
    ],
)
def test_a_trace_of_zero_is_no_divisor(
    module: nn.Module, x: Tensor, output: int | None, whose: str
) -> None:
    with pytest.raises(rl.InputError, match=f"divide by 0, the trace of {whose}: at every") as told:
        rl.npk(module, x, output=output, normalise="trace")
    assert "\n" not in str(told.value)


def test_a_product_of_widths_beyond_float64_is_no_divisor() -> None:
    widths = [w for _ in range(70) for w in (30_000, 1)]  # 30000^70 is above 10^308
    layers = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise([1, *widths])]
    with pytest.raises(rl.InputError, match="the product of the widths exceeds"):
        rl.npk(nn.Sequential(*layers), torch.ones(1, 1), normalise="width")
