"""Formulas of the tangent kernel that are false as printed, beside what holds in their place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.averages import Average, output_average, tangent_average
from reluctant.properties.bounds import are_integers, kernel_tolerance, pair_underflow
from reluctant.properties.hadamard import gate_overlap, input_gram, layer_gates
from reluctant.properties.laws import averaged
from reluctant.properties.listing import few_paths
from reluctant.properties.soft_gates import SIGMA, SOFT, without_depth
from reluctant.properties.tangents import times_depth
from reluctant.properties.thinning import Thinned, thinned
from reluctant.properties.value_tangents import value_tangents
from reluctant.theory.paths import Paths
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.structure import dense_chain
from reluctant.theory.tangents import value_kernel
from reluctant.theory.verdicts import EvidenceKind

GAIN = 2.0  # c ≠ 1, or its powers could not be told apart
_EXACT_BELOW = 2.0**53


def _from_one_input(listed: Paths) -> Tensor:
    """Tell which pairs of bundles both start at the same input coordinate."""
    start = torch.zeros(len(listed.bundles), dtype=torch.long)
    start[listed.membership] = listed.starts
    return start[:, None] == start


def _from_any_inputs(listed: Paths) -> Tensor:
    count = len(listed.bundles)
    return torch.ones(count, count, dtype=torch.bool)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _first_coordinate(x: Tensor) -> Tensor:
    first = torch.zeros_like(x[0]).flatten()
    first[0] = 1.0
    return x * first.reshape(x.shape[1:])


def pairs_of_paths_start_together(
    trial: Trial,
    pairs: Callable[[Paths], Tensor] = _from_one_input,
    data: Callable[[Tensor], Tensor] = _as_it_is,
) -> Sequence[Comparison]:
    """Compare K_v, gates held, with Σ over pairs of listed paths that both start at one input."""
    net, listed = trial.net, few_paths(trial)
    x = data(trial.x.double())
    rows, magnitude = value_tangents(listed)
    start = torch.zeros(len(listed.bundles), dtype=torch.long)
    start[listed.membership] = listed.starts
    activity = torch.zeros(len(x), len(start), dtype=torch.float64)
    activity[:, listed.membership] = listed.activity
    phi = x.flatten(1)[:, start] * activity
    together = pairs(listed) & (listed.bundle_ends[:, None] == listed.bundle_ends)
    right = phi @ (rows @ rows.T * together) @ phi.T
    size = phi.abs() @ (magnitude @ magnitude.T) @ phi.abs().T
    gates = [g.double() for g in trial.gates]
    left = value_kernel(net, x, gates, trial.weights)
    count = 4 * (roundings(net) + len(start)) + rows.shape[1]
    added = pair_underflow(net, x, gates, trial.weights, extra=count)
    bound: Tensor | float = 4 * (gamma(count) * size + added)
    kind = EvidenceKind.ROUNDING
    if are_integers([x, *gates, *trial.weights]) and float(size.max()) < _EXACT_BELOW:
        bound, kind = 0.0, EvidenceKind.EXACT
    what = "K_v against pairs of paths from one input coordinate"
    return [Comparison(left, right, bound, kind, what=what, numbers={"x": x.tolist()})]


SIGNAL_VS_WIRE = Statement(
    id="ntk.signal-vs-wire",
    title="The tangent kernel adds, over input coordinates, pairs of paths that both start there.",
    kind=Kind.FALSE_AS_PRINTED,
    latex=(
        r"K_v(s, s') = \sum_i x_i(s)\, x_i(s')\, \kappa(s, s', i), \qquad \kappa(s, s', i) = "
        r"\sum_{p_1, p_2 \ni i} A(s, p_1)\, A(s', p_2)\, \langle \nabla v_{p_1}, \nabla v_{p_2} \rangle"
    ),
    sources=("dgn, section 3 (signal and wire)",),
    hypotheses=(needs.FULLY_CONNECTED, needs.BIAS_FREE, needs.DATA_INPUT),
    claim=pairs_of_paths_start_together,
    mutants=(
        Mutant("pairs from any two input coordinates", {"pairs": _from_any_inputs}),
        Mutant("one input coordinate, which cannot tell", {"data": _first_coordinate}),
    ),
    controls="n_in = 1 cannot tell.",
    note=(
        "Paths from different inputs i, i' that share a later weight contribute; they vanish in "
        "expectation only. True: Σ over i and i' of x_i x'_i' κ(s, s', i, i')."
    ),
    corrected="dual.ntk-factor",
)


def _named(trial: Trial, part: Thinned) -> dict[str, list[object]]:
    """Return the gates that were left on, by name."""
    net = trial.net
    return {net.gate_layers[g].name: part.gates[g].tolist() for g in net.value_gates}


def _of_the_draft(depth: int, gain: float) -> float:
    return depth * gain ** (depth - 1)


def _of_the_variance(depth: int, gain: float) -> float:
    return depth * gain ** (2 * (depth - 1))


def constant_of_the_draft(
    trial: Trial, constant: Callable[[int, float], float] = _of_the_draft, gain: float = GAIN
) -> Sequence[Comparison]:
    """Compare E[K_v] over weights ±c/√w with a constant times ⟨x, x'⟩ Π ⟨G, G'⟩/w."""
    chain = dense_chain(trial.net)
    if chain is None:
        raise CannotTry("the constant is that of a chain of dense layers")
    sigma = gain / math.sqrt(chain.hidden[0])
    part = thinned(trial, sigma, outputs=False)
    average = tangent_average(trial, sigma, gates=part.gates, x=part.x, net=part.net)
    overlap = gate_overlap(layer_gates(chain, part.gates), chain.hidden)
    overlap = overlap / float(math.prod(chain.hidden))
    depth, kernel = len(chain.layers), input_gram(part.net, part.x) * overlap
    bound, kind = kernel_tolerance(
        part.net, part.x, part.gates, variance=sigma**2, tangent=True, passes=4
    )
    numbers = {
        "c": gain, "w": chain.hidden[0], "d": depth, "sigma": sigma,
        "weights": "±sigma, every sign pattern", "x": part.x.tolist(),
        "gates": _named(trial, part),
    }  # fmt: skip
    return [
        Comparison(
            average.mean,
            constant(depth, gain) * part.net.output_size * kernel,
            bound + average.half_width,
            max(kind, average.kind, key=list(EvidenceKind).index),
            what="E[K_v] at σ = c/√w against the printed constant times the normalised kernel",
            error_probability=average.error_probability,
            numbers=numbers,
        )
    ]


CONSTANT_PRINTED = Statement(
    id="ntk.constant-printed",
    title="The constant of the tangent kernel has the power d − 1 of the gain.",
    kind=Kind.FALSE_AS_PRINTED,
    latex=(
        r"K_v \to d\, c^{d-1} \langle x, x' \rangle \prod_l \langle G_l, G_l' \rangle / w, "
        r"\qquad \sigma = c / \sqrt{w}"
    ),
    sources=("an unpublished draft of the theory, not a paper",),
    hypotheses=(
        needs.FULLY_CONNECTED,
        needs.EQUAL_WIDTHS,
        needs.BIAS_FREE,
        needs.GATED,
        needs.UNTIED,
    ),
    claim=constant_of_the_draft,
    cost=costs.kernels,
    mutants=(
        Mutant("d c^(2(d−1)), the constant that is true", {"constant": _of_the_variance}),
        Mutant("c = 1, which cannot tell", {"gain": 1.0}),
    ),
    controls="c = 1 cannot tell.",
    note="Only an unpublished draft prints it. E[K_v] = d c^(2(d−1)) … at any width, so in the limit.",
    corrected="ntk.fc-limit",
)


def _tangents(trial: Trial, part: Thinned) -> Average:
    return tangent_average(trial, SIGMA, gates=part.gates, x=part.x, net=part.net)


def _tangents_of_one_layer(trial: Trial, part: Thinned) -> Average:
    """Return E[f f']/σ² added over the outputs: f is linear in the last layer's weights."""
    found = output_average(trial, SIGMA, gates=part.gates, x=part.x, net=part.net)
    mean, half_width = (t.sum(2) / SIGMA**2 for t in (found.mean, found.half_width))
    return replace(found, mean=mean, half_width=half_width)


def value_kernel_lacks_the_depth(
    trial: Trial,
    coefficient: Callable[[int, float], float] = without_depth,
    average: Callable[[Trial, Thinned], Average] = _tangents,
) -> Sequence[Comparison]:
    """Compare E[K_v] with σ^(2(d−1)) Σ ⊙ λ, traced over the outputs."""
    chain, part = dense_chain(trial.net), thinned(trial, SIGMA, outputs=False)
    if chain is None:
        raise CannotTry("the formula is that of a chain of dense layers")
    overlap = gate_overlap(layer_gates(chain, part.gates), chain.hidden)
    kernel = part.net.output_size * input_gram(part.net, part.x) * overlap
    right = coefficient(len(chain.layers), SIGMA) * kernel
    found = averaged(average(trial, part), right, part, SIGMA)
    numbers = {
        "d": len(chain.layers), "sigma": SIGMA, "weights": "±sigma, every sign pattern",
        "x": part.x.tolist(), "gates": _named(trial, part),
    }  # fmt: skip
    return [replace(found, numbers=numbers)]


SOFT_GATES_PRINTED = Statement(
    id="ntk.soft-gates-printed",
    title="With soft gates the expected tangent kernel of the values has no factor d.",
    kind=Kind.FALSE_AS_PRINTED,
    latex=r"E[K_v] = \sigma^{2(d-1)}\, \Sigma \odot \lambda",
    sources=("dgn, section 4",),
    hypotheses=(
        needs.GATED,
        SOFT,
        needs.FULLY_CONNECTED,
        needs.BIAS_FREE,
        needs.UNTIED,
        needs.DISJOINT,
    ),
    claim=value_kernel_lacks_the_depth,
    cost=costs.kernels,
    mutants=(
        Mutant("d put back", {"coefficient": times_depth}),
        Mutant("the weights of one layer only", {"average": _tangents_of_one_layer}),
    ),
    controls="The weights of one layer alone have the printed kernel.",
    note="The factor d is missing: each of d layers contributes σ^(2(d−1)) Σ ⊙ λ.",
    corrected="ntk.soft-gates",
)

STATEMENTS = (SIGNAL_VS_WIRE, CONSTANT_PRINTED, SOFT_GATES_PRINTED)
