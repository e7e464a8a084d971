"""Ready-made gated networks: what makes the gates of a given value network."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reluctant.models.architectures import Architecture
from reluctant.models.builders import HE
from reluctant.models.gated import GatedNetwork, ValueInput
from reluctant.models.gates import HARD, FeatureActivation, GateForm, Soft
from reluctant.models.laws import Law, initialise
from reluctant.models.regimes import Regime, make_features
from reluctant.models.sources import RecordedMasks, ShallowMaps
from reluctant.models.value_tensors import ValueTensor


def make_deep_linear(value: Architecture) -> GatedNetwork:
    """Make the deep linear network of an architecture: every gate is 1, a global maximum a mean.

    Args:
        value: Architecture with its weights. It is held, not copied.

    Returns:
        The network.
    """
    dtype = next(value.parameters()).dtype
    masks = [torch.ones(1, *shape, dtype=dtype) for shape in value.gate_shapes]
    if value.pooled_layer is None:
        return GatedNetwork(value, RecordedMasks(masks))
    pooled = masks[value.pooled_layer]
    return GatedNetwork(value, RecordedMasks(masks, pooled / pooled[0, 0].numel()))


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


def make_dlgn_vt(
    value: Architecture,
    *,
    generator: torch.Generator,
    law: Law = HE,
    gate: GateForm | None = None,
    bias: bool = False,
    frozen: bool = False,
    order: Sequence[int] | None = None,
) -> GatedNetwork:
    """Make a DLGN-SF that is fed ones and whose path values are free: one number each.

    Args:
        value: Fully connected network without biases, where the path values start. It is copied.
        generator: Source of the maps' weights.
        law: Law of the maps' weights.
        gate: Hard or Soft; None for Soft(10) where the maps train and HARD where they are fixed.
        bias: Whether the maps have biases.
        frozen: Whether the maps stay as they start.
        order: Permutation of the gate layers.

    Returns:
        The network; where it starts it is ``make_dlgn_sf(value, …, value_input="ones")``.

    Raises:
        InputError: As :class:`ValueTensor` and :class:`GatedNetwork` do.

    Cost:
        n times the entries of the tensor, outputs · w₁ ⋯ w_{d−1}, in time and memory.

    Source:
        The DLGN-VT of dlgn's follow-ups. How gates are made and where V starts was chosen here.
    """
    return make_dlgn_sf(
        ValueTensor(value), generator=generator, law=law, gate=gate, bias=bias, frozen=frozen,
        order=order, value_input=ValueInput.ONES,
    )  # fmt: skip
