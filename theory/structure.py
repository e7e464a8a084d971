"""What a path network looks like: chains, skips, depth, where gates come from."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from reluctant.theory.network import Gate, Input, PathNetwork, Reindex, Sum, Weighted
from reluctant.theory.operators import Bias, Dense


@dataclass(frozen=True, slots=True)
class DenseChain:
    """Be a fully connected chain: dense layers with at most one layer of gates between two.

    Attributes:
        layers: Weighted nodes in order, biases left out.
        gates: Gate layers in order.
        widths: Input size and then the rows of every layer.
    """

    layers: tuple[int, ...]
    gates: tuple[int, ...]
    widths: tuple[int, ...]


def dense_chain(net: PathNetwork) -> DenseChain | None:
    """Return the chain that a fully connected network is, None if it is none."""
    layers: list[int] = []
    gates: list[int] = []
    i = net.output
    while True:
        node = net.nodes[i]
        if isinstance(node, Weighted) and isinstance(node.operator, Dense) and not node.operator.positions:
            layers.append(i)
        elif isinstance(node, Gate):
            if not layers or (gates and len(gates) >= len(layers)):
                return None
            gates.append(node.gate)
        elif isinstance(node, Sum) and not node.axes:
            others = [k for k in node.operands if not _is_bias(net, k)]
            if len(others) != 1:
                return None
            i = others[0]
            continue
        elif not (isinstance(node, Reindex) and node.keeps_order):
            break
        i = node.operands[0]
    if not isinstance(node, Input) and not (getattr(node, "is_input", False)) or not layers:
        return None
    first = net.nodes[layers[-1]]
    assert isinstance(first, Weighted) and isinstance(first.operator, Dense)
    rows = [net.nodes[k].operator.rows for k in reversed(layers)]  # type: ignore[attr-defined]
    return DenseChain(tuple(reversed(layers)), tuple(reversed(gates)), (first.operator.inputs, *rows))


def _is_bias(net: PathNetwork, i: int) -> bool:
    node = net.nodes[i]
    return isinstance(node, Weighted) and isinstance(node.operator, Bias)


def depths(net: PathNetwork, *, sources: bool = False) -> dict[int, frozenset[int]]:
    """Return, for every live node, the numbers of weight layers on paths that arrive there.

    Args:
        net: Network.
        sources: True counts the paths from biases too (a bias is a weight layer).
    """
    found: dict[int, frozenset[int]] = {}
    for i in net.value_nodes:
        node = net.nodes[i]
        arriving = frozenset().union(*(found[k] for k in node.operands)) if node.operands else frozenset({0})
        if isinstance(node, Weighted):
            if isinstance(node.operator, Bias):
                arriving = frozenset({1}) if sources else frozenset()
            else:
                arriving = frozenset(d + 1 for d in arriving)
        elif not node.operands and not isinstance(node, Input) and not getattr(node, "is_input", False) and not sources:
            arriving = frozenset()
        found[i] = arriving
    return found


@dataclass(frozen=True, slots=True)
class Skip:
    """Be a sum where one operand goes around what the other goes through.

    Attributes:
        node: The sum.
        branch: Its operand that goes through weights.
        around: Its operand that goes around them without weights.
    """

    node: int
    branch: int
    around: int


def identity_skips(net: PathNetwork) -> tuple[Skip, ...]:
    """Return the sums of two paths where one is an unweighted detour around the other."""
    found = []
    for i in net.value_nodes:
        node = net.nodes[i]
        if not isinstance(node, Sum) or node.axes or len(node.operands) != 2:
            continue
        a, b = node.operands
        for branch, around in ((a, b), (b, a)):
            if _goes_around(net, branch, around):
                found.append(Skip(i, branch, around))
                break
    return tuple(found)


def _goes_around(net: PathNetwork, branch: int, around: int) -> bool:
    """Tell whether the branch leaves from a tensor of which the detour is an unweighted image."""
    above = net.ancestors([branch])
    node = around
    while node not in above:
        here = net.nodes[node]
        if isinstance(here, Weighted) or len(here.operands) != 1:
            return False
        node = here.operands[0]
    if node == branch:
        return False
    between = [i for i in above if node in net.ancestors([i]) and i != node]
    return any(isinstance(net.nodes[i], Weighted) for i in between)


def gate_values_are_hard(recorded: torch.Tensor) -> bool:
    """Tell whether every recorded gate is exactly 0 or 1."""
    return bool(((recorded == 0) | (recorded == 1)).all())
