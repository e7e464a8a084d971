"""What a path network can be evaluated on: data, gates and weights that fit it and each other."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex

from torch import Tensor

from reluctant.theory.errors import InputError
from reluctant.theory.finite import is_finite
from reluctant.theory.inputs import check_example
from reluctant.theory.nodes import Gates

if TYPE_CHECKING:
    from reluctant.theory.network import PathNetwork


def check_batch(net: PathNetwork, x: Tensor) -> None:
    """Raise unless x is a batch of inputs of the shape at which a network was read.

    Args:
        net: Network.
        x: Inputs.

    Raises:
        InputError: Says what came instead.
    """
    check_example(x, "the input")
    if tuple(x.shape[1:]) != net.input_shape:
        raise InputError(
            f"this path network reads examples of shape {net.input_shape}, got {tuple(x.shape)}; "
            "trace the module at that shape"
        )


def check_output(net: PathNetwork, output: int) -> int:
    """Return the number of an output coordinate, counted from 0.

    Raises:
        InputError: If it is no number, or there is no such output.
    """
    if not isinstance(output, SupportsIndex):
        raise InputError(
            f"output must be the number of an output coordinate, got {output!r}; the network has "
            f"{net.output_size} of them"
        )
    if not -net.output_size <= operator.index(output) < net.output_size:
        raise InputError(
            f"output {output} does not exist: the network has {net.output_size} output coordinates"
        )
    return operator.index(output) % net.output_size


def check_operands(
    net: PathNetwork, x: Tensor, gates: Gates | None, weights: Sequence[Tensor]
) -> None:
    """Raise unless x, gates and weights fit a network, and each other.

    Raises:
        InputError: Names the first that does not.
    """
    if not isinstance(x, Tensor):
        raise InputError(f"the input must be a torch.Tensor, got {type(x).__name__}")
    if tuple(x.shape[1:]) != net.input_shape or x.ndim == 0 or x.shape[0] == 0:
        raise InputError(
            f"the input has shape {tuple(x.shape)}, but the network was read at "
            f"(n, {', '.join(map(str, net.input_shape))}) with n >= 1; trace the module again for "
            "another shape"
        )
    if len(weights) != len(net.weights):
        raise InputError(
            f"the network has {len(net.weights)} weight tensors, got {len(weights)}; "
            "pass as many as weight_values() gives"
        )
    for known, weight in zip(net.weights, weights, strict=True):
        if tuple(weight.shape) != known.shape:
            raise InputError(
                f"{known.name} has shape {known.shape}, got {tuple(weight.shape)} for it"
            )
        if (weight.dtype, weight.device) != (x.dtype, x.device):
            raise InputError(
                f"{known.name} is given as {weight.dtype} on {weight.device}, but the input is "
                f"{x.dtype} on {x.device}; convert one, for instance with x.to(weight)"
            )
    if gates is not None and len(gates) != len(net.gate_layers):
        raise InputError(
            f"the network has {len(net.gate_layers)} layers of gates, got {len(gates)}; "
            "pass as many as gates() gives"
        )
    for layer, gate in zip(net.gate_layers, gates or (), strict=False):
        if gate.shape[0] not in (1, x.shape[0]):
            raise InputError(
                f"the gates of {layer.name} are those of {gate.shape[0]} inputs, got {x.shape[0]} "
                "inputs; record them on the same inputs"
            )


def check_weights(net: PathNetwork) -> None:
    """Raise if a weight of the network is not finite.

    Raises:
        InputError: Names the first parameter that holds NaN or infinity.
    """
    for weight in net.weights:
        if not is_finite(weight.value()):
            raise InputError(
                f"{weight.name} holds NaN or infinite values; a path network needs finite weights: "
                "reload or re-initialise the module"
            )
