"""Convolutions, one pooling over all positions, dense layers: where the convolutional laws hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from reluctant.theory.mask_labels import MaskReader
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Gates, Input, Reindex, Scale, Sum, Weighted
from reluctant.theory.operators import Bias, Convolution, Dense

_MAXIMA = ("amax", "argmax", "max.dim", "max_pool")


@dataclass(frozen=True, slots=True)
class PooledChain:
    """Be a chain of convolutions of stride 1, one pooling over all positions, and dense layers.

    Attributes:
        convolutions: Their weighted nodes, first to last.
        dense: The dense layers' weighted nodes, first to last; the last one makes the output.
        positions: Number of positions that are pooled.
        by: "average", or "max" for a mask over the positions and a sum.
        pool: Node of the sum over positions.
        picks: Node that multiplies by the mask of a maximum; None for an average.
    """

    convolutions: tuple[int, ...]
    dense: tuple[int, ...]
    positions: int
    by: Literal["average", "max"]
    pool: int
    picks: int | None


def pooled_chain(net: PathNetwork) -> PooledChain | None:
    """Return the chain that a network is, None if it is none."""
    convolutions: list[int] = []
    dense: list[int] = []
    factor, pool = 1.0, None
    i = net.output
    while not isinstance(net.nodes[i], Input | Constant):
        node = net.nodes[i]
        below = [k for k in node.operands if not _is_bias(net, k)]
        if len(below) != 1:
            return None
        if isinstance(node, Weighted) and isinstance(node.operator, Dense):
            if pool is not None or node.operator.positions:
                return None
            dense.append(i)
        elif isinstance(node, Weighted):
            if pool is None or not _keeps_positions(net, node):
                return None
            convolutions.append(i)
        elif isinstance(node, Scale):
            if bool((node.factor != node.factor.flatten()[0]).any()):
                return None
            factor *= float(node.factor.flatten()[0])
        elif isinstance(node, Sum) and node.axes:
            if pool is not None or not dense:
                return None
            pool = i
        i = below[0]
    if (
        pool is None
        or not convolutions
        or (isinstance(net.nodes[i], Constant) and not getattr(net.nodes[i], "is_input", False))
    ):
        return None
    positions = math.prod(net.input_shape[1:])
    node = net.nodes[pool]
    assert isinstance(node, Sum)
    shape = net.nodes[node.operands[0]].shape
    whole = math.prod(shape[a] for a in node.axes) == positions
    picks = _picking(net, pool)
    expected = 1.0 if picks is not None else 1.0 / positions
    if (
        not whole
        or factor != expected
        or math.prod(shape) != positions * _rows(net, convolutions[0])
    ):
        return None
    by: Literal["average", "max"] = "average" if picks is None else "max"
    return PooledChain(
        tuple(reversed(convolutions)), tuple(reversed(dense)), positions, by, pool, picks
    )


def _rows(net: PathNetwork, i: int) -> int:
    node = net.nodes[i]
    assert isinstance(node, Weighted)
    return node.operator.rows


def _is_bias(net: PathNetwork, i: int) -> bool:
    node = net.nodes[i]
    return isinstance(node, Weighted) and isinstance(node.operator, Bias)


def _keeps_positions(net: PathNetwork, node: Weighted) -> bool:
    operator = node.operator
    return (
        isinstance(operator, Convolution)
        and operator.positions == net.input_shape[1:]
        and all(
            stride == 1 and before == after == 0 for _, stride, _, before, after in operator.axes
        )
    )


def _picking(net: PathNetwork, pool: int) -> int | None:
    """Return the node before a sum over positions that multiplies by the mask of a maximum."""
    i = net.nodes[pool].operands[0]
    while isinstance(net.nodes[i], Reindex) and len(net.nodes[i].operands) == 1:
        i = net.nodes[i].operands[0]
    node = net.nodes[i]
    if not isinstance(node, Gate):
        return None
    return i if is_a_maximum(net, node.gate) else None


def is_a_maximum(net: PathNetwork, layer: int) -> bool:
    """Tell whether a layer of gates marks where a maximum is attained."""
    if net.gate_layers[layer].kind != "mask":
        return net.gate_layers[layer].kind == "max"
    reader = MaskReader(net, net.input_shape[1:])
    todo, seen = [net.gate_layers[layer].made_by], set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if any(word in str(reader.graph[name].target) for word in _MAXIMA):
            return True
        if reader.node_of(name) is None:
            todo.extend(n.name for n in reader.graph[name].all_input_nodes)
    return False


def winners_layer(net: PathNetwork, chain: PooledChain) -> int:
    """Return the gate layer that is the mask of the maximum."""
    assert chain.picks is not None
    node = net.nodes[chain.picks]
    assert isinstance(node, Gate)
    return node.gate


def without_factor(net: PathNetwork) -> PathNetwork:
    """Return the network with its constant factors taken out, so that averages become sums."""
    nodes = [
        replace(n, factor=torch.ones_like(n.factor)) if isinstance(n, Scale) else n
        for n in net.nodes
    ]
    return replace(net, nodes=tuple(nodes))


def fed(net: PathNetwork, value: Tensor) -> PathNetwork:
    """Return the network with a tensor in place of the constants that feed it."""
    nodes = [
        replace(n, value=value.expand(n.shape), magnitude=value.abs().expand(n.shape))
        if isinstance(n, Constant) and n.is_input
        else n
        for n in net.nodes
    ]
    return replace(net, nodes=tuple(nodes))


def candidates(
    net: PathNetwork, chain: PooledChain, x: Tensor, gates: Gates
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a global maximum chooses from.

    Args:
        net: Network.
        chain: Its shape, pooled by a maximum.
        x: Inputs.
        gates: Recorded gates.

    Returns:
        The compared entries, the absolute sums that bound their rounding, and the absolute sums of
        the entries that the mask multiplies; each of shape (n, candidate, channel).
    """
    assert chain.picks is not None
    (below,) = net.nodes[chain.picks].operands
    layer = net.gate_layers[winners_layer(net, chain)]
    compared = below if layer.kind == "max" else layer.source
    assert compared is not None
    weights = net.weight_values()

    def size(i: int) -> Tensor:
        absolute = [w.abs() for w in weights]
        return net.forward(
            x.double().abs(), gates, absolute, constant=torch.abs, magnitudes=True, output=i
        )

    found = net.forward(x.double(), gates, weights, output=compared), size(compared), size(below)
    if layer.kind == "max":
        return found[0].flatten(2), found[1].flatten(2), found[2].flatten(2)
    first, second, third = (t.flatten(2).transpose(1, 2) for t in found)
    return first, second, third


def first_winners(net: PathNetwork, chain: PooledChain, gates: Gates) -> list[Tensor]:
    """Return the gates with the maximum's mask left to the first of its winners."""
    layer = winners_layer(net, chain)
    mask, own = gates[layer], net.gate_layers[layer].kind == "max"
    flat = mask.flatten(2) if own else mask.flatten(2).transpose(1, 2)  # (n, candidate, channel)
    first = torch.zeros_like(flat).scatter_(1, (flat > 0).to(flat).argmax(1, keepdim=True), 1.0)
    back = first if own else first.transpose(1, 2)
    return [back.reshape(mask.shape) if k == layer else g for k, g in enumerate(gates)]
