r"""A walk through a path network that labels every tensor with the functions of the shifted data.

Labels are those of :mod:`reluctant.theory.labels`, one for each entry. They are let go as soon as
nothing that follows reads them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from reluctant.theory.labels import (
    bits,
    in_order,
    mixed,
    of_constants,
    of_data,
    scaled,
    sum_of,
    tagged,
)
from reluctant.theory.mask_labels import CannotLabel, MaskReader, won
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Input, Reindex, Scale, Sum, Weighted
from reluctant.theory.operators import Bias, Convolution, Dense, row_groups
from reluctant.theory.windows import sliding

_LARGEST = 1 << 24  # integers held while a sum of sums is spread out


class Walk:
    """Label the nodes of the paths to an output, and those that their gates are made from.

    Args:
        net: Network.
        sizes: Spatial sizes of the data.
        ordered: Gate layers of a maximum of which the first of several winners is told apart.

    Attributes:
        labels: Labels of the nodes that are still to be read.
        replaced: Nodes whose labels are others than those that they are made to have.
        unread: For nodes whose labels say nothing, what they do that cannot be followed.
        through: For every node, where its tensor goes if not along the paths; empty if it does.
    """

    def __init__(
        self, net: PathNetwork, sizes: Sequence[int], ordered: Collection[int] = ()
    ) -> None:
        """Find the nodes."""
        self.net, self.sizes, self.ordered = net, sizes, ordered
        self.reader = MaskReader(net, sizes)
        self.labels: dict[int, Tensor] = {}
        self.unread: dict[int, str] = {}
        self.replaced = set[int]()
        self.through = dict.fromkeys(net.value_nodes, "")
        todo = list(reversed(net.value_nodes))
        while todo:
            i = todo.pop()
            gates = f"the gates of {net.nodes[i].name} come from a feature network in which "
            ways = [(k, self.through[i]) for k in net.nodes[i].operands]
            for k, way in [*ways, *((k, gates) for k in self.makers(i))]:
                if k not in self.through:
                    self.through[k] = way
                    todo.append(k)

    def __iter__(self) -> Iterator[int]:
        """Go through the nodes in order, each with its own labels and those that it is made of."""
        order = sorted(self.through)
        last_use = {k: i for i in order for k in self._read(i)}
        for i in order:
            self.labels[i] = self._label(i)
            yield i
            for k in self._read(i):
                if last_use[k] == i:
                    del self.labels[k]

    def replace(self, i: int, labels: Tensor) -> None:
        """Put other labels in place of those of the node that was labelled last."""
        self.labels[i] = labels
        self.replaced.add(i)

    def before(self, i: int) -> tuple[int, ...]:
        """Return the nodes that a node is made of, those of its gates too."""
        return (*self.net.nodes[i].operands, *self.makers(i))

    def _read(self, i: int) -> set[int]:
        """Return the nodes whose labels a node's are made of: of a sum of sums all terms."""
        found, todo = set(self.before(i)), list(self.net.nodes[i].operands)
        node = self.net.nodes[i]
        while isinstance(node, Sum) and node.axes and todo:
            k = todo.pop()
            found.add(k)
            if isinstance(self.net.nodes[k], Sum | Scale | Reindex):
                todo.extend(set(self.net.nodes[k].operands) - found)
        return found

    def makers(self, i: int) -> tuple[int, ...]:
        """Return the nodes from which the gates of a node are made outside the paths."""
        node = self.net.nodes[i]
        if not isinstance(node, Gate) or self.net.gate_layers[node.gate].kind != "mask":
            return ()
        return tuple(
            k for k in self.reader.inputs(self.net.gate_layers[node.gate].made_by) if k < i
        )

    def _label(self, i: int) -> Tensor:
        """Label one node."""
        node = self.net.nodes[i]
        operands = [self.labels[k] for k in node.operands]
        if isinstance(node, Input):
            return of_data(node.shape)
        if isinstance(node, Constant):
            return of_constants(node.value.expand(node.shape), len(self.sizes))
        if isinstance(node, Weighted):
            return self._weighted(i, node, operands)
        if isinstance(node, Reindex):
            return node.move(operands)
        if isinstance(node, Scale):
            return scaled(operands[0], node.factor)
        if isinstance(node, Sum):
            return sum_of(self._terms(i) if node.axes else torch.stack(operands, 1), self.sizes)
        assert isinstance(node, Gate)
        return self._gated(i, node, operands[0])

    def _terms(self, i: int) -> Tensor:
        r"""Return the labels of which a node is the sum, sums of sums spread out.

        Returns:
            Labels, shape (fields, term, \*shape).
        """
        node = self.net.nodes[i]
        if i in self.replaced:
            return self.labels[i][:, None]
        if isinstance(node, Sum):
            found = torch.cat([self._terms(k) for k in node.operands], 1)
            dims = [a + 2 for a in node.axes]
            found = found.movedim(dims, list(range(2, 2 + len(dims)))).flatten(1, 1 + len(dims))
        elif isinstance(node, Scale):
            found = scaled(self._terms(node.operands[0]), node.factor)
        elif isinstance(node, Reindex) and len(node.operands) == 1:
            below = self._terms(node.operands[0])
            moved = node.move([below.flatten(0, 1)])
            found = moved.reshape(*below.shape[:2], *moved.shape[1:])
        else:
            return self.labels[i][:, None]
        if found.numel() > _LARGEST and i in self.labels:
            return self.labels[i][:, None]
        return found

    def _weighted(self, i: int, node: Weighted, operands: list[Tensor]) -> Tensor:
        operator = node.operator
        rows = torch.arange(operator.rows)[:, None]
        if isinstance(operator, Bias):
            kind = mixed(8, node.weight, rows).expand(-1, math.prod(operator.positions))
            return operator.join(
                torch.cat([kind[None], kind.new_zeros(2 * len(self.sizes), *kind.shape)])
            )
        if not isinstance(operator, Dense | Convolution):
            self.unread[i] = f"is a {type(operator).__name__}, whose positions cannot be followed"
            return self._unknown(i)
        t = in_order(operator.split(operands[0]).movedim(2, 1))  # (fields, group, *position)
        if isinstance(operator, Convolution):
            taps, strides, dilations, before, _ = zip(*operator.axes, strict=True)
            windows = sliding(t.shape[2:], taps, strides, before, dilations, operator.positions)
            t = in_order(windows.gather(t))
        t = t.flatten(2) if t.ndim > 2 else t[..., None]
        return operator.join(tagged(t[:, row_groups(operator)], 9, node.weight, rows))

    def _gated(self, i: int, node: Gate, value: Tensor) -> Tensor:
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
                return self._unknown(i)
        product = in_order(torch.stack([value, gates], 1), 13)
        return torch.where(value[0] == 0, 0, product)

    def _unknown(self, i: int) -> Tensor:
        """Label entries about which nothing is known."""
        shape = self.net.nodes[i].shape
        kinds = torch.arange(math.prod(shape)).reshape(shape)
        return self.fresh(i, kinds, torch.zeros(len(self.sizes), *shape, dtype=torch.long))

    def fresh(self, i: int, kinds: Tensor, offsets: Tensor) -> Tensor:
        r"""Return labels of functions of the data that are met at no other node.

        Args:
            i: Node.
            kinds: Numbers of the functions, which broadcast to the node's shape.
            offsets: Offset of each entry along each axis, shape (axes, \*shape).
        """
        sizes = torch.tensor(self.sizes).reshape(-1, *[1] * (offsets.ndim - 1))
        kind = mixed(14, i, kinds).expand(1, *offsets.shape[1:])
        return torch.cat([kind, offsets, (sizes - 1).expand_as(offsets)])
