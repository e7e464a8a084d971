r"""Shift symmetry of a path network, read off its structure.

A network is shift invariant if cyclic shifts of the data's positions leave its output as it is,
whatever the weights. It is found by labelling every entry of every tensor with the function of the
shifted data that it is (see :mod:`reluctant.theory.labels`), and refuted by naming the operation
whose outputs are no longer permuted by shifts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from reluctant.theory.labels import (
    bits,
    closing_axes,
    closing_step,
    in_order,
    mixed,
    of_constants,
    of_data,
    offsets_of,
    periods_of,
    scaled,
    steps_of,
    sum_of,
    tagged,
)
from reluctant.theory.mask_labels import CannotLabel, MaskReader, won
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Input, Reindex, Scale, Sum, Weighted
from reluctant.theory.operators import Bias, Convolution, Dense, row_groups
from reluctant.theory.verdicts import Unmet
from reluctant.theory.windows import sliding

NAME = "shift invariant"
_LARGEST = 1 << 24  # integers held while a sum of sums is spread out


@dataclass(frozen=True, slots=True)
class ShiftSymmetry:
    """Say under which cyclic shifts of its data a network is invariant.

    Attributes:
        sizes: Number of positions along each spatial axis.
        steps: Along each axis, the shift of which all multiples leave the output as it is. It is 1
            unless strides or pooling windows leave only some shifts.
        follows: Nodes whose tensors shift exactly as the data does, along their last axes.
    """

    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    follows: tuple[int, ...] = ()

    @property
    def shifts(self) -> tuple[tuple[int, ...], ...]:
        """Return the shifts under which the network is invariant, that by nothing first."""
        return orbit(self.sizes, self.steps)


def orbit(sizes: Sequence[int], steps: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return all shifts by multiples of a step along each axis, that by nothing first.

    >>> orbit((4, 3), (2, 3))
    ((0, 0), (2, 0))
    """
    return tuple(
        itertools.product(*(range(0, n, step) for n, step in zip(sizes, steps, strict=True)))
    )


def rotate(x: Float[Tensor, " *shape"], shifts: Sequence[int]) -> Float[Tensor, " *shape"]:
    r"""Shift the last axes of a tensor cyclically.

    .. math:: \mathrm{rot}(x, r)(i) = x(i + r \bmod n)

    Args:
        x: Tensor whose last axes are the positions.
        shifts: r, one integer for each of these axes.
    """
    return x.roll([-r for r in shifts], tuple(range(-len(shifts), 0)))


def shift_symmetry(net: PathNetwork, *, ordered: Collection[int] = ()) -> ShiftSymmetry | Unmet:
    """Find the cyclic shifts under which a network is invariant for all weights and data.

    The positions are the axes of the data after the first, which counts channels. Invariance is of
    the function; a max pooling keeps the value of a maximum that several entries attain, but a
    kernel notices which of them won. Shifts that are found leave the output as it is; there may be
    more, since maxima are not known to be ordered: a maximum of maxima can undo what padding broke.

    Args:
        net: Network.
        ordered: Gate layers of a maximum for which it shall count that "the first of several
            winners" depends on the order of the positions.

    Returns:
        The shifts, or the operation that breaks the symmetry, with the reason.

    Cost:
        A few passes of 64-bit integers over the activations of one example, all of them held; a
        window costs one pass a tap.
    """
    found = _analysed(net, frozenset(ordered))
    return found if isinstance(found, ShiftSymmetry) else found[0]


def asymmetries(net: PathNetwork) -> tuple[Unmet, ...]:
    """Return every operation that breaks shift symmetry though what it reads has it.

    Args:
        net: Network.

    Returns:
        None of them if some shifts leave the output as it is. What comes after a broken tensor is
        not judged: circular padding of the first layer can bring another operation to light.
    """
    found = _analysed(net, frozenset())
    return () if isinstance(found, ShiftSymmetry) else found


@lru_cache(maxsize=2)  # a trial asks several times about the network it is on
def _analysed(net: PathNetwork, ordered: frozenset[int]) -> ShiftSymmetry | tuple[Unmet, ...]:
    sizes = net.input_shape[1:]
    if not sizes or max(sizes) == 1:
        why = f"data of shape {net.input_shape} have no positions that could be shifted"
        return (Unmet(NAME, why, "the data"),)
    walk = _Walk(net, sizes, ordered)
    walk.run()
    steps = steps_of(walk.labels[net.output], sizes)
    blamed = dict.fromkeys(
        unmet
        for axis, (step, size) in enumerate(zip(steps, sizes, strict=True))
        if step == size > 1
        for unmet in walk.blamed(axis)
    )
    if blamed:
        return tuple(blamed)
    follows = tuple(i for i in sorted(walk.labels) if walk.follows(i))
    return ShiftSymmetry(tuple(sizes), steps, follows)


