"""Prime fields in float64: against Python's integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reluctant.theory.errors import InputError
from reluctant.theory.fields import (
    EXACT_BELOW,
    PrimeField,
    PrimeRange,
    largest_prime,
    rational,
)

PRIMES = [3, 5, 101, 65_537, 1_048_573, 8_388_593]
primes = st.sampled_from(PRIMES)
floats = st.floats(allow_nan=False, allow_infinity=False, width=64)


def same(p: int, residue: torch.Tensor, value: Fraction | int) -> bool:
    number = Fraction(value)
    return (int(residue) * number.denominator - number.numerator) % p == 0


@given(primes, st.integers(-(EXACT_BELOW - 2**23), EXACT_BELOW - 2**23))
def test_reduce_keeps_the_class_and_the_bound(p: int, value: int) -> None:
    field = PrimeField(p)
    found = field.reduce(torch.tensor([float(value)], dtype=torch.float64))
    assert same(p, found, value)
    assert abs(int(found)) <= field.bound
    assert int(field.canonical(found)) == value % p


@given(primes, floats)
@settings(max_examples=300)
def test_dyadic_is_the_residue_of_the_number_that_a_float_is(p: int, value: float) -> None:
    found = PrimeField(p).dyadic(torch.tensor([value], dtype=torch.float64))
    assert same(p, found, Fraction(value))


@given(st.integers(1, 2**16), st.integers(-(2**16), 2**16))
def test_routing_constants_are_fractions_again(below: int, above: int) -> None:
    assert rational(above / below) == Fraction(above, below)
    p = 8_388_593
    found = PrimeField(p).constants(torch.tensor([above / below], dtype=torch.float64))
    assert same(p, found, Fraction(above, below))


def test_a_constant_that_is_no_small_fraction_is_the_dyadic_number_that_it_is() -> None:
    assert rational(math.pi) == Fraction(math.pi)


@pytest.mark.parametrize("terms", [1, 9, 576, 4608, 10**6])
def test_sums_of_products_are_exact_up_to_the_largest_prime(terms: int) -> None:
    p = largest_prime(terms)
    field = PrimeField(p)
    field.admit(terms)
    most = torch.full((terms,), float(field.bound), dtype=torch.float64)
    assert int(most @ most) == field.bound**2 * terms
    assert same(p, field.reduce(most @ most), field.bound**2 * terms)


def test_a_prime_too_large_for_the_fan_in_is_refused() -> None:
    terms = 2**14
    p = int(sympy.nextprime(largest_prime(terms) + 2**10))
    with pytest.raises(InputError, match=r"exceed 2\^53 .* take a prime of at most"):
        PrimeField(p).admit(terms)
    with pytest.raises(InputError, match="odd prime, got 91"):
        PrimeField(91)


def test_beyond_the_bound_float64_does_round() -> None:
    p = 2**31 - 1
    left = torch.tensor([float(p // 2), 1.0], dtype=torch.float64)
    exact = (p // 2) ** 2 + 1
    assert int(left @ left) != exact


def test_drawn_residues_are_uniform_and_drawn_primes_lie_in_their_range() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = PrimeField(5).canonical(PrimeField(5).draw((5000,), generator))
    counts = torch.bincount(drawn.long(), minlength=5)
    # Five binomial counts, each within six standard deviations: fails with a chance below 1e-8.
    assert bool(((counts - 1000).abs() < 6 * math.sqrt(5000 * 0.16)).all())
    known = PrimeRange(101)
    found = {known.draw(generator).prime for _ in range(400)}
    assert found == set(sympy.primerange(51, 102))
    assert known.count == len(found)


@pytest.mark.parametrize("degree", [1, 3, 7])
def test_a_polynomial_vanishes_no_more_often_than_its_degree_allows(degree: int) -> None:
    known = PrimeRange(101)
    for p in sympy.primerange(known.least + 1, 102):
        zeros = sum(math.prod(x - r for r in range(degree)) % p == 0 for x in range(p))
        assert 0 < zeros / p <= known.miss(degree, 0.0)


def test_primes_that_divide_a_coefficient_are_counted() -> None:
    known = PrimeRange(101)
    bad = [p for p in sympy.primerange(51, 102)][:3]
    coefficient = math.prod(bad)
    share = len(bad) / known.count
    assert share <= known.miss(0, coefficient.bit_length())
    assert known.miss(0, 2.0) == 0.0


@given(primes, st.integers(1, 2**40))
def test_inverses_multiply_to_one(p: int, value: int) -> None:
    if value % p:
        assert PrimeField(p).inverse(value) * value % p == 1
    else:
        with pytest.raises(ZeroDivisionError, match=f"0 modulo {p}"):
            PrimeField(p).inverse(value)
