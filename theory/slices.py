"""A plane through the data, and the regions that it meets: polygons with exact corners."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from reluctant.theory.affine import require_stepped
from reluctant.theory.affine_forms import ExactNetwork, Forms, Row, along, primitive
from reluctant.theory.cells import Interval, Point, Polygon
from reluctant.theory.errors import InputError
from reluctant.theory.inputs import check_example
from reluctant.theory.network import PathNetwork
from reluctant.theory.patterns import Patterns
from reluctant.theory.recording import network_at
from reluctant.theory.regions import MOST_REGIONS, pattern_rows
from reluctant.theory.subdivision import Piece, Subdivision, require_limit


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """Be the part of one region in a plane.

    Attributes:
        corners: Corners of the polygon in the plane's coordinates, counterclockwise, exactly.
        map: Outputs there, exactly, as functions of the plane's coordinates.
    """

    corners: tuple[Point, ...]
    map: Forms

    @property
    def polygon(self) -> Float[NDArray[np.float64], "corners 2"]:
        """Return the corners, each rounded once."""
        return np.array([[float(t) for t in corner] for corner in self.corners])


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Be a piece of the boundary between two faces.

    Attributes:
        start: One end, exactly.
        end: Other end.
        layer: Name of the layer of gates that changes there.
    """

    start: Point
    end: Point
    layer: str


@dataclass(frozen=True, slots=True, eq=False)
class RegionSlice:
    """Be the regions that meet a rectangle of a plane.

    Attributes:
        faces: One polygon a region.
        patterns: Their activation patterns, one row a face.
        boundaries: Where gates change, each segment once.
    """

    faces: tuple[Face, ...]
    patterns: Patterns
    boundaries: tuple[Segment, ...]

    def __len__(self) -> int:
        return len(self.faces)


def region_slice(
    module: nn.Module | PathNetwork,
    origin: Tensor,
    right: Tensor,
    up: Tensor,
    *,
    extent: Sequence[float] = (-1.0, 1.0, -1.0, 1.0),
    limit: int = MOST_REGIONS,
) -> RegionSlice:
    r"""Return the regions that meet a rectangle of the plane origin + s · right + t · up.

    Every corner is where two lines meet, computed on integers; nothing is sampled.

    Args:
        module: Module, or a network traced at one input.
        origin: One input, shape \*input.
        right: First direction, of the same shape.
        up: Second direction.
        extent: Least and largest s, then least and largest t.
        limit: Number of regions that are accepted.

    Raises:
        InputError: If the directions do not span a plane, the rectangle is empty, there are more regions
            than the limit, or the network's gates cannot be read.

    Cost:
        One product of each layer's matrix with three columns of integers for each region.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
        >>> _ = net[0].weight.data.copy_(torch.eye(2))
        >>> found = region_slice(net, torch.zeros(2), torch.tensor([1.0, 0]), torch.tensor([0, 1.0]))
        >>> len(found), len(found.boundaries), found.boundaries[0].layer
        (4, 4, 'relu')
    """
    require_limit(limit)
    check_example(origin, "origin")
    net = network_at(module, origin[None])
    require_stepped(net)
    plane = along(origin, _like(right, origin), _like(up, origin))
    _require_plane(plane)
    edges = [float(e) for e in extent]
    if (
        len(edges) != 4
        or not all(map(math.isfinite, edges))
        or not (edges[0] < edges[1] and edges[2] < edges[3])
    ):
        raise InputError(
            f"extent is (left, right, bottom, top), finite and each pair rising; got {extent}"
        )
    division = Subdivision(ExactNetwork(net), plane, limit)
    box = Polygon.box(*map(Fraction, edges))
    pieces = division.pieces(box)
    faces = tuple(Face(p.cell.vertices, p.output) for p in pieces)
    boundaries = _boundaries(pieces, {_line(e) for e in box.edges}, division)
    return RegionSlice(faces, pattern_rows(net, pieces), boundaries)


def segment_pieces(
    exact: ExactNetwork, start: Tensor, end: Tensor, limit: int
) -> list[Piece[Interval]]:
    r"""Return the affine pieces of a network on the segment from one input to another, in order.

    Args:
        exact: Network, with its matrices as integers.
        start: Input at t = 0, shape \*input.
        end: Input at t = 1.
        limit: Number of pieces that are accepted.
    """
    division = Subdivision(exact, along(start, end - start), limit)
    found = division.pieces(Interval(Fraction(0), Fraction(1)))
    return sorted(found, key=lambda piece: piece.cell.low)


def _like(direction: Tensor, origin: Tensor) -> Tensor:
    check_example(direction, "a direction")
    if direction.shape != origin.shape:
        raise InputError(
            f"directions have the shape of the origin, {tuple(origin.shape)}; got {tuple(direction.shape)}"
        )
    return direction


def _require_plane(plane: Forms) -> None:
    rows = [row[:2] for row in plane.numerators.tolist() if any(row[:2])]
    if not rows or all(rows[0][0] * b == rows[0][1] * a for a, b in rows):
        raise InputError("right and up lie on one line; take two directions that span a plane")


def _line(row: Row) -> Row:
    """Return the line of an affine function, in a form that is equal for equal lines."""
    first = next(a for a in row if a)
    return primitive(row) if first > 0 else primitive(-a for a in row)


def _boundaries(
    pieces: list[Piece[Polygon]], box: set[Row], division: Subdivision
) -> tuple[Segment, ...]:
    """Return the edges of all polygons but those of the box, cut at the corners of all, each once."""
    # where an edge is cut at a corner, polygons across it have that corner on the same line
    on: dict[Row, set[Point]] = {}
    for p in pieces:
        vertices = p.cell.vertices
        for k, edge in enumerate(p.cell.edges):
            on.setdefault(_line(edge), set()).update((vertices[k - 1], vertices[k]))
    ordered = {line: sorted(held) for line, held in on.items()}
    names = {_line(row): name for row, name in division.made.items() if any(row[:2])}
    found: dict[tuple[Point, Point], str] = {}
    for p in pieces:
        vertices = p.cell.vertices
        for k, edge in enumerate(p.cell.edges):
            line = _line(edge)
            if line in box:
                continue
            low, high = sorted((vertices[k - 1], vertices[k]))
            stops = ordered[line]
            for pair in pairwise(stops[bisect_left(stops, low) : bisect_right(stops, high)]):
                found[pair] = names[line]
    return tuple(Segment(*pair, name) for pair, name in found.items())
