r"""Kernels and expectations of polynomials in random weights, from first and second moments only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby

from sympy.polys.rings import PolyElement

from reluctant.theory.errors import ReluctantError
from reluctant.theory.gate_book import Polynomials
from reluctant.theory.symbolic import SymbolicNetwork
from reluctant.theory.symbolic_paths import GatePolynomials, SymbolicPath

Variances = Mapping[int, PolyElement]


class MomentNotGiven(ReluctantError, ArithmeticError):
    """Say that an expectation takes more than means and variances."""


def mean(polynomial: PolyElement, variances: Variances) -> PolyElement:
    r"""Average over independent weights of mean 0, of which only the variances are known.

    Args:
        polynomial: Polynomial in the weights, of degree at most 2 in each.
        variances: For the position of each weight in the ring, its variance.

    Returns:
        A polynomial without those weights: monomials with a weight to the power 1 are gone, and
        each square is a variance.

    Raises:
        MomentNotGiven: If a weight has a power above 2, whose mean the hypotheses do not give.
    """
    ring = polynomial.ring
    total = ring.zero
    for monomial, coefficient in polynomial.items():
        powers = list(monomial)
        factor = ring.one
        vanishes = False
        for i, variance in variances.items():
            if powers[i] > 2:
                raise MomentNotGiven(
                    f"the moment of order {powers[i]} of {ring.gens[i]} is not given by its mean "
                    "and variance: a weight acts twice on a path"
                )
            vanishes |= powers[i] == 1
            if powers[i] == 2:
                factor = factor * variance
            powers[i] = 0
        if not vanishes:
            total += factor * ring.from_dict({tuple(powers): coefficient})
    return total


def tangent_product(
    left: PolyElement, right: PolyElement, weights: Collection[PolyElement]
) -> PolyElement:
    """Return ⟨∇f, ∇f'⟩ over the given weights, gates held."""
    return left.ring.add([left.diff(w) * right.diff(w) for w in weights])


def coefficient_kernel(
    left: PolyElement, right: PolyElement, weights: Collection[int]
) -> PolyElement:
    """Return Σ_m c_m c'_m over the monomials m in the weights, c their coefficients.

    That is the neural path kernel read off an output: equal monomials are bundles.
    """
    ours, theirs = by_monomial(left, weights), by_monomial(right, weights)
    return left.ring.add([ours[m] * theirs[m] for m in ours.keys() & theirs.keys()])


def by_monomial(
    polynomial: PolyElement, weights: Collection[int]
) -> dict[tuple[int, ...], PolyElement]:
    """Return the coefficient, free of the weights, of every monomial in the weights."""
    ring = polynomial.ring
    order = sorted(weights)
    found: dict[tuple[int, ...], dict[tuple[int, ...], object]] = {}
    for monomial, coefficient in polynomial.items():
        rest = list(monomial)
        for i in order:
            rest[i] = 0
        found.setdefault(tuple(monomial[i] for i in order), {})[tuple(rest)] = coefficient
    return {m: ring.from_dict(rest) for m, rest in found.items()}


def bundles(
    symbolic: SymbolicNetwork, listed: Sequence[SymbolicPath], output: int = 0
) -> list[list[SymbolicPath]]:
    """Return the paths to one output, those with the same multiset of weights together."""

    def key(path: SymbolicPath) -> list[tuple[str, int]]:
        return sorted(path.word)

    own = sorted((p for p in listed if p.end == output), key=key)
    return [list(group) for _, group in groupby(own, key=key)]


def bundle_law(
    symbolic: SymbolicNetwork,
    x: Polynomials,
    gates: GatePolynomials,
    other: Polynomials,
    other_gates: GatePolynomials,
    *,
    output: int = 0,
    listed: Sequence[SymbolicPath] | None = None,
) -> PolyElement:
    r"""Return H(z) of one output from its definition, paths listed.

    .. math:: H(z) = \sum_b \Big(\prod_{l \in b} z_l\Big) \phi_b(x)\, \phi_b(x')

    Args:
        symbolic: Network.
        x: First input.
        gates: Its gates.
        other: Second input.
        other_gates: Its gates.
        output: Output coordinate.
        listed: Paths to use in place of all.
    """
    ring = symbolic.ring
    total = ring.zero
    for bundle in bundles(symbolic, symbolic.listed if listed is None else listed, output):
        here = ring.add([p.feature(ring, x, gates) for p in bundle])
        there = ring.add([p.feature(ring, other, other_gates) for p in bundle])
        factor = ring.one
        for name, _ in bundle[0].word:
            factor = factor * symbolic.variance[name]
        total += factor * here * there
    return total


def total_derivative(polynomial: PolyElement, variables: Collection[PolyElement]) -> PolyElement:
    """Return Σ_l ∂/∂z_l."""
    return polynomial.ring.add([polynomial.diff(z) for z in variables])


def substituted(polynomial: PolyElement, values: Mapping[PolyElement, object]) -> PolyElement:
    """Return a polynomial with generators replaced by constants or other polynomials."""
    pairs = list(values.items())
    result: PolyElement = polynomial.compose(pairs) if pairs else polynomial
    return result
