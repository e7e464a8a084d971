"""Laws of initial weights, drawn from a generator that the caller holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from reluctant.theory.errors import InputError


class Shape(StrEnum):
    """Name the two laws of a weight of variance 1."""

    SIGNS = "signs"
    GAUSSIAN = "gaussian"


@dataclass(frozen=True, slots=True)
class Law:
    r"""Draw every weight of layer l independently, with mean 0 and variance σ_l².

    Attributes:
        shape: Bernoulli signs ±σ, or Gaussian.
        sigma: σ of every layer, or one a layer; None for c/√fan_in.
        gain: c, where sigma is None.
        bias: σ of the biases; 0 sets them to zero.

    Raises:
        InputError: If a standard deviation is negative or not finite.
    """

    shape: Shape = Shape.GAUSSIAN
    sigma: float | tuple[float, ...] | None = None
    gain: float = math.sqrt(2.0)
    bias: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        sigmas = self.sigma if isinstance(self.sigma, tuple) else (self.sigma or 0.0,)
        for value in (*sigmas, self.gain, self.bias):
            if not (math.isfinite(value) and value >= 0.0):
                raise InputError(
                    f"a standard deviation needs to be finite and >= 0, but got {value}"
                )

    def sigmas(self, module: nn.Module) -> tuple[float, ...]:
        """Return σ_l for each weighted layer of a module, in the order of its definition.

        Raises:
            InputError: If there are more or fewer than one σ a layer.
        """
        layers = list(weighted_layers(module))
        if isinstance(self.sigma, tuple):
            if len(self.sigma) != len(layers):
                raise InputError(
                    f"the law has {len(self.sigma)} standard deviations, but the module has "
                    f"{len(layers)} weighted layers; give one a layer"
                )
            return self.sigma
        if self.sigma is not None:
            return (self.sigma,) * len(layers)
        return tuple(self.gain / math.sqrt(fan_in(layer)) for layer in layers)


def signs(sigma: float | Sequence[float], *, bias: float = 0.0) -> Law:
    """Return the law of weights ±σ with probability ½ each."""
    return Law(Shape.SIGNS, _fixed(sigma), bias=bias)


def gaussian(sigma: float | Sequence[float], *, bias: float = 0.0) -> Law:
    """Return the law of Gaussian weights of standard deviation σ."""
    return Law(Shape.GAUSSIAN, _fixed(sigma), bias=bias)


def scaled(gain: float, shape: Shape | str = Shape.SIGNS, *, bias: float = 0.0) -> Law:
    """Return the law with σ_l = c/√fan_in."""
    return Law(Shape(shape), None, gain, bias)


def he(shape: Shape | str = Shape.GAUSSIAN, *, bias: float = 0.0) -> Law:
    """Return the law with σ_l = √(2/fan_in) (He et al., 2015)."""
    return Law(Shape(shape), None, math.sqrt(2.0), bias)


def initialise(module: nn.Module, law: Law, generator: torch.Generator) -> None:
    """Draw the weights of every weighted layer in place, in the order of their definition.

    Numbers are drawn in float64 and then rounded, so a float32 network starts where its float64
    twin does. Each BatchNorm is set to the identity (γ = 1, β = 0, fresh statistics).

    Args:
        module: Module with Linear, Conv1d, Conv2d, BatchNorm layers; a layer found under two
            names is drawn once.
        law: What to draw.
        generator: Source of the numbers; a CPU one makes the same network on every device.

    Raises:
        InputError: If a per-layer law has another number of layers than the module, or a parameter
            belongs to a layer of another type.
    """
    _require_known(module)
    with torch.no_grad():
        for layer, sigma in zip(list(weighted_layers(module)), law.sigmas(module), strict=True):
            layer.weight.copy_(draw(layer.weight.shape, law.shape, sigma, generator))
            if layer.bias is not None:
                layer.bias.copy_(draw(layer.bias.shape, law.shape, law.bias, generator))
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.reset_parameters()


def draw(size: Sequence[int], shape: Shape, sigma: float, generator: torch.Generator) -> Tensor:
    """Draw independent numbers of mean 0 and standard deviation sigma, in float64.

    A σ of 0 draws nothing, so that the presence of biases moves no weight.
    """
    numbers = torch.zeros(tuple(size), dtype=torch.float64, device=generator.device)
    if sigma == 0.0:
        return numbers
    if shape is Shape.SIGNS:
        bits = torch.randint(0, 2, tuple(size), generator=generator, device=generator.device)
        return sigma * (2.0 * bits.to(torch.float64) - 1.0)
    return numbers.normal_(0.0, sigma, generator=generator)


Weighted = nn.Linear | nn.Conv1d | nn.Conv2d


def weighted_layers(module: nn.Module) -> Iterator[Weighted]:
    """Go through the weighted layers of a module in the order of their definition, each once."""
    for layer in module.modules():
        if isinstance(layer, Weighted):
            yield layer


def fan_in(layer: Weighted) -> int:
    """Return how many weights reach one output coordinate."""
    return layer.weight[0].numel()


def _fixed(sigma: float | Sequence[float]) -> float | tuple[float, ...]:
    return tuple(sigma) if isinstance(sigma, Sequence) else float(sigma)


def _require_known(module: nn.Module) -> None:
    known = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)
    for name, part in module.named_modules():
        if not isinstance(part, known) and any(True for _ in part.parameters(recurse=False)):
            raise InputError(
                f"a law can be drawn for Linear, Conv1d, Conv2d and BatchNorm layers, but "
                f"{name or 'the module'} is a {type(part).__name__} with parameters of its own; "
                "draw those yourself"
            )
