"""The rule table, and the walk that turns an exported graph into a path network.

Every tensor of the graph becomes one of five things: a *path* tensor (a node of the network), a
*static* tensor (weights and constants), a *mask* (what may multiply paths as a gate), a tuple of
these, or *unreadable*. Something unreadable is an error only if it lies on a path to the output.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from reluctant.theory import network
from reluctant.theory.errors import UnsupportedOperation
from reluctant.theory.network import GateLayer, Node, Weight


@dataclass(frozen=True, slots=True)
class Path:
    """Stand for a tensor that carries paths.

    Attributes:
        node: Index of its node.
        shape: Shape of one example.
        batch: Axis of the graph's tensor that counts examples.
    """

    node: int
    shape: tuple[int, ...]
    batch: int = 0

    def axis(self, dim: int) -> int:
        """Return the example's axis for a dimension of the graph's tensor."""
        dim %= len(self.shape) + 1
        if dim == self.batch:
            raise UnsupportedOperation("it mixes the examples of a batch")
        return dim if dim < self.batch else dim - 1


@dataclass(frozen=True, slots=True)
class Static:
    """Stand for a tensor that does not depend on the data.

    Attributes:
        value: Gives its present value.
        trained: True if it depends on a parameter.
        name: Parameter's name, or the name of the operation that made it.
        parameter: Identity of the parameter whose entries it holds; None if it was computed.
        entries: For every entry its index in the flattened parameter.
        node: Name of the graph's node that holds it.
    """

    value: Callable[[], Tensor]
    trained: bool = False
    name: str = ""
    parameter: int | None = None
    entries: Tensor | None = None
    node: str = ""

    def view(self, move: Callable[[Tensor], Tensor]) -> Static:
        """Return the same entries in another arrangement."""
        entries = None if self.entries is None else move(self.entries)
        return replace(self, value=lambda: move(self.value()), entries=entries)


@dataclass(frozen=True, slots=True)
class Mask:
    """Stand for a tensor that may act as gates.

    Attributes:
        graph_node: Name of the graph's node that holds the gates.
        hard: True if its entries can only be 0 and 1.
        source: Node of the pre-activation that it was made from, if that was readable.
        unit: True if it was made by an operation declared to be a gate, or by comparisons.
        ties: Convention for equal entries.
    """

    graph_node: str
    hard: bool
    source: int | None
    ties: str = "zero"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stand for what cannot be read, with the error that says why."""

    error: UnsupportedOperation


Lowered = Path | Static | Mask | Unreadable | tuple[Any, ...]
Probe = Callable[[Mapping[str, Any]], Tensor]


@dataclass(frozen=True, slots=True)
class Call:
    """Be one call of an operation.

    Attributes:
        node: Node of the exported graph.
        arguments: Arguments by name, defaults filled in, graph nodes replaced by what they became.
        shape: Shape of the result, batch axis included; None if it is no single tensor.
        place: Where it stands in the user's source.
    """

    node: fx.Node
    arguments: Mapping[str, Any]
    shape: tuple[int, ...] | None
    place: str

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self.node.name

    @property
    def operation(self) -> str:
        """Return the operation's name."""
        return str(self.node.target)

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]


Rule = Callable[["Lowering", Call], Lowered]
RULES: dict[str, Rule] = {}


def rule(*operations: str) -> Callable[[Rule], Rule]:
    """Enter a function into the rule table for the given operations."""

    def enter(function: Rule) -> Rule:
        for name in operations:
            RULES[name] = function
        return function

    return enter


