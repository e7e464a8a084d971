"""Smaller instances of the same network: most gates and inputs switched off.

A law for fixed gates holds for every choice of gates. Its two sides are polynomials in the gates in
which each monomial has the gates of two paths only; so they agree everywhere if they agree wherever
all but the gates of two paths are off. Switching gates off at random therefore loses no generality
over many trials, and leaves few enough weights to go through all their signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reluctant.properties.weights import Sigma, activity, affordable_patterns, weight_entries
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Reindex
from reluctant.theory.statements import CannotTry, Trial

_STEPS = 400
_PAIRS = 32  # pairs of inputs to look at


@dataclass(frozen=True, slots=True, eq=False)
class Thinned:
    """Be inputs and gates of which some were switched off.

    Attributes:
        net: Network; of several outputs one is left if anything had to be switched off.
        x: Inputs, in the trial's type.
        gates: Gates.
        what: What was kept, a few words; empty if all was.
    """

    net: PathNetwork
    x: Tensor
    gates: list[Tensor]
    what: str


def thinned(
    trial: Trial, sigma: Sigma = 1.0, *, patterns: int | None = None, outputs: bool = True
) -> Thinned:
    """Switch off gates and inputs at random until all sign patterns of the weights can be tried.

    Two inputs that have an active path in common keep one.

    Args:
        trial: Network, inputs, gates and randomness.
        sigma: σ of the weights; those with σ = 0 have no sign to try.
        patterns: Largest number of patterns; what the trial and the network's size allow if None.
        outputs: False keeps one of several outputs only, if anything has to be switched off.

    Raises:
        CannotTry: If no small enough instance was found, or one evaluation is too dear.
    """
    limit = affordable_patterns(trial) if patterns is None else patterns
    net = trial.net
    layers: list[Tensor] = [trial.x.detach(), *(trial.gates[g].detach() for g in net.value_gates)]
    layers = [t.expand(len(trial.x), *t.shape[1:]) for t in layers]
    masks = [torch.ones(1, *t.shape[1:], dtype=torch.bool) for t in layers]
    if not _is_small(trial, sigma, net, layers, masks, limit):
        if not outputs:
            net = one_output(net, trial.integer(0, net.output_size))
        _thin(trial, sigma, net, layers, masks, limit)
    x, gates = _applied(trial, layers, masks)
    kept, whole = sum(int(m.sum()) for m in masks), sum(m.numel() for m in masks)
    is_part = kept < whole or net.output_size < trial.net.output_size
    what = f"{kept} of {whole} gates and inputs kept" if is_part else ""
    return Thinned(net, x, gates, what)


def one_output(net: PathNetwork, output: int) -> PathNetwork:
    """Return the network of the paths to one output coordinate (flattened)."""
    if net.output_size == 1:
        return net

    def pick(operands: Sequence[Tensor]) -> Tensor:
        return operands[0].flatten(1)[:, output : output + 1]

    last = net.nodes[net.output]
    node = Reindex(
        name=f"{last.name}[{output}]",
        shape=(1,),
        operands=(net.output,),
        place=last.place,
        move=pick,
    )
    return replace(net, nodes=(*net.nodes, node), output=len(net.nodes))


def _thin(
    trial: Trial,
    sigma: Sigma,
    net: PathNetwork,
    layers: list[Tensor],
    masks: list[Tensor],
    limit: int,
) -> None:
    pair, sources = _pair(trial, net, layers, masks)
    if _is_small(trial, sigma, net, layers, masks, limit):
        return
    share = 0.5
    for step in range(_STEPS):
        drawn = list(masks) if step % 2 else [_fewer(m, share, trial.generator) for m in masks]
        k = trial.integer(0, len(masks))
        drawn[k] = _fewer(masks[k], share, trial.generator)
        if not _meets(trial, net, layers, drawn, pair, sources=sources):
            share = max(0.02, share * 0.9)
            continue
        masks[:] = drawn
        if _is_small(trial, sigma, net, layers, masks, limit):
            return
    raise CannotTry(
        f"no part of the network with at most {limit} sign patterns was found; allow more patterns"
    )


def _fewer(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Switch off about a share of what is on, at least one entry."""
    on = mask.flatten().nonzero().flatten()
    off = max(1, int(share * len(on)))
    fewer = mask.flatten().clone()
    fewer[on[torch.randperm(len(on), generator=generator)[:off]]] = False
    return fewer.reshape(mask.shape)


def _applied(
    trial: Trial, layers: list[Tensor], masks: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    x, *used = (t * m.to(t) for t, m in zip(layers, masks, strict=True))
    gates = list(trial.gates)
    for g, t in zip(trial.net.value_gates, used, strict=True):
        gates[g] = t
    return x, gates


def _is_small(
    trial: Trial,
    sigma: Sigma,
    net: PathNetwork,
    layers: list[Tensor],
    masks: list[Tensor],
    limit: int,
) -> bool:
    x, gates = _applied(trial, layers, masks)
    return weight_entries(trial, sigma, gates, x, net).patterns <= limit


def _pair(
    trial: Trial, net: PathNetwork, layers: list[Tensor], masks: list[Tensor]
) -> tuple[tuple[int, int], bool]:
    """Return two inputs with a path in common, and whether it may start at a source.

    Different inputs and paths from the data come first.
    """
    n = len(trial.x)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    order = torch.randperm(len(pairs), generator=trial.generator).tolist()
    candidates = [pairs[k] for k in order][:_PAIRS] + [(i, i) for i in range(n)][:_PAIRS]
    for sources in (False, True):
        for pair in candidates:
            if _meets(trial, net, layers, masks, pair, sources=sources):
                return pair, sources
    return (0, 0), True


def _meets(
    trial: Trial,
    net: PathNetwork,
    layers: list[Tensor],
    masks: list[Tensor],
    pair: tuple[int, int],
    *,
    sources: bool,
) -> bool:
    """Tell whether a path is active for both inputs of a pair."""
    x, gates = _applied(trial, layers, masks)
    i, j = pair
    both_x, *both = [(t[i : i + 1] * t[j : j + 1]).abs().double() for t in (x, *gates)]
    ones = [torch.ones(w.shape, dtype=torch.float64) for w in net.weights]
    return bool((activity(net, both_x, both, ones, sources=sources) > 0).any())
