"""Gates over polynomial rings: named by their pre-activations, and the relations they obey."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sympy.polys.rings import PolyElement

from reluctant.theory.errors import InputError

Polynomials = Sequence[PolyElement]


class GateBook:
    r"""Name gates by the pre-activations that they are made from.

    :math:`1\{q > 0\}` and :math:`1\{q' > 0\}` get one symbol where q = c q' with c > 0, and so
    networks that compute their own gates can be compared without knowing any of them. A soft gate
    is any function of its q.

    Args:
        generators: Symbols to give out.
        positive: Generators that stand for positive numbers.
        hard: False for gates of which nothing is known but that equal q make equal gates.
        reduce: Normal form of pre-activations modulo relations among other generators.
    """

    def __init__(
        self,
        generators: Polynomials,
        positive: Polynomials = (),
        *,
        hard: bool = True,
        reduce: Callable[[PolyElement], PolyElement] | None = None,
    ) -> None:
        self._left = list(generators)
        self._given: dict[object, PolyElement] = {}
        self._idempotent = {g.ring.index(g) for g in generators} if hard else set()
        self._reduce = reduce
        self._positive = {c.ring.index(c) for c in positive}
        self._hard = hard

    def gates_of(self, pre_activations: Polynomials) -> list[PolyElement]:
        """Return the gate of each pre-activation; a hard gate of 0 is 0."""
        return [
            q.ring.zero if self._hard and not q else self._symbol(self._sign_of(q))
            for q in pre_activations
        ]

    def winners_of(self, entries: Polynomials, window: int) -> list[PolyElement]:
        """Return which entries are the largest of their windows, ties excluded or shared.

        Args:
            entries: Flattened (window, place) array.
            window: Size of its first axis.
        """
        places = len(entries) // window
        rivals = [frozenset(Counter(entries[k::places]).items()) for k in range(places)]
        return [self._symbol((q, rivals[k % places])) for k, q in enumerate(entries)]

    def _symbol(self, key: object) -> PolyElement:
        if key not in self._given:
            if not self._left:
                raise InputError("the gate book is full; reserve more symbols with free=")
            self._given[key] = self._left.pop(0)
        return self._given[key]

    def _sign_of(self, q: PolyElement) -> PolyElement:
        """Return q without its positive factors, where the gate is hard."""
        q = q if self._reduce is None else self._reduce(q)
        if not self._hard:
            return q
        q = reduced(q, idempotent=self._idempotent)
        least = [min(m[i] for m in q) if i in self._positive else 0 for i in range(q.ring.ngens)]
        terms = {tuple(e - b for e, b in zip(m, least, strict=True)): c for m, c in q.items()}
        size = sum(abs(c) for c in terms.values())
        return q.ring.from_dict({m: c / size for m, c in terms.items()})


def reduced(
    polynomial: PolyElement,
    *,
    idempotent: Collection[int] = (),
    inverses: Collection[tuple[int, int]] = (),
    squares: Mapping[int, int] | None = None,
) -> PolyElement:
    """Return the normal form of a polynomial modulo relations, each on generators of its own.

    Args:
        polynomial: What to rewrite.
        idempotent: Positions of the generators with g² = g.
        inverses: Pairs of positions with c · c⁻¹ = 1.
        squares: For positions with w² = z, the position of z.
    """
    total: dict[tuple[int, ...], Any] = {}
    for monomial, coefficient in polynomial.items():
        powers = list(monomial)
        for i in idempotent:
            powers[i] = min(powers[i], 1)
        for i, k in inverses:
            common = min(powers[i], powers[k])
            powers[i], powers[k] = powers[i] - common, powers[k] - common
        for i, z in (squares or {}).items():
            powers[z] += powers[i] // 2
            powers[i] %= 2
        key = tuple(powers)
        total[key] = total.get(key, 0) + coefficient
    return polynomial.ring.from_dict({m: c for m, c in total.items() if c})
