"""The web page: one file that asks nothing of the network and works without scripts."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from reluctant.reports.abstract import abstract
from reluctant.reports.cells import cell_names, named_cells
from reluctant.reports.check_document import check_document
from reluctant.reports.document import (
    KINDS,
    MARKS,
    Document,
    StatementLike,
    evidence_of,
    mark,
    remarks,
    worst,
)
from reluctant.reports.exhibits import Figure
from reluctant.reports.figures import drawing
from reluctant.reports.mathml import clauses_as_mathml
from reluctant.reports.prose import for_html, is_prose, without_markup
from reluctant.reports.references import DRAFTS, number, references, split_source
from reluctant.reports.wording import duration, heading, scientific
from reluctant.theory.errors import InputError
from reluctant.theory.example_lines import example_lines
from reluctant.theory.verdicts import Outcome, Report

_FONTS: Final = {
    "Reluctant Math": (("math", "normal", 400),),
    "Reluctant Text": (
        ("text", "normal", 400), ("text-italic", "italic", 400), ("text-bold", "normal", 600),
    ),
}  # fmt: skip
_WORDS: Final = {
    Outcome.HOLDS: "holds",
    Outcome.REFUTED: "refuted",
    Outcome.NOT_IMPLIED: "not implied",
    Outcome.INCONCLUSIVE: "inconclusive",
    Outcome.UNSUPPORTED: "not readable",
}


def render_page(document: Document) -> str:
    """Return the page of a whole report, or of a check of one's own network."""
    template = "check.html.j2" if document.subject else "page.html.j2"
    return _render(template, document, plain_title=without_markup(document.title))


def render_check(report: Report, statements: Sequence[StatementLike] | None = None) -> str:
    """Return the page of a check of one's own network.

    Args:
        report: What :func:`reluctant.check` returned. Its names may hold any text: they are
            escaped.
        statements: The registry, for titles and formulas; the package's own if left out.
    """
    return render_page(check_document(report, statements))


def _render(template: str, document: Document, plain_title: str) -> str:
    style = _compact(_source("page.css").replace("/* fonts */", _font_faces()))
    script = _compact(_source("page.js"))
    html: str = (
        _environment()
        .get_template(template)
        .render(
            document=document,
            abstract=abstract(document),
            plain_title=plain_title,
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
            kinds=KINDS,
            marks=MARKS,
            words=_WORDS,
            legend=_legend(document),
            statement_of={s.id: s for s in document.statements},
        )
    )
    return _compact(html)


def _compact(text: str) -> str:
    """Leave out empty lines; the policy hashes the style and the script as they then stand."""
    return re.sub(r"\n[ \t]*(?=\n)", "", text)


def _policy(style: str, script: str) -> str:
    """Return a content policy under which nothing but this very style and script runs."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "img-src data:; font-src data:; base-uri 'none'; form-action 'none'"
    )


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reluctant.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        prose=_prose,
        plain=without_markup,
        heading=heading,
        formula=_formula,
        scientific=scientific,
        duration=duration,
        mark=lambda verdict: mark(verdict) if verdict is not None else "none",
        evidence=evidence_of,
        worst=worst,
        remarks=remarks,
        source=_citation,
        anchor=anchor,
        image=_image,
        lines=example_lines,
        names=cell_names,
        named=named_cells,
    )
    environment.tests["figure"] = lambda exhibit: isinstance(exhibit, Figure)
    environment.globals.update(references=references, reference_number=number)
    return environment


def anchor(text: str) -> str:
    """Return an identifier for a link, made of a name.

    >>> anchor("Conv + GAP, circular")
    'conv-gap-circular'
    """
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "unnamed"


def _prose(text: str) -> Markup:
    """Return prose as HTML; that of other distributions may have formulas that end nowhere."""
    try:
        return for_html(text)
    except InputError:
        return escape(text)


def _formula(latex: str) -> Markup:
    """Return a statement's formula: its own block, or a paragraph of prose."""
    box = Markup('<div class="formula" tabindex="0">{}</div>')
    try:
        if is_prose(latex):
            return Markup("<p>{}</p>").format(for_html(latex))
        return box.format(Markup("").join(map(Markup, clauses_as_mathml(latex))))
    except InputError:  # the formulas of other distributions may use commands of their own
        return box.format(Markup("<code>{}</code>").format(latex))


def _citation(source: str) -> Markup:
    key, place = split_source(source)
    if not key:
        return Markup("{}").format(DRAFTS.get(place, place))
    link = Markup('<a href="#ref-{}">[{}]</a>').format(key, number(key))
    return Markup("{}, {}").format(link, place) if place else link


def _image(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(drawing(figure)).decode("ascii")


def _legend(document: Document) -> Mapping[str, str]:
    used = {mark(verdict) for verdict in document.report.verdicts}
    return {name: words for name, words in MARKS.items() if name in used}


@functools.cache
def _source(name: str) -> str:
    return files("reluctant.reports").joinpath("templates", name).read_text(encoding="utf-8")


@functools.cache
def _font_faces() -> str:
    folder = files("reluctant.reports").joinpath("templates", "fonts")
    faces = []
    for family, cuts in _FONTS.items():
        for name, slant, weight in cuts:
            data = base64.b64encode(folder.joinpath(f"{name}.woff2").read_bytes()).decode("ascii")
            faces.append(
                f'@font-face{{font-family:"{family}";font-style:{slant};font-weight:{weight};'
                f"font-display:block;src:url(data:font/woff2;base64,{data})}}"
            )
    return "\n".join(faces)
