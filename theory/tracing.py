"""Reading a module: export it, lower it, and check that the reading reproduces it."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from reluctant.theory import (
    rules_choices,  # noqa: F401  (fills the rule table)
    rules_gates,  # noqa: F401
    rules_resampling,  # noqa: F401
    rules_routing,  # noqa: F401
    rules_scales,  # noqa: F401
    rules_sums,  # noqa: F401
    rules_weights,  # noqa: F401
    rules_writes,  # noqa: F401
)
from reluctant.theory.errors import InputError, UnsupportedOperation
from reluctant.theory.inputs import check_example, check_module, run_once
from reluctant.theory.lowered import Call, Lowered, Path, Static, Unreadable, arguments_of
from reluctant.theory.lowering import Lowering
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Input
from reluctant.theory.operands import check_weights
from reluctant.theory.places import first_line, is_user, user_frame
from reluctant.theory.plugin_rules import rule_table
from reluctant.theory.replay import Program
from reluctant.theory.rounding import output_bound
from reluctant.theory.twins import twin

_EXPORT = threading.RLock()  # torch.export patches nn.Module while it works
_THRESHOLDS = ("aten.threshold.default", "aten.threshold_.default")
_VIEWS = (
    "view",
    "slice",
    "select",
    "chunk",
    "split",
    "transpose",
    "permute",
    "expand",
    "squeeze",
    "narrow",
    "flatten",
    "unbind",
    "alias",
    "detach",
    "reshape",
    "getitem",
)


def trace(module: nn.Module, example: Tensor) -> PathNetwork:
    r"""Read a module as a gated path network.

    The module is run once, exported with ``torch.export``, and each of its tensor operations is
    classified by one rule table. Module, functional, in-place, reused and shared ReLUs read alike.

    Args:
        module: Any module with one tensor argument and one tensor result, (n, \*input) to
            (n, \*output). Its hooks, mode, buffers and types are left as they are.
        example: Inputs of the shape, type and device to be used, batch axis first, n ≥ 1.

    Returns:
        The path network. It has been checked to reproduce the module's output on the example.

    Raises:
        InputError: If the example or the weights cannot be used; says what to do.
        UnsupportedOperation: If an operation on a path to the output is neither weighted, nor
            routing, nor a source, nor a gate; names it and its place in the user's source.

    Cost:
        Two forward passes and one export (20 ms for a small module, 0.3 s for a ResNet-18).
    """
    return read(module, example)[0]


def read(module: nn.Module, example: Tensor) -> tuple[PathNetwork, torch.export.ExportedProgram]:
    """Do what :func:`trace` does, and return the exported program too.

    Args:
        module: As for :func:`trace`.
        example: As for :func:`trace`.
    """
    check_example(example)
    check_module(module, example)
    net, exported, lower = _read(module, example)
    if lower.borrowed:
        _check_borrowed(*_read(twin(module), example))
    return net, exported


def _read(
    module: nn.Module, example: Tensor
) -> tuple[PathNetwork, torch.export.ExportedProgram, Lowering]:
    with _EXPORT:
        copied = twin(module)
        eager = run_once(copied, example.clone())
        with _export_in_peace():
            exported = _export(copied, example)
    net, lower = _lower(module, copied, exported, example)
    check_weights(net)
    _check_reading(net, example, eager, lower.borrowed.values())
    return net, exported, lower


@contextmanager
def _export_in_peace() -> Iterator[None]:
    """Give export a deep stack, and keep its own warnings and logs from the user."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 10_000))
    loggers = [
        logging.getLogger(name)
        for name in ("torch.fx.experimental.symbolic_shapes", "torch.export", "torch._export")
    ]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        sys.setrecursionlimit(limit)