@dataclass(slots=True)
class Lowering:
    """Collect the nodes of a path network while a graph is walked.

    Attributes:
        batch: Number of examples at which the graph was exported.
        dtype: Type of the data.
        nodes: Nodes so far.
        weights: Weight tensors so far.
        gate_layers: Gate layers so far.
        probes: For every gate layer, the graph node after which it can be recorded, and how.
        lowered: What every graph node became.
        notes: Remarks for the reader of results.
    """

    batch: int
    dtype: torch.dtype
    nodes: list[Node] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    gate_layers: list[GateLayer] = field(default_factory=list)
    probes: list[tuple[str, Probe]] = field(default_factory=list)
    lowered: dict[str, Lowered] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        kind: type[Node],
        call: Call,
        shape: Sequence[int],
        operands: Sequence[int] = (),
        **rest: Any,
    ) -> Path:
        """Append a node and return the path tensor that it makes."""
        node = kind(
            name=call.name, shape=tuple(shape), operands=tuple(operands), place=call.place, **rest
        )
        self.nodes.append(node)
        return Path(len(self.nodes) - 1, node.shape)

    def reindex(
        self,
        call: Call,
        operands: Sequence[Path],
        move: Callable[[Sequence[Tensor]], Tensor],
        **rest: Any,
    ) -> Path:
        """Append a move; its shape is found by trying it."""
        probe = [torch.empty(1, *p.shape, device="meta") for p in operands]
        shape = tuple(move(probe).shape[1:])
        return self.add(network.Reindex, call, shape, [p.node for p in operands], move=move, **rest)

    def weighted(self, call: Call, operator_: Any, operand: Path | None, weight: Static) -> Path:
        """Append a weighted operation."""
        index = self.weight(weight)
        shape = operator_.join(
            torch.empty(
                1, operator_.rows, int(torch.Size(operator_.positions).numel()), device="meta"
            )
        ).shape[1:]
        operands = () if operand is None else (operand.node,)
        return self.add(network.Weighted, call, shape, operands, operator=operator_, weight=index)

    def weight(self, static: Static) -> int:
        """Return the index of a weight tensor, appended if it is new."""
        value = static.value()
        entries, parameter = static.entries, static.parameter
        if entries is None or parameter is None:
            entries, parameter = (
                torch.arange(value.numel()).reshape(value.shape),
                -1 - len(self.weights),
            )
            self.notes.append(
                f"{static.name} is computed from parameters; its entries are taken as the weights"
            )
        for k, known in enumerate(self.weights):
            if known.parameter == parameter and torch.equal(known.entries, entries):
                return k
        self.weights.append(
            Weight(static.name, tuple(value.shape), entries, parameter, static.value)
        )
        return len(self.weights) - 1

    def gate(self, call: Call, operand: Path, *, after: str, probe: Probe, **rest: Any) -> Path:
        """Append a layer of gates and the node that it multiplies."""
        layer = GateLayer(name=call.name, place=call.place, **rest)
        self.gate_layers.append(layer)
        self.probes.append((after, probe))
        return self.add(
            network.Gate, call, operand.shape, [operand.node], gate=len(self.gate_layers) - 1
        )

    def total(self, call: Call, operands: Sequence[Path], axes: Sequence[int] = ()) -> Path:
        """Append a sum of operands of one shape, over axes of an example."""
        first = operands[0]
        axes = sorted(a % len(first.shape) for a in axes)
        shape = [size for a, size in enumerate(first.shape) if a not in axes]
        return self.add(network.Sum, call, shape, [p.node for p in operands], axes=tuple(axes))

    def scale(self, call: Call, operand: Path, factor: Tensor) -> Path:
        """Append a multiplication by constants."""
        return self.add(
            network.Scale, call, operand.shape, [operand.node], factor=factor.detach().double()
        )

    def constant(
        self,
        call: Call,
        shape: Sequence[int],
        value: Tensor,
        *,
        is_input: bool = False,
        magnitude: Tensor | None = None,
    ) -> Path:
        """Append values that are neither data nor trained."""
        value = value.detach().double().expand(tuple(shape))
        magnitude = (
            value.abs() if magnitude is None else magnitude.detach().double().expand(tuple(shape))
        )
        return self.add(
            network.Constant, call, shape, value=value, magnitude=magnitude, is_input=is_input
        )

    def refuse(self, call: Call, why: str) -> UnsupportedOperation:
        """Return the error that says what cannot be read, where, and why."""
        message = f"{call.place}: {call.operation} cannot be read as part of a path network: {why}"
        return UnsupportedOperation(message, operation=call.operation, where=call.place)

    def lower(self, call: Call) -> Lowered:
        """Return what the call makes of its arguments."""
        arguments = list(_leaves(call.arguments))
        for argument in arguments:
            if isinstance(argument, Unreadable):
                return argument
        known = RULES.get(call.operation)
        carries = any(isinstance(a, Path | Mask) for a in arguments)
        if not carries and call.operation not in CREATORS and not self._feeds_a_constant(call):
            return self.static(call)
        if known is None:
            if _is_mask_arithmetic(arguments) or not _is_floating(call.node):
                return _mask_of(call, arguments)
            return Unreadable(self.refuse(call, "it is neither linear in the data nor a gate"))
        try:
            return known(self, call)
        except UnsupportedOperation as error:
            return Unreadable(error if error.operation else self.refuse(call, str(error)))

    def _feeds_a_constant(self, call: Call) -> bool:
        """Tell whether weights act on a constant in place of the data, one row an example."""
        operand = call.arguments.get("input", call.arguments.get("self"))
        if call.operation not in WEIGHTED or not isinstance(operand, Static) or operand.trained:
            return False
        return operand.value().ndim > 0 and operand.value().shape[0] == self.batch

    def static(self, call: Call) -> Lowered:
        """Return a tensor that is computed from weights and constants alone."""
        target, node = call.node.target, call.node
        present = {n.name: self.lowered[n.name] for n in node.all_input_nodes}

        def value() -> Any:
            values = {name: _value(item) for name, item in present.items()}
            args, kwargs = map_arg((node.args, node.kwargs), lambda n: values[n.name])
            with torch.no_grad():
                return target(*args, **kwargs)  # type: ignore[operator]

        statics = [s for s in present.values() if isinstance(s, Static)]
        trained = any(s.trained for s in statics)
        if len(statics) == 1 and call.operation in MOVES and statics[0].entries is not None:
            (only,) = statics

            def move(t: Tensor) -> Tensor:
                args, kwargs = map_arg((node.args, node.kwargs), lambda n: t)
                return target(*args, **kwargs)  # type: ignore[operator, no-any-return]

            return replace(only.view(move), node=call.name)
        result = value()
        if isinstance(result, tuple | list):
            return tuple(
                Static(lambda i=i: value()[i], trained, f"{call.name}[{i}]")  # type: ignore[misc]
                for i in range(len(result))
            )
        return Static(value, trained, call.name, node=call.name)


