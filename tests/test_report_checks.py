"""The paper and the page of one's own network, from the shell and from Python."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cli_specimens import run
from report_specimens import STATEMENTS, Named, make_report
from test_report_page import WILD, Reader
from test_report_paper import words

from reluctant.reports.abstract import abstract
from reluctant.reports.check_document import check_document
from reluctant.reports.engine import write_check
from reluctant.reports.page import render_page
from reluctant.reports.paper import paper_data, render_paper
from reluctant.theory.errors import InputError
from reluctant.theory.findings import Finding, Place, Size
from reluctant.theory.verdicts import Outcome, Report, Verdict

needs_poppler = pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="pdftotext is not installed (poppler-utils)"
)
COMMAND = "reluctant check my_net.py:make --input 3"


def make_check(subject: str = "my_net.py:make") -> Report:
    verdicts = tuple(v for v in make_report().verdicts if v.subject == "FC with biases")
    places = tuple(Place(f"{k}.bias is a bias", f"my_net.py:{k}") for k in range(9))
    size = Size("|f(2x) − 2 f(x)| / |2 f(x)|", "4 inputs of the data", 0.25, 0.125)
    findings = (Finding("bias-free", False, "no, at 9 places", places, (size,)),)
    return Report(subject, verdicts, (), {"torch": "2.13"}, ("a note",), (), findings)


@needs_poppler
def test_the_paper_says_what_was_found_and_why(tmp_path: Path) -> None:
    report = make_check()
    text = words(render_paper(check_document(report, STATEMENTS, COMMAND)), tmp_path)
    for part in ("Which theorems apply to my_net.py:make?", COMMAND, "tried on one network",
                 "What was found of the network", "0.bias is a bias my_net.py:0", "and 3 more places",
                 "0.25 at most", "fc2 has a bias",
                 "left 2.0000, right 1.0000", "a note", "References"):  # fmt: skip
        assert part in text, part
    for part in ("families of networks", "Mismatch ledger", "PROFILE", "mutants", "reluctant run"):
        assert part not in text, part


def test_every_verdict_is_in_the_paper() -> None:
    report = make_check()
    data = paper_data(check_document(report, STATEMENTS, COMMAND))
    shown = {s["id"]: s["cells"] for group in data["groups"] for s in group["statements"]}
    assert set(shown) == {v.statement for v in report.verdicts}
    assert all(len(cells) == 1 for cells in shown.values())


def test_the_page_has_the_command() -> None:
    page = render_page(check_document(make_check(), STATEMENTS, COMMAND))
    assert COMMAND in page
    assert Reader(page).open == []


def test_the_abstract_counts_and_tells_a_surprise() -> None:
    report = make_check()
    said = abstract(check_document(report, STATEMENTS))
    assert f"{len(report.verdicts)} statements" in said
    assert "No verdict differs from" in said
    odd = Verdict("dual.psd", "n", Outcome.REFUTED, Outcome.HOLDS, "λ = −1")
    said = abstract(check_document(Report("n", (odd,)), STATEMENTS))
    assert "1 are refuted. 1 verdict differs from" in said


@pytest.mark.parametrize(
    "subject", [WILD, "net$", "a $x", "\\$", "网" * 300, "n" * 300, "\ud800", ""]
)
def test_any_name_can_be_that_of_the_network(tmp_path: Path, subject: str) -> None:
    report = make_check(subject)
    files = write_check(report, tmp_path / "out", "reluctant check x", STATEMENTS)
    assert [file.name for file in files] == [
        "paper.pdf", "index.html", "verdicts.json", "references.bib",
    ]  # fmt: skip
    assert "<script>alert" not in files[1].read_text("utf-8")
    assert Report.load(files[2]) == report


def test_statements_of_others_need_not_be_well_set(tmp_path: Path) -> None:
    odd = replace(STATEMENTS[0], latex=r"\mystery{f} < \weird", title="costs 5$ a unit",
                  hypotheses=(Named("h", "half $x"),), mutants=())  # fmt: skip
    report = Report("net", (Verdict(odd.id, "net", Outcome.REFUTED, Outcome.HOLDS, "f"),))
    _, page, *_ = write_check(report, tmp_path, "", (odd,))
    assert "costs 5$ a unit" in page.read_text()
    assert r"\mystery{f} &lt; \weird" in page.read_text()


def test_the_command_line_writes_both(here: Path) -> None:
    result = run(
        "check", "my_net:Net", "--input", "3", "--statements", "dual.psd", "--report", "out"
    )
    assert result.exit_code == 0, result.output
    assert re.search(r"paper +out/paper\.pdf\npage +out/index\.html", result.stdout)
    page = (here / "out" / "index.html").read_text()
    assert "reluctant check my_net:Net --input 3" in page
    assert "--statements dual.psd" in page


def test_a_folder_that_cannot_be_written_is_told_first(here: Path) -> None:
    before = sorted(here.iterdir())
    result = run("check", "my_net:Net", "--input", "3", "--report", "my_net.py/out")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "choose a folder that you may write" in result.stderr
    assert run("check", "my_net:Nett", "--input", "3", "--report", "new").exit_code == 2
    assert [p for p in sorted(here.iterdir()) if p.name != "__pycache__"] == before
    with pytest.raises(InputError, match="choose a folder"):
        write_check(make_check(), here / "my_net.py")
