r"""A module's own exported graph, evaluated over a prime field with its gates held.

This is the second route to an output: it follows the module operation by operation, as PyTorch
defines it, and shares nothing with the reading as a path network but the names of the gate layers.
Operations that are linear or only move entries run as they are, on residues; an average is a sum
times the inverse of a count; a ReLU is a product with its gates, a maximum a sum of its window's
entries times theirs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from reluctant.theory.errors import UnsupportedOperation
from reluctant.theory.fields import PrimeField
from reluctant.theory.lowered import number
from reluctant.theory.network import PathNetwork
from reluctant.theory.operations import (
    CREATORS,
    EXTREMES_OF_TWO,
    FIELD_IDENTITIES,
    FIELD_MOVES,
    FIELD_PRODUCTS,
)
from reluctant.theory.residue_rules import RULES, both, choice, windows

_WITH_STATISTICS = ("aten._native_batch_norm_legit_no_training.default",)


@dataclass(frozen=True, slots=True, eq=False)
class Residues:
    """Mark a tensor as residues; all other tensors are the module's own constants."""

    t: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ResidueGraph:
    r"""Evaluate a network's exported graph over a prime field.

    Attributes:
        net: Network whose program is evaluated.
        over: Field.
        hard: Gate layers whose gates are 0 and 1, so that products with them need no reduction.
    """

    net: PathNetwork
    over: PrimeField
    hard: frozenset[int] = frozenset()
    _constants: dict[str, Any] = field(default_factory=dict, init=False)
    _holders: dict[str, int] = field(default_factory=dict, init=False)
    _operations: dict[str, str] = field(default_factory=dict, init=False)

    def values(
        self,
        x: Tensor,
        gates: Sequence[Tensor],
        parameters: Mapping[int, Tensor],
    ) -> dict[str, Any]:
        r"""Evaluate every node that the output is made of.

        Args:
            x: Residues of the data, shape (n, \*input).
            gates: Residues of the gate layers, one for each of the network's.
            parameters: Residues of the weights, by the identity of their parameter.

        Returns:
            What every node is, by name.

        Raises:
            UnsupportedOperation: If an operation has no meaning over a field here.
        """
        walk = Walk(self, x, gates, parameters, {})
        walk.value(self._output())
        return walk.found

    def output(
        self, x: Tensor, gates: Sequence[Tensor], parameters: Mapping[int, Tensor]
    ) -> Tensor:
        r"""Evaluate the output, shape (n, \*output); arguments as for :meth:`values`."""
        return self.of(self.values(x, gates, parameters))

    def of(self, values: Mapping[str, Any]) -> Tensor:
        """Return the output among the values of all nodes."""
        found = values[self.net.program.output]
        return found.t if isinstance(found, Residues) else self.over.constants(found)

    def changed(
        self,
        values: Mapping[str, Any],
        x: Tensor,
        gates: Sequence[Tensor],
        parameters: Mapping[int, Tensor],
        different: Collection[int],
    ) -> Tensor:
        """Evaluate the output again after some parameters have got other residues.

        Args:
            values: What :meth:`values` returned.
            x: As for :meth:`values`, likewise gates.
            gates: Residues of the gate layers.
            parameters: Residues of the weights, some of them new.
            different: Identities of those that are.
        """
        stale = self._after(different)
        kept = {name: v for name, v in values.items() if name not in stale}
        walk = Walk(self, x, gates, parameters, kept)
        walk.value(self._output())
        return self.of(walk.found)

    def _output(self) -> fx.Node:
        program = self.net.program
        (found,) = (n for n in program.graph.nodes if n.name == program.output)
        return found  # type: ignore[no-any-return]

    def _after(self, parameters: Collection[int]) -> frozenset[str]:
        """Return the nodes that depend on some parameters."""
        program = self.net.program
        if not self._holders:
            names = (n.name for n in program.graph.nodes if n.op == "placeholder")
            held = {n: id(program.bindings[n]()) for n in names if n != program.data}
            self._holders.update(held)
        found: set[str] = set()
        for node in program.graph.nodes:
            if self._holders.get(node.name) in parameters or any(
                n.name in found for n in node.all_input_nodes
            ):
                found.add(node.name)
        return frozenset(found)


