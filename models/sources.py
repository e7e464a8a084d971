"""Where gates come from: a feature network, shallow maps, or a record."""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from reluctant.models.architectures import Architecture
from reluctant.models.gates import (
    FeatureActivation,
    GateForm,
    GivenGates,
    Recorder,
    Ties,
)
from reluctant.theory.errors import InputError
from reluctant.theory.verdicts import write_whole


class GateSource(nn.Module, ABC):
    """Turn a gating input into gates for a value network.

    Attributes:
        gate_shapes: Shape of one input's gates, one entry a gate layer.
        has_winners: Whether there is a mask for a global max pooling as well.
    """

    gate_shapes: tuple[tuple[int, ...], ...]
    has_winners: bool

    @abstractmethod
    def forward(self, x: Tensor, form: GateForm, order: Sequence[int] | None = None) -> GivenGates:
        """Return the gates of x, the value network's layer l taking those of layer order[l]."""


class FeatureNetwork(GateSource):
    """Take the gates from the pre-activations of another network.

    With ``identity`` the features are linear in x (a DLGN), and a global max pooling inside the
    feature network becomes a mean, while the winners still come from where the maximum would be.

    Args:
        network: Architecture whose last weighted layer is not used. It is held, not copied.
        kind: relu (DGN), gated (features gated by the same form as the values) or identity (DLGN).
        frozen: Stop the training of the network: no gradients, BatchNorm statistics held.
    """

    def __init__(
        self,
        network: Architecture,
        kind: FeatureActivation | str = FeatureActivation.RELU,
        *,
        frozen: bool = False,
    ) -> None:
        """Check the arguments and make the parts."""
        super().__init__()
        self.network = network
        self.kind = FeatureActivation(kind)
        self.frozen = frozen
        self.gate_shapes = network.gate_shapes
        self.has_winners = network.pooled_layer is not None
        if frozen:
            network.requires_grad_(False)
            network.eval()

    def forward(self, x: Tensor, form: GateForm, order: Sequence[int] | None = None) -> GivenGates:
        """Return the gates of x."""
        recorder = Recorder(self.kind, form)
        self.network.require_input(x)
        self.network.features(x, recorder)
        return recorder.gates(form, order)

    def train(self, mode: bool = True) -> FeatureNetwork:
        """Set the mode of the network, unless it is frozen."""
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self


class ShallowMaps(GateSource):
    """Take the gates of each layer from one linear map of the input (DLGN-SF).

    Args:
        network: Architecture that says which maps are needed: dense maps for dense layers,
            convolutions of the same window for convolutional ones. It is not held.
        bias: Whether the maps have biases.
        frozen: Stop the training of the maps.
        dtype: Type of the parameters, whose values are still to be drawn.

    Source:
        dlgn, section 6.
    """

    def __init__(
        self,
        network: Architecture,
        *,
        bias: bool = False,
        frozen: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Check the arguments and make the parts."""
        super().__init__()
        self.maps = nn.ModuleList(network.shallow_maps(bias, dtype))
        self.gate_shapes = network.gate_shapes
        self.pooled_layer = network.pooled_layer
        self.has_winners = network.pooled_layer is not None
        self.ties = getattr(network, "ties", Ties.SHARED)
        if frozen:
            self.requires_grad_(False)

    def forward(self, x: Tensor, form: GateForm, order: Sequence[int] | None = None) -> GivenGates:
        """Return the gates of x; winners are those of the last map before the pooling."""
        recorder = Recorder(FeatureActivation.IDENTITY, form)
        for layer, weighted in enumerate(self.maps):
            recorder(layer, weighted(x))
        if self.pooled_layer is not None:
            recorder.pooled = recorder.pre_activations[self.pooled_layer]
            recorder.ties = self.ties
        return recorder.gates(form, order)


class RecordedMasks(GateSource):
    """Take the gates from tensors, for the very inputs that they were recorded on.

    Args:
        masks: One tensor a gate layer, (n, *shape), or (1, *shape) for all inputs alike. Entries
            are factors, so any finite number of at least 0. They are buffers: never trained.
        winner_mask: Mask of the global max pooling, (n, channel, *positions).

    Raises:
        InputError: If there is no mask, the batches differ, or an entry is negative or not finite.
    """

    def __init__(self, masks: Sequence[Tensor], winner_mask: Tensor | None = None) -> None:
        """Check the arguments and make the parts."""
        super().__init__()
        if not masks:
            raise InputError(
                "recorded masks need at least one tensor, one a gate layer, but got none"
            )
        named = {f"mask {i}": mask for i, mask in enumerate(masks)}
        if winner_mask is not None:
            named["the winner mask"] = winner_mask
        for name, mask in named.items():
            require_mask(name, mask)
        self.batch = max(mask.shape[0] for mask in named.values())
        for name, mask in named.items():
            if mask.shape[0] not in (1, self.batch):
                raise InputError(
                    f"masks need one batch size (or 1), but {name} has {mask.shape[0]} where "
                    f"another has {self.batch}"
                )
        for i, mask in enumerate(masks):
            self.register_buffer(f"mask{i}", mask.detach().clone())
        self.register_buffer(
            "winner_mask", None if winner_mask is None else winner_mask.detach().clone()
        )
        self.gate_shapes = tuple(tuple(mask.shape[1:]) for mask in masks)
        self.has_winners = winner_mask is not None

    def forward(self, x: Tensor, form: GateForm, order: Sequence[int] | None = None) -> GivenGates:
        """Return the masks as they are; the form has nothing to say."""
        if self.batch not in (1, x.shape[0]):
            raise InputError(
                f"these masks were recorded for {self.batch} inputs, but {x.shape[0]} came; call "
                "the network on exactly the recorded inputs, in their order"
            )
        layers = range(len(self.gate_shapes)) if order is None else order
        winner_mask = self.get_buffer("winner_mask") if self.has_winners else None
        return GivenGates(tuple(self.get_buffer(f"mask{i}") for i in layers), winner_mask)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the masks as safetensors: the whole file or nothing."""
        write_whole(path, save({k: v.contiguous() for k, v in self.state_dict().items()}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RecordedMasks:
        """Read masks from a safetensors file with tensors mask0, mask1, … (and winner_mask).

        Raises:
            InputError: If the file cannot be read or holds other tensors.
        """
        try:
            tensors = load_file(os.fspath(path))
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"cannot read masks from {os.fspath(path)}: {error}; write them with "
                "RecordedMasks.save"
            ) from error
        winner_mask = tensors.pop("winner_mask", None)
        names = [f"mask{i}" for i in range(len(tensors))]
        if set(names) != set(tensors):
            raise InputError(
                f"{os.fspath(path)} should hold tensors mask0, mask1, … (and winner_mask), but "
                f"holds {', '.join(sorted(tensors)) or 'none'}"
            )
        return cls([tensors[name] for name in names], winner_mask)


def require_mask(name: str, mask: Tensor) -> None:
    """Refuse what cannot be a mask.

    Raises:
        InputError: Says what is wrong with it.
    """
    if mask.dim() < 2 or not mask.is_floating_point():
        raise InputError(
            f"{name} needs a floating tensor (n, …), but got {mask.dtype} of shape "
            f"{tuple(mask.shape)}"
        )
    if mask.numel() == 0 or not bool(torch.isfinite(mask).all()) or bool((mask < 0).any()):
        raise InputError(f"{name} needs finite entries of at least 0, at least one of them")


def copy_without_output(network: Architecture) -> Architecture:
    """Copy an architecture and drop its last layer, which no feature network needs."""
    twin = copy.deepcopy(network)
    twin.output = nn.Identity()
    return twin
