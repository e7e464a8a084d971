"""Tensors of path values: one free number for each way through the gates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from reluctant.models.architectures import Architecture, FullyConnected, flat_map
from reluctant.models.gates import Activation
from reluctant.models.laws import weighted_layers
from reluctant.theory.errors import InputError

_MOST = 10**8  # numbers, 0.4 GB in float32


class ValueTensor(Architecture):
    r"""Weigh every choice of one gate a layer by a number of its own.

    .. math:: f(x) = \Big\langle V, \bigotimes_l G_l(x) \Big\rangle,
        \qquad V_{i_1 \dots i_{d-1}} = v_{i_{d-1}} \cdots (W_2)_{i_2 i_1} (W_1 \mathbf{1})_{i_1}

    The input has no part in it but through the gates.

    Args:
        network: Fully connected, without biases and batch norm. V starts at the values of its
            paths from an input of ones; nothing of it is held.

    Raises:
        InputError: If the network is another, has no hidden layer, or V would have more than a
            hundred million numbers.

    Source:
        dlgn, section 5; statement dlgn.shallow-contained.
    """

    def __init__(self, network: Architecture) -> None:
        """Check the network and multiply its weights."""
        if not isinstance(network, FullyConnected) or not network.gate_shapes:
            raise InputError(
                f"a value tensor is of a fully connected network with a hidden layer, but got "
                f"{type(network).__name__} of {len(network.gate_shapes)} gate layers; use make_fc"
            )
        weights = [layer.weight.detach() for layer in weighted_layers(network)]
        if len(list(network.parameters())) != len(weights):
            raise InputError(
                "a value tensor has no place for biases and batch norm; build the network without"
            )
        widths = [width for (width,) in network.gate_shapes]
        outputs, products = len(weights[-1]), math.prod(widths)
        if outputs * products > _MOST:
            raise InputError(
                f"a value tensor of widths {widths} and {outputs} outputs has {outputs * products} "
                f"numbers, more than {_MOST}; take fewer or narrower layers"
            )
        super().__init__()
        self.input_shape, self.gate_shapes = network.input_shape, network.gate_shapes
        values = weights[0].sum(1)  # (unit of layer 1)
        for weight in weights[1:]:
            values = values.unsqueeze(-1) * weight.T  # (unit of layer 1, …, unit of layer l)
        self.values = nn.Linear(1, outputs * products, bias=False, device="meta")
        self.values.weight = nn.Parameter(values.reshape(products, outputs).T.reshape(-1, 1))
        self.output = nn.Identity()

    def features(self, x: Tensor, activation: Activation) -> Tensor:
        """Return the outputs, (n, outputs): V, contracted with the gates of one layer at a time."""
        z = self.values(x.new_ones(x.shape[0], 1))
        for layer, (width,) in reversed(list(enumerate(self.gate_shapes))):
            gates = activation(layer, x.new_ones(x.shape[0], width))
            z = (z.unflatten(1, (-1, width)) * gates.unsqueeze(1)).sum(2)
        output: Tensor = z
        return output

    def shallow_maps(self, bias: bool, dtype: torch.dtype | None) -> list[nn.Module]:
        """Make one dense map from the flattened input to each layer of gates."""
        return [flat_map(self.input_shape, width, bias, dtype) for (width,) in self.gate_shapes]
