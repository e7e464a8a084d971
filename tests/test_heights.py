"""Degree and length of what a network computes, against the polynomials themselves."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from test_symbolic import SHAPES

from reluctant.properties.proof_shapes import Shape, convolution, dense
from reluctant.theory.heights import Size, either, size_of_constants, sizes, total
from reluctant.theory.modular import Recording


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.words for shape in SHAPES])
def test_the_bounds_are_those_of_the_polynomials(shape: Shape) -> None:
    symbolic = shape.symbols()
    size = sizes(shape.net, None)[shape.net.output]
    outputs = symbolic.forward(symbolic.x[0], symbolic.gates[0])
    assert size.degree == max(sum(powers) for f in outputs for powers in f.monoms())
    # Both are logarithms of integers far below 2^40, which rounding recovers.
    denominator = 2**size.twos * round(2.0**size.odd)
    length = max(sum(abs(Fraction(str(c))) for c in f.coeffs()) for f in outputs) * denominator
    if "zero" in shape.words:  # entries from nowhere are counted
        assert length < round(2.0**size.length)
    else:
        assert length == round(2.0**size.length)


def test_weights_and_data_that_are_not_drawn_add_no_degree() -> None:
    net = convolution(1, (4,), (2,), (2,)).net
    drawn, fixed = sizes(net, None)[net.output], sizes(net, None, weights_drawn=False)[net.output]
    assert fixed.degree == len(net.gate_layers) > 0
    assert drawn.degree == fixed.degree + len(net.weighted) + 1
    assert drawn.length == fixed.length


def test_halves_and_thirds_meet_over_sixths() -> None:
    half, third = (
        size_of_constants(torch.tensor([1 / d, 0.0], dtype=torch.float64)) for d in (2, 3)
    )
    assert half == Size(0, 0.0, 1, 0.0)
    assert third == Size(0, 0.0, 0, math.log2(3))
    added, one = total([half, third]), either([half, third])
    assert (added.twos, added.odd) == (one.twos, one.odd) == (1, math.log2(3))
    assert round(2.0**added.length) == 3 + 2
    assert round(2.0**one.length) == 3
    assert half.times(third) == Size(0, 0.0, 1, math.log2(3))
    assert added.height == added.length + 1  # a difference is at most twice as long


def test_constants_share_a_denominator_and_gates_are_the_dyadic_numbers_they_are() -> None:
    mixed = torch.tensor([3 / 4, -5 / 6, 7.0], dtype=torch.float64)
    found = size_of_constants(mixed)
    assert (found.twos, found.odd) == (2, math.log2(3))
    assert found.length == math.log2(7 * 12)
    gates = size_of_constants(torch.tensor([0.0, 0.75, 0.5]), exact=False)
    assert (gates.twos, gates.odd) == (2, 0.0)
    assert 3 <= 2.0**gates.length <= 4  # numerators up to 3, bounded by a power of two
    assert size_of_constants(torch.tensor([0.0, -0.75, 0.5]), exact=False) == gates
    third = size_of_constants(torch.tensor([1 / 3], dtype=torch.float64), exact=False)
    assert third.twos == 54  # 1/3 rounded to float64 is an odd number over 2^54
    assert size_of_constants(torch.zeros(3), exact=False) == Size(0, 0.0, 0, 0.0)


def test_gates_add_a_degree_only_where_they_are_drawn() -> None:
    shape = dense(2, 3, 2, 1)
    x = torch.ones(1, *shape.net.input_shape, dtype=torch.float64)
    held, drawn = (
        Recording(shape.net, x, formal).sizes[shape.net.output] for formal in (False, True)
    )
    assert held.degree == len(shape.net.weighted) + 1
    assert drawn.degree == held.degree + len(shape.net.gate_layers)
