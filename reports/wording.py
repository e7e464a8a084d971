"""Numbers and times as one reads them."""

from __future__ import annotations

import math
import re


def scientific(value: float | None) -> str:
    """Return a small number as one reads it: ``0.31``, ``2.0 × 10⁻⁹``.

    >>> scientific(2e-9)
    '2.0 × 10⁻⁹'
    """
    if value is None:
        return ""
    if not math.isfinite(value) or value == 0 or 100 <= abs(value) < 1e4:
        return f"{value:.0f}"
    if 1e-2 <= abs(value) < 100:
        return f"{value:.2g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{power}"


def duration(seconds: float) -> str:
    """Return a time as one reads it."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 paper``, ``2 papers``."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"


def grouped(count: int) -> str:
    """Return a number with thin spaces between its thousands."""
    return f"{count:,}".replace(",", "\u202f")


def heading(title: str) -> str:
    """Return a title without the full stop that a sentence ends with."""
    return title.removesuffix(".")


def escaped(text: str) -> str:
    """Escape what Markdown would take for markup; an underscore inside a name is none."""
    found = re.sub(r"[\\`*~$]|(?<![^\W_])_|_(?![^\W_])|(?<=\])(?=\()", r"\\\g<0>", text)
    return found.replace("<", "&lt;")
