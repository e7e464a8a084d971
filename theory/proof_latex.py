"""Checked proofs as LaTeX: amsmath and amsthm only, and only commands that the reports can read."""

from __future__ import annotations

import re
from collections.abc import Iterator

import sympy
from sympy.polys.rings import PolyElement

from reluctant.theory.errors import InputError
from reluctant.theory.proofs import CheckedStep, Derivation, Identity

_MOST_TERMS = 6
_TERMS_A_LINE = 2
_LONG = 120  # characters of LaTeX
_PREAMBLE = r"""\documentclass{article}
\usepackage{amsmath,amsthm}
\newtheorem*{lemma}{Lemma}
\newtheorem*{proposition}{Proposition}
\begin{document}
\sloppy
"""
_SPECIAL = {"%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_"}


def document(derivation: Derivation) -> str:
    """Return a document that compiles."""
    return f"{_PREAMBLE}{body(derivation)}\\end{{document}}\n"


def body(derivation: Derivation) -> str:
    """Return lemmas, claim and steps, without a preamble."""
    parts = [_one(lemma, "lemma") for lemma in derivation.lemmas]
    return "".join([*parts, _one(derivation, "proposition")])


def shown(identity: Identity) -> str:
    """Return the LaTeX of an identity: what both sides are, and what they reduce to.

    Of long polynomials the first terms only, and their number. A left side that looks otherwise
    before it is reduced is shown too, where it is short.
    """
    form = identity.normal_form()
    label = f"{identity.label} = " if identity.label else ""
    if not isinstance(form, PolyElement):
        written = "" if label and identity.left == form else f"{_latex(identity.left)} = "
        return f"{label}{written if len(written) < _LONG or not label else ''}{_latex(form)}"
    if identity.left != form and len(identity.left) <= _TERMS_A_LINE:
        label += f"{_latex(identity.left.as_expr())} = "
    terms = [_latex(form.ring.from_dict({m: c}).as_expr()) for m, c in form.terms()]
    if len(terms) <= 1:
        return label + (terms[0] if terms else "0")
    kept = [t if t.startswith("-") or k == 0 else f"+ {t}" for k, t in enumerate(terms)]
    if len(terms) > _MOST_TERMS:
        kept = [*kept[: _MOST_TERMS - 1], rf"+ \cdots \quad \text{{({len(terms)} terms)}}"]
    if len(kept) <= _TERMS_A_LINE:
        return label + " ".join(kept)
    lines = [kept[k : k + _TERMS_A_LINE] for k in range(0, len(kept), _TERMS_A_LINE)]
    joined = r" \\ & \quad {} ".join(" ".join(line) for line in lines)
    return rf"\begin{{aligned}} {label}& {joined} \end{{aligned}}"


def _latex(expression: object) -> str:
    text: str = sympy.latex(sympy.sympify(expression), mul_symbol=None, order=None)
    return text


def _one(derivation: Derivation, kind: str) -> str:
    return "".join(_lines(derivation, kind))


def _lines(derivation: Derivation, kind: str) -> Iterator[str]:
    proof = derivation.proof
    yield f"\\begin{{{kind}}}[\\texttt{{{_prose(proof.name)}}}]\n{_prose(proof.title)}\n"
    yield f"\\[ {proof.claim} \\]\n\\end{{{kind}}}\n"
    if proof.symbols:
        meanings = "; ".join(f"${symbol}$: {_prose(text)}" for symbol, text in proof.symbols)
        yield f"\\noindent Symbols: {meanings}.\n"
    yield "\\begin{proof}\n\\begin{enumerate}\n"
    previous: tuple[str, ...] = ()
    for step in derivation.steps:
        yield from _step_lines(step, previous)
        previous = step.shapes or previous
    yield "\\end{enumerate}\n"
    yield f"{_prose(proof.conclusion)}\n\\end{{proof}}\n"


def _step_lines(step: CheckedStep, previous: tuple[str, ...]) -> Iterator[str]:
    yield f"\\item {_prose(step.text)}\n"
    if step.formula:
        yield f"\\[ {step.formula} \\]\n"
    where = _prose(step.example.where)
    begin = "For instance" if step.count > 1 or where else "SymPy"
    yield f"{begin}{f' ({where})' if where else ''}:\n\\[ {shown(step.example)} \\]\n"
    things = "identity was" if step.count == 1 else "identities were"
    yield f"{step.count} {things} reduced to $0 = 0$"
    yield f", of up to {step.terms} terms" if step.terms > 1 else ""
    if step.shapes:
        same = step.shapes == previous and len(previous) > 1
        yield "; shapes as above" if same else f"; shapes: {_prose('; '.join(step.shapes))}"
    yield ".\n"


def _prose(text: str) -> str:
    """Return prose with the signs that LaTeX reads escaped outside formulas.

    Raises:
        InputError: If it is not ASCII, since amsmath alone cannot set it.
    """
    if not text.isascii():
        raise InputError(f"a proof is written in ASCII and LaTeX, but it says {text!r}")
    parts = re.split(r"(\$[^$]*\$)", text)
    return "".join(
        part if part.startswith("$") else re.sub(r"[%&#_]", lambda m: _SPECIAL[m.group()], part)
        for part in parts
    )
