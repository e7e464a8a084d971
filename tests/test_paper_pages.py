"""The pages of the papers: what the registry says today, whole, linked and escaped."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reluctant.cli import app
from reluctant.properties.catalogue import select, statements
from reluctant.properties.families import FAMILIES
from reluctant.reports.paper_pages import INDEX, UNPUBLISHED, paper_pages, write_paper_pages
from reluctant.reports.references import split_source
from reluctant.theory.errors import InputError
from reluctant.theory.statements import Hypothesis

DOCS = Path(__file__).parents[1] / "docs"
PAGES = paper_pages()
_LINK = re.compile(r"\]\(([\w.-]*\.md)?(#[\w-]+)?\)")


def slugs(page: str) -> set[str]:
    """Return the anchors of a page's headings as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {"#" + re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-") for title in found}


def section(page: str, identifier: str) -> str:
    return page.partition(f"\n## {identifier}\n")[2].partition("\n## ")[0]


def test_committed_pages_are_what_the_registry_says() -> None:
    committed = {p.name: p.read_text(encoding="utf-8") for p in (DOCS / "papers").glob("*.md")}
    assert committed == PAGES, "run: reluctant statements --pages docs/papers"


def test_every_statement_is_on_the_page_of_each_paper_that_claims_it() -> None:
    for statement in statements():
        for source in statement.sources:
            page = PAGES[f"{split_source(source)[0] or UNPUBLISHED}.md"]
            said = section(page, statement.id)
            assert statement.latex in said
            assert all(h.text in said for h in statement.hypotheses)
            assert said.count("\n- ") >= len(statement.hypotheses) + len(statement.mutants)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    links = _LINK.findall(PAGES[name])
    assert links
    for file, anchor in links:
        page = PAGES[file or name]
        assert not anchor or anchor in slugs(page), f"{name}: {file}{anchor}"


@pytest.mark.parametrize("identifier", [s.id for s in statements()])
def test_each_family_has_one_verdict(identifier: str) -> None:
    (statement,) = select([identifier])
    key = split_source(statement.sources[0])[0] or UNPUBLISHED
    verdict = section(PAGES[f"{key}.md"], identifier).partition("**Verdict.**")[2]
    lines = re.findall(r"^- (?:Holds|Is refuted|Not implied) on\b.*$", verdict, re.MULTILINE)
    if lines == [
        f"- {'Is refuted' if statement.corrected else 'Holds'} on every family of networks."
    ]:
        return
    named = [
        name for line in lines for name in line.partition(": ")[2].removesuffix(".").split("; ")
    ]
    # A name such as "FC, biases" has commas, none has a semicolon.
    assert sorted(named) == sorted(family.name for family in FAMILIES)


def test_what_is_printed_wrongly_names_what_holds() -> None:
    said = section(PAGES["dgn.md"], "ntk.signal-vs-wire")
    assert "**Printed wrongly.** Paths from different inputs" in said
    assert "What holds in its place: [dual.ntk-factor](npf.md#dualntk-factor)." in said
    assert "Is refuted on: FC;" in said
    assert "**Printed wrongly.**" not in section(PAGES["npf.md"], "dual.psd")


def test_proof_and_test_are_named() -> None:
    said = section(PAGES["npf.md"], "dual.homogeneous")
    assert "4 machine-checked steps; `reluctant statements dual.homogeneous --proof`" in said
    assert "`properties/symmetries.py`; `pytest properties -k dual.homogeneous`" in said
    assert "**Proof.** None: only exact" in section(PAGES["npf.md"], "dual.psd")


def test_steps_of_lemmas_count() -> None:
    (statement,) = select(["ntk.fc-expectation"])
    assert statement.proof is not None
    proof = statement.proof()
    steps = len(proof.steps) + sum(len(lemma.steps) for lemma in proof.lemmas)
    assert proof.lemmas
    assert f"**Proof.** {steps} machine-checked" in section(PAGES["npf.md"], statement.id)


def test_another_registry_gives_another_page() -> None:
    (statement,) = select(["dual.homogeneous"])
    hypothesis = Hypothesis("a_*b*", "No _x_ < y, $a_b$ stays; f[x](y).", lambda net: None)
    other = replace(statement, hypotheses=(hypothesis,), note="`other`")
    page = paper_pages([other])["npf.md"]
    assert r"- *a\_\*b\**: No \_x\_ &lt; y, $`a_b`$ stays; f[x]\(y)." in page
    assert r"**Note.** \`other\`" in page
    assert paper_pages([other]).keys() == {INDEX, "npf.md"}
    without = paper_pages([replace(statement, hypotheses=(), sources=("a remark",))])
    assert "Hypotheses: none" in without[f"{UNPUBLISHED}.md"]


def test_pages_are_written_whole_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        files = write_paper_pages(tmp_path / "papers", select(["dual.psd"]))
        assert [f.name for f in files] == [INDEX, "npf.md"]
    assert "## dual.psd" in (tmp_path / "papers" / "npf.md").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write into .*nowhere"):
        write_paper_pages(tmp_path / "nowhere" / "papers")


def test_command_writes_the_pages(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["statements", "--pages", str(tmp_path / "papers")])
    assert done.exit_code == 0, done.output
    written = {p.name: p.read_text(encoding="utf-8") for p in (tmp_path / "papers").iterdir()}
    assert written == PAGES


def test_command_writes_all_pages_or_none(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["statements", "dual.psd", "--pages", str(tmp_path)])
    assert done.exit_code == 2
    assert "give it alone" in done.output
    assert not list(tmp_path.iterdir())
