"""Statements without one of their hypotheses: what fails then shows that it is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from reluctant.properties import catalogue
from reluctant.theory.errors import NotIdentified, ReluctantError, TooManyPaths
from reluctant.theory.statements import CannotTry, Claim, Comparison, Hypothesis, Statement, Trial
from reluctant.theory.verdicts import Outcome

_WITHOUT = " without "


def weakened(statement: Statement, hypothesis: Hypothesis) -> Statement:
    """Return a statement that asks for all its hypotheses but one, which its identifier says.

    Where dropping it makes the claim fail to run, the claim cannot be tried.
    """
    others = tuple(h for h in statement.hypotheses if h is not hypothesis)
    name = f"{statement.id}{_WITHOUT}{hypothesis.name}"
    claim = _as_far_as_it_goes(statement.claim)
    return replace(statement, id=name, hypotheses=others, claim=claim)


def named(identifier: str, claims: Iterable[Statement] = ()) -> Statement | None:
    """Return the statement that an identifier names, weakened if that says so; None if there is none.

    Args:
        identifier: Of a statement, or of what :func:`weakened` makes of one.
        claims: Statements that are not in the catalogue.
    """
    known = {each.id: each for each in (*catalogue.statements(), *claims)}
    if identifier in known:
        return known[identifier]
    whole, _, dropped = identifier.partition(_WITHOUT)
    for hypothesis in known[whole].hypotheses if whole in known else ():
        if hypothesis.name == dropped:
            return weakened(known[whole], hypothesis)
    return None


def expected(statement: Statement) -> Outcome:
    """Return the outcome that theory predicts: what was found of a weakened statement refutes it."""
    return Outcome.REFUTED if _WITHOUT in statement.id else statement.expected


def _as_far_as_it_goes(claim: Claim) -> Claim:
    def attempt(trial: Trial, **ingredients: Any) -> Sequence[Comparison]:
        try:
            return tuple(claim(trial, **ingredients))
        except (CannotTry, NotIdentified, TooManyPaths):
            raise
        except Exception as error:
            known = isinstance(error, ReluctantError)
            raise CannotTry(str(error) if known else "what it claims is not defined") from error

    return attempt
