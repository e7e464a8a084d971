"""What a proof is: steps, each a sentence and identities that SymPy must reduce to 0 = 0.

A :class:`Proof` only claims. :meth:`Proof.check` runs every step and returns a
:class:`Derivation`, the one thing that can be printed; it raises where anything is left over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sympy
from sympy.polys.rings import PolyElement

from reluctant.theory.errors import ReluctantError
from reluctant.theory.moments import MomentNotGiven
from reluctant.theory.verdicts import Evidence, EvidenceKind

Side = Any  # an element of a polynomial ring, or a SymPy expression: SymPy has no annotations
Reduction = Callable[[PolyElement], PolyElement]


class NotProved(ReluctantError, AssertionError):
    """Say which step of a proof does not follow, where, and what is left over.

    Attributes:
        step: Number of the step, from 1.
        remainder: What the difference of both sides reduces to; None if nothing was compared.
    """

    def __init__(self, message: str, *, step: int, remainder: Side = None) -> None:
        super().__init__(message)
        self.step = step
        self.remainder = remainder


def _unchanged(polynomial: PolyElement) -> PolyElement:
    return polynomial


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """Be two sides that must be equal for all values of their symbols.

    Attributes:
        left: One side: an element of a polynomial ring, or an expression.
        right: Other side, of the same kind.
        where: Shape of the network, in words; empty if it is for all shapes.
        label: LaTeX of what both sides are, such as ``f(x)``.
        reduce: Brings polynomials to their normal form modulo relations such as g² = g.
    """

    left: Side
    right: Side
    where: str = ""
    label: str = ""
    reduce: Reduction = _unchanged

    def remainder(self) -> Side:
        """Return the normal form of the difference; 0 if the identity holds."""
        if isinstance(self.left, PolyElement):
            return self.reduce(self.left - self.right)
        difference = sympy.expand(sympy.sympify(self.left) - sympy.sympify(self.right))
        return difference if difference == 0 else sympy.simplify(difference)

    def normal_form(self) -> Side:
        """Return what both sides reduce to; for expressions the right side as it is written."""
        return self.reduce(self.right) if isinstance(self.right, PolyElement) else self.right

    @property
    def is_vacuous(self) -> bool:
        """Tell whether both sides are literally 0, so that nothing is said."""
        return bool(self.left == 0 and self.right == 0)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Be one step of a proof.

    Attributes:
        text: A sentence; formulas between dollar signs.
        formula: LaTeX of what is claimed in general; may be empty.
        identities: Gives the identities that the step consists of; at least one must say something.
    """

    text: str
    formula: str
    identities: Callable[[], Iterable[Identity]]


