"""Pooling windows, as moves of entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """List, for every output position and axis, the input positions of its window.

    Attributes:
        axes: One (positions, taps) tensor an axis, for the trailing axes; -1 for a tap outside.
    """

    axes: tuple[Tensor, ...]

    def gather(self, t: Tensor, fill: float = 0.0) -> Tensor:
        r"""Gather the windows.

        Args:
            t: Tensor of shape (n, \*other, \*positions).
            fill: Value of the taps outside.

        Returns:
            Tensor of shape (n, taps, \*other, \*windows), taps of all axes in one.
        """
        rank = len(self.axes)
        first = t.ndim - rank
        for a, index in enumerate(self.axes):
            dim = first + 2 * a
            inside = index >= 0
            picked = index.clamp(min=0).flatten().to(t.device)
            t = t.index_select(dim, picked).unflatten(dim, tuple(index.shape))
            if not bool(inside.all()):
                inside = inside.to(t.device)
                shape = [1] * t.ndim
                shape[dim : dim + 2] = index.shape
                t = torch.where(
                    inside.reshape(shape), t, torch.full((), fill, dtype=t.dtype, device=t.device)
                )
        taps = [first + 2 * a + 1 for a in range(rank)]
        rest = [d for d in range(1, t.ndim) if d not in taps]
        t = t.permute(0, *taps, *rest)
        return t.flatten(1, rank)

    def move(self) -> Callable[[Sequence[Tensor]], Tensor]:
        """Return the gathering with zeros outside, as a move of one operand."""
        return lambda operands: self.gather(operands[0])


def sliding(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    outputs: Sequence[int],
) -> Windows:
    """Return the windows of a pooling with kernel, stride, padding and dilation.

    Args:
        sizes: Input positions along each axis.
        kernel: Taps, one an axis or one for all; likewise the next three.
        stride: Steps; empty for the kernel's size.
        padding: Positions added on both sides.
        dilation: Distance of neighbouring taps.
        outputs: Output positions along each axis.
    """
    rank = len(sizes)
    stride = stride or kernel
    kernel, stride, padding, dilation = (
        [v[0]] * rank if len(v) == 1 else list(v) for v in (kernel, stride, padding, dilation)
    )
    axes = []
    for a in range(rank):
        start = torch.arange(outputs[a]) * stride[a] - padding[a]
        index = start[:, None] + torch.arange(kernel[a]) * dilation[a]
        axes.append(torch.where((index >= 0) & (index < sizes[a]), index, -1))
    return Windows(tuple(axes))


def adaptive(sizes: Sequence[int], outputs: Sequence[int]) -> Windows:
    """Return the windows of an adaptive pooling: from ⌊i·in/out⌋ up to ⌈(i+1)·in/out⌉."""
    axes = []
    for size, count in zip(sizes, outputs, strict=True):
        starts = [i * size // count for i in range(count)]
        stops = [-(-(i + 1) * size // count) for i in range(count)]
        taps = max(b - a for a, b in zip(starts, stops, strict=True))
        index = torch.tensor(starts)[:, None] + torch.arange(taps)
        axes.append(torch.where(index < torch.tensor(stops)[:, None], index, -1))
    return Windows(tuple(axes))
