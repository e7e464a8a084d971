"""Ready-made ReLU networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reluctant.models.architectures import FullyConnected
from reluctant.models.convolutional import Convolutional
from reluctant.models.gates import Ties
from reluctant.models.laws import Law, he, initialise
from reluctant.models.layers import Padding, Pooling
from reluctant.models.residual import Residual
from reluctant.models.staged import Stage, Staged

HE = he()


def make_fc(
    input_shape: int | Sequence[int],
    widths: Sequence[int],
    outputs: int = 1,
    *,
    generator: torch.Generator,
    law: Law = HE,
    bias: bool = False,
    batch_norm: bool = False,
    dtype: torch.dtype | None = None,
) -> FullyConnected:
    """Make a fully connected network with drawn weights; called on x it is the ReLU network.

    Args:
        input_shape: n_in, or the shape of one input, which is flattened.
        widths: Width of each hidden layer.
        outputs: Number of outputs.
        generator: Source of the weights.
        law: Law of the weights.
        bias: Whether layers have biases (zero unless the law says otherwise).
        batch_norm: Whether a BatchNorm stands before each gate.
        dtype: Type of the parameters; torch's default if None.

    Returns:
        The network, in training mode as torch modules are; it matters with batch norm only.

    Raises:
        InputError: If a size is out of range.

    Example:
        >>> net = make_fc(3, [4, 4], 2, generator=torch.Generator().manual_seed(0))
        >>> net(torch.ones(5, 3)).shape
        torch.Size([5, 2])
    """
    shape = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
    network = FullyConnected(shape, widths, outputs, bias=bias, batch_norm=batch_norm, dtype=dtype)
    initialise(network, law, generator)
    return network


def make_conv(
    input_shape: Sequence[int],
    widths: Sequence[int],
    outputs: int = 1,
    *,
    generator: torch.Generator,
    law: Law = HE,
    dense: Sequence[int] = (),
    window: int | Sequence[int] = 3,
    stride: int | Sequence[int] = 1,
    padding: Padding | str = Padding.CIRCULAR,
    pool: Pooling | str = Pooling.AVERAGE,
    ties: Ties | str = Ties.SHARED,
    bias: bool = False,
    batch_norm: bool = False,
    dtype: torch.dtype | None = None,
) -> Convolutional:
    """Make a convolutional network with drawn weights; called on x it is the ReLU network.

    Args:
        input_shape: (channel, length) or (channel, height, width).
        widths: Filters of each convolution.
        outputs: Number of outputs.
        generator: Source of the weights.
        law: Law of the weights.
        dense: Widths of hidden dense layers after the pooling.
        window: Window size, one or one a spatial axis.
        stride: Stride, one or one a convolution.
        padding: ``circular`` or ``zero``.
        pool: ``average``, ``max`` or ``flatten``.
        ties: ``shared`` or ``first``, where several positions attain the maximum.
        bias: Whether layers have biases.
        batch_norm: Whether a BatchNorm stands before each gate.
        dtype: Type of the parameters; torch's default if None.

    Returns:
        The network.

    Raises:
        InputError: If a size is out of range or a window does not fit.
    """
    network = Convolutional(
        input_shape, widths, outputs, dense=dense, window=window, stride=stride, padding=padding,
        pool=pool, ties=ties, bias=bias, batch_norm=batch_norm, dtype=dtype,
    )  # fmt: skip
    initialise(network, law, generator)
    return network


def make_residual(
    input_shape: int | Sequence[int],
    width: int,
    outputs: int = 1,
    *,
    generator: torch.Generator,
    law: Law = HE,
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
) -> Residual:
    """Make a residual network of skips + 2 blocks; called on x it is the ReLU network.

    Args:
        input_shape: n_in for dense blocks, (channel, *positions) for convolutional ones.
        width: Width of every hidden layer.
        outputs: Number of outputs.
        generator: Source of the weights.
        law: Law of the weights.
        skips: b, number of identity skips.
        block_layers: d_blk, weighted layers a block.
        window: Window size of convolutional blocks.
        padding: ``circular`` or ``zero``.
        pool: ``average``, ``max`` or ``flatten``, before the output of convolutional blocks.
        ties: ``shared`` or ``first``.
        pre_scale: Constant before each addition.
        post_scale: Constant after each addition.
        bias: Whether layers have biases.
        batch_norm: Whether a BatchNorm stands before each gate.
        dtype: Type of the parameters; torch's default if None.

    Returns:
        The network.

    Raises:
        InputError: If a size is out of range or the window does not fit.
    """
    shape = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
    network = Residual(
        shape, width, outputs, skips=skips, block_layers=block_layers, window=window,
        padding=padding, pool=pool, ties=ties, pre_scale=pre_scale, post_scale=post_scale,
        bias=bias, batch_norm=batch_norm, dtype=dtype,
    )  # fmt: skip
    initialise(network, law, generator)
    return network


def make_staged(
    input_shape: Sequence[int],
    stages: Sequence[Stage],
    outputs: int = 1,
    *,
    generator: torch.Generator,
    law: Law = HE,
    window: int | Sequence[int] = 3,
    padding: Padding | str = Padding.CIRCULAR,
    output_scale: float = 1.0,
    bias: bool = False,
    batch_norm: bool = False,
    dtype: torch.dtype | None = None,
) -> Staged:
    """Make a network in stages with drawn weights; called on x it is the ReLU network.

    Args:
        input_shape: (channel, length) or (channel, height, width).
        stages: Convolutions, strides, poolings and skips.
        outputs: Number of outputs.
        generator: Source of the weights.
        law: Law of the weights.
        window: Window size, one or one a spatial axis.
        padding: ``circular`` or ``zero``.
        output_scale: Constant on what the last layer is given.
        bias: Whether layers have biases.
        batch_norm: Whether a BatchNorm follows each convolution.
        dtype: Type of the parameters; torch's default if None.

    Returns:
        The network.

    Raises:
        InputError: As :class:`Staged` does.
    """
    network = Staged(
        input_shape, stages, outputs, window=window, padding=padding, output_scale=output_scale,
        bias=bias, batch_norm=batch_norm, dtype=dtype,
    )  # fmt: skip
    initialise(network, law, generator)
    return network
