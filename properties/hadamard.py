"""The kernel of a chain of dense layers as a product, Σ ⊙ Λ, with no propagation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gates
from reluctant.theory.structure import DenseChain


def entering(net: PathNetwork, x: Tensor) -> Float[Tensor, "n n_in"]:
    """Return what enters the paths: x, or a constant in its place."""
    flat = x.double().flatten(1)
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Constant) and node.is_input:
            flat = node.value.double().flatten()[None].expand(x.shape[0], -1)
    return flat


def input_gram(net: PathNetwork, x: Tensor) -> Float[Tensor, "n n"]:
    """Return Σ, the Gram matrix of what enters the paths."""
    flat = entering(net, x)
    return flat @ flat.T


def layer_gates(chain: DenseChain, gates: Gates) -> list[Tensor | None]:
    """Return the gates of each hidden layer, shape (n, width), None where a layer has none."""
    return [None if g is None else gates[g].double().flatten(1) for g in chain.gate_of]


def gate_overlap(layers: Sequence[Tensor | None], widths: Sequence[int]) -> Float[Tensor, "_ _"]:
    r"""Return Λ, the number of paths of a chain that both inputs activate, an input coordinate.

    .. math:: \Lambda(x, x') = \prod_l \langle G_l(x), G_l(x') \rangle

    Args:
        layers: Gates of each hidden layer, shape (n, width); None counts as all on.
        widths: Width of each hidden layer.

    Returns:
        Λ, shape (n, n), or (1, 1) if no layer has gates. Integers when the gates are hard.

    Source:
        npf, section 3.
    """
    total = torch.ones(1, 1, dtype=torch.float64)
    for g, width in zip(layers, widths, strict=True):
        total = total * (float(width) if g is None else g.double() @ g.double().T)
    return total
