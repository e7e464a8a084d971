"""Characters of names that neither the paper's fonts nor LaTeX can set, written by their number.

A name that comes from a user may hold any of them, and one would be enough to lose the paper.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

#: Latin, Greek, Cyrillic, punctuation, signs of mathematics: all in the fonts inside Typst.
_PAPER: Final = (
    "\t\n\r\u0020-\u007e\u00a0-\u00ac\u00ae-\u02ff\u0384-\u038a\u038e-\u03a1\u03a3-\u0482"
    "\u048a-\u04ff\u1e00-\u1eff\u2000-\u200b\u2010-\u2027\u202f-\u2040\u2044-\u2052\u2070\u2071"
    "\u2074-\u208e\u20a0-\u20bf\u2100-\u211e\u2126-\u2151\u2153-\u2184\u2190-\u23ff\u2460-\u2606"
    "\u27c0-\u2aff"
)
#: What pdfLaTeX reads in its oldest font encoding: Latin letters, quotation marks, the euro.
_LATEX: Final = (
    "\u0020-\u007e\u00a0-\u00aa\u00ac-\u00ba\u00bc-\u00cf\u00d1-\u00dd\u00df-\u00ef\u00f1-\u00fd"
    "\u00ff-\u0103\u0106-\u010f\u0112-\u0117\u011a-\u0125\u0128-\u012d\u0130-\u0137\u0139-\u013e"
    "\u0141-\u0148\u014c-\u0165\u0168-\u0171\u0174-\u017e\u2013\u2014\u2018-\u2019\u201c-\u201d"
    "\u2026\u20ac"
)
_FORMULAS: Final = frozenset(("math", "clauses"))
_NAMES: Final = frozenset(("file", "id", "key", "name"))  # what others refer to
_LONG: Final = re.compile(r"\S{51,}")  # a column takes some fifty letters of code
_NOT_IN_PAPER: Final = re.compile(f"[^{_PAPER}]")
_NOT_IN_LATEX: Final = re.compile(f"[^{_LATEX}]")


def for_paper(value: Any, key: str = "") -> Any:
    """Return what the paper's template prints with every string in it fit to be set.

    A word too long for a line may break. Formulas are this project's own and stay as they are.

    Args:
        value: Plain JSON.
        key: Under which it stands.

    >>> for_paper({"model": "网 of σ", "math": "…"})
    {'model': '(U+7F51) of σ', 'math': '…'}
    """
    if isinstance(value, str):
        text = _numbered(value, _NOT_IN_PAPER)
        return text if key in _NAMES else _LONG.sub(_breakable, text)
    if isinstance(value, dict):
        return {k: v if k in _FORMULAS else for_paper(v, k) for k, v in value.items()}
    return [for_paper(entry, key) for entry in value] if isinstance(value, list) else value


def for_latex(text: str) -> str:
    """Return text that pdfLaTeX reads, with its special characters as they were.

    >>> for_latex("naïve 🦄")
    'naïve (U+1F984)'
    """
    return _numbered(text, _NOT_IN_LATEX)


def _breakable(word: re.Match[str]) -> str:
    return "\u200b".join(re.findall(".{1,25}", word.group()))


def _numbered(text: str, unknown: re.Pattern[str]) -> str:
    whole = unicodedata.normalize("NFC", text)
    return unknown.sub(lambda match: f"(U+{ord(match.group()):04X})", whole)
