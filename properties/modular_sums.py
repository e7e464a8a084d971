"""Sums over paths at full size: output, number of paths, linearity in each layer, modulo primes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reluctant.properties.path_sums import paths_by_formula
from reluctant.theory.counts import count_paths
from reluctant.theory.heights import Size
from reluctant.theory.modular import FieldTrial, Identity, ModularClaim
from reluctant.theory.nodes import Constant, Scale, Sum
from reluctant.theory.statements import CannotTry, Mutant
from reluctant.theory.structure import counted_shape

Reading = Callable[[FieldTrial], Tensor]


def _as_read(trial: FieldTrial) -> Tensor:
    return trial.output


def _with_a_flip(trial: FieldTrial) -> Tensor:
    """Flip one gate of one input, at an entry that matters."""
    layer, entry = _sharp_gate(trial)
    gates = list(trial.gates)
    gates[layer] = gates[layer].clone()
    gates[layer].view(-1)[entry] = 1 - gates[layer].view(-1)[entry]
    return trial.network.output(trial.x, gates, trial.weights).flatten(1)


def _sharp_gate(trial: FieldTrial) -> tuple[int, int]:
    """Return a gate, by layer and entry, that its output depends on at the drawn weights."""
    net = trial.net
    for i in reversed(net.value_nodes):
        layer = getattr(net.nodes[i], "gate", None)
        if layer is None:
            continue
        gates = [g.clone() for g in trial.gates]
        for entry in torch.randperm(gates[layer].numel(), generator=trial.generator)[:8].tolist():
            changed = gates[layer].clone()
            changed.view(-1)[entry] = 1 - changed.view(-1)[entry]
            given = {i: trial.over.reduce(trial.values[net.nodes[i].operands[0]] * changed)}
            moved = trial.network.changed(trial.values, given, gates, trial.weights)
            if not torch.equal(moved.flatten(1), trial.output):
                return layer, entry
    raise CannotTry("no gate matters")


def _with_a_wrong_constant(trial: FieldTrial) -> Tensor:
    """Double the last routing constant."""
    nodes = [i for i in trial.net.value_nodes if isinstance(trial.net.nodes[i], Scale)]
    if not nodes:
        raise CannotTry("the network has no routing constant")
    given = {nodes[-1]: trial.over.reduce(2 * trial.values[nodes[-1]])}
    return trial.network.changed(trial.values, given, trial.gates, trial.weights).flatten(1)


def _without_an_operand(trial: FieldTrial) -> Tensor:
    """Drop one operand of the last sum of several."""
    net = trial.net
    sums = [
        i
        for i in net.value_nodes
        if isinstance(net.nodes[i], Sum) and len(net.nodes[i].operands) > 1
    ]
    if not sums:
        raise CannotTry("the network adds no branches")
    first = trial.values[net.nodes[sums[-1]].operands[0]]
    axes = [a + 1 for a in getattr(net.nodes[sums[-1]], "axes", ())]
    given = {sums[-1]: trial.over.reduce(first.sum(axes) if axes else first)}
    return trial.network.changed(trial.values, given, trial.gates, trial.weights).flatten(1)


def output_is_feature_times_value(
    trial: FieldTrial, reading: Reading = _as_read
) -> Sequence[Identity]:
    """Compare the module's graph with its paths; and ⟨x, ∂f/∂x⟩ with f less its sources."""
    right = reading(trial)
    found = [trial.identity(trial.graph_output, right, "graph against paths")]
    along = trial.draw(*trial.output.shape)
    shaped = along.reshape(len(along), *trial.net.nodes[trial.net.output].shape)
    slope, _, _ = trial.network.slopes(trial.x, trial.gates, trial.weights, shaped)
    still = trial.network.output(torch.zeros_like(trial.x), trial.gates, trial.weights).flatten(1)
    left = trial.inner(trial.x, slope)
    rest = trial.over.reduce(trial.inner(along, right) - trial.inner(along, still))
    what = "⟨x, ∂f/∂x⟩ against f(x) − f(0)"
    height = math.log2(along.numel())
    found.append(trial.identity(left, rest, what, degree=1, height=height))
    return found


INNER_PRODUCT = ModularClaim(
    output_is_feature_times_value,
    (
        Mutant("one gate flipped", {"reading": _with_a_flip}),
        Mutant("one routing constant doubled", {"reading": _with_a_wrong_constant}),
        Mutant("one operand of a sum dropped", {"reading": _without_an_operand}),
    ),
)


