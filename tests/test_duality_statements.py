"""Cases of the duality statements worked out by hand."""

from __future__ import annotations

import pytest
import torch

from reluctant.models import make_fc
from reluctant.properties.catalogue import select
from reluctant.properties.judging import judge
from reluctant.theory.statements import Trial
from reluctant.theory.verdicts import Outcome


@pytest.mark.parametrize("mutant", [None, *select(["dual.path-count"])[0].mutants])
def test_counts_are_compared_digit_by_digit(mutant: object) -> None:
    """2 · 32⁸ = 2⁴¹ paths: a multiple of 2⁴⁰, which must neither vanish nor hide a difference."""
    (statement,) = select(["dual.path-count"])
    generator = torch.Generator().manual_seed(0)
    net = make_fc(2, [32] * 8, 1, generator=generator).double()
    trial = Trial(net, torch.ones(2, 2, dtype=torch.float64), generator)
    ingredients = dict(getattr(mutant, "ingredients", {}))
    judgement = judge(statement, trial, ingredients)
    skips_only = "choose" in ingredients  # a fault in a binomial coefficient needs a skip
    assert judgement.outcome is (Outcome.HOLDS if mutant is None or skips_only else Outcome.REFUTED)
    assert f"{2**41} counted" in judgement.comparisons[0].what
