"""The weight entries of a network as one vector, and which of them can matter at given inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reluctant.theory.costs import pass_work
from reluctant.theory.errors import InputError
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gates
from reluctant.theory.statements import CannotTry, Trial
from reluctant.theory.tangents import parameter_sizes

Sigma = float | Mapping[str, float]
_SHARE = 0.01  # of the passes of one statement: weights drawn anew are one ingredient of many
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
    def live(self) -> Tensor:
        """Return the places of the live entries, those whose signs can be tried first."""
        return torch.cat([self.signed, self.still])

    @property
    def patterns(self) -> int:
        """Return the number of sign patterns of the live entries, at most 2^62."""
        return int(2 ** min(len(self.signed), 62))

    def weights(self, row: Float[Tensor, " live"]) -> list[Tensor]:
        """Return the weight tensors with given live entries; what cannot matter is σ."""
        whole = self.sigmas.index_put((self.live,), row)
        return [whole[places] for places in self.numbers]

    def output(self, row: Float[Tensor, " live"]) -> Float[Tensor, "n outputs"]:
        """Return the outputs at given live entries."""
        return self.net.forward(self.x, self.gates, self.weights(row)).reshape(len(self.x), -1)

    def with_signs(self, signs: Float[Tensor, "draws signed"]) -> Float[Tensor, "draws live"]:
        """Return live entries: σ_j times a sign each, or 0."""
        zeros = signs.new_zeros(len(signs), len(self.still))
        return torch.cat([signs * self.sigmas[self.signed], zeros], 1)


def weight_entries(
    trial: Trial,
    sigma: Sigma,
    gates: Gates | None = None,
    x: Tensor | None = None,
    net: PathNetwork | None = None,
) -> WeightEntries:
    """Number the weight entries of a trial's network and find those that can matter.

    Args:
        trial: Network and inputs.
        sigma: σ, one number for all weights or one a parameter by name.
        gates: Gates in place of the recorded ones.
        x: Inputs in place of the trial's.
        net: Network in place of the trial's, with the same weights and gates.

    Raises:
        InputError: If σ is missing for a parameter on a path.
    """
    net = trial.net if net is None else net
    x = (trial.x if x is None else x).detach().double()
    held = [g.detach().double() for g in (trial.gates if gates is None else gates)]
    numbers, sigmas = _numbered(net, sigma)
    everything = torch.arange(len(sigmas))
    live = _live(WeightEntries(net, x, held, numbers, sigmas, everything, torch.arange(0)))
    signed, still = live & (sigmas > 0), live & (sigmas == 0)
    return WeightEntries(
        net, x, held, numbers, sigmas, signed.nonzero().flatten(), still.nonzero().flatten()
    )


def absolute_outputs(
    entries: WeightEntries, row: Float[Tensor, " live"]
) -> Float[Tensor, "n outputs"]:
    """Return the sum of absolute contributions of all paths at live entries that are not negative."""
    weights = entries.weights(row)
    gates = [g.abs() for g in entries.gates]
    total = entries.net.forward(
        entries.x.abs(), gates, weights, constant=torch.abs, magnitudes=True
    )
    return total.reshape(len(entries.x), -1)


def _numbered(net: PathNetwork, sigma: Sigma) -> tuple[list[Tensor], Tensor]:
    sizes = parameter_sizes(net)
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
    return [w.entries.listed() + starts[w.parameter] for w in net.weights], torch.cat(values)


def activity(
    net: PathNetwork, x: Tensor, gates: Gates, weights: list[Tensor], *, sources: bool = True
) -> Tensor:
    r"""Return numbers that are positive where an active path arrives, and 0 elsewhere.

    Every tensor is divided by its largest entry, so that the paths of deep networks do not overflow.

    Args:
        net: Network.
        x: Inputs, shape (n, \*input).
        gates: Gates.
        weights: Weight tensors, positive.
        sources: False leaves out the paths from sources.
    """

    def bounded(t: Tensor) -> Tensor:
        largest = t.detach().amax() if t.numel() else t.new_zeros(())
        # What no path reaches stays 0: divided by next to nothing, it would have the slope 0 · ∞.
        return t / largest.clamp(min=1e-300) if largest > 0 else t

    shut = [g.abs() for g in gates]
    return net.forward(
        x.abs(), shut, weights, constant=torch.abs, reduce=bounded, sources=sources, magnitudes=True
    )


def _live(entries: WeightEntries) -> Tensor:
    """Tell which entries can matter.

    The slope in an entry of the sum of absolute contributions is a sum of positive terms, one for
    each path through it with a feature other than 0.
    """
    row = torch.ones(len(entries.sigmas), dtype=torch.float64, requires_grad=True)
    total = activity(entries.net, entries.x, entries.gates, entries.weights(row)).sum()
    if not total.requires_grad:
        return torch.zeros(len(row), dtype=torch.bool)
    (slope,) = torch.autograd.grad(total, row)
    return slope > 0


def affordable_patterns(trial: Trial) -> int:
    """Return how many sign patterns can be tried: the trial's number, or fewer if one is dear.

    Raises:
        CannotTry: If not even a few can.
    """
    affordable = evaluations(trial)
    if affordable < _FEWEST:
        raise CannotTry("one forward pass is too dear to go through sign patterns at this effort")
    return min(trial.patterns, affordable)


def evaluations(trial: Trial) -> int:
    """Return how many forward passes of a trial's inputs its effort allows."""
    one = pass_work(trial.net) * len(trial.x)
    return int(_SHARE * trial.limit.passes) // max(1, one)
