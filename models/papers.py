"""The papers' networks as the papers' models, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import torch
from torch import nn

from reluctant.models.architectures import Architecture
from reluctant.models.blueprints import NETWORKS
from reluctant.models.gated import GatedNetwork, ValueInput
from reluctant.models.gated_builders import (
    make_deep_linear,
    make_dgn,
    make_dlgn,
    make_dlgn_sf,
    make_dlgn_vt,
)
from reluctant.models.gates import HARD, GateForm, Soft
from reluctant.models.regimes import Regime
from reluctant.theory.errors import InputError

Entry = TypeVar("Entry")

_STEEP: Final = Soft(10.0)  # dlgn, section 6


@dataclass(frozen=True, slots=True)
class Model:
    """Say how a model is made of a value network.

    Attributes:
        make: Takes the value network and a generator.
        takes: Names of what else it may be given.
    """

    make: Callable[..., nn.Module]
    takes: tuple[str, ...] = ("gate", "order")


def make_network(
    name: str,
    model: str = "DNN",
    *,
    generator: torch.Generator,
    input_shape: Sequence[int] | None = None,
    classes: int = 10,
    scale: float = 1.0,
    dtype: torch.dtype | None = None,
    gate: GateForm | None = None,
    order: Sequence[int] | None = None,
    learnt: Architecture | None = None,
    frozen_values: bool = False,
    **options: Any,
) -> nn.Module:
    """Make a network of the papers as one of their models.

    Args:
        name: One of ``NETWORKS``, such as ``VGG-16``.
        model: One of ``MODELS``, such as ``DLGN(x,1)``.
        generator: Source of the weights, first of the values, then of the gates: every model of a
            seed starts with the same values.
        input_shape: Shape of one image; None for the published one.
        classes: Number of outputs.
        scale: Factor of all published widths; each stays at least 1.
        dtype: Type of the parameters; torch's default if None.
        gate: As for :func:`make_model`.
        order: As for :func:`make_model`.
        learnt: As for :func:`make_model`.
        frozen_values: As for :func:`make_model`.
        options: For the builder, such as ``padding="circular"``, ``bias=True`` or
            ``dense=(256, 256)``, which is not scaled.

    Returns:
        The network.

    Raises:
        InputError: If there is no such network or model (lists them), the scale is not positive,
            or as the builders do.

    Example:
        >>> draws = torch.Generator().manual_seed(0)
        >>> net = make_network("VGG-16", "DLGN(x,1)", classes=100, scale=1 / 16, generator=draws)
        >>> net(torch.zeros(2, 3, 32, 32)).shape, len(net.value.gate_shapes)
        (torch.Size([2, 100]), 13)
    """
    blueprint = _found("network", name, NETWORKS)
    _found("model", model, MODELS)
    if not (scale > 0.0 and math.isfinite(scale)):
        raise InputError(f"widths are scaled by a positive number, not {scale}")

    def widths(*published: int) -> tuple[int, ...]:
        return tuple(max(1, round(scale * width)) for width in published)

    shape = blueprint.input_shape if input_shape is None else tuple(input_shape)
    value = blueprint.build(shape, classes, widths, generator=generator, dtype=dtype, **options)
    return make_model(
        value, model, generator=generator, gate=gate, order=order, learnt=learnt,
        frozen_values=frozen_values,
    )  # fmt: skip


def make_model(
    value: Architecture,
    model: str,
    *,
    generator: torch.Generator,
    gate: GateForm | None = None,
    order: Sequence[int] | None = None,
    learnt: Architecture | None = None,
    frozen_values: bool = False,
) -> nn.Module:
    """Make one of the papers' models of a value network.

    Args:
        value: Value network. It is held, not copied, and keeps its weights.
        model: One of ``MODELS``.
        generator: Source of the weights that make gates.
        gate: Hard or Soft; None for the model's own.
        order: Permutation of the gate layers.
        learnt: Trained network whose features are fixed, for FLNPF and only there.
        frozen_values: Whether the gates alone train.

    Returns:
        The network; the value network itself for a DNN with its hard gates.

    Raises:
        InputError: If there is no such model, it does not take what it is given, or as the
            builders do.
    """
    chosen = _found("model", model, MODELS)
    given = {"gate": gate, "order": order, "learnt": learnt, "frozen_values": frozen_values or None}
    given = {name: argument for name, argument in given.items() if argument is not None}
    for name in given:
        if name not in chosen.takes:
            takers = (other for other, entry in MODELS.items() if name in entry.takes)
            raise InputError(f"{model} takes no {name}; these do: {', '.join(takers)}")
    freezes = given.pop("frozen_values", False)
    made = chosen.make(value, generator=generator, **given)
    if freezes:
        assert isinstance(made, GatedNetwork)
        made.freeze_values()
    return made


def _found(kind: str, name: str, entries: Mapping[str, Entry]) -> Entry:
    if name not in entries:
        raise InputError(f"there is no {kind} {name!r}; choose one of {', '.join(entries)}")
    return entries[name]


def _own(
    value: Architecture, *, generator: torch.Generator, gate: GateForm = HARD
) -> Architecture | GatedNetwork:
    return value if gate == HARD else GatedNetwork(value, None, gate)


def _open(value: Architecture, *, generator: torch.Generator) -> GatedNetwork:
    return make_deep_linear(value)


_DECOUPLED: Final = ("gate", "order", "frozen_values")

#: How each model comes from its value network. In brackets stands what the gates are made of and
#: what the values are fed: x, or ones. DGNs of dlgn have steeper gates than npf's DLNPF.
MODELS: Final[Mapping[str, Model]] = {
    "DNN": Model(_own, ("gate",)),
    "deep linear": Model(_open, ()),
    "DGN(x,x)": Model(partial(make_dgn, gate=_STEEP), _DECOUPLED),
    "DGN(x,1)": Model(partial(make_dgn, gate=_STEEP, value_input=ValueInput.ONES), _DECOUPLED),
    "DLGN(x,x)": Model(make_dlgn, _DECOUPLED),
    "DLGN(x,1)": Model(partial(make_dlgn, value_input=ValueInput.ONES), _DECOUPLED),
    "DLGN-SF(x,1)": Model(partial(make_dlgn_sf, value_input=ValueInput.ONES), _DECOUPLED),
    "DLGN-VT": Model(make_dlgn_vt, _DECOUPLED),
    "FRNPF(II)": Model(partial(make_dgn, regime=Regime.FRNPF_II)),
    "FRNPF(DI)": Model(partial(make_dgn, regime=Regime.FRNPF_DI)),
    "DLNPF": Model(partial(make_dgn, regime=Regime.DLNPF), _DECOUPLED),
    "FLNPF": Model(partial(make_dgn, regime=Regime.FLNPF), ("gate", "order", "learnt")),
}
