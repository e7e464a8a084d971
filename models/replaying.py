"""A user's module as a list of operations that can be run again with other gates."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx.node import map_arg

from reluctant.theory.errors import UnsupportedOperation
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, Node, Reindex
from reluctant.theory.parts import whole
from reluctant.theory.tracing import read

Plain = Callable[[], Any]
Activate = Callable[["Site", Tensor, Plain], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Be one operation that gates: a ReLU in any spelling, or a max pooling.

    Attributes:
        name: Name of the operation in the graph.
        operand: Name of its operand, which holds the pre-activations.
        place: Where it stands in the user's source.
        windows: How a max pooling sees its operand; None for a ReLU.
    """

    name: str
    operand: str
    place: str
    windows: Windows | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Be the windows of one max pooling.

    Attributes:
        index: For every entry of every window its place in the flattened example, padding last.
        inside: False for padding, (1, entry, *position).
        shape: Shape of one example's result.
        is_shared: Whether tied winners share (amax) or the first takes all (max_pool).
    """

    index: Tensor
    inside: Tensor
    shape: tuple[int, ...]
    is_shared: bool

    def entries(self, t: Tensor) -> Tensor:
        """Return (n, entry, *position), 0 for padding."""
        flat = nn.functional.pad(t.flatten(1), (0, 1))
        found = flat.index_select(1, self.index.to(t.device))
        return found.reshape(t.shape[0], *self.inside.shape[1:])

    def winners(self, q: Tensor, largest: Tensor) -> Tensor:
        """Return the gates: 1 for the winning entry of each window, or 1/k for k that tie."""
        largest = largest.reshape(q.shape[0], 1, *self.inside.shape[2:])
        winning = (self.entries(q) == largest) & self.inside.to(q.device)
        if self.is_shared:
            return winning.to(q.dtype) / winning.count_nonzero(1).unsqueeze(1)
        return (winning & (winning.cumsum(1) == 1)).to(q.dtype)

    def gated(self, t: Tensor, gates: Tensor) -> Tensor:
        """Return the sum over each window of what the gates let through."""
        return (self.entries(t) * gates).sum(1).reshape(t.shape[0], *self.shape)

    def average(self, t: Tensor) -> Tensor:
        """Return the mean over each window, padding counted as 0."""
        return self.entries(t).mean(1).reshape(t.shape[0], *self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """Be a module's operations at one static input shape, bound to no parameter.

    Attributes:
        nodes: The operations that the output needs, in order.
        output: Name of the last of them.
        data: Name of the data.
        held: For each placeholder the dotted name of the parameter or buffer it stands for.
        trained: The placeholders among them that stand for parameters.
        constants: For each other placeholder its tensor.
        sites: The gating operations, by name, in the order of execution.
    """

    nodes: tuple[fx.Node, ...]
    output: str
    data: str
    held: Mapping[str, str]
    trained: frozenset[str]
    constants: Mapping[str, Any]
    sites: Mapping[str, Site]

    def run(self, module: nn.Module, x: Tensor, activate: Activate) -> Tensor:
        """Run the operations with a module's tensors, gating operations as told.

        Args:
            module: Gives parameters and buffers by name.
            x: Data, of the shape that was read.
            activate: Called at every gating operation with it, its operand, and a function that
                runs it as it stands in the module.

        Returns:
            The output.
        """
        values: dict[str, Any] = {}
        for node in self.nodes:
            name = node.name
            if node.op == "placeholder":
                values[name] = self._bound(name, module, x)
                continue
            plain = functools.partial(_call, node, values)
            if name in self.sites:
                site = self.sites[name]
                activated = activate(site, values[site.operand], plain)
                is_tuple = isinstance(node.meta.get("val"), tuple | list)
                values[name] = (activated, None) if is_tuple else activated
            else:
                values[name] = plain()
        output: Tensor = values[self.output]
        return output

    def _bound(self, name: str, module: nn.Module, x: Tensor) -> Any:
        if name == self.data:
            return x
        if name not in self.held:
            held = self.constants[name]
            return held.clone() if isinstance(held, Tensor) else held
        tensor: Any = module
        for part in self.held[name].split("."):
            tensor = getattr(tensor, part)
        return tensor if name in self.trained else tensor.clone()


def _call(node: fx.Node, values: Mapping[str, Any]) -> Any:
    args, kwargs = map_arg((node.args, node.kwargs), lambda n: values[n.name])
    target: Any = node.target
    return target(*args, **kwargs)


def read_script(module: nn.Module, example: Tensor) -> Script:
    """Read a module through torch.export, and find its gating operations.

    Args:
        module: Module that maps (n, …) to (n, …); left as it is.
        example: Inputs of the shape and type to be used.

    Returns:
        The operations. The reading has been checked to reproduce the module's output.

    Raises:
        InputError: If the example or the weights cannot be used.
        UnsupportedOperation: If an operation is neither linear in the data nor a ReLU nor a max
            pooling; names it and its place.
    """
    net, exported = read(module, example)
    held, constants = _bindings(exported, "" if whole(module) is module else "network.")
    trained = frozenset(exported.graph_signature.inputs_to_parameters)
    output, data = net.program.output, net.program.data
    needed = _needed(net.program.graph, output)
    return Script(needed, output, data, held, trained, constants, _sites(net, needed))


def _bindings(exported: ExportedProgram, inside: str) -> tuple[dict[str, str], dict[str, Any]]:
    held: dict[str, str] = {}
    constants: dict[str, Any] = {}
    for spec in exported.graph_signature.input_specs:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            held[spec.arg.name] = f"{inside}{spec.target}"
        elif spec.kind is not InputKind.USER_INPUT:
            constants[spec.arg.name] = exported.constants[str(spec.target)]
    return held, constants


def _needed(graph: fx.Graph, output: str) -> tuple[fx.Node, ...]:
    """Return what the output depends on, and mutations of it, in the order of the graph."""
    nodes = [node for node in graph.nodes if node.op in ("placeholder", "call_function")]
    wanted = {output}
    for node in reversed(nodes):
        changes = getattr(getattr(node.target, "_schema", None), "is_mutable", False)
        if node.name in wanted or (changes and node.all_input_nodes[0].name in wanted):
            wanted.add(node.name)
            wanted.update(operand.name for operand in node.all_input_nodes)
    return tuple(node for node in nodes if node.name in wanted)


_OTHER = {
    "mask": "a product with a mask, and a gated twin needs to know the pre-activation of its gates",
    "leaky": "a leaky ReLU or an absolute value, and the gates of a gated twin are open or shut",
    "clip": "a clipped ramp, and the gates of a gated twin are those of ReLUs",
}


def _sites(net: PathNetwork, needed: Sequence[fx.Node]) -> dict[str, Site]:
    by_name: dict[str, list[Node]] = {}
    for node in net.nodes:
        by_name.setdefault(node.name, []).append(node)
    moving = _depending(needed, net.program.data)
    graph = {node.name: node for node in needed}
    sites: dict[str, Site] = {}
    for layer, (recorded, _) in zip(net.gate_layers, net.program.probes, strict=True):
        if layer.name not in graph:
            continue
        if layer.kind not in ("relu", "max"):
            raise UnsupportedOperation(
                f"{layer.place}: {layer.name} is {_OTHER[layer.kind]}; write torch.relu, "
                "clamp(min=0), threshold(0, 0), maximum with zeros, or a max pooling",
                operation=str(graph[layer.name].target),
                where=layer.place,
            )
        call = graph[layer.name]
        read = [n for n in call.all_input_nodes if n.name in moving and n.name != layer.made_by]
        operand = next((n for n in read if n.name == recorded), read[0])
        windows = None
        of_two = any(isinstance(p, Reindex) and len(p.operands) > 1 for p in by_name[layer.name])
        if layer.kind == "max" and (of_two or layer.batch != 0):
            raise UnsupportedOperation(
                f"{layer.place}: {layer.name} is a maximum of two tensors, or of one whose examples do "
                "not come first, and a gated twin knows no others; write torch.stack((a, b), 1).amax(1)",
                operation=str(call.target),
                where=layer.place,
            )
        if layer.kind == "max":
            windows = _windows(call, operand, by_name[layer.name], layer.ties == "shared")
        sites[layer.name] = Site(layer.name, operand.name, layer.place, windows)
    return {node.name: sites[node.name] for node in needed if node.name in sites}


def _windows(node: fx.Node, operand: fx.Node, parts: Sequence[Node], is_shared: bool) -> Windows:
    """Find the windows by sending the numbers of the entries through the moves before the gates."""
    size = tuple(operand.meta["val"].shape[1:])
    numbers = torch.arange(1, 1 + math.prod(size), dtype=torch.float64).reshape(1, *size)
    for part in itertools.takewhile(lambda part: not isinstance(part, Gate), parts):
        if isinstance(part, Reindex):  # and not the sign that makes the smallest the largest
            numbers = part.move([numbers])
    inside = numbers > 0
    index = torch.where(inside, numbers - 1, float(math.prod(size))).long().flatten()
    value = node.meta["val"]
    result = value[0] if isinstance(value, tuple | list) else value
    return Windows(index, inside, tuple(result.shape[1:]), is_shared)


def _depending(nodes: Sequence[fx.Node], data: str) -> set[str]:
    moving = {data}
    for node in nodes:
        if any(operand.name in moving for operand in node.all_input_nodes):
            moving.add(node.name)
    return moving


def is_abstract(x: Tensor) -> bool:
    """Tell whether a tensor has no numbers, as while torch exports or compiles."""
    return bool(torch.compiler.is_compiling()) or isinstance(x, torch._subclasses.FakeTensor)


def first_of(result: Any) -> Tensor:
    """Return a tensor, or the first of several."""
    found: Tensor = result[0] if isinstance(result, tuple | list) else result
    return found
