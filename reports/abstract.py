"""The abstract, written from the numbers of the report."""

from __future__ import annotations

from typing import Final

from reluctant.reports.document import Document, papers_of
from reluctant.reports.prose import verbatim
from reluctant.reports.wording import counted, grouped

_OUTCOMES: Final = {
    "HOLDS": "hold",
    "REFUTED": "are refuted",
    "NOT_IMPLIED": "are not implied because a hypothesis is not met",
    "INCONCLUSIVE": "are inconclusive",
    "UNSUPPORTED": "cannot be read",
}


def abstract(document: Document) -> str:
    """Return the abstract: what was tried, and what came of it, in numbers."""
    return _of_check(document) if document.subject else _of_suite(document)


def _of_check(document: Document) -> str:
    report = document.report
    words = ", ".join(
        f"{document.outcomes[key]} {word}"
        for key, word in _OUTCOMES.items()
        if document.outcomes[key]
    )
    parts = [
        f"{counted(len(report.verdicts), 'statement')} of the dual (path) view of ReLU networks "
        f"tried on one network, {verbatim(document.subject)}: {words or 'none'}."
    ]
    parts.append(_failures(document))
    return " ".join(parts)


def _of_suite(document: Document) -> str:
    count, power = document.outcomes, document.report.mutants
    papers = {key for s in document.statements for key in papers_of(s.sources)}
    tried = len({v.statement for v in document.report.verdicts})
    trials = sum(v.evidence.trials for v in document.report.verdicts if v.evidence)
    parts = [
        "A theorem about ReLU networks is believed here only after an attempt to break it. "
        f"{counted(tried, 'statement')} of the dual (path) view, restated from "
        f"{counted(len(papers), 'paper')} with the hypotheses that each needs, "
        f"{'is' if tried == 1 else 'are'} tried on "
        f"{counted(len(document.subjects), 'family', 'families')} of networks: "
        f"{counted(len(document.report.verdicts), 'verdict')} from {grouped(trials)} examples, "
        f"of which {count['HOLDS']} hold, {count['REFUTED'] or 'none'} "
        f"{'is' if count['REFUTED'] < 2 else 'are'} refuted by an example "
        f"and {count['NOT_IMPLIED']} are not implied because a hypothesis is not met."
    ]
    if power:
        killed = sum(m.killed for m in power)
        parts.append(
            "So that a green verdict means something, "
            f"{counted(len(power), 'deliberate fault')} "
            f"{'was' if len(power) == 1 else 'were'} put into the statements: the checks "
            f"noticed {'all' if killed == len(power) else killed}."
        )
    if document.report.verdicts:
        parts.append(_failures(document))
    if document.sections:
        parts.append(
            f"{counted(len(document.sections), 'experiment')} "
            f"{'measures' if len(document.sections) == 1 else 'measure'} what no theorem decides."
        )
    if document.profile != "full":
        parts.append(
            f"This is the {document.profile} profile: small data, few seeds; its accuracies are "
            "not comparable with published ones."
        )
    return " ".join(parts)


def _failures(document: Document) -> str:
    count = len(document.report.failures)
    if count == 0:
        return "No verdict differs from what theory predicts."
    verb = counted(count, "verdict differs", "verdicts differ")
    return f"{verb} from what theory predicts."
