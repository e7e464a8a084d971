"""Networks written once: each asks a callable what to do at its gates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reluctant.models.gates import Activation, OwnGates
from reluctant.models.layers import make_linear, positive
from reluctant.theory.errors import InputError

RELU = OwnGates()


class Architecture(nn.Module, ABC):
    """Be a network whose gates are decided elsewhere; called on x alone it is the ReLU network.

    Attributes:
        input_shape: Shape of one input, without the batch.
        gate_shapes: Shape of one input's pre-activations, one entry a gate layer.
        pooled_layer: Gate layer right before a global max pooling; None without one.
        output: Last weighted layer, the only one that no gate follows.
    """

    input_shape: tuple[int, ...]
    gate_shapes: tuple[tuple[int, ...], ...]
    pooled_layer: int | None = None
    output: nn.Module

    @abstractmethod
    def features(self, x: Tensor, activation: Activation) -> Tensor:
        """Return what the last weighted layer is given."""

    @abstractmethod
    def shallow_maps(self, bias: bool, dtype: torch.dtype | None) -> list[nn.Module]:
        """Make one linear map from the input to each gate layer, weights still to be drawn."""

    def forward(self, x: Tensor, activation: Activation = RELU) -> Tensor:
        """Return the outputs.

        Args:
            x: (n, *input_shape), floating.
            activation: Called with the index of the gate layer and its pre-activations.

        Returns:
            (n, outputs).

        Raises:
            InputError: If x has another shape or is not floating.
        """
        self.require_input(x)
        output: Tensor = self.output(self.features(x, activation))
        return output

    def require_input(self, x: Tensor) -> None:
        """Refuse an input of another shape, or one that is not floating.

        Raises:
            InputError: Says what was expected and what came.
        """
        if tuple(x.shape[1:]) != self.input_shape or x.dim() != 1 + len(self.input_shape):
            expected = ", ".join(("n", *map(str, self.input_shape)))
            raise InputError(
                f"{type(self).__name__} expects inputs of shape ({expected}), but got "
                f"{tuple(x.shape)}; add a batch axis or reshape"
            )
        if not x.is_floating_point():
            raise InputError(
                f"{type(self).__name__} expects floating inputs, but got {x.dtype}; convert with "
                "x.to(next(network.parameters()).dtype)"
            )


class FullyConnected(Architecture):
    r"""Stack dense layers with a gate after each but the last.

    .. math:: z_l = G_l \odot (W_l z_{l-1} + b_l), \qquad f = W_d z_{d-1} + b_d

    Args:
        input_shape: Shape of one input; more than one axis is flattened.
        widths: Width of each of the d − 1 hidden layers; may be empty.
        outputs: Number of outputs.
        bias: Whether the layers have biases.
        batch_norm: Whether a BatchNorm stands before each gate.
        dtype: Type of the parameters.

    Raises:
        InputError: If a size is not a positive integer.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        widths: Sequence[int],
        outputs: int = 1,
        *,
        bias: bool = False,
        batch_norm: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Check the arguments and make the parts."""
        positive("input_shape", *input_shape)
        positive("widths", *widths)
        positive("outputs", outputs)
        super().__init__()
        self.input_shape = tuple(input_shape)
        self.gate_shapes = tuple((width,) for width in widths)
        n_in = torch.Size(input_shape).numel()
        fans = (n_in, *widths)
        self.hidden = nn.ModuleList(
            make_linear(a, b, bias=bias, batch_norm=batch_norm, dtype=dtype)
            for a, b in zip(fans[:-1], widths, strict=True)
        )
        self.output = make_linear(fans[-1], outputs, bias=bias, dtype=dtype)

    def features(self, x: Tensor, activation: Activation) -> Tensor:
        """Return the last hidden layer, (n, width)."""
        z = x.flatten(1) if x.dim() > 2 else x
        for layer, weighted in enumerate(self.hidden):
            z = activation(layer, weighted(z))
        return z

    def shallow_maps(self, bias: bool, dtype: torch.dtype | None) -> list[nn.Module]:
        """Make one dense map from the flattened input to each hidden layer."""
        return [flat_map(self.input_shape, shape[0], bias, dtype) for shape in self.gate_shapes]


def flat_map(
    input_shape: Sequence[int], width: int, bias: bool, dtype: torch.dtype | None
) -> nn.Module:
    """Make a dense map of the whole input."""
    linear = make_linear(torch.Size(input_shape).numel(), width, bias=bias, dtype=dtype)
    return linear if len(input_shape) == 1 else nn.Sequential(nn.Flatten(), linear)
