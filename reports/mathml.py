"""Print the tree of a formula as MathML Core, which browsers set without scripts."""

from __future__ import annotations

from html import escape
from typing import Final

from reluctant.reports.alphabets import lettered
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
    "hat": "^", "tilde": "~", "bar": "¯", "line": "‾", "vec": "→", "dot": "˙", "ddot": "¨",
    "underline": "_",
}  # fmt: skip
_FENCES: Final = {
    "matrix": ("", ""), "pmatrix": ("(", ")"), "bmatrix": ("[", "]"), "vmatrix": ("|", "|"),
    "cases": ("{", ""),
}  # fmt: skip


def to_mathml(latex: str, *, is_block: bool = False) -> str:
    r"""Return a ``math`` element for a formula in LaTeX; its source is the alternative text.

    >>> to_mathml("x")
    '<math alttext="x"><mi>x</mi></math>'

    Raises:
        InputError: If the formula uses what this project's part of LaTeX does not have.
    """
    block = ' display="block"' if is_block else ""
    return f'<math{block} alttext="{escape(latex)}">{_print(parse(latex), is_block)}</math>'


def clauses_as_mathml(latex: str) -> list[str]:
    """Return a displayed formula as one ``math`` element for each part that may have its line."""
    parts = [_print(clause, True) for clause in clauses(parse(latex))]
    return [
        f'<math display="block" alttext="{escape(latex)}">{part}</math>'
        if len(parts) == 1
        else f'<math display="block">{part}</math>'
        for part in parts
    ]


def _print(node: Node, block: bool) -> str:
    match node:
        case Row(items) if len(items) == 1:
            return _print(items[0], block)
        case Row(items):
            return f"<mrow>{_items(items, block)}</mrow>"
        case Symbol():
            return _symbol(node)
        case Words(text):
            return f"<mtext>{_wide(text)}</mtext>"
        case Space(em):
            return f'<mspace width="{em:.4f}em"/>'
        case Scripts():
            return _scripts(node, block)
        case Fraction(over, under, False):
            return f"<mfrac>{_print(over, False)}{_print(under, False)}</mfrac>"
        case Fraction(over, under, _):
            inner = f'<mfrac linethickness="0">{_print(over, False)}{_print(under, False)}</mfrac>'
            return f"<mrow><mo>(</mo>{inner}<mo>)</mo></mrow>"
        case Root(body, None):
            return f"<msqrt>{_print(body, False)}</msqrt>"
        case Root(body, index) if index is not None:
            return f"<mroot>{_print(body, False)}{_print(index, False)}</mroot>"
        case Accent(mark, body):
            tag = "munder" if mark == "underline" else "mover"
            which = "accentunder" if mark == "underline" else "accent"
            stretch = "true" if mark in ("line", "underline") else "false"
            sign = f'<mo stretchy="{stretch}">{_ACCENTS[mark]}</mo>'
            return f'<{tag} {which}="true">{_print(body, False)}{sign}</{tag}>'
        case Alphabet(name, body):
            return _print(lettered(body, name), block)
        case Fenced(left, body, right):
            fences = [
                f'<mo fence="true" form="{form}" stretchy="true">{escape(sign)}</mo>'
                for sign, form in ((left, "prefix"), (right, "postfix"))
            ]
            return f"<mrow>{fences[0]}{_print(body, False)}{fences[1]}</mrow>"
        case Grid():
            return _grid(node)
        case _:
            raise TypeError(f"no such node: {node!r}")


def _symbol(symbol: Symbol) -> str:
    text = escape(symbol.text)
    match symbol.role:
        case "variable":
            upright = symbol.upright and len(symbol.text) == 1
            return f'<mi mathvariant="normal">{text}</mi>' if upright else f"<mi>{text}</mi>"
        case "number":
            return f"<mn>{text}</mn>"
        case "function":
            return f"<mi>{_wide(symbol.text)}</mi>"
        case "open" | "close":
            form = "prefix" if symbol.role == "open" else "postfix"
            return f'<mo form="{form}" stretchy="false">{text}</mo>'
        case "punctuation":
            return f'<mo separator="true">{text}</mo>'
        case "large":
            return f"<mo>{text}</mo>"
        case _:
            tight = ' lspace="0" rspace="0"' if symbol.text in "/′″" else ""
            return f'<mo stretchy="false"{tight}>{text}</mo>'


def _items(items: tuple[Node, ...], block: bool) -> str:
    """Print a sequence, with a thin space after a function's name unless a bracket follows."""
    parts = []
    for index, item in enumerate(items):
        following = items[index + 1] if index + 1 < len(items) else None
        parts.append(_print(item, block))
        inner = item.base if isinstance(item, Scripts) else item
        is_name = isinstance(inner, Symbol) and inner.role == "function"
        bare = (isinstance(following, Symbol) and following.role in ("variable", "number")) or (
            isinstance(following, Scripts | Fraction | Root | Accent | Alphabet)
        )
        if is_name and bare:
            parts.append('<mspace width="0.1667em"/>')
    return "".join(parts)


def _scripts(node: Scripts, block: bool) -> str:
    node, prime = _without_prime(node)
    if prime is not None:
        raised = Row((node.base, prime))
        if node.below is None and node.above is None:
            return _print(raised, block)
        node = Scripts(raised, node.below, node.above)
    base, role = node.base, getattr(node.base, "role", "")
    has_limits = block and isinstance(base, Symbol) and base.text != "∫" and (
        role == "large" or (role == "function" and base.text in LIMITS)
    )  # fmt: skip
    tags = ("munder", "mover", "munderover") if has_limits else ("msub", "msup", "msubsup")
    parts = [node.below, node.above]
    tag = tags[2] if None not in parts else tags[parts.index(None) ^ 1]
    body = "".join(_print(part, False) for part in parts if part is not None)
    inner = _print(base, block)
    return f"<{tag}>{inner if inner != '<mrow></mrow>' else '<mrow/>'}{body}</{tag}>"


def _without_prime(node: Scripts) -> tuple[Scripts, Symbol | None]:
    """Take a prime out of the superscript: the sign of a maths font stands high by itself."""
    match node.above:
        case Symbol(text) as prime if text.startswith("′"):
            return Scripts(node.base, node.below, None), prime
        case Row((Symbol(text) as prime, *rest)) if text.startswith("′"):
            return Scripts(node.base, node.below, Row(tuple(rest))), prime
    return node, None


def _grid(grid: Grid) -> str:
    rows = "".join(
        "<mtr>" + "".join(f"<mtd>{_print(cell, False)}</mtd>" for cell in row) + "</mtr>"
        for row in grid.rows
    )
    kind = ' class="left"' if grid.name in ("cases", "aligned") else ""
    table = f"<mtable{kind}>{rows}</mtable>"
    left, right = _FENCES.get(grid.name, ("", ""))
    return f"<mrow>{_fence(left, 'prefix')}{table}{_fence(right, 'postfix')}</mrow>"


def _fence(sign: str, form: str) -> str:
    return f'<mo fence="true" form="{form}" stretchy="true">{sign}</mo>' if sign else ""


def _wide(text: str) -> str:
    """Keep the spaces at the ends of a text, which MathML would drop."""
    return escape(text).replace(" ", "\u00a0")
