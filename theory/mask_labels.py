"""Labels of gates that are computed outside the paths: a walk over the exported graph."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from reluctant.theory.labels import in_any_order, in_order, of_constants
from reluctant.theory.lowered import arguments_of
from reluctant.theory.network import PathNetwork
from reluctant.theory.operations import MOVES

_SAME = {
    "aten.clone.default", "aten.contiguous.default", "aten.alias.default", "aten.detach.default",
    "aten.detach_.default", "aten.lift_fresh_copy.default", "aten.dropout.default",
}  # fmt: skip
_MOVES = MOVES - _SAME | {
    "aten.unflatten.int", "aten.squeeze.dims", "aten.movedim.int", "aten.swapaxes.default", "aten.swapdims.default",
    "aten.select.int", "aten.roll.default",
}  # fmt: skip
_ENTRYWISE = {
    "gt", "ge", "lt", "le", "eq", "ne", "mul", "div", "add", "sub", "rsub", "neg", "abs", "sign",
    "pow", "logical_and", "logical_or", "logical_not", "logical_xor", "bitwise_and", "bitwise_or",
    "bitwise_not", "bitwise_xor", "__and__", "__or__", "where", "to", "_to_copy", "type_as", "gate",
    "sigmoid", "tanh", "exp", "relu", "relu_", "clamp", "clamp_min", "clamp_max", "maximum",
    "minimum", "heaviside", "round", "floor", "reciprocal", "sqrt", "leaky_relu", "hardtanh",
}  # fmt: skip
_REDUCTIONS = {"amax", "amin", "sum", "mean", "count_nonzero", "any", "all", "prod"}


class CannotLabel(Exception):
    """Say that the gates of a layer are made in a way that labels cannot follow."""


class MaskReader:
    """Label tensors of the exported graph that are no nodes of the path network.

    Args:
        net: Network.
        sizes: Spatial sizes of the data.
    """

    def __init__(self, net: PathNetwork, sizes: Sequence[int]) -> None:
        """Index the graph and the network by name."""
        self.net, self.sizes, self.ordered = net, sizes, False
        self.batch = net.program.example_shape[0]
        self.graph = {node.name: node for node in net.program.graph.nodes}
        self.last = {node.name: i for i, node in enumerate(net.nodes)}

    def node_of(self, name: str) -> int | None:
        """Return the network's node that is a tensor of the graph, if there is one."""
        i, value = self.last.get(name), self.graph[name].meta.get("val")
        if i is None or not isinstance(value, Tensor):
            return None
        return i if tuple(value.shape) == (self.batch, *self.net.nodes[i].shape) else None

    def inputs(self, made_by: str) -> tuple[int, ...]:
        """Return the nodes of the network from which a tensor of the graph is made."""
        found, todo, seen = set(), [made_by], set()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            i = self.node_of(name)
            if i is not None:
                found.add(i)
            else:
                todo.extend(n.name for n in self.graph[name].all_input_nodes)
        return tuple(sorted(found))

    def labels(self, made_by: str, known: Mapping[int, Tensor], *, ordered: bool = False) -> Tensor:
        """Label a tensor of the graph.

        Args:
            made_by: Its name.
            known: Labels of the network's nodes from which it is made.
            ordered: Whether the first of several winners is told apart.

        Raises:
            CannotLabel: Names the operation that cannot be followed.
        """
        self.ordered = ordered
        todo, seen = [self.graph[made_by]], dict[str, Any]()
        while todo:  # no recursion: graphs can be deep
            node = todo[-1]
            waiting = (
                []
                if self._is_known(node)
                else [n for n in node.all_input_nodes if n.name not in seen]
            )
            if waiting:
                todo.extend(waiting)
                continue
            seen[node.name] = self._label(node, seen, known)
            todo.pop()
        found = seen[made_by]
        if not isinstance(found, _Labelled):
            raise CannotLabel(f"{made_by} does not depend on the data")
        return found.labels

    def _is_known(self, node: fx.Node) -> bool:
        return self.node_of(node.name) is not None or node.op == "placeholder"

    def _label(self, node: fx.Node, seen: Mapping[str, Any], known: Mapping[int, Tensor]) -> Any:
        i = self.node_of(node.name)
        if i is not None:
            return _Labelled(known[i])
        if node.op == "placeholder":
            return self.net.program.bindings[node.name]()
        if node.target is operator.getitem:
            return seen[node.args[0].name][node.args[1]]  # type: ignore[union-attr, index]
        present = [seen[n.name] for n in node.all_input_nodes]
        if not any(isinstance(p, _Labelled | _Winner) for p in present):
            args, kwargs = map_arg((node.args, node.kwargs), lambda n: seen[n.name])
            return node.target(*args, **kwargs)  # type: ignore[operator]
        return self._called(node, arguments_of(node, seen))

    def _called(self, node: fx.Node, arguments: dict[str, Any]) -> Any:
        name = str(node.target)
        short = name.split(".")[1] if "." in name else name
        first = next(a for a in arguments.values() if isinstance(a, _Labelled | _Winner))
        if name in _SAME:
            return first
        if short == "one_hot" and isinstance(first, _Winner):
            return _Labelled(first.one_hot(self.sizes, self.ordered))
        if isinstance(first, _Winner):
            raise CannotLabel(f"{node.name} computes with the position of a maximum")
        if short == "argmax" and arguments["dim"] is not None and not arguments["keepdim"]:
            return _Winner(first.labels.movedim(arguments["dim"] % first.labels.ndim, 1))
        if name in _MOVES:
            return _Labelled(self._moved(node, first.labels))
        if short in _ENTRYWISE:
            return _Labelled(self._entrywise(node, arguments))
        if short in _REDUCTIONS:
            return _Labelled(self._reduced(name, first.labels, arguments))
        raise CannotLabel(f"{name} in the making of gates cannot be followed")

    def _moved(self, node: fx.Node, labels: Tensor) -> Tensor:
        """Apply a move to as many fields at a time as the graph has examples."""

        def apply(t: Tensor) -> Tensor:
            args, kwargs = map_arg((node.args, node.kwargs), lambda n: t)
            return node.target(*args, **kwargs)  # type: ignore[operator, no-any-return]

        count = torch.arange(self.batch).reshape(-1, *[1] * (labels.ndim - 1))
        counted = apply(count.expand(-1, *labels.shape[1:]))
        if counted.shape[0] != self.batch or not bool(
            (counted.movedim(0, -1) == torch.arange(self.batch)).all()
        ):
            raise CannotLabel(f"{node.name} moves the axis that counts the examples")
        fields = labels.shape[0]
        padded = torch.cat([labels, labels.new_zeros(-fields % self.batch, *labels.shape[1:])])
        return torch.cat([apply(part) for part in torch.split(padded, self.batch)])[:fields]

    def _entrywise(self, node: fx.Node, arguments: Mapping[str, Any]) -> Tensor:
        shape = tuple(node.meta["val"].shape[1:])
        operands = [a for a in arguments.values() if isinstance(a, _Labelled | Tensor)]
        others = [str(a) for a in arguments.values() if not isinstance(a, _Labelled | Tensor)]
        fields = 1 + 2 * len(self.sizes)
        found = []
        for operand in operands:
            if isinstance(operand, Tensor):
                labels = of_constants(
                    self._one(node, operand.detach(), len(shape)), len(self.sizes)
                )
            else:
                labels = operand.labels
            lead = [1] * (len(shape) + 1 - labels.ndim)
            found.append(labels.reshape(fields, *lead, *labels.shape[1:]).expand(fields, *shape))
        tag = _number([str(node.target), *others])
        return in_order(torch.stack(found, 1), tag, vanishes=False)

    def _one(self, node: fx.Node, value: Tensor, rank: int) -> Tensor:
        if value.ndim <= rank:
            return value
        if not bool((value == value[:1]).all()):
            raise CannotLabel(f"{node.name} uses a constant that differs from example to example")
        return value[0]

    def _reduced(self, name: str, labels: Tensor, arguments: Mapping[str, Any]) -> Tensor:
        dims = arguments.get("dim")
        dims = [dims] if isinstance(dims, int) else list(dims or [])
        dims = sorted(d % labels.ndim for d in dims)
        if not dims or 0 in dims:
            raise CannotLabel(f"{name} mixes the examples of a batch")
        gathered = labels.movedim(dims, list(range(1, 1 + len(dims)))).flatten(1, len(dims))
        total = in_any_order(gathered, self.sizes, _number([name]), vanishes=False)
        if arguments.get("keepdim"):
            for d in dims:
                total = total.unsqueeze(d)
        return total