CREATORS = {
    f"aten.{name}.default"
    for name in (
        "ones_like",
        "zeros_like",
        "full_like",
        "new_ones",
        "new_zeros",
        "new_full",
        "empty_like",
    )
}
WEIGHTED = {
    "aten.linear.default", "aten.matmul.default", "aten.mm.default", "aten.conv1d.default",
    "aten.conv2d.default", "aten.conv3d.default", "aten.conv1d.padding", "aten.conv2d.padding",
    "aten.conv3d.padding",
}  # fmt: skip
MOVES = {
    "aten.t.default", "aten.transpose.int", "aten.permute.default", "aten.view.default",
    "aten.reshape.default", "aten.flatten.using_ints", "aten.unsqueeze.default",
    "aten.squeeze.dim", "aten.squeeze.default", "aten.slice.Tensor", "aten.select.int",
    "aten.expand.default", "aten.flip.default", "aten.clone.default", "aten.contiguous.default",
    "aten.detach.default", "aten.alias.default", "aten.numpy_T.default", "aten.mT.default",
    "aten.detach_.default", "aten.lift_fresh_copy.default",
}  # fmt: skip
_KEEPS_HARD = (
    "mul",
    "bitwise",
    "logical",
    "where",
    "_to_copy",
    "to.",
    "type_as",
    "one_hot",
    "scatter",
)


def _leaves(arguments: Any) -> Any:
    if isinstance(arguments, Mapping):
        arguments = list(arguments.values())
    if isinstance(arguments, list | tuple):
        for argument in arguments:
            yield from _leaves(argument)
    else:
        yield arguments


def _value(item: Lowered) -> Any:
    if isinstance(item, tuple):
        return tuple(_value(part) for part in item)
    assert isinstance(item, Static)
    return item.value()


def _is_floating(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return not isinstance(value, Tensor) or value.is_floating_point()


def _is_mask_arithmetic(arguments: Sequence[Any]) -> bool:
    tensors = [a for a in arguments if isinstance(a, Path | Mask | Static)]
    return all(isinstance(a, Mask) or (isinstance(a, Static) and not a.trained) for a in tensors)


def _mask_of(call: Call, arguments: Sequence[Any]) -> Mask:
    discrete = not _is_floating(call.node)
    sources = [
        a.node if isinstance(a, Path) else a.source for a in arguments if isinstance(a, Path | Mask)
    ]
    masks_hard = all(a.hard for a in arguments if isinstance(a, Mask))
    keeps = call.operation in MOVES or any(part in call.operation for part in _KEEPS_HARD)
    boolean = discrete and getattr(call.node.meta.get("val"), "dtype", None) is torch.bool
    hard = boolean or (masks_hard and keeps)
    return Mask(call.name, hard, sources[0] if sources else None)


def arguments_of(node: fx.Node, lowered: Mapping[str, Lowered]) -> dict[str, Any]:
    """Return a call's arguments by the operator's schema, defaults filled in."""

    def known(n: fx.Node) -> Any:
        return lowered[n.name]

    args, kwargs = map_arg((node.args, node.kwargs), known)
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {**{str(i): a for i, a in enumerate(args)}, **kwargs}
    named = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    named.update(zip((a.name for a in schema.arguments), args, strict=False))
    return {**named, **kwargs}


@rule(str(operator.getitem))
def _getitem(lower: Lowering, call: Call) -> Lowered:
    whole, index = call["0"], call["1"]
    if isinstance(whole, tuple):
        return whole[index]  # type: ignore[no-any-return]
    raise lower.refuse(call, "a part of something that is not a tuple")
