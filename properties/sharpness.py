"""Which hypotheses earn their keep: each one dropped alone, and a failure looked for."""

from __future__ import annotations

from collections.abc import Sequence

from reluctant.properties.controls import CONTROLS
from reluctant.properties.counterexamples import smallest
from reluctant.properties.dropping import weakened
from reluctant.properties.families import FAMILIES
from reluctant.properties.judging import Judgement, judge
from reluctant.properties.pools import pool
from reluctant.properties.shelves import Shelf, of_family
from reluctant.properties.shrinking import counterexample
from reluctant.properties.specimens import Family
from reluctant.theory.statements import Hypothesis, Statement, Trial
from reluctant.theory.verdicts import Need, Outcome, Sharpness


def sharpness(
    statement: Statement,
    hypothesis: Hypothesis,
    *,
    families: Sequence[Family] = (*FAMILIES, *CONTROLS),
    examples: int = 12,
    seed_: int = 0,
    shelf: Shelf | None = None,
) -> Sharpness:
    """Drop one hypothesis of a statement and look for a network on which it then fails.

    Only networks that meet all the other hypotheses, and not this one, say anything.

    Args:
        statement: Statement to weaken.
        hypothesis: One of its hypotheses.
        families: Families to draw from.
        examples: Number of specimens looked at in each family.
        seed_: Seed of the draws.
        shelf: Counterexamples that are known, tried first, and those that are to be kept.

    Returns:
        The smallest counterexample, or how many networks were tried without one.
    """
    if statement.draws_networks:
        reason = "it is measured on networks of its own, which meet all hypotheses"
        return Sharpness(statement.id, hypothesis.name, Need.DEFINING, 0, reason=reason)
    weaker, kept = weakened(statement, hypothesis), shelf or Shelf()

    def needed(family: Family, found: tuple[Trial, Judgement], alone: int) -> Sharpness:
        network = {"family": family.name, "choices": list(found[0].choices)}
        line = kept.keep(weaker, family.name, *found, network)
        again = f"reluctant verify --sharpness --statements {statement.id}  # {family.name}"
        example = counterexample(*found, line or again)
        return Sharpness(statement.id, hypothesis.name, Need.NEEDED, alone, example, family.name)

    for family in families:
        known = kept.retried(weaker, family.name, of_family(family))
        if known:
            return needed(family, known, 1)
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
                return needed(family, smallest(weaker, specimens, position, trial), alone)
            if judgement.outcome is Outcome.INCONCLUSIVE:
                unsaid.append(f"{family.name}: {judgement.reason}")
    if alone:
        return Sharpness(statement.id, hypothesis.name, Need.NOT_SEEN, alone)
    need = Need.DEFINING if unsaid else Need.NEVER_ALONE
    return Sharpness(statement.id, hypothesis.name, need, 0, reason="".join(unsaid[:1]))
