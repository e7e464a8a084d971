"""A module up to one of its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.fx.node import map_arg

from reluctant.theory.errors import InputError, ReluctantError
from reluctant.theory.exporting import EXPORT, export
from reluctant.theory.inputs import run_once
from reluctant.theory.twins import twin


class _Reached(BaseException):
    """Carry the output of a module out of the forward that called it; no ``except`` stops it."""

    def __init__(self, part: Until, output: Any) -> None:
        super().__init__()
        self.part, self.output = part, output


class Until(nn.Module):
    r"""Run a module as far as one of its tensors.

    Args:
        network: Module of one tensor, (n, \*input).
        target: Path of one of its modules, such as ``features.7``, for what that returns when it is
            first called; or, with a percent sign, the name of a node of the exported graph, such as
            ``%linear_2``.

    Raises:
        InputError: If there is no such module; when it runs, if there is no such node, or what is
            there is no tensor.
    """

    def __init__(self, network: nn.Module, target: str) -> None:
        """Look the module up; nodes are looked up when it runs."""
        super().__init__()
        self.network, self.target = network, target
        self.node = target[1:] if target.startswith("%") else ""
        self._graphs = _Graphs()
        self.train(network.training)
        if not self.node:
            self._module()

    def forward(self, x: Tensor) -> Tensor:
        r"""Return the tensor, (n, \*part); that of a node with the axis of examples moved first.

        Args:
            x: (n, \*input).
        """
        if self.node:
            found = self._graphs.at(self, x).run(self, x)
            found = found.movedim(axis, 0) if (axis := batch_axis(found, len(x))) else found
        else:
            found = self._reached(x)
        if not isinstance(found, Tensor):
            raise InputError(
                f"{self.target} gives a {type(found).__name__}, no tensor; name another module, or a "
                "node such as %relu_1"
            )
        return found

    def _module(self) -> nn.Module:
        paths: dict[str, nn.Module] = dict(self.network.named_modules())
        for path in (self.target, f"network.{self.target}"):  # that of several inputs side by side
            if path in paths and self.target:
                return paths[path]
        known = [path for path in paths if path]
        shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        raise InputError(f"there is no module {self.target!r}; there are {shown or 'none'}")

    def _reached(self, x: Tensor) -> Any:
        def stop(_module: nn.Module, _arguments: Any, output: Any) -> None:
            raise _Reached(self, output)

        hook = self._module().register_forward_hook(stop)
        proxies = get_proxy_mode()
        entered = {} if proxies is None else proxies.tracer.module_stack
        before = dict(entered)
        try:
            self.network(x)
        except _Reached as reached:
            if reached.part is not self:
                raise
            entered.clear()  # torch.export notes only those that were left in order
            entered.update(before)
            return reached.output
        finally:
            hook.remove()
        raise InputError(f"{self.target} is not called on such an input; name another module")


def until(module: nn.Module, target: str) -> Until:
    """Return a module up to one of its tensors, to be read or checked where the whole cannot be.

    Args:
        module: Any module; its parameters are shared, under ``network.``.
        target: As for :class:`Until`.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1), nn.GELU())
        >>> until(net, "2")(torch.zeros(5, 2)).shape
        torch.Size([5, 1])
    """
    return Until(module, target)


def batch_axis(found: Any, count: int) -> int | None:
    """Return the first axis of a tensor that can count its examples, None if none can."""
    sizes: list[Any] = list(found.shape) if isinstance(found, Tensor) else []
    sizes = [size if isinstance(size, int) else None for size in sizes]  # the data may decide one
    return sizes.index(count) if count in sizes else None


def ended(graph: fx.Graph, module: nn.Module, count: int) -> str:
    """Put the axis of examples first at the node where a part ends, and return the node's name.

    Args:
        graph: Exported graph, which is changed.
        module: Module; nothing is done unless it is a part that ends at a node.
        count: Number of examples.
    """
    if not isinstance(module, Until) or not module.node:
        return ""
    (node,) = (node for node in graph.nodes if node.name == module.node)
    value = node.meta["val"]
    axis = batch_axis(value, count)
    if not axis:
        return module.node
    with graph.inserting_after(node):
        moved = graph.call_function(torch.ops.aten.movedim.int, (node, axis, 0))
    moved.meta = {**node.meta, "val": value.movedim(axis, 0)}
    return str(moved.name)


def whole(module: nn.Module) -> nn.Module:
    """Return the module whose graph has the node at which a part ends; others as they are."""
    return module.network if isinstance(module, Until) and module.node else module


def named_by_module(part: Until, example: Tensor) -> Until:
    """Return the same part, named after the outermost module that returns its last tensor.

    Args:
        part: Part that ends at a node; others are returned as they are.
        example: Inputs.
    """
    if not part.node:
        return part
    try:
        wanted, graph = part(example), part._graphs.at(part, example)
        for path in graph.modules_that_end_at(part.node):
            named = Until(part.network, path.removeprefix("network."))
            found = run_once(named, example)
            if found.shape == wanted.shape and torch.equal(found, wanted):
                return named
    except ReluctantError:
        pass
    return part


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    """Be a module's graph at one shape, bound to no parameter.

    Attributes:
        graph: Exported graph.
        data: Name of the data.
        held: For each placeholder the dotted name of the parameter or buffer it stands for.
        constants: For each other placeholder its value.
    """

    graph: fx.Graph
    data: str
    held: dict[str, str]
    constants: dict[str, Any]

    def run(self, part: Until, x: Tensor) -> Any:
        """Run the graph with a module's own tensors, as far as a part's node."""
        values: dict[str, Any] = {}
        for node in self.graph.nodes:
            if node.op == "placeholder":
                values[node.name] = self._bound(node.name, part.network, x)
            elif node.op == "call_function":
                args, kwargs = map_arg((node.args, node.kwargs), lambda n: values[n.name])
                values[node.name] = node.target(*args, **kwargs)
            if node.name == part.node:
                return values.get(node.name)
        names = [node.name for node in self.graph.nodes if node.op == "call_function"]
        raise InputError(f"there is no node {part.target}; there are {', '.join(names)}")

    def _bound(self, name: str, module: nn.Module, x: Tensor) -> Any:
        if name == self.data:
            return x.clone()  # an operation may write into it
        if name not in self.held:
            held = self.constants[name]
            return held.clone() if isinstance(held, Tensor) else held
        found: Any = module
        for attribute in self.held[name].split("."):
            found = getattr(found, attribute)
        return found if isinstance(found, nn.Parameter) else found.clone()

    def modules_that_end_at(self, name: str) -> list[str]:
        """Return the paths of the modules whose last operation is a node, outermost first."""
        inside = {
            node.name: [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
            for node in self.graph.nodes
            if node.op == "call_function"
        }
        order = list(inside)
        later = {path for after in order[order.index(name) + 1 :] for path in inside[after]}
        return [path for path in inside[name] if path and path not in later]


class _Graphs:
    """Remember what was exported. It holds no parameters, so copies of a part may share it."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], _Graph] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _Graphs:
        return self

    def __reduce__(self) -> tuple[type[_Graphs], tuple[()]]:
        return _Graphs, ()

    def at(self, part: Until, x: Tensor) -> _Graph:
        """Return the graph at the shape, type and device of x, exported if it is new."""
        key = (tuple(x.shape), x.dtype, x.device, part.training)
        if key not in self.known:
            with EXPORT:
                exported = export(twin(part.network), x.detach())
            data, held, constants = "", {}, {}
            for spec in exported.graph_signature.input_specs:
                if spec.kind is InputKind.USER_INPUT:
                    data = spec.arg.name
                elif str(spec.target) in exported.constants:
                    constants[spec.arg.name] = exported.constants[str(spec.target)]
                else:
                    held[spec.arg.name] = str(spec.target)
            self.known[key] = _Graph(exported.graph, data, held, constants)
        return self.known[key]
