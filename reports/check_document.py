"""What the page and the paper of one's own network show."""

from __future__ import annotations

from collections.abc import Sequence

from reluctant.reports.document import Document, StatementLike
from reluctant.reports.prose import verbatim
from reluctant.theory.verdicts import Report


def check_document(
    report: Report, statements: Sequence[StatementLike] | None = None, command: str = ""
) -> Document:
    """Gather what a check of one's own network gave.

    Args:
        report: What :func:`reluctant.check` returned.
        statements: The registry, for titles and formulas; that of all distributions if left out.
        command: What makes the check again.
    """
    if statements is None:
        from reluctant.properties.catalogue import statements as registry

        statements = registry()
    tried = {verdict.statement for verdict in report.verdicts}
    return Document(
        f"Which theorems apply to {verbatim(report.subject)}?",
        "full",
        report,
        tuple(statement for statement in statements if statement.id in tried),
        environment=report.environment,
        notes=report.notes,
        subject=report.subject or "a network",
        command=command,
    )
