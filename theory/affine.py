r"""The affine map of an activation region: what a piecewise affine network does around an input.

With its gates held a network is affine in the data, :math:`f(y) = W_{eff}\, y + b_{eff}`, and where
gates are constant between ties this is the network itself, in the whole region of the input.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reluctant.theory.errors import InputError
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gates
from reluctant.theory.recording import network_at, record
from reluctant.theory.twins import differentiable, twin

_AT_ONCE = 256  # examples whose maps are computed together


class AffineMap(NamedTuple):
    r"""Be the affine maps of the regions of n inputs.

    Attributes:
        weight: :math:`W_{eff}`, shape (n, outputs, \*input), outputs flattened.
        bias: :math:`b_{eff}`, shape (n, outputs).
    """

    weight: Float[Tensor, "n outputs *input"]
    bias: Float[Tensor, "n outputs"]

    def __call__(self, x: Tensor) -> Float[Tensor, "n outputs"]:
        r"""Return W x + b, row by row: each input by its own map.

        Args:
            x: Inputs, shape (n, \*input).
        """
        flat = self.weight.flatten(2)
        return torch.einsum("noi,ni->no", flat, x.to(flat).flatten(1)) + self.bias


def affine_map(module: nn.Module | PathNetwork, x: Tensor) -> AffineMap:
    r"""Return the affine map of the activation region of each input.

    .. math:: W_{eff} = \frac{\partial}{\partial y} \sum_p y(p_0)\, A(x, p)\, v_p, \qquad
        b_{eff} = \sum_{p \text{ from a source}} A(x, p)\, v_p

    The gates are those that the module's own arithmetic gives at x: of a ReLU 1{q > 0}, so 0 at a tie;
    of a leaky ReLU its slope there; of a max pooling the first winner, or equal parts (``amax``). At a
    tie the map is that of the region with these gates, which has x on its boundary. Gates from
    another network are held likewise. Paths that begin at a constant in place of the data are in
    the bias.

    Args:
        module: Module, or a network traced at the shape of x.
        x: Inputs, shape (n, \*input).

    Returns:
        Weight and bias, float64; W_eff x + b_eff is f(x) to within rounding.

    Raises:
        InputError: If gates are soft, so that no region is affine; names the first layer.

    Cost:
        One backward pass an output, for all inputs together.

    Source:
        clu, section 3, there for fully connected networks.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 1), nn.ReLU())
        >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0, -1.0]])), net[0].bias.data.fill_(0.5)
        >>> weight, bias = affine_map(net, torch.tensor([[2.0, 1.0], [4.0, 1.0]]))
        >>> weight.tolist(), bias.tolist()
        ([[[1.0, -1.0]], [[1.0, -1.0]]], [[0.5], [0.5]])
    """
    net = network_at(module, x)
    require_stepped(net)
    parts = []
    for some in x.split(_AT_ONCE):
        parts.append(affine_part(net, some, record(net, some), net.output))
    return AffineMap(torch.cat([w for w, _ in parts]), torch.cat([b for _, b in parts]))


def affine_part(
    net: PathNetwork, x: Tensor, gates: Gates, node: int, *, magnitudes: bool = False
) -> AffineMap:
    r"""Return the affine map from the data to a node, gates held.

    Args:
        net: Network.
        x: Inputs, shape (n, \*input), whose number and shape alone matter.
        gates: Gates, one layer each.
        node: Node, whose entries take the place of outputs.
        magnitudes: True takes weights, gates and constants in absolute value, for error bounds.
    """
    n, size = len(x), math.prod(net.nodes[node].shape)
    weights = [w.to(x.device) for w in net.weight_values()]
    held = [g.double() for g in gates]
    if magnitudes:
        weights, held = [w.abs() for w in weights], [g.abs() for g in held]
    constant = torch.abs if magnitudes else torch.clone
    origin = torch.zeros(x.shape, dtype=torch.float64, device=x.device, requires_grad=True)
    with torch.enable_grad():
        values = net.forward(
            origin, held, weights, constant=constant, magnitudes=magnitudes, output=node
        ).expand(n, *net.nodes[node].shape)
        flat = values.reshape(n, size)
        rows = [_derivative(column, origin) for column in flat.sum(0)] if size else []
    weight = torch.stack(rows, 1) if rows else origin.new_zeros(n, 0, *x.shape[1:])
    return AffineMap(weight.detach(), flat.detach())


def module_jacobian(module: nn.Module, x: Tensor) -> Float[Tensor, "n outputs *input"]:
    r"""Return the derivative of a module's outputs by its inputs, by automatic differentiation.

    Off ties it is W_eff, and it is computed by the module's own operations.

    Args:
        module: Module whose examples do not depend on each other; left as it is.
        x: Inputs, shape (n, \*input).

    Cost:
        One backward pass an output, for all inputs together.
    """
    with differentiable():
        data = x.detach().clone().requires_grad_()
        outputs: Tensor = twin(module)(data.clone()).reshape(len(x), -1)
        rows = [_derivative(column, data) for column in outputs.sum(0)]
    return torch.stack(rows, 1).double()


def _derivative(value: Tensor, origin: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(origin)
    (found,) = torch.autograd.grad(value, origin, retain_graph=True, materialize_grads=True)
    return found


def require_stepped(net: PathNetwork) -> None:
    """Raise unless every gate on the paths is constant between ties.

    Raises:
        InputError: Names the first layer whose gates are soft.
    """
    for g in net.value_gates:
        layer = net.gate_layers[g]
        if layer.moves:
            raise InputError(
                f"the gates of {layer.name} ({layer.place}) are soft: they move with their "
                "pre-activation, and no region is affine; make them hard"
            )
