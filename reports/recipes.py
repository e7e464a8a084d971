"""Recipes: how a network is trained, and which part of it a paper does not state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from reluctant.theory.errors import InputError


@dataclass(frozen=True, slots=True)
class Constant:
    """Keep one rate."""

    rate: float

    def at(self, step: int, steps: int) -> float:
        """Return the rate at a step."""
        return self.rate


@dataclass(frozen=True, slots=True)
class Stepped:
    """Change the rate at given steps.

    Attributes:
        pieces: Pairs of the step before which a rate holds and that rate, in order; the last rate
            also holds after them.

    Raises:
        InputError: If there is none or the steps do not grow.
    """

    pieces: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        """Check the order."""
        ends = [end for end, _ in self.pieces]
        if not ends or any(b <= a for a, b in zip([0, *ends], ends, strict=False)):
            raise InputError(f"the steps where a rate ends have to grow from 1 on, but are {ends}")

    def at(self, step: int, steps: int) -> float:
        """Return the rate at a step."""
        return next((rate for end, rate in self.pieces if step < end), self.pieces[-1][1])


@dataclass(frozen=True, slots=True)
class Triangular:
    """Let the rate rise along one line and fall along another; the last one is next to zero.

    Attributes:
        top: Highest rate.
        rising: Share of the steps on the first line.

    Raises:
        InputError: If the share is not between 0 and 1.
    """

    top: float
    rising: float = 0.2

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0.0 <= self.rising <= 1.0:
            raise InputError(
                f"the rate rises for a share of the steps in [0, 1], not {self.rising}"
            )

    def at(self, step: int, steps: int) -> float:
        """Return the rate at a step."""
        peak = max(1.0, self.rising * steps)
        return self.top * min((step + 1) / peak, (steps - step) / (steps - peak + 1))


@dataclass(frozen=True, slots=True)
class Adam:
    """Stand for Adam; a decay is added to the gradient."""

    decay: float = 0.0
    epsilon: float = 1e-8

    def make(self, trained: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters."""
        return torch.optim.Adam(trained, eps=self.epsilon, weight_decay=self.decay, fused=True)


