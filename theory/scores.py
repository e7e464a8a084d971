"""What a run amounts to, statement by statement: how often it was tried, and with what power."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reluctant.theory.verdicts import EvidenceKind, MutantResult, Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Score:
    """Sum up what became of one statement over all networks.

    Attributes:
        statement: Identifier of the statement.
        subjects: Number of networks, or families of networks, with a verdict.
        outcomes: Outcomes reached, most frequent first, each with its count.
        unexpected: Number of verdicts that differ from what theory predicts.
        trials: Number of examples on which both sides did not vanish together.
        vacuous: Number of examples on which they did.
        evidence: Kinds of evidence met, strongest first.
        killed: Number of deliberate faults noticed at least once.
        mutants: Number of deliberate faults tried.
        seconds: Time taken.
    """

    statement: str
    subjects: int
    outcomes: tuple[tuple[Outcome, int], ...]
    unexpected: int
    trials: int
    vacuous: int
    evidence: tuple[EvidenceKind, ...]
    killed: int
    mutants: int
    seconds: float


def scores(verdicts: Iterable[Verdict], mutants: Iterable[MutantResult] = ()) -> tuple[Score, ...]:
    """Sum up verdicts and mutants by statement, in the order of first mention.

    A fault that is tried on several networks counts once, and as killed if any of them shows it.

    Args:
        verdicts: What the checks said.
        mutants: Which deliberate faults they noticed.

    Returns:
        One score for each statement mentioned.
    """
    said: dict[str, list[Verdict]] = {}
    noticed: dict[str, dict[str, bool]] = {}
    for verdict in verdicts:
        said.setdefault(verdict.statement, []).append(verdict)
    for mutant in mutants:
        faults = noticed.setdefault(mutant.statement, {})
        faults[mutant.mutant] = mutant.killed or faults.get(mutant.mutant, False)
    return tuple(
        _score(statement, said.get(statement, []), noticed.get(statement, {}))
        for statement in {**said, **noticed}
    )


def _score(statement: str, verdicts: list[Verdict], faults: dict[str, bool]) -> Score:
    implied = [v for v in verdicts if v.outcome is not Outcome.NOT_IMPLIED]
    evidence = [v.evidence for v in implied if v.evidence is not None]
    reached = [v.outcome for v in verdicts]
    met = [outcome for outcome in Outcome if outcome in reached]
    kinds = {e.kind for e in evidence}
    return Score(
        statement=statement,
        subjects=len({v.subject for v in verdicts}),
        outcomes=tuple(sorted(((o, reached.count(o)) for o in met), key=lambda o: -o[1])),
        unexpected=sum(not v.is_as_expected for v in verdicts),
        trials=sum(e.trials for e in evidence),
        vacuous=sum(e.vacuous for e in evidence),
        evidence=tuple(kind for kind in EvidenceKind if kind in kinds),
        killed=sum(faults.values()),
        mutants=len(faults),
        seconds=sum(v.seconds for v in verdicts),
    )
