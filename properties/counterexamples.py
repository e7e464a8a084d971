"""From a trial that refutes a statement to the smallest counterexample that Hypothesis finds."""

from __future__ import annotations

from reluctant.properties.judging import Judgement, judge
from reluctant.properties.pools import Pool, make_trial
from reluctant.properties.shrinking import shrunk
from reluctant.properties.specimens import Specimen
from reluctant.theory.statements import Statement, Trial
from reluctant.theory.verdicts import Outcome

_LOOKED_AT = 240  # trials among which the one with the fewest weights is sought


def smallest(
    statement: Statement, specimens: Pool, position: int, trial: Trial
) -> tuple[Trial, Judgement]:
    """Return the smallest trial that refutes like the one that was met, and what it says.

    Hypothesis seldom finds its way to another shape. So where a statement is known to be false, and
    most trials refute it, the one with the fewest weights among many is made simpler instead.

    Args:
        statement: What is refuted.
        specimens: Pool of the family.
        position: Number of the refuting trial in the pool.
        trial: That trial.
    """

    def refutes(specimen: Specimen) -> bool:
        return judge(statement, make_trial(specimen)).outcome is Outcome.REFUTED

    if statement.expected is Outcome.REFUTED:
        trial = _fewest_weights(statement, specimens, trial)
    else:
        specimen = specimens.shrink(refutes, position)
        trial = trial if specimen is None else make_trial(specimen)
    return shrunk(statement, trial, judge(statement, trial))


def _fewest_weights(statement: Statement, specimens: Pool, trial: Trial) -> Trial:
    """Return the refuting trial with the fewest weights among many."""
    fewer = [other for other in specimens.head(_LOOKED_AT) if _weights(other) < _weights(trial)]
    small = (
        other
        for other in sorted(fewer, key=_weights)
        if judge(statement, other).outcome is Outcome.REFUTED
    )
    return next(small, trial)


def _weights(trial: Trial) -> int:
    return sum(p.numel() for p in trial.module.parameters())
