r"""Prose: this project's own sentences, with formulas between dollar signs.

Names that come from a user are never prose: they go into the paper and the page as plain text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from reluctant.reports.mathml import to_mathml
from reluctant.reports.typst_math import clauses_for_typst, to_typst
from reluctant.theory.errors import InputError

_FORMULA = re.compile(r"(?<!\\)\$")


@dataclass(frozen=True, slots=True)
class Piece:
    """Be a run of words, or one formula in LaTeX."""

    text: str
    is_formula: bool


def pieces(prose: str) -> tuple[Piece, ...]:
    r"""Split prose at its dollar signs; ``\$`` is a dollar.

    Raises:
        InputError: If a formula does not end.
    """
    parts = _FORMULA.split(prose)
    if len(parts) % 2 == 0:
        raise InputError(f"a formula does not end in {prose!r}; write \\$ for a dollar sign")
    return tuple(
        Piece(part if index % 2 else part.replace(r"\$", "$"), bool(index % 2))
        for index, part in enumerate(parts)
        if part
    )


def for_typst(prose: str) -> list[dict[str, Any]]:
    """Return the pieces as the paper's template wants them: words, or a formula and its source.

    A formula comes with its clauses, in case that it is wider than a column.
    """
    return [
        {"math": to_typst(p.text), "alt": p.text, "clauses": clauses_for_typst(p.text)}
        if p.is_formula
        else {"text": p.text}
        for p in pieces(prose)
    ]


def for_html(prose: str) -> Markup:
    """Return the prose as HTML: words escaped, formulas as MathML."""
    return Markup("").join(
        Markup(to_mathml(p.text)) if p.is_formula else escape(p.text) for p in pieces(prose)
    )


def verbatim(text: str) -> str:
    r"""Return prose that says what a user wrote, and has no formulas.

    >>> verbatim("net$1")
    'net\\$1'
    """
    return text.replace("$", r"\$")


def is_prose(latex: str) -> bool:
    """Tell whether a statement's LaTeX is a sentence with formulas, not one bare formula."""
    return bool(_FORMULA.search(latex))


def without_markup(prose: str) -> str:
    """Return the words, formulas as their LaTeX source: for alternative texts and terminals."""
    return "".join(p.text for p in pieces(prose))
