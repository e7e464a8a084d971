"""Feasibility on integers, cells and polyhedra: two routes, and certificates checked by hand."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_specimens import integer_weights, seeded
from numpy.typing import NDArray
from torch import nn

import reluctant as rl
from reluctant.models import make_conv, make_fc
from reluctant.theory.affine_forms import Row, value
from reluctant.theory.cells import Interval, Polygon, Polytope
from reluctant.theory.feasibility import certificate, interior
from reluctant.theory.polyhedra import TOLERANCE, Polyhedron

SMALL = st.integers(-3, 3)


@st.composite
def systems(draw: st.DrawFn, most: int = 7) -> list[Row]:
    n = draw(st.integers(1, 3))
    row = st.tuples(*[SMALL] * (n + 1))
    return draw(st.lists(row, min_size=1, max_size=most))


@settings(max_examples=300, deadline=None)
@given(rows=systems())
def test_a_point_or_a_certificate_and_never_both(rows: list[Row]) -> None:
    point, multipliers = interior(rows), certificate(rows)
    assert (point is None) != (multipliers is None)
    if point is not None:
        assert all(value(row, point) > 0 for row in rows)
    if multipliers is not None:
        assert all(m >= 0 for m in multipliers)
        assert any(multipliers)
        sums = [
            sum(m * row[k] for m, row in zip(multipliers, rows, strict=True))
            for k in range(len(rows[0]))
        ]
        assert not any(sums[:-1])
        assert sums[-1] <= 0


@settings(max_examples=60, deadline=None)
@given(rows=systems())
def test_linear_programmes_in_floats_agree(rows: list[Row]) -> None:
    whole = np.array(rows, dtype=float)
    found = Polyhedron.of(whole[:, :-1], whole[:, -1])
    constant = [row[-1] for row in rows if not any(row[:-1])]
    if 0 in constant:  # 0 > 0 is false, 0 >= 0 is true
        return
    assert found.is_empty == (interior(rows) is None)


def test_a_thin_wedge_is_found_where_floats_see_none() -> None:
    thin: list[Row] = [(1, 0), (-(10**30), 1)]  # 0 < x < 1e-30
    point = interior(thin)
    assert point is not None
    assert 0 < point[0] < Fraction(1, 10**30)
    whole = np.array(thin, dtype=float)
    assert Polyhedron.of(whole[:, :1], whole[:, 1]).is_empty


def sign_patterns(rows: list[Row], cell: NDArray[np.float64]) -> int:
    """Count, among all sign patterns, those whose polyhedron in a box holds a ball."""
    whole = np.array(rows, dtype=float).reshape(-1, cell.shape[1])
    count = 0
    for signs in itertools.product((1, -1), repeat=len(whole)):
        both = np.vstack([whole * np.array(signs)[:, None], cell])
        count += not Polyhedron.of(both[:, :-1], both[:, -1]).is_empty
    return count


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(SMALL, SMALL, SMALL), max_size=4))
def test_polygons_and_polytopes_are_cut_into_as_many_parts(rows: list[Row]) -> None:
    rows = [row for row in rows if any(row[:2])]
    one = Fraction(1)
    polygon = Polygon.box(-2 * one, 3 * one, -one, 2 * one)
    assert all(value(edge, polygon.point) > 0 for edge in polygon.edges)
    parts: list[Polygon] = [polygon]
    space = [Polytope(polygon.edges, polygon.point)]
    for row in rows:
        parts = [side for part in parts for side in part.cut(row) if side is not None]
        space = [side for part in space for side in part.cut(row) if side is not None]
    for part in parts:
        assert len(part.edges) == len(part.corners) >= 3
        vertices = part.vertices
        for k, edge in enumerate(part.edges):
            on = [value(edge, v) for v in vertices]
            assert min(on) == 0
            assert on[k] == on[k - 1] == 0
        assert all(value(edge, part.point) > 0 for edge in part.edges)
    areas = [abs(area(part)) for part in parts]
    assert sum(areas) == 15
    assert len(parts) == len(space) == sign_patterns(rows, np.array(polygon.edges, dtype=float))


def area(polygon: Polygon) -> Fraction:
    v = polygon.vertices
    return (
        sum((v[k - 1][0] * v[k][1] - v[k][0] * v[k - 1][1] for k in range(len(v))), Fraction(0)) / 2
    )


def test_intervals_are_cut_at_their_roots() -> None:
    whole = Interval(Fraction(0), Fraction(1))
    assert whole.cut((3, -1)) == (
        Interval(Fraction(1, 3), Fraction(1)),
        Interval(Fraction(0), Fraction(1, 3)),
    )
    assert whole.cut((-3, 1)) == tuple(reversed(whole.cut((3, -1))))
    assert whole.cut((1, 0)) == (whole, None)
    assert whole.cut((0, 0)) == whole.cut((1, -1)) == (None, whole)


def box(n: int, most: float = 1.0) -> Polyhedron:
    eye = np.eye(n)
    return Polyhedron.of(np.vstack([eye, -eye]), np.append(np.zeros(n), np.full(n, most)))


def test_balls_bounds_and_facets_of_known_polyhedra() -> None:
    cube = box(3, 2.0)
    center, radius = cube.chebyshev()
    assert np.allclose(center, 1.0, atol=TOLERANCE)
    assert abs(radius - 1.0) <= TOLERANCE
    assert cube.is_bounded
    quadrant = Polyhedron.of(np.eye(2), np.zeros(2))
    assert not quadrant.is_bounded
    assert quadrant.chebyshev()[1] == np.inf
    assert quadrant.contains(quadrant.chebyshev()[0][None], 1 - TOLERANCE).all()
    strip = Polyhedron.of(np.array([[1.0, 0], [-1, 0]]), np.array([0.0, 1]))
    assert not strip.is_bounded
    assert abs(strip.chebyshev()[1] - 0.5) <= TOLERANCE
    twice = Polyhedron.of(
        np.array([[1.0, 0], [2, 0], [0, 1], [-1, -1], [-1, 0], [0, 0]]),
        np.array([0.0, 0, 0, 1, 5, 1]),
    )
    assert twice.facets.tolist() == [0, 2, 3]
    assert len(twice.without_redundant().offsets) == 3
    nothing = Polyhedron.of(np.array([[1.0], [-1.0]]), np.array([0.0, -1.0]))
    assert nothing.is_empty
    assert nothing.interior_point() is None
    assert nothing.is_bounded
    for call in (nothing.chebyshev, nothing.without_redundant):
        with pytest.raises(rl.InputError, match="ask is_empty before"):
            call()
    assert Polyhedron.of(np.zeros((1, 2)), np.array([-1.0])).is_empty
    assert not Polyhedron.of(np.zeros((0, 2)), np.zeros(0)).is_empty


def test_odd_polyhedra_are_refused() -> None:
    with pytest.raises(rl.InputError, match=r"has normals \(m, n\) and offsets \(m,\)"):
        Polyhedron.of(np.ones(3), np.ones(3))
    with pytest.raises(rl.InputError, match="must be finite"):
        Polyhedron.of(np.full((1, 1), np.nan), np.ones(1))
    with pytest.raises(rl.InputError, match="a region is that of one input, got 2"):
        rl.polyhedron(make_fc(2, [2], generator=seeded()), torch.zeros(2, 2))


NETWORKS = {
    "dense": lambda: (make_fc(2, [5, 4], generator=seeded(), bias=True), (2,)),
    "pooled": lambda: (make_conv((1, 4), [2], generator=seeded(), pool="max", bias=True), (1, 4)),
    "leaky": lambda: (
        nn.Sequential(
            nn.Linear(3, 4), nn.LeakyReLU(0.1), nn.Linear(4, 2), nn.Hardtanh(), nn.Linear(2, 1)
        ),
        (3,),
    ),
    "pooled, padded": lambda: (
        nn.Sequential(
            nn.Conv1d(1, 2, 2), nn.MaxPool1d(2, 1, padding=1), nn.Flatten(), nn.Linear(8, 1)
        ),
        (1, 4),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_region_is_where_the_pattern_is_the_same(name: str) -> None:
    module, shape = NETWORKS[name]()
    module = module.double()
    x = torch.randn(6, *shape, generator=seeded(1)).double()
    drawn = torch.randn(400, *shape, generator=seeded(2)).double() * 1.5
    patterns = rl.activation_patterns(module, drawn)
    for k in range(len(x)):
        found = rl.polyhedron(module, x[k : k + 1])
        mine = rl.activation_patterns(module, x[k : k + 1])
        slack = found.slack(drawn.numpy()).min(axis=1)
        # a slack is a distance of order 1 from a sum of at most 30 products of order 1
        sure = np.abs(slack) > 1e-12
        same = np.array([key == mine.keys[0] for key in patterns.keys])
        assert np.array_equal((slack > 0)[sure], same[sure])
        inside = found.interior_point()
        assert inside is not None
        assert rl.activation_patterns(module, torch.from_numpy(inside)[None]).keys == mine.keys
        bounding = found.without_redundant()
        assert np.array_equal(bounding.contains(drawn.numpy()), found.contains(drawn.numpy()))
        assert set(bounding.names) <= set(found.names)


def test_a_facet_is_where_one_gate_turns() -> None:
    module = integer_weights(make_fc(2, [4, 3], generator=seeded(), bias=True), seeded(3)).double()
    x = torch.tensor([[0.3, 0.7]]).double()
    found = rl.polyhedron(module, x).without_redundant()
    for k in range(len(found.offsets)):
        # past one facet only: largest violation of it where the others hold
        others = np.delete(np.column_stack([found.normals, found.offsets]), k, axis=0)
        turned = np.append(-found.normals[k], -found.offsets[k])
        beyond = Polyhedron.of(
            np.vstack([others[:, :2], turned[:2]]), np.append(others[:, 2], turned[2])
        )
        if not beyond.is_empty:
            there = torch.from_numpy(beyond.chebyshev()[0])[None]
            keys = rl.activation_patterns(module, torch.cat([x, there])).keys
            assert keys[0] != keys[1]
