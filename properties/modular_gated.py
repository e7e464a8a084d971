"""Gated networks at full size, modulo primes: affine features, linear values, layers that move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reluctant.theory.heights import Size
from reluctant.theory.modular import FieldTrial, Identity, ModularClaim
from reluctant.theory.nodes import Constant
from reluctant.theory.statements import CannotTry, Mutant
from reluctant.theory.structure import DenseChain, dense_chain

Weights = Callable[[FieldTrial, Tensor], tuple[Tensor, Tensor]]


def _affine(trial: FieldTrial, a: Tensor) -> tuple[Tensor, Tensor]:
    return a, trial.over.reduce(1 - a)


def _linear(trial: FieldTrial, a: Tensor) -> tuple[Tensor, Tensor]:
    return a, trial.over.reduce(2 - a)


def features_are_affine(trial: FieldTrial, parts: Weights = _affine) -> Sequence[Identity]:
    """Compare gating pre-activations on a line with the line.

    Gates of the feature network itself, if it has any, are those of the three points: recorded at
    the data, at their negative, and at the data again.
    """
    net, over = trial.net, trial.over
    sources = [net.gate_layers[g].source for g in net.value_gates]
    made = tuple(dict.fromkeys(i for i in sources if i is not None))
    if not made:
        raise CannotTry("no gating pre-activation could be read")
    other = trial.draw(*trial.x.shape)
    a, b = parts(trial, trial.draw(1))
    middle = over.reduce(over.reduce(a * trial.x) + over.reduce(b * other))
    opposite = trial.residues(trial.recording.opposite)
    start = trial.network.values(trial.x, trial.gates, trial.weights, also=made)
    end = trial.network.values(other, opposite, trial.weights, also=made)
    between = trial.network.values(middle, trial.gates, trial.weights, also=made)
    return [
        trial.identity(
            between[i],
            over.reduce(over.reduce(a * start[i]) + over.reduce(b * end[i])),
            f"q of {net.nodes[i].name} on a line",
            degree=1,
            node=i,
        )
        for i in made
    ]


PRIMAL_LINEAR = ModularClaim(
    features_are_affine,
    (Mutant("parts that do not add up to 1", {"parts": _linear}),),
)


def _value_parameters(trial: FieldTrial) -> set[int]:
    return {trial.net.weights[node.weight].parameter for node in trial.net.weighted}


def _all_parameters(trial: FieldTrial) -> set[int]:
    return {id(p) for p in trial.net.module.parameters()}


def output_is_linear_in_the_values(
    trial: FieldTrial, redrawn: Callable[[FieldTrial], set[int]] = _value_parameters
) -> Sequence[Identity]:
    """Compare recorded gates before and after the values are drawn anew; and graph with paths."""
    net, found = trial.net, []
    chosen = redrawn(trial)
    known = trial.recording.shared
    key = ("redrawn", redrawn)
    if key not in known:
        program = net.program
        bindings = dict(program.bindings)
        for name, binding in program.bindings.items():
            held = binding()
            if isinstance(held, Tensor) and id(held) in chosen:
                new = torch.randn(held.shape, generator=trial.generator, dtype=torch.float64)
                new = new.to(held)
                bindings[name] = lambda t=new: t  # type: ignore[misc]
        again = replace(program, bindings=bindings)
        known[key] = [g.detach().cpu().double() for g in again.run(trial.recording.data).gates]
    for g in net.value_gates:
        what = f"gates of {net.gate_layers[g].name} before and after the values are drawn anew"
        found.append(Identity(trial.recording.gates[g], known[key][g], 0, 0.0, what))
    found.append(trial.identity(trial.graph_output, trial.output, "graph against ⟨φ, v⟩"))
    return found


DUAL_LINEAR = ModularClaim(
    output_is_linear_in_the_values,
    (Mutant("gates redrawn with the values", {"redrawn": _all_parameters}),),
)


def _chain(trial: FieldTrial) -> DenseChain:
    chain = dense_chain(trial.net)
    if chain is None:
        raise CannotTry("the network is no chain of dense layers")
    return chain


def _starts(trial: FieldTrial) -> dict[int, Tensor]:
    """Return the constants that paths begin at in place of the data, as residues."""
    net = trial.net
    found = {
        i: n for i in net.value_nodes if isinstance(n := net.nodes[i], Constant) and n.is_input
    }
    return {i: trial.over.constants(n.value)[None] for i, n in found.items()}


def _kernel(trial: FieldTrial, left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Return H of each input at two lists of gates, path by path: products sent along all paths."""
    over = trial.over
    squared = over.reduce(trial.x * trial.x)
    gates = [over.reduce(a * b) for a, b in zip(left, right, strict=True)]
    weights = [torch.ones_like(w) for w in trial.weights]
    starts = {i: over.reduce(t * t) for i, t in _starts(trial).items()}
    replace = {i: lambda _, t=t: t for i, t in starts.items()}
    found = trial.network.output(squared, gates, weights, replace=replace)
    return found.flatten(1)[:, :1]