@dataclass(frozen=True, slots=True)
class SGD:
    """Stand for gradient descent with momentum; a decay is added to the gradient."""

    momentum: float = 0.0
    decay: float = 0.0
    nesterov: bool = False

    def make(self, trained: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters."""
        return torch.optim.SGD(
            trained,
            momentum=self.momentum,
            weight_decay=self.decay,
            nesterov=self.nesterov,
            fused=True,
        )


@dataclass(frozen=True, slots=True)
class RMSprop:
    """Stand for RMSprop: steps over the root of a running mean of squared gradients."""

    memory: float = 0.9
    decay: float = 0.0
    epsilon: float = 1e-8

    def make(self, trained: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters."""
        return torch.optim.RMSprop(
            trained, alpha=self.memory, eps=self.epsilon, weight_decay=self.decay
        )


Rate = Constant | Stepped | Triangular
Optimizer = Adam | SGD | RMSprop


@dataclass(frozen=True, slots=True)
class Recipe:
    """Say how to train.

    Attributes:
        epochs: How often every image is seen.
        rate: Rate by step.
        batch: Images a step; the last batch of an epoch may be smaller.
        optimizer: What makes a step of a gradient.
        augment: Whether images are moved and mirrored anew in every epoch.
        smoothing: Share of each label that is spread over all classes.
        loss: ``cross-entropy``, or ``squares``: half the squared distance to the label's unit
            vector.
        chosen: Names of what the source does not state and was chosen here: attributes, or parts
            of one, as ``optimizer.decay``.

    Raises:
        InputError: If a number is out of its range or a name is no attribute.
    """

    epochs: int
    rate: Rate
    batch: int = 32
    optimizer: Optimizer = Adam()
    augment: bool = False
    smoothing: float = 0.0
    loss: Literal["cross-entropy", "squares"] = "cross-entropy"
    chosen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the numbers and the names."""
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"a recipe needs {name} >= 1, but got {getattr(self, name)}")
        if not 0.0 <= self.smoothing < 1.0:
            raise InputError(f"labels are smoothed by a share in [0, 1), not {self.smoothing}")
        if self.loss not in ("cross-entropy", "squares"):
            raise InputError(f"the loss is 'cross-entropy' or 'squares', not {self.loss!r}")
        if not isinstance(self.rate, Rate):
            raise InputError(
                f"the rate of a recipe is Constant, Stepped or Triangular, not {self.rate!r}; for "
                "one that rises and falls give Triangular(top)"
            )
        unknown = set(self.chosen) - self._settings().keys()
        if unknown:
            raise InputError(
                f"{', '.join(sorted(unknown))}: no setting of this recipe; there are "
                f"{', '.join(self._settings())}"
            )

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Return every setting with its value, ``not stated; … chosen`` where it was chosen."""
        return tuple(
            (name, f"not stated; {value} chosen" if name in self.chosen else str(value))
            for name, value in self._settings().items()
        )

    @property
    def unstated(self) -> str:
        """Return what the source does not state, with what was chosen; empty if it states all."""
        settings = self._settings()
        return ", ".join(f"{name} ({settings[name]} chosen)" for name in self.chosen)

    def steps(self, images: int) -> int:
        """Return the number of steps with so many images."""
        return self.epochs * math.ceil(images / self.batch)

    def losses(
        self, outputs: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Return the loss at each image."""
        if self.loss == "squares":
            classes = outputs.shape[1]
            share = self.smoothing / classes
            goal = F.one_hot(labels, classes).to(outputs.dtype) * (1.0 - self.smoothing) + share
            return 0.5 * (outputs - goal).square().sum(1)
        return F.cross_entropy(outputs, labels, reduction="none", label_smoothing=self.smoothing)

    def _settings(self) -> dict[str, Any]:
        """Return the attributes by name; of rate and optimizer the kind, and each part."""
        found: dict[str, Any] = {}
        for name in (f.name for f in fields(self) if f.name != "chosen"):
            value = getattr(self, name)
            if is_dataclass(value):
                found[name] = type(value).__name__
                found |= {f"{name}.{f.name}": getattr(value, f.name) for f in fields(value)}
            else:
                found[name] = value
        return found


#: The papers' protocols as far as they are stated, by their names in ``published.json``. Where a
#: protocol states no epochs, they are those of npf's code for the network most like it.
PAPERS: Final[Mapping[str, Recipe]] = {
    "dlgn table I": Recipe(200, Constant(3e-4), chosen=("epochs", "augment")),
    "dlgn table II": Recipe(
        164,
        Stepped(((400, 0.01), (32_000, 0.1), (48_000, 0.01), (64_000, 0.001))),
        128,
        SGD(momentum=0.9, decay=1e-4),
        augment=True,
        chosen=("optimizer.decay", "augment"),
    ),
    "dlgn table III": Recipe(200, Constant(1e-3), chosen=("epochs", "augment")),
    "npf main table, Adam": Recipe(200, Constant(3e-4), chosen=("epochs",)),
    **{
        f"npf main table, SGD at {rate}": Recipe(
            100, Constant(rate), optimizer=SGD(), chosen=("epochs", "optimizer.momentum")
        )
        for rate in (0.1, 0.01, 0.001)
    },
    "npf figure: decay of nu_t": Recipe(
        50, Constant(1e-4), 64, RMSprop(), loss="squares", chosen=("optimizer.memory",)
    ),
    "dgn table 7": Recipe(200, Constant(3e-4), chosen=("epochs", "batch", "augment")),
    "dlgn-draft table: label noise": Recipe(
        200, Constant(3e-4), chosen=("epochs", "batch", "augment")
    ),
    "dlgn-draft text": Recipe(
        24,
        Triangular(0.4),
        512,
        SGD(momentum=0.9, decay=5e-4, nesterov=True),
        augment=True,
        chosen=("epochs", "rate", "optimizer.nesterov", "augment"),
    ),
}

#: A schedule of our own for all networks alike, in a fraction of the papers' epochs: for networks
#: without batch normalisation and with it.
MODERN: Final[Mapping[str, Recipe]] = {
    "plain": Recipe(40, Triangular(2e-3), 128),
    "normalised": Recipe(
        40, Triangular(0.2), 256, SGD(momentum=0.9, decay=5e-4, nesterov=True), augment=True
    ),
}
