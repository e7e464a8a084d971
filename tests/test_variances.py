"""Variances of the tangent kernel: moments against every sign pattern, and what papers print."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise, product

import pytest
import sympy
import torch

from reluctant.models import HARD, Regime, Soft, make_dgn, make_fc
from reluctant.properties.families import FAMILIES
from reluctant.properties.judging import judge
from reluctant.properties.tangent_moments import (
    GAUSSIAN,
    GateSums,
    open_variance,
    tangent_moments,
)
from reluctant.properties.variances import FC_VARIANCE, FC_VARIANCE_PRINTED, kernels_by_pattern
from reluctant.properties.verification import verify_family
from reluctant.properties.weights import weight_entries
from reluctant.theory.statements import Trial
from reluctant.theory.tangents import value_kernel
from reluctant.theory.verdicts import EvidenceKind, Outcome

Layers = Sequence[Sequence[int]]
CASES = [
    ([1, -2], [2, 1], [[1, 1]], [[1, 0]]),
    ([1, 2], [1, -1], [[2, 1]], [[1, 1]]),
    ([1], [1], [[1, 1], [1, 1]], [[1, 1], [1, 1]]),
    ([1, 1], [2, 1], [[1], [1, 2]], [[2], [1, 1]]),
    ([2], [-1], [[1], [1, 1], [1]], [[1], [0, 1], [2]]),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kernel(x: Sequence[int], y: Sequence[int], g: Layers, h: Layers, w: list[int]) -> int:
    """Return Σ_p Σ_q φ_p(x) φ_q(y) ⟨∇v_p, ∇v_q⟩ of one output, path by path."""
    sizes = [len(x), *map(len, g), 1]
    starts = [sum(a * b for a, b in pairwise(sizes[:k])) for k in range(1, len(sizes) + 1)]
    paths = []
    for units in product(*map(range, sizes)):
        word = [starts[k] + b * sizes[k] + a for k, (a, b) in enumerate(pairwise(units))]
        phi = [x[units[0]], y[units[0]]]
        for layer, unit in enumerate(units[1:-1]):
            phi = [phi[0] * g[layer][unit], phi[1] * h[layer][unit]]
        paths.append((word, phi))
    total = 0
    for word, (here, _) in paths:
        for other, (_, there) in paths:
            for e in set(word) & set(other):
                slope = 1
                for k in (*word, *other):
                    slope *= 1 if k == e else w[k]
                total += here * there * slope
    return total


@pytest.mark.parametrize(("x", "y", "g", "h"), CASES)
def test_moments_are_those_of_every_sign_pattern(
    x: list[int], y: list[int], g: list[list[int]], h: list[list[int]]
) -> None:
    sizes = [len(x), *map(len, g), 1]
    count = sum(a * b for a, b in pairwise(sizes))
    drawn = [kernel(x, y, g, h, list(w)) for w in product((-2, 2), repeat=count)]
    mean = Fraction(sum(drawn), len(drawn))
    variance = Fraction(sum(k * k for k in drawn), len(drawn)) - mean**2
    sums = [GateSums.of(a, b) for a, b in zip(g, h, strict=True)]
    assert tangent_moments(x, y, sums, 4) == (mean, variance)


def test_gaussian_moments_by_hand() -> None:
    # d = 2, one unit: K = u² x² + v² x² with u, v normal: mean 2 and variance 2 + 2 at x = 1.
    assert tangent_moments([1], [1], [GateSums.open(1)], 1, GAUSSIAN) == (2, 4)
    assert tangent_moments([1], [1], [GateSums.open(1)], 1) == (2, 0)


def test_variance_by_hand() -> None:
    # d = 2, x = (1, 1), w = 1: K = 2 v² + (u₁ + u₂)² is 2 or 6 for signs, so Var = 4.
    assert tangent_moments([1, 1], [1, 1], [GateSums.open(1)], 1) == (4, 4)


@pytest.mark.parametrize("depth", range(2, 9))
def test_at_fixed_depth_the_relative_variance_is_of_order_one_over_the_width(depth: int) -> None:
    u = sympy.Symbol("u")
    layers = [GateSums.open(1 / u)] * (depth - 1)
    mean, variance = tangent_moments([1], [1], layers, u)
    assert sympy.expand(mean) == depth
    series = sympy.Poly(sympy.expand(variance), u).all_coeffs()[::-1]
    assert series[0] == 0
    squares = sum(k * k for k in range(1, depth - 1))
    assert (series[1] if len(series) > 1 else 0) == 4 * squares


def test_the_smallest_counterexample_of_the_printed_variance() -> None:
    assert open_variance(4, 5) == Fraction(416, 125) > Fraction(16, 5)
    assert open_variance(2, 3) == 0
    # Nothing shallower is above the printed bound with C = 1, at any width that it allows.
    for depth, least in ((2, 3), (3, 4)):
        for width in range(least, 200):
            shape = max(Fraction(depth**2, width), Fraction(depth**3, width**2))
            assert open_variance(depth, width) <= shape


def test_the_printed_variance_is_refuted_for_every_constant_tried() -> None:
    verdict = verify_family(FC_VARIANCE_PRINTED, FAMILIES[0], examples=2)
    assert verdict.outcome is Outcome.REFUTED
    assert verdict.counterexample is not None
    numbers = verdict.counterexample.numbers
    assert (numbers["d"], numbers["w"], numbers["left"], numbers["right"]) == (
        4,
        5,
        "416/125",
        "16/5",
    )
    trial = Trial(make_fc(1, [1], generator=seeded()).double(), torch.ones(2, 1).double(), seeded())
    judged = judge(FC_VARIANCE_PRINTED, trial)
    assert [c.holds for c in judged.comparisons] == [False, False, False]


def test_kernels_by_pattern_are_those_of_automatic_differentiation() -> None:
    net = make_fc(2, [2], generator=seeded(3)).double()
    x = torch.tensor([[1.0, 2.0], [2.0, -1.0]]).double()
    trial = Trial(net, x, seeded())
    gates = [torch.ones_like(g) for g in trial.gates]
    found = kernels_by_pattern(weight_entries(trial, 2.0, gates))
    assert found.shape == (2**6, 2, 2)
    for k in (0, 5, 63):
        signs = torch.tensor([2.0 - 4.0 * (k >> j & 1) for j in range(6)]).double()
        weights = [signs[:4].reshape(2, 2), signs[4:].reshape(1, 2)]
        assert torch.equal(found[k], value_kernel(trial.net, x, gates, weights))


def test_the_variance_is_bounded_on_a_wide_network() -> None:
    module = make_fc(5, [40, 30], 3, generator=seeded()).double()
    x = torch.randn(3, 5, generator=seeded(1), dtype=torch.float64)
    judged = judge(FC_VARIANCE, Trial(module, x, seeded()))
    assert judged.outcome is Outcome.HOLDS
    assert {c.kind for c in judged.comparisons} == {EvidenceKind.EXACT}


def test_gates_above_one_are_excluded() -> None:
    value = make_fc(2, [2, 2], generator=seeded()).double()
    x = torch.tensor([[1.0, 2.0], [2.0, -1.0]]).double()
    for excess, outcome in ((0.0, Outcome.HOLDS), (0.5, Outcome.NOT_IMPLIED)):
        net = make_dgn(value, Regime.DLNPF, generator=seeded(), gate=Soft(4.0, excess)).double()
        judged = judge(FC_VARIANCE, Trial(net, x, seeded()))
        assert judged.outcome is outcome
    assert "can exceed 1" in judged.unmet[0].reason
    hard = make_dgn(value, Regime.FRNPF_II, generator=seeded(), gate=HARD).double()
    assert judge(FC_VARIANCE, Trial(hard, x, seeded())).outcome is Outcome.HOLDS
