"""Which entry of a tensor reaches which entry of the next: nodes tried on unit vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from sympy import QQ
from torch import Tensor

from reluctant.theory.errors import UnsupportedOperation
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, Node, Weighted
from reluctant.theory.paths import Entry, apply_constant

_LARGEST_DENOMINATOR = 1000


def gate_shapes(net: PathNetwork) -> dict[int, tuple[int, ...]]:
    """Return the shape of each layer of gates on the paths, in order."""
    live = [net.nodes[i] for i in net.value_nodes]
    return {node.gate: node.shape for node in live if isinstance(node, Gate)}


def _basis(shape: Sequence[int]) -> Tensor:
    size = math.prod(shape)
    return torch.eye(size, dtype=torch.float64).reshape(size, *shape)


def weighted_edges(net: PathNetwork, node: Weighted) -> list[tuple[int | None, int, Entry]]:
    """Return (entry of the operand, entry of the node, weight): the operator on a basis."""
    weight = net.weights[node.weight]
    entries = weight.entries.listed().flatten().tolist()
    edges: list[tuple[int | None, int, Entry]] = []
    for k, weights in enumerate(_basis(weight.shape)):
        if node.operands:
            images = node.operator.apply(_basis(net.nodes[node.operands[0]].shape), weights)
        else:
            images = node.operator.apply(None, weights)
        for source, row in enumerate(images.flatten(1).tolist()):
            where = source if node.operands else None
            for target, factor in enumerate(row):
                assert factor in (0.0, 1.0), "an operator multiplies by its weights only"
                if factor:
                    edges.append((where, target, (weight.name, entries[k])))
    return edges


def constant_edges(net: PathNetwork, node: Node) -> list[tuple[int, int, int, Any]]:
    """Return (operand, its entry, entry of the node, constant): the node on a basis."""
    shapes = [net.nodes[k].shape for k in node.operands]
    edges = []
    for operand, shape in enumerate(shapes):
        size = math.prod(shape)
        tried = [
            _basis(s) if j == operand else torch.zeros(size, *s, dtype=torch.float64)
            for j, s in enumerate(shapes)
        ]
        images = apply_constant(node, tried).reshape(size, -1)
        for source, target in images.nonzero().tolist():
            constant = rational(float(images[source, target]))
            edges.append((operand, source, target, QQ(*constant.as_integer_ratio())))
    return edges


def rational(number: float) -> Fraction:
    """Return the fraction of small denominator that a routing constant is the rounding of.

    Raises:
        UnsupportedOperation: If there is none within four roundings.
    """
    found = Fraction(number).limit_denominator(_LARGEST_DENOMINATOR)
    if abs(float(found) - number) > 4 * math.ulp(number):
        raise UnsupportedOperation(f"the constant {number!r} is no fraction of small denominator")
    return found
