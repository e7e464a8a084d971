"""A report as Markdown: for a pull request, or as a page of documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reluctant.reports.wording import escaped
from reluctant.tables import (
    SUMMARY_HEADINGS,
    evidence_words,
    reasons,
    summary_rows,
    summed_up,
    where_found,
)
from reluctant.theory.scores import scores
from reluctant.theory.verdicts import Report, Verdict


def markdown(report: Report, *, by_statement: bool) -> str:
    """Return a report as Markdown: findings, verdicts, what differs from theory, power and sharpness.

    Args:
        report: What was found.
        by_statement: One row a statement, else one row a verdict.
    """
    lines = [f"# {escaped(report.subject)}", "", escaped(f"{summed_up(report)}.")]
    lines += [f"\n{escaped(note)}" for note in report.notes]
    if report.findings:
        found = ((f.name, f.answer, "; ".join(where_found(f))) for f in report.findings)
        lines += ["", "## What was found of the network", ""]
        lines += _table(("what was found", "answer", "where"), found)
    lines += ["", "## Verdicts", ""]
    if by_statement:
        lines += _table(SUMMARY_HEADINGS, summary_rows(scores(report, report.mutants)))
    else:
        lines += _table(("statement", "verdict", "evidence", "reason"), map(_row, report))
    lines += _examples(report, by_statement=by_statement)
    if report.mutants:
        rows = (
            (m.statement, m.mutant, str(m.trials), m.detail if m.killed else "NOT NOTICED")
            for m in report.mutants
        )
        lines += ["", "## Power: faults put in, faults noticed", ""]
        lines += _table(("statement", "fault", "examples", "noticed"), rows)
    if report.sharpness:
        needs = (
            (n.statement, n.hypothesis, n.need.words, str(n.alone), n.seen)
            for n in report.sharpness
        )
        lines += ["", "## Sharpness: each hypothesis dropped alone", ""]
        lines += _table(("statement", "without", "is it needed?", "networks", "seen"), needs)
    lines += ["", "## Environment", ""]
    lines += _table(("", ""), report.environment.items())
    return "\n".join(lines) + "\n"


def _row(verdict: Verdict) -> tuple[str, ...]:
    outcome = str(verdict.outcome) + ("" if verdict.is_as_expected else " (unexpected)")
    tried = evidence_words(verdict).replace("\n", "; ")
    return verdict.statement, outcome, tried, "; ".join(reasons(verdict))


def _examples(report: Report, *, by_statement: bool) -> Iterator[str]:
    """Yield what refutes; by statement, the first example of each."""
    found: dict[tuple[str, str], Verdict] = {}
    for verdict in report:
        if verdict.counterexample is not None and verdict.counterexample.reproduce:
            place = "" if by_statement else verdict.subject
            found.setdefault((verdict.statement, place), verdict)
    if found:
        yield from ("", "## Counterexamples")
    for verdict in found.values():
        assert verdict.counterexample is not None
        yield from ("", f"**{escaped(verdict.statement)}** on {escaped(verdict.subject)}:", "")
        yield from ("```text", *reasons(verdict), verdict.counterexample.reproduce, "```")


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{' --- |' * len(headings)}"
    for row in rows:
        cells = (escaped(cell).replace("|", "\\|").replace("\n", " ") for cell in row)
        yield f"| {' | '.join(cells)} |"
