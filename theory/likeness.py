"""Likeness: which networks are of one structure, so that what is found of one is known of the other."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, GateLayer, Node, Reindex, Scale, Sum, Weighted


def remember(net: PathNetwork, other: PathNetwork) -> PathNetwork:
    """Return a network that knows what was found of the structure of another, if it has the same.

    Args:
        net: Network, such as a module read again with other weights or another number of examples.
        other: Network of which something may be known.
    """
    if other.known and are_alike(net, other):
        object.__setattr__(net, "known", other.known)
    return net


def are_alike(net: PathNetwork, other: PathNetwork) -> bool:
    """Tell whether two networks have the same nodes, constants among them, and layers of gates.

    Weights are not compared. Gates that a graph of their own makes are not followed: networks that
    have some are alike only if they are one.

    Cost:
        All moves of entries, made for one example of each.
    """
    if net is other:
        return True
    if net.output != other.output or _named(net) != _named(other):
        return False
    layers = zip(net.gate_layers, other.gate_layers, strict=True)
    if any(a.kind == "mask" or not torch.equal(a.low(), b.low()) for a, b in layers):
        return False
    nodes = zip(net.nodes, other.nodes, strict=True)
    pairs = ((_moved(net, a), _moved(other, b)) for a, b in nodes)
    return all(a is None or b is None or torch.equal(a, b) for a, b in pairs)


def _named(net: PathNetwork) -> tuple[Any, ...]:
    """Return what has names and numbers: nodes, weights and layers of gates."""
    weights = [(weight.name, weight.shape) for weight in net.weights]
    return [_facts(node) for node in net.nodes], [_origin(g) for g in net.gate_layers], weights


def _facts(node: Node) -> tuple[Any, ...]:
    own: tuple[Any, ...] = ()
    if isinstance(node, Weighted):
        own = (node.operator, node.weight)
    elif isinstance(node, Sum):
        own = node.axes
    elif isinstance(node, Gate):
        own = (node.gate,)
    elif isinstance(node, Constant):
        own = (node.is_input,)
    return type(node), node.name, node.shape, node.operands, node.place, own


def _origin(layer: GateLayer) -> tuple[Any, ...]:
    return layer.name, layer.kind, layer.hard, layer.own, layer.source, layer.ties, layer.moves


def _moved(net: PathNetwork, node: Node) -> Tensor | None:
    """Return the constants of a node, or the codes that it moves to their places."""
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Scale):
        return node.factor
    if not isinstance(node, Reindex):
        return None
    codes, first = [], 1  # 0 is an entry from nowhere
    for k in node.operands:
        shape = net.nodes[k].shape
        codes.append(torch.arange(first, first + math.prod(shape)).reshape(1, *shape))
        first += math.prod(shape)
    return node.move(codes)
