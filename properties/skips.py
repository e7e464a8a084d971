"""Statements of skip connections: a network with skips is an ensemble of sub-networks (dlgn)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.averages import tangent_average
from reluctant.properties.bounds import kernel_tolerance, kernel_underflow, output_tolerance
from reluctant.properties.laws import averaged
from reluctant.properties.own_gates import following_gates
from reluctant.properties.thinning import thinned
from reluctant.theory.costs import kernel_work
from reluctant.theory.kernels import kernel_magnitude, nngp_law, npk, traced
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gates
from reluctant.theory.operators import Bias, Dense
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import (
    CannotTry,
    Comparison,
    Hypothesis,
    Kind,
    Mutant,
    Statement,
    Trial,
)
from reluctant.theory.structure import depths, identity_skips
from reluctant.theory.subnetworks import (
    branch_nodes,
    depth_of,
    is_on_every_path,
    shares_paths,
    subnetwork,
    subsets,
)
from reluctant.theory.verdicts import EvidenceKind, Unmet

MOST_SUBNETWORKS = 2**10
_KERNELS = 2  # kernels that may be computed in place of one
_SIGMA = 2.0  # an integer keeps small integers exact, and σ ≠ 1 tells powers of σ apart


def _in_a_row(net: PathNetwork) -> Iterator[Unmet]:
    for skip in identity_skips(net):
        place = net.nodes[skip.node].place
        name = net.nodes[skip.node].name
        if not is_on_every_path(net, skip.node):
            yield Unmet("skips in a row", f"some path never meets {name}", place)
            continue
        reason = shares_paths(net, skip)
        if reason:
            yield Unmet("skips in a row", reason, place)


IN_A_ROW = Hypothesis(
    "skips in a row",
    "Every path meets every skip, and the weights of a branch act nowhere else.",
    _in_a_row,
)


def _even_depth(net: PathNetwork) -> Iterator[Unmet]:
    # In a row of skips, branches of even depth one by one are of even depth together.
    uneven: dict[int, frozenset[int]] = {}
    for kept in subsets(len(identity_skips(net)), most=1):
        term = subnetwork(net, kept)
        crossed = depths(term)
        for i in term.value_nodes:
            before = [crossed[k] for k in term.nodes[i].operands]
            if len(crossed[i]) > 1 and all(len(depth) < 2 for depth in before):
                uneven.setdefault(i, crossed[i])
    for i, found in sorted(uneven.items()):
        reason = (
            f"{net.nodes[i].name} joins paths across {' or '.join(map(str, sorted(found)))} layers"
        )
        yield Unmet("even depth", reason, net.nodes[i].place)


EVEN_DEPTH = Hypothesis(
    "even depth",
    "All paths of a sub-network cross the same number of weight layers.",
    _even_depth,
)


def ensemble(trial: Trial, net: PathNetwork | None = None) -> dict[frozenset[int], PathNetwork]:
    """Return every sub-network of a network, the trial's or another one, by its branches."""
    net = trial.net if net is None else net
    count = len(identity_skips(net))
    if 2**count > MOST_SUBNETWORKS:
        raise CannotTry(
            f"2^{count} = {2**count} sub-networks are too many (at most {MOST_SUBNETWORKS})"
        )
    return {kept: subnetwork(net, kept) for kept in subsets(count)}


def affordable_ensemble(
    trial: Trial, net: PathNetwork | None = None
) -> dict[frozenset[int], PathNetwork]:
    """Return every sub-network if the kernels of all can be computed."""
    terms = ensemble(trial, net)
    work = len(terms) * kernel_work(trial.net) * len(trial.x) ** 2
    if work > _KERNELS * trial.limit.kernels:
        raise CannotTry(f"the kernels of {len(terms)} sub-networks are too dear at this effort")
    return terms


def _without_one(trial: Trial) -> dict[frozenset[int], PathNetwork]:
    terms = ensemble(trial)
    del terms[frozenset()]
    return terms


def _held(trial: Trial, term: PathNetwork) -> Gates:
    return trial.gates


def _recomputed(trial: Trial, term: PathNetwork) -> Gates:
    """Let own gates follow what arrives along the paths of one sub-network."""
    return following_gates(term, trial.x, trial.gates, trial.weights)


def output_is_a_sum_over_subnetworks(
    trial: Trial,
    terms: Callable[[Trial], Mapping[frozenset[int], PathNetwork]] = ensemble,
    gates: Callable[[Trial, PathNetwork], Gates] = _held,
) -> Sequence[Comparison]:
    """Compare the module's own output with the sum over its sub-networks."""
    right = torch.zeros_like(trial.output)
    found = terms(trial)
    for term in found.values():
        part = term.forward(trial.x.double(), gates(trial, term), trial.weights)
        right = right + part.reshape(right.shape)
    bound, kind = output_tolerance(trial.net, trial.x, trial.gates, passes=2 + len(found))
    return [Comparison(trial.output, right, bound, kind, what="module against sub-networks")]


