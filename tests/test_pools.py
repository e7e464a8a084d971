"""The pools of specimens: repeatable, shared, and able to shrink what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from reluctant.properties.catalogue import select
from reluctant.properties.families import FAMILIES
from reluctant.properties.judging import judge
from reluctant.properties.pools import Pool, pool
from reluctant.properties.specimens import Family, Specimen
from reluctant.properties.verification import verify_family
from reluctant.theory.statements import Comparison, Trial
from reluctant.theory.verdicts import EvidenceKind, Outcome

DENSE = FAMILIES[0]


def test_the_same_seed_draws_the_same_specimens_in_any_order() -> None:
    some = list(Pool(DENSE, 5).head(30))
    again = list(Pool(DENSE, 5).head(3, 20)) + list(Pool(DENSE, 6).head(3, 20))
    for one, other in zip(some[20:23], again[:3], strict=True):
        assert torch.equal(one.x, other.x)
        assert all(
            torch.equal(p, q)
            for p, q in zip(one.module.parameters(), other.module.parameters(), strict=True)
        )
    assert any(
        one.x.shape != o.x.shape or not torch.equal(one.x, o.x)
        for one, o in zip(some[20:23], again[3:], strict=True)
    )


def test_a_family_is_drawn_once() -> None:
    assert pool(DENSE, 3) is pool(DENSE, 3)
    assert next(iter(pool(DENSE, 3))) is next(iter(pool(DENSE, 3)))


@pytest.mark.parametrize("family", FAMILIES[1::6], ids=lambda family: family.name)
def test_judging_leaves_a_trial_as_it_was(family: Family) -> None:
    trial = next(pool(family, 1).head(1, 7))
    before = [p.clone() for p in (*trial.module.parameters(), *trial.module.buffers(), trial.x)]
    first = [judge(statement, trial).outcome for statement in select(None)]
    second = [judge(statement, trial).outcome for statement in reversed(select(None))]
    assert first == second[::-1]
    after = (*trial.module.parameters(), *trial.module.buffers(), trial.x)
    assert all(torch.equal(p, q) for p, q in zip(before, after, strict=True))


def test_a_wrong_statement_is_refuted_by_a_small_specimen() -> None:
    """Claim that outputs are never positive: one input and no large number refute it."""

    def claim(trial: Trial) -> Sequence[Comparison]:
        zero = torch.zeros_like(trial.output)
        return [Comparison(zero, trial.output, 0.0, EvidenceKind.EXACT, "at most")]

    wrong = replace(select(["dual.psd"])[0], claim=claim, hypotheses=())
    verdict = verify_family(wrong, DENSE, examples=20)
    assert verdict.outcome is Outcome.REFUTED
    found = verdict.counterexample
    assert found is not None
    weights = [torch.tensor(w) for w in found.numbers["weights"].values()]
    x = torch.tensor(found.numbers["x"])
    assert int(x.count_nonzero()) == 1
    assert all(set(t.flatten().tolist()) <= {-1.0, 0.0, 1.0} for t in (*weights, x))


def test_shrinking_stops_at_its_budget() -> None:
    """The one of interest is found again, and no further specimen is asked about."""
    specimens = Pool(DENSE, 11)
    wanted = next(i for i, trial in enumerate(specimens.head(12)) if bool(trial.output.any()))
    asked: list[object] = []

    def refutes(specimen: Specimen) -> bool:
        asked.append(specimen)
        return bool(specimen.module(specimen.x).any())

    first = specimens.shrink(refutes, wanted, attempts=0)
    assert first is not None
    assert len(asked) == wanted + 1
    smaller = specimens.shrink(refutes, wanted)
    assert smaller is not None
    size = sum(p.numel() for p in smaller.module.parameters())
    assert size <= sum(p.numel() for p in first.module.parameters())