class Walk:
    """Be one evaluation: what is known of each node so far.

    Args:
        graph: Graph over its field.
        x: Residues of the data.
        gates: Residues of the gate layers.
        parameters: Residues of the weights, by the identity of their parameter.
        found: What is known already, by the name of the node.
    """

    def __init__(
        self,
        graph: ResidueGraph,
        x: Tensor,
        gates: Sequence[Tensor],
        parameters: Mapping[int, Tensor],
        found: dict[str, Any],
    ) -> None:
        self.graph, self.net, self.over = graph, graph.net, graph.over
        self.x, self.gates, self.parameters = x, gates, parameters
        self.found = found
        self.layers = {layer.name: k for k, layer in enumerate(self.net.gate_layers)}
        self.weights = {w.name: w.parameter for w in self.net.weights if w.parameter < 0}

    def value(self, wanted: fx.Node) -> Any:
        """Evaluate a node and what it reads, without recursion: graphs are deep."""
        todo = [wanted]
        while todo:
            node = todo[-1]
            if node.name in self.found:
                todo.pop()
                continue
            missing = [n for n in self.reads(node) if n.name not in self.found]
            if missing:
                todo.extend(missing)
                continue
            todo.pop()
            self.found[node.name] = self.call(node)
        return self.found[wanted.name]

    def reads(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes that a node's residues are made of: of a gated one, what is gated."""
        layer = self.layers.get(node.name)
        if layer is None:
            return node.all_input_nodes
        same = [g for g in self.net.gate_layers if g.name == node.name and g.kind != "clip"]
        if self.operation(node) in EXTREMES_OF_TWO and same[0].kind == "max":
            return node.all_input_nodes
        if len(same) > 1:
            return [n for n in node.all_input_nodes if n.name != same[0].made_by]
        return [self.gated_operand(node, layer)]

    def gated_operand(self, node: fx.Node, k: int) -> fx.Node:
        """Return what a layer of gates multiplies."""
        layer = self.net.gate_layers[k]
        operands = [n for n in node.all_input_nodes if n.name != layer.made_by]
        if layer.is_step:
            operands = [n for n in operands if n.name == self.net.program.probes[k][0]]
        elif len(operands) > 1:
            operands = [n for n in operands if self.carries(n)]
        if len(operands) != 1:
            raise self.refuse(node, "it is not clear which operand its gates multiply")
        return operands[0]

    def carries(self, node: fx.Node) -> bool:
        """Tell whether a node depends on the data or on parameters."""
        todo, seen = [node], set()
        while todo:
            n = todo.pop()
            if n in seen:
                continue
            seen.add(n)
            if n.op == "placeholder" and n.name == self.net.program.data:
                return True
            if self.operation(n) not in CREATORS:  # these take a shape, and no values
                todo.extend(n.all_input_nodes)
        return False

    def call(self, node: fx.Node) -> Any:
        """Evaluate one node whose operands are known."""
        if node.op == "placeholder":
            return self.placeholder(node)
        if node.name in self.weights:
            drawn = self.parameters[self.weights[node.name]]
            return Residues(drawn.reshape(node.meta["val"].shape))
        layer = self.layers.get(node.name)
        if layer is not None:
            gated = Residues(self.gated(node, layer))
            several = isinstance(node.meta["val"], tuple | list)  # a maximum and its indices
            return (gated, None) if several else gated
        operation = self.operation(node)
        if "batch_norm" in operation:
            normed = Residues(self.batch_norm(node))
            return (normed, None, None) if operation in _WITH_STATISTICS else normed
        known = map_arg((node.args, node.kwargs), lambda n: self.found[n.name])
        if not any(isinstance(self.found[n.name], Residues) for n in node.all_input_nodes):
            return node.target(*known[0], **known[1])  # type: ignore[operator]
        if operation in CREATORS:
            return self.run(node).to(node.meta["val"].dtype)  # not that of the residues
        if operation in FIELD_IDENTITIES:
            return self.found[node.all_input_nodes[0].name]
        rule = RULES.get(operation)
        if rule is not None:
            return Residues(self.over.reduce(rule(self, node)))
        if operation in FIELD_PRODUCTS:
            return Residues(self.over.reduce(self.run(node)))
        if operation in FIELD_MOVES:
            moved = self.run(node)
            return _marked(moved)
        raise self.refuse(node, "it is not known over a prime field")

    def operation(self, node: fx.Node) -> str:
        """Return the name of a node's operation, made once: it is slow."""
        known = self.graph._operations
        if node.name not in known:
            known[node.name] = str(node.target)
        return known[node.name]

    def run(self, node: fx.Node) -> Any:
        """Run an operation as it is, on residues."""
        args, kwargs = map_arg(
            (node.args, node.kwargs), lambda n: self.residues(self.found[n.name])
        )
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def residues(self, found: Any) -> Any:
        """Return residues of what a node is; integers, such as indices, stay as they are."""
        if isinstance(found, tuple | list):
            return type(found)(self.residues(part) for part in found)
        if isinstance(found, Residues):
            return found.t
        if isinstance(found, Tensor) and found.is_floating_point():
            return self.over.constants(found)
        return found

    def placeholder(self, node: fx.Node) -> Any:
        """Return the data, drawn weights, or what the module holds itself."""
        program = self.net.program
        if node.name == program.data:
            return Residues(self.x)
        held = program.bindings[node.name]()
        drawn = self.parameters.get(id(held))
        if drawn is None:
            return held.detach().cpu() if isinstance(held, Tensor) else held
        return Residues(drawn.reshape(held.shape))

    def argument(self, node: fx.Node, name: str) -> Any:
        """Return an argument by its name in the operation's schema."""
        if name in node.kwargs:
            return node.kwargs[name]
        schema = node.target._schema  # type: ignore[union-attr]
        for place, known in enumerate(schema.arguments):
            if known.name == name:
                if place < len(node.args):
                    return node.args[place]
                return known.default_value
        raise KeyError(name)

    def operand(self, node: fx.Node, name: str = "self") -> Tensor:
        """Return residues of an argument that is a tensor."""
        given = self.argument(node, name)
        found = self.residues(self.found[given.name])
        assert isinstance(found, Tensor)
        return found

    def batch_norm(self, node: fx.Node) -> Tensor:
        """Multiply and add what a batch norm in evaluation mode does, as float64 has these."""
        constants = self.graph._constants
        if node.name not in constants:
            weight, bias, mean, variance = (
                None
                if given is None
                else self.net.program.bindings[given.name]().detach().cpu().double()
                for given in (
                    self.argument(node, name)
                    for name in ("weight", "bias", "running_mean", "running_var")
                )
            )
            assert mean is not None and variance is not None
            deviation = torch.sqrt(variance + self.argument(node, "eps"))
            factor = 1.0 / deviation if weight is None else weight / deviation
            shift = -(mean * factor) if bias is None else bias - mean * factor
            constants[node.name] = (self.over.constants(factor), self.over.constants(shift))
        scale, added = constants[node.name]
        x = self.operand(node, "input")
        size = (-1, *[1] * (x.ndim - 2))
        return self.over.reduce(x * scale.reshape(size) + added.reshape(size))

    def clipped(self, node: fx.Node, k: int) -> Tensor:
        """Clip: what is above the lower edge, less what is above the upper one."""
        q = self.gated_residues(node, k)
        edges: list[Any] = [0.0, 6.0]
        if "relu6" not in self.operation(node):
            names = ("min_val", "max_val") if "hardtanh" in self.operation(node) else ("min", "max")
            known = {argument.name for argument in node.target._schema.arguments}  # type: ignore[union-attr]
            edges = [self.argument(node, name) if name in known else None for name in names]
        gates = [self.gates[k] for k, g in enumerate(self.net.gate_layers) if g.name == node.name]
        least, most = (
            None if edge is None or math.isinf(edge) else self.over.constants(number(edge))
            for edge in edges
        )
        total = q if least is None else least + gates.pop(0) * (q - least)
        return self.over.reduce(total if most is None else total - gates.pop(0) * (q - most))

    def gated(self, node: fx.Node, k: int) -> Tensor:
        """Multiply by a layer of gates; a maximum adds up each window."""
        layer, gates = self.net.gate_layers[k], self.gates[k]
        if layer.batch != 0:
            raise self.refuse(node, "the batch axis of its operand is not the first")
        if layer.kind == "clip":
            return self.clipped(node, k)
        layers = [j for j, other in enumerate(self.net.gate_layers) if other.name == node.name]
        if len(layers) > 1:
            return self.over.reduce(choice(self, node, layers))
        if layer.kind == "max":
            is_of_two = self.operation(node) in EXTREMES_OF_TWO
            entries = (
                both(self, node) if is_of_two else windows(self, node, self.gated_residues(node, k))
            )
            total = (entries * gates.reshape(gates.shape[0], *entries.shape[1:])).sum(1)
            shape = node.meta["val"]
            shape = (shape[0] if isinstance(shape, tuple | list) else shape).shape
            return self.over.reduce(total).reshape(entries.shape[0], *shape[1:])
        q = self.gated_residues(node, k)
        if q.shape[1:] != gates.shape[1:]:
            q = q.expand(-1, *gates.shape[1:]) if q.ndim == gates.ndim else q
        if q.shape[1:] != gates.shape[1:]:
            raise self.refuse(node, "it is not clear which of its entries the gates multiply")
        gated = q * gates
        return gated if k in self.graph.hard else self.over.reduce(gated)

    def gated_residues(self, node: fx.Node, k: int) -> Any:
        """Return residues of what a layer of gates multiplies."""
        return self.residues(self.found[self.gated_operand(node, k).name])

    def refuse(self, node: fx.Node, why: str) -> UnsupportedOperation:
        """Return the error that names an operation."""
        return UnsupportedOperation(
            f"{node.name}: {node.target} cannot be evaluated over a prime field: {why}",
            operation=str(node.target),
        )


def _marked(moved: Any) -> Any:
    if isinstance(moved, tuple | list):
        return tuple(_marked(part) for part in moved)
    return Residues(moved)