def number_of_paths_has_a_formula(trial: FieldTrial, exponent: int = -1) -> Sequence[Identity]:
    """Compare the count by formula with that of all ones sent forward, and sent back."""
    net, over = trial.net, trial.over
    shape = counted_shape(net)
    if shape is None:
        raise CannotTry("the network has no shape with a formula")
    formula = paths_by_formula(shape, exponent)
    ones = [torch.ones_like(g[:1]) for g in trial.gates]
    weights = [torch.ones_like(w) for w in trial.weights]
    x = torch.ones_like(trial.x[:1])
    plain = trial.plain_constants()
    forward = trial.network.output(x, ones, weights, sources=False, replace=plain).flatten()[:1]
    along = torch.zeros(1, *net.nodes[net.output].shape, dtype=torch.float64)
    along.view(-1)[0] = 1
    # Where a constant takes the place of the data, paths begin at its entries that are not 0.
    inputs = {
        i: n for i in net.value_nodes if isinstance(n := net.nodes[i], Constant) and n.is_input
    }
    first, _, others = trial.network.slopes(
        x, ones, weights, along, replace=plain,
        switches={i: lambda _, entries: entries for i in inputs},
        at=[(n.value != 0).double()[None] for n in inputs.values()],
    )  # fmt: skip
    starts = [first, *(o * (n.value != 0) for o, n in zip(others, inputs.values(), strict=True))]
    back = over.reduce(sum((over.reduce(s.sum()) for s in starts), torch.zeros(())).double())[None]
    right = torch.tensor([float(formula % over.prime)], dtype=torch.float64)
    if "count" not in trial.recording.shared:
        trial.recording.shared["count"] = count_paths(net, trial.recording.data, output=0)
    counted = trial.recording.shared["count"]
    exact = torch.tensor([float(counted % over.prime)], dtype=torch.float64)
    bits = max(counted, formula).bit_length() + 1.0
    size = Size(0, bits)
    return [
        trial.identity(forward, right, "ones sent forward against the formula", size=size),
        trial.identity(back, right, "ones sent back against the formula", size=size),
        trial.identity(
            exact,
            right,
            f"{counted:.6g} counted"
            if counted < 1e300
            else f"about 2^{counted.bit_length() - 1} counted",
            size=size,
        ),
    ]


PATH_COUNT = ModularClaim(
    number_of_paths_has_a_formula,
    (Mutant("one width more in the product", {"exponent": 0}),),
)


def output_is_linear_in_each_layer(trial: FieldTrial, factor: int = 1) -> Sequence[Identity]:
    """Compare f after one parameter is drawn anew, by the graph, with its slope, by the paths.

    A polynomial is affine in a parameter θ if f(θ') − f(θ) = ⟨θ' − θ, ∂f/∂θ (θ)⟩ for all θ, θ'.
    """
    net, over = trial.net, trial.over
    along = trial.draw(*trial.output.shape)
    shaped = along.reshape(len(along), *net.nodes[net.output].shape)
    _, slopes, _ = trial.network.slopes(trial.x, trial.gates, trial.weights, shaped)
    gradients = {k: torch.zeros_like(v) for k, v in trial.parameters.items()}
    for weight, slope in zip(net.weights, slopes, strict=True):
        weight.entries.add(gradients[weight.parameter], slope)
    on_paths = {net.weights[node.weight].parameter for node in net.weighted}
    names = {w.parameter: w.name for w in reversed(net.weights)}
    height = math.log2(along.numel())
    found = []
    for parameter in sorted(on_paths, key=list(names).index):
        new = trial.draw(len(trial.parameters[parameter]))
        step = over.reduce(new - trial.parameters[parameter])
        right = over.reduce(factor * trial.inner(step, over.reduce(gradients[parameter])))
        changed = trial.graph.changed(
            trial.graph_values,
            trial.x,
            trial.gates,
            {**trial.parameters, parameter: new},
            [parameter],
        )
        left = trial.inner(along, over.reduce(changed.flatten(1) - trial.graph_output))
        what = f"f(θ') − f(θ) against ⟨θ' − θ, ∂f/∂θ⟩ for {names[parameter]}"
        found.append(trial.identity(left, right, what, degree=1, height=height))
    if not found:
        raise CannotTry("the network has no weights")
    return found


FROZEN_LINEAR = ModularClaim(
    output_is_linear_in_each_layer,
    (Mutant("slopes doubled", {"factor": 2}),),
)
