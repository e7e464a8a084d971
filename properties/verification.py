"""The whole suite: every statement on every family of networks, and every mutant hunted."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from reluctant.properties.catalogue import select
from reluctant.properties.expectations import expected_outcomes
from reluctant.properties.families import FAMILIES, Family, Specimen
from reluctant.properties.judging import Judgement, Tally, describe, judge
from reluctant.theory.statements import Mutant, Statement, Trial
from reluctant.theory.verdicts import Counterexample, MutantResult, Outcome, Report, Verdict

EXAMPLES = {"smoke": 3, "dev": 10, "ci": 20, "nightly": 300}
_UNEXPECTED_TO_APPLY = 2  # examples where only the measured size of a violation is wanted
_UNCHECKED = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
)
Progress = Callable[[str, int, int], None]


class _Refuted(AssertionError):
    """Tell Hypothesis that an example refutes the statement, so that it shrinks."""


def make_trial(specimen: Specimen) -> Trial:
    """Return a trial of a drawn specimen."""
    return Trial(specimen.module, specimen.x, torch.Generator().manual_seed(specimen.seed))


def verify_family(
    statement: Statement, family: Family, *, examples: int = 10, seed_: int = 0
) -> Verdict:
    """Try one statement on specimens of one family, and shrink what refutes it.

    Args:
        statement: Statement to try.
        family: Family to draw from.
        examples: Number of specimens.
        seed_: Seed of the draws.

    Returns:
        The verdict. A counterexample is the smallest that Hypothesis found.
    """
    tally = Tally(statement)
    admitted = expected_outcomes(statement, family.name)
    applies = admitted[0] is not Outcome.NOT_IMPLIED
    tries = examples if applies else min(examples, _UNEXPECTED_TO_APPLY)
    started = time.perf_counter()

    def attempt(specimen: Specimen) -> None:
        trial = make_trial(specimen)
        judgement = judge(statement, trial)
        tally.add(judgement)
        if judgement.outcome is Outcome.REFUTED:
            tally.counterexample = _counterexample(statement, family, specimen, judgement)
            raise _Refuted(judgement.reason)

    # Once more, with more examples, where too few were alive to say.
    for round_, wanted in enumerate((tries, 4 * tries, 16 * tries)):
        try:
            _searched(family, wanted, seed_ + round_, [Phase.generate, Phase.shrink])(attempt)()
        except _Refuted:
            break
        if not applies or tally.count(Outcome.HOLDS) >= min(2, tries):
            break
    verdict = tally.verdict(family.name, admitted[0], time.perf_counter() - started)
    return replace(verdict, expected=verdict.outcome) if verdict.outcome in admitted else verdict


def hunt(
    statement: Statement,
    mutant: Mutant,
    *,
    families: Sequence[Family] = FAMILIES,
    examples: int = 40,
    seed_: int = 0,
) -> MutantResult:
    """Look for an example on which a deliberate fault is noticed.

    Args:
        statement: Statement whose claim is made wrong.
        mutant: The fault.
        families: Families to draw from; those on which the statement is expected to hold are used.
        examples: Number of specimens of each family.
        seed_: Seed of the draws.
    """
    tried = 0
    for family in families:
        if expected_outcomes(statement, family.name) == (Outcome.NOT_IMPLIED,):
            continue
        found: list[str] = []

        def attempt(specimen: Specimen, found: list[str] = found) -> None:
            nonlocal tried
            tried += 1
            judgement = judge(statement, make_trial(specimen), dict(mutant.ingredients))
            if judgement.outcome is Outcome.REFUTED:
                found.append(judgement.reason)
                raise _Refuted(judgement.reason)

        try:
            _searched(family, examples, seed_, [Phase.generate])(attempt)()
        except _Refuted:
            return MutantResult(
                statement.id, mutant.name, True, tried, f"{family.name}: {found[-1]}"
            )
    return MutantResult(statement.id, mutant.name, False, tried, "never noticed")


def _searched(
    family: Family, examples: int, seed_: int, phases: Iterable[Phase]
) -> Callable[[Callable[[Specimen], None]], Callable[[], None]]:
    def wrap(attempt: Callable[[Specimen], None]) -> Callable[[], None]:
        def anonymous(specimen: Specimen) -> None:
            attempt(specimen)

        drawn: Any = given(family.specimens)(anonymous)
        quiet = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=tuple(phases),
            report_multiple_bugs=False,
            verbosity=Verbosity.quiet,
            suppress_health_check=_UNCHECKED,
        )
        return seed(seed_)(quiet(drawn))  # type: ignore[no-any-return]

    return wrap


def _counterexample(
    statement: Statement, family: Family, specimen: Specimen, judgement: Judgement
) -> Counterexample:
    failed = next(c for c in judgement.comparisons if not c.holds)
    numbers = {
        "weights": {name: p.detach().tolist() for name, p in specimen.module.named_parameters()},
        "x": specimen.x.tolist(),
        "left": failed.left.detach().tolist(),
        "right": failed.right.detach().tolist(),
    }
    line = f"reluctant verify --statements {statement.id}  # {family.name}"
    return Counterexample(describe(failed), numbers, line)


def verify(
    statements: Iterable[str] | None = None,
    profile: str = "dev",
    progress: Progress | None = None,
    *,
    seed_: int = 0,
) -> Report:
    """Try every statement on every family, and hunt every mutant.

    Args:
        statements: Identifiers or prefixes; all if None.
        profile: "smoke", "dev", "ci" or "nightly": 3, 10, 20 or 300 specimens a family.
        progress: Called with what is being done, steps done, and steps in all.
        seed_: Seed of all draws.

    Returns:
        One verdict a statement and family, and one result a mutant.
    """
    chosen, examples = select(statements), EXAMPLES[profile]
    steps = sum(len(FAMILIES) + len(s.mutants) for s in chosen)
    done = 0
    verdicts: list[Verdict] = []
    mutants: list[MutantResult] = []
    notes: tuple[str, ...] = ()
    try:
        for statement in chosen:
            for family in FAMILIES:
                if progress:
                    progress(f"{statement.id} on {family.name}", done, steps)
                verdicts.append(verify_family(statement, family, examples=examples, seed_=seed_))
                done += 1
            for mutant in statement.mutants:
                if progress:
                    progress(f"{statement.id}: hunting “{mutant.name}”", done, steps)
                mutants.append(hunt(statement, mutant, seed_=seed_))
                done += 1
    except KeyboardInterrupt:
        notes = (f"interrupted after {done} of {steps} steps",)
    return Report(
        "the property suite", tuple(verdicts), tuple(mutants), environment(seed_, profile), notes
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
    }
