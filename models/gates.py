"""What an activation does with a pre-activation, and where max pooling finds its winners."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from reluctant.theory.errors import InputError
from reluctant.theory.gating import gate


class Ties(StrEnum):
    """Name the two conventions of max pooling where several positions attain the maximum.

    ``SHARED`` gives each of the k winners the factor 1/k (as the derivative of ``amax`` does) and
    keeps shift invariance; ``FIRST`` gives 1 to the first in row-major order (as ``max_pool``
    does) and can lose it.
    """

    SHARED = "shared"
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class Hard:
    """Stand for the gate 1{q > 0}: 0 at q = 0, no derivative."""

    @property
    def slope(self) -> float:
        """Return 0, which the marked gate reads as hard."""
        return 0.0

    @property
    def excess(self) -> float:
        """Return 0: a hard gate never exceeds 1."""
        return 0.0


@dataclass(frozen=True, slots=True)
class Soft:
    r"""Stand for the gate (1 + ε) σ(βq).

    Attributes:
        slope: β > 0.
        excess: ε ≥ 0, by how much an open gate may exceed 1.

    Raises:
        InputError: If β is not positive or ε is negative, or either is not finite.

    Source:
        npf, section 5 (β = 4, ε = 0.1); dlgn, section 6 (β = 10, ε = 0).
    """

    slope: float = 10.0
    excess: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (self.slope > 0.0 and math.isfinite(self.slope)):
            raise InputError(
                f"a soft gate needs a finite slope β > 0, but got {self.slope}; use HARD for "
                "1{q > 0}"
            )
        if not (self.excess >= 0.0 and math.isfinite(self.excess)):
            raise InputError(f"a soft gate needs a finite excess ε >= 0, but got {self.excess}")


GateForm = Hard | Soft
HARD = Hard()


@runtime_checkable
class Activation(Protocol):
    """Say what an architecture asks of whatever decides its gates."""

    def __call__(self, layer: int, q: Tensor) -> Tensor:
        """Return the activated tensor of gate layer ``layer``, counted from 0."""
        ...

    def pool(self, t: Tensor, ties: Ties) -> Tensor:
        """Return the global max pooling of (n, channel, *positions) as (n, channel)."""
        ...


@dataclass(frozen=True, slots=True)
class OwnGates:
    """Gate each pre-activation by itself: q 1{q > 0}, or q (1 + ε) σ(βq)."""

    form: GateForm = HARD

    def __call__(self, layer: int, q: Tensor) -> Tensor:
        """Return relu(q) when hard, so that a plain ReLU network shows plain ReLUs."""
        if isinstance(self.form, Hard):
            return torch.relu(q)
        return q * apply_form(self.form, q)

    def pool(self, t: Tensor, ties: Ties) -> Tensor:
        """Return the maximum over positions; ties matter to the derivative only."""
        return largest(t, ties)


@dataclass(frozen=True, slots=True)
class GivenGates:
    """Multiply by gates from outside.

    Attributes:
        masks: One tensor a gate layer, shape of the pre-activation (or 1 in the first axis).
        winners: The mask of the global max pooling, if there is one.
    """

    masks: tuple[Tensor, ...]
    winners: Tensor | None = None

    def __call__(self, layer: int, q: Tensor) -> Tensor:
        """Return q times the mask of the layer."""
        mask = self.masks[layer]
        if mask.shape[1:] != q.shape[1:] or mask.shape[0] not in (1, q.shape[0]):
            raise InputError(
                f"gate layer {layer} has pre-activations of shape {tuple(q.shape)}, but its mask "
                f"has {tuple(mask.shape)}; a mask needs the same shape, or 1 in place of the batch"
            )
        return q * mask

    def pool(self, t: Tensor, ties: Ties) -> Tensor:
        """Return the sum over positions of the entries that the mask lets through."""
        if self.winners is None:
            raise InputError(
                "the value network has a global max pooling, but its gates bring no winners; give "
                "them from a network with the same pooling, or record them"
            )
        return (t * self.winners).flatten(2).sum(2)  # (n, channel)


class FeatureActivation(StrEnum):
    """Name what a feature network does with its own pre-activations."""

    RELU = "relu"
    GATED = "gated"
    IDENTITY = "identity"


@dataclass(slots=True)
class Recorder:
    """Pass tensors on as a feature network does and keep every pre-activation.

    Attributes:
        kind: relu (DGN), gated (DGN with soft-gated features) or identity (DLGN).
        form: Gate of the kind gated.
        pre_activations: What was seen, in the order of the calls.
        pooled: Input of the global max pooling, if there was one.
        ties: Convention of that pooling.
    """

    kind: FeatureActivation = FeatureActivation.RELU
    form: GateForm = HARD
    pre_activations: list[Tensor] = field(default_factory=list)
    pooled: Tensor | None = None
    ties: Ties = Ties.SHARED

    def __call__(self, layer: int, q: Tensor) -> Tensor:
        """Keep q; return relu(q), q gated by itself, or q."""
        self.pre_activations.append(q)
        match self.kind:
            case FeatureActivation.IDENTITY:
                return q
            case FeatureActivation.GATED:
                return OwnGates(self.form)(layer, q)
            case FeatureActivation.RELU:
                return torch.relu(q)

    def pool(self, t: Tensor, ties: Ties) -> Tensor:
        """Keep t; return its maximum, or its mean where everything has to stay linear."""
        self.pooled, self.ties = t, ties
        if self.kind is FeatureActivation.IDENTITY:
            return t.flatten(2).mean(2)
        return largest(t, ties)

    def gates(self, form: GateForm, order: Sequence[int] | None = None) -> GivenGates:
        """Turn what was kept into gates, layer l of the value network taking layer order[l]."""
        masks = tuple(apply_form(form, q) for q in self.pre_activations)
        masks = masks if order is None else tuple(masks[layer] for layer in order)
        return GivenGates(masks, None if self.pooled is None else winners(self.pooled, self.ties))


def apply_form(form: GateForm, q: Tensor) -> Tensor:
    """Return the gates of pre-activations, through the operation that a trace recognises."""
    gates: Tensor = gate(q, form.slope, form.excess)
    return gates


def largest(t: Tensor, ties: Ties) -> Tensor:
    """Return the maximum over the positions of (n, channel, *positions), as (n, channel)."""
    flat = t.flatten(2)  # (n, channel, position)
    return flat.amax(2) if ties is Ties.SHARED else F.adaptive_max_pool1d(flat, 1).squeeze(2)


def winners(t: Tensor, ties: Ties = Ties.SHARED) -> Tensor:
    r"""Mark the positions where each channel is largest.

    .. math:: m_{cp} = 1\{t_{cp} = \max_{p'} t_{cp'}\} / \#\text{winners}

    With ``Ties.FIRST`` only the first winner in row-major order is marked, with 1.

    Args:
        t: (n, channel, *positions).
        ties: Convention where several positions attain the maximum.

    Returns:
        Factors of the shape of t that sum to 1 over the positions; no derivative.
    """
    flat = t.flatten(2)  # (n, channel, position)
    if ties is Ties.FIRST:
        return F.one_hot(flat.argmax(2), flat.shape[2]).to(t.dtype).reshape(t.shape)
    winning = flat == flat.amax(2, keepdim=True)
    return (winning.to(t.dtype) / winning.count_nonzero(2).unsqueeze(2)).reshape(t.shape)
