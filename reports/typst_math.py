"""Print the tree of a formula as Typst."""

from __future__ import annotations

from typing import Final

from reluctant.reports.formula_nodes import (
    Accent,
    Alphabet,
    Fenced,
    Fraction,
    Grid,
    Node,
    Root,
    Row,
    Scripts,
    Space,
    Symbol,
    Words,
)
from reluctant.reports.formulas import clauses, parse
from reluctant.reports.latex_signs import LIMITS

_ACCENTS: Final = {
    "hat": "hat", "tilde": "tilde", "bar": "macron", "line": "overline", "vec": "arrow",
    "dot": "dot", "ddot": "dot.double", "underline": "underline",
}  # fmt: skip
_FENCES: Final = {"matrix": "#none", "pmatrix": '"("', "bmatrix": '"["', "vmatrix": '"|"'}


def to_typst(latex: str) -> str:
    r"""Return Typst's mathematics for a formula in LaTeX.

    Every sign is escaped and every group is the argument of a function, so nothing depends on
    Typst's own reading of brackets, slashes and spaces.

    >>> to_typst(r"x^{2}")
    'attach(x, t: 2)'

    Raises:
        InputError: If the formula uses what this project's part of LaTeX does not have.
    """
    return _print(parse(latex))


def clauses_for_typst(latex: str) -> list[str]:
    """Return the parts of a formula between which a line may break."""
    return [_print(clause) for clause in clauses(parse(latex))]


def _print(node: Node) -> str:
    match node:
        case Row(items):
            return " ".join(_print(item) for item in items) or '""'
        case Symbol():
            return _symbol(node)
        case Words(text):
            return _quoted(text)
        case Space(em):
            return f"#h({em:.4f}em)"
        case Scripts(base, below, above):
            parts = [_print(base)]
            if below is not None:
                parts.append(f"b: {_print(below)}")
            if above is not None:
                parts.append(f"t: {_print(above)}")
            return f"attach({', '.join(parts)})"
        case Fraction(over, under, is_binomial):
            return f"{'binom' if is_binomial else 'frac'}({_print(over)}, {_print(under)})"
        case Root(body, None):
            return f"sqrt({_print(body)})"
        case Root(body, index) if index is not None:
            return f"root({_print(index)}, {_print(body)})"
        case Accent(mark, body) if mark in ("line", "underline"):
            return f"{_ACCENTS[mark]}({_print(body)})"
        case Accent(mark, body):
            return f"accent({_print(body)}, {_ACCENTS[mark]})"
        case Alphabet(name, body):
            return f"{name}({_print(body)})"
        case Fenced(left, body, right):
            return f"lr({_escape(left)} {_print(body)} {_escape(right)})"
        case Grid():
            return _grid(node)
        case _:
            raise TypeError(f"no such node: {node!r}")


def _symbol(symbol: Symbol) -> str:
    if symbol.role == "function":
        limits = ", limits: #true" if symbol.text in LIMITS else ""
        return f"op({_quoted(symbol.text)}{limits})"
    if symbol.role == "number":
        return symbol.text
    text = _escape(symbol.text)
    if symbol.upright and symbol.text.isalpha():
        return f"upright({text})"
    if symbol.text in "|‖" and symbol.role in ("open", "close"):
        role = {"open": "opening", "close": "closing"}[symbol.role]
        return f"class({_quoted(role)}, {text})"
    return text


def _grid(grid: Grid) -> str:
    if grid.name == "aligned":
        return " \\ ".join(" & ".join(_print(cell) for cell in row) for row in grid.rows)
    if grid.name == "cases":
        return f"cases({', '.join(' & quad '.join(map(_print, row)) for row in grid.rows)})"
    rows = "; ".join(", ".join(map(_print, row)) for row in grid.rows)
    return f"mat(delim: {_FENCES[grid.name]}, {rows})"


def _escape(text: str) -> str:
    return "".join(c if c.isalnum() or not c.isascii() or c.isspace() else f"\\{c}" for c in text)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
