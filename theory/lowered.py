"""What tensors of an exported graph become when it is read, and the calls that make them.

Every tensor of the graph becomes one of five things: a *path* tensor (a node of the network), a
*static* tensor (weights and constants), a *mask* (what may multiply paths as a gate), a tuple of
these, or *unreadable*. Something unreadable is an error only if it lies on a path to the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, SupportsFloat

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from reluctant.theory.entries import Entries
from reluctant.theory.errors import UnsupportedOperation
from reluctant.theory.places import written_at


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
        entries: Where they stand in the flattened parameter.
        node: Name of the graph's node that holds it.
    """

    value: Callable[[], Tensor]
    trained: bool = False
    name: str = ""
    parameter: int | None = None
    entries: Entries | None = None
    node: str = ""

    def view(self, move: Callable[[Tensor], Tensor]) -> Static:
        """Return the same entries in another arrangement."""
        entries = None if self.entries is None else self.entries.moved(move)
        return replace(self, value=lambda: move(self.value()), entries=entries)

    def repeats(self, axis: int) -> bool:
        """Tell whether an axis repeats the same entries of a parameter, as an expanded one does."""
        if self.value().shape[axis] == 1:
            return True
        return self.entries is not None and self.entries.repeat_along(axis)


@dataclass(frozen=True, slots=True)
class Mask:
    """Stand for a tensor that may act as gates.

    Attributes:
        graph_node: Name of the graph's node that holds the gates.
        hard: True if its entries can only be 0 and 1.
        source: Node of the pre-activation that it was made from, if that was readable.
        ties: Convention for equal entries.
        follows: True if every gate was made from the source's entry at its own place, a hard gate
            from its sign alone.
        sign: "gt", "ge", "lt" or "le" if a hard gate that follows is 1 where the entry is so
            compared with 0.
        moves: True if the gates move with their pre-activation where it is not tied.
    """

    graph_node: str
    hard: bool
    source: int | None
    ties: str = "zero"
    follows: bool = False
    sign: str = ""
    moves: bool = False

    def held_by(self, graph_node: str) -> Mask:
        """Return the same gates, held by another node of the graph."""
        return replace(self, graph_node=graph_node)

    def rearranged(self, graph_node: str) -> Mask:
        """Return the same gates at other places, held by another node of the graph."""
        return replace(self, graph_node=graph_node, follows=False, sign="")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stand for what cannot be read, with the error that says why.

    Attributes:
        error: What is said if it lies on a path to the output.
        is_final: True if the operation itself is no path network's, False if it might be one in
            another arrangement; then an operation of the first kind that reads it is named instead.
    """

    error: UnsupportedOperation
    is_final: bool = False


Lowered = Path | Static | Mask | Unreadable | tuple[Any, ...]


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

    @property
    def called(self) -> str:
        """Return the operation's name, and what the user wrote, if that says more."""
        written = written_at(self.node)
        return f"{self.operation} in {written}" if written else self.operation

    @property
    def is_floating(self) -> bool:
        """Tell whether the result is a tensor of floating type, or no single tensor."""
        value = self.node.meta.get("val")
        return not isinstance(value, Tensor) or value.is_floating_point()

    @property
    def is_random(self) -> bool:
        """Tell whether the operation draws numbers, as a dropout does unless it is in evaluation."""
        is_off = any(self.arguments.get(name) is False for name in ("train", "training"))
        tags = getattr(self.node.target, "tags", ())
        return torch.Tag.nondeterministic_seeded in tags and not is_off

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]


def leaves(arguments: Any) -> Iterator[Any]:
    """Go through arguments, and through the lists and tuples among them."""
    if isinstance(arguments, Mapping):
        arguments = list(arguments.values())
    if isinstance(arguments, list | tuple):
        for argument in arguments:
            yield from leaves(argument)
    else:
        yield arguments


def value_of(item: Lowered) -> Any:
    """Return the present value of a static tensor, or of a tuple of them."""
    if isinstance(item, tuple):
        return tuple(value_of(part) for part in item)
    assert isinstance(item, Static)
    return item.value()


def number(value: SupportsFloat) -> Tensor:
    """Return a number of Python's as it is, whatever type torch would give it."""
    return torch.tensor(float(value), dtype=torch.float64)


def differs(value: Tensor) -> bool:
    """Tell whether the first axis of a constant counts examples that are not all the same."""
    return value.shape[0] > 1 and not bool((value == value[:1]).all())


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
