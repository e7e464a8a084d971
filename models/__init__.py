"""Networks to try statements on: one gate mechanism, and the laws their weights start from."""

from __future__ import annotations

from reluctant.models.architectures import Architecture, FullyConnected
from reluctant.models.blueprints import NETWORKS, Blueprint
from reluctant.models.builders import make_conv, make_fc, make_residual, make_staged
from reluctant.models.converters import GatedTwin, to_dgn, to_dlgn
from reluctant.models.convolutional import Convolutional
from reluctant.models.ensembles import Ensemble
from reluctant.models.gated import GatedNetwork, ValueInput, record_masks
from reluctant.models.gated_builders import (
    make_deep_linear,
    make_dgn,
    make_dlgn,
    make_dlgn_sf,
    make_dlgn_vt,
)
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
from reluctant.models.papers import MODELS, Model, make_model, make_network
from reluctant.models.regimes import Regime, copy_fresh, make_features
from reluctant.models.residual import Residual, SubNetwork
from reluctant.models.sources import FeatureNetwork, GateSource, RecordedMasks, ShallowMaps
from reluctant.models.staged import Skip, Stage, Staged
from reluctant.models.value_tensors import ValueTensor

__all__ = [
    "HARD",
    "MODELS",
    "NETWORKS",
    "Activation",
    "Architecture",
    "Blueprint",
    "Convolutional",
    "Ensemble",
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
    "Model",
    "OwnGates",
    "Padding",
    "Pooling",
    "RecordedMasks",
    "Recorder",
    "Regime",
    "Residual",
    "ShallowMaps",
    "Shape",
    "Skip",
    "Soft",
    "Stage",
    "Staged",
    "SubNetwork",
    "Ties",
    "ValueInput",
    "ValueTensor",
    "copy_fresh",
    "gaussian",
    "he",
    "initialise",
    "make_conv",
    "make_deep_linear",
    "make_dgn",
    "make_dlgn",
    "make_dlgn_sf",
    "make_dlgn_vt",
    "make_fc",
    "make_features",
    "make_model",
    "make_network",
    "make_residual",
    "make_staged",
    "record_masks",
    "scaled",
    "signs",
    "to_dgn",
    "to_dlgn",
    "winners",
]
