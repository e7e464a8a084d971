"""The score of a statement, and the tables made of it."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from reluctant.tables import SUMMARY_HEADINGS, aligned, print_report, summary_rows
from reluctant.theory import ledger
from reluctant.theory.scores import scores
from reluctant.theory.verdicts import (
    Counterexample,
    Evidence,
    EvidenceKind,
    MutantResult,
    Outcome,
    Report,
    Unmet,
    Verdict,
)


def verdict(
    statement: str = "dual.psd",
    subject: str = "fc",
    outcome: Outcome = Outcome.HOLDS,
    kind: EvidenceKind = EvidenceKind.EXACT,
    **more: object,
) -> Verdict:
    evidence = Evidence(kind, 10, vacuous=2)
    return Verdict(statement, subject, outcome, Outcome.HOLDS, "a reason", evidence, **more)  # type: ignore[arg-type]


def test_a_score_counts_models_examples_and_what_differs() -> None:
    found = [
        verdict(subject="fc"),
        verdict(subject="fc", kind=EvidenceKind.STATISTICAL),
        verdict(subject="conv", outcome=Outcome.REFUTED),
        verdict("conv.flatten", outcome=Outcome.INCONCLUSIVE),
    ]
    first, second = scores(found)
    assert (first.statement, second.statement) == ("dual.psd", "conv.flatten")
    assert (first.subjects, first.trials, first.vacuous) == (2, 30, 6)
    assert first.outcomes == ((Outcome.HOLDS, 2), (Outcome.REFUTED, 1))
    assert first.evidence == (EvidenceKind.EXACT, EvidenceKind.STATISTICAL)
    assert (first.unexpected, second.unexpected) == (1, 0)


def test_a_fault_counts_once_and_is_killed_by_any_network() -> None:
    tried = [
        MutantResult("dual.psd", "soft gates", False, 5),
        MutantResult("dual.psd", "soft gates", True, 5),
        MutantResult("dual.psd", "soft gates", False, 5),
        MutantResult("dual.psd", "negated", False, 5),
    ]
    (score,) = scores([], tried)
    assert (score.killed, score.mutants, score.subjects) == (1, 2, 0)


def test_the_ledger_keeps_the_order_and_can_be_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_verdicts", [])
    monkeypatch.setattr(ledger, "_mutants", [])
    fault = MutantResult("dual.psd", "soft gates", True, 5)
    ledger.deposit(verdict(), fault, verdict("conv.flatten"))
    assert [v.statement for v in ledger.verdicts()] == ["dual.psd", "conv.flatten"]
    assert ledger.mutants() == (fault,)
    ledger.clear()
    assert not ledger.verdicts() and not ledger.mutants()


def test_plain_columns_are_aligned() -> None:
    lines = list(aligned(SUMMARY_HEADINGS, summary_rows(scores([verdict(), verdict("x")]))))
    starts = {
        line.index(word) for line, word in zip(lines, ("evidence", "exact", "exact"), strict=True)
    }
    assert len(starts) == 1


def printed(report: Report, *, by_statement: bool = False) -> str:
    console = Console(width=160, record=True, file=None, quiet=False, no_color=True)
    with console.capture() as capture:
        print_report(console, report, by_statement=by_statement)
    return re.sub(r"\s+", " ", capture.get())


def test_a_verdict_is_printed_with_reasons_places_and_the_line_that_repeats_it() -> None:
    report = Report(
        "Net",
        (
            verdict(
                outcome=Outcome.REFUTED,
                counterexample=Counterexample("1.0 against [2.0]", reproduce="rl.check(...)"),
            ),
            verdict(
                "dual.homogeneous",
                outcome=Outcome.NOT_IMPLIED,
                unmet=(Unmet("bias-free", "fc2 has a bias", "net.py:3"),),
                measured=0.25,
            ),
        ),
        notes=("interrupted after 2 of 5 statements",),
    )
    text = printed(report)
    for part in (
        "REFUTED",
        "(unexpected)",
        "exact, 10 (+2 vacuous)",
        "1.0 against [2.0]",
        "again: rl.check(...)",
        "not bias-free: fc2 has a bias (net.py:3)",
        "measured all the same: relative violation 0.25",
        "note: interrupted after 2 of 5 statements",
        "Net: 1 REFUTED, 1 NOT_IMPLIED, 2 unexpected",
    ):
        assert part in text


def test_a_summary_names_what_differs_and_the_faults_that_nothing_noticed() -> None:
    report = Report(
        "suite",
        (verdict(), verdict(subject="conv", outcome=Outcome.REFUTED)),
        (MutantResult("dual.psd", "negated", False, 40, "both sides vanish"),),
    )
    text = printed(report, by_statement=True)
    assert "dual.psd on conv: REFUTED a reason" in text
    assert "dual.psd: nothing noticed the fault negated in 40 examples. both sides vanish" in text
    assert "suite: 1 HOLDS, 1 REFUTED, mutants killed 0 of 1, 1 unexpected" in text
