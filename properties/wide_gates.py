r"""Statement of the gates of an infinitely wide random network: arc-cosine kernels (npf, dgn).

Two inputs' pre-activations at the units of a random He layer are independent Gaussian pairs whose
covariance is that of what enters the layer, so a network of any width is drawn by its pairs: the
law is the same as with a weight matrix, and the cost is linear in the width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from reluctant.properties import hypotheses as needs
from reluctant.properties.widths import Pair, pair_of
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.structure import dense_chain
from reluctant.theory.verdicts import EvidenceKind

WIDTH = 512
NETWORKS = 1024
Arc = Callable[[Tensor], Tensor]


def order_zero(rho: Tensor) -> Tensor:
    """Return κ₀(ρ) = 1 − arccos(ρ)/π, the chance that two unit Gaussians are positive, twice."""
    return 1 - torch.arccos(rho) / math.pi


def order_one(rho: Tensor) -> Tensor:
    """Return κ₁(ρ), the cosine after a wide ReLU layer of two inputs with cosine ρ before it."""
    return (torch.sqrt(1 - rho**2) + (math.pi - torch.arccos(rho)) * rho) / math.pi


def _stays(rho: Tensor) -> Tensor:
    return rho


def limit_law(rho: Tensor, layers: int, gate: Arc = order_zero, step: Arc = order_one) -> Tensor:
    r"""Return :math:`\prod_l \kappa_0(\rho_{l-1})` for inputs with cosine ρ.

    Args:
        rho: Cosine of the inputs.
        layers: Number of hidden layers.
        gate: Factor of a layer.
        step: Map of the cosine from layer to layer.
    """
    total = torch.ones_like(rho)
    for _ in range(layers):
        total = total * gate(rho)
        rho = step(rho).clamp(-1.0, 1.0)
    return total


@dataclass(frozen=True, slots=True, eq=False)
class GateSamples:
    """Be products of gate overlaps of drawn networks of one width.

    Attributes:
        products: Π_l (2/w) ⟨G_l, G_l'⟩, one a network.
        surprises: (2/w) ⟨G_l, G_l'⟩ − κ(ρ̂_(l−1)), ρ̂ the drawn layer's own cosine: of mean 0 at
            any width; one a network and layer.
    """

    products: Float[Tensor, " networks"]
    surprises: Float[Tensor, "networks layers"]


def drawn_gates(
    rho: Tensor, layers: int, width: int, networks: int, generator: torch.Generator, gate: Arc
) -> GateSamples:
    """Draw the gates of two inputs in random He networks.

    Args:
        rho: Cosine of the inputs.
        layers: Number of hidden layers.
        width: Width of each.
        networks: Number of networks.
        generator: Source of the numbers.
        gate: What the overlap of a layer is expected to be, given its cosine.
    """
    own = torch.ones(networks, 2, dtype=torch.float64)  # ⟨a, a⟩, ⟨a', a'⟩
    cross = rho.expand(networks)
    products, surprises = torch.ones(networks, dtype=torch.float64), []
    for _ in range(layers):
        cosine = (cross / own.prod(1).sqrt().clamp(min=1e-300)).clamp(-1.0, 1.0)
        z = torch.randn(2, networks, width, generator=generator, dtype=torch.float64)
        other = cosine[:, None] * z[0] + torch.sqrt(1 - cosine**2)[:, None] * z[1]
        first = own[:, :1].sqrt() * z[0].clamp(min=0)
        second = own[:, 1:].sqrt() * other.clamp(min=0)
        overlap = 2.0 * ((first > 0) & (second > 0)).double().mean(1)
        surprises.append(overlap - gate(cosine))
        products = products * overlap
        own = 2.0 * torch.stack([(first**2).mean(1), (second**2).mean(1)], 1)
        cross = 2.0 * (first * second).mean(1)
    return GateSamples(products, torch.stack(surprises, 1))


def _interval(values: Float[Tensor, " networks"], chance: float) -> float:
    """Return the half-width of Student's interval for the mean of many network averages."""
    quantile = float(stats.t.isf(chance / 2, len(values) - 1))
    return quantile * float(values.std()) / math.sqrt(len(values))


def _cosine(pair: Pair) -> Tensor:
    gram = pair.gram
    size = gram.diagonal().prod().sqrt()
    return (gram[0, 1] / size.clamp(min=1e-300)).clamp(-1.0, 1.0)


