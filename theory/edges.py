"""What convolutions meet beyond the edges of their data: zeros, the other edge, or nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Reindex, Sum, Weighted
from reluctant.theory.operators import Convolution


@dataclass(frozen=True, slots=True)
class Edges:
    """Say what a convolution meets beyond the edges of its data.

    Attributes:
        node: The convolution.
        sizes: Positions of the data along each axis, before they are padded.
        fills: What is put beyond the edges, along each axis: "nothing", "zeros", "the other edge"
            or "something else".
    """

    node: Weighted
    sizes: tuple[int, ...]
    fills: tuple[str, ...]

    @property
    def axes(self) -> tuple[tuple[int, int, str, int, int], ...]:
        """Return taps, stride, fill, and positions before and after, along each axis."""
        operator = self.node.operator
        taps, strides = (tuple(axis[k] for axis in operator.axes) for k in (0, 1))
        return tuple(zip(taps, strides, self.fills, self.sizes, operator.positions, strict=True))

    @property
    def kind(self) -> str:
        """Return circular, zero-padded, unpadded or otherwise padded; or pointwise: no edges."""
        wide = [axis for axis in self.axes if axis[0] > 1 or axis[2] != "nothing"]
        fills = {fill for _, _, fill, _, _ in wide}
        if not wide:
            return "pointwise"
        if fills == {"the other edge"}:
            whole = all(after * stride == before for _, stride, _, before, after in wide)
            return "circular" if whole else "circular, with positions lost or added"
        if fills == {"nothing"}:
            return "unpadded"
        return "zero-padded" if "zeros" in fills else "otherwise padded"


def edges(net: PathNetwork) -> tuple[Edges, ...]:
    """Return the edges of all convolutions on paths to the output, in order."""
    found = []
    for node in net.weighted:
        if isinstance(node.operator, Convolution):
            sizes, fills = _filled(net, node.operands[0])
            own = [before + after > 0 for *_, before, after in node.operator.axes]
            fills = tuple("zeros" if pads else fill for pads, fill in zip(own, fills, strict=True))
            found.append(Edges(node, sizes, fills))
    return tuple(found)


def _filled(net: PathNetwork, i: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the positions of a tensor before it was padded, and what was put around them."""
    shape = tuple(net.nodes[i].shape)
    found = shape[1:], ("nothing",) * (len(shape) - 1)
    for base, places in _bases(net, i):  # the farthest one, since padding may take several moves
        before = tuple(net.nodes[base].shape)
        if len(before) == len(shape) and before[0] == shape[0] and before != shape:
            fills = _fills(places.reshape(shape).long(), before)
            found = found if fills is None else (before[1:], fills)
    return found


def _bases(net: PathNetwork, i: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the tensors of which one is a rearrangement, nearest first.

    Yields:
        The tensor's node, and for every entry of node i the number of the entry that it is, from
        1; 0 if it is none, and -1 if it is a constant.
    """
    between: list[int] = []
    front = {i}
    while isinstance(net.nodes[max(front)], Reindex) or _fills_in(net, max(front)):
        last = max(front)
        between.append(last)
        front = front - {last} | {k for k in net.nodes[last].operands if not _is_constant(net, k)}
        if len(front) != 1:
            continue
        (base,) = front
        shape = net.nodes[base].shape
        count = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
        values = {base: count.reshape(1, *shape)}
        for k in reversed(between):
            here = net.nodes[k]
            parts = [values[o] for o in here.operands if o in values]
            if isinstance(here, Reindex):
                values[k] = here.move(parts)
            else:
                values[k] = torch.where(parts[0] == 0, -1.0, parts[0])
        yield base, values[i]


def _is_constant(net: PathNetwork, i: int) -> bool:
    return isinstance(net.nodes[i], Constant)


def _fills_in(net: PathNetwork, i: int) -> bool:
    """Tell whether a node adds a constant to what a move left empty."""
    node = net.nodes[i]
    if not isinstance(node, Sum) or node.axes or len(node.operands) != 2:
        return False
    first, second = (net.nodes[k] for k in node.operands)
    return isinstance(first, Reindex) and isinstance(second, Constant)


def _fills(places: Tensor, before: Sequence[int]) -> tuple[str, ...] | None:
    r"""Return what is around the data along each axis; None if the data are not in there whole.

    Args:
        places: For every entry the number of the data's entry that it is, shape (channel,
            \*position).
        before: Shape of the data.
    """
    data = torch.arange(1, math.prod(before) + 1).reshape(tuple(before))
    room = [after - size for after, size in zip(places.shape[1:], before[1:], strict=True)]
    if min(room) < 0:
        return None
    for starts in itertools.product(*(range(extra + 1) for extra in room)):
        inside = [slice(s, s + size) for s, size in zip(starts, before[1:], strict=True)]
        if not torch.equal(places[(slice(None), *inside)], data):
            continue
        found: list[str] = []
        for axis, (start, size, extra) in enumerate(zip(starts, before[1:], room, strict=True)):
            here = [slice(None), *inside]
            here[axis + 1] = slice(None)
            line = places[tuple(here)].movedim(axis + 1, 0)
            outside = [p for p in range(size + extra) if not start <= p < start + size]
            turned = data.movedim(axis + 1, 0)[[(p - start) % size for p in outside]]
            if not extra:
                found.append("nothing")
            elif not bool(line[outside].any()):
                found.append("zeros")
            else:
                is_turned = torch.equal(line[outside], turned)
                found.append("the other edge" if is_turned else "something else")
        return tuple(found)
    return None
