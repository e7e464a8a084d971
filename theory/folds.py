"""Sums of kernels over the windows of weighted operations, along the diagonal.

Which entries a tap reads is kept as runs: slices of the output beside slices of the operand. What a
window reads from outside is in no run, so zero padding costs nothing, and circular padding is two
runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from reluctant.theory.operators import Axis, Operator

Run = tuple[slice, slice]  # entries of the output, entries of the operand that they read


@dataclass(frozen=True, slots=True)
class Window:
    """Be what the taps of one position axis read.

    Attributes:
        size: Number of output positions.
        taps: For every tap its runs.
        is_identity: True if there is one tap, and each output position reads its own.
    """

    size: int
    taps: tuple[tuple[Run, ...], ...]
    is_identity: bool = False


def window(axis: Axis, size: int, routed: Sequence[int], operand: int) -> Window:
    """Return what an operation reads along one axis.

    Args:
        axis: Taps, stride, dilation and padding.
        size: Number of output positions.
        routed: For every position of the operation's input, the entry of a tensor before it that
            stands there, -1 for a zero.
        operand: Number of entries of that tensor.
    """
    taps, stride, dilation, before, _ = axis
    found = []
    for tap in range(taps):
        starts = (o * stride + tap * dilation - before for o in range(size))
        found.append(_runs([routed[s] if 0 <= s < len(routed) else -1 for s in starts]))
    own = ((slice(0, size, 1), slice(0, size, 1)),)
    return Window(size, tuple(found), size == operand and found == [own])


def windows(
    operator: Operator, routed: Sequence[Sequence[int]], operand: Sequence[int]
) -> tuple[Window, ...]:
    """Return what an operation reads along each of its axes, as :func:`window` does for one."""
    along = zip(operator.axes, operator.positions, routed, operand, strict=True)
    return tuple(window(*each) for each in along)


def _runs(sources: Sequence[int]) -> tuple[Run, ...]:
    """Split a list of sources into runs of constant positive step; -1 is left out."""
    runs: list[Run] = []
    start = 0
    while start < len(sources):
        first = sources[start]
        if first < 0:
            start += 1
            continue
        stop = start + 1
        step = max(sources[stop] - first, 1) if stop < len(sources) else 1
        while stop < len(sources) and sources[stop] == first + step * (stop - start):
            stop += 1
        last = first + step * (stop - start - 1)
        runs.append((slice(start, stop, 1), slice(first, last + 1, step)))
        start = stop
    return tuple(runs)


def fold(kernel: Tensor, left: Sequence[Window], right: Sequence[Window]) -> Tensor:
    r"""Sum a kernel over the window of a weighted operation, along the diagonal.

    .. math:: U[p, p'] = \sum_k K[\mathrm{src}(k, p), \mathrm{src}'(k, p')]

    Args:
        kernel: K, shape (n, \*left input positions, m, \*right input positions).
        left: Windows of the operation at the first call site.
        right: Windows at the second call site; same taps.

    Returns:
        U, shape (n, left output positions, m, right output positions), positions flattened.

    Cost:
        One addition of a kernel a tap and axis: the sum is separable.
    """
    rank = len(left)
    n, m = kernel.shape[0], kernel.shape[1 + rank]
    for axis in range(rank):
        kernel = _along(kernel, ((1 + axis, left[axis]), (2 + rank + axis, right[axis])))
    return kernel.reshape(n, math.prod(w.size for w in left), m, math.prod(w.size for w in right))


def fold_equal(kernel: Tensor, read: Sequence[Window]) -> Tensor:
    r"""Do what :func:`fold` does where only p = p' is kept.

    Args:
        kernel: Shape (\*input positions, n, m).
        read: Windows of the operation.

    Returns:
        Shape (output positions, n, m), positions flattened.
    """
    n, m = kernel.shape[-2:]
    for axis, along in enumerate(read):
        kernel = _along(kernel, ((axis, along),))
    return kernel.reshape(-1, n, m)


def _along(kernel: Tensor, sides: Sequence[tuple[int, Window]]) -> Tensor:
    """Add the taps along one axis of one or both sides."""
    if all(w.is_identity for _, w in sides):
        return kernel
    shape = list(kernel.shape)
    for dim, w in sides:
        shape[dim] = w.size
    taps = [list(product(*runs)) for runs in zip(*(w.taps for _, w in sides), strict=True)]
    # the first tap that fills the whole output is copied there, the others are added
    whole = next((k for k, tap in enumerate(taps) if _fills(tap, sides)), None)
    if whole is None:
        total = kernel.new_zeros(shape)
    else:
        (first,) = taps.pop(whole)
        total = kernel[_at(kernel, sides, [source for _, source in first])]
        if taps:
            total = total.clone(memory_format=torch.contiguous_format)
    for runs in (run for tap in taps for run in tap):
        part = kernel[_at(kernel, sides, [source for _, source in runs])]
        total[_at(total, sides, [out for out, _ in runs])] += part
    return total


def _fills(tap: Sequence[tuple[Run, ...]], sides: Sequence[tuple[int, Window]]) -> bool:
    return len(tap) == 1 and all(
        out == slice(0, w.size, 1) for (out, _), (_, w) in zip(tap[0], sides, strict=True)
    )


def _at(
    t: Tensor, sides: Sequence[tuple[int, Window]], picked: Sequence[slice]
) -> tuple[slice, ...]:
    places = [slice(None)] * t.ndim
    for (dim, _), piece in zip(sides, picked, strict=True):
        places[dim] = piece
    return tuple(places)
