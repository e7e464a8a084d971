"""Which statement theory says holds on which family.

Written down, so that a hypothesis that wrongly fails, or wrongly passes, turns a run red.
"""

from __future__ import annotations

from reluctant.theory.statements import Statement
from reluctant.theory.verdicts import Outcome

HOLDS_ON: dict[str, frozenset[str]] = {}


def expected_outcome(statement: Statement, family: str) -> Outcome:
    """Return the outcome that theory predicts for a statement on a family of networks."""
    applies = HOLDS_ON.get(statement.id)
    if applies is None or family in applies:
        return statement.expected
    return Outcome.NOT_IMPLIED
