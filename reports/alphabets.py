"""Letters of the mathematical alphabets of Unicode, which MathML Core has no markup for."""

from __future__ import annotations

from typing import Final

from reluctant.reports.formula_nodes import Node, Row, Symbol

# First letters (A, a) and digits of the mathematical alphabets, and where Unicode has a hole.
_PLANES: Final = {
    "bb": (0x1D538, 0x1D552, 0x1D7D8),
    "cal": (0x1D49C, 0x1D4B6, 0),
    "bold": (0x1D400, 0x1D41A, 0x1D7CE),
    "sans": (0x1D5A0, 0x1D5BA, 0x1D7E2),
    "frak": (0x1D504, 0x1D51E, 0),
}
_HOLES: Final = {
    "bb": dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True)),
    "cal": dict(zip("BEFHILMRego", "ℬℰℱℋℐℒℳℛℯℊℴ", strict=True)),
    "frak": dict(zip("CHIRZ", "ℭℌℑℜℨ", strict=True)),
}
_BOLD_GREEK: Final = {"Α": 0x1D6A8, "α": 0x1D6C2}


def lettered(node: Node, alphabet: str) -> Node:
    """Replace the letters of a formula by those of a mathematical alphabet.

    Args:
        node: What the alphabet is applied to: a symbol, or a row of symbols; else it stays.
        alphabet: ``bb``, ``cal``, ``bold``, ``sans``, ``frak``, ``upright`` or ``italic``.
    """
    if isinstance(node, Row):
        if alphabet == "upright" and all(isinstance(i, Symbol) for i in node.items):
            return Symbol("".join(i.text for i in node.items if isinstance(i, Symbol)),
                          "variable", upright=True)  # fmt: skip
        return Row(tuple(lettered(item, alphabet) for item in node.items))
    if not isinstance(node, Symbol):
        return node
    if alphabet in ("upright", "italic"):
        return Symbol(node.text, node.role, upright=alphabet == "upright")
    return Symbol("".join(_letter(c, alphabet) for c in node.text), node.role, upright=True)


def _letter(letter: str, alphabet: str) -> str:
    hole = _HOLES.get(alphabet, {}).get(letter)
    if hole is not None:
        return hole
    upper, lower, digit = _PLANES[alphabet]
    if "A" <= letter <= "Z":
        return chr(upper + ord(letter) - ord("A"))
    if "a" <= letter <= "z":
        return chr(lower + ord(letter) - ord("a"))
    if digit and letter.isdigit():
        return chr(digit + int(letter))
    if alphabet == "bold" and "Α" <= letter <= "ω":
        first = "Α" if letter <= "Ω" else "α"
        return chr(_BOLD_GREEK[first] + ord(letter) - ord(first))
    return letter
