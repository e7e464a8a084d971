r"""Degree and height of the polynomial that an output is, in weights and data.

They bound how often a false identity can survive a random evaluation modulo a prime. The height of
a polynomial with rational coefficients is taken here as the binary logarithm of its length: the sum
of the moduli of its coefficients' numerators over a common denominator, which is made of those of
the constants on each path. Two sides that multiply the same constants along paths have the same
one, so the numerators of their difference are at most twice as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from reluctant.theory.fields import rational
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Input, Reindex, Scale, Sum, Weighted


@dataclass(frozen=True, slots=True)
class Size:
    """Bound a polynomial.

    Attributes:
        degree: Total degree in what is drawn.
        length: Binary logarithm of the sum of the moduli of the numerators.
        twos: Power of two in the common denominator.
        odd: Binary logarithm of the odd part of the common denominator.
    """

    degree: int = 0
    length: float = 0.0
    twos: int = 0
    odd: float = 0.0

    @property
    def height(self) -> float:
        """Return a bound for the difference of two such polynomials over the same denominator."""
        return self.length + 1.0

    def times(self, other: Size) -> Size:
        """Bound a product."""
        return Size(
            self.degree + other.degree,
            self.length + other.length,
            self.twos + other.twos,
            self.odd + other.odd,
        )


def _over_one_denominator(parts: Sequence[Size]) -> tuple[list[float], int, float]:
    """Return the lengths over the common denominator, and the denominator."""
    twos = max(p.twos for p in parts)
    odd = sum({p.odd for p in parts})
    return [p.length + (twos - p.twos) + (odd - p.odd) for p in parts], twos, odd


def total(parts: Sequence[Size]) -> Size:
    """Bound a sum."""
    lengths, twos, odd = _over_one_denominator(parts)
    most = max(lengths)
    length = most + math.log2(sum(2.0 ** (n - most) for n in lengths))
    return Size(max(p.degree for p in parts), length, twos, odd)


def either(parts: Sequence[Size]) -> Size:
    """Bound each of several polynomials at once."""
    lengths, twos, odd = _over_one_denominator(parts)
    return Size(max(p.degree for p in parts), max(lengths), twos, odd)


def size_of_constants(value: Tensor, *, exact: bool = True) -> Size:
    """Bound constants taken as the numbers that they stand for.

    Args:
        value: Constants.
        exact: True for routing constants, which can stand for fractions; False for gates.
    """
    values = value.detach().cpu().double().unique()
    if not exact or len(values) > 4096:
        return _dyadic(values)
    fractions = [rational(v) for v in values.tolist() if v]
    twos = max((_twos(f) for f in fractions), default=0)
    odd = math.lcm(*(f.denominator >> _twos(f) for f in fractions))
    numerators = [abs(f * odd * 2**twos) for f in fractions]
    largest = max(numerators, default=Fraction(1))
    return Size(0, math.log2(max(1, int(largest))), twos, math.log2(odd))


def _twos(f: Fraction) -> int:
    return (f.denominator & -f.denominator).bit_length() - 1


def _dyadic(values: Tensor) -> Size:
    values = values[values != 0]
    if not len(values):
        return Size()
    mantissa, exponent = torch.frexp(values)
    integer = (mantissa * 2.0**53).long()
    trailing = torch.log2((integer & -integer).abs().double()).long()
    lowest = int((exponent.long() - 53 + trailing).min())
    twos = max(0, -lowest)
    return Size(0, float(max(0, int(exponent.max())) + twos), twos)


def sizes(
    net: PathNetwork, gates: Sequence[Tensor] | None, *, weights_drawn: bool = True
) -> dict[int, Size]:
    """Bound the polynomials of all nodes.

    Args:
        net: Network.
        gates: Recorded gates, one tensor a layer; None if they are drawn, or formal.
        weights_drawn: False where all weights and data are the number 1.
    """
    variable = Size(1 if weights_drawn else 0)
    found: dict[int, Size] = {}
    for i, node in enumerate(net.nodes):
        parts = [found[k] for k in node.operands]
        if isinstance(node, Input):
            found[i] = variable
        elif isinstance(node, Constant):
            found[i] = size_of_constants(node.value)
        elif isinstance(node, Weighted):
            fan = Size(0, math.log2(max(1, node.operator.fan_in)))
            found[i] = variable.times(fan).times(parts[0]) if parts else variable
        elif isinstance(node, Reindex):
            found[i] = either(parts)
        elif isinstance(node, Sum):
            shape = net.nodes[node.operands[0]].shape
            repeats = math.prod(shape[a] for a in node.axes)
            found[i] = total(parts).times(Size(0, math.log2(max(1, repeats))))
        elif isinstance(node, Scale):
            found[i] = parts[0].times(size_of_constants(node.factor))
        else:
            assert isinstance(node, Gate)
            factor = Size(1) if gates is None else size_of_constants(gates[node.gate], exact=False)
            found[i] = parts[0].times(factor)
    return found
