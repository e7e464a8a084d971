"""How far depth whitens the tangent kernel: words against brute force, by hand, and as published."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice, pairwise, product
from math import prod

import pytest
import torch
from torch import Tensor, nn

from reluctant.models import Regime, ValueInput, make_conv, make_dgn, make_fc
from reluctant.properties.judging import judge
from reluctant.properties.tangent_moments import GateSums, tangent_moments
from reluctant.properties.whitening import (
    DEPTH_TRADEOFF,
    Pairings,
    anywhere,
    bernoulli_pairings,
    constant_pairings,
    least_growth,
    relative_moments,
    second_moments,
    spectral_distances,
    turning_depth,
)
from reluctant.reports.published import published_rows
from reluctant.theory.statements import Mutant, Trial
from reluctant.theory.verdicts import EvidenceKind, Outcome

HALF = Fraction(1, 2)
POINTS = torch.tensor([[1.0, 2.0], [2.0, -1.0], [-1.0, 1.0]]).double()
INPUT = Pairings(1, 0, 0, 0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trial(module: nn.Module, x: Tensor = POINTS, seed: int = 0) -> Trial:
    return Trial(module.double(), x, seeded(seed))


def nth(first: Pairings, layer: Pairings, depth: int) -> Fraction:
    return next(islice(second_moments(first, layer), depth - 1, None))


def test_one_unit_by_hand() -> None:
    # d = 2, w = 1, μ = ½, σ² = 2: K(s, s')/d = g h (2 + 2)/2 = 2 g h, so E K²/d² is 4 E g h: 2 or 1.
    moments = [next(islice(relative_moments(1, HALF, same), 1, None)) for same in (True, False)]
    assert moments == [2, 1]
    assert [next(islice(spectral_distances(1, n, HALF), 1, None)) for n in (1, 5)] == [1, 5]
    assert least_growth(2, 1, HALF) == 2


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_sums_over_words_are_those_of_words_one_by_one(depth: int, same: bool) -> None:
    layer = bernoulli_pairings(3, Fraction(1, 4), same)
    first = constant_pairings([1, 2])
    total = Fraction(0)
    for word in product(range(4), repeat=depth):
        places = list(pairwise((*word, 0)))  # the output is one unit
        if all(a == b or 0 in (a, b) for a, b in places):
            m = sum(max(a, b) < 2 for a, b in places)
            total += m**2 * first[word[0]] * prod(layer[k] for k in word[1:])
    assert nth(first, layer, depth) == total


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("sizes", [(2,), (2, 2), (3, 3), (1, 1, 1)])
def test_sums_over_words_are_averages_over_every_pattern_of_gates(
    sizes: tuple[int, ...], same: bool
) -> None:
    mean, width, x = Fraction(1, 4), sizes[0], [1, -2]
    masks = list(product((0, 1), repeat=sum(sizes)))
    chance = [prod(mean if g else 1 - mean for g in mask) for mask in masks]
    total = Fraction(0)
    for (g, p), (h, q) in product(zip(masks, chance, strict=True), repeat=2):
        if same and g != h:
            continue
        layers = [
            GateSums.of(*(m[k * width : (k + 1) * width] for m in (g, h)))
            for k in range(len(sizes))
        ]
        average, variance = tangent_moments(x, x, layers, 1 / (mean * width))
        total += (p if same else p * q) * (variance + average**2)
    layer = bernoulli_pairings(width, mean, same)
    assert nth(constant_pairings(x), layer, len(sizes) + 1) == total


@pytest.mark.parametrize("width", [1, 2, 5, 40])
@pytest.mark.parametrize("examples", [2, 50])
def test_no_depth_beyond_the_search_is_better(width: int, examples: int) -> None:
    for mean in (Fraction(1, 4), HALF):
        distances = list(islice(spectral_distances(width, examples, mean), 1, 100))
        assert turning_depth(width, examples, mean) == 2 + distances.index(min(distances))
        own = list(islice(relative_moments(width, mean, True), 1, 100))
        assert all(
            m >= least_growth(d, width, mean) for d, m in enumerate(own, 2)
        )  # and V = E K²/d² − 1 is as large


def test_the_best_of_the_published_depths() -> None:
    depths = (2, 4, 6, 8, 12, 16, 20)
    found = {}
    for width in (25, 500):
        distances = [None, *islice(spectral_distances(width, 200, HALF), max(depths))]
        found[width] = min(depths, key=lambda d, of=distances: of[d])  # type: ignore[misc]
    assert found == {25: 8, 500: 12}
    rows = published_rows("npf", "figure: memorisation", width=25)
    assert tuple(sorted(int(r.setting["depth"]) for r in rows)) == depths
    assert min(rows, key=lambda r: float(r.value)).setting["depth"] == found[25]
    assert [turning_depth(w, 200, HALF) for w in (25, 500)] == [8, 10]  # of all depths


def net(ones: bool = False, width: int = 2) -> nn.Module:
    value_input = ValueInput.ONES if ones else ValueInput.X
    value = make_fc(2, [width, width], 2, generator=seeded())
    return make_dgn(value, Regime.FRNPF_II, generator=seeded(), value_input=value_input)


@pytest.mark.parametrize("ones", [False, True])
def test_it_holds_and_every_route_is_exact(ones: bool) -> None:
    for seed in range(3):
        judgement = judge(DEPTH_TRADEOFF, trial(net(ones), seed=seed))
        assert judgement.outcome is Outcome.HOLDS, judgement
        assert {c.kind for c in judgement.comparisons} == {EvidenceKind.EXACT}
        ends = [c.what.rsplit(", ")[-1] for c in judgement.comparisons[:2]]
        assert ends == ["by moments", "and every sign pattern"]


@pytest.mark.parametrize("mutant", DEPTH_TRADEOFF.mutants, ids=lambda m: m.name)
def test_mutants_are_refuted(mutant: Mutant) -> None:
    judgement = judge(DEPTH_TRADEOFF, trial(net()), dict(mutant.ingredients))
    assert judgement.outcome is Outcome.REFUTED
    assert "E K² over every pattern of gates" in judgement.reason


def test_a_kernel_without_variance_never_turns_in_the_same_place() -> None:
    """Each later comparison can fail too: growth, and depths of wider networks."""
    mutants = {m.name: dict(m.ingredients) for m in DEPTH_TRADEOFF.mutants}
    growth = judge(DEPTH_TRADEOFF, trial(net()), mutants["no variance"]).comparisons[-2]
    assert growth.what.startswith("least growth") and not growth.holds
    turns = judge(DEPTH_TRADEOFF, trial(net()), mutants["one mask for all examples"])
    assert turns.comparisons[-1].what.startswith("depths at which")
    assert not turns.comparisons[-1].holds
    words = list(islice(second_moments(INPUT, bernoulli_pairings(2, HALF, True), anywhere), 3))
    assert words[2] > nth(INPUT, bernoulli_pairings(2, HALF, True), 3)


@pytest.mark.parametrize(
    ("module", "x", "hypothesis"),
    [
        (make_fc(2, [2, 3], generator=seeded()), POINTS, "equal widths"),
        (make_fc(2, [2], generator=seeded(), bias=True), POINTS, "bias-free"),
        (make_conv((1, 2), [2], generator=seeded(), window=2), POINTS[:, None], "fully connected"),
    ],
)
def test_other_networks_are_excluded(module: nn.Module, x: Tensor, hypothesis: str) -> None:
    judgement = judge(DEPTH_TRADEOFF, trial(module, x))
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert hypothesis in {u.hypothesis for u in judgement.unmet}


def test_too_many_gates_are_named() -> None:
    judgement = judge(DEPTH_TRADEOFF, trial(net(width=8)))
    assert judgement.outcome is Outcome.INCONCLUSIVE
    assert "2^16 patterns of gates are too many" in judgement.reason


class Fed(nn.Module):
    """Feed a constant to the paths, and gate them by the data."""

    def __init__(self, constant: float) -> None:
        super().__init__()
        self.constant = constant
        self.gate, self.hidden, self.last = (
            nn.Linear(a, b, bias=False) for a, b in ((2, 2), (1, 2), (2, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        fed = torch.full((len(x), 1), self.constant, dtype=x.dtype)
        output: Tensor = self.last(self.hidden(fed) * (self.gate(x) > 0))
        return output


def test_what_is_fed_to_the_paths_has_to_be_whole() -> None:
    assert judge(DEPTH_TRADEOFF, trial(Fed(3.0))).outcome is Outcome.HOLDS
    judgement = judge(DEPTH_TRADEOFF, trial(Fed(0.5)))
    assert judgement.outcome is Outcome.INCONCLUSIVE
    assert "what feeds the paths is not whole" in judgement.reason
    large = judge(DEPTH_TRADEOFF, trial(Fed(2.0**20)))
    assert "averages over all patterns of 2 gates are rounded" in large.reason
