r"""Tangent kernels of widening fully connected networks, against their law.

Values ±c/√w, gates of an independent random ReLU network: with a_l the values' activations and δ_l
what comes back from the output,

.. math:: K_v(x, x') = \sum_l \langle a_{l-1}, a_{l-1}' \rangle \langle \delta_l, \delta_l' \rangle
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from reluctant.properties.bounds import inner_product_bound
from reluctant.theory.statements import Trial

WIDTHS = (8, 16, 32, 64, 128)
GAIN = 1.3  # c ≠ 1, or its powers could not be told apart
_SIGNS = 2**24  # signs drawn at a width, as long as the number of draws is within bounds
_LEAST, _MOST = 512, 8192
_TELLING = 0.05  # in the natural size of the law; the intervals are less than half of that
_FEATURES = 128  # networks that make gates, at each width


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Be two inputs and a depth.

    Attributes:
        x: The inputs, shape (2, n_in).
        depth: Number d of weight layers, at least 2.
    """

    x: Float[Tensor, "2 n_in"]
    depth: int

    @property
    def gram(self) -> Float[Tensor, "2 2"]:
        """Return the Gram matrix of the inputs."""
        return self.x @ self.x.T

    @property
    def is_telling(self) -> bool:
        """Tell whether the law differs much from the one with order-1 arc-cosine kernels.

        It does not for inputs that are parallel or orthogonal, nor where the two kernels cross,
        near a cosine of 0.7.
        """
        cosine = _cosines(self.x)[:1, 1:]
        laws = [_arc_cosines(cosine, order, self.depth) for order in (0, 1)]
        return bool((cosine * (laws[0] - laws[1])).abs() > _TELLING)


def pair_of(trial: Trial, depth: int) -> Pair:
    """Return the two inputs of a trial whose law tells order 0 and order 1 apart best.

    An input that is 0 comes last.
    """
    flat = trial.x.double().flatten(1)
    cosine = _cosines(flat)
    alive = flat.any(1).double()
    gap = cosine * (_arc_cosines(cosine, 0, depth) - _arc_cosines(cosine, 1, depth))
    score = gap.abs() + 2 * alive[:, None] * alive + alive[:, None]
    score.fill_diagonal_(-1.0)
    i, j = divmod(int(score.argmax()), len(flat))
    return Pair(flat[[i, j]], depth)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Be tangent kernels of drawn networks.

    Attributes:
        pair: Inputs and depth.
        gain: c.
        widths: Widths.
        kernels: For each width K_v, shape (draws, 2, 2).
        overlaps: For each width ⟨G_l, G_l'⟩ / w, shape (draws, d − 1, 2, 2).
    """

    pair: Pair
    gain: float
    widths: tuple[int, ...]
    kernels: list[Tensor]
    overlaps: list[Tensor]


Law = Callable[[Samples, int], Tensor]


def gate_products(samples: Samples, k: int) -> Float[Tensor, "draws 2 2"]:
    """Return Π_l ⟨G_l, G_l'⟩ / w at the width number k."""
    return samples.overlaps[k].prod(1)


def arc_cosine_products(order: int) -> Law:
    """Return the law with arc-cosine kernels of an order in place of the gates' overlaps."""

    def products(samples: Samples, k: int) -> Tensor:
        pair = samples.pair
        law = _arc_cosines(_cosines(pair.x), order, pair.depth) / 2.0 ** (pair.depth - 1)
        return law.expand(len(samples.kernels[k]), 2, 2)

    return products


def _cosines(x: Float[Tensor, "n n_in"]) -> Float[Tensor, "n n"]:
    unit = x / x.norm(dim=1, keepdim=True).clamp(min=1e-300)
    return torch.clamp(unit @ unit.T, -1.0, 1.0)


def _arc_cosines(rho: Tensor, order: int, depth: int) -> Tensor:
    """Return the product over the hidden layers of arc-cosine kernels, 1 at equal inputs."""
    total = torch.ones_like(rho)
    for _ in range(depth - 1):
        first = (torch.sqrt(1 - rho**2) + (math.pi - torch.arccos(rho)) * rho) / math.pi
        total = total * (first if order == 1 else 1 - torch.arccos(rho) / math.pi)
        rho = first.clamp(-1.0, 1.0)
    return total