OUTPUT_ENSEMBLE = Statement(
    id="skip.output-ensemble",
    title="A network with skips is the sum of its sub-networks, with the gates of the whole.",
    kind=Kind.EXACT,
    latex=r"f = \sum_{J \subseteq [b]} f_J",
    sources=("dlgn, section 4",),
    hypotheses=(needs.SKIPS, IN_A_ROW, needs.BIAS_FREE),
    claim=output_is_a_sum_over_subnetworks,
    mutants=(
        Mutant("gates recomputed inside each sub-network", {"gates": _recomputed}),
        Mutant("one sub-network left out", {"terms": _without_one}),
    ),
    controls="Sub-networks with their own biases over-count the paths from biases.",
)


def _once(kernels: Mapping[frozenset[int], Tensor]) -> Tensor:
    return torch.stack(list(kernels.values())).sum(0)


def _without_the_last(kernels: Mapping[frozenset[int], Tensor]) -> Tensor:
    return torch.stack(list(kernels.values())[:-1]).sum(0)


def _first_twice(kernels: Mapping[frozenset[int], Tensor]) -> Tensor:
    return _once(kernels) + next(iter(kernels.values()))


def kernel_is_a_sum_over_subnetworks(
    trial: Trial, total: Callable[[Mapping[frozenset[int], Tensor]], Tensor] = _once
) -> Sequence[Comparison]:
    """Compare the kernel of the whole with the sum of the kernels of its sub-networks."""
    both = (trial.gates, trial.gates)
    terms = affordable_ensemble(trial)
    kernels = {kept: npk(term, trial.x, gates=both) for kept, term in terms.items()}
    bound, kind = kernel_tolerance(trial.net, trial.x, trial.gates, passes=2 + len(kernels))
    whole = npk(trial.net, trial.x)
    return [Comparison(whole, total(kernels), bound, kind, what="H against sub-networks")]


NPK_ENSEMBLE = Statement(
    id="skip.npk-ensemble",
    title="The kernel of a network with skips is the sum of the kernels of its sub-networks.",
    kind=Kind.EXACT,
    latex=r"H = \sum_{J \subseteq [b]} H_J",
    sources=("dlgn, section 4",),
    hypotheses=(needs.SKIPS, IN_A_ROW, needs.BIAS_FREE, needs.UNTIED),
    claim=kernel_is_a_sum_over_subnetworks,
    cost=costs.kernels,
    mutants=(
        Mutant("the sub-network of all branches left out", {"total": _without_the_last}),
        Mutant("the sub-network of all detours counted twice", {"total": _first_twice}),
    ),
    controls="A branch whose weights act elsewhere too adds cross terms.",
)


def depth_law(sigma: float, depth: int, block: float) -> float:
    """Return β = d σ^(2(d−1)) for d weight layers."""
    return depth * sigma ** (2 * (depth - 1))


def _power_of_depth(sigma: float, depth: int, block: float) -> float:
    return depth * sigma ** (2 * depth)


def _one_block_less(sigma: float, depth: int, block: float) -> float:
    return depth_law(sigma, depth, block) / depth * (depth - block)


def tangent_kernel_is_a_weighted_sum(
    trial: Trial, factor: Callable[[float, int, float], float] = depth_law
) -> Sequence[Comparison]:
    """Compare the averaged tangent kernel with Σ_J β_J H_J, traced over the outputs."""
    part = thinned(trial, _SIGMA, outputs=False)
    average = tangent_average(trial, _SIGMA, gates=part.gates, x=part.x, net=part.net)
    right = torch.zeros_like(average.mean)
    terms = affordable_ensemble(trial, part.net)
    shortest = min(depth_of(terms[frozenset()]), default=0)
    for term in terms.values():
        kernel = traced(part.net, npk(term, part.x, gates=(part.gates, part.gates)))
        for depth in depth_of(term):
            right = right + factor(_SIGMA, depth, shortest / 2) * kernel
    return [averaged(average, right, part, _SIGMA, passes=2 + len(terms))]


SKIP_NTK = Statement(
    id="skip.ntk",
    title="The expected tangent kernel weighs each sub-network by its depth.",
    kind=Kind.EXPECTED,
    latex=(
        r"E[K_v] = \sum_J \beta_J H_J, \qquad \beta_J = d_J \sigma^{2(d_J - 1)}, \quad "
        r"d_J = (|J| + 2)\, d_{blk}"
    ),
    sources=("dlgn, section 4",),
    hypotheses=(needs.SKIPS, IN_A_ROW, EVEN_DEPTH, needs.BIAS_FREE, needs.UNTIED),
    claim=tangent_kernel_is_a_weighted_sum,
    cost=costs.kernels,
    mutants=(
        Mutant("|J| + 1 for |J| + 2", {"factor": _one_block_less}),
        Mutant("σ^(2d) for σ^(2(d−1))", {"factor": _power_of_depth}),
    ),
    controls="Biases; a projection in place of the identity is one more branch.",
    note=(
        "The gates are held as recorded, whatever they depend on. Constants before and after the "
        "additions are part of H_J."
    ),
)


