r"""Tables as LaTeX to include in one's own paper: ``\input{tables/NAME}`` with booktabs."""

from __future__ import annotations

import re
from typing import Final

from reluctant.reports.characters import for_latex
from reluctant.reports.exhibits import Cell, Provenance, Table
from reluctant.reports.latex_signs import GREEK, OPERATORS
from reluctant.reports.prose import pieces

_OF_PACKAGES: Final = frozenset("hbar varnothing implies iff triangleq coloneqq".split())
_SPECIAL: Final = {
    # A row may begin with what the end of the row before would take for its argument.
    "[": "{[}", "]": "{]}", "*": "{*}",
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "−": r"$-$", "±": r"$\pm$", "×": r"$\times$", "–": "--", "—": "---", "<": r"\textless{}",
    ">": r"\textgreater{}", "≥": r"$\ge$", "≤": r"$\le$", "→": r"$\to$", "\n": " ", "\r": " ",
    "\t": " ", "|": r"\textbar{}", "`": r"\textasciigrave{}",
    # Letters and signs that LaTeX itself has, without further packages.
    **{
        sign: rf"$\{name}$"
        for name, sign in {**GREEK, **OPERATORS}.items()
        if sign > "\x7f" and name not in _OF_PACKAGES
    },
}  # fmt: skip
_DASH: Final = "-{}"  # two hyphens in a row would become one dash
_PATTERN: Final = re.compile("|".join(["-(?=-)", *map(re.escape, _SPECIAL)]))


def escape(text: str) -> str:
    r"""Return text that LaTeX prints as it stands.

    >>> escape("my_net & co. 50%")
    'my\\_net \\& co. 50\\%'
    """
    return for_latex(_PATTERN.sub(lambda match: _SPECIAL.get(match.group(), _DASH), text))


def to_latex(table: Table, provenance: Provenance) -> str:
    """Return a table environment; its caption says from what records it was made."""
    align = "".join("r" if column.is_numeric else "l" for column in table.columns)
    lines = [" & ".join(_prose(column.title) for column in table.columns) + r" \\", r"\midrule"]
    for row in table.rows:
        if len(row) == 1:
            lines.append(
                rf"\multicolumn{{{len(table.columns)}}}{{l}}{{\emph{{{escape(row[0].text)}}}}} \\"
            )
            continue
        cells = zip(table.columns, row, strict=True)
        lines.append(" & ".join(_cell(cell) for _, cell in cells) + r" \\")
    star = "*" if table.width == "page" else ""
    caption = " ".join(filter(None, [_prose(table.caption), escape(provenance.mark)]))
    body = "\n    ".join(lines)
    return (
        f"% Needs \\usepackage{{booktabs}}.\n\\begin{{table{star}}}\n  \\centering\n"
        f"  \\caption{{{caption}}}\n  \\label{{tab:{table.name}}}\n"
        f"  \\begin{{tabular}}{{{align}}}\n    \\toprule\n    {body}\n    \\bottomrule\n"
        f"  \\end{{tabular}}\n\\end{{table{star}}}\n"
    )


def _cell(cell: Cell) -> str:
    return escape(cell.text)


def _prose(prose: str) -> str:
    return "".join(f"${p.text}$" if p.is_formula else escape(p.text) for p in pieces(prose))
