"""Judging one trial, and adding up many: measuring is apart from deciding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from reluctant.properties.costs import cost_of
from reluctant.theory.costs import is_large
from reluctant.theory.errors import NotIdentified, TooManyPaths
from reluctant.theory.meter import Meter
from reluctant.theory.places import first_line
from reluctant.theory.statements import CannotTry, Comparison, Kind, Statement, Trial
from reluctant.theory.verdicts import (
    Counterexample,
    Evidence,
    EvidenceKind,
    Outcome,
    Unmet,
    Verdict,
)

_DECIDED = (Outcome.HOLDS, Outcome.REFUTED, Outcome.INCONCLUSIVE)
LIVE = 2  # a check of several examples says nothing if fewer have a side that does not vanish


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """Be what one trial said about one statement.

    Attributes:
        outcome: One of the five, or None for a trial in which both sides vanish.
        comparisons: What was compared.
        unmet: Hypotheses that the network does not meet.
        reason: Why nothing could be compared, or what differs.
    """

    outcome: Outcome | None
    comparisons: tuple[Comparison, ...] = ()
    unmet: tuple[Unmet, ...] = ()
    reason: str = ""

    @property
    def measured(self) -> float | None:
        """Return the largest relative difference, None if nothing was compared."""
        return max((c.measured for c in self.comparisons), default=None)


def judge(
    statement: Statement, trial: Trial, ingredients: dict[str, Any] | None = None
) -> Judgement:
    """Try a statement once.

    Every judgement draws from the trial's seed on, so that its outcome does not depend on what
    was judged before.

    Args:
        statement: Statement to try.
        trial: Module, inputs and randomness.
        ingredients: Replacements of the claim's ingredients, for a mutant.
    """
    trial.generator.manual_seed(trial.generator.initial_seed())
    unmet = statement.unmet(trial.net)
    try:
        _require_affordable(statement, trial)
        with _metered(trial):
            comparisons = tuple(statement.claim(trial, **(ingredients or {})))
    except (CannotTry, NotIdentified, TooManyPaths) as error:
        return Judgement(
            Outcome.NOT_IMPLIED if unmet else Outcome.INCONCLUSIVE, unmet=unmet, reason=str(error)
        )
    except Exception as error:
        if not unmet:
            raise
        why = first_line(error)[:-1] if str(error).strip() else "what it claims is not defined"
        return Judgement(Outcome.NOT_IMPLIED, unmet=unmet, reason=why)
    if unmet:
        return Judgement(Outcome.NOT_IMPLIED, comparisons, unmet)
    failed = next((c for c in comparisons if not c.holds), None)
    if failed is not None and statement.revisits_gates and trial.undecided:
        return Judgement(
            Outcome.INCONCLUSIVE,
            reason=f"{trial.undecided} gates are within rounding of a tie, and the sides differ; "
            "use float64, or inputs off the ties",
        )
    if failed is not None:
        return Judgement(Outcome.REFUTED, comparisons, reason=describe(failed))
    live = [c for c in comparisons if not c.is_vacuous]
    if not live:
        return Judgement(None, comparisons)
    blind = next((c for c in live if c.is_blind), None)
    if blind is not None:
        return Judgement(
            Outcome.INCONCLUSIVE,
            comparisons,
            reason=f"{blind.what}: the sample cannot tell the nearest wrong law; {_remedy(blind)}",
        )
    if statement.kind is Kind.FALSE_AS_PRINTED:
        reason = "what is printed is false in general, but this example does not show it"
        return Judgement(Outcome.INCONCLUSIVE, comparisons, reason=reason)
    return Judgement(Outcome.HOLDS, comparisons)


def _require_affordable(statement: Statement, trial: Trial) -> None:
    why = cost_of(statement, trial).beyond(trial.limit)
    if why:
        raise CannotTry(f"{len(trial.x)} examples take {why}")


def _metered(trial: Trial) -> AbstractContextManager[object]:
    """Stop what takes more than was foreseen; a small network would feel the meter."""
    return Meter(trial.limit) if is_large(trial.net) else nullcontext()


def _remedy(blind: Comparison) -> str:
    """Say how large a sample could tell the nearest wrong law."""
    if not math.isfinite(blind.needed_draws):
        return "it is the same here, and no sample could"
    return f"about {max(2, math.ceil(blind.needed_draws))} times as many draws would"


def describe(comparison: Comparison) -> str:
    """Say in one line where two sides differ most."""
    worst = int(comparison.excess.flatten().argmax())
    left, right = (
        float(t.detach().expand(comparison.excess.shape).flatten()[worst])
        for t in (comparison.left, comparison.right)
    )
    sign = "=" if comparison.relation == "equal" else "≤"
    return f"{comparison.what}: {left:.10g} {sign} {right:.10g} is false"


def _estimate(comparison: Comparison) -> str:
    if not comparison.estimate or comparison.left.numel() != 1:
        return ""
    half_width = float(torch.as_tensor(comparison.bound))
    chance = comparison.error_probability
    level = f" at error probability {chance:.0e}" if chance is not None else ""
    return (
        f"{comparison.estimate} {float(comparison.left):.3f} ± {half_width:.3f}{level}, "
        f"theory {float(comparison.right):g}"
    )


@dataclass(slots=True)
class Tally:
    """Add up judgements into a verdict.

    Attributes:
        statement: Statement under test.
        judgements: What was said so far.
        counterexample: Smallest failing example so far.
    """

    statement: Statement
    judgements: list[Judgement] = field(default_factory=list)
    counterexample: Counterexample | None = None

    def add(self, judgement: Judgement) -> None:
        """Take one judgement in."""
        self.judgements.append(judgement)

    def count(self, outcome: Outcome | None) -> int:
        """Return how many trials said this."""
        return sum(j.outcome is outcome for j in self.judgements)

    def evidence(self, outcomes: Sequence[Outcome] = _DECIDED) -> Evidence | None:
        """Return what the trials that were compared amount to.

        Args:
            outcomes: Those of the trials that count.
        """
        of = [j for j in self.judgements if j.outcome in outcomes]
        compared = [c for j in of for c in j.comparisons]
        if not compared:
            return None
        settled = [j for j in of if j.outcome is not Outcome.INCONCLUSIVE]
        vacuous = sum(all(c.is_vacuous and c.holds for c in j.comparisons) for j in settled)
        order = list(EvidenceKind)
        kind = max((c.kind for c in compared), key=order.index)
        chances = [c.error_probability for c in compared if c.error_probability is not None]
        kinds = Counter(c.kind.value for c in compared)
        detail = "; ".join(dict.fromkeys(c.what for c in compared if c.what))
        return Evidence(
            kind=kind,
            trials=len(settled) - vacuous,
            vacuous=self.count(None) + vacuous,
            residual=max(c.residual for c in compared),
            error_probability=min(1.0, sum(chances)) if chances else None,
            detail=f"{detail} ({', '.join(f'{n} {k}' for k, n in kinds.items())})",
            estimates=tuple(dict.fromkeys(filter(None, map(_estimate, compared)))),
        )

    def verdict(self, subject: str, expected: Outcome, seconds: float) -> Verdict:
        """Decide.

        Args:
            subject: Name of the network or family.
            expected: Outcome that theory predicts.
            seconds: Time taken.
        """
        outcome, reason = self._decide()
        unmet = (
            next((j.unmet for j in self.judgements if j.unmet), ())
            if outcome is Outcome.NOT_IMPLIED
            else ()
        )
        measured = [j for j in self.judgements if j.outcome is Outcome.NOT_IMPLIED]
        beyond = [j for j in measured if not all(c.holds for c in j.comparisons)]  # no mere noise
        sizes = [j.measured for j in beyond or measured if j.measured is not None]
        return Verdict(
            statement=self.statement.id,
            subject=subject,
            outcome=outcome,
            expected=expected,
            reason=reason,
            evidence=self.evidence(),
            unmet=unmet,
            measured=max(sizes) if sizes and outcome is Outcome.NOT_IMPLIED else None,
            counterexample=self.counterexample if outcome is Outcome.REFUTED else None,
            seconds=seconds,
        )

    def _decide(self) -> tuple[Outcome, str]:
        held, refuted, dead = (
            self.count(Outcome.HOLDS),
            self.count(Outcome.REFUTED),
            self.count(None),
        )
        if refuted:
            worst = next(j for j in reversed(self.judgements) if j.outcome is Outcome.REFUTED)
            return Outcome.REFUTED, worst.reason
        unsure = [j for j in self.judgements if j.outcome is Outcome.INCONCLUSIVE]
        if held and held >= min(LIVE, held + dead):
            return Outcome.HOLDS, f"held in {held} of {held} examples that are not trivial"
        if self.count(Outcome.NOT_IMPLIED) and not held:
            first = next(j for j in self.judgements if j.unmet)
            return Outcome.NOT_IMPLIED, "; ".join(
                f"{u.reason} ({u.where})" if u.where else u.reason for u in first.unmet
            )
        if unsure:
            return Outcome.INCONCLUSIVE, unsure[0].reason
        return (
            Outcome.INCONCLUSIVE,
            f"both sides vanish in {dead} of {held + dead} examples; try other weights or inputs",
        )
