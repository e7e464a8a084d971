"""Ready-made networks by name: plain ReLU ones, and their gated twins."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reluctant.models.architectures import Architecture, FullyConnected
from reluctant.models.convolutional import Convolutional
from reluctant.models.gated import GatedNetwork, ValueInput
from reluctant.models.gates import HARD, FeatureActivation, GateForm, Soft, Ties
from reluctant.models.laws import Law, he, initialise
from reluctant.models.layers import Padding, Pooling
from reluctant.models.regimes import Regime, make_features
from reluctant.models.residual import Residual
from reluctant.models.sources import ShallowMaps

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


def make_dgn(
    value: Architecture,
    regime: Regime | str = Regime.DLNPF,
    *,
    generator: torch.Generator,
    law: Law = HE,
    gate: GateForm | None = None,
    kind: FeatureActivation | str = FeatureActivation.RELU,
    learnt: Architecture | None = None,
    dependent: bool = False,
    order: Sequence[int] | None = None,
    value_input: ValueInput | str = ValueInput.X,
) -> GatedNetwork:
    """Make a deep gated network: the value network gated by a feature network of its shape.

    Args:
        value: Value network. It is held, not copied, and keeps its weights.
        regime: FRNPF(II), FRNPF(DI), DLNPF or FLNPF.
        generator: Source of independent feature weights.
        law: Law of independent feature weights.
        gate: Hard or Soft; None for the regime's own: Soft(4, 0.1) where features train (a hard
            gate lets no gradient through), HARD where they are fixed.
        kind: relu, gated, or identity (then it is a DLGN).
        learnt: Trained network, for FLNPF.
        dependent: For DLNPF: start the features at the value network's weights.
        order: Permutation of the gate layers.
        value_input: ``x`` or ``ones``.

    Returns:
        The network.

    Raises:
        InputError: As :func:`make_features` and :class:`GatedNetwork` do.

    Source:
        npf, section 5.
    """
    features = make_features(
        value, regime, generator=generator, law=law, kind=kind, learnt=learnt, dependent=dependent
    )
    form = gate if gate is not None else (HARD if features.frozen else Soft(4.0, 0.1))
    return GatedNetwork(value, features, form, order=order, value_input=value_input)


def make_dlgn(
    value: Architecture,
    regime: Regime | str = Regime.DLNPF,
    *,
    generator: torch.Generator,
    law: Law = HE,
    gate: GateForm | None = None,
    learnt: Architecture | None = None,
    dependent: bool = False,
    order: Sequence[int] | None = None,
    value_input: ValueInput | str = ValueInput.X,
) -> GatedNetwork:
    """Make a deep linearly gated network: a DGN whose feature network has no gates.

    Args:
        value: Value network. It is held, not copied, and keeps its weights.
        regime: As for :func:`make_dgn`.
        generator: Source of independent feature weights.
        law: Law of independent feature weights.
        gate: Hard or Soft; None for Soft(10) where features train and HARD where they are fixed.
        learnt: Trained network, for FLNPF.
        dependent: For DLNPF: start the features at the value network's weights.
        order: Permutation of the gate layers.
        value_input: ``x`` or ``ones``.

    Returns:
        The network. A global max pooling is a mean inside its feature network.

    Raises:
        InputError: As :func:`make_features` and :class:`GatedNetwork` do.

    Source:
        dlgn, section 5; β = 10 in its section 6.
    """
    features = make_features(
        value, regime, generator=generator, law=law, kind=FeatureActivation.IDENTITY,
        learnt=learnt, dependent=dependent,
    )  # fmt: skip
    form = gate if gate is not None else (HARD if features.frozen else Soft(10.0))
    return GatedNetwork(value, features, form, order=order, value_input=value_input)


def make_dlgn_sf(
    value: Architecture,
    *,
    generator: torch.Generator,
    law: Law = HE,
    gate: GateForm | None = None,
    bias: bool = False,
    frozen: bool = False,
    order: Sequence[int] | None = None,
    value_input: ValueInput | str = ValueInput.X,
) -> GatedNetwork:
    """Make a DLGN with shallow features: one linear map of the input for each gate layer.

    Args:
        value: Value network. It is held, not copied, and keeps its weights.
        generator: Source of the maps' weights.
        law: Law of the maps' weights.
        gate: Hard or Soft; None for Soft(10) where the maps train and HARD where they are fixed.
        bias: Whether the maps have biases.
        frozen: Whether the maps stay as they start.
        order: Permutation of the gate layers.
        value_input: ``x`` or ``ones``.

    Returns:
        The network.

    Raises:
        InputError: As :class:`GatedNetwork` does.

    Source:
        dlgn, section 6.
    """
    dtype = next(value.parameters()).dtype
    maps = ShallowMaps(value, bias=bias, frozen=frozen, dtype=dtype)
    initialise(maps, law, generator)
    form = gate if gate is not None else (HARD if frozen else Soft(10.0))
    return GatedNetwork(value, maps, form, order=order, value_input=value_input)
