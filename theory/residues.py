"""A path network evaluated over a prime field: forward, again after a change, and backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reluctant.theory.fields import PrimeField
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Input, Node, Reindex, Scale, Sum, Weighted

Changes = Mapping[int, Callable[[list[Tensor]], Tensor]]


def most_terms(net: PathNetwork, examples: int = 1, *, backward: bool = False) -> int:
    """Return the largest number of products that are added at once in an evaluation.

    Args:
        net: Network.
        examples: Number of examples.
        backward: True if derivatives by the weights and the data are wanted too.
    """
    most = 2
    for node in net.weighted:
        operator = node.operator
        most = max(most, operator.fan_in + 1)
        if backward:
            positions = math.prod(operator.positions) * examples
            taps = math.prod(axis[0] for axis in operator.axes)
            most = max(most, positions + 1, operator.rows // operator.groups * taps + 1)
    for i in net.value_nodes:
        node_ = net.nodes[i]
        if isinstance(node_, Sum):  # terms, not products: the prime is more than a thousand
            shape = net.nodes[node_.operands[0]].shape
            terms = len(node_.operands) * math.prod(shape[a] for a in node_.axes)
            most = max(most, -(-terms // 1024))
    return most


class _Reduction(torch.autograd.Function):
    """Reduce values on the way forward, and derivatives on the way back."""

    @staticmethod
    def forward(ctx: object, t: Tensor, over: PrimeField) -> Tensor:
        ctx.over = over  # type: ignore[attr-defined]
        return over.reduce(t)

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.over.reduce(grads[0]), None  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, eq=False)
class ResidueNetwork:
    """Evaluate a path network over a prime field, on the CPU.

    Attributes:
        net: Network.
        over: Field.
        hard: Gate layers whose gates are 0 and 1, so that products with them need no reduction.
    """

    net: PathNetwork
    over: PrimeField
    hard: frozenset[int] = frozenset()
    _constants: dict[int, Tensor] = field(default_factory=dict, init=False)

    def values(
        self,
        x: Tensor,
        gates: Sequence[Tensor],
        weights: Sequence[Tensor],
        *,
        sources: bool = True,
        replace: Changes | None = None,
        also: Sequence[int] = (),
    ) -> dict[int, Tensor]:
        r"""Evaluate all nodes on paths to the output.

        Args:
            x: Residues of the data, shape (n, \*input).
            gates: Residues of the gate layers.
            weights: Residues of the weights, one tensor for each of the network's.
            sources: False leaves out biases and constants that are not inputs.
            replace: Nodes whose value is another function of their operands.
            also: Further nodes to evaluate, such as the pre-activations of outside gates.

        Returns:
            Residues of every node, shape (n, \*shape).

        Cost:
            One float64 forward pass, and three passes over each tensor that is reduced.
        """
        found: dict[int, Tensor] = {}
        order = sorted(self.net.ancestors([self.net.output, *also])) if also else ()
        for i in order or self.net.value_nodes:
            operands = [found[k] for k in self.net.nodes[i].operands]
            change = replace.get(i) if replace else None
            found[i] = (
                self._node(i, operands, x, gates, weights, sources)
                if change is None
                else change(operands)
            )
        return found

    def output(
        self,
        x: Tensor,
        gates: Sequence[Tensor],
        weights: Sequence[Tensor],
        *,
        sources: bool = True,
        replace: Changes | None = None,
    ) -> Tensor:
        r"""Evaluate the output, shape (n, \*output); arguments as for :meth:`values`."""
        found = self.values(x, gates, weights, sources=sources, replace=replace)[self.net.output]
        return found.expand(x.shape[0], *found.shape[1:])

    def changed(
        self,
        values: Mapping[int, Tensor],
        given: Mapping[int, Tensor],
        gates: Sequence[Tensor],
        weights: Sequence[Tensor],
        *,
        replace: Changes | None = None,
        target: int | None = None,
    ) -> Tensor:
        r"""Evaluate the output, or another node, again after some nodes have got other values.

        Args:
            values: What :meth:`values` returned.
            given: New values of some nodes.
            gates: As for :meth:`values`, likewise the rest.
            weights: Residues of the weights.
            replace: Nodes whose value is another function of their operands.
            target: Node to evaluate; the output if None.

        Cost:
            The part of a forward pass between the nodes and the target.
        """
        new = dict(given)
        end = self.net.output if target is None else target
        last_use = {k: i for i in self.net.value_nodes for k in self.net.nodes[i].operands}
        for i in self.net.value_nodes:
            if i > end:
                break
            operands = self.net.nodes[i].operands
            if i in given or not any(k in new for k in operands):
                continue
            found = [new.get(k, values[k]) for k in operands]
            change = replace.get(i) if replace else None
            new[i] = (
                self._node(i, found, None, gates, weights, True)
                if change is None
                else change(found)
            )
            for k in operands:
                if last_use[k] == i:
                    new.pop(k, None)
        return new.get(end, values[end])

    def slopes(
        self,
        x: Tensor,
        gates: Sequence[Tensor],
        weights: Sequence[Tensor],
        along: Tensor,
        *,
        switches: Mapping[int, Callable[[list[Tensor], Tensor], Tensor]] | None = None,
        at: Sequence[Tensor] = (),
        replace: Changes | None = None,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        r"""Return derivatives of ⟨a, f⟩ by the data, the weights, and switches, in one sweep back.

        Args:
            x: As for :meth:`values`, likewise gates and weights.
            gates: Residues of the gate layers.
            weights: Residues of the weights.
            along: a, shape (n, \*output).
            switches: Nodes that are a function of their operands and of one further variable.
            at: Values of these variables, in the order of the switches.
            replace: As for :meth:`values`.

        Returns:
            Derivatives by x, by each weight tensor, and by each switch. 0 where nothing depends.

        Cost:
            One forward and one backward pass; all tensors are held.
        """
        leaves = [t.detach().clone().requires_grad_() for t in (x, *weights, *at)]
        data, ws = leaves[0], leaves[1 : 1 + len(weights)]
        turned = leaves[1 + len(weights) :]
        replaced = dict(replace or {})
        for (i, f), s in zip((switches or {}).items(), turned, strict=True):
            replaced[i] = lambda ts, f=f, s=s: f(ts, s)  # type: ignore[misc]
        with torch.enable_grad():
            output = self.output(data, gates, ws, replace=replaced)
            found: Sequence[Tensor | None] = torch.autograd.grad(
                output, leaves, along, allow_unused=True
            )
        grads = [
            torch.zeros_like(t) if g is None else self.over.reduce(g)
            for g, t in zip(found, leaves, strict=True)
        ]
        return grads[0], grads[1 : 1 + len(weights)], grads[1 + len(weights) :]

    def reduce(self, t: Tensor) -> Tensor:
        """Reduce, and let derivatives through."""
        if not t.requires_grad:
            return self.over.reduce(t)
        reduced: Tensor = _Reduction.apply(t, self.over)  # type: ignore[no-untyped-call]
        return reduced

    def constant(self, i: int) -> Tensor:
        """Return the residues of the constants of a node, with a batch axis of one."""
        if i not in self._constants:
            node = self.net.nodes[i]
            assert isinstance(node, Constant | Scale)
            value = node.value if isinstance(node, Constant) else node.factor
            once = value[tuple(slice(0, 1 if step == 0 else None) for step in value.stride())]
            found = self.over.constants(once)  # an expanded tensor repeats its entries
            self._constants[i] = found.expand(value.shape)[None] if value.ndim else found
        return self._constants[i]

    def _node(
        self,
        i: int,
        operands: list[Tensor],
        x: Tensor | None,
        gates: Sequence[Tensor],
        weights: Sequence[Tensor],
        sources: bool,
    ) -> Tensor:
        node: Node = self.net.nodes[i]
        if isinstance(node, Input):
            assert x is not None
            return x
        if isinstance(node, Constant):
            kept = sources or node.is_input
            return self.constant(i) if kept else torch.zeros(1, *node.shape, dtype=torch.float64)
        if isinstance(node, Weighted):
            weight = weights[node.weight]
            if not operands:
                t = node.operator.apply(None, weight)
                return t if sources else torch.zeros_like(t)
            return self.reduce(node.operator.apply(operands[0], weight))
        if isinstance(node, Reindex):
            n = max(t.shape[0] for t in operands)
            return node.move([t.expand(n, *t.shape[1:]) for t in operands])
        if isinstance(node, Sum):
            t = operands[0]
            for other in operands[1:]:
                t = t + other
            return self.reduce(t.sum([a + 1 for a in node.axes]) if node.axes else t)
        if isinstance(node, Scale):
            return self.reduce(operands[0] * self.constant(i))
        assert isinstance(node, Gate)
        gated = operands[0] * gates[node.gate]
        return gated if node.gate in self.hard else self.reduce(gated)
