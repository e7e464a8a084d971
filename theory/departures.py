"""Departures: the operations that a shape does not have, where a law needs a network of that shape."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, Node, Scale, Sum, Weighted
from reluctant.theory.operators import Bias, Convolution
from reluctant.theory.pooled import is_a_maximum
from reluctant.theory.structure import identity_skips, loses_paths

Departure = tuple[Node, str]


def from_counted(net: PathNetwork) -> Iterator[Departure]:
    """Yield what is in no shape whose paths are counted by a formula, with what it does.

    Args:
        net: Network; a chain, convolutions pooled over all positions, or dense layers with skips.
    """
    dense = not any(isinstance(node.operator, Convolution) for node in net.weighted)
    skips = {skip.node for skip in identity_skips(net)} if dense else set()
    first = next((n.operator.rows for n in net.weighted if not isinstance(n.operator, Bias)), 0)
    last = net.weighted[-1:]
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Weighted) and isinstance(node.operator, Convolution):
            yield from _departed(node, _of_a_window(net, node))
        elif skips and isinstance(node, Weighted) and not isinstance(node.operator, Bias):
            rows = node.operator.rows
            why = f"has {rows} units, the first layer {first}"
            yield from _departed(node, why if rows != first and (node,) != last else "")
        elif loses_paths(net, i):
            yield node, "chooses by a maximum" if isinstance(node, Gate) else "brings in zeros"
        elif i not in skips:
            yield from _departed(node, _of_a_join(net, node))


def from_pooled(net: PathNetwork, by: str) -> Iterator[Departure]:
    """Yield what is in no chain of convolutions that are pooled once, with what it does.

    Args:
        net: Network.
        by: "average" or "max", the pooling that is wanted.
    """
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Weighted) and isinstance(node.operator, Convolution):
            yield from _departed(node, _of_a_window(net, node, grouped=True))
        elif isinstance(node, Scale) and bool((node.factor != node.factor.flatten()[0]).any()):
            yield node, "multiplies by different constants"
        elif isinstance(node, Gate) and by == "average" and is_a_maximum(net, node.gate):
            yield node, "chooses by a maximum"
        else:
            yield from _departed(node, _of_a_join(net, node))


def _departed(node: Node, why: str) -> Iterator[Departure]:
    if why:
        yield node, why


def _of_a_window(net: PathNetwork, node: Weighted, *, grouped: bool = False) -> str:
    """Say what a convolution does beyond mixing a whole window at each position of the data."""
    operator = node.operator
    if operator.groups > 1 and not grouped:
        return "mixes its channels in groups"
    if any(before or after for _, _, _, before, after in operator.axes):
        return "pads with zeros"
    if any(stride > 1 for _, stride, *_ in operator.axes):
        return "leaves out positions"
    if operator.positions != net.input_shape[1:]:
        return "has another number of positions than the data"
    return ""


def _of_a_join(net: PathNetwork, node: Node) -> str:
    """Say whether an operation joins branches, or pools over fewer than all positions."""
    branches = [k for k in node.operands if not _is_bias(net.nodes[k])]
    if len(branches) > 1:
        return "joins branches"
    if not isinstance(node, Sum) or not node.axes:
        return ""
    is_whole = math.prod(node.shape) == math.prod(node.shape[:1])
    return "" if is_whole else "pools over fewer than all positions"


def _is_bias(node: Node) -> bool:
    return isinstance(node, Weighted) and isinstance(node.operator, Bias)