class _Labelled:
    """Hold the labels of a tensor that depends on the data."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels


class _Winner:
    """Hold the candidates of a maximum of which only the position is kept."""

    def __init__(self, candidates: Tensor) -> None:
        self.candidates = candidates  # (fields, candidate, *shape)

    def one_hot(self, sizes: Sequence[int], ordered: bool) -> Tensor:
        """Label the marks of the winner, candidates on the last axis."""
        return won(self.candidates, sizes, ordered=ordered).movedim(1, -1)


def won(candidates: Tensor, sizes: Sequence[int], *, ordered: bool) -> Tensor:
    r"""Label the gates of a maximum, which is 1 at the winner.

    Args:
        candidates: Labels, shape (fields, candidate, \*shape).
        sizes: Spatial sizes of the data.
        ordered: Whether the first of several winners is told apart; else there are no ties, or
            they are shared.
    """
    field = (
        in_order(candidates, 11, vanishes=False)
        if ordered
        else in_any_order(candidates, sizes, 11, vanishes=False)
    )
    pairs = torch.stack([candidates, field[:, None].expand_as(candidates)], 1)
    return in_order(pairs, 12, vanishes=False)


def _number(words: Sequence[str]) -> int:
    """Return a 63-bit number for some words."""
    return int.from_bytes(blake2b("\0".join(words).encode(), digest_size=8).digest()) >> 1
