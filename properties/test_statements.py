"""Every statement on every family of networks, and every mutant killed."""

from __future__ import annotations

import pytest

from reluctant.properties.catalogue import statements
from reluctant.properties.families import FAMILIES
from reluctant.properties.shelves import Shelf
from reluctant.properties.specimens import Family
from reluctant.properties.verification import hunt, verify_family
from reluctant.theory import ledger
from reluctant.theory.statements import Mutant, Statement

_PAIRS = [(statement, family) for statement in statements() for family in FAMILIES]
_FAULTS = [(statement, mutant) for statement in statements() for mutant in statement.mutants]


@pytest.mark.parametrize(
    ("statement", "family"), _PAIRS, ids=[f"{s.id}-{f.name}" for s, f in _PAIRS]
)
def test_verdict_is_the_expected_one(
    statement: Statement, family: Family, examples_per_family: int, counterexample_shelf: Shelf
) -> None:
    verdict = verify_family(
        statement,
        family,
        examples=examples_per_family,
        shrinking=counterexample_shelf.keeps(statement),
        shelf=counterexample_shelf,
    )
    ledger.deposit(verdict)
    assert verdict.outcome is verdict.expected, f"{verdict.outcome}: {verdict.reason}"


@pytest.mark.parametrize(
    ("statement", "mutant"), _FAULTS, ids=[f"{s.id}-{m.name}" for s, m in _FAULTS]
)
def test_mutant_is_killed(statement: Statement, mutant: Mutant) -> None:
    result = hunt(statement, mutant)
    ledger.deposit(result)
    assert result.killed, (
        f"{statement.id} does not notice “{mutant.name}” in {result.trials} examples"
    )


def test_every_statement_has_a_mutant() -> None:
    assert [s.id for s in statements() if not s.mutants] == []


def test_identifiers_are_unique() -> None:
    ids = [s.id for s in statements()]
    assert len(ids) == len(set(ids))
