r"""Formulas: the part of LaTeX that this project writes, read into a tree.

One parser, so that the paper (Typst) and the page (MathML) cannot read a formula differently.
Everything outside :mod:`reluctant.reports.latex_signs` is refused with its name and place: a
formula is never printed half understood.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
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
from reluctant.reports.latex_signs import (
    ACCENTS,
    ALPHABETS,
    BARS,
    CLOSING,
    DELIMITERS,
    FUNCTIONS,
    GREEK,
    GRIDS,
    IGNORED,
    LARGE,
    OPENING,
    OPERATORS,
    RAISED,
    SCRIPTS,
    SIGNS,
    SPACES,
    WORDS,
)
from reluctant.theory.errors import InputError

_TOKEN: Final = re.compile(r"\\(?:[A-Za-z]+\*?|.)|[0-9]+(?:\.[0-9]+)?|\s+|.", re.DOTALL)


def parse(source: str) -> Row:
    r"""Read a formula.

    Args:
        source: LaTeX without dollar signs, such as ``H = \Sigma \odot \Lambda``.

    Raises:
        InputError: If a command is not known or a bracket does not close; says which and where.
    """
    return _Parser(source).formula()


def clauses(row: Row) -> tuple[Row, ...]:
    r"""Split a formula at its wide spaces (``\quad``): between them a line may break."""
    found: list[list[Node]] = [[]]
    for item in row.items:
        if isinstance(item, Space) and item.em >= 1:
            found.append([])
        else:
            found[-1].append(item)
    return tuple(Row(tuple(items)) for items in found if items)


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = [(m.group(), m.start()) for m in _TOKEN.finditer(source)]
        self.at = 0

    def formula(self) -> Row:
        row = self.row(frozenset())
        if self.at < len(self.tokens):
            raise self.error(f"{self.peek()!r} closes nothing")
        return row

    def error(self, what: str) -> InputError:
        column = self.tokens[self.at][1] if self.at < len(self.tokens) else len(self.source)
        return InputError(
            f"the formula {self.source!r} cannot be set: {what} (column {column + 1}); "
            "rewrite it, or add the command to reluctant.reports.latex_signs"
        )

    def peek(self) -> str:
        while self.at < len(self.tokens) and self.tokens[self.at][0].isspace():
            self.at += 1
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise self.error(f"{expected or 'more'!r} is expected")
        self.at += 1
        return token

    def row(self, stops: frozenset[str]) -> Row:
        items: list[Node] = []
        bars: set[str] = set()
        while (token := self.peek()) and token not in stops and token != "}":
            if token in (r"\right", r"\end"):
                break
            if token in ("^", "_", "'") or token in RAISED:
                base: Node = items.pop() if items else Row(())
                items.append(self.scripts(base))
                continue
            node = self.atom()
            if isinstance(node, Symbol) and node.text in BARS and node.role == "operator":
                node = Symbol(node.text, "close" if node.text in bars else "open")
                bars ^= {node.text}
            if node is not None:
                items.append(node)
        if bars:
            raise self.error(f"{min(bars)} does not close; write \\mid for a single bar")
        return Row(tuple(items))

    def scripts(self, base: Node) -> Scripts:
        below: Node | None = None
        above: Node | None = None
        primes = 0
        while (token := self.peek()) in ("^", "_", "'") or token in RAISED:
            self.take()
            if token == "'":
                primes += 1
            elif token in RAISED:
                above = Symbol(RAISED[token], "number")
            elif token == "_":
                if below is not None:
                    raise self.error("a second subscript")
                below = _worded(self.argument())
            else:
                if above is not None:
                    raise self.error("a second superscript")
                above = _worded(self.argument())
        if primes:
            prime = Symbol("′" * primes, "operator")
            above = prime if above is None else Row((prime, above))
        return Scripts(base, below, above)

    def argument(self) -> Node:
        if self.peek() == "{":
            self.take()
            row = self.row(frozenset())
            self.take("}")
            return row.items[0] if len(row.items) == 1 else row
        token = self.peek()
        if len(token) > 1 and token[0].isdigit():  # TeX takes one digit: x^10 is x¹ followed by 0
            raise self.error("put braces around a number of several digits")
        node = self.atom()
        if node is None:
            raise self.error("an argument is expected")
        return node

    def words(self) -> str:
        """Take a group in braces as text."""
        self.take("{")
        start, level = self.at, 1
        while level:
            if self.at >= len(self.tokens):
                raise self.error("a brace does not close")
            token = self.tokens[self.at][0]
            level += (token == "{") - (token == "}")
            self.at += 1
        text = "".join(token for token, _ in self.tokens[start : self.at - 1])
        if re.search(r"[\\${}]", text):
            raise self.error(f"text with markup: {text!r}")
        return text

    def atom(self) -> Node | None:
        token = self.take()
        if token == "{":
            self.at -= 1
            return self.argument()
        if token.startswith("\\"):
            return self.command(token[1:])
        if token[0].isdigit():
            return Symbol(token, "number")
        return _sign(token) or self.refuse(token)

    def refuse(self, token: str) -> Node:
        self.at -= 1
        raise self.error(f"{token!r} is not known")

    def command(self, name: str) -> Node | None:
        if name in GREEK:
            return Symbol(GREEK[name], "variable", upright=name[0].isupper() or name == "top")
        if name in OPERATORS:
            return Symbol(OPERATORS[name], "operator")
        if name in LARGE:
            return Symbol(LARGE[name], "large")
        if name in FUNCTIONS:
            return Symbol(name, "function")
        if name in DELIMITERS:
            return _delimiter(DELIMITERS[name], name)
        if name in SPACES:
            return Space(SPACES[name])
        if name in IGNORED:
            return None
        if name in ("%", "#", "&", "_", "$"):
            return Symbol(name, "variable", upright=True)
        if name in ACCENTS:
            return Accent(ACCENTS[name], self.argument())
        if name in ALPHABETS:
            return Alphabet(ALPHABETS[name], self.argument())
        if name in WORDS:
            return Words(self.words())
        builder: Callable[[], Node] | None = {
            "operatorname": lambda: Symbol(self.words(), "function"),
            "operatorname*": lambda: Symbol(self.words(), "function"),
            "frac": self.fraction,
            "tfrac": self.fraction,
            "dfrac": self.fraction,
            "binom": lambda: Fraction(self.argument(), self.argument(), is_binomial=True),
            "sqrt": self.root,
            "left": self.fenced,
            "begin": self.grid,
        }.get(name)
        if builder is None:
            return self.refuse(f"\\{name}")
        return builder()

    def fraction(self) -> Node:
        return Fraction(self.argument(), self.argument())

    def root(self) -> Node:
        index: Node | None = None
        if self.peek() == "[":
            self.take()
            index = self.row(frozenset("]"))
            self.take("]")
        return Root(self.argument(), index)

    def fenced(self) -> Node:
        left = self.delimiter()
        body = self.row(frozenset())
        self.take(r"\right")
        return Fenced(left, body, self.delimiter())

    def delimiter(self) -> str:
        token = self.take()
        if token == ".":
            return ""
        text = DELIMITERS.get(token[1:], "") if token.startswith("\\") else token
        if text not in OPENING | CLOSING | {"|", "‖", "/"}:
            self.refuse(token)
        return text

    def grid(self) -> Node:
        name = self.words()
        if name not in GRIDS:
            raise self.error(f"the environment {name!r} is not known")
        rows: list[tuple[Node, ...]] = []
        cells: list[Node] = []
        while True:
            cells.append(self.row(frozenset(("&", r"\\"))))
            token = self.take()
            if token == "&":
                continue
            rows.append(tuple(cells))
            cells = []
            if token == r"\end":
                break
            if token != r"\\":
                self.refuse(token)
        if self.words() != name:
            raise self.error(f"{name} is closed by another name")
        return Grid(name, tuple(row for row in rows if row != (Row(()),)))


def _worded(script: Node) -> Node:
    """Read the letters of a script as a word where they are one: n_{in} is not i times n."""
    if isinstance(script, Row) and all(isinstance(i, Symbol) for i in script.items):
        text = "".join(i.text for i in script.items if isinstance(i, Symbol))
        if text in SCRIPTS:
            return Words(text)
    return script


def _delimiter(text: str, name: str = "") -> Symbol:
    """Return a bracket; a bar is an operator until its row knows which side of a pair it is."""
    if text in OPENING or name in ("lvert", "lVert"):
        return Symbol(text, "open")
    if text in CLOSING or name in ("rvert", "rVert"):
        return Symbol(text, "close")
    return Symbol(text, "operator")


def _sign(token: str) -> Symbol | Space | None:
    if token in SIGNS:
        return Symbol(SIGNS[token], "operator")
    if token in OPENING | CLOSING:
        return _delimiter(token)
    if token in BARS:
        return _delimiter(token)
    if token in ",;":
        return Symbol(token, "punctuation")
    if token in ".!?%…":
        return Symbol(token, "variable", upright=True)
    if token == "~":
        return Space(SPACES["~"])
    if token in "∑∏∫":
        return Symbol(token, "large")
    category = unicodedata.category(token)
    if category in ("Ll", "Lu", "Lo"):
        greek_capital = "Α" <= token <= "Ω"
        return Symbol(token, "variable", upright=greek_capital)
    if category == "Sm" or token in "·∘′⟂":
        return Symbol({"·": "⋅"}.get(token, token), "operator")
    return None
