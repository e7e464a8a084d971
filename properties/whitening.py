r"""How far depth whitens the tangent kernel of random gates before its variance wins (npf, dgn).

:math:`K(s, s')^2` is a sum over two weights e, e' and four paths: p and p' through e, of s and of
s', and q and q' through e'. Signs average to 0 where a weight is left alone, so in each layer the
four units are one, or they are two, in pairs: p with p' and q with q', or p with q and p' with q',
or p with q' and p' with q. Neighbours are equal, or one of them is "all one". A weight e can lie
between two layers only if p and p' meet in both. Hence, exactly and at every width,

.. math:: E K(s, s')^2 = \sum_S m_S^2 \prod_l \omega(S_l),

over the words S of pairings, one a layer, with ω the expected number of such units times σ⁴, and m
the number of places between layers where e could lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import islice
from math import lcm
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reluctant.properties import hypotheses as needs
from reluctant.properties.bounds import are_integers
from reluctant.properties.gate_patterns import GatePatterns, gate_patterns
from reluctant.properties.hadamard import entering
from reluctant.properties.tangent_moments import GateSums, tangent_moments
from reluctant.properties.thinning import one_output
from reluctant.properties.variances import kernels_by_pattern
from reluctant.properties.weights import affordable_patterns, weight_entries
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.verdicts import EvidenceKind

Number = Any  # int, float, Fraction, or a polynomial: whatever can be added and multiplied
_MOST_ENTRIES = 2**22  # of kernels at all sign patterns
_EXAMPLES = (2, 20, 200)  # numbers n of examples to be memorised
_WIDER = tuple(4**k for k in range(5))


class Pairings(NamedTuple):
    """Be expected numbers of four units of a layer, one for each of four paths, times σ⁴.

    Attributes:
        one: All four units are one.
        tangents: Two units: p with p', q with q'.
        inputs: Two units: p with q, p' with q'.
        crossed: Two units: p with q', p' with q.
    """

    one: Number
    tangents: Number
    inputs: Number
    crossed: Number


def bernoulli_pairings(width: Number, mean: Number, same: bool) -> Pairings:
    """Return the pairings of a layer whose gates are on with probability μ, at σ² = 1/(μw).

    Args:
        width: w.
        mean: μ.
        same: Whether s and s' are one example, which has one mask.
    """
    both = mean if same else mean**2  # chance that a unit is on at s and at s'
    variance, pairs = 1 / (mean * width), width * (width - 1)
    counts = (width * both, pairs * both**2, pairs * mean**2, pairs * both**2)
    return Pairings(*(variance**2 * count for count in counts))


def constant_pairings(x: Sequence[Number]) -> Pairings:
    """Return the pairings of what enters the paths, the same at both examples."""
    fourth, norm = sum(a**4 for a in x), sum(a**2 for a in x)
    return Pairings(fourth, *[norm**2 - fourth] * 3)


def tangents_meet(here: int, there: int) -> bool:
    """Tell whether p meets p', and q meets q', in both of two neighbouring layers."""
    return here < 2 and there < 2


def anywhere(here: int, there: int) -> bool:
    """Take a weight out wherever it lies, a fault."""
    return True


Meet = Callable[[int, int], bool]
_Sums = tuple[Number, Number, Number]


def second_moments(
    first: Pairings, layer: Pairings, meet: Meet = tangents_meet
) -> Iterator[Number]:
    """Go through E K(s, s')² of one output at depths 1, 2, …, all hidden layers alike.

    Args:
        first: What enters the paths.
        layer: Every hidden layer.
        meet: Whether a weight can lie between layers with two given pairings.

    Cost:
        Some 30 products a depth.
    """
    # Of the words so far that end in each pairing, the sums of 1, m and m², weighted by ω.
    sums = [(weight, 0, 0) for weight in first]
    while True:
        yield _after(sums, 0, meet)[2]  # the output is one unit
        after = [_after(sums, k, meet) for k in range(len(layer))]
        sums = [(w * a, w * b, w * c) for w, (a, b, c) in zip(layer, after, strict=True)]


def _after(sums: Sequence[_Sums], k: int, meet: Meet) -> _Sums:
    """Return the sums of 1, m and m² of the words to which pairing k is added."""
    total: _Sums = (0, 0, 0)
    for j, (count, once, twice) in enumerate(sums):
        if j and k and j != k:
            continue
        if meet(j, k):
            once, twice = once + count, twice + 2 * once + count
        total = (total[0] + count, total[1] + once, total[2] + twice)
    return total


def least_growth(depth: int, width: int, mean: Fraction) -> Fraction:
    r"""Return :math:`(1 + (1 - \mu) / \mu w)^{d-1}`, which E K(s, s)²/d² is not below.

    It is what the words without "inputs" and "crossed" add, all of which have m = d.
    """
    return (1 + (1 - mean) / (mean * width)) ** (depth - 1)


Weigh = Callable[[Number, Number, bool], Pairings]


def relative_moments(
    width: int, mean: Fraction, same: bool, weigh: Weigh = bernoulli_pairings
) -> Iterator[Fraction]:
    """Go through E K(s, s')²/d² at depths 1, 2, …, for input 1: exact numbers."""
    layer = weigh(width, mean, same)
    unit = lcm(*(Fraction(weight).denominator for weight in layer))
    whole = Pairings(*(int(weight * unit) for weight in layer))
    for depth, moment in enumerate(second_moments(Pairings(1, 0, 0, 0), whole), 1):
        yield Fraction(moment, unit ** (depth - 1) * depth**2)


def spectral_distances(
    width: int, examples: int, mean: Fraction, weigh: Weigh = bernoulli_pairings
) -> Iterator[Fraction]:
    r"""Go through E (1/n) Σ (λ_i − 1)² at depths 1, 2, …, λ the eigenvalues of K/d; for input 1.

    .. math:: \tfrac1n E\, \mathrm{tr} (K/d - I)^2 = E K(s, s)^2 / d^2 - 1 + (n-1) E K(s, s')^2 / d^2

    Args:
        width: w of every hidden layer.
        examples: n.
        mean: μ, the chance of a gate to be on.
        weigh: Gives the pairings of a layer.
    """
    own, other = (relative_moments(width, mean, same, weigh) for same in (True, False))
    for here, there in zip(own, other, strict=True):
        yield here - 1 + (examples - 1) * there


@cache
def turning_depth(
    width: int, examples: int, mean: Fraction, weigh: Weigh = bernoulli_pairings
) -> int:
    """Return the depth from 2 on at which K/d is expected to be nearest to the identity.

    The search is complete: it goes on until the least that the variance can be, which grows with
    depth, is above the smallest distance found.
    """
    distances = spectral_distances(width, examples, mean, weigh)
    next(distances)  # depth 1, which has no gates
    best, least = 2, next(distances)
    for depth, distance in enumerate(distances, 3):
        if least_growth(depth, width, mean) - 1 > least:
            break
        if distance < least:
            best, least = depth, distance
    return best


def depth_whitens_until_the_variance_wins(
    trial: Trial, weigh: Weigh = bernoulli_pairings, meet: Meet = tangents_meet
) -> Sequence[Comparison]:
    """Compare E K² over all gates and signs with the sum over words; and the depths of the least.

    Inputs are a unit vector, or whatever constant feeds the paths in their place.
    """
    patterns = gate_patterns(trial)
    width, depth = patterns.chain.hidden[0], len(patterns.chain.layers)
    mean = Fraction(patterns.mean)
    start = entering(trial.net, patterns.x)[0]
    if not are_integers([start]):
        raise CannotTry("what feeds the paths is not whole, so that averages are rounded")
    first = constant_pairings([int(a) for a in start.tolist()])
    words = [
        next(islice(second_moments(first, weigh(width, mean, same), meet), depth - 1, None))
        for same in (True, False)
    ]
    scale = (1 / (mean * width)) ** (2 * (depth - 1))
    exact = EvidenceKind.EXACT
    found = [
        Comparison(_numbers(scale * m for m in averages), _numbers(words), 0.0, exact, what=what)
        for averages, what in _averages(trial, patterns, start.tolist())
    ]
    depths = range(2, 2 * depth + 2)
    least = _numbers(least_growth(d, width, mean) for d in depths)
    moments = _numbers(islice(relative_moments(width, mean, True, weigh), 1, depths[-1]))
    what = f"least growth of E K(s, s)²/d² up to depth {depths[-1]}"
    found.append(Comparison(least, moments, 0.0, exact, "at most", what))
    examples = _EXAMPLES[trial.integer(0, len(_EXAMPLES))]
    turns = [turning_depth(width * k, examples, mean, weigh) for k in _WIDER]
    here, wider = _numbers([*turns[:-1], turns[0] + 1]), _numbers([*turns[1:], turns[-1]])
    what = f"depths at which {examples} examples turn, of wider and wider networks"
    found.append(Comparison(here, wider, 0.0, exact, "at most", what))
    return found


def _averages(
    trial: Trial, patterns: GatePatterns, start: list[float]
) -> Iterator[tuple[list[Fraction], str]]:
    """Yield E K(s, s)² and E K(s, s')² at σ = 1, by moments of layers and by every sign."""
    masks = [patterns.gates[g] for g in patterns.chain.gates]
    sums = [GateSums(g @ g.T, g @ g.T, g.sum(1)[:, None], g.sum(1)) for g in masks]
    mean, variance = tangent_moments(start, start, sums, 1)
    what = f"E K² over every pattern of gates on with chance {patterns.mean:g}"
    yield _exact_average(patterns, variance + mean**2), f"{what}, by moments"
    net = one_output(trial.net, 0)
    entries = weight_entries(trial, 1.0, patterns.gates, patterns.x, net)
    afforded = min(affordable_patterns(trial), _MOST_ENTRIES // len(patterns.x) ** 2)
    if entries.patterns <= afforded:
        total = kernels_by_pattern(entries).square().sum(0)
        averages = [a / entries.patterns for a in _exact_average(patterns, total)]
        yield averages, f"{what}, and every sign pattern"


def _exact_average(patterns: GatePatterns, values: Tensor) -> list[Fraction]:
    """Average whole numbers over the gates."""
    if not patterns.averages_exactly(values):
        gates = sum(patterns.chain.hidden)
        raise CannotTry(f"averages over all patterns of {gates} gates are rounded; take fewer")
    return [Fraction(a) for a in patterns.average(values).tolist()]


def _numbers(values: Iterable[Number]) -> Tensor:
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def one_mask(width: Number, mean: Number, same: bool) -> Pairings:
    """Give all examples one mask, a fault."""
    return bernoulli_pairings(width, mean, True)


def gates_as_their_means(width: Number, mean: Number, same: bool) -> Pairings:
    """Take μ² for the mean of g², as if gates were their own means, a fault."""
    both = mean if same else mean**2
    return bernoulli_pairings(width, mean, same)._replace(one=both**2 / (mean**2 * width))


def _without_variance(width: Number, mean: Number, same: bool) -> Pairings:
    return Pairings(0, 1 if same else mean**2, 0, 0)


DEPTH_TRADEOFF = Statement(
    id="ntk.depth-tradeoff",
    title="Depth whitens the tangent kernel until its variance wins, later in wider networks.",
    kind=Kind.EXPECTED,
    latex=(
        r"E\, \tfrac{1}{n} \sum_i (\lambda_i - 1)^2 = V + (n-1)\, U, \qquad "
        r"d^2 (1 + V) = \sum_S m_S^2 \prod_l \omega(S_l), \quad "
        r"V \ge \Big( 1 + \tfrac{1-\mu}{\mu w} \Big)^{d-1} - 1, \qquad "
        r"\lim_{w \to \infty} U = \mu^{2(d-1)}"
    ),
    sources=("npf, section 5 (memorisation)", "dgn, section 4"),
    hypotheses=(needs.FULLY_CONNECTED, needs.EQUAL_WIDTHS, needs.BIAS_FREE, needs.UNTIED),
    claim=depth_whitens_until_the_variance_wins,
    mutants=(
        Mutant("one mask for all examples", {"weigh": one_mask}),
        Mutant("means in place of gates", {"weigh": gates_as_their_means}),
        Mutant("no variance", {"weigh": _without_variance}),
        Mutant("a weight taken out in every layer", {"meet": anywhere}),
    ),
    controls="Without its variance the kernel would whiten at every depth.",
    note=(
        "λ_i are the eigenvalues of K/d for n examples of input 1, weights ±σ with σ² = 1/(μw), gates "
        "on with chance μ for each unit and example. S is a pairing of four paths in each layer, ω "
        "how many such units there are on average, times σ⁴, and m_S the number of places where a "
        "weight can be taken out; d² U is the same sum at two examples. In wide networks V is of "
        "order d/w. So each width has a best depth, which grows without bound with the width; that "
        "it never falls was tried in exact numbers, not proved. At n = 200 and μ = ½ the best of the "
        "depths in npf's figure are 8 at w = 25 and 12 at w = 500, those at which the figure's "
        "networks learn fastest; how fast they learn is no part of the statement."
    ),
)

STATEMENTS = (DEPTH_TRADEOFF,)
