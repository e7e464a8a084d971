"""Convex cells of a line, a plane or a space, cut by hyperplanes with no rounding.

A cell is open and not empty, and has a ``point`` inside. ``cut`` gives the part where an affine function
is positive, and the rest: where it is negative, or the whole cell if it is 0 everywhere; None for a part
that is empty. Zeros of the function, where they are a hyperplane, are in neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from reluctant.theory.affine_forms import Row, value
from reluctant.theory.feasibility import interior

Point = tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """Be the numbers between two.

    Attributes:
        low: Lower end.
        high: Upper end.
    """

    low: Fraction
    high: Fraction

    @property
    def point(self) -> Point:
        """Return the middle."""
        return ((self.low + self.high) / 2,)

    def cut(self, row: Row) -> tuple[Interval | None, Interval | None]:
        """Return the part where an affine function is positive, and the rest."""
        slope, shift = row
        root = Fraction(-shift, slope) if slope else self.low
        if not self.low < root < self.high:
            return (self, None) if value(row, self.point) > 0 else (None, self)
        left, right = Interval(self.low, root), Interval(root, self.high)
        return (right, left) if slope > 0 else (left, right)


Corner = tuple[int, int, int]  # (x, y, w) for the point (x / w, y / w), w > 0


@dataclass(frozen=True, slots=True)
class Polygon:
    """Be the inside of a convex polygon.

    Attributes:
        edges: Lines, each an affine function that is positive inside, counterclockwise.
        corners: Where each of them meets the next.
    """

    edges: tuple[Row, ...]
    corners: tuple[Corner, ...]

    @classmethod
    def box(cls, left: Fraction, right: Fraction, bottom: Fraction, top: Fraction) -> Polygon:
        """Return an axis-parallel rectangle."""
        edges = (
            (0, bottom.denominator, -bottom.numerator),
            (-right.denominator, 0, right.numerator),
            (0, -top.denominator, top.numerator),
            (left.denominator, 0, -left.numerator),
        )
        corners = tuple(_meet(edges[k], edges[(k + 1) % 4]) for k in range(4))
        return cls(edges, corners)

    @property
    def vertices(self) -> tuple[Point, ...]:
        """Return the corners, counterclockwise."""
        return tuple((Fraction(x, w), Fraction(y, w)) for x, y, w in self.corners)

    @property
    def point(self) -> Point:
        """Return the mean of the corners."""
        found, count = self.vertices, len(self.corners)
        return sum((v[0] for v in found), Fraction(0)) / count, sum(
            (v[1] for v in found), Fraction(0)
        ) / count

    def cut(self, row: Row) -> tuple[Polygon | None, Polygon | None]:
        """Return the part where an affine function is positive, and the rest."""
        signs = [sum(a * c for a, c in zip(row, corner, strict=True)) for corner in self.corners]
        if min(signs) >= 0:
            return (self, None) if any(signs) else (None, self)
        if max(signs) <= 0:
            return None, self
        return self._part(row, signs), self._part(tuple(-a for a in row), [-s for s in signs])

    def _part(self, row: Row, signs: Sequence[int]) -> Polygon:
        """Return the part where a function is positive that has both signs at the corners."""
        edges: list[Row] = []
        corners: list[Corner] = []
        for k, edge in enumerate(self.edges):
            before, after = signs[k - 1], signs[k]  # at the ends of this edge
            if before <= 0 and after <= 0:
                continue
            edges.append(edge)
            if after >= 0:
                corners.append(self.corners[k])
            if after <= 0:  # here the boundary leaves along the cutting line
                if after < 0:
                    corners.append(_meet(edge, row))
                edges.append(row)
                corners.append(self._return(row, signs))
        return Polygon(tuple(edges), tuple(corners))

    def _return(self, row: Row, signs: Sequence[int]) -> Corner:
        """Return where the cutting line comes back to the boundary."""
        k = next(k for k, after in enumerate(signs) if signs[k - 1] <= 0 < after)
        return self.corners[k - 1] if signs[k - 1] == 0 else _meet(row, self.edges[k])


def _meet(one: Row, other: Row) -> Corner:
    """Return where two lines meet, the cross product of their coefficients."""
    (a, b, c), (d, e, f) = one, other
    x, y, w = b * f - c * e, c * d - a * f, a * e - b * d
    return (x, y, w) if w > 0 else (-x, -y, -w)


@dataclass(frozen=True, slots=True)
class Polytope:
    """Be the points at which some affine functions are positive; bounded or not.

    Attributes:
        rows: Functions.
        point: A point inside.
    """

    rows: tuple[Row, ...]
    point: Point

    @classmethod
    def space(cls, dimensions: int) -> Polytope:
        """Return the whole space."""
        return cls((), (Fraction(0),) * dimensions)

    def cut(self, row: Row) -> tuple[Polytope | None, Polytope | None]:
        """Return the part where an affine function is positive, and the rest."""
        here = value(row, self.point)
        opposite = tuple(-a for a in row)
        if not any(row[:-1]) or row in self.rows or opposite in self.rows:
            return (self, None) if here > 0 else (None, self)
        positive = self._part(row, here)
        if positive is None:
            return None, self
        rest = self._part(opposite, -here)
        return (self, None) if rest is None else (positive, rest)

    def _part(self, row: Row, here: Fraction) -> Polytope | None:
        rows = (*self.rows, row)
        point = self.point if here > 0 else interior(rows)
        return None if point is None else Polytope(rows, point)


C = TypeVar("C", Interval, Polygon, Polytope)
