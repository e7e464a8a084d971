r"""The neural path kernel by drawing: value networks of random signs with the recorded gates.

For independent signs ±σ in place of the weights, none of which acts twice on a path,

.. math:: E_v[f_v(x) f_v(x')] = H(\sigma^2)(x, x')

whatever the network, since the mean of v_p v_q is 0 unless two paths have the same weights. Where the
network ends in dense layers, they are averaged over without drawing: what is drawn is ⟨h, h'⟩ over the
last hidden units, whose tails are far shorter than those of f f'.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reluctant.theory.errors import InputError, NotIdentified
from reluctant.theory.images import repeated_weights
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gates, Weighted
from reluctant.theory.operands import check_batch, check_output
from reluctant.theory.recording import network_at, record
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.structure import last_operations, outputs_share_a_kernel
from reluctant.theory.tails import Mean, Terms
from reluctant.theory.variances import Variance, variances_of

_PILOT = 64  # networks that only say where the others are to be expected
_UNITS = 1024  # means of networks, in a round: as many as bound a second moment well
# a round has units of a quarter of all networks before it at most, so that their mean is a centre no
# further off than half a unit's standard deviation
_STEP = 4
_NUMBERS = 1 << 20  # held at once while networks are run: they stay in a processor's cache
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Be a kernel that was drawn, with error bars.

    Attributes:
        estimate: Estimate of H, of the shape of H.
        error: For each entry, how far the estimate may be off.
        confidence: Chance that the bar of an entry holds.
        kurtosis: Largest kurtosis of one network's product for which it does.
        draws: Number of networks.
    """

    estimate: Float[Tensor, "n m *outputs"]
    error: Float[Tensor, "n m *outputs"]
    confidence: float
    kurtosis: float
    draws: int


