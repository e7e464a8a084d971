"""Numbers that are finite, and those that are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reluctant.theory.finite import is_finite


@pytest.mark.parametrize(
    "t",
    [
        torch.empty(0, 3),
        torch.tensor([True, False]),
        torch.arange(4),
        torch.tensor([1.0, -3e38]),
        torch.tensor(2.0, dtype=torch.bfloat16),
        torch.tensor([1j]),
        torch.ones(2, 3, requires_grad=True),
    ],
)
def test_numbers_are_finite(t: Tensor) -> None:
    assert is_finite(t)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.complex64])
def test_one_that_is_not_is_found_anywhere(value: float, kind: torch.dtype) -> None:
    for place in range(5):
        t = torch.zeros(5, 2, dtype=kind)
        t[place, 1] = value
        assert not is_finite(t) and not is_finite(t.T)