def _export(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    try:
        with torch.no_grad():
            exported = torch.export.export(module, (example,), strict=False)
        if _mutates_a_view(exported.graph):
            exported = exported.run_decompositions({})
    except Exception as error:
        where = user_frame(error)
        reason = (
            "the forward branches on the values of its data (an if, a while or a size that they "
            "decide), so it is no path network; use torch.where or gates"
            if isinstance(error, GuardOnDataDependentSymNode)
            else f"torch.export cannot follow the module: {first_line(error)} Write this part with "
            "operations on tensors"
        )
        raise UnsupportedOperation(
            f"{where}{reason}",
            operation="torch.export",
            where=where.rstrip(": "),
        ) from error
    return exported


def _write_out_thresholds(graph: fx.Graph) -> None:
    """Write a threshold as the choice that it is, unless it is a ReLU."""
    for node in [n for n in graph.nodes if str(n.target) in _THRESHOLDS and any(n.args[1:])]:
        q, edge, value = node.args
        with graph.inserting_before(node):
            above = graph.call_function(torch.ops.aten.gt.Scalar, (q, edge))
            chosen = graph.call_function(torch.ops.aten.where.ScalarOther, (above, q, value))
        above.meta = {**node.meta, "val": q.meta["val"] > edge}
        chosen.meta = dict(node.meta)
        node.replace_all_uses_with(chosen)
        graph.erase_node(node)


def _mutates_a_view(graph: fx.Graph) -> bool:
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable or not node.all_input_nodes:
            continue
        changed = node.all_input_nodes[0]
        seen_later = any(user is not node for user in changed.users)
        if (
            changed.op == "placeholder"
            or seen_later
            or any(v in str(changed.target) for v in _VIEWS)
        ):
            return True
    return False


def _place(node: fx.Node) -> str:
    """Return file and line of a call in the user's source, or else its module's path."""
    for line in reversed((node.meta.get("stack_trace") or "").splitlines()):
        line = line.strip()
        if line.startswith('File "'):
            filename, _, rest = line[6:].partition('", line ')
            if is_user(filename):
                return f"{FilePath(filename).name}:{rest.split(',')[0]}"
    stack = node.meta.get("nn_module_stack") or {}
    for path, kind in reversed(list(stack.values())):
        name = kind if isinstance(kind, str) else kind.__name__
        return f"{path or 'the module'} ({name.rsplit('.', 1)[-1]})"
    return node.name


def _lower(
    module: nn.Module, twin: nn.Module, exported: torch.export.ExportedProgram, example: Tensor
) -> tuple[PathNetwork, Lowering]:
    lower = Lowering(batch=example.shape[0], dtype=example.dtype, rules=rule_table())
    bindings, data = _bind(module, twin, exported, lower, example)
    _write_out_thresholds(exported.graph)
    kinds = [spec.kind for spec in exported.graph_signature.output_specs]
    output_name = exported.graph.output_node().args[0][kinds.index(OutputKind.USER_OUTPUT)].name
    for node in exported.graph.nodes:
        if node.op == "call_function":
            lower.lowered[node.name] = _lower_call(lower, node)
        elif node.op == "get_attr":
            lower.lowered[node.name] = Unreadable(
                UnsupportedOperation(
                    f"{_place(node)}: a sub-graph cannot be read", operation=str(node.target)
                )
            )
    output = lower.lowered.get(output_name)
    if isinstance(output, Unreadable):
        raise output.error
    if not isinstance(output, Path) or output.batch != 0:
        raise InputError(
            "the module's output does not depend on the data along paths; nothing can be checked"
        )
    on_paths = {weight.parameter: weight.name for weight in lower.weights}
    for layer in lower.gate_layers:
        if layer.slope in on_paths:
            raise UnsupportedOperation(
                f"{layer.place}: {on_paths[layer.slope]} makes gates, as the slope of {layer.name}, and "
                "is a weight on paths too; use one parameter for each",
                operation="aten.prelu.default",
                where=layer.place,
            )
    program = Program(
        graph=exported.graph,
        bindings=bindings,
        data=data,
        output=output_name,
        probes=tuple(lower.probes),
        example_shape=tuple(example.shape),
        dtype=example.dtype,
        device=example.device,
    )
    net = PathNetwork(
        nodes=tuple(lower.nodes),
        output=output.node,
        weights=tuple(lower.weights),
        gate_layers=tuple(lower.gate_layers),
        program=program,
        module=module,
        notes=tuple(lower.notes),
    )
    return net, lower


def _lower_call(lower: Lowering, node: fx.Node) -> Lowered:
    value = node.meta.get("val")
    shape = tuple(value.shape) if isinstance(value, Tensor) else None
    call = Call(node, arguments_of(node, lower.lowered), shape, _place(node))
    return lower.lower(call)


def _bind(
    module: nn.Module,
    twin: nn.Module,
    exported: torch.export.ExportedProgram,
    lower: Lowering,
    example: Tensor,
) -> tuple[dict[str, Callable[[], Any]], str]:
    """Tie every placeholder to the user's own tensor, and enter it into the lowering."""
    first_name = {
        id(p): name for name, p in reversed(list(module.named_parameters(remove_duplicate=False)))
    }
    bindings: dict[str, Callable[[], Any]] = {}
    data = ""
    for spec in exported.graph_signature.input_specs:
        name = spec.arg.name
        if spec.kind is InputKind.USER_INPUT:
            data = name
            lower.nodes.append(Input(name=name, shape=tuple(example.shape[1:]), place="the data"))
            lower.lowered[name] = Path(len(lower.nodes) - 1, tuple(example.shape[1:]))
            continue
        target = str(spec.target)
        if spec.kind is InputKind.PARAMETER:
            tensor: Tensor = module.get_parameter(target)
            entries = torch.arange(tensor.numel()).reshape(tensor.shape)
            known = Static(lambda t=tensor: t, True, first_name[id(tensor)], id(tensor), entries)  # type: ignore[misc]
            bindings[name] = lambda t=tensor: t  # type: ignore[misc]
        else:
            held = (
                exported.constants[target]
                if target in exported.constants
                else _buffer(module, twin, target)
            )
            known = Static(lambda t=held: t, name=target, node=name)  # type: ignore[misc]
            bindings[name] = lambda t=held: t.clone() if isinstance(t, Tensor) else t  # type: ignore[misc]
        lower.lowered[name] = known
    return bindings, data


def _buffer(module: nn.Module, twin: nn.Module, target: str) -> Tensor:
    try:
        return module.get_buffer(target)
    except AttributeError:
        return twin.get_buffer(target)


def _check_borrowed(
    net: PathNetwork, exported: torch.export.ExportedProgram, lower: Lowering
) -> None:
    """Check a reading at other inputs, and with other parameters where others' rules meet them.

    A rule that takes the present value of a parameter for a constant, or that is right because the
    parameter is 1, gives the output of the example all the same.

    Args:
        net: Network read from a module that may be changed.
        exported: Its exported program.
        lower: What its graph became.
    """
    generator, program = torch.Generator().manual_seed(0), net.program

    def drawn(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)

    met = {node for call in lower.borrowed for node in call.all_input_nodes}
    waiting, static = list(met), set()
    while waiting:
        node = waiting.pop()
        if node not in static and isinstance(lower.lowered[node.name], Static):
            static.add(node)
            waiting += node.all_input_nodes
    names = exported.graph_signature.inputs_to_parameters
    with torch.no_grad():
        for name in sorted(names[node.name] for node in static if node.name in names):
            parameter = net.module.get_parameter(name)
            parameter.add_(drawn(parameter))
    x = drawn(torch.empty(program.example_shape, dtype=program.dtype, device=program.device))
    _check_reading(net, x, run_once(twin(net.module), x.clone()), lower.borrowed.values())


def _check_reading(
    net: PathNetwork, example: Tensor, eager: Tensor, borrowed: Iterable[str]
) -> None:
    """Raise unless the paths add up to the module's own output, up to rounding."""
    run = net.program.run(example)
    weights = net.weight_values()
    ours = net.forward(example.double(), run.gates, weights)
    bound = output_bound(net, example, run.gates, dtype=example.dtype)
    error = (ours - eager.double()).abs()
    if not bool((error <= bound).all()):
        rules = "; ".join(dict.fromkeys(borrowed))
        suspects = (
            f"{rules}: look there first"
            if rules
            else "a custom backward, a hook or randomness may be in play: please report the module"
        )
        worst = int((error - bound).flatten().argmax())
        raise UnsupportedOperation(
            f"the reading of {type(net.module).__name__} gives {ours.flatten()[worst]:.6g} where the module gives "
            f"{eager.flatten()[worst]:.6g} (output entry {worst}); {suspects}",
            operation="reading",
        )
