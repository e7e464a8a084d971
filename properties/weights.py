"""The weight entries of a network as one vector, and which of them can matter at given inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reluctant.theory.errors import InputError
from reluctant.theory.network import Gates, PathNetwork
from reluctant.theory.statements import CannotTry, Trial

Sigma = float | Mapping[str, float]
_PRODUCTS = 2**33  # multiplications that take some ten seconds
_FEWEST = 64


@dataclass(frozen=True, slots=True, eq=False)
class WeightEntries:
    """Hold a network with its inputs and gates, and its parameters' entries as one vector.

    An entry is *live* if a path through it has a feature other than 0; no other can matter.

    Attributes:
        net: Network.
        x: Inputs, float64.
        gates: Gates, float64.
        numbers: For each weight tensor, the place of each of its entries in the vector.
        sigmas: σ of each entry.
        signed: Places of the live entries with σ > 0, whose signs can be tried.
        still: Places of the live entries with σ = 0.
    """

    net: PathNetwork
    x: Tensor
    gates: list[Tensor]
    numbers: list[Tensor]
    sigmas: Float[Tensor, " entries"]
    signed: Tensor
    still: Tensor

    @property
    def patterns(self) -> int:
        """Return the number of sign patterns of the live entries."""
        return int(2 ** len(self.signed))

    def output(self, row: Float[Tensor, " entries"]) -> Float[Tensor, "n outputs"]:
        """Return the outputs at one vector of weights."""
        weights = [row[places] for places in self.numbers]
        return self.net.forward(self.x, self.gates, weights).reshape(len(self.x), -1)

    def with_signs(self, signs: Float[Tensor, "draws signed"]) -> Float[Tensor, "draws entries"]:
        """Return vectors of weights σ_j times a sign each; entries that cannot matter are σ_j."""
        flat = self.sigmas.expand(len(signs), -1).clone()
        flat[:, self.signed] = signs * self.sigmas[self.signed]
        return flat


def weight_entries(
    trial: Trial, sigma: Sigma, gates: Gates | None = None, x: Tensor | None = None
) -> WeightEntries:
    """Number the weight entries of a trial's network and find those that can matter.

    Args:
        trial: Network and inputs.
        sigma: σ, one number for all weights or one a parameter by name.
        gates: Gates in place of the recorded ones.
        x: Inputs in place of the trial's.

    Raises:
        InputError: If σ is missing for a parameter on a path.
    """
    net = trial.net
    x = (trial.x if x is None else x).detach().double()
    held = [g.detach().double() for g in (trial.gates if gates is None else gates)]
    numbers, sigmas = _numbered(net, sigma)
    entries = WeightEntries(net, x, held, numbers, sigmas, torch.arange(0), torch.arange(0))
    live = _live(entries)
    signed, still = live & (sigmas > 0), live & (sigmas == 0)
    return WeightEntries(
        net, x, held, numbers, sigmas, signed.nonzero().flatten(), still.nonzero().flatten()
    )


def absolute_outputs(
    entries: WeightEntries, row: Float[Tensor, " entries"]
) -> Float[Tensor, "n outputs"]:
    """Return the sum of absolute contributions of all paths at weights that are not negative."""
    weights = [row[places] for places in entries.numbers]
    gates = [g.abs() for g in entries.gates]
    total = entries.net.forward(
        entries.x.abs(), gates, weights, constant=torch.abs, magnitudes=True
    )
    return total.reshape(len(entries.x), -1)


def _numbered(net: PathNetwork, sigma: Sigma) -> tuple[list[Tensor], Tensor]:
    sizes: dict[int, int] = {}
    for weight in net.weights:
        sizes[weight.parameter] = max(sizes.get(weight.parameter, 0), int(weight.entries.max()) + 1)
    on_paths = {node.weight for node in net.weighted}
    named = {w.parameter: w.name for w in net.weights}
    used = [net.weights[k].parameter for k in sorted(on_paths)]
    if isinstance(sigma, Mapping):
        missing = [named[p] for p in dict.fromkeys(used) if named[p] not in sigma]
        if missing:
            raise InputError(
                f"no σ is given for {', '.join(missing)}; give one for every parameter on a path"
            )
    starts: dict[int, int] = {}
    values: list[Tensor] = [torch.zeros(0, dtype=torch.float64)]
    for parameter, size in sizes.items():
        starts[parameter] = sum(len(v) for v in values)
        value = float(sigma.get(named[parameter], 0.0) if isinstance(sigma, Mapping) else sigma)
        values.append(torch.full((size,), value, dtype=torch.float64))
    return [w.entries + starts[w.parameter] for w in net.weights], torch.cat(values)


def _live(entries: WeightEntries) -> Tensor:
    """Tell which entries can matter.

    At weights 1, the slope of the sum of absolute contributions in an entry is Σ |φ_p| over the
    paths through it. It is 0 only if each of those features is 0 at each input.
    """
    row = torch.ones(len(entries.sigmas), dtype=torch.float64, requires_grad=True)
    total = absolute_outputs(entries, row).sum()
    if not total.requires_grad:
        return torch.zeros(len(row), dtype=torch.bool)
    (slope,) = torch.autograd.grad(total, row)
    return slope > 0


def affordable_patterns(trial: Trial) -> int:
    """Return how many sign patterns can be tried: the trial's number, or fewer if one is dear.

    Raises:
        CannotTry: If not even a few can.
    """
    net = trial.net
    products = sum(
        int(torch.Size(node.shape).numel()) * node.operator.fan_in for node in net.weighted
    )
    affordable = _PRODUCTS // max(1, products * len(trial.x))
    if affordable < _FEWEST:
        raise CannotTry(
            f"{products} products a forward pass are too many to go through sign patterns"
        )
    return min(trial.patterns, affordable)
