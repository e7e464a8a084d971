r"""Shift symmetry at full size, modulo primes.

At random weights two outputs are equal exactly if the path features are, bundle by bundle. So the
invariance of a kernel is that of one number: f(rot x) with the gates shifted against f(x). Gates of
own pre-activations shift with the data if every tensor that is gated does, which is tried too: the
first layer's then, and so, one after the other, all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reluctant.theory.modular import FieldTrial, Identity, ModularClaim
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate
from reluctant.theory.statements import CannotTry, Mutant
from reluctant.theory.symmetry import ShiftSymmetry, rotate, shift_symmetry

Shift = tuple[int, ...]
Move = Callable[[Tensor, Shift], Tensor]


def drawn_shifts(trial: FieldTrial) -> list[Shift]:
    """Return the least shift along each axis that is claimed to change nothing, and a drawn one."""
    sizes = tuple(trial.net.input_shape[1:])
    if math.prod(sizes) < 2:
        raise CannotTry("the data have no positions that could be shifted")
    found = shift_symmetry(trial.net)
    steps = found.steps if isinstance(found, ShiftSymmetry) else _strides(trial.net, sizes)
    axes = [a for a, (n, step) in enumerate(zip(sizes, steps, strict=True)) if step < n]
    shifts = [tuple(steps[b] if a == b else 0 for a in range(len(sizes))) for b in axes]
    drawn = tuple(
        int(torch.randint(n // step, (), generator=trial.generator)) * step
        for n, step in zip(sizes, steps, strict=True)
    )
    return [*shifts, *([drawn] if any(drawn) and drawn not in shifts else [])]


def _strides(net: PathNetwork, sizes: Shift) -> Shift:
    """Return the largest factor by which gated tensors are smaller than the data, for each axis."""
    steps = [1] * len(sizes)
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Gate) and len(node.shape) > len(sizes):
            for a, (n, size) in enumerate(
                zip(sizes, node.shape[len(node.shape) - len(sizes) :], strict=True)
            ):
                if size > 1 and n % size == 0:
                    steps[a] = max(steps[a], n // size)
    return tuple(steps)


def _rolled(t: Tensor, sizes: Sequence[int], shift: Shift) -> Tensor:
    """Shift a tensor, (n, channels, *positions), whose positions are a fraction of the data's.

    A tensor without positions stays as it is.
    """
    rank = len(sizes)
    if t.ndim < rank + 2:
        return t
    here = t.shape[t.ndim - rank :]
    if any(n % size or (r * size) % n for n, size, r in zip(sizes, here, shift, strict=True)):
        raise CannotTry(f"it is not known how a tensor of shape {tuple(t.shape[1:])} shifts")
    return rotate(t, [r * size // n for n, size, r in zip(sizes, here, shift, strict=True)])


def shifted_gates(net: PathNetwork, gates: Sequence[Tensor], shift: Shift) -> list[Tensor]:
    """Return gates shifted with the data.

    Args:
        net: Network.
        gates: Gates, one tensor a layer.
        shift: Shift of the data, one integer an axis.

    Raises:
        CannotTry: If the positions of a layer are no whole fraction of the data's.
    """
    sizes, found = net.input_shape[1:], []
    for layer, g in zip(net.gate_layers, gates, strict=True):
        source = None if layer.source is None else net.nodes[layer.source].shape
        chosen = layer.kind == "max" and source is not None and len(source) > len(sizes)
        if chosen and source is not None and _lists_all_positions(g, source):
            windows = g.reshape(len(g), *source[1:], -1).movedim(-1, 1)
            moved = _rolled(windows, sizes, shift).movedim(1, -1)
            found.append(moved.reshape(g.shape))
        else:
            found.append(_rolled(g, sizes, shift))
    return found


def _lists_all_positions(t: Tensor, source: Sequence[int]) -> bool:
    """Tell whether all positions of each channel of a source lie along the second axis of a tensor."""
    return (
        t.shape[1] == math.prod(source[1:]) > 1 == math.prod(t.shape[3:])
        and t.shape[2] == source[0]
    )


def _cyclic(x: Tensor, shift: Shift) -> Tensor:
    return rotate(x, shift)


def _filled_with_zeros(x: Tensor, shift: Shift) -> Tensor:
    kept = torch.ones_like(x)
    for axis, r in enumerate(shift):
        size = x.shape[axis - len(shift)]
        inside = (torch.arange(size) + r < size).to(x)
        kept = kept * inside.reshape(-1, *[1] * (len(shift) - 1 - axis))
    return rotate(x, shift) * kept


def gated_nodes(net: PathNetwork) -> tuple[int, ...]:
    """Return the nodes that gates multiply, and those that outside gates are made from."""
    found = [net.nodes[i].operands[0] for i in net.value_nodes if isinstance(net.nodes[i], Gate)]
    made = [net.gate_layers[g].source for g in net.value_gates]
    return tuple(dict.fromkeys([*found, *(i for i in made if i is not None)]))


def tensors_shift_with_the_input(trial: FieldTrial, move: Move = _cyclic) -> Sequence[Identity]:
    """Compare gated tensors at shifted data and gates with shifted tensors, and the outputs."""
    net, sizes = trial.net, trial.net.input_shape[1:]
    gated = gated_nodes(net)
    values = trial.network.values(trial.x, trial.gates, trial.weights, also=gated)
    found = []
    for shift in drawn_shifts(trial):
        gates = shifted_gates(net, trial.gates, shift)
        moved = trial.network.values(move(trial.x, shift), gates, trial.weights, also=gated)
        what = "f(rot x) against f(x)"
        output = moved[net.output].flatten(1)
        found.append(trial.identity(output, trial.graph_output, what))
        for i in gated:
            if len(net.nodes[i].shape) > len(sizes):
                right = _windows_rolled(net, i, values[i], shift)
                what = f"{net.nodes[i].name} at rot x against it at x, shifted"
                found.append(trial.identity(moved[i], right, what, node=i))
    return found


def _windows_rolled(net: PathNetwork, i: int, t: Tensor, shift: Shift) -> Tensor:
    """Shift a tensor that gates multiply; where it lists windows, through its operand's entries."""
    sizes = net.input_shape[1:]
    readers = [n for n in net.nodes if isinstance(n, Gate) and n.operands[0] == i]
    for reader in readers:
        layer = net.gate_layers[reader.gate]
        if layer.kind == "max" and layer.source is not None:
            source = net.nodes[layer.source].shape
            if _lists_all_positions(t, source):
                windows = t.reshape(len(t), *source[1:], -1).movedim(-1, 1)
                return _rolled(windows, sizes, shift).movedim(1, -1).reshape(t.shape)
    return _rolled(t, sizes, shift)


