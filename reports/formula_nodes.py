"""The tree of a formula, from which the paper and the page are both printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal[
    "variable", "number", "operator", "large", "open", "close", "punctuation", "function"
]


@dataclass(frozen=True, slots=True)
class Symbol:
    """Be one letter, number, sign or function name."""

    text: str
    role: Role
    upright: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """Be plain text inside a formula."""

    text: str


@dataclass(frozen=True, slots=True)
class Space:
    """Be a space, in em."""

    em: float


@dataclass(frozen=True, slots=True)
class Row:
    """Be a sequence of nodes."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Scripts:
    """Be a node with what stands below and above it."""

    base: Node
    below: Node | None
    above: Node | None


@dataclass(frozen=True, slots=True)
class Fraction:
    """Be a fraction, or a binomial coefficient."""

    over: Node
    under: Node
    is_binomial: bool = False


@dataclass(frozen=True, slots=True)
class Root:
    """Be a square root, or another with an index."""

    body: Node
    index: Node | None = None


@dataclass(frozen=True, slots=True)
class Accent:
    """Be a node with a mark over or under it."""

    mark: str
    body: Node


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Be letters of another alphabet: ``bb``, ``cal``, ``bold``, ``upright`` or ``sans``."""

    name: str
    body: Node


@dataclass(frozen=True, slots=True)
class Fenced:
    """Be a node between delimiters that grow with it; an empty delimiter is not printed."""

    left: str
    body: Node
    right: str


@dataclass(frozen=True, slots=True)
class Grid:
    """Be the cells of ``matrix``, ``cases`` or ``aligned``."""

    name: str
    rows: tuple[tuple[Node, ...], ...]


Node: TypeAlias = (
    Symbol | Words | Space | Row | Scripts | Fraction | Root | Accent | Alphabet | Fenced | Grid
)