def _plain_residual(net: PathNetwork) -> Iterator[Unmet]:
    """Accept dense layers of which each branch has one, outside branches two more in a row."""
    name = "dense blocks of one layer"
    layers = [node for node in net.weighted if not isinstance(node.operator, Bias)]
    for node in layers:
        if not isinstance(node.operator, Dense) or node.operator.positions:
            yield Unmet(name, f"{node.name} is no dense layer", node.place)
    skips = identity_skips(net)
    for skip in skips:
        inside = [i for i in branch_nodes(net, skip) if net.nodes[i] in layers]
        if len(inside) != 1:
            reason = f"{len(inside)} layers are in the branch of {net.nodes[skip.node].name}"
            yield Unmet(name, reason, net.nodes[skip.node].place)
    if len(layers) != len(skips) + 2:
        reason = f"{len(layers) - len(skips)} layers are outside the branches"
        yield Unmet(name, reason, net.nodes[net.output].place)


PLAIN_RESIDUAL = Hypothesis(
    "dense blocks of one layer",
    "One dense layer in each branch, one before and one after them all.",
    _plain_residual,
)


def _first_and_last_too(skips: int) -> int:
    return (skips + 4) * 2 ** (skips - 1) if skips else 2


def _branches_only(skips: int) -> int:
    return skips * 2 ** (skips - 1) if skips else 0


def _by_fan_in(net: PathNetwork) -> dict[str, float]:
    return {net.weights[n.weight].name: 1.0 / n.operator.fan_in for n in net.weighted}


def _ones(net: PathNetwork) -> dict[str, float]:
    return dict.fromkeys(_by_fan_in(net), 1.0)


def linear_network_counts_its_subnetworks(
    trial: Trial,
    variances: Callable[[PathNetwork], dict[str, float]] = _by_fan_in,
    slopes: Callable[[int], int] = _first_and_last_too,
) -> Sequence[Comparison]:
    """Compare both laws at σ² = 1/fan-in, all gates on, with multiples of ⟨x, x'⟩ / n_in.

    H is linear in each variable, so σ_l² ∂H/∂z_l is H minus H at z_l = 0.
    """
    net, x = trial.net, trial.x
    gates = [torch.ones_like(g) for g in trial.gates]
    law = variances(net)

    def outputs(variance: Mapping[str, float]) -> Tensor:
        return nngp_law(net, x, variance=variance, output=0, gates=(gates, gates))

    whole = outputs(law)
    tangent = torch.zeros_like(whole)
    for name in law:
        tangent = tangent + whole - outputs({**law, name: 0.0})
    flat = x.double().flatten(1)
    unit = flat @ flat.T / flat.shape[1]
    skips = len(identity_skips(net))
    size = kernel_magnitude(net, x, gates, variance=_by_fan_in(net), output=0)
    added = kernel_underflow(net, x, gates, output=0)
    bound = (len(law) + 2) ** 2 * (gamma(4 * roundings(net) + 16) * size + 3 * added)
    return [
        Comparison(whole, 2.0**skips * unit, bound, EvidenceKind.ROUNDING, what="H(σ²)"),
        Comparison(tangent, slopes(skips) * unit, bound, EvidenceKind.ROUNDING, what="Σ σ² ∂H/∂z"),
    ]


LINEAR_COUNT = Statement(
    id="skip.linear-count",
    title="With all gates on the laws count sub-networks, and their layers.",
    kind=Kind.EXACT,
    latex=(
        r"H(\sigma^2) = 2^b \, \langle x, x' \rangle / n_{in}, \qquad \sum_l \sigma_l^2 \,"
        r"\partial H / \partial z_l = (b + 4)\, 2^{b-1} \, \langle x, x' \rangle / n_{in}"
    ),
    sources=("ckl, section 4",),
    hypotheses=(
        needs.SKIPS,
        PLAIN_RESIDUAL,
        IN_A_ROW,
        needs.BIAS_FREE,
        needs.UNSCALED,
        needs.DATA_INPUT,
    ),
    claim=linear_network_counts_its_subnetworks,
    cost=costs.kernels,
    mutants=(
        Mutant("σ² = 1", {"variances": _ones}),
        Mutant("layers outside the branches not counted", {"slopes": _branches_only}),
    ),
    controls="The standard parametrisation; σ² = 1 at width 2 or more.",
    note="σ² = 1/fan-in; the second law is the tangent kernel in NTK parametrisation.",
)

STATEMENTS = (OUTPUT_ENSEMBLE, NPK_ENSEMBLE, SKIP_NTK, LINEAR_COUNT)
