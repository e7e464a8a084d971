"""From a trial that refutes a statement to the smallest counterexample that Hypothesis finds."""

from __future__ import annotations

from reluctant.properties.judging import Judgement, describe, judge
from reluctant.properties.pools import Pool, make_trial
from reluctant.properties.shrinking import shrunk
from reluctant.properties.specimens import Family, Specimen
from reluctant.theory.statements import Statement, Trial
from reluctant.theory.verdicts import Counterexample, Outcome

_LOOKED_AT = 240  # trials among which the one with the fewest weights is sought


def smallest(statement: Statement, specimens: Pool, position: int, trial: Trial) -> Counterexample:
    """Return the smallest counterexample like the one that was met.

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
    trial, judgement = shrunk(statement, trial, judge(statement, trial))
    return _counterexample(statement, specimens.family, trial, judgement)


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


def _counterexample(
    statement: Statement, family: Family, trial: Trial, judgement: Judgement
) -> Counterexample:
    failed = next(c for c in judgement.comparisons if not c.holds)
    layers = ((trial.net.gate_layers[g].name, trial.gates[g]) for g in trial.net.value_gates)
    numbers = {
        "weights": {name: p.detach().tolist() for name, p in trial.module.named_parameters()},
        "x": trial.x.tolist(),
        "gates": {name: gate.double().tolist() for name, gate in layers},
        "left": failed.left.detach().tolist(),
        "right": failed.right.detach().tolist(),
        **failed.numbers,
    }
    line = f"reluctant verify --statements {statement.id}  # {family.name}"
    return Counterexample(describe(failed), numbers, line)
