"""The rule table, and the walk that turns an exported graph into a path network."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from reluctant.theory.entries import Entries
from reluctant.theory.errors import InputError, UnsupportedOperation
from reluctant.theory.lowered import (
    Call,
    Lowered,
    Mask,
    Path,
    Static,
    Unreadable,
    differs,
    leaves,
    value_of,
)
from reluctant.theory.masks import is_mask_arithmetic, mask_of
from reluctant.theory.nodes import (
    Constant,
    Gate,
    GateLayer,
    Node,
    Reindex,
    Scale,
    Sum,
    Weight,
    Weighted,
)
from reluctant.theory.operations import (
    CREATORS,
    MOVES,
    PIECEWISE_LINEAR,
    SUBGRAPHS,
    UNREAD,
    WEIGHTED,
)
from reluctant.theory.replay import Probe

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
        rules: The rule table, with the rules of others.
        nodes: Nodes so far.
        weights: Weight tensors so far.
        gate_layers: Gate layers so far.
        probes: For every gate layer, the graph node after which it can be recorded, and how.
        lowered: What every graph node became.
        notes: Remarks for the reader of results.
        borrowed: For graph nodes that were read by rules of other distributions, which these are.
    """

    batch: int
    dtype: torch.dtype
    rules: Mapping[str, Rule]
    nodes: list[Node] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    gate_layers: list[GateLayer] = field(default_factory=list)
    probes: list[tuple[str, Probe]] = field(default_factory=list)
    lowered: dict[str, Lowered] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    borrowed: dict[fx.Node, str] = field(default_factory=dict)

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
        return self.add(Reindex, call, shape, [p.node for p in operands], move=move, **rest)

    def weighted(self, call: Call, operator_: Any, operand: Path | None, weight: Static) -> Path:
        """Append a weighted operation."""
        shape = tuple(weight.value().shape)
        if 0 in shape:
            raise InputError(
                f"{call.place}: {weight.name} has shape {shape} and so no entries: no path goes "
                "through; give every layer at least one unit"
            )
        index = self.weight(weight)
        shape = operator_.join(
            torch.empty(
                1, operator_.rows, int(torch.Size(operator_.positions).numel()), device="meta"
            )
        ).shape[1:]
        operands = () if operand is None else (operand.node,)
        return self.add(Weighted, call, shape, operands, operator=operator_, weight=index)

    def weight(self, static: Static) -> int:
        """Return the index of a weight tensor, appended if it is new."""
        value = static.value()
        entries, parameter = static.entries, static.parameter
        if entries is None or parameter is None:
            entries, parameter = Entries.whole(value.shape), -1 - len(self.weights)
            self.notes.append(
                f"{static.name} is computed from parameters; its entries are taken as the weights"
            )
        for k, known in enumerate(self.weights):
            if known.parameter == parameter and known.entries.are(entries):
                return k
        self.weights.append(
            Weight(static.name, tuple(value.shape), entries, parameter, static.value)
        )
        return len(self.weights) - 1

    def note(self, remark: str) -> None:
        """Remember a remark, once."""
        if remark not in self.notes:
            self.notes.append(remark)

    def gate(self, call: Call, operand: Path, *, after: str, probe: Probe, **rest: Any) -> Path:
        """Append a layer of gates and the node that it multiplies."""
        layer = GateLayer(name=call.name, place=call.place, **rest)
        self.gate_layers.append(layer)
        self.probes.append((after, probe))
        return self.add(Gate, call, operand.shape, [operand.node], gate=len(self.gate_layers) - 1)

    def total(self, call: Call, operands: Sequence[Path], axes: Sequence[int] = ()) -> Path:
        """Append a sum of operands of one shape, over axes of an example."""
        first = operands[0]
        axes = sorted(a % len(first.shape) for a in axes)
        shape = [size for a, size in enumerate(first.shape) if a not in axes]
        return self.add(Sum, call, shape, [p.node for p in operands], axes=tuple(axes))

    def scale(self, call: Call, operand: Path, factor: Tensor) -> Path:
        """Append a multiplication by constants."""
        return self.add(Scale, call, operand.shape, [operand.node], factor=factor.detach().double())

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
        return self.add(Constant, call, shape, value=value, magnitude=magnitude, is_input=is_input)

    def refuse(self, call: Call, why: str) -> UnsupportedOperation:
        """Return the error that says what cannot be read, where, and why."""
        message = f"{call.place}: {call.called} cannot be read as part of a path network: {why}"
        return UnsupportedOperation(
            message, operation=call.operation, where=call.place, node=call.name
        )

    def size_before(self, node: int) -> int:
        """Return the number of weights on paths into a node."""
        todo, seen = [node], set[int]()
        while todo:
            i = todo.pop()
            if i not in seen:
                seen.add(i)
                todo.extend(self.nodes[i].operands)
        used = {n.weight for i in seen if isinstance(n := self.nodes[i], Weighted)}
        return sum(self.weights[k].size for k in used)

    def path(self, call: Call, argument: Any) -> Path:
        """Return an argument that must carry paths."""
        if isinstance(argument, Path):
            return argument
        raise self.refuse(call, "it needs a tensor that carries paths here")

    def batch_first(self, call: Call, argument: Any) -> Path:
        """Return an argument that must carry paths, and count the examples along its first axis."""
        path = self.path(call, argument)
        if path.batch != 0:
            raise self.refuse(call, "the batch axis of its operand is not the first")
        return path

    def broadcast(self, call: Call, operands: Iterable[Any]) -> tuple[tuple[int, ...], int]:
        """Return the shape of one example to which operands are broadcast, and the axis of examples."""
        assert call.shape is not None
        later = {len(p.shape) - p.batch for p in operands if isinstance(p, Path)}
        if len(later) != 1:
            raise self.refuse(call, "its operands count the examples along different axes")
        batch = len(call.shape) - 1 - later.pop()
        return (*call.shape[:batch], *call.shape[batch + 1 :]), batch

    def one_example(
        self, call: Call, value: Tensor, rank: int | None = None, batch: int = 0
    ) -> Tensor:
        """Drop a batch axis along which a constant repeats itself.

        Args:
            call: Operation that reads it.
            value: Constant.
            rank: Number of axes of one example, if the constant may have fewer than the result.
            batch: Axis of the result that counts the examples.
        """
        value = value.detach()
        axis = batch if rank is None else batch - (rank + 1 - value.ndim)
        if axis < 0:
            return value
        if differs(value.movedim(axis, 0)):
            raise self.refuse(call, "a constant differs from example to example")
        return value.select(axis, 0)

    def lower(self, call: Call) -> Lowered:
        """Return what the call makes of its arguments."""
        if call.operation in SUBGRAPHS:
            return self._foreign(call)
        arguments = list(leaves(call.arguments))
        known = self.rules.get(call.operation)
        for argument in arguments:
            if isinstance(argument, Unreadable):
                is_final = argument.is_final or known is not None or not call.is_floating
                return argument if is_final else self._foreign(call)
        carries = any(isinstance(a, Path | Mask) for a in arguments)
        if call.is_random and not (carries and known):
            why = (
                "it draws at random, so that every run has another output; draw before, and keep it"
            )
            return Unreadable(self.refuse(call, why), is_final=True)
        if not carries and call.operation not in CREATORS and not self._feeds_a_constant(call):
            return self.static(call)
        if known is None:
            if is_mask_arithmetic(arguments) or not call.is_floating:
                return mask_of(call, arguments)
            return self._foreign(call)
        try:
            return known(self, call)
        except UnsupportedOperation as error:
            return Unreadable(error if error.operation else self.refuse(call, str(error)))

    def _foreign(self, call: Call) -> Unreadable:
        reasons = {**SUBGRAPHS, **UNREAD}
        why = reasons.get(call.operation, "it is neither linear in the data nor a gate")
        if call.operation in PIECEWISE_LINEAR:
            why = "it is piecewise linear, and not read yet; write it with maxima, ReLUs or comparisons"
        return Unreadable(self.refuse(call, why), is_final=True)

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
            values = {name: value_of(item) for name, item in present.items()}
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


@rule(str(operator.getitem))
def _getitem(lower: Lowering, call: Call) -> Lowered:
    whole, index = call["0"], call["1"]
    if isinstance(whole, tuple):
        return whole[index]  # type: ignore[no-any-return]
    raise lower.refuse(call, "a part of something that is not a tuple")
