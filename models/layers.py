"""Weighted layers, made without drawing a number: the laws draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reluctant.theory.errors import InputError


class Padding(StrEnum):
    """Name how a convolution continues its input beyond the edges."""

    CIRCULAR = "circular"
    ZERO = "zero"


class Pooling(StrEnum):
    """Name what stands between the convolutions and the dense layers."""

    AVERAGE = "average"
    MAX = "max"
    FLATTEN = "flatten"


class Pad(nn.Module):
    """Add window − 1 positions to each spatial axis, the odd one at the end."""

    def __init__(self, window: Sequence[int], padding: Padding) -> None:
        """Check the arguments and make the parts."""
        super().__init__()
        self.amounts = tuple(
            side for size in reversed(window) for side in ((size - 1) // 2, size // 2)
        )
        self.mode = "circular" if padding is Padding.CIRCULAR else "constant"

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, channel, *positions + window − 1)."""
        return F.pad(x, self.amounts, mode=self.mode)

    def extra_repr(self) -> str:
        """Return the amounts and the mode."""
        return f"{self.amounts}, {self.mode}"


class PositionMean(nn.Module):
    """Average over all positions: (n, channel, *positions) to (n, channel)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean over the spatial axes."""
        return x.mean(tuple(range(2, x.dim())))


def make_linear(
    n_in: int, n_out: int, *, bias: bool, batch_norm: bool = False, dtype: torch.dtype | None = None
) -> nn.Module:
    """Make a dense layer with weights still to be drawn, and its BatchNorm if wanted."""
    linear = undrawn(nn.Linear, n_in, n_out, bias=bias, dtype=dtype)
    return nn.Sequential(linear, nn.BatchNorm1d(n_out, dtype=dtype)) if batch_norm else linear


def make_convolution(
    n_in: int,
    n_out: int,
    window: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    *,
    bias: bool,
    batch_norm: bool = False,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Make a padded convolution over len(window) axes, as many positions out as in over stride."""
    plane = len(window) == 2
    pads_itself = padding is Padding.ZERO and all(size % 2 for size in window)
    kind: type[nn.Module] = nn.Conv2d if plane else nn.Conv1d
    norm: type[nn.Module] = nn.BatchNorm2d if plane else nn.BatchNorm1d
    layers: list[nn.Module] = []
    if any(size > 1 for size in window) and not pads_itself:
        layers.append(Pad(window, padding))
    layers.append(
        undrawn(
            kind, n_in, n_out, tuple(window), stride=tuple(stride), bias=bias, dtype=dtype,
            padding=tuple(size // 2 if pads_itself else 0 for size in window),
        )
    )  # fmt: skip
    if batch_norm:
        layers.append(norm(n_out, dtype=dtype))
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def undrawn(kind: Callable[..., nn.Module], *sizes: Any, **options: Any) -> nn.Module:
    """Make a torch layer without drawing its weights, so that no global generator moves."""
    return kind(*sizes, **options, device="meta").to_empty(device="cpu")


def positive(name: str, *sizes: int) -> None:
    """Refuse sizes below 1.

    Raises:
        InputError: Names the argument and the first size that is not a positive integer.
    """
    for size in sizes:
        if size < 1 or size != int(size):
            raise InputError(f"{name} needs integers of at least 1, but got {size!r}")


def per_axis(name: str, value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """Return one positive integer for each spatial axis.

    Raises:
        InputError: If a sequence has not as many entries as there are axes.
    """
    sizes = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(sizes) != axes:
        raise InputError(
            f"{name} needs one integer or {axes} of them, one a spatial axis, but got {sizes}"
        )
    positive(name, *sizes)
    return sizes
