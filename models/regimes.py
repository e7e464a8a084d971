"""The four regimes of neural path features: where features start, and whether they train."""

from __future__ import annotations

import copy
from enum import StrEnum

import torch

from reluctant.models.architectures import Architecture
from reluctant.models.choices import one_of
from reluctant.models.gates import FeatureActivation
from reluctant.models.laws import Law, initialise
from reluctant.models.sources import FeatureNetwork, copy_without_output
from reluctant.theory.errors import InputError


class Regime(StrEnum):
    """Name how the features of a deep gated network start and whether they train.

    ``FRNPF_II``: fixed random features, drawn independently of the values.
    ``FRNPF_DI``: fixed random features, started at the very values of the value network.
    ``DLNPF``: decoupled learning: features and values train, with parameters of their own.
    ``FLNPF``: fixed learnt features, copied from a trained network.

    Source:
        npf, section 5.
    """

    FRNPF_II = "FRNPF(II)"
    FRNPF_DI = "FRNPF(DI)"
    DLNPF = "DLNPF"
    FLNPF = "FLNPF"

    @property
    def is_frozen(self) -> bool:
        """Tell whether the features stay as they start."""
        return self is not Regime.DLNPF


def make_features(
    value: Architecture,
    regime: Regime | str,
    *,
    generator: torch.Generator,
    law: Law,
    kind: FeatureActivation | str = FeatureActivation.RELU,
    learnt: Architecture | None = None,
    dependent: bool = False,
) -> FeatureNetwork:
    """Make the feature network of a regime, with parameters of its own.

    Args:
        value: Value network, left as it is.
        regime: One of the four.
        generator: Draws independent features; not used where values are copied.
        law: What to draw.
        kind: relu or gated (DGN), identity (DLGN).
        learnt: Trained network of the same gate layers; for FLNPF, and only there.
        dependent: For DLNPF: start the features at the values of the value network.

    Returns:
        The source of gates, frozen except for DLNPF.

    Raises:
        InputError: If learnt is missing for FLNPF or given elsewhere, or dependent contradicts the
            regime.
    """
    regime = one_of(Regime, regime)
    if (learnt is not None) != (regime is Regime.FLNPF):
        raise InputError(
            f"learnt needs a trained network for FLNPF and nothing elsewhere, but {regime} got "
            f"{'none' if learnt is None else type(learnt).__name__}"
        )
    if dependent and regime is not Regime.DLNPF:
        raise InputError(
            f"dependent=True is a choice of DLNPF only, but the regime is {regime}; take FRNPF(DI) "
            "for frozen copied features"
        )
    features = copy_without_output(value if learnt is None else learnt)
    if regime is Regime.FRNPF_II or (regime is Regime.DLNPF and not dependent):
        initialise(features, law, generator)
    return FeatureNetwork(features.requires_grad_(True), kind, frozen=regime.is_frozen)


def copy_fresh(network: Architecture, law: Law, generator: torch.Generator) -> Architecture:
    """Copy an architecture and draw its weights anew; the original is left as it is."""
    twin = copy.deepcopy(network)
    initialise(twin, law, generator)
    return twin
