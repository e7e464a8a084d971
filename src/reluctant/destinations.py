"""Where a command's results go: the table to the terminal, documents to files or to stdout."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import typer

from reluctant.terminal import INTERRUPTED, UNEXPECTED, make_console
from reluctant.theory.errors import InputError

if TYPE_CHECKING:
    from reluctant.theory.verdicts import Report

STDOUT = Path("-")
Form = Literal["json", "html", "markdown"]


@contextlib.contextmanager
def talk_on_stderr(wanted: bool) -> Iterator[None]:
    """Keep what the user's code prints out of a document that goes to stdout."""
    with contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext():
        yield


def conclude(
    report: Report,
    documents: Mapping[Form, Path | None],
    strict: bool,
    *,
    by_statement: bool,
    folder: Path | None = None,
    command: str = "",
) -> NoReturn:
    """Print the table, write the documents and leave; the table first, which no full disk stops.

    Args:
        report: What there is to say.
        documents: Where each document goes.
        strict: Whether doubtful verdicts count as unexpected.
        by_statement: Whether the table sums up by statement.
        folder: Where the paper and the page go, if they are wanted.
        command: What makes the report again.
    """
    from reluctant.tables import print_report
    from reluctant.theory.verdicts import write_whole

    is_piped = STDOUT in documents.values()
    print_report(make_console(stderr=is_piped), report, by_statement=by_statement)
    for form, path in documents.items():
        if path is None:
            continue
        text = _rendered(report, form, by_statement=by_statement)
        if path == STDOUT:
            typer.echo(text)
        else:
            write_whole(path, text)
    if folder is not None:
        from reluctant.reports.engine import write_check

        paper, page, *_ = write_check(report, folder, command)
        typer.echo(f"paper  {paper}\npage   {page}", err=is_piped)
    raise typer.Exit(exit_code(report, strict))


def _rendered(report: Report, form: Form, *, by_statement: bool) -> str:
    if form == "html":
        from reluctant.reports.page import render_check

        return render_check(report)
    if form == "markdown":
        from reluctant.markdown import markdown

        return markdown(report, by_statement=by_statement)
    return report.as_text()


def exit_code(report: Report, strict: bool) -> int:
    """Return 0, or what says that something is unexpected, doubtful if strict, or interrupted."""
    from reluctant.theory.verdicts import Outcome

    doubtful = {Outcome.INCONCLUSIVE, Outcome.UNSUPPORTED} if strict else set()
    survived = any(not mutant.killed for mutant in report.mutants)
    if report.failures or survived or any(verdict.outcome in doubtful for verdict in report):
        return UNEXPECTED
    return INTERRUPTED if any("interrupted" in note for note in report.notes) else 0


def ensure_writable(*paths: Path | None) -> None:
    """Refuse before minutes of work what could not be written after them."""
    asked = [path for path in paths if path is not None]
    if len({path.resolve() for path in asked}) < len(asked):
        raise InputError(f"{asked[0]} is named twice; every document needs a file of its own")
    for path in asked:
        if path != STDOUT:
            _ensure_writable(path)


def ensure_folder(path: Path | None) -> None:
    """Refuse before minutes of work a folder that could not be written after them."""
    if path is not None:
        from reluctant.reports.records import writable_folder

        is_there = path.exists()
        writable_folder(path)
        if not is_there:
            path.rmdir()  # what is refused for another reason leaves nothing behind


def _ensure_writable(path: Path) -> None:
    folder = path.parent if not path.is_symlink() else path.resolve().parent
    if not folder.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {folder}; make it")
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file in it")
    if path.exists() and not path.is_file():  # a device or a pipe is written into as it is
        if not os.access(path, os.W_OK):
            raise InputError(f"cannot write {path}: you may not write into it; name another")
        return
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"cannot write {path}: the folder {folder} takes no files"
            f" ({error.strerror}); name another"
        ) from error
