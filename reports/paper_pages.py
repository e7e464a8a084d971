"""One Markdown page a paper: what it claims, under which hypotheses, how it is proved and tried.

Everything on a page is read from the registry of statements and from the table of expected verdicts,
so that a page cannot say what the suite does not try.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reluctant.properties.catalogue import own_statements as registry
from reluctant.properties.expectations import expected_outcomes
from reluctant.properties.families import FAMILIES
from reluctant.properties.proofs import REASONS
from reluctant.reports.document import KINDS
from reluctant.reports.prose import is_prose, pieces
from reluctant.reports.references import Reference, references, split_source
from reluctant.reports.wording import counted, escaped
from reluctant.theory.errors import InputError
from reluctant.theory.statements import Kind, Statement
from reluctant.theory.verdicts import Outcome, write_whole

if TYPE_CHECKING:
    from reluctant.theory.proofs import Proof

INDEX: Final = "README.md"
#: Page of the statements that no paper of the bibliography prints.
UNPUBLISHED: Final = "unpublished"
_GENERATED: Final = "*Generated from the registry by `reluctant statements --pages docs/papers`; not written by hand.*"
_HELD: Final = {Outcome.HOLDS: "Holds", Outcome.REFUTED: "Is refuted"}


def paper_pages(statements: Sequence[Statement] | None = None) -> dict[str, str]:
    """Return the pages as Markdown, by file name: one a paper, and an index.

    A statement that several papers claim stands on the page of each of them.

    Args:
        statements: The statements; all of this package if left out.

    Cost:
        Seconds: the proofs are made, to count their steps, but not checked.
    """
    chosen = registry() if statements is None else tuple(statements)
    by_paper: dict[str, list[Statement]] = {}
    for key in (*references(), ""):
        of_paper = [s for s in chosen if key in _places(s)]
        if of_paper:
            by_paper[key] = of_paper
    found = {_file(key): _page(key, group, chosen) for key, group in by_paper.items()}
    return {INDEX: _index(by_paper), **found}


def write_paper_pages(
    folder: str | os.PathLike[str], statements: Sequence[Statement] | None = None
) -> tuple[Path, ...]:
    """Write the pages into a folder, which is made if its parent exists.

    Args:
        folder: Where to write.
        statements: The statements; all of this package if left out.

    Returns:
        The files, the index first.

    Raises:
        InputError: If there is no such folder and none can be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}; name a folder") from error
    made = paper_pages(statements)
    return tuple(write_whole(folder / name, text) for name, text in made.items())


def _index(by_paper: dict[str, list[Statement]]) -> str:
    lines = [
        "# What each paper claims",
        "",
        _GENERATED,
        "",
        "Each page has the statements of one paper: formula, hypotheses, what must fail without them,",
        "proof, expected verdicts, and where it is tested.",
        "",
        "| paper | year | statements | false as printed |",
        "| --- | --- | --- | --- |",
    ]
    for key, group in by_paper.items():
        paper = references().get(key)
        title, year = (paper.title, paper.year) if paper else ("Not in a published paper", "")
        false = sum(s.kind is Kind.FALSE_AS_PRINTED for s in group)
        lines.append(
            f"| [{escaped(title)}]({_file(key)}) | {year} | {len(group)} | {false or ''} |"
        )
    return _document(lines)


def _page(key: str, group: Sequence[Statement], everything: Sequence[Statement]) -> str:
    paper = references().get(key)
    lines = [
        f"# {escaped(paper.title) if paper else 'Not in a published paper'}",
        "",
        *([_citation(paper), ""] if paper else []),
        _GENERATED,
        "",
        "| statement | kind | claim |",
        "| --- | --- | --- |",
        *(f"| [{s.id}]({_anchor(s.id)}) | {KINDS[s.kind]} | {_cell(s.title)} |" for s in group),
    ]
    for statement in group:
        lines += ["", *_statement(statement, key, everything)]
    return _document(lines)


def _citation(paper: Reference) -> str:
    parts = [paper.byline, *([paper.venue] if paper.venue else []), paper.year]
    said = f"{escaped(', '.join(parts))}."
    if paper.arxiv:
        said += f" [arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})."
    return f"{said} Key: `{paper.key}`."


