r"""Tensors of a network as affine functions of a few variables, with no rounding.

Where the gates are held, every entry of every tensor is :math:`c_1 t_1 + \dots + c_k t_k + c_0`. Data,
weights and slopes are dyadic numbers and routing constants fractions, so the coefficients are
rational: integers over one denominator for each tensor, which Python multiplies exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluctant.theory.errors import InputError
from reluctant.theory.fields import rational
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Input, Node, Reindex, Scale, Sum, Weighted

Integers = NDArray[Any]  # of Python's integers
Row = tuple[int, ...]  # coefficients of an affine function, the constant last
_LARGEST = 2**22  # entries of one layer's matrix


@dataclass(frozen=True, slots=True, eq=False)
class Forms:
    """Be the entries of a tensor as affine functions.

    Attributes:
        numerators: Coefficients, the constants last, shape (entries, variables + 1).
        denominator: What all are divided by, positive.
    """

    numerators: Integers
    denominator: int

    def row(self, entry: int) -> Row:
        """Return a positive multiple of one entry, its coefficients without a common factor."""
        return primitive(self.numerators[entry].tolist())

    def difference(self, entry: int, other: int) -> Row:
        """Return a positive multiple of one entry less another."""
        return primitive((self.numerators[entry] - self.numerators[other]).tolist())

    def at(self, point: Sequence[Fraction]) -> list[Fraction]:
        """Return the values of all entries at a point."""
        return [value(row, point) / self.denominator for row in self.numerators.tolist()]

    def fractions(self) -> list[tuple[Fraction, ...]]:
        """Return the coefficients of each entry."""
        rows = self.numerators.tolist()
        return [tuple(Fraction(c, self.denominator) for c in row) for row in rows]

    def floats(self) -> NDArray[np.float64]:
        """Return the coefficients, each rounded once."""
        rows = [[n / self.denominator for n in row] for row in self.numerators.tolist()]
        return np.array(rows, dtype=np.float64).reshape(self.numerators.shape)


def primitive(row: Iterable[int]) -> Row:
    """Return integers divided by their greatest common divisor."""
    row = tuple(row)
    common = math.gcd(*row)
    return tuple(c // common for c in row) if common > 1 else row


def value(row: Sequence[int], point: Sequence[Fraction]) -> Fraction:
    """Return the value of an affine function at a point."""
    return sum((c * t for c, t in zip(row, point, strict=False)), Fraction(row[-1]))


def integers(numbers: Iterable[Fraction], shape: Sequence[int]) -> tuple[Integers, int]:
    """Return fractions as integers over one denominator."""
    held = list(numbers)
    common = math.lcm(*(f.denominator for f in held))
    found = np.empty(len(held), dtype=object)
    found[:] = [f.numerator * (common // f.denominator) for f in held]
    return found.reshape(tuple(shape)), common


def exactly(t: Tensor) -> tuple[Integers, int]:
    """Return floating-point numbers as integers over one power of two, of the shape of the tensor."""
    mantissa, exponent = np.frexp(t.detach().cpu().double().numpy())
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = np.frexp((whole & -whole).astype(np.float64))[1] - 1  # place of the last bit that is 1
    zero = whole == 0
    whole >>= np.where(zero, 0, lowest)
    exponent = np.where(zero, 0, exponent - 53 + lowest)
    places = max(0, -int(exponent.min(initial=0)))
    return whole.astype(object) << (exponent + places).astype(object), 1 << places


def dyadic(t: Tensor) -> list[Fraction]:
    """Return floating-point numbers as the fractions that they are."""
    return [Fraction(v) for v in t.detach().cpu().double().flatten().tolist()]


def identity(size: int) -> Forms:
    """Return the coordinates of the data as functions of themselves."""
    found = np.zeros((size, size + 1), dtype=object)
    found[range(size), range(size)] = 1
    return Forms(found, 1)


def along(origin: Tensor, *directions: Tensor) -> Forms:
    """Return the data on a line or a plane, origin + t₁ u₁ + t₂ u₂, as functions of t.

    Args:
        origin: One input.
        directions: u, each of its shape.
    """
    return Forms(*exactly(torch.stack([t.flatten() for t in (*directions, origin)], dim=1)))


class ExactNetwork:
    """Evaluate the nodes of a network on affine functions.

    Args:
        net: Network.

    Raises:
        InputError: If a layer's matrix has more than four million entries.
    """

    def __init__(self, net: PathNetwork) -> None:
        self.net = net
        self._known: dict[int, Any] = {}

    def forms(
        self,
        i: int,
        operands: Sequence[Forms],
        start: Forms,
        gates: Sequence[Fraction] | None = None,
    ) -> Forms:
        """Return the entries of a node.

        Args:
            i: Node.
            operands: Entries of its operands.
            start: Entries of the data.
            gates: Gates by which a gate node multiplies, one an entry.
        """
        node = self.net.nodes[i]
        if isinstance(node, Input):
            return start
        if isinstance(node, Gate):
            assert gates is not None
            return _multiplied(operands[0], *integers(gates, (len(gates), 1)))
        if i not in self._known:
            self._known[i] = self._prepared(node)
        known = self._known[i]
        if isinstance(node, Constant) or (isinstance(node, Weighted) and not operands):
            numerators = np.zeros((len(known[0]), start.numerators.shape[1]), dtype=object)
            numerators[:, -1] = known[0]
            return Forms(numerators, known[1])
        if isinstance(node, Weighted):
            return Forms(known[0] @ operands[0].numerators, known[1] * operands[0].denominator)
        if isinstance(node, Scale):
            return _multiplied(operands[0], *known)
        parts, common = _over_one(operands)
        if isinstance(node, Reindex):
            nothing = np.zeros((1, start.numerators.shape[1]), dtype=object)
            return Forms(np.concatenate([nothing, *parts])[known], common)
        assert isinstance(node, Sum)
        shape = self.net.nodes[node.operands[0]].shape
        added = np.add.reduce(parts).reshape(*shape, -1)
        if node.axes:
            added = added.sum(axis=tuple(node.axes))
        return Forms(added.reshape(-1, start.numerators.shape[1]), common)

    def _prepared(self, node: Node) -> Any:
        """Return what a node needs: a matrix, factors or constants over a denominator, or places."""
        size = math.prod(node.shape)
        if isinstance(node, Constant):
            held = node.value.expand(node.shape).flatten().tolist()
            return integers((rational(v) for v in held), (size,))
        if isinstance(node, Scale):
            held = node.factor.expand(node.shape).flatten().tolist()
            return integers((rational(v) for v in held), (size, 1))
        if isinstance(node, Weighted):
            weight = self._weights[node.weight]
            if not node.operands:
                return exactly(node.operator.apply(None, weight).flatten())
            shape = self.net.nodes[node.operands[0]].shape
            before = math.prod(shape)
            if before * size > _LARGEST:
                raise InputError(
                    f"{node.name} ({node.place}) maps {before} entries to {size}: too many for exact "
                    "arithmetic; take a smaller network or a smaller input"
                )
            units = torch.eye(before, dtype=torch.float64).reshape(before, *shape)
            columns = node.operator.apply(units.to(weight.device), weight).flatten(1)
            return exactly(columns.T)
        assert isinstance(node, Reindex | Sum)
        if isinstance(node, Sum):
            return ()
        return self.sources_of(node).flatten()

    def sources_of(self, node: Reindex) -> NDArray[np.int64]:
        """Return where each entry comes from, its operands counted together from 1; 0 for nowhere."""
        numbers, start = [], 1
        for k in node.operands:
            shape = self.net.nodes[k].shape
            stop = start + math.prod(shape)
            numbers.append(torch.arange(start, stop, dtype=torch.float64).reshape(1, *shape))
            start = stop
        moved = node.move([t.to(self.net.program.device) for t in numbers])
        found: NDArray[np.int64] = moved[0].cpu().numpy().astype(np.int64)
        return found

    @cached_property
    def _weights(self) -> list[Tensor]:
        return self.net.weight_values()


def _multiplied(forms: Forms, factors: Integers, denominator: int) -> Forms:
    return Forms(forms.numerators * factors, forms.denominator * denominator)


def _over_one(operands: Sequence[Forms]) -> tuple[list[Integers], int]:
    """Return the numerators of several tensors over their least common denominator."""
    common = math.lcm(*(f.denominator for f in operands))
    return [f.numerators * (common // f.denominator) for f in operands], common
