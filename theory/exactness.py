"""Telling whether a float64 computation was exact, by watching every operation of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_FINEST = 40  # bits after the point that are looked for
_WHOLE = 53  # bits of a float64

# Sums and products of entries: exact if all terms lie on one grid and no partial sum leaves it.
_POLYNOMIAL = frozenset(
    """
    _conv_depthwise2d _convolution add addbmm addcmul addmm addmv baddbmm bmm conv1d conv2d conv3d
    convolution convolution_backward cumsum dot einsum index_add index_put linear matmul mm mul mv
    neg outer pow scatter_add square sub sum threshold_backward trace unfold_backward vdot
    """.split()
)
# One correctly rounded operation on each entry, or on a sum: exact if the result is on a grid.
_ROUNDED = frozenset("div mean reciprocal true_divide avg_pool1d avg_pool2d sqrt".split())
# No arithmetic: what comes out was there before, or counts, or compares.
_MOVES = frozenset(
    """
    _reshape_alias _to_copy _unsafe_view abs alias all amax amin aminmax any arange argmax argmin as_strided
    bernoulli bitwise_and bitwise_not bitwise_or cat ceil clamp clamp_max clamp_min clone
    constant_pad_nd contiguous copy count_nonzero detach diag_embed diagonal diagonal_backward
    diagonal_copy dropout empty empty_like empty_strided eq equal expand eye fill fill_diagonal
    flatten flip floor full full_like gather ge gt heaviside index index_select
    isfinite isinf isnan item _local_scalar_dense le lift_fresh logical_and logical_not logical_or
    logical_xor lt masked_fill masked_select max max_pool2d_with_indices maximum min minimum narrow
    nan_to_num ne new_empty new_empty_strided new_full new_ones new_zeros nonzero ones ones_like pad permute
    rand randint randn randperm relu remainder repeat repeat_interleave reshape resize roll round
    scalar_tensor scatter select select_backward select_scatter sgn sign slice
    slice_backward slice_scatter sort split split_with_sizes squeeze stack t tile topk
    transpose tril triu tril_indices triu_indices trunc unbind unfold unique
    unsqueeze unsqueeze_copy view view_as where zero zeros zeros_like
    """.split()
)


class Watch(TorchDispatchMode):
    """Watch operations on float64 tensors, and say whether every result was exact.

    All entries have to lie on a grid of multiples of 2^−e with e ≤ 40. For sums of products the
    bound N Π max|A_i| 2^(Σ e_i) < 2^53, N the largest number of entries of an operand, keeps every
    partial sum on the grid whatever the order of summation, so none is rounded. A quotient or a
    root is correctly rounded; if it lies on such a grid its product with the divisor, or its square,
    is exact and so has no room to differ from the operand. Any other operation counts as rounded.

    Attributes:
        rounded: Name of the first operation that rounded, or could have; empty if none did.

    Example:
        >>> with Watch() as watch:
        ...     _ = torch.ones(3, dtype=torch.float64) / 4
        >>> watch.rounded
        ''
        >>> with Watch() as watch:
        ...     _ = torch.ones(3, dtype=torch.float64) / 3
        >>> watch.rounded
        'div'
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rounded = ""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do the operation, then look at what went in and what came out."""
        options = dict(kwargs or {})
        name = str(func.overloadpacket.__name__).rstrip("_")
        # In-place operations overwrite what went in, so the operands are measured first.
        grids = () if self.rounded or name in _MOVES else _grids((*args, *options.values()))
        out = func(*args, **options)
        if not self.rounded and not _is_exact(name, args, grids, out):
            self.rounded = name
        return out


_Grid = tuple[int, float, int]  # bits after the point, largest entry, number of entries


def _is_exact(name: str, args: Any, grids: tuple[_Grid, ...] | None, out: Any) -> bool:
    if name in _MOVES:
        return True
    found = _grids([out])
    if found == ():
        return True
    if name == "gate":  # 0 or 1 by a comparison; a soft one is an exponential
        return len(args) < 2 or args[1] == 0.0
    if grids is None or found is None:
        return False
    if name in _POLYNOMIAL:
        power, more = _power(name, args), 0
    elif name in _ROUNDED:
        power, more = 1, 2 * max(bits for bits, _, _ in found)
    else:
        return False
    terms = max((count for _, _, count in grids), default=1)
    bits = power * sum(bits for bits, _, _ in grids) + more
    size = power * sum(math.log2(max(1.0, largest)) for _, largest, _ in grids)
    return bits + size + math.log2(max(1, terms)) + 1 < _WHOLE


def _power(name: str, args: Any) -> float:
    if name == "square":
        return 2
    if name != "pow":
        return 1
    exponent = args[1]
    is_natural = isinstance(exponent, int) and exponent >= 0
    return max(1, exponent) if is_natural else math.inf


def _grids(values: Iterable[Any]) -> tuple[_Grid, ...] | None:
    """Return the grid of each number and tensor of numbers; None if one lies on none."""
    found = []
    for value in tree_leaves(tuple(values)):
        if isinstance(value, float):
            value = torch.tensor(value, dtype=torch.float64)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        if type(value) not in (Tensor, Parameter) or value.is_meta:
            continue  # shapes without numbers, such as a network's while it is read
        bits = _bits_after_the_point(value)
        if bits is None:
            return None
        largest = float(value.detach().abs().max()) if value.numel() else 0.0
        found.append((bits, largest, value.numel()))
    return tuple(found)


def _bits_after_the_point(values: Tensor) -> int | None:
    if values.numel() == 0:
        return 0
    if values.dtype is not torch.float64 or not bool(values.isfinite().all()):
        return None
    for bits in (0, 1, 2, 4, 8, 16, 24, 32, _FINEST):
        scaled = values.detach() * 2.0**bits
        if bool((scaled == scaled.round()).all()):
            return bits
    return None