@dataclass(frozen=True, slots=True, eq=False)
class CheckedStep:
    """Be a step all of whose identities were reduced to 0 = 0.

    Attributes:
        text: The sentence.
        formula: LaTeX of what was claimed.
        example: Identity with the shortest normal form, to be shown.
        count: Number of identities.
        terms: Number of terms of the longest normal form.
        shapes: Shapes on which it was checked, empty if it is for all shapes.
    """

    text: str
    formula: str
    example: Identity
    count: int
    terms: int
    shapes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """Be a claim of steps that follow; nothing is proved until :meth:`check` says so.

    Attributes:
        name: Identifier of the statement, or name of a lemma.
        title: One line; formulas between dollar signs.
        claim: LaTeX of what is proved.
        symbols: LaTeX of each symbol, and what it means.
        steps: The steps.
        conclusion: What follows, for which weights, inputs, gates and shapes.
        lemmas: Proofs that this one uses.
    """

    name: str
    title: str
    claim: str
    symbols: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    conclusion: str
    lemmas: tuple[Proof, ...] = ()

    def check(self) -> Derivation:
        """Reduce every identity of every step, those of the lemmas first.

        Raises:
            NotProved: If a difference is not identically 0, or a step compares nothing.

        Cost:
            Seconds of one processor; the products of polynomials dominate.
        """
        started = time.perf_counter()
        lemmas = tuple(lemma.check() for lemma in self.lemmas)
        steps = tuple(self._checked(k, step) for k, step in enumerate(self.steps, start=1))
        return Derivation(self, steps, lemmas, time.perf_counter() - started)

    def latex(self) -> str:
        """Check the proof and return it as LaTeX, without a preamble."""
        from reluctant.theory.proof_latex import body

        return body(self.check())

    def _identities(self, number: int, step: Step) -> Iterator[Identity]:
        try:
            yield from step.identities()
        except MomentNotGiven as error:
            raise NotProved(
                f"{self.name}, step {number}: {step.text} It cannot be averaged: {error}",
                step=number,
            ) from error

    def _checked(self, number: int, step: Step) -> CheckedStep:
        found: list[tuple[int, Identity]] = []
        shapes: dict[str, None] = {}
        for identity in self._identities(number, step):
            remainder = identity.remainder()
            if remainder != 0:
                where = f" ({identity.where})" if identity.where else ""
                raise NotProved(
                    f"{self.name}, step {number}{where}: {step.text} The difference of both sides "
                    f"is not 0 but {_short(remainder)}",
                    step=number,
                    remainder=remainder,
                )
            if not identity.is_vacuous:
                found.append((_terms(identity.normal_form()), identity))
                if identity.where:
                    shapes.setdefault(identity.where)
        if not found:
            raise NotProved(
                f"{self.name}, step {number}: {step.text} Nothing was compared but 0 with 0",
                step=number,
            )
        sizes = [size for size, _ in found]
        example = found[sizes.index(min(sizes))][1]
        return CheckedStep(step.text, step.formula, example, len(found), max(sizes), tuple(shapes))


@dataclass(frozen=True, slots=True, eq=False)
class Derivation:
    """Be a proof that was checked.

    Attributes:
        proof: The proof.
        steps: Its steps, with what was reduced.
        lemmas: Derivations of its lemmas.
        seconds: Time that it took.
    """

    proof: Proof
    steps: tuple[CheckedStep, ...]
    lemmas: tuple[Derivation, ...]
    seconds: float

    @property
    def count(self) -> int:
        """Return the number of identities, those of the lemmas too."""
        return sum(s.count for s in self.steps) + sum(lemma.count for lemma in self.lemmas)

    def evidence(self) -> Evidence:
        """Return what the proof amounts to."""
        return Evidence(
            EvidenceKind.SYMBOLIC,
            trials=self.count,
            residual=0.0,
            detail=f"{self.count} identities in {len(self.steps)} steps reduced to 0 = 0",
        )

    def latex(self) -> str:
        """Return the proof as LaTeX, without a preamble."""
        from reluctant.theory.proof_latex import body

        return body(self)

    def document(self) -> str:
        """Return the proof as a document that compiles with amsmath and amsthm only."""
        from reluctant.theory.proof_latex import document

        return document(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, strings and numbers; formulas are LaTeX."""
        from reluctant.theory.proof_latex import shown

        return {
            "name": self.proof.name,
            "title": self.proof.title,
            "claim": self.proof.claim,
            "symbols": [{"symbol": s, "meaning": m} for s, m in self.proof.symbols],
            "lemmas": [lemma.to_json() for lemma in self.lemmas],
            "steps": [
                {
                    "text": s.text,
                    "formula": s.formula,
                    "example": shown(s.example),
                    "where": s.example.where,
                    "identities": s.count,
                    "terms": s.terms,
                    "shapes": list(s.shapes),
                }
                for s in self.steps
            ],
            "conclusion": self.proof.conclusion,
            "evidence": str(EvidenceKind.SYMBOLIC),
            "seconds": round(self.seconds, 3),
        }


def _terms(side: Side) -> int:
    if isinstance(side, PolyElement):
        return len(side)
    return len(sympy.Add.make_args(sympy.sympify(side)))


def _short(side: Side) -> str:
    text = str(side)
    return text if len(text) <= 200 else f"{text[:200]}… ({_terms(side)} terms)"
