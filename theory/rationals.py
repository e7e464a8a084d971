"""A path network evaluated in Python's fractions: slow, obvious and exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from reluctant.theory.errors import InputError
from reluctant.theory.fields import rational
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Input, Reindex, Scale, Sum, Weighted

Numbers = list[Fraction]
_LIMIT = 4096  # entries of one tensor


def rational_output(
    net: PathNetwork, x: Tensor, gates: Sequence[Tensor], weights: Sequence[Tensor]
) -> Numbers:
    r"""Return the output at one input, every number taken for the rational number that it is.

    Routing constants stand for the fractions of :func:`~reluctant.theory.fields.rational`; data,
    gates and weights for the dyadic numbers that they are. Operators are only asked what they do to
    unit vectors, and moves where an entry comes from.

    Args:
        net: Network.
        x: Data, shape (1, \*input).
        gates: Gates at that input, one tensor a layer.
        weights: Weight tensors, one for each of the network's.

    Returns:
        The output's entries, flattened.

    Raises:
        InputError: If a tensor is too large for this route, or x is no single input.

    Cost:
        A product of fractions for each entry of each layer's matrix.
    """
    if x.shape[0] != 1:
        raise InputError(f"the rational route takes one input at a time, got {x.shape[0]}")
    found: dict[int, Numbers] = {}
    for i in net.value_nodes:
        node = net.nodes[i]
        size = math.prod(node.shape)
        if size > _LIMIT:
            raise InputError(
                f"{node.name} has {size} entries, more than {_LIMIT}: too many for the rational route; "
                "evaluate modulo primes"
            )
        operands = [found[k] for k in node.operands]
        if isinstance(node, Input):
            found[i] = _dyadic(x)
        elif isinstance(node, Constant):
            found[i] = [rational(v) for v in node.value.expand(node.shape).flatten().tolist()]
        elif isinstance(node, Weighted) and not operands:
            found[i] = _dyadic(node.operator.apply(None, weights[node.weight]))
        elif isinstance(node, Weighted):
            shape = net.nodes[node.operands[0]].shape
            units = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
            columns = node.operator.apply(units, weights[node.weight].double()).flatten(1)
            rows = [_dyadic(row) for row in columns.T]
            found[i] = [_inner(row, operands[0]) for row in rows]
        elif isinstance(node, Reindex):
            found[i] = _moved(net, node, operands)
        elif isinstance(node, Sum):
            added = [sum(entries, Fraction(0)) for entries in zip(*operands, strict=True)]
            found[i] = _added(added, net.nodes[node.operands[0]].shape, node.axes)
        elif isinstance(node, Scale):
            factors = node.factor.expand(node.shape).flatten().tolist()
            found[i] = [rational(f) * v for f, v in zip(factors, operands[0], strict=True)]
        else:
            assert isinstance(node, Gate)
            gate = _dyadic(gates[node.gate].expand(1, *node.shape))
            found[i] = [g * v for g, v in zip(gate, operands[0], strict=True)]
    return found[net.output]


def _dyadic(t: Tensor) -> Numbers:
    return [Fraction(v) for v in t.detach().double().flatten().tolist()]


def _inner(left: Numbers, right: Numbers) -> Fraction:
    return sum((a * b for a, b in zip(left, right, strict=True) if a), Fraction(0))


def _moved(net: PathNetwork, node: Reindex, operands: list[Numbers]) -> Numbers:
    """Send entry numbers, counted from 1, through a move; 0 comes from nowhere."""
    numbers, everything = [], [Fraction(0)]
    for k, operand in zip(node.operands, operands, strict=True):
        start = len(everything)
        index = torch.arange(start, start + len(operand), dtype=torch.float64)
        numbers.append(index.reshape(1, *net.nodes[k].shape))
        everything.extend(operand)
    return [everything[int(i)] for i in node.move(numbers).flatten().tolist()]


def _added(entries: Numbers, shape: Sequence[int], axes: Sequence[int]) -> Numbers:
    if not axes:
        return entries
    kept = [1 if a in axes else n for a, n in enumerate(shape)]
    place = torch.arange(math.prod(kept)).reshape(kept).expand(tuple(shape)).flatten().tolist()
    total = [Fraction(0)] * math.prod(kept)
    for i, value in zip(place, entries, strict=True):
        total[i] += value
    return total