def _product(trial: FieldTrial, left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Return Σ ⊙ Λ of each input at two lists of gates."""
    over = trial.over
    start = next(iter(_starts(trial).values()), trial.x)
    total = over.reduce(over.reduce(start * start).flatten(1).sum(1, keepdim=True))
    for g in _chain(trial).gates:
        inner = over.reduce(over.reduce(left[g] * right[g]).flatten(1).sum(1, keepdim=True))
        total = over.reduce(total * inner)
    return total


def _height(trial: FieldTrial) -> Size:
    """Return degree and height of a kernel entry: that of the output, twice."""
    size = trial.recording.sizes[trial.net.output]
    return size.times(size)


def kernel_is_a_hadamard_product(
    trial: FieldTrial,
    product: Callable[[FieldTrial, Sequence[Tensor], Sequence[Tensor]], Tensor] = _product,
) -> Sequence[Identity]:
    """Compare the kernel, path by path, with Σ ⊙ Λ, at gates of the data and of their negative."""
    _chain(trial)
    other = trial.residues(trial.recording.opposite)
    found = []
    for left, right in ((trial.gates, trial.gates), (trial.gates, other), (other, other)):
        sides = _kernel(trial, left, right), product(trial, left, right)
        found.append(trial.identity(*sides, "H against Σ ⊙ Λ", size=_height(trial)))
    return found


def _squared(trial: FieldTrial, left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    last = _chain(trial).gates[-1]
    gates = [trial.over.reduce(g * 2) if k == last else g for k, g in enumerate(left)]
    return _product(trial, gates, right)


HADAMARD = ModularClaim(
    kernel_is_a_hadamard_product,
    (Mutant("the last layer's gates doubled", {"product": _squared}),),
)


def layers_of_gates_can_be_permuted(trial: FieldTrial, both: bool = True) -> Sequence[Identity]:
    """Compare the kernel, path by path, after layers of gates change places with Σ ⊙ Λ before."""
    layers = _chain(trial).gates
    if len(layers) < 2:
        raise CannotTry("there are not two layers of gates that could change places")
    order = torch.randperm(len(layers), generator=trial.generator).tolist()
    if order == sorted(order):
        order = order[::-1]

    def moved(gates: Sequence[Tensor]) -> list[Tensor]:
        found = list(gates)
        for k, taken in zip(layers, order, strict=True):
            found[k] = gates[layers[taken]]
        return found

    other = trial.residues(trial.recording.opposite)
    after = _kernel(trial, moved(trial.gates), moved(other) if both else other)
    before = _product(trial, trial.gates, other)
    what = "H after layers of gates change places against it before"
    return [trial.identity(after, before, what, size=_height(trial))]


PERMUTE_LAYERS = ModularClaim(
    layers_of_gates_can_be_permuted,
    (Mutant("layers moved for one input only", {"both": False}),),
)