def tangent_samples(pair: Pair, generator: torch.Generator, gain: float = GAIN) -> Samples:
    """Draw networks of every width and compute their tangent kernels.

    Several value networks share the gates of one feature network: given the gates their kernels
    are independent, with the law as their mean.

    Cost:
        About 2^25 random signs a width, and less than a second in all.
    """
    hidden = max(1, pair.depth - 2)
    kernels, overlaps = [], []
    for width in WIDTHS:
        signs = hidden * width**2 + pair.x.shape[1] * width
        each = min(_MOST, max(_LEAST, _SIGNS // signs)) // _FEATURES
        found = [_drawn(pair, width, each, gain, generator) for _ in range(_FEATURES)]
        kernels.append(torch.cat([k for k, _ in found]))
        overlaps.append(torch.cat([o.expand(each, -1, 2, 2) for _, o in found]))
    return Samples(pair, gain, WIDTHS, kernels, overlaps)


def _drawn(
    pair: Pair, width: int, draws: int, gain: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    sigma = gain / math.sqrt(width)
    sizes = [pair.x.shape[1], *[width] * (pair.depth - 1)]
    values, masks = [], []
    activations = [pair.x.T.float().expand(draws, -1, 2)]  # (draw, unit, input)
    feature = pair.x.T  # He's law; the gates do not see a positive factor
    for a, b in pairwise(sizes):
        feature = torch.randn(b, a, generator=generator, dtype=torch.float64) @ feature
        masks.append((feature > 0).double())
        feature = feature * masks[-1]
        values.append(_signs((draws, b, a), sigma, generator))
        activations.append(masks[-1].float() * (values[-1] @ activations[-1]))
    back = torch.ones(draws, 1, 2)
    kernel = _gram(activations[-1]) * _gram(back)
    back = _signs((draws, width, 1), sigma, generator) * back
    for layer in reversed(range(pair.depth - 1)):
        back = back * masks[layer].float()
        kernel = kernel + _gram(activations[layer]) * _gram(back)
        back = values[layer].mT @ back if layer else back
    return kernel, torch.stack([_gram(m) / width for m in masks])[None]


def _gram(t: Float[Tensor, "*draws units 2"]) -> Float[Tensor, "*draws 2 2"]:
    return (t.mT @ t).double()


def _signs(shape: tuple[int, ...], sigma: float, generator: torch.Generator) -> Tensor:
    bits = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8)
    return bits.float().mul_(2 * sigma).sub_(sigma)


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Be a mean over draws, with its interval.

    Attributes:
        kernel: Mean of K_v over its natural size, one number an entry of the pair.
        law: Mean of the law over the same.
        half_width: Of the interval for the difference.
        error_probability: Chance that any entry is outside.
    """

    kernel: Tensor
    law: Tensor
    half_width: Tensor
    error_probability: float


def _sizes(samples: Samples, k: int) -> Tensor:
    """Return what errors are measured in: the law's geometric mean on the diagonal."""
    pair = samples.pair
    own = gate_products(samples, k).diagonal(dim1=1, dim2=2) * pair.gram.diagonal()
    size = pair.depth * samples.gain ** (2 * (pair.depth - 1)) * own.mean(0)
    return torch.sqrt(size[:, None] * size)


def _errors(samples: Samples, k: int, factor: float, products: Law) -> Tensor:
    """Return the difference to the law in its natural size, shape (draws, entry)."""
    law = factor * samples.pair.gram * products(samples, k)
    size = _sizes(samples, k)
    rows, columns = torch.nonzero(torch.triu(size) > 0, as_tuple=True)
    return ((samples.kernels[k] - law) / size.clamp(min=1e-300))[:, rows, columns]


def mean_estimate(samples: Samples, factor: float, products: Law, chance: float) -> Estimate:
    """Return the mean of K_v and of a law at the largest width.

    Args:
        samples: Kernels of drawn networks.
        factor: Coefficient of the law.
        products: Its gates.
        chance: Error probability of the interval, all entries together.
    """
    k = len(samples.widths) - 1
    size = _sizes(samples, k)
    rows, columns = torch.nonzero(torch.triu(size) > 0, as_tuple=True)
    errors = _errors(samples, k, factor, products)
    kernel = (samples.kernels[k] / size.clamp(min=1e-300)).mean(0)[rows, columns]
    draws = len(errors)
    quantile = float(stats.t.isf(chance / (2 * errors.shape[1]), draws - 1))
    return Estimate(
        kernel,
        kernel - errors.mean(0),
        quantile * errors.std(0) / math.sqrt(draws) + _rounding(samples),
        chance,
    )


def fitted_rate(
    samples: Samples, factor: float, products: Law, chance: float
) -> tuple[Tensor, Tensor]:
    """Fit log rmse = a − s log w + b/w; return s, and half its interval of an error probability.

    The variance of each log rmse comes from that of the mean squared errors of the feature
    networks, which are independent (delta method). Entries without error at any width are left
    out (depth 2 with one input coordinate: the kernel is the same for all signs); if there are no
    others the results are empty.
    """
    errors = [_errors(samples, k, factor, products) for k in range(len(samples.widths))]
    moves = torch.stack([e.square().mean(0).sqrt() for e in errors]).amin(0) > 16 * _rounding(
        samples
    )
    if not bool(moves.any()):
        return torch.zeros(0), torch.zeros(0)
    logs, variances = [], []
    for error in errors:
        squares = error[:, moves].square().reshape(_FEATURES, -1).mean(1)
        mean = squares.mean()
        logs.append(0.5 * torch.log(mean))
        variances.append(0.25 * squares.var() / (len(squares) * mean**2))
    widths = torch.tensor(samples.widths, dtype=torch.float64)
    design = torch.stack([torch.ones_like(widths), -torch.log(widths), 1 / widths], 1)
    weight = torch.diag(1 / torch.stack(variances))
    covariance = torch.linalg.inv(design.T @ weight @ design)
    fit = covariance @ design.T @ weight @ torch.stack(logs)
    quantile = float(stats.t.isf(chance / 2, _FEATURES - 1))
    return fit[1:2], quantile * torch.sqrt(covariance[1, 1])[None]


def _rounding(samples: Samples) -> float:
    """Bound the rounding of a kernel in its natural size; products are float32."""
    longest = max(samples.widths[-1], samples.pair.x.shape[1])
    count = 4 * samples.pair.depth * longest
    return float(inner_product_bound(count, torch.ones(()), dtype=torch.float32))
