"""On an accelerator, one pass over memory for what a weight tensor makes of a product of gates.

The product is multiplied by the kernel of its origin and summed over the window, without a tensor in
between; the other route, :mod:`reluctant.theory.folds`, takes some twenty passes.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from reluctant.theory.folds import Window

_COLUMNS = 256  # of one program


def is_available(device: torch.device) -> bool:
    """Tell whether tensors of a device can be folded in one pass."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def sources(read: Sequence[Window], shape: Sequence[int]) -> Tensor:
    """Return what every tap reads for every output position, -1 for nothing.

    Args:
        read: Windows of an operation, one an axis.
        shape: Sizes of the operand's axes.

    Returns:
        Positions flattened, shape (taps, output positions), taps of the last axis fastest.
    """
    found = torch.zeros(1, 1, dtype=torch.int32)
    for along, size in zip(read, shape, strict=True):
        table = torch.full((len(along.taps), along.size), -1, dtype=torch.int32)
        for tap, runs in enumerate(along.taps):
            for out, source in runs:
                table[tap, out] = torch.arange(source.start, source.stop, source.step or 1).int()
        taken = found[:, None, :, None] * size + table[None, :, None, :]
        present = (found[:, None, :, None] >= 0) & (table[None, :, None, :] >= 0)
        found = torch.where(present, taken, -1).flatten(2).flatten(0, 1)
    return found


def multiply_and_fold(
    product: Tensor, u: Tensor | None, left: Tensor, right: Tensor, out: Tensor, scale: float
) -> None:
    r"""Add the folded product of two kernels to a third.

    .. math:: O[p, p'] \mathrel{+}= s \sum_k P[\mathrm{src}(k, p), \mathrm{src}'(k, p')]
        U[\mathrm{src}(k, p), \mathrm{src}'(k, p')]

    Args:
        product: P, shape (n, position, m, position'), contiguous.
        u: U, of the same shape and any strides; 1 if None.
        left: Sources of the first operation, as :func:`sources` gives them, on the same device.
        right: Sources of the second one; as many taps.
        out: O, shape (n, output position, m, output position'), contiguous.
        scale: s.
    """
    n, p, m, q = product.shape
    rows, columns = left.shape[1], right.shape[1]
    held = product if u is None else u
    grid = (n * m, rows, -(-columns // _COLUMNS))
    _program()[grid](
        product,
        held,
        out,
        left,
        right,
        out.new_tensor([scale]),  # a number would travel in single precision
        m,
        p,
        q,
        rows,
        columns,
        *held.stride(),
        taps=left.shape[0],
        has_u=u is not None,
        block=_COLUMNS,
    )


@functools.cache
def _program() -> Any:
    import triton
    import triton.language as tl

    def add_window(  # type: ignore[no-untyped-def]
        product,
        u,
        out,
        left,
        right,
        scale,
        m,
        p,
        q,
        rows,
        columns,
        along_n,
        along_p,
        along_m,
        along_q,
        taps: tl.constexpr,
        has_u: tl.constexpr,
        block: tl.constexpr,
    ):
        pair = tl.program_id(0).to(tl.int64)
        i, j = pair // m, pair % m
        row = tl.program_id(1)
        column = tl.program_id(2) * block + tl.arange(0, block)
        inside = column < columns
        total = tl.zeros((block,), dtype=out.dtype.element_ty)
        for tap in range(taps):
            a = tl.load(left + tap * rows + row)
            b = tl.load(right + tap * columns + column, mask=inside, other=-1)
            read = tl.where(a >= 0, b, -1) >= 0
            value = tl.load(product + ((i * p + a) * m + j) * q + b, mask=read, other=0.0)
            if has_u:
                at = i * along_n + a * along_p + j * along_m + b * along_q
                value *= tl.load(u + at, mask=read, other=0.0)
            total += value
        place = out + ((i * rows + row) * m + j) * columns + column
        before = tl.load(place, mask=inside, other=0.0)
        tl.store(place, before + tl.load(scale) * total, mask=inside)

    return triton.jit(add_window)
