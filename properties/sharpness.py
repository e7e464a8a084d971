"""Which hypotheses earn their keep: each one dropped alone, and a failure looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reluctant.properties.controls import CONTROLS
from reluctant.properties.counterexamples import smallest
from reluctant.properties.families import FAMILIES
from reluctant.properties.judging import judge
from reluctant.properties.pools import pool
from reluctant.properties.shrinking import counterexample
from reluctant.properties.specimens import Family
from reluctant.theory.errors import NotIdentified, ReluctantError, TooManyPaths
from reluctant.theory.statements import CannotTry, Claim, Comparison, Hypothesis, Statement, Trial
from reluctant.theory.verdicts import Need, Outcome, Sharpness


def sharpness(
    statement: Statement,
    hypothesis: Hypothesis,
    *,
    families: Sequence[Family] = (*FAMILIES, *CONTROLS),
    examples: int = 12,
    seed_: int = 0,
) -> Sharpness:
    """Drop one hypothesis of a statement and look for a network on which it then fails.

    Only networks that meet all the other hypotheses, and not this one, say anything.

    Args:
        statement: Statement to weaken.
        hypothesis: One of its hypotheses.
        families: Families to draw from.
        examples: Number of specimens looked at in each family.
        seed_: Seed of the draws.

    Returns:
        The smallest counterexample, or how many networks were tried without one.
    """
    if statement.draws_networks:
        reason = "it is measured on networks of its own, which meet all hypotheses"
        return Sharpness(statement.id, hypothesis.name, Need.DEFINING, 0, reason=reason)
    others = tuple(h for h in statement.hypotheses if h is not hypothesis)
    weaker = replace(statement, hypotheses=others, claim=_as_far_as_it_goes(statement.claim))
    alone = 0
    unsaid: list[str] = []
    for family in families:
        specimens = pool(family, seed_)
        for position, trial in enumerate(specimens.head(examples)):
            if hypothesis(trial.net) is None or weaker.unmet(trial.net):
                continue
            judgement = judge(weaker, trial)
            alone += judgement.outcome in (Outcome.HOLDS, Outcome.REFUTED)
            if judgement.outcome is Outcome.REFUTED:
                line = f"reluctant verify --sharpness --statements {statement.id}  # {family.name}"
                found = smallest(weaker, specimens, position, trial)
                example = counterexample(*found, line)
                return Sharpness(
                    statement.id, hypothesis.name, Need.NEEDED, alone, example, family.name
                )
            if judgement.outcome is Outcome.INCONCLUSIVE:
                unsaid.append(f"{family.name}: {judgement.reason}")
    if alone:
        return Sharpness(statement.id, hypothesis.name, Need.NOT_SEEN, alone)
    need = Need.DEFINING if unsaid else Need.NEVER_ALONE
    return Sharpness(statement.id, hypothesis.name, need, 0, reason="".join(unsaid[:1]))


def _as_far_as_it_goes(claim: Claim) -> Claim:
    """Return the claim, which cannot be tried where dropping a hypothesis makes it fail to run."""

    def attempt(trial: Trial, **ingredients: Any) -> Sequence[Comparison]:
        try:
            return tuple(claim(trial, **ingredients))
        except (CannotTry, NotIdentified, TooManyPaths):
            raise
        except Exception as error:
            known = isinstance(error, ReluctantError)
            raise CannotTry(str(error) if known else "what it claims is not defined") from error

    return attempt
