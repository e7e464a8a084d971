"""The limit of the tangent kernel in width: its rate, its interval, and the wrong limits."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
import torch
from model_specimens import seeded

from reluctant.models import (
    make_fc,
)
from reluctant.properties.catalogue import select
from reluctant.properties.judging import judge
from reluctant.properties.limits import FC_LIMIT
from reluctant.properties.widths import (
    _FEATURES,
    WIDTHS,
    Pair,
    arc_cosine_products,
    fitted_rate,
    gate_products,
    pair_of,
    tangent_samples,
)
from reluctant.theory.statements import Trial, error_share
from reluctant.theory.verdicts import Outcome


@pytest.fixture(scope="module")
def limit_trial() -> Trial:
    x = torch.tensor([[1.0, 2.0], [2.0, 1.0], [-2.0, 0.0]], dtype=torch.float64)
    return Trial(make_fc(2, [3, 3], generator=seeded()).double(), x, seeded(7))


def test_the_tangent_kernel_converges_at_rate_one_half(limit_trial: Trial) -> None:
    judgement = judge(FC_LIMIT, limit_trial)
    assert judgement.outcome is Outcome.HOLDS, judgement
    words = [c.what for c in judgement.comparisons]
    assert [w.rsplit(", ")[-1] for w in words[:3]] == [
        "not no d",
        "not c^(d−1)",
        "not order-1 arc-cosine",
    ]
    rate = judgement.comparisons[-1]
    assert rate.what == "rate of the error in w"
    # A half-width below 1/4 around what is that near 1/2 leaves out the rates 0 and 1.
    assert abs(float(rate.left) - 0.5) < float(torch.as_tensor(rate.bound)) < 0.25
    assert not any(c.is_blind for c in judgement.comparisons)


@pytest.mark.parametrize("mutant", FC_LIMIT.mutants, ids=[m.name for m in FC_LIMIT.mutants])
def test_wrong_limits_are_refuted(limit_trial: Trial, mutant: object) -> None:
    judgement = judge(FC_LIMIT, limit_trial, dict(mutant.ingredients))  # type: ignore[attr-defined]
    assert judgement.outcome is Outcome.REFUTED


def test_inputs_that_vanish_say_nothing() -> None:
    module = make_fc(2, [3], generator=seeded()).double()
    trial = Trial(module, torch.zeros(3, 2, dtype=torch.float64), seeded())
    assert judge(FC_LIMIT, trial).outcome is None


def test_one_input_coordinate_at_depth_two_has_no_rate() -> None:
    pair = Pair(torch.tensor([[1.0], [2.0]], dtype=torch.float64), 2)
    samples = tangent_samples(pair, seeded())
    slope, half_width = fitted_rate(samples, 2 * samples.gain**2, gate_products, 1e-6)
    assert slope.numel() == half_width.numel() == 0
    assert not pair.is_telling


def test_the_pair_is_chosen_away_from_parallel_and_zero() -> None:
    module = make_fc(2, [3], generator=seeded()).double()
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [-2.0, 1.0]], dtype=torch.float64)
    pair = pair_of(Trial(module, x, seeded()), 3)
    assert not bool((pair.x[0] == 2 * pair.x[1]).all())
    assert bool(pair.x.any(1).all())


def test_random_gates_follow_the_order_zero_arc_cosine() -> None:
    pair = Pair(torch.tensor([[1.0, 2.0], [-2.0, 0.0]], dtype=torch.float64), 2)
    assert pair.is_telling
    samples = tangent_samples(pair, seeded())
    mean = gate_products(samples, 4).mean(0)
    zero, first = (arc_cosine_products(order)(samples, 4)[0] for order in (0, 1))
    # At depth 2 each entry is the share of the units of all feature networks that are on for both
    # inputs: within five standard deviations, of which the largest is that of a fair coin.
    off = 5 * 0.5 / math.sqrt(_FEATURES * WIDTHS[4])
    assert float((mean - zero).abs().max()) < off
    assert float((first - zero).abs().max()) > 2 * off


def test_a_diagonal_of_the_kernel_matches_automatic_differentiation() -> None:
    from reluctant.properties import widths

    pair = Pair(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64), 4)
    sigma = 0.25  # at width 16 and gain 1; all numbers are multiples of a power of 2
    kernel, overlap = widths._drawn(pair, 16, 1, 1.0, seeded(5))
    g = seeded(5)
    sizes = [2, 16, 16, 16]
    values, masks = [], []
    feature = pair.x.T
    for a, b in pairwise(sizes):
        feature = torch.randn(b, a, generator=g, dtype=torch.float64) @ feature
        masks.append((feature > 0).double())
        feature = feature * masks[-1]
        values.append(widths._signs((1, b, a), sigma, g)[0].double().requires_grad_())
    values.append(widths._signs((1, 16, 1), sigma, g)[0].T.double().requires_grad_())
    rows = []
    for k in range(2):
        z = pair.x[k]
        for w, m in zip(values, masks, strict=False):
            z = m[:, k] * (w @ z)
        slopes = torch.autograd.grad((values[-1] @ z).sum(), values)
        rows.append(torch.cat([s.flatten() for s in slopes]))
    expected = torch.stack(rows) @ torch.stack(rows).T
    # Sums of squares of multiples of σ³ that stay below 2^24 σ⁶ are exact in float32.
    assert float(expected.max()) < 2.0**24 * sigma**6
    assert torch.equal(kernel[0], expected)
    assert overlap.shape == (1, 3, 2, 2)


def test_the_measured_rate_comes_with_its_interval() -> None:
    from reluctant.properties.families import FAMILIES
    from reluctant.properties.verification import verify_family

    (statement,) = select(["ntk.fc-limit"])
    evidence = verify_family(statement, FAMILIES[0], examples=2).evidence
    assert evidence is not None
    (line, *_) = evidence.estimates
    found = re.match(r"rate of the error in w (-?[\d.]+) ± ([\d.]+) at error probability", line)
    assert found is not None
    rate, half_width = map(float, found.groups())
    assert abs(rate - 0.5) <= half_width < 0.5  # the rate 0 is left out


def test_shares_of_the_error_add_up_to_one_in_a_million() -> None:
    shares = [error_share(k) for k in range(1000)]
    assert sum(shares) < 1e-6 < sum(shares) + 1e-6 / 1000  # Σ 1/k² beyond K is at most 1/K
    assert all(a > b > 0 for a, b in pairwise(shares))


def test_a_verdict_of_several_trials_has_the_error_of_one(limit_trial: Trial) -> None:
    from reluctant.properties.families import FAMILIES
    from reluctant.properties.verification import verify_family

    alone = judge(FC_LIMIT, limit_trial)
    assert len(alone.comparisons) == 4
    assert {c.error_probability for c in alone.comparisons} == {1e-6 / 4}
    evidence = verify_family(FC_LIMIT, FAMILIES[0], examples=3).evidence
    assert evidence is not None and evidence.trials >= 3
    assert evidence.error_probability is not None
    assert 0 < evidence.error_probability <= 1e-6
