"""Reading a module: export it, lower it, and check that the reading reproduces it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind

from reluctant.theory import (
    rules_choices,  # noqa: F401  (fills the rule table)
    rules_gates,  # noqa: F401
    rules_maxima,  # noqa: F401
    rules_moves,  # noqa: F401
    rules_products,  # noqa: F401
    rules_resampling,  # noqa: F401
    rules_routing,  # noqa: F401
    rules_scales,  # noqa: F401
    rules_sums,  # noqa: F401
    rules_weights,  # noqa: F401
    rules_writes,  # noqa: F401
)
from reluctant.theory.entries import Entries
from reluctant.theory.errors import InputError, ReluctantError, UnsupportedOperation
from reluctant.theory.exporting import EXPORT, export, output_of
from reluctant.theory.inputs import check_example, check_module, run_once
from reluctant.theory.lowered import Call, Lowered, Path, Static, Unreadable, arguments_of
from reluctant.theory.lowering import Lowering
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Input
from reluctant.theory.operands import check_weights
from reluctant.theory.parts import Until, batch_axis, ended, named_by_module, whole
from reluctant.theory.places import place_of
from reluctant.theory.plugin_rules import rule_table
from reluctant.theory.replay import Program
from reluctant.theory.rounding import output_bound
from reluctant.theory.twins import twin


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
        Four forward passes and one export (20 ms for a small module).
    """
    try:
        return read(module, example)[0]
    except UnsupportedOperation as error:
        part = readable_part(module, example, error)
        if part is not None:
            error.until = part.target
            error.add_note(
                "what comes before it can be read: "
                f"reluctant.check(module, example, until={part.target!r})"
            )
        raise


def readable_part(module: nn.Module, example: Tensor, error: UnsupportedOperation) -> Until | None:
    """Return the largest part before what was refused that can be read, None if there is none.

    Of the tensors that the refused operation reads it is the one with most weights before it. Where
    torch.export failed it is the last part of the module that had run by then.

    Args:
        module: Module that was refused.
        example: Inputs.
        error: The refusal.
    """
    for target in error.parts:
        part = named_by_module(Until(whole(module), target), example)
        with contextlib.suppress(ReluctantError):
            if read(part, example)[0].weighted:
                return part
    return None


def read(module: nn.Module, example: Tensor) -> tuple[PathNetwork, torch.export.ExportedProgram]:
    """Do what :func:`trace` does, and return the exported program too.

    Args:
        module: As for :func:`trace`.
        example: As for :func:`trace`.
    """
    check_example(example)
    check_module(module, example)
    net, exported, lower = _read(module, example)
    _check_elsewhere(net, lower)
    if lower.borrowed:
        _check_borrowed(*_read(twin(module), example))
    return net, exported


def _read(
    module: nn.Module, example: Tensor
) -> tuple[PathNetwork, torch.export.ExportedProgram, Lowering]:
    with EXPORT:
        copied = twin(module)
        eager = run_once(copied, example.clone())
        exported = export(whole(copied), example)
    net, lower = _lower(module, whole(copied), exported, example)
    check_weights(net)
    _check_changed_buffers(exported, net)
    _check_gates(net, example)
    _check_reading(net, example, eager, lower.borrowed.values())
    return net, exported, lower


def _lower(
    module: nn.Module, twin: nn.Module, exported: torch.export.ExportedProgram, example: Tensor
) -> tuple[PathNetwork, Lowering]:
    lower = Lowering(batch=example.shape[0], dtype=example.dtype, rules=rule_table())
    bindings, data = _bind(module, twin, exported, lower, example)
    output_name = ended(exported.graph, module, lower.batch) or output_of(exported)
    for node in exported.graph.nodes:
        if node.op == "call_function":
            lower.lowered[node.name] = _lower_call(lower, node)
        elif node.op == "get_attr":
            lower.lowered[node.name] = Unreadable(
                UnsupportedOperation(
                    f"{place_of(node)}: a sub-graph cannot be read", operation=str(node.target)
                )
            )
        if node.name == output_name:
            break
    output = lower.lowered.get(output_name)
    if isinstance(output, Unreadable):
        output.error.parts = _parts(lower, exported.graph, output.error.node)
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


