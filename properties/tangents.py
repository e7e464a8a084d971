"""Statements of the tangent kernel over random value weights with fixed gates (npf, dgn, dlgn)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor
from torch.func import vmap

from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.averages import Average, tangent_average
from reluctant.properties.bounds import path_sum_bound
from reluctant.properties.dependence import (
    DRAWS,
    INDEPENDENT_LAW,
    following_average,
    redrawn_average,
)
from reluctant.properties.hadamard import gate_overlap, input_gram, layer_gates
from reluctant.properties.laws import averaged
from reluctant.properties.limits import FC_LIMIT
from reluctant.properties.listing import few_paths
from reluctant.properties.thinning import Thinned, thinned
from reluctant.properties.weights import absolute_outputs, weight_entries
from reluctant.theory.counts import rough_count
from reluctant.theory.kernels import ntk_law
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant
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
from reluctant.theory.structure import DenseChain, dense_chain
from reluctant.theory.verdicts import EvidenceKind, Unmet

SIGMA = 2.0  # an integer keeps small integers exact, and σ ≠ 1 tells powers of σ apart
_MOST_BUNDLES = 48
_MOST_WEIGHTS = 16  # so that sums over patterns stay below 2^53
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
    if rough_count(trial.net) <= trial.paths:
        listed = few_paths(trial)
        words = [word for word in dict.fromkeys(word for _, word in listed.bundles) if word]
    else:
        words = words_of_a_part(trial)
    most = min(_MOST_WEIGHTS, max(1, trial.patterns.bit_length() - 1))
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


def words_of_a_part(trial: Trial) -> list[tuple[Entry, ...]]:
    """Return the bundles of a small part of a network whose paths are too many to list.

    With weights 0 and 1 the absolute outputs count paths by their weights: as no weight acts twice
    on a path, the alternating sums over the subsets of a set of weights give that set's bundle.
    """
    part = thinned(trial, 1.0, outputs=False)
    entries = weight_entries(trial, 1.0, part.gates, part.x, part.net)
    count = len(entries.signed)
    bits = torch.arange(entries.patterns)[:, None] >> torch.arange(count) & 1

    def total(row: Tensor) -> Tensor:
        return absolute_outputs(entries, row).sum()

    sums: Tensor = vmap(total, chunk_size=256)(bits.double())
    ones = entries.weights(torch.ones(count, dtype=torch.float64))
    whole = path_sum_bound(entries.net, entries.x, entries.gates, weights=ones, passes=1, extra=8)
    negligible = entries.patterns * whole.sum()
    for j in range(count):
        halves = sums.reshape(-1, 2, 2**j)
        sums = torch.stack([halves[:, 0], halves[:, 1] - halves[:, 0]], 1).flatten()
    named = dict(zip(entries.signed.tolist(), range(count), strict=True))
    chosen = (sums > negligible).nonzero().flatten().tolist()
    words = [tuple(("", place) for place, j in named.items() if k >> j & 1) for k in chosen]
    return [word for word in words if word]


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
    for e in entries:
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
        r"E \langle \nabla v_p, \nabla v_q \rangle = 0 \; (p \ne q), \qquad \langle \nabla v_p,"
        r"\nabla v_p \rangle = d\, \sigma^{2(d-1)} \text{ for weights } \pm\sigma"
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


def _chain(trial: Trial) -> DenseChain:
    chain = dense_chain(trial.net)
    if chain is None:
        raise CannotTry("the formula is one for a chain of dense layers")
    return chain


def _held(trial: Trial, part: Thinned) -> Average:
    return tangent_average(trial, SIGMA, gates=part.gates, x=part.x, net=part.net)


def _following(trial: Trial, part: Thinned) -> Average:
    return following_average(trial, SIGMA, part).tangent


def _part(trial: Trial) -> Thinned:
    return thinned(trial, SIGMA, outputs=False)


def _small_part(trial: Trial) -> Thinned:
    return thinned(trial, SIGMA, patterns=DRAWS, outputs=False)


def tangent_kernel_is_proportional(
    trial: Trial,
    coefficient: Coefficient = times_depth,
    average: Callable[[Trial, Thinned], Average] = _held,
    gram: Callable[[PathNetwork, Tensor], Tensor] = input_gram,
    of: Callable[[Trial], Thinned] = _part,
) -> Sequence[Comparison]:
    """Compare the averaged tangent kernel with d σ^(2(d−1)) Σ ⊙ Λ, traced over the outputs."""
    chain = _chain(trial)
    part = of(trial)
    overlap = gate_overlap(layer_gates(chain, part.gates), chain.hidden)
    kernel = gram(trial.net, part.x) * overlap
    right = coefficient(len(chain.layers), SIGMA) * part.net.output_size * kernel
    return [averaged(average(trial, part), right, part, SIGMA)]


FC_EXPECTATION = Statement(
    id="ntk.fc-expectation",
    title="At any width the expected tangent kernel is a multiple of the path kernel.",
    kind=Kind.EXPECTED,
    latex=r"E[K_v] = d\, \sigma^{2(d-1)} H, \qquad H = \Sigma \odot \Lambda",
    sources=("npf, theorem 5.1", "dgn, section 4"),
    hypotheses=(needs.FULLY_CONNECTED, needs.BIAS_FREE, needs.UNTIED),
    claim=tangent_kernel_is_proportional,
    cost=costs.kernels,
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


def _one(net: PathNetwork, x: Tensor) -> Tensor:
    return torch.ones(len(x), len(x), dtype=torch.float64)


CONSTANT_INPUT = Statement(
    id="ntk.constant-input",
    title="With the all-ones value input the inputs' Gram matrix becomes the number of inputs.",
    kind=Kind.EXPECTED,
    latex=r"E[K_v] = d\, \sigma^{2(d-1)}\, n_{in}\, \Lambda",
    sources=("dlgn, section 5",),
    hypotheses=(ONES_INPUT, needs.FULLY_CONNECTED, needs.BIAS_FREE, needs.UNTIED),
    claim=lambda trial, gram=_size_of_input: tangent_kernel_is_proportional(trial, gram=gram),
    mutants=(
        Mutant("the Gram matrix of the data", {"gram": _gram_of_data}),
        Mutant("1 in place of n_in", {"gram": _one}),
    ),
    controls="Value input x.",
)


def gates_do_not_follow_the_weights(trial: Trial, following: bool = False) -> Sequence[Comparison]:
    """Compare E[K_v] with E[Σ ∂H/∂z] where all weights are redrawn under the module's own law.

    Where gates are independent of the values, this holds for the gates as they are, so they are
    held. Where they are not, gates are made anew for every draw, and the gap is measured.
    """
    if following:
        part = thinned(trial, SIGMA, patterns=DRAWS, outputs=False)
        found = following_average(trial, SIGMA, part)
        return [averaged(found.tangent, found.law, part, SIGMA, what=found.what)]
    if INDEPENDENT_LAW(trial.net) is not None:
        found = redrawn_average(trial, SIGMA)
        whole = Thinned(found.net, trial.x, [torch.ones_like(g) for g in trial.gates], "")
        return [averaged(found.tangent, found.law, whole, SIGMA, what=found.what)]
    part = thinned(trial, SIGMA, outputs=False)
    law = ntk_law(part.net, part.x, variance=SIGMA**2, gates=(part.gates, part.gates))
    return [averaged(_held(trial, part), law, part, SIGMA, what="gates held")]


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
    cost=costs.kernels,
    mutants=(Mutant("gates that follow the value weights", {"following": True}),),
    controls="A ReLU network; fixed random features that start at the values.",
    note="θ holds value and gate weights, all redrawn as the module's own law draws them.",
)

STATEMENTS = (PATH_DECOUPLING, FC_EXPECTATION, FC_LIMIT, DEPENDENT_GATES, CONSTANT_INPUT)
