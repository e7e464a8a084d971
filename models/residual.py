"""Residual networks with weight-free skips, fully connected and convolutional."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from reluctant.models.architectures import Architecture, flat_map
from reluctant.models.choices import one_of
from reluctant.models.convolutional import pooled, require_window, spatial_axes
from reluctant.models.gates import Activation, Ties
from reluctant.models.layers import (
    Padding,
    Pooling,
    make_convolution,
    make_linear,
    per_axis,
    positive,
)
from reluctant.theory.errors import InputError


class Residual(Architecture):
    r"""Put identity skips around the b middle ones of b + 2 blocks of gated layers.

    .. math:: z_{j+1} = \gamma_{post} (z_j + \gamma_{pre} B_j(z_j)), \qquad j = 1, \dots, b

    Each block has d_blk weighted layers with a gate after each; the very last layer of the last
    block is the output, without a gate. So there are (b + 2) d_blk weighted layers in all, and
    the sub-network that skips all blocks outside J has (|J| + 2) d_blk.

    Args:
        input_shape: (n_in,) for dense blocks; (channel, length) or (channel, height, width) for
            convolutional ones, where the output is dense, after the pooling.
        width: Width, or number of filters, of every hidden layer.
        outputs: Number of outputs.
        skips: b ≥ 0.
        block_layers: d_blk ≥ 1.
        window: Window of the convolutions.
        padding: Circular, or zeros.
        pool: Global average, global max, or none (flatten), before the output.
        ties: Convention of the max pooling.
        pre_scale: γ_pre, constant.
        post_scale: γ_post, constant.
        bias: Whether the layers have biases.
        batch_norm: Whether a BatchNorm stands before each gate.
        dtype: Type of the parameters.

    Raises:
        InputError: If a size is out of range or the window does not fit.

    Source:
        dlgn, section 4.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        width: int,
        outputs: int = 1,
        *,
        skips: int = 1,
        block_layers: int = 1,
        window: int | Sequence[int] = 3,
        padding: Padding | str = Padding.CIRCULAR,
        pool: Pooling | str = Pooling.AVERAGE,
        ties: Ties | str = Ties.SHARED,
        pre_scale: float = 1.0,
        post_scale: float = 1.0,
        bias: bool = False,
        batch_norm: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Check the arguments and make the parts."""
        positive("input_shape", *input_shape)
        positive("width", width)
        positive("outputs", outputs)
        positive("block_layers", block_layers)
        if skips < 0:
            raise InputError(f"skips needs an integer of at least 0, but got {skips}")
        super().__init__()
        self.input_shape = tuple(input_shape)
        self.skips, self.block_layers, self.width = skips, block_layers, width
        self.pre_scale, self.post_scale = pre_scale, post_scale
        self.padding, self.pool, self.ties = (
            one_of(Padding, padding),
            one_of(Pooling, pool),
            one_of(Ties, ties),
        )
        self.window: tuple[int, ...] | None = None
        if len(self.input_shape) > 1:
            self.window = per_axis("window", window, spatial_axes(self.input_shape))
            require_window(self.window, self.input_shape[1:], self.padding)
        gated = (skips + 2) * block_layers - 1
        fans = (input_shape[0], *(width,) * gated)
        self.hidden = nn.ModuleList(
            self._weighted(fan, bias, batch_norm, dtype) for fan in fans[:gated]
        )
        shape = (width, *self.input_shape[1:])
        self.gate_shapes = tuple(shape for _ in range(gated))
        is_pooled = self.window is not None and self.pool is not Pooling.FLATTEN
        n_pooled = width if is_pooled else torch.Size(shape).numel()
        self.output = make_linear(n_pooled, outputs, bias=bias, dtype=dtype)
        if self.window is not None and self.pool is Pooling.MAX:
            self.pooled_layer = gated - 1

    def features(self, x: Tensor, activation: Activation) -> Tensor:
        """Return what the output layer is given, (n, width)."""
        return self.features_through(None, x, activation)

    def features_through(
        self, kept: frozenset[int] | None, x: Tensor, activation: Activation
    ) -> Tensor:
        """Do what :meth:`features` does along some paths only.

        Args:
            kept: J: each block in it is gone through, each other one is skipped; None: both ways.
            x: (n, *input_shape).
            activation: As for :meth:`forward`; layers keep their numbers.
        """
        z = self._block(0, x, activation)
        for block in range(1, self.skips + 1):
            if kept is None or block in kept:
                branch = self._block(block, z, activation)
                branch = branch if self.pre_scale == 1.0 else self.pre_scale * branch
                z = branch if kept is not None else z + branch
            z = z if self.post_scale == 1.0 else self.post_scale * z
        z = self._block(self.skips + 1, z, activation)
        return z if self.window is None else pooled(z, self.pool, self.ties, activation)

    def sub_network(self, kept: Iterable[int]) -> SubNetwork:
        """Return the network of the paths that go through the blocks in J and skip the others.

        Args:
            kept: J, a set of numbers from 1 to b.

        Returns:
            A network that holds this one and shares its weights. Its gate layers are numbered as
            here, so the gates of the whole network fit it.

        Raises:
            InputError: If a number is out of range.

        Source:
            dlgn, section 4; statement skip.output-ensemble.
        """
        return SubNetwork(self, kept)

    def shallow_maps(self, bias: bool, dtype: torch.dtype | None) -> list[nn.Module]:
        """Make one map of the same kind and window to each gate layer, with no skips."""
        channels = self.input_shape[0]
        if self.window is None:
            return [flat_map(self.input_shape, self.width, bias, dtype) for _ in self.gate_shapes]
        return [self._weighted(channels, bias, False, dtype) for _ in self.gate_shapes]

    def _weighted(
        self, fan: int, bias: bool, batch_norm: bool, dtype: torch.dtype | None
    ) -> nn.Module:
        if self.window is None:
            return make_linear(fan, self.width, bias=bias, batch_norm=batch_norm, dtype=dtype)
        return make_convolution(
            fan, self.width, self.window, (1,) * len(self.window), self.padding,
            bias=bias, batch_norm=batch_norm, dtype=dtype,
        )  # fmt: skip

    def _block(self, block: int, z: Tensor, activation: Activation) -> Tensor:
        first = block * self.block_layers
        for layer in range(first, min(first + self.block_layers, len(self.hidden))):
            z = activation(layer, self.hidden[layer](z))
        return z


class SubNetwork(Architecture):
    """Be one term of the ensemble that a residual network is.

    Args:
        whole: The residual network, held and not copied.
        kept: Blocks that are gone through.

    Raises:
        InputError: If a number is not between 1 and b.
    """

    def __init__(self, whole: Residual, kept: Iterable[int]) -> None:
        """Check the arguments and make the parts."""
        super().__init__()
        self.kept = frozenset(kept)
        if not self.kept <= set(range(1, whole.skips + 1)):
            raise InputError(
                f"a sub-network keeps blocks from 1 to {whole.skips}, but got {sorted(self.kept)}; "
                "the first and the last block always stay"
            )
        self.whole = whole
        self.output = whole.output
        self.input_shape, self.gate_shapes = whole.input_shape, whole.gate_shapes
        self.pooled_layer = whole.pooled_layer

    def features(self, x: Tensor, activation: Activation) -> Tensor:
        """Return what the output layer is given, (n, width)."""
        return self.whole.features_through(self.kept, x, activation)

    def shallow_maps(self, bias: bool, dtype: torch.dtype | None) -> list[nn.Module]:
        """Make the maps of the whole network."""
        return self.whole.shallow_maps(bias, dtype)