def gates_follow_the_arc_cosine(
    trial: Trial, gate: Arc = order_zero, step: Arc = order_one, networks: int = NETWORKS
) -> Sequence[Comparison]:
    """Compare overlaps of random gates with arc-cosine kernels, at the trial's inputs and depth.

    The mean over networks of width w is off its limit by b/w + O(1/w²), so the difference of the
    means at w/2 and w measures what is missing at w, and is part of the bound. Layer by layer,
    given the layer before, there is no such bias, and Hoeffding's interval holds at every size.
    """
    chain = dense_chain(trial.net)
    if chain is None:
        raise CannotTry("the law is one for a chain of dense layers")
    layers = len(chain.hidden)
    pair = pair_of(trial, layers + 1)
    zero = torch.zeros(1, dtype=torch.float64)
    if not bool(pair.x.any(1).all()):
        return [Comparison(zero, zero, 0.0, EvidenceKind.STATISTICAL, what="an input is 0")]
    rho = _cosine(pair)
    chance = trial.error_probability / 3  # three intervals
    narrow, wide = (
        drawn_gates(rho, layers, width, networks, trial.generator, gate)
        for width in (WIDTH // 2, WIDTH)
    )
    means = [samples.products.mean() for samples in (narrow, wide)]
    widths = [_interval(samples.products, chance) for samples in (narrow, wide)]
    bound = 2 * widths[1] + widths[0] + abs(float(means[0] - means[1]))
    rival = limit_law(rho, layers, order_one)
    _refuse_if_blind(float((rival - limit_law(rho, layers)).abs()), bound, networks)
    # Each overlap is an average of w numbers in [0, 2], independent given the layers before.
    hoeffding = math.sqrt(2 * math.log(2 * layers / chance) / (WIDTH * networks))
    found = wide.surprises.mean(0)
    return [
        Comparison(
            means[1][None],
            limit_law(rho, layers, gate, step)[None],
            bound,
            EvidenceKind.STATISTICAL,
            what=f"Π (2/w)⟨G, G'⟩ of {networks} networks of width {WIDTH}",
            error_probability=2 * chance,
            rival=rival[None],
        ),
        Comparison(
            found,
            torch.zeros_like(found),
            hoeffding,
            EvidenceKind.STATISTICAL,
            what="(2/w)⟨G_l, G_l'⟩ − κ₀ of the layer before",
            error_probability=chance,
        ),
    ]


def _refuse_if_blind(gap: float, bound: float, networks: int) -> None:
    """Say how many networks would tell the order-1 kernel, if these cannot."""
    if 2 * bound < gap:
        return
    if gap < 1e-6:
        raise CannotTry("at these inputs the kernels of order 0 and 1 agree; take others")
    needed = math.ceil(networks * (2.5 * bound / gap) ** 2)
    raise CannotTry(
        f"{networks} networks cannot tell the order-1 kernel, {gap:.2g} away at these inputs, from "
        f"an error of {bound:.2g}; about {needed} would, of width {WIDTH} or more"
    )


INFINITE_GATES = Statement(
    id="ntk.infinite-gates",
    title="The gates of a wide random ReLU network overlap as arc-cosine kernels of order 0.",
    kind=Kind.LIMIT,
    latex=(
        r"\prod_l \tfrac{2}{w} \langle G_l, G_l' \rangle \to \prod_l \kappa_0(\rho_{l-1}), \quad "
        r"\kappa_0(\rho) = 1 - \tfrac{1}{\pi} \arccos \rho, \quad \rho_l = \kappa_1(\rho_{l-1})"
    ),
    sources=("npf, section 5", "dgn, section 4"),
    hypotheses=(needs.FULLY_CONNECTED, needs.GATED, needs.DATA_INPUT),
    claim=gates_follow_the_arc_cosine,
    mutants=(
        Mutant("order 1 in place of order 0", {"gate": order_one}),
        Mutant("the cosine of the inputs at every layer", {"step": _stays}),
    ),
    controls="Order 1 in place of order 0, excluded by the interval at the inputs chosen.",
    note=(
        "Drawn at the depth and the inputs given; the network's own gates play no part. Where the "
        "sample cannot tell order 1 the verdict says how many networks would."
    ),
    draws_networks=True,
)

STATEMENTS = (INFINITE_GATES,)
