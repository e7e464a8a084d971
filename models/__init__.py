"""Networks to try statements on: one gate mechanism, and the laws their weights start from."""

from __future__ import annotations

from reluctant.models.architectures import Architecture, FullyConnected
from reluctant.models.builders import (
    make_conv,
    make_dgn,
    make_dlgn,
    make_dlgn_sf,
    make_fc,
    make_residual,
)
from reluctant.models.converters import GatedTwin, to_dgn, to_dlgn
from reluctant.models.convolutional import Convolutional
from reluctant.models.gated import GatedNetwork, ValueInput, record_masks
from reluctant.models.gates import (
    HARD,
    Activation,
    FeatureActivation,
    GateForm,
    GivenGates,
    Hard,
    OwnGates,
    Recorder,
    Soft,
    Ties,
    winners,
)
from reluctant.models.laws import Law, Shape, gaussian, he, initialise, scaled, signs
from reluctant.models.layers import Padding, Pooling
from reluctant.models.regimes import Regime, copy_fresh, make_features
from reluctant.models.residual import Residual, SubNetwork
from reluctant.models.sources import FeatureNetwork, GateSource, RecordedMasks, ShallowMaps

__all__ = [
    "HARD",
    "Activation",
    "Architecture",
    "Convolutional",
    "FeatureActivation",
    "FeatureNetwork",
    "FullyConnected",
    "GateForm",
    "GateSource",
    "GatedNetwork",
    "GatedTwin",
    "GivenGates",
    "Hard",
    "Law",
    "OwnGates",
    "Padding",
    "Pooling",
    "RecordedMasks",
    "Recorder",
    "Regime",
    "Residual",
    "ShallowMaps",
    "Shape",
    "Soft",
    "SubNetwork",
    "Ties",
    "ValueInput",
    "copy_fresh",
    "gaussian",
    "he",
    "initialise",
    "make_conv",
    "make_dgn",
    "make_dlgn",
    "make_dlgn_sf",
    "make_fc",
    "make_features",
    "make_residual",
    "record_masks",
    "scaled",
    "signs",
    "to_dgn",
    "to_dlgn",
    "winners",
]