def _statement(s: Statement, key: str, everything: Sequence[Statement]) -> Iterator[str]:
    yield f"## {s.id}"
    yield from ("", f"**{_prose(s.title.removesuffix('.'))}.** Kind: {KINDS[s.kind]}.")
    yield from ("", _where(s, key), "", *_formula(s.latex), "")
    if s.hypotheses:
        yield "Hypotheses:"
        yield from ("", *(f"- *{escaped(h.name)}*: {_prose(h.text)}" for h in s.hypotheses), "")
    else:
        yield from ("Hypotheses: none beyond a network that can be read.", "")
    if s.kind is Kind.FALSE_AS_PRINTED:
        yield from (_printed_wrongly(s, key, everything), "")
    if s.controls:
        yield from (f"**Must fail, or cannot tell.** {_prose(s.controls)}", "")
    if s.note and s.kind is not Kind.FALSE_AS_PRINTED:
        yield from (f"**Note.** {_prose(s.note)}", "")
    yield from (f"**Proof.** {_proof(s)}", "", "**Verdict.**", "", *_verdict(s), "")
    yield f"**Tested.** The claim is in `{_module(s)}`; `pytest properties -k {s.id}` tries it."
    if s.modular is not None:
        yield "At full size it is tried modulo random primes."
    yield "The check must notice these faults:"
    yield from ("", *(f"- {_prose(mutant.name)}" for mutant in s.mutants))


def _places(s: Statement) -> dict[str, str]:
    """Return where a statement stands, by key of the paper; the key of what is none is empty."""
    found: dict[str, str] = {}
    for key, place in map(split_source, s.sources):
        found[key] = f"{found[key]}; {place}" if key in found else place
    return found


def _where(s: Statement, key: str) -> str:
    places = _places(s)
    here = f"Where: {_prose(places[key]) or 'not stated'}."
    others = (
        f"[{other}]({_file(other)}){', ' if place else ''}{_prose(place)}"
        if other
        else _prose(place)
        for other, place in places.items()
        if other != key
    )
    also = "; ".join(others)
    return f"{here} Also: {also}." if also else here


def _formula(latex: str) -> tuple[str, ...]:
    # Between double dollars GitHub reads \, and \{ as Markdown; a fence it hands on as written.
    return (_prose(latex),) if is_prose(latex) else ("```math", latex, "```")


def _printed_wrongly(s: Statement, key: str, everything: Sequence[Statement]) -> str:
    said = f"**Printed wrongly.** {_prose(s.note)}"
    right = next((other for other in everything if other.id == s.corrected), None)
    if right is None:
        return said
    places = _places(right)
    page = "" if key in places else _file(next(iter(places)))
    return f"{said} What holds in its place: [{right.id}]({page}{_anchor(right.id)})."


def _proof(s: Statement) -> str:
    if s.proof is None:
        return f"None: {REASONS.get(s.id, 'only exact identities and expectations have one')}."
    steps = counted(_steps(s.proof()), "machine-checked step")
    return f"{steps}; `reluctant statements {s.id} --proof` checks and prints the proof."


def _steps(proof: Proof) -> int:
    return len(proof.steps) + sum(map(_steps, proof.lemmas))


def _verdict(s: Statement) -> Iterator[str]:
    """Yield what turns the suite red if it comes out otherwise, by family of networks."""
    groups: dict[tuple[Outcome, ...], list[str]] = {}
    for family in FAMILIES:
        groups.setdefault(expected_outcomes(s, family.name), []).append(family.name)
    held, silent = _HELD[s.expected], Outcome.NOT_IMPLIED
    words = {
        (s.expected,): f"{held} on",
        (s.expected, silent): f"{held} on some, by the sizes drawn, of",
        (silent,): "Not implied on",
    }
    for outcomes, text in words.items():
        names = groups.get(outcomes, [])
        if len(names) == len(FAMILIES):
            yield f"- {text} every family of networks."
        elif names:
            yield f"- {text}: {escaped('; '.join(names))}."


def _module(s: Statement) -> str:
    claim: Any = getattr(s.claim, "func", s.claim)
    return str(claim.__module__).removeprefix("reluctant.").replace(".", "/") + ".py"


def _file(key: str) -> str:
    return f"{key or UNPUBLISHED}.md"


def _anchor(identifier: str) -> str:
    """Return the anchor that Markdown renderers give the heading: letters, digits and hyphens."""
    return "#" + re.sub(r"[^\w-]", "", identifier.lower())


def _prose(text: str) -> str:
    """Return words escaped, and formulas in the form that Markdown leaves as it is."""
    return "".join(f"$`{p.text}`$" if p.is_formula else escaped(p.text) for p in pieces(text))


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def _document(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
