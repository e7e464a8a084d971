"""Gates of own-gate layers, made anew from what arrives at them along other paths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gates


def following_gates(
    net: PathNetwork, x: Tensor, gates: Gates, weights: Sequence[Tensor]
) -> list[Tensor]:
    r"""Let the gates of a network's own ReLUs follow the weights, layer by layer.

    Args:
        net: Network, or a part of one: its nodes decide what arrives.
        x: Inputs, shape (n, \*input).
        gates: Gates to begin with; those of other layers are kept.
        weights: Weight tensors, one for each of the network's.

    Returns:
        Gates of all layers, as many as came.

    Cost:
        One forward pass a layer.
    """
    found = list(gates)
    for g in net.value_gates:
        layer = net.gate_layers[g]
        if layer.is_step and layer.own and layer.source is not None:
            q = net.forward(x.double(), found, weights, output=layer.source)
            found[g] = torch.where(q > 0, 1.0, layer.low().detach().to(q))
    return found
