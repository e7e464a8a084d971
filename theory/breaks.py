"""Which operations of a network break its shift symmetry, and how."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from reluctant.theory.labels import closing_axes, closing_step, steps_of
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, Node, Reindex, Scale, Sum, Weighted
from reluctant.theory.operators import Convolution
from reluctant.theory.shift_walk import Walk
from reluctant.theory.verdicts import Unmet

NAME = "shift invariant"


class Breaks:
    """Find what breaks a symmetry though what it reads has it, going on after it if that can be.

    A window of weights or of a pool that meets zeros or an edge is taken, in what follows, for one
    that goes round. What comes after another operation that breaks the symmetry is not judged.

    Args:
        net: Network.
        sizes: Spatial sizes of the data.
        ordered: As for :class:`~reluctant.theory.shift_walk.Walk`.
    """

    def __init__(
        self, net: PathNetwork, sizes: Sequence[int], ordered: Collection[int] = ()
    ) -> None:
        """Judge nothing yet."""
        self.net, self.sizes = net, sizes
        self.walk = Walk(net, sizes, ordered)
        self.broken: dict[int, tuple[bool, ...]] = {}
        self.said: dict[tuple[int, int], Unmet] = {}

    def __iter__(self) -> Iterator[Unmet]:
        """Yield each as it is met, then those that leave a broken output."""
        for i in self.walk:
            self.broken[i] = self._broken(i)
            before = [self.broken[k] for k in self.walk.before(i)]
            begun = [
                axis
                for axis, is_broken in enumerate(self.broken[i])
                if is_broken and not any(other[axis] for other in before)
            ]
            for axis in begun:
                self.said[i, axis] = self._unmet(i, axis)
            if begun and not any(map(any, before)) and self._mend(i):
                self.broken[i] = self._broken(i)
                yield from (self.said.pop((i, axis)) for axis in begun)
        for axis, size in enumerate(self.sizes):
            if size > 1:
                yield from self._blamed(axis)

    def _broken(self, i: int) -> tuple[bool, ...]:
        """Tell along which axes shifts no longer permute the entries of a tensor."""
        closing = closing_axes(self.walk.labels[i], self.sizes)
        return tuple(
            size > 1 and not closed for size, closed in zip(self.sizes, closing, strict=True)
        )

    def _mend(self, i: int) -> bool:
        """Label the outputs of windows as if they shifted with the data, by whole steps."""
        node, axes = self.net.nodes[i], len(self.sizes)
        counts, lead = node.shape[-axes:], node.shape[:-axes]
        if not (lead and self._goes_round(node)):
            return False
        pairs = zip(counts, self.sizes, strict=True)
        steps = torch.meshgrid(*(torch.arange(k) * (n // k) for k, n in pairs), indexing="ij")
        kinds = torch.arange(math.prod(lead)).reshape(*lead, *[1] * axes)
        offsets = torch.stack([step.expand(node.shape) for step in steps])
        self.walk.replace(i, self.walk.fresh(i, kinds, offsets))
        return True

    def _goes_round(self, node: Node) -> bool:
        """Tell whether windows would be at whole steps of the data if they went round."""
        read = self.walk.labels[node.operands[0]]
        pairs = list(zip(node.shape[-len(self.sizes) :], self.sizes, strict=True))
        if any(n % k for k, n in pairs):
            return False
        if isinstance(node, Weighted) and isinstance(node.operator, Convolution):
            strides = [stride for _, stride, *_ in node.operator.axes]
            return all(
                strides[axis] * closing_step(read, axis, n) == n // k
                for axis, (k, n) in enumerate(pairs)
            )
        is_choice = isinstance(node, Gate) and self.net.gate_layers[node.gate].kind == "max"
        is_pool = is_choice or (isinstance(node, Sum) and bool(node.axes))
        return is_pool and all(
            self._advances(read, axis, n // k, n) for axis, (k, n) in enumerate(pairs)
        )

    def _advances(self, windows: Tensor, axis: int, step: int, size: int) -> bool:
        """Tell whether each tap of windows is a step further at the next position."""
        t = windows.movedim(windows.ndim - len(self.sizes) + axis, -1)
        kinds, offsets = t[0], t[1 + axis]
        alive = (kinds[..., 1:] != 0) & (kinds[..., :-1] != 0)
        steps = (offsets[..., 1:] - offsets[..., :-1]) % size
        return bool((steps[alive] == step % size).all())

    def _blamed(self, axis: int) -> Iterator[Unmet]:
        """Yield what breaks the output, or the output itself if it keeps its positions."""
        i = self.net.output
        if not self.broken[i][axis]:
            if steps_of(self.walk.labels[i], self.sizes)[axis] == self.sizes[axis]:
                called = self._called(i)
                why = f"the output keeps its positions: nothing pools over them after {called}"
                yield Unmet(NAME, why, self.net.nodes[i].place)
            return
        todo, seen = [i], {i}
        while todo:
            i = todo.pop()
            if (i, axis) in self.said:
                yield self.said[i, axis]
            broken = [k for k in self.walk.before(i) if self.broken[k][axis] and k not in seen]
            todo += reversed(broken)
            seen.update(broken)

    def _unmet(self, i: int, axis: int) -> Unmet:
        what = f"{self.walk.through[i]}{self._called(i)} {self._why(i, axis)}"
        return Unmet(NAME, what, self.net.nodes[i].place)

    def _called(self, i: int) -> str:
        """Return the name of a layer as its module has it, or else that of the node."""
        node = self.net.nodes[i]
        if isinstance(node, Weighted):
            name = self.net.weights[node.weight].name.removesuffix(".weight").removesuffix(".bias")
            return f"layer {name}" if name.isdigit() else name
        return node.name

    def _why(self, i: int, axis: int) -> str:
        """Say how an operation breaks the symmetry."""
        node, size = self.net.nodes[i], self.sizes[axis]
        if i in self.walk.unread:
            return self.walk.unread[i]
        what = "with zeros" if isinstance(node, Weighted) else "at the edge"
        zeros = f"pads {what}, so that outputs there see fewer inputs than others; pad circularly"
        reads = [self.walk.labels[k] for k in node.operands]
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
