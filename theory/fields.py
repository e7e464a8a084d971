r"""Prime fields carried in float64 tensors, where products and sums of residues are exact.

A residue modulo p is an integer of modulus at most p/2 + 2. A sum of f products of two residues is
then at most (p/2 + 2)² f, and while that is below 2⁵³ no float64 operation on the way rounds,
whatever the order of summation and whether or not products are fused with additions. So BLAS and
the convolutions of torch do the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import sympy
import torch
from torch import Tensor

from reluctant.theory.errors import InputError

EXACT_BELOW = 2**53
_LARGEST = 2**23
_DENOMINATORS = 2**16  # of the fractions that a rounded routing constant can stand for


@dataclass(frozen=True, slots=True)
class PrimeField:
    """Be the integers modulo a prime.

    Attributes:
        prime: p, odd.
    """

    prime: int

    def __post_init__(self) -> None:
        if self.prime < 3 or not sympy.isprime(self.prime):
            raise InputError(f"a prime field needs an odd prime, got {self.prime}")

    @property
    def bound(self) -> int:
        """Return the largest modulus of a residue."""
        return self.prime // 2 + 2

    def admit(self, terms: int) -> None:
        """Raise unless sums of so many products of two residues are exact.

        Raises:
            InputError: Names the number of terms and the largest prime that would do.
        """
        if terms > 0 and self.bound**2 * terms + self.prime > EXACT_BELOW:
            raise InputError(
                f"sums of {terms} products of residues modulo {self.prime} exceed 2^53 and would be "
                f"rounded; take a prime of at most {largest_prime(terms)}"
            )

    def reduce(self, t: Tensor) -> Tensor:
        """Return residues of integers of modulus below 2^53 − p.

        The quotient is off by less than 2/p when it is rounded, hence the bound of a residue.
        """
        quotient = (t * (1.0 / self.prime)).round_()
        return torch.sub(t, quotient, alpha=self.prime)

    def canonical(self, t: Tensor) -> Tensor:
        """Return the residues between 0 and p − 1."""
        return torch.remainder(t, self.prime)

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Draw independent uniform residues."""
        least = -(self.prime // 2)  # drawn as they are held, so that many are not held twice
        return torch.randint(
            least, least + self.prime, tuple(shape), generator=generator, dtype=torch.float64
        )

    def inverse(self, value: int) -> int:
        """Return the residue whose product with a number is 1.

        Raises:
            ZeroDivisionError: If the prime divides the number.
        """
        if value % self.prime == 0:
            raise ZeroDivisionError(f"{value} is 0 modulo {self.prime}")
        return pow(value, -1, self.prime)

    def fraction(self, value: Fraction) -> int:
        """Return the residue of a rational number whose denominator the prime does not divide."""
        return value.numerator * self.inverse(value.denominator) % self.prime

    def dyadic(self, t: Tensor) -> Tensor:
        """Return residues of floating-point numbers, taken as the m 2^e that they are."""
        mantissa, exponent = torch.frexp(t.detach().cpu().double())
        integer = torch.remainder((mantissa * 2.0**53).long(), self.prime).double()
        power = exponent.long() - 53
        if not power.numel():
            return integer
        least = int(power.min())
        powers = [pow(2, e, self.prime) for e in range(least, int(power.max()) + 1)]
        table = torch.tensor(powers, dtype=torch.float64)
        return self.reduce(self.reduce(integer) * self.reduce(table)[power - least])

    def constants(self, t: Tensor) -> Tensor:
        """Return residues of routing constants, by :func:`rational`."""
        values, places = t.detach().cpu().double().unique(return_inverse=True)
        found = [float(self.fraction(rational(v))) for v in values.tolist()]
        return self.reduce(torch.tensor(found, dtype=torch.float64))[places].reshape(t.shape)


@lru_cache(maxsize=2**17)  # a network's constants are asked for modulo every prime
def rational(value: float) -> Fraction:
    """Return the rational number that a routing constant stands for.

    It is the fraction with a denominator of at most 2^16 of which the constant is the float64 rounding,
    such as 1/9, and if there is none the dyadic number that the constant is.
    """
    near = Fraction(value).limit_denominator(_DENOMINATORS)
    return near if float(near) == value else Fraction(value)


def largest_prime(terms: int) -> int:
    """Return the largest prime below 2^23 modulo which sums of so many products are exact."""
    size = min(_LARGEST, 2 * (math.isqrt(EXACT_BELOW // max(terms, 1)) - 4))
    while (size // 2 + 2) ** 2 * terms + size > EXACT_BELOW:
        size -= 1
    return int(sympy.prevprime(size + 1))


@dataclass(frozen=True, slots=True)
class PrimeRange:
    """Be the primes between a half of a number and the number.

    Attributes:
        largest: Largest prime of the range.
    """

    largest: int

    @property
    def count(self) -> int:
        """Return the number of primes in the range."""
        return int(sympy.primepi(self.largest) - sympy.primepi(self.largest // 2))

    @property
    def least(self) -> int:
        """Return a number below all primes of the range."""
        return self.largest // 2

    def draw(self, generator: torch.Generator) -> PrimeField:
        """Draw a field whose prime is uniform in the range."""
        while True:
            drawn = torch.randint(self.least + 1, self.largest + 1, (), generator=generator)
            if sympy.isprime(int(drawn)):
                return PrimeField(int(drawn))

    def miss(self, degree: int, height: float) -> float:
        r"""Bound the chance that a false identity of polynomials survives one trial.

        .. math:: \frac{D}{p} + \frac{h / \log_2 p}{\#\text{primes}}

        A polynomial of degree D that is not 0 modulo p vanishes at uniform residues with a chance
        of at most D/p; one that is not 0 is 0 modulo p for at most h / log₂ p primes, since they
        all divide one coefficient, an integer below 2^h.

        Args:
            degree: D, in all that is drawn.
            height: h, the binary logarithm of a bound on the coefficients' numerators.

        Source:
            Schwartz, *Fast probabilistic algorithms for verification of polynomial identities*,
            J. ACM 27 (1980), for the first term.
        """
        bad = math.floor(height / math.log2(self.least)) if self.least > 1 else self.count
        return min(1.0, degree / self.least + bad / self.count)
