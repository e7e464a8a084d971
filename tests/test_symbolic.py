"""The ring over which proofs are carried out: against the numbers, and against its own faults."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any

import pytest
import torch
from sympy import QQ
from sympy.polys.rings import PolyElement, ring
from torch import Tensor

from reluctant.properties.proof_shapes import (
    Shape,
    convolution,
    dense,
    gated,
    gated_convolution,
    parallel,
    residual,
    rotated,
    shifts,
    tied,
)
from reluctant.properties.proofs_law import expected_tangent, law_of
from reluctant.theory.errors import InputError, UnsupportedOperation
from reluctant.theory.gate_book import GateBook, reduced
from reluctant.theory.kernels import npk, ntk_law
from reluctant.theory.moments import MomentNotGiven, bundles, coefficient_kernel, mean
from reluctant.theory.paths import paths
from reluctant.theory.symbolic import SymbolicNetwork
from reluctant.theory.symmetry import rotate
from reluctant.theory.wiring import gate_shapes, rational

# Their routing constants are powers of two, so that float64 computes them without rounding.
SHAPES = (
    dense(2, 3, 2, 1),
    dense(2, 2, 2, bias=True),
    convolution(1, (4,), (2,), (2,)),
    convolution(2, (4,), (2,), bias=True, padding="zero"),
    convolution(1, (2, 2), (2,), pool="max"),
    convolution(1, (3,), (2,), pool="flatten"),
    residual(2, 2, 2, 1),
    residual(1, 2, 1, 2, scales=(2.0, 3.0)),
    gated(2, 2, 2, 1, bias=True),
    gated(2, 2, 2, 1, features="linear", ones=True),
    gated_convolution(1, (4,), (2,)),
    parallel(),
)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=[shape.words for shape in SHAPES])


class Numbers:
    """Hold small integers for all symbols: as tensors, and by generator."""

    def __init__(self, symbolic: SymbolicNetwork) -> None:
        net, generator = symbolic.net, torch.Generator().manual_seed(7)

        def draw(*shape: int) -> Tensor:
            return torch.randint(-3, 4, shape, generator=generator).double()

        self.weights = [draw(*w.shape) for w in net.weights]
        self.x = draw(2, *net.input_shape)
        live = gate_shapes(net)
        self.gates = [
            draw(2, *live[k]) if k in live else torch.ones(1) for k in range(len(net.gate_layers))
        ]
        self.of: dict[PolyElement, int] = {}
        for weight, tensor in zip(net.weights, self.weights, strict=True):
            entries = [
                symbolic.weight[weight.name, k] for k in weight.entries.listed().flatten().tolist()
            ]
            self._add(entries, tensor)
        for s, (x, gates) in enumerate(zip(symbolic.x, symbolic.gates, strict=True)):
            self._add(x, self.x[s])
            for layer, entries in gates.items():
                self._add(entries, self.gates[layer][s])

    def _add(self, generators: Iterable[PolyElement], tensor: Tensor) -> None:
        self.of |= dict(zip(generators, map(int, tensor.flatten().tolist()), strict=True))


def constant(polynomial: PolyElement, values: dict[PolyElement, int]) -> Fraction:
    """Evaluate a polynomial in some of its generators, the others absent."""
    found = polynomial.compose(list(values.items()))
    assert found.is_ground
    return Fraction(str(found.coeff(1)))


@each_shape
def test_the_ring_s_outputs_are_the_network_s(shape: Shape) -> None:
    symbolic = shape.symbols()
    numbers = Numbers(symbolic)
    output = shape.net.forward(numbers.x, numbers.gates, numbers.weights).flatten(1)
    for s in range(2):
        ours = symbolic.forward(symbolic.x[s], symbolic.gates[s])
        assert [float(constant(f, numbers.of)) for f in ours] == output[s].tolist()


@each_shape
def test_the_gates_that_a_network_makes_are_those_that_it_goes_through(shape: Shape) -> None:
    symbolic = shape.symbols(examples=1, free=24)
    book, (x,) = GateBook(symbolic.free), symbolic.x
    made = symbolic.own_gates(x, book)
    assert symbolic.forward(x, book) == symbolic.forward(x, made)


@each_shape
def test_the_ring_s_kernels_are_the_propagated_ones(shape: Shape) -> None:
    symbolic = shape.symbols()
    numbers = Numbers(symbolic)
    gates = (numbers.gates, numbers.gates)
    h = npk(shape.net, numbers.x, gates=gates, output=0)[0, 1]
    ones = dict.fromkeys(symbolic.variance.values(), 1)
    assert float(constant(law_of(symbolic), numbers.of | ones)) == float(h)
    if shape.net.output_size == 1:
        law = ntk_law(shape.net, numbers.x, variance=4.0, gates=gates)
        fours = dict.fromkeys(symbolic.variance.values(), 4)
        assert float(constant(expected_tangent(symbolic), numbers.of | fours)) == float(law[0, 1])


@each_shape
def test_all_paths_are_listed_with_their_gates(shape: Shape) -> None:
    symbolic = shape.symbols()
    numbers = Numbers(symbolic)
    listed = paths(shape.net, numbers.x, gates=numbers.gates)
    assert [p.word for p in symbolic.listed] == list(listed.words)
    for s in range(2):
        features = [
            p.feature(symbolic.ring, symbolic.x[s], symbolic.gates[s]) for p in symbolic.listed
        ]
        assert [float(constant(f, numbers.of)) for f in features] == listed.features[s].tolist()
    sizes = [
        len(b) for o in range(shape.net.output_size) for b in bundles(symbolic, symbolic.listed, o)
    ]
    assert sum(sizes) == len(listed)
    assert len(sizes) == len(listed.bundles)


def test_rotations_are_those_of_tensors() -> None:
    for shape in ((2, 3), (1, 3, 4)):
        t = torch.arange(24.0)[: torch.Size(shape).numel()].reshape(1, *shape)
        for shift in shifts(shape):
            expected = rotate(t, shift).flatten().tolist()
            assert rotated(t.flatten().tolist(), shape, shift) == expected


def booked(**options: Any) -> tuple[GateBook, Sequence[PolyElement]]:
    _, *generators = ring("q,p,c,r1,r2,r3", QQ)
    q, p, c, *free = generators
    return GateBook(free, (c,), **options), (q, p, c)


def test_gates_are_equal_up_to_positive_factors_only() -> None:
    book, (q, p, c) = booked()
    same, double, scaled, turned, other = book.gates_of([q, 2 * q, c * c * q, -q, p])
    assert same == double == scaled
    assert len({same, turned, other}) == 3
    assert book.gates_of([q - q]) == [0]


def test_a_factor_in_every_term_is_no_other_gate() -> None:
    book, (q, p, c) = booked()
    scaled, plain, turned = book.gates_of([c * q - 3 * c * p, q - 3 * p, 3 * p - q])
    assert scaled == plain != turned


def test_soft_gates_know_their_pre_activation() -> None:
    book, (q, _, c) = booked(hard=False)
    once, again, double = book.gates_of([q, q + c - c, 2 * q])
    assert once == again
    assert once != double
    assert book.gates_of([q - q]) != [0]


def test_a_full_gate_book_says_so() -> None:
    book, (q, p, c) = booked()
    with pytest.raises(InputError, match=r"the gate book is full; .* free="):
        book.gates_of([q, p, q + p, q + c])


def test_winners_turn_with_their_window() -> None:
    _, q, p, t, *free = ring("q,p,t,r1,r2,r3", QQ)
    book = GateBook(free)
    first = book.winners_of([q, p, t], 3)
    assert book.winners_of([p, t, q], 3) == [first[1], first[2], first[0]]
    assert len(set(first)) == 3
    with pytest.raises(InputError, match="full"):
        book.winners_of([q, p, p], 3)  # another window: its winners are others


def test_relations_give_normal_forms() -> None:
    _, g, c, k, w, z = ring("g,c,k,w,z", QQ)
    assert reduced(g**3 * w + g * w, idempotent={0}) == 2 * g * w
    assert reduced(c**2 * k * w - c * w, inverses=[(1, 2)]) == 0
    assert reduced(w**5 - z**2 * w, squares={3: 4}) == 0
    assert reduced(g**2 - g) != 0


def test_means_need_two_moments_and_no_more() -> None:
    _, w, u, z, x = ring("w,u,z,x", QQ)
    variances = {0: z, 1: z}
    assert mean(3 * w**2 * x + w * u * x + x + u, variances) == 3 * z * x + x
    assert mean(w**2 * u**2, variances) == z**2
    assert mean(w**2 * u, variances) == 0
    for power in (3, 4):
        with pytest.raises(MomentNotGiven, match=f"order {power} of w .* acts twice on a path"):
            mean(w**power * x, variances)


def test_bundles_are_monomials_only_where_no_weight_acts_twice() -> None:
    with pytest.raises(MomentNotGiven):
        expected_tangent(tied().symbols())
    symbolic = dense(2, 2, 1).symbols()
    f, other = (symbolic.forward(x, g)[0] for x, g in zip(symbolic.x, symbolic.gates, strict=True))
    kernel = coefficient_kernel(f, other, symbolic.variance_of)
    in_weights = set(symbolic.variance_of)
    assert not any(m[i] for m in kernel for i in in_weights)


def test_constants_are_read_as_small_fractions_or_not_at_all() -> None:
    assert rational(1 / 3) == Fraction(1, 3)
    assert rational(-0.375) == Fraction(-3, 8)
    with pytest.raises(UnsupportedOperation, match="no fraction of small denominator"):
        rational(2**0.5)


def test_names_are_distinct() -> None:
    for shape in SHAPES:
        symbols = [str(g) for g in shape.symbols(extra=("c",), free=2).ring.gens]
        assert len(symbols) == len(set(symbols))
        assert set(chain(*symbols)) <= set("abcghruwxyz0123456789_{},")