EQUIVARIANT = ModularClaim(
    tensors_shift_with_the_input,
    (Mutant("zeros shifted in, not cyclic", {"move": _filled_with_zeros}),),
)


def _with_the_data(trial: FieldTrial, shift: Shift) -> list[Tensor]:
    return shifted_gates(trial.net, trial.gates, shift)


def _not_at_all(trial: FieldTrial, shift: Shift) -> list[Tensor]:
    return trial.gates


def features_are_shift_invariant(
    trial: FieldTrial, gates: Callable[[FieldTrial, Shift], list[Tensor]] = _with_the_data
) -> Sequence[Identity]:
    """Compare the graph's output at shifted data and gates with that of the paths at the data."""
    found = []
    for shift in drawn_shifts(trial):
        moved = rotate(trial.x, shift)
        left = trial.graph.output(moved, gates(trial, shift), trial.parameters).flatten(1)
        what = "⟨φ(rot x), v⟩ against ⟨φ(x), v⟩"
        found.append(trial.identity(left, trial.output, what))
    return found


INVARIANT = ModularClaim(
    features_are_shift_invariant,
    (Mutant("gates recorded before the shift", {"gates": _not_at_all}),),
)


def _ones(shape: Sequence[int]) -> Tensor:
    return torch.ones(1, *shape, dtype=torch.float64)


def _ramp(shape: Sequence[int]) -> Tensor:
    return 1.0 + torch.arange(math.prod(shape), dtype=torch.float64).reshape(1, *shape)


def constant_input_keeps_the_invariance(
    trial: FieldTrial, value: Callable[[Sequence[int]], Tensor] = _ones
) -> Sequence[Identity]:
    """Compare the output at shifted gates with that at the gates, ones in place of the data."""
    net = trial.net
    x = trial.over.reduce(value(net.input_shape)).expand_as(trial.x)
    starts = [i for i in net.value_nodes if isinstance(n := net.nodes[i], Constant) and n.is_input]
    replace = {i: lambda _, i=i: trial.over.reduce(value(net.nodes[i].shape)) for i in starts}
    still = trial.network.output(x, trial.gates, trial.weights, replace=replace)
    found = []
    for shift in drawn_shifts(trial):
        gates = shifted_gates(net, trial.gates, shift)
        moved = trial.network.output(x, gates, trial.weights, replace=replace)
        what = "⟨φ, v⟩ of a constant input at shifted gates against it at the gates"
        found.append(trial.identity(moved.flatten(1), still.flatten(1), what))
    return found


CONSTANT_INPUT = ModularClaim(
    constant_input_keeps_the_invariance,
    (Mutant("a ramp as value input", {"value": _ramp}),),
)
