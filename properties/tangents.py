"""Statements of the tangent kernel over random value weights with fixed gates (npf, dgn, dlgn)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from reluctant.properties import hypotheses as needs
from reluctant.properties.averages import Average, tangent_average
from reluctant.properties.bounds import kernel_tolerance
from reluctant.properties.dependence import DRAWS, INDEPENDENT_LAW, following_average, redrawn_average
from reluctant.properties.dual import few_paths
from reluctant.properties.thinning import Thinned, thinned
from reluctant.properties.widths import (
    Estimate,
    Law,
    Pair,
    arc_cosine_products,
    fitted_rate,
    gate_products,
    mean_estimate,
    pair_of,
    tangent_samples,
)
from reluctant.theory.kernels import ntk_law
from reluctant.theory.network import Constant, PathNetwork
from reluctant.theory.paths import Entry
from reluctant.theory.statements import (
    CannotTry,
    Comparison,
    Hypothesis,
    Kind,
    Mutant,
    Statement,
    Trial,
)
from reluctant.theory.structure import dense_chain
from reluctant.theory.verdicts import EvidenceKind, Unmet

SIGMA = 2.0  # an integer keeps small integers exact, and σ ≠ 1 tells powers of σ apart
_MOST_BUNDLES = 48
Coefficient = Callable[[int, float], float]


def times_depth(depth: int, sigma: float) -> float:
    """Return d σ^(2(d−1))."""
    return depth * sigma ** (2 * (depth - 1))


def _without_depth(depth: int, sigma: float) -> float:
    return sigma ** (2 * (depth - 1))


def _power_of_depth(depth: int, sigma: float) -> float:
    return depth * sigma ** (2 * depth)


def drawn_words(trial: Trial) -> list[tuple[Entry, ...]]:
    """Draw bundles, as their weights, until all signs of the weights cannot be tried any more.

    Of the bundles that meet a weight drawn before, so that pairs have something in common.
    """
    listed = few_paths(trial)
    words = [word for word in dict.fromkeys(word for _, word in listed.bundles) if word]
    most = max(1, trial.patterns.bit_length() - 1)
    chosen: list[tuple[Entry, ...]] = []
    met: set[Entry] = set()
    order = [words[k] for k in torch.randperm(len(words), generator=trial.generator).tolist()]
    for touching in (True, False):
        for word in order:
            fits = len(met | set(word)) <= most and len(chosen) < _MOST_BUNDLES
            is_next = not chosen or not touching or bool(met & set(word))
            if fits and is_next and word not in chosen:
                chosen.append(word)
                met |= set(word)
    if not chosen:
        raise CannotTry(f"no path with weights, or all have more than {most}")
    return chosen


def _signs(bits: Tensor) -> Tensor:
    return SIGMA * (1.0 - 2.0 * bits)


def _zero_or_two(bits: Tensor) -> Tensor:
    return SIGMA * 2.0 * bits


def paths_decouple(
    trial: Trial,
    law: Callable[[Tensor], Tensor] = _signs,
    norm: Coefficient = times_depth,
) -> Sequence[Comparison]:
    """Compare ⟨∇v_p, ∇v_q⟩ with 0 on average for p ≠ q, and with d σ^(2(d−1)) always for p = q.

    Bundles stand for paths: those of one bundle have one value.
    """
    words = drawn_words(trial)
    entries = {e: k for k, e in enumerate(dict.fromkeys(e for word in words for e in word))}
    bits = torch.arange(2 ** len(entries))[:, None] >> torch.arange(len(entries)) & 1
    weights = law(bits.double())  # (pattern, entry)
    mean = torch.zeros(len(words), len(words), dtype=torch.float64)
    norms = torch.zeros(len(weights), len(words), dtype=torch.float64)
    for e, k in entries.items():
        slopes = [
            prod((weights[:, entries[o]] for o in w if o != e), start=torch.ones(len(weights)))
            if e in w
            else torch.zeros(len(weights))
            for w in words
        ]
        along = torch.stack([s.double() for s in slopes], 1)  # (pattern, bundle): ∂v/∂w_k
        mean = mean + along.T @ along / len(weights)
        norms = norms + along * along
    apart = ~torch.eye(len(words), dtype=torch.bool)
    expected = torch.tensor([norm(len(w), SIGMA) for w in words], dtype=torch.float64)
    exact = EvidenceKind.EXACT
    return [
        Comparison(norms, expected.expand_as(norms), 0.0, exact, what="⟨∇v_p, ∇v_p⟩"),
        Comparison(mean[apart], torch.zeros_like(mean[apart]), 0.0, exact, what="E⟨∇v_p, ∇v_q⟩"),
    ]


PATH_DECOUPLING = Statement(
    id="ntk.path-decoupling",
    title="The tangents of different paths are orthogonal on average; those of one have one norm.",
    kind=Kind.EXPECTED,
    latex=(
        r"E \langle \nabla v_p, \nabla v_q \rangle = 0 \; (p \ne q), \qquad "
        r"\langle \nabla v_p, \nabla v_p \rangle = d\, \sigma^{2(d-1)} \text{ for weights } \pm\sigma"
    ),
    sources=("npf, lemma in the proof of theorem 5.1",),
    hypotheses=(needs.UNTIED,),
    claim=paths_decouple,
    mutants=(
        Mutant("weights of mean σ", {"law": _zero_or_two}),
        Mutant("d missing", {"norm": _without_depth}),
    ),
    controls="Tied layers; weights of non-zero mean.",
    note="p and q are bundles; d is the number of weights on p, biases too.",
)


def data_gram(net: PathNetwork, x: Tensor) -> Tensor:
    """Return the Gram matrix of what enters the paths: the inputs, or a constant in their place."""
    flat = x.double().flatten(1)
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Constant) and node.is_input:
            flat = node.value.double().flatten()[None].expand(x.shape[0], -1)
    return flat @ flat.T


def hadamard_kernel(net: PathNetwork, gram: Tensor, gates: Sequence[Tensor]) -> Tensor:
    """Return Σ ⊙ Λ of a dense chain, no propagation."""
    chain = dense_chain(net)
    assert chain is not None
    kernel = gram
    for g, width in zip(chain.gate_of, chain.hidden, strict=True):
        flat = None if g is None else gates[g].double().flatten(1)
        kernel = kernel * (float(width) if flat is None else flat @ flat.T)
    return kernel


def averaged(
    trial: Trial, average: Average, right: Tensor, part: Thinned, what: str = ""
) -> Comparison:
    """Compare an average with a law, at gates and inputs that may be thinned."""
    bound, kind = kernel_tolerance(
        trial.net, part.x, part.gates, variance=SIGMA**2, tangent=True, passes=4
    )
    weakest = max(kind, average.kind, key=list(EvidenceKind).index)
    every = average.kind is not EvidenceKind.STATISTICAL
    signs = "every sign pattern" if every else "drawn signs"
    words = ", ".join(filter(None, [f"E[K_v] by {signs}", what, "gates thinned" * bool(part.what)]))
    return Comparison(
        average.mean,
        right,
        bound + average.half_width,
        weakest,
        what=words,
        error_probability=average.error_probability,
    )


def _held(trial: Trial, part: Thinned) -> Average:
    return tangent_average(trial, SIGMA, gates=part.gates, x=part.x)


def _following(trial: Trial, part: Thinned) -> Average:
    return following_average(trial, SIGMA, part).tangent


def _part(trial: Trial) -> Thinned:
    return thinned(trial, SIGMA)


def _small_part(trial: Trial) -> Thinned:
    return thinned(trial, SIGMA, patterns=DRAWS)


def tangent_kernel_is_proportional(
    trial: Trial,
    coefficient: Coefficient = times_depth,
    average: Callable[[Trial, Thinned], Average] = _held,
    gram: Callable[[PathNetwork, Tensor], Tensor] = data_gram,
    of: Callable[[Trial], Thinned] = _part,
) -> Sequence[Comparison]:
    """Compare the averaged tangent kernel with d σ^(2(d−1)) Σ ⊙ Λ, traced over the outputs."""
    chain = dense_chain(trial.net)
    assert chain is not None
    part = of(trial)
    kernel = hadamard_kernel(trial.net, gram(trial.net, part.x), part.gates)
    right = coefficient(len(chain.layers), SIGMA) * trial.net.output_size * kernel
    return [averaged(trial, average(trial, part), right, part)]


FC_EXPECTATION = Statement(
    id="ntk.fc-expectation",
    title="At any width the expected tangent kernel is a multiple of the path kernel.",
    kind=Kind.EXPECTED,
    latex=r"E[K_v] = d\, \sigma^{2(d-1)} H, \qquad H = \Sigma \odot \Lambda",
    sources=("npf, theorem 5.1", "dgn, section 4"),
    hypotheses=(needs.FULLY_CONNECTED, needs.BIAS_FREE, needs.UNTIED),
    claim=tangent_kernel_is_proportional,
    mutants=(
        Mutant("σ^(2d) for σ^(2(d−1))", {"coefficient": _power_of_depth}),
        Mutant("d missing", {"coefficient": _without_depth}),
        Mutant("gates that follow the value weights", {"average": _following, "of": _small_part}),
    ),
    controls="Gates that depend on the value weights; biases.",
    note="The gates are held as recorded; see ntk.dependent-gates for when that is not the law.",
)


def _ones(net: PathNetwork) -> Unmet | None:
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Constant) and node.is_input and bool((node.value == 1).all()):
            return None
    node = net.nodes[net.value_nodes[0]]
    return Unmet("value input 1", "the paths begin at the data, not at ones", node.place)


ONES_INPUT = Hypothesis("value input 1", "Paths begin at the all-ones vector.", _ones)


def _size_of_input(net: PathNetwork, x: Tensor) -> Tensor:
    count = float(torch.Size(net.input_shape).numel())
    return torch.full((len(x), len(x)), count, dtype=torch.float64)


def _gram_of_data(net: PathNetwork, x: Tensor) -> Tensor:
    flat = x.double().flatten(1)
    return flat @ flat.T


CONSTANT_INPUT = Statement(
    id="ntk.constant-input",
    title="With the all-ones value input the inputs' Gram matrix becomes the number of inputs.",
    kind=Kind.EXPECTED,
    latex=r"E[K_v] = d\, \sigma^{2(d-1)}\, n_{in}\, \Lambda",
    sources=("dlgn, section 5",),
    hypotheses=(ONES_INPUT, needs.FULLY_CONNECTED, needs.BIAS_FREE, needs.UNTIED),
    claim=lambda trial, gram=_size_of_input: tangent_kernel_is_proportional(trial, gram=gram),
    mutants=(Mutant("the Gram matrix of the data", {"gram": _gram_of_data}),),
    controls="Value input x.",
)


def _depth_and_gain(pair: Pair, gain: float) -> float:
    return pair.depth * gain ** (2 * (pair.depth - 1))


def _gain_only(pair: Pair, gain: float) -> float:
    return gain ** (2 * (pair.depth - 1))


def _gain_once(pair: Pair, gain: float) -> float:
    return pair.depth * gain ** (pair.depth - 1)


def tangent_kernel_converges(
    trial: Trial,
    coefficient: Callable[[Pair, float], float] = _depth_and_gain,
    overlap: Law = gate_products,
    rate: float = 0.5,
) -> Sequence[Comparison]:
    """Compare tangent kernels of widening networks with their law, and the rate with ½.

    The networks have the trial's depth, inputs and random gates independent of the values.
    """
    chain = dense_chain(trial.net)
    assert chain is not None
    pair = pair_of(trial, len(chain.layers))
    if not bool(pair.gram.any()):
        zero = torch.zeros(1, dtype=torch.float64)
        return [Comparison(zero, zero, 0.0, EvidenceKind.STATISTICAL, what="all inputs are 0")]
    samples = tangent_samples(pair, trial.generator)
    gain = samples.gain

    def law(factor: float, products: Law) -> Estimate:
        return mean_estimate(samples, factor, products)

    found = law(coefficient(pair, gain), overlap)
    rivals = {
        "no d": law(_gain_only(pair, gain), gate_products),
        "c^(d−1)": law(_gain_once(pair, gain), gate_products),
    }
    if pair.is_spread:
        rivals["order-1 arc-cosine"] = law(_depth_and_gain(pair, gain), arc_cosine_products(1))
    comparisons = [
        Comparison(
            found.kernel,
            found.law,
            found.half_width,
            EvidenceKind.STATISTICAL,
            what=f"mean K_v at width {samples.widths[-1]}, not {name}",
            error_probability=found.error_probability,
            rival=rival.law,
        )
        for name, rival in rivals.items()
    ]
    slope, half_width, chance = fitted_rate(samples, coefficient(pair, gain), overlap)
    if slope.numel():
        comparisons.append(
            Comparison(
                slope,
                torch.full_like(slope, rate),
                half_width,
                EvidenceKind.STATISTICAL,
                what="rate of the error in w",
                error_probability=chance,
                rival=torch.full_like(slope, 1.0),
            )
        )
    return comparisons


FC_LIMIT = Statement(
    id="ntk.fc-limit",
    title="With σ = c/√w the tangent kernel converges, its error falling as w^(−1/2).",
    kind=Kind.LIMIT,
    latex=(
        r"K_v \to d\, c^{2(d-1)} \langle x, x' \rangle \prod_l \langle G_l, G_l' \rangle / w, "
        r"\qquad \text{error } O(w^{-1/2})"
    ),
    sources=("npf, theorem 5.1", "dgn, section 4"),
    hypotheses=(needs.FULLY_CONNECTED, needs.BIAS_FREE, needs.GATED, needs.DATA_INPUT),
    claim=tangent_kernel_converges,
    mutants=(
        Mutant("d missing", {"coefficient": _gain_only}),
        Mutant("c^(d−1) for c^(2(d−1))", {"coefficient": _gain_once}),
        Mutant("order-1 for order-0 arc-cosine", {"overlap": arc_cosine_products(1)}),
        Mutant("rate 1 for ½", {"rate": 1.0}),
    ),
    controls="The nearest wrong laws, each excluded by the interval.",
    note=(
        "Measured on networks of the given depth and inputs. The intervals are Student's, valid for "
        "many draws only; the rate is fitted as log rmse = a − s log w + b/w."
    ),
)


def gates_do_not_follow_the_weights(trial: Trial, following: bool = False) -> Sequence[Comparison]:
    """Compare E[K_v] with E[Σ ∂H/∂z] where all weights are redrawn under the module's own law.

    Where gates are independent of the values, this holds for the gates as they are, so they are
    held. Where they are not, gates are made anew for every draw, and the gap is measured.
    """
    if following:
        part = thinned(trial, SIGMA, patterns=DRAWS)
        found = following_average(trial, SIGMA, part)
        return [averaged(trial, found.tangent, found.law, part, found.what)]
    if INDEPENDENT_LAW(trial.net) is not None:
        found = redrawn_average(trial, SIGMA)
        whole = Thinned(trial.x, [torch.ones_like(g) for g in trial.gates], "")
        return [averaged(trial, found.tangent, found.law, whole, found.what)]
    part = thinned(trial, SIGMA)
    law = ntk_law(trial.net, part.x, variance=SIGMA**2, gates=(part.gates, part.gates))
    return [averaged(trial, _held(trial, part), law, part, "gates held")]


DEPENDENT_GATES = Statement(
    id="ntk.dependent-gates",
    title="The law of the tangent kernel needs gates that do not depend on the value weights.",
    kind=Kind.NOT_IMPLIED,
    latex=(
        r"E_\theta[K_v] = E_\theta \sum_l \partial H / \partial z_l (\sigma^2) \quad "
        r"\big({} = d\, \sigma^{2(d-1)} E_\theta[H] \text{ if fully connected}\big)"
    ),
    sources=("npf, section 5 (assumption)", "dlgn, section 3"),
    hypotheses=(INDEPENDENT_LAW, needs.UNTIED),
    claim=gates_do_not_follow_the_weights,
    mutants=(Mutant("gates that follow the value weights", {"following": True}),),
    controls="A ReLU network; fixed random features that start at the values.",
    note="θ holds value and gate weights, all redrawn as the module's own law draws them.",
)

STATEMENTS = (PATH_DECOUPLING, FC_EXPECTATION, FC_LIMIT, DEPENDENT_GATES, CONSTANT_INPUT)
