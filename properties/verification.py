"""The whole suite: every statement on every family of networks, and every mutant hunted."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from reluctant.properties.catalogue import select
from reluctant.properties.counterexamples import smallest
from reluctant.properties.expectations import HOLDS_ON, expected_outcomes
from reluctant.properties.families import FAMILIES
from reluctant.properties.judging import LIVE, Judgement, Tally, judge
from reluctant.properties.pools import pool
from reluctant.properties.sharpness import sharpness
from reluctant.properties.shelves import Folder, Shelf, of_family
from reluctant.properties.shrinking import counterexample
from reluctant.properties.specimens import Family
from reluctant.theory.plugins import listed
from reluctant.theory.statements import Kind, Mutant, Statement, Trial
from reluctant.theory.verdicts import MutantResult, Outcome, Report, Sharpness, Verdict

EXAMPLES = {"smoke": 3, "dev": 10, "ci": 20, "nightly": 300}
_UNEXPECTED_TO_APPLY = 2  # examples where only the measured size of a violation is wanted
PATIENCE = 20  # specimens looked at for each example that is wanted
# The same where nobody wrote down that a statement holds: most families that do not meet its
# hypotheses have no member that does.
IMPATIENCE = 3
_SPARED = 48  # live examples on which a false statement, made right, is not refuted
_STRIDE = 4  # specimens of a family that a mutant is tried on before the next family's turn
Progress = Callable[[str, int, int], None]


def verify_family(
    statement: Statement,
    family: Family,
    *,
    examples: int = 10,
    seed_: int = 0,
    admitted: tuple[Outcome, ...] | None = None,
    patience: int | None = None,
    shrinking: bool = True,
    shelf: Shelf | None = None,
    reproduce: str = "",
) -> Verdict:
    """Try one statement on specimens of one family, and shrink what refutes it.

    Args:
        statement: Statement to try.
        family: Family to draw from.
        examples: Number of specimens on which something is to be compared. Those on which both
            sides vanish are counted apart, and replaced.
        seed_: Seed of the draws.
        admitted: Outcomes that are as expected, the first preferred; if left out, those that
            :mod:`reluctant.properties.expectations` has for the family.
        patience: Number of specimens looked at, at most, for each example that is wanted; if left
            out, 20, or 3 for a statement that is not in the table of expectations.
        shrinking: Look for the smallest counterexample, which takes a while; else give none.
        shelf: Counterexamples that are known, tried first, and those that are to be kept.
        reproduce: Line that shows again a counterexample that is not kept; a run of the suite
            if empty.

    Returns:
        The verdict. A counterexample is the smallest that Hypothesis found.
    """
    tally = Tally(statement)
    shelf = shelf or Shelf()
    patience = patience or (PATIENCE if statement.id in HOLDS_ON else IMPATIENCE)
    admitted = admitted or expected_outcomes(statement, family.name)
    applies = admitted[0] is not Outcome.NOT_IMPLIED
    wanted = examples if applies else min(examples, _UNEXPECTED_TO_APPLY)
    holding = min(LIVE, wanted) if applies else 0
    started = time.perf_counter()
    specimens = pool(family, seed_)
    found = shelf.retried(statement, family.name, of_family(family))
    if found:
        tally.add(found[1])
    for position, trial in enumerate(specimens.head(0 if found else patience * wanted)):
        judgement = judge(statement, trial)
        tally.add(judgement)
        if judgement.outcome is Outcome.REFUTED:
            if shrinking:
                found = smallest(statement, specimens, position, trial)
            break
        if statement.kind is Kind.NOT_IMPLIED and not applies and _all_hold(judgement):
            continue  # what is not implied has to be seen to fail
        compared = len(tally.judgements) - tally.count(None)
        if admitted[0] is Outcome.REFUTED:
            continue
        if compared >= wanted and tally.count(Outcome.HOLDS) >= holding:
            break
    if found:
        network = {"family": family.name, "choices": list(found[0].choices)}
        line = shelf.keep(statement, family.name, *found, network)
        again = reproduce or f"reluctant verify --statements {statement.id}  # {family.name}"
        tally.counterexample = counterexample(*found, line or again)
    verdict = tally.verdict(family.name, admitted[0], time.perf_counter() - started)
    return replace(verdict, expected=verdict.outcome) if verdict.outcome in admitted else verdict


def _all_hold(judgement: Judgement) -> bool:
    return all(comparison.holds for comparison in judgement.comparisons)


def hunt(
    statement: Statement,
    mutant: Mutant,
    *,
    families: Sequence[Family] = FAMILIES,
    examples: int = 40,
    seed_: int = 0,
) -> MutantResult:
    """Look for an example on which a deliberate fault is noticed.

    What is false as printed is refuted; there a fault is noticed if no example refutes it any more.

    Args:
        statement: Statement whose claim is made wrong.
        mutant: The fault.
        families: Families to draw from; those on which the statement is expected to hold are used.
        examples: Number of specimens of each family.
        seed_: Seed of the draws.
    """
    tried = spared = 0
    false = statement.expected is Outcome.REFUTED
    fit = [f for f in families if expected_outcomes(statement, f.name) != (Outcome.NOT_IMPLIED,)]
    for family, trial in _by_turns(fit, examples, seed_):
        tried += 1
        judgement = judge(statement, trial, dict(mutant.ingredients))
        spared += _is_spared(judgement)
        if judgement.outcome is Outcome.REFUTED:
            found = f"{family.name}: {judgement.reason}"
            return MutantResult(statement.id, mutant.name, not false, tried, found)
        if false and spared >= _SPARED:
            break
    if false and spared >= LIVE:
        found = f"not refuted in {spared} examples any more"
        return MutantResult(statement.id, mutant.name, True, tried, found)
    return MutantResult(statement.id, mutant.name, False, tried, "never noticed")


def _is_spared(judgement: Judgement) -> bool:
    """Tell whether an example could have refuted a statement, and did not."""
    telling = any(not c.is_vacuous and not c.is_blind for c in judgement.comparisons)
    return telling and not judgement.unmet and _all_hold(judgement)


def _by_turns(
    families: Sequence[Family], examples: int, seed_: int
) -> Iterator[tuple[Family, Trial]]:
    """Go through the specimens of each family, a few of one family after a few of another."""
    for start in range(0, examples, _STRIDE):
        for family in families:
            for trial in pool(family, seed_).head(min(_STRIDE, examples - start), start):
                yield family, trial


def verify(
    statements: Iterable[str] | None = None,
    profile: str = "dev",
    progress: Progress | None = None,
    *,
    seed_: int = 0,
    dropping: bool = False,
    counterexamples: Folder = None,
) -> Report:
    """Try every statement on every family, and hunt every mutant.

    Args:
        statements: Identifiers or prefixes; all if None.
        profile: "smoke", "dev", "ci" or "nightly": 3, 10, 20 or 300 specimens a family.
        progress: Called with what is being done, steps done, and steps in all.
        seed_: Seed of all draws.
        dropping: Also drop each hypothesis alone, and look for a failure without it.
        counterexamples: Folder of counterexamples: known ones are tried first, and the smallest
            found are kept there. None knows none and keeps none.

    Returns:
        One verdict a statement and family, one result a mutant, and, if asked for, one a hypothesis.
    """
    chosen, examples = select(statements), EXAMPLES[profile]
    steps = sum(len(FAMILIES) + len(s.mutants) + dropping * len(s.hypotheses) for s in chosen)
    done, shelf = 0, Shelf.at(counterexamples)
    verdicts: list[Verdict] = []
    mutants: list[MutantResult] = []
    needs: list[Sharpness] = []
    notes: tuple[str, ...] = ()
    try:
        for statement in chosen:
            for family in FAMILIES:
                if progress:
                    progress(f"{statement.id} on {family.name}", done, steps)
                verdicts.append(
                    verify_family(statement, family, examples=examples, seed_=seed_, shelf=shelf)
                )
                done += 1
            for mutant in statement.mutants:
                if progress:
                    progress(f"{statement.id}: hunting “{mutant.name}”", done, steps)
                mutants.append(hunt(statement, mutant, seed_=seed_))
                done += 1
            for hypothesis in statement.hypotheses if dropping else ():
                if progress:
                    progress(f"{statement.id} without “{hypothesis.name}”", done, steps)
                needs.append(
                    sharpness(
                        statement, hypothesis, examples=2 * examples, seed_=seed_, shelf=shelf
                    )
                )
                done += 1
    except KeyboardInterrupt:
        notes = (f"interrupted after {done} of {steps} steps",)
    return Report(
        "the property suite",
        tuple(verdicts),
        tuple(mutants),
        environment(seed_, profile),
        (*notes, *shelf.notes),
        tuple(needs),
    )


def environment(seed_: int, profile: str) -> dict[str, str]:
    """Return versions, hardware, seed and profile of a run."""
    import hypothesis

    from reluctant import __version__

    return {
        "reluctant": __version__,
        "torch": torch.__version__,
        "hypothesis": hypothesis.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "seed": str(seed_),
        "profile": profile,
        "plugins": listed(),
    }
