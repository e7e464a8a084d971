"""Path networks: the one form into which every module is read.

A path network is a directed acyclic graph over tensors, whose nodes are those of
:mod:`reluctant.theory.nodes`, together with the program that records its gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import torch
from torch import Tensor, nn

from reluctant.theory.inputs import check_example
from reluctant.theory.nodes import (
    Constant,
    Gate,
    GateLayer,
    Gates,
    Input,
    Node,
    Reindex,
    Scale,
    Sum,
    Weight,
    Weighted,
)
from reluctant.theory.operands import check_operands
from reluctant.theory.operators import Bias

if TYPE_CHECKING:
    from reluctant.theory.replay import Program

Found = TypeVar("Found")
About = TypeVarTuple("About")


def _same(t: Tensor) -> Tensor:
    return t


@dataclass(frozen=True, slots=True, eq=False)
class PathNetwork:
    """Be a module, read as a gated path network at one input shape.

    Attributes:
        nodes: Tensors in topological order.
        output: Index of the output node.
        weights: Weight tensors, one for each use of a parameter in one shape.
        gate_layers: Where the gates come from.
        program: The exported graph, which computes the gates.
        module: The module that was read.
        notes: What a reader of results must know, such as constants held fixed.
        known: What was found of its structure so far, see :meth:`once`.
    """

    nodes: tuple[Node, ...]
    output: int
    weights: tuple[Weight, ...]
    gate_layers: tuple[GateLayer, ...]
    program: Program
    module: nn.Module
    notes: tuple[str, ...] = ()
    known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    _live: tuple[int, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_live", tuple(sorted(self.ancestors([self.output]))))

    def __repr__(self) -> str:
        kinds = [type(self.nodes[i]).__name__ for i in self.value_nodes]
        counted = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
        return f"PathNetwork({type(self.module).__name__}: {counted})"

    @property
    def value_nodes(self) -> tuple[int, ...]:
        """Return the nodes that lie on paths to the output, in order."""
        return self._live

    @property
    def value_gates(self) -> tuple[int, ...]:
        """Return the gate layers that multiply paths to the output, in order."""
        found = (self.nodes[i] for i in self.value_nodes)
        return tuple(dict.fromkeys(node.gate for node in found if isinstance(node, Gate)))

    @property
    def weighted(self) -> tuple[Weighted, ...]:
        """Return the weighted nodes on paths to the output, biases too."""
        found = (self.nodes[i] for i in self.value_nodes)
        return tuple(node for node in found if isinstance(node, Weighted))

    @property
    def biases(self) -> tuple[Weighted, ...]:
        """Return the bias nodes on paths to the output."""
        return tuple(node for node in self.weighted if isinstance(node.operator, Bias))

    @property
    def output_size(self) -> int:
        """Return the number of output coordinates."""
        return int(torch.Size(self.nodes[self.output].shape).numel())

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one example."""
        return tuple(self.program.example_shape[1:])

    def once(self, find: Callable[[PathNetwork, *About], Found], *about: *About) -> Found:
        """Return what a function finds of the structure, found once and kept as long as the network.

        Args:
            find: Function of the network. It may depend on nodes and layers of gates, not on weights.
            about: What else it takes, with a hash.
        """
        key = (find, *about)
        if key not in self.known:
            self.known[key] = find(self, *about)
        found: Found = self.known[key]
        return found

    def ancestors(self, starts: Iterable[int]) -> set[int]:
        """Return the nodes on paths into the given nodes, themselves included."""
        todo, seen = list(starts), set()
        while todo:
            i = todo.pop()
            if i not in seen:
                seen.add(i)
                todo.extend(self.nodes[i].operands)
        return seen

    def weight_values(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """Return the module's current weights, detached, in the given type."""
        return [w.value().detach().to(dtype) for w in self.weights]

    def weight_sizes(self) -> list[Tensor]:
        """Return the absolute values of the module's current weights, in float64."""
        return [w.absolute() for w in self.weights]

    def at(self, x: Tensor) -> PathNetwork:
        """Return this network read at the shape, type and device of x.

        Raises:
            InputError: If x is no batch of finite floating-point numbers that the module takes.
        """
        check_example(x, "the input")
        program = self.program
        if (tuple(x.shape), x.dtype, x.device) == (
            program.example_shape,
            program.dtype,
            program.device,
        ):
            return self
        from reluctant.theory.likeness import remember
        from reluctant.theory.tracing import trace

        return remember(trace(self.module, x), self)

    def gates(self, x: Tensor) -> list[Tensor]:
        r"""Run the module's own arithmetic on x and record every gate layer.

        Args:
            x: Inputs, shape (n, \*input). The network is read again if n is another.

        Returns:
            One (n, \*shape) tensor a gate layer, in the module's type. Layers that lie on no path
            to the output are recorded too.

        Raises:
            InputError: If x is no batch of finite numbers of the module's shape, type and device.
        """
        return self.at(x).program.run(x).gates

    def forward(
        self,
        x: Tensor,
        gates: Gates | None,
        weights: Sequence[Tensor],
        *,
        constant: Callable[[Tensor], Tensor] = _same,
        reduce: Callable[[Tensor], Tensor] = _same,
        sources: bool = True,
        magnitudes: bool = False,
        replace: Mapping[int, Callable[[list[Tensor]], Tensor]] | None = None,
        output: int | None = None,
    ) -> Tensor:
        r"""Send x along all paths, with gates and weights given.

        .. math:: f(x) = \sum_p x(p_0)\, A(x, p)\, v_p

        Args:
            x: Data, shape (n, \*input).
            gates: Gate layers as :meth:`gates` returns them; None: all gates on.
            weights: Weight tensors, one for each of :attr:`weights`.
            constant: Applied to constants and scale factors, such as ``torch.abs``.
            reduce: Applied to every tensor, such as a residue modulo a prime.
            sources: False leaves out biases and constants that are not inputs.
            magnitudes: True uses the magnitudes of constants and gates in place of their values.
            replace: Nodes whose value is computed by another function of their operands.
            output: Node to evaluate; the network's output if None.

        Returns:
            Values of that node, shape (n, \*shape).

        Raises:
            InputError: If x, the gates or the weights are not of the network's shapes, or not of
                one type and device.

        Cost:
            One forward pass of the module.
        """
        check_operands(self, x, gates, weights)
        target = self.output if output is None else output
        order = self._live if output is None else tuple(sorted(self.ancestors([target])))
        last_use = {operand: i for i in order for operand in self.nodes[i].operands}
        values: dict[int, Tensor] = {}
        n = x.shape[0]
        for i in order:
            node = self.nodes[i]
            operands = [values[k] for k in node.operands]
            if replace is not None and i in replace:
                t = replace[i](operands)
            elif isinstance(node, Input):
                t = x
            elif isinstance(node, Constant):
                t = constant(node.magnitude if magnitudes else node.value).to(x)
                t = (
                    t.expand(n, *node.shape)
                    if sources or node.is_input
                    else x.new_zeros(n, *node.shape)
                )
            elif isinstance(node, Weighted):
                t = node.operator.apply(operands[0] if operands else None, weights[node.weight])
                if not operands:
                    t = t.expand(n, *node.shape) if sources else x.new_zeros(n, *node.shape)
            elif isinstance(node, Reindex):
                t = node.move(operands)
            elif isinstance(node, Sum):
                t = operands[0]
                for other in operands[1:]:
                    t = t + other
                t = t.sum([a + 1 for a in node.axes]) if node.axes else t
            elif isinstance(node, Scale):
                t = operands[0] * constant(node.factor).to(x)
            elif isinstance(node, Gate):
                g = None if gates is None else gates[node.gate].to(x)
                t = operands[0] if g is None else operands[0] * (g.abs() if magnitudes else g)
            else:
                raise AssertionError(type(node))
            values[i] = reduce(t)
            for k in set(node.operands):
                if last_use[k] == i:
                    del values[k]
        return values[target]
