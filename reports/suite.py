"""The verdicts of the property suite, kept statement by statement so that they are reached once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from reluctant.reports.experiment import Profile, Progress
from reluctant.reports.provenance import code_digest
from reluctant.theory.errors import InputError
from reluctant.theory.tasks import finished
from reluctant.theory.verdicts import Report

#: How hard the statements are tried under each profile of the report.
EFFORT: Final = {"smoke": "smoke", "quick": "smoke", "full": "ci"}
_CODE: Final = ("reluctant.theory", "reluctant.models", "reluctant.properties")

#: Like :func:`reluctant.properties.verification.verify`: identifiers, effort, progress.
Verify = Callable[[Iterable[str], str, Progress | None], Report]


def suite_report(
    statements: Sequence[str],
    profile: Profile,
    folder: Path,
    progress: Progress | None = None,
    verify: Verify | None = None,
    *,
    workers: int = 1,
) -> Report:
    """Return the verdicts on all statements; those of this very code are read, not reached again.

    Args:
        statements: Identifiers.
        profile: Decides how many examples are tried.
        folder: Where each statement's verdicts are kept; a killed call loses one statement's.
        progress: Told the statement and how far all of them have come.
        verify: Reaches the verdicts on some statements; the property suite if left out.
        workers: Number of processes that share the statements.

    Raises:
        KeyboardInterrupt: If the suite was interrupted; what is complete has been kept.
        InputError: If the folder cannot be written.
    """
    if verify is None:
        from reluctant.properties.verification import verify as verify_all

        verify = partial(verify_all, dropping=profile == "full")
    effort = EFFORT[profile]
    code = code_digest(_CODE)[:8]
    paths = {name: folder / f"{name}-{profile}-{code}.json" for name in statements}
    parts = {name: part for name, path in paths.items() if (part := _kept(path)) is not None}
    pieces = [(name, effort, path, verify) for name, path in paths.items() if name not in parts]
    for name, part in finished(_reach, pieces, workers):
        parts[name] = part
        if progress is not None:
            progress(f"verified {name}", len(parts), len(statements))
    ordered = [parts[name] for name in statements]
    return Report(
        "the property suite",
        tuple(v for part in ordered for v in part.verdicts),
        tuple(m for part in ordered for m in part.mutants),
        ordered[0].environment if ordered else {},
        tuple(dict.fromkeys(note for part in ordered for note in part.notes)),
        tuple(need for part in ordered for need in part.sharpness),
    )


def _reach(name: str, effort: str, path: Path, verify: Verify) -> tuple[str, Report]:
    part = verify([name], effort, None)
    if any("interrupted" in note for note in part.notes):
        raise KeyboardInterrupt
    _keep(part, path)
    return name, part


def _kept(path: Path) -> Report | None:
    """Return what an earlier call kept; a damaged file is as good as none."""
    try:
        return Report.load(path)
    except (OSError, InputError):
        return None


def _keep(report: Report, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        report.save(path)
    except OSError as error:
        raise InputError(
            f"verdicts cannot be written to {path.parent} ({error.strerror}); choose another folder"
        ) from error
