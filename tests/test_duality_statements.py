"""Cases of the duality statements worked out by hand."""

from __future__ import annotations

import pytest
import torch

from reluctant.models import make_fc
from reluctant.properties.catalogue import select
from reluctant.properties.judging import judge
from reluctant.theory.statements import Trial
from reluctant.theory.verdicts import Outcome


@pytest.mark.parametrize("exponent", [-1, 0])
def test_counts_are_compared_digit_by_digit(exponent: int) -> None:
    """2 · 32⁸ = 2⁴¹ paths: a multiple of 2⁴⁰, which must neither vanish nor hide a difference."""
    (statement,) = select(["dual.path-count"])
    generator = torch.Generator().manual_seed(0)
    net = make_fc(2, [32] * 8, 1, generator=generator).double()
    trial = Trial(net, torch.ones(2, 2, dtype=torch.float64), generator)
    judgement = judge(statement, trial, {"exponent": exponent})
    assert judgement.outcome is (Outcome.HOLDS if exponent == -1 else Outcome.REFUTED)
    assert f"{2**41} counted" in judgement.comparisons[0].what