def sketch(
    module: nn.Module | PathNetwork,
    x: Tensor,
    y: Tensor | None = None,
    variance: Variance = 1.0,
    *,
    within: float = 0.02,
    confidence: float = 0.99,
    draws: int = 1 << 17,
    kurtosis: float = 30.0,
    sources: bool = True,
    output: int | None = None,
    gates: tuple[Gates, Gates] | None = None,
    seed: int = 0,
) -> Sketch:
    r"""Estimate the neural path kernel, or the law of the outputs, by random value networks.

    Args:
        module: Module, or a network traced at the shape of x.
        x: Inputs, shape (n, \*input).
        y: Second inputs; x again if None.
        variance: σ², as for :func:`~reluctant.theory.kernels.nngp_law`; 1 gives H.
        within: Stop when all bars are at most so many times √(H(x, x) H(x', x')), as estimated.
        confidence: Chance with which each bar has to hold.
        draws: Largest number of networks.
        kurtosis: Largest kurtosis of the product that one network gives, E (T − H)⁴ / (Var T)². With
            L drawn weights on a path it is at most 81^L (hypercontractivity: O'Donnell, *Analysis of
            Boolean functions*, theorem 10.21), and near 3 in wide networks. Draws that contradict it
            are refused.
        sources: False leaves out the paths from sources.
        output: Output coordinate; None for all.
        gates: Gates of x and of y to be used in place of the recorded ones.
        seed: Number that the signs are drawn from.

    Returns:
        The estimate, with a bar for each entry.

    Raises:
        NotIdentified: If a weight acts twice on a path.
        InputError: If inputs do not fit, if more networks than ``draws`` are needed (says how many), or
            if the draws have longer tails than ``kurtosis``.

    Cost:
        A forward pass of all examples, and a matrix product of their last hidden units, a network:
        positions once, where the exact kernel has their square, and examples once, where it has
        their pairs.

    Source:
        The bars: :mod:`reluctant.theory.tails`. Rounds of draws share the chance to fail as
        1/2, 1/4, …, so that stopping when the bars are small enough is no cheating.
    """
    _check(within, confidence, draws, kurtosis, seed)
    drawn = RandomValues(module, x, y, variance, sources, output, gates, seed)
    pilot = torch.cat([*drawn.products(_PILOT, 1)])
    if not bool(torch.isfinite(pilot).all()):
        raise InputError(
            "the products exceed the largest float64; scale the inputs or the variance down"
        )
    used, size, centre, spread = _PILOT, 1, pilot.mean(0), pilot.var(0)
    failure = 1.0 - confidence
    while True:
        failure /= 2.0
        scale, rounding = drawn.scale(), drawn.rounding(size)
        worst = float((spread / (within * scale).square()).where(spread > rounding**2, 0.0).max())
        size = _unit_size(worst, kurtosis, failure)
        if (needed := used + _UNITS * size) > draws:
            raise InputError(
                f"bars within {within:g} of √(H(x, x) H(x', x')) take about {needed} networks, more "
                f"than draws={draws}; allow for that many, or for wider bars by within="
            )
        size = min(size, max(1, used // _STEP))
        terms = Terms(_UNITS, _unit_kurtosis(kurtosis, size), failure)
        mean = Mean(centre, (spread / size).maximum(rounding**2 + _TINY), terms)
        for some in drawn.products(_UNITS, size):
            mean.add(some)
        used += _UNITS * size
        centre, spread, bar = mean.estimate, mean.second_moment * size, mean.bar
        rounding = drawn.rounding(size)
        if bool((bar <= within * drawn.scale() + rounding + _TINY**0.5).all()):
            found = (centre, bar + rounding)
            estimate, error = (t[..., 0] if drawn.is_shared else t for t in found)
            return Sketch(estimate, error, confidence, kurtosis, used)


def _check(within: float, confidence: float, draws: int, kurtosis: float, seed: int) -> None:
    for name, number in [("within", within), ("confidence", confidence), ("kurtosis", kurtosis)]:
        if not isinstance(number, int | float):
            raise InputError(f"{name} must be a number, got {number!r}")
    for name, number in [("draws", draws), ("seed", seed)]:
        if not isinstance(number, int):
            raise InputError(f"{name} must be an integer, got {number!r}")
    if not within > 0.0:
        raise InputError(f"within must be positive, got {within}; the exact kernel is rl.npk")
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence}")
    if not 1.0 <= kurtosis < math.inf:
        raise InputError(f"a kurtosis is a finite number of at least 1, got {kurtosis}")
    if draws < _PILOT + _UNITS:
        raise InputError(f"draws must be {_PILOT + _UNITS} at least, got {draws}")


def _unit_kurtosis(kurtosis: float, size: int) -> float:
    """Return the kurtosis of a mean of independent numbers."""
    return 3.0 + (kurtosis - 3.0) / size


def _unit_size(worst: float, kurtosis: float, failure: float) -> int:
    """Return how many networks a unit needs.

    Args:
        worst: Largest ratio of one network's variance to the square of the bar that is wanted.
        kurtosis: That of one network.
        failure: Chance that a bar does not hold.
    """
    size = 1
    while True:
        terms = Terms(_UNITS, _unit_kurtosis(kurtosis, size), failure)
        # the bar is √(v L/2N) (1 + 1/known), v = variance / size
        factor = math.inf if terms.known == 0.0 else (1.0 + 1.0 / terms.known) ** 2 / 4.0
        most = worst * 2.0 * terms.exponent / _UNITS * factor
        if most <= size:
            return size
        size = 2 * size if math.isinf(most) else min(2 * size, math.ceil(most))


class RandomValues:
    """Hold examples with their gates, and make products of random value networks."""

    def __init__(
        self,
        module: nn.Module | PathNetwork,
        x: Tensor,
        y: Tensor | None,
        variance: Variance,
        sources: bool,
        output: int | None,
        gates: tuple[Gates, Gates] | None,
        seed: int,
    ) -> None:
        net = self.net = network_at(module, x)
        if x.device.type == "mps":
            raise InputError(
                "this device has no float64, in which a sketch is drawn; move all to the cpu"
            )
        if not net.weighted:
            raise InputError("the network has no weights to draw; its kernel is the exact rl.npk")
        for node in repeated_weights(net):
            raise NotIdentified(
                f"{net.weights[node.weight].name} acts twice on a path, and random signs are no law for "
                "it; list the paths of a small network with rl.paths"
            )
        sigma = {name: math.sqrt(v) for name, v in variances_of(net, variance).items()}
        self._sigma = {node.weight: sigma[net.weights[node.weight].name] for node in net.weighted}
        self._sources = sources
        self._output = None if output is None else check_output(net, output)
        self.is_shared = output is not None or outputs_share_a_kernel(net)
        mine = _for_all(gates[0] if gates else record(net, x), x)
        if y is not None:
            check_batch(net, y)
            other = _for_all(gates[1] if gates else record(net, y), y)
            mine = [torch.cat(pair) for pair in zip(mine, other, strict=True)]
        self._first, self._square = len(x), y is None
        self._x = (x if y is None else torch.cat([x, y])).double()
        # 0/1 gates take an eighth of the memory
        self._gates = [g.bool() if bool(((g == 0) | (g == 1)).all()) else g for g in mine]
        self._ends = _ends(net)
        last = [node.weight for node in self._ends]
        self._drawn = [k for k in self._sigma if k not in last]
        self._generator = torch.Generator().manual_seed(seed)
        self._diagonals = [self._x.new_zeros(())] * 2
        self._seen = 0
        numbers = max(1, sum(math.prod(net.nodes[i].shape) for i in net.value_nodes))
        self._together = max(1, _NUMBERS // (numbers * len(self._x)))
        self._examples = max(1, _NUMBERS // numbers)

    def products(self, units: int, size: int) -> Iterator[Float[Tensor, "units n m outputs"]]:
        """Go through means of the products of so many networks each, drawn anew, some at once."""
        most = max(1, _NUMBERS // (len(self._x) * self._first))
        for start in range(0, units, batch := max(1, min(most, self._together // size))):
            count = min(batch, units - start)
            total: Tensor | float = 0.0
            for done in range(0, size, self._together):
                networks = count * min(self._together, size - done)
                h = self._sides(self._of_networks(self._draw(networks)), count)
                total = total + (h[0] @ h[1].mT).movedim(0, -1)
                sizes = (t.square().sum((1, 3)).T for t in h)
                self._diagonals = [d + t for d, t in zip(self._diagonals, sizes, strict=True)]
                self._seen += networks
            assert isinstance(total, Tensor)
            yield total / size

    def scale(self) -> Float[Tensor, "n m outputs"]:
        """Return √(H(x, x) H(x', x')), as the networks up to now have it."""
        left, right = ((d / self._seen).sqrt() for d in self._diagonals)
        return left[:, None] * right[None]

    def rounding(self, networks: int) -> Float[Tensor, "n m outputs"]:
        """Bound what rounding can do to means of products of so many networks, each in absolute value.

        A product of two paths meets the roundings of both, of the sum over units and networks, and
        of the means.
        """
        left, right = self._magnitudes
        count = 2 * roundings(self.net) + left.shape[-1] * networks + 4 * _UNITS
        return gamma(count) * (left @ right.mT)[:, 0].movedim(0, -1)

    @cached_property
    def _magnitudes(self) -> tuple[Tensor, Tensor]:
        weights = {
            k: self._x.new_full((1, *weight.shape), self._sigma.get(k, 0.0))
            for k, weight in enumerate(self.net.weights)
        }
        return self._sides(self._of_networks(weights, magnitudes=True), 1)

    def _sides(
        self, h: Float[Tensor, "networks examples rows outputs"], units: int
    ) -> tuple[Tensor, Tensor]:
        """Return what products are made of, shape (outputs, units, examples, networks · rows)."""
        h = h.unflatten(0, (units, -1)).permute(4, 0, 2, 1, 3).flatten(3)
        return h[:, :, : self._first], h if self._square else h[:, :, self._first :]

    def _draw(self, networks: int) -> dict[int, Tensor]:
        """Draw ±σ for every parameter, and return the weight tensors of so many networks."""
        signs: dict[int, Tensor] = {}
        found = {}
        for k, weight in enumerate(self.net.weights):
            if k not in self._drawn:  # averaged over, or on no path
                found[k] = self._x.new_zeros(()).expand(networks, *weight.shape)
                continue
            if weight.parameter not in signs:
                size = (networks, weight.entries.total)
                bits = torch.randint(0, 2, size, generator=self._generator)
                signs[weight.parameter] = (2 * bits - 1).to(self._x)
            found[k] = self._sigma[k] * weight.entries.of(signs[weight.parameter])
        return found

    def _of_networks(self, drawn: Mapping[int, Tensor], magnitudes: bool = False) -> Tensor:
        features = partial(self._features, magnitudes=magnitudes)
        if len(drawn[0]) > 1:
            return torch.func.vmap(features)(drawn)
        return features({k: w[0] for k, w in drawn.items()})[None]  # convolutions like it better

    def _features(
        self, drawn: Mapping[int, Tensor], magnitudes: bool = False
    ) -> Float[Tensor, "examples units outputs"]:
        """Return what is multiplied: the last hidden units for the sum over them, or the outputs."""
        parts = [
            self._part(slice(start, start + self._examples), drawn, magnitudes)
            for start in range(0, len(self._x), self._examples)
        ]
        return torch.cat(parts)

    def _part(self, some: slice, drawn: Mapping[int, Tensor], magnitudes: bool) -> Tensor:
        x = self._x[some].abs() if magnitudes else self._x[some]
        gates = [g[some] for g in self._gates]
        weights = [drawn[k] for k in range(len(self.net.weights))]

        def at(node: int) -> Tensor:
            value = self.net.forward(
                x,
                gates,
                weights,
                constant=torch.abs if magnitudes else torch.positive,
                sources=self._sources,
                magnitudes=magnitudes,
                output=node,
            )
            return value.flatten(1)

        if not self._ends:
            f = at(self.net.output)[:, None]
            return f if self._output is None else f[..., [self._output]]
        # what one weight tensor reads at several places is added before it is multiplied
        read: dict[int, Tensor] = {}
        for end in self._ends:
            one = x.new_full((len(x), 1), float(self._sources))
            h = at(end.operands[0]) if end.operands else one
            read[end.weight] = read[end.weight] + h if end.weight in read else h
        return torch.cat([self._sigma[k] * h for k, h in read.items()], dim=1)[..., None]


def _ends(net: PathNetwork) -> list[Weighted]:
    """Return the last layers, if all outputs are made by them and their weights by nothing else."""
    found = last_operations(net) or []
    before = [net.weights[n.weight].parameter for n in net.weighted if n not in found]
    own = {n.weight: net.weights[n.weight].parameter for n in found}
    alone = len(set(own.values())) == len(own) and not set(own.values()) & set(before)
    return found if alone else []


def _for_all(gates: Gates, x: Tensor) -> list[Tensor]:
    """Return gates of all examples, where some layers may have the same for each."""
    for layer, g in enumerate(gates):
        if len(g) not in (1, len(x)):
            raise InputError(
                f"gate layer {layer} is that of {len(g)} inputs, got {len(x)}; record both on the same inputs"
            )
    return [g.expand(len(x), *g.shape[1:]) for g in gates]