class _Walk:
    def __init__(self, net: PathNetwork, sizes: Sequence[int], ordered: Collection[int]) -> None:
        self.net, self.sizes, self.ordered = net, sizes, ordered
        self.reader = MaskReader(net, sizes)
        self.labels: dict[int, Tensor] = {}
        self.unread: dict[int, str] = {}
        self.closing: dict[int, tuple[bool, ...]] = {}

    def run(self) -> None:
        """Label the nodes of the paths, and those that their gates are made from."""
        needed, todo = set(), [self.net.output]
        while todo:
            i = todo.pop()
            if i not in needed:
                needed.add(i)
                todo.extend((*self.net.nodes[i].operands, *self.makers(i)))
        for i in sorted(needed):
            self.labels[i] = self.label(i)

    def makers(self, i: int) -> tuple[int, ...]:
        """Return the nodes from which the gates of a node are made outside the paths."""
        node = self.net.nodes[i]
        if not isinstance(node, Gate) or self.net.gate_layers[node.gate].kind != "mask":
            return ()
        return tuple(
            k for k in self.reader.inputs(self.net.gate_layers[node.gate].made_by) if k < i
        )

    def label(self, i: int) -> Tensor:
        """Label one node."""
        node = self.net.nodes[i]
        operands = [self.labels[k] for k in node.operands]
        if isinstance(node, Input):
            return of_data(node.shape)
        if isinstance(node, Constant):
            return of_constants(node.value.expand(node.shape), len(self.sizes))
        if isinstance(node, Weighted):
            return self.weighted(i, node, operands)
        if isinstance(node, Reindex):
            return node.move(operands)
        if isinstance(node, Scale):
            return scaled(operands[0], node.factor)
        if isinstance(node, Sum):
            return sum_of(self.terms(i) if node.axes else torch.stack(operands, 1), self.sizes)
        assert isinstance(node, Gate)
        return self.gated(i, node, operands[0])

    def terms(self, i: int) -> Tensor:
        r"""Return the labels of which a node is the sum, sums of sums spread out.

        Returns:
            Labels, shape (fields, term, \*shape).
        """
        node = self.net.nodes[i]
        if isinstance(node, Sum):
            found = torch.cat([self.terms(k) for k in node.operands], 1)
            dims = [a + 2 for a in node.axes]
            found = found.movedim(dims, list(range(2, 2 + len(dims)))).flatten(1, 1 + len(dims))
        elif isinstance(node, Scale):
            found = scaled(self.terms(node.operands[0]), node.factor)
        elif isinstance(node, Reindex) and len(node.operands) == 1:
            below = self.terms(node.operands[0])
            moved = node.move([below.flatten(0, 1)])
            found = moved.reshape(*below.shape[:2], *moved.shape[1:])
        else:
            return self.labels[i][:, None]
        if found.numel() > _LARGEST and i in self.labels:
            return self.labels[i][:, None]
        return found

    def weighted(self, i: int, node: Weighted, operands: list[Tensor]) -> Tensor:
        operator = node.operator
        rows = torch.arange(operator.rows)[:, None]
        if isinstance(operator, Bias):
            kind = mixed(8, node.weight, rows).expand(-1, math.prod(operator.positions))
            return operator.join(
                torch.cat([kind[None], kind.new_zeros(2 * len(self.sizes), *kind.shape)])
            )
        if not isinstance(operator, Dense | Convolution):
            self.unread[i] = f"is a {type(operator).__name__}, whose positions cannot be followed"
            return self.unknown(i)
        t = in_order(
            operator.split(operands[0]).movedim(2, 1), self.sizes
        )  # (fields, group, *position)
        if isinstance(operator, Convolution):
            taps, strides, dilations, before, _ = zip(*operator.axes, strict=True)
            windows = sliding(t.shape[2:], taps, strides, before, dilations, operator.positions)
            t = in_order(windows.gather(t), self.sizes)
        t = t.flatten(2) if t.ndim > 2 else t[..., None]
        return operator.join(tagged(t[:, row_groups(operator)], 9, node.weight, rows))

    def gated(self, i: int, node: Gate, value: Tensor) -> Tensor:
        layer, ordered = self.net.gate_layers[node.gate], node.gate in self.ordered
        if layer.is_step:
            return tagged(value, 10, bits(layer.low()))
        if layer.kind == "max":
            gates = won(value, self.sizes, ordered=ordered and layer.ties == "first")
        else:
            try:
                found = self.reader.labels(layer.made_by, self.labels, ordered=ordered)
                gates = found.expand_as(value)
            except CannotLabel as error:
                self.unread[i] = f"multiplies by gates that cannot be read: {error}"
                return self.unknown(i)
        product = in_order(torch.stack([value, gates], 1), self.sizes, 13)
        return torch.where(value[0] == 0, 0, product)

    def unknown(self, i: int) -> Tensor:
        """Label entries about which nothing is known."""
        shape = self.net.nodes[i].shape
        kind = mixed(14, i, torch.arange(math.prod(shape)).reshape(1, *shape))
        periods = torch.tensor(self.sizes).reshape(-1, *[1] * len(shape)).expand(-1, *shape)
        return torch.cat([kind, torch.zeros_like(periods), periods - 1])

    def follows(self, i: int) -> bool:
        """Tell whether a tensor shifts as the data does, along its last axes."""
        shape, axes = self.net.nodes[i].shape, len(self.sizes)
        if tuple(shape[-axes:]) != tuple(self.sizes) or i in self.unread:
            return False
        labels, places = self.labels[i], offsets_of(of_data((1, *self.sizes)))[:, 0]
        whole = torch.tensor(self.sizes).reshape(-1, *[1] * len(shape))
        ahead = (
            offsets_of(labels) - places.reshape(axes, *[1] * (len(shape) - axes), *self.sizes)
        ) % whole
        kinds, ahead = labels[0].flatten(-axes), ahead.flatten(-axes)
        alike = (kinds == kinds[..., :1]).all() & (ahead == ahead[..., :1]).all()
        return bool(alike) and bool((periods_of(labels) == whole).all())

    def breaks(self, i: int, axis: int) -> bool:
        """Tell whether shifts no longer permute the entries of a tensor."""
        if i not in self.closing:
            self.closing[i] = closing_axes(self.labels[i], self.sizes)
        return self.sizes[axis] > 1 and not self.closing[i][axis]

    def blamed(self, axis: int) -> Iterator[Unmet]:
        """Yield the operations that break the symmetry though what they read has it."""
        i = self.net.output
        if not self.breaks(i, axis):
            why = f"the output keeps its positions: nothing pools over them after {self.called(i)}"
            yield Unmet(NAME, why, self.net.nodes[i].place)
            return
        todo, seen = [(i, "")], {i}
        while todo:
            i, through = todo.pop()
            node = self.net.nodes[i]
            gates = f"the gates of {node.name} come from a feature network in which "
            before = [(k, through) for k in node.operands] + [(k, gates) for k in self.makers(i)]
            broken = [(k, way) for k, way in before if self.breaks(k, axis)]
            if not broken:
                yield Unmet(NAME, f"{through}{self.called(i)} {self.why(i, axis)}", node.place)
            todo += [(k, way) for k, way in reversed(broken) if k not in seen]
            seen.update(k for k, _ in broken)

    def called(self, i: int) -> str:
        """Return the name of a layer as its module has it, or else that of the node."""
        node = self.net.nodes[i]
        if isinstance(node, Weighted):
            name = self.net.weights[node.weight].name.removesuffix(".weight").removesuffix(".bias")
            return f"layer {name}" if name.isdigit() else name
        return node.name

    def why(self, i: int, axis: int) -> str:
        """Say how an operation breaks the symmetry."""
        node, size = self.net.nodes[i], self.sizes[axis]
        if i in self.unread:
            return self.unread[i]
        what = "with zeros" if isinstance(node, Weighted) else "at the edge"
        zeros = f"pads {what}, so that outputs there see fewer inputs than others; pad circularly"
        reads = [self.labels[k] for k in node.operands]
        if any(bool((labels[0] == 0).any()) for labels in reads):
            return zeros
        if isinstance(node, Weighted):
            if isinstance(node.operator, Convolution) and any(
                a[3] or a[4] for a in node.operator.axes
            ):
                return zeros
            stride = max((a[1] for a in node.operator.axes), default=1)
            total = stride * max(closing_step(labels, axis, size) for labels in reads)
            if stride > 1 and (total >= size or size % total):
                return f"makes the total stride {total}, which leaves no shift of {size} positions"
            if math.prod(node.operator.positions) == 1:
                return "mixes positions: the network flattens instead of pooling"
            return "has windows that stop at the edge, so that fewer outputs see it; pad circularly"
        if isinstance(node, Reindex):
            return "keeps some positions and drops others"
        if isinstance(node, Scale):
            return "multiplies different positions by different constants"
        if isinstance(node, Gate):
            return "multiplies by gates that shift with the data what does not shift with it"
        if isinstance(node, Sum) and node.axes:
            return "pools over windows that stop at the edge, or that do not divide the positions"
        return "adds what differs from position to position, or branches that shift differently"