def _parts(lower: Lowering, graph: fx.Graph, refused: str) -> tuple[str, ...]:
    """Return the tensors that can be read before a node that cannot, most weights first."""
    nodes = {node.name: node for node in graph.nodes}
    todo, seen = [nodes[refused]] if refused else [], set[str]()
    found: dict[str, int] = {}
    while todo:
        for node in todo.pop().all_input_nodes:
            known = lower.lowered[node.name]
            if node.name in seen:
                continue
            seen.add(node.name)
            axis = batch_axis(node.meta.get("val"), lower.batch)
            if isinstance(known, Path) and known.batch == axis and known.node:
                found[f"%{node.name}"] = lower.size_before(known.node)
            else:
                todo.append(node)
    return tuple(sorted(found, key=lambda name: -found[name]))


def _lower_call(lower: Lowering, node: fx.Node) -> Lowered:
    value = node.meta.get("val")
    shape = tuple(value.shape) if isinstance(value, Tensor) else None
    call = Call(node, arguments_of(node, lower.lowered), shape, place_of(node))
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
            tensor: Tensor = whole(module).get_parameter(target)
            entries = Entries.whole(tensor.shape)
            known = Static(lambda t=tensor: t, True, first_name[id(tensor)], id(tensor), entries)  # type: ignore[misc]
            bindings[name] = lambda t=tensor: t  # type: ignore[misc]
        else:
            held = (
                exported.constants[target]
                if target in exported.constants
                else _buffer(whole(module), twin, target)
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


def _check_elsewhere(net: PathNetwork, lower: Lowering) -> None:
    """Check a reading at inputs that are unlike each other, unless the module can take no such.

    Where all examples are alike, nothing else tells what mixes them from what does not.
    """
    program = net.program
    drawn = torch.randn(program.example_shape, generator=torch.Generator().manual_seed(1))
    x = drawn.to(program.device, program.dtype)
    try:
        eager = run_once(twin(net.module), x.clone())
    except InputError:
        return
    _check_reading(net, x, eager, lower.borrowed.values())


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
    generator = torch.Generator().manual_seed(0)
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
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter))
    _check_elsewhere(net, lower)


def _check_changed_buffers(exported: torch.export.ExportedProgram, net: PathNetwork) -> None:
    """Raise if the output depends on a buffer that every run changes."""
    changed = set(exported.graph_signature.buffers_to_mutate.values())
    held = {n: b for n, b in exported.graph_signature.inputs_to_buffers.items() if b in changed}
    nodes = {node.name: node for node in exported.graph.nodes}
    todo, seen = [nodes[net.program.output]], set[fx.Node]()
    while todo:
        node = todo.pop()
        if node.name in held:
            user = next(user for user in node.users if user in seen)
            raise UnsupportedOperation(
                f"{place_of(user)}: {user.target} reads the buffer {held[node.name]}, which every run "
                "changes, so that no two runs have the same output; hold it constant",
                operation=str(user.target),
                where=place_of(user),
                node=user.name,
            )
        if node not in seen:
            seen.add(node)
            todo.extend(node.all_input_nodes)


def _check_gates(net: PathNetwork, example: Tensor) -> None:
    """Raise if gates of the first example change with the others, as far as one run can tell."""
    made = [
        g for g, layer in enumerate(net.gate_layers) if layer.kind == "mask" and not layer.moves
    ]
    if not made or len(example) == 1:
        return
    others = torch.cat([example[:1], -2.0 * example[1:] - 1.0])
    graph = net.program.graph
    gates, again = net.program.run(example).gates, net.program.run(others).gates
    for g in made:
        layer = net.gate_layers[g]
        if not torch.equal(gates[g][:1], again[g][:1]):
            raise UnsupportedOperation(
                f"{layer.place}: the gates of {layer.name} at one example depend on the other examples "
                "of the batch; make them of each example by itself",
                operation=next(str(n.target) for n in graph.nodes if n.name == layer.name),
                where=layer.place,
            )


def _check_reading(
    net: PathNetwork, example: Tensor, eager: Tensor, borrowed: Iterable[str]
) -> None:
    """Raise unless the paths add up to the module's own output, up to rounding."""
    run = net.program.run(example)
    ours = net.forward(example.double(), run.gates, net.weight_values())
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
