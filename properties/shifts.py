"""What shift symmetry needs, and what rounding may do to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reluctant.properties.bounds import is_integral, kernel_tolerance
from reluctant.theory.anatomy import called, reductions
from reluctant.theory.departures import from_pooled
from reluctant.theory.kernels import kernel_magnitude
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate
from reluctant.theory.pooled import (
    PooledChain,
    candidates,
    is_a_maximum,
    pooled_chain,
    winners_layer,
    without_factor,
)
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import CannotTry, Hypothesis, Trial
from reluctant.theory.symmetry import ShiftSymmetry, asymmetries, shift_symmetry
from reluctant.theory.underflow import forward_underflow
from reluctant.theory.verdicts import EvidenceKind, Unmet

Shift = tuple[int, ...]
_SHIFTS = 6  # shifts tried in one trial, at most
_EXACT_BELOW = 2.0**53


SHIFT_INVARIANT = Hypothesis(
    "shift invariant",
    "Some cyclic shifts of the data leave the output as it is, whatever the weights.",
    asymmetries,
)


def _not_under_all(net: PathNetwork) -> Iterator[Unmet]:
    found = shift_symmetry(net)
    if isinstance(found, Unmet):
        yield from asymmetries(net)
    elif max(found.steps) > 1:
        steps = " and ".join(map(str, found.steps))
        left = f"only shifts by multiples of {steps} leave the output as it is"
        named = [(called(net, each.node), each.node.place) for each in reductions(net)]
        for name, place in named or [("the network", net.nodes[net.output].place)]:
            yield Unmet(
                "invariant under every shift", f"{name} leaves out positions: {left}", place
            )


ALL_SHIFTS = Hypothesis(
    "invariant under every shift",
    "Every cyclic shift of the data leaves the output as it is, whatever the weights.",
    _not_under_all,
)


def _broken_ties(net: PathNetwork) -> Iterator[Unmet]:
    if not isinstance(shift_symmetry(net), ShiftSymmetry):
        return  # another hypothesis says where
    for g in net.value_gates:
        layer = net.gate_layers[g]
        if layer.ties == "shared" or not is_a_maximum(net, g):
            continue
        if isinstance(shift_symmetry(net, ordered=(g,)), Unmet):
            why = f"{layer.name} takes the first of several winners, which a shift can change"
            yield Unmet("ties are shared", why, layer.place)


SHARED_TIES = Hypothesis(
    "ties are shared",
    "No maximum over all positions takes the first of several winners.",
    _broken_ties,
)


def _pooled(by: str, name: str, pooling: str) -> Hypothesis:
    """Return the hypothesis that convolutions are pooled once, over all positions."""

    def test(net: PathNetwork) -> Iterator[Unmet]:
        chain = pooled_chain(net)
        if chain is not None and chain.by == by:
            return
        found = [
            Unmet(name, f"{called(net, n)} {what}", n.place) for n, what in from_pooled(net, by)
        ]
        why = f"the network is no chain of convolutions of stride 1, {pooling}, and dense layers"
        yield from dict.fromkeys(found or [Unmet(name, why, net.nodes[net.output].place)])

    return Hypothesis(name, f"Convolutions of stride 1, {pooling}, dense layers.", test)


AVERAGED = _pooled("average", "convolutions, averaged", "the average over all positions")
MAXIMISED = _pooled("max", "convolutions, maximised", "a maximum over all positions")


def symmetry(trial: Trial) -> ShiftSymmetry:
    """Return the shifts that leave a trial's network as it is; all shifts if none does.

    Raises:
        CannotTry: If the data have no positions.
    """
    found = shift_symmetry(trial.net)
    if isinstance(found, ShiftSymmetry):
        return found
    sizes = tuple(trial.net.input_shape[1:])
    if math.prod(sizes) < 2:
        raise CannotTry("the data have no positions that could be shifted")
    return ShiftSymmetry(sizes, (1,) * len(sizes))


def some(trial: Trial, shifts: Sequence[Shift]) -> list[Shift]:
    """Draw a few of the shifts, never that by nothing."""
    others = [r for r in shifts if any(r)]
    order = torch.randperm(len(others), generator=trial.generator).tolist()
    return [others[k] for k in order[:_SHIFTS]]


def absolute(trial: Trial, node: int) -> Tensor:
    r"""Return the sums of absolute contributions to a node, shape (n, \*shape)."""
    weights = [w.abs() for w in trial.weights]
    x = trial.x.double().abs()
    return trial.net.forward(
        x, trial.gates, weights, constant=torch.abs, magnitudes=True, output=node
    )


def soft_slack(trial: Trial) -> float:
    r"""Bound the relative change of a product of soft gates that are computed anew.

    A logistic gate obeys :math:`|\ln G(q) - \ln G(q')| \le \beta |q - q'|`, and two evaluations of
    q differ by at most 2 γ_N times the sum of absolute contributions, and twice what underflow adds;
    soft gates that q has passed change it by their own factor, which comes first.

    Raises:
        CannotTry: If the bound is no number.
    """
    net, dtype = trial.net, trial.x.dtype
    graph = {node.name: node for node in net.program.graph.nodes}
    off: dict[int, float] = {}  # by gate layer, how far the logarithm of a gate may be off
    for g, layer in enumerate(net.gate_layers):
        made = graph.get(layer.made_by)
        if made is None or not str(made.target).startswith("reluctant.gate"):
            continue
        slope = float(str(made.args[1])) if len(made.args) > 1 else 0.0
        if slope and layer.source is not None:
            before = (net.nodes[i] for i in net.ancestors([layer.source]))
            passed = sum(off.get(node.gate, 0.0) for node in before if isinstance(node, Gate))
            moved = 2 * gamma(roundings(net, layer.source), dtype) + _excess(passed)
            moved *= float(absolute(trial, layer.source).max())
            moved += 2 * float(
                forward_underflow(net, trial.x, trial.gates, dtype=dtype, output=layer.source).max()
            )
            off[g] = slope * moved + 8 * torch.finfo(dtype).eps
    return _excess(sum(off.get(g, 0.0) for g in net.value_gates))


def _excess(logarithm: float) -> float:
    """Return the factor that this is the logarithm of, less 1."""
    try:
        return math.expm1(logarithm)
    except OverflowError as error:
        raise CannotTry(
            "rounding may change these soft gates by any factor; take hard gates or smaller weights"
        ) from error


def kernel_bound(
    trial: Trial, net: PathNetwork, x: Tensor | None = None
) -> tuple[Tensor | float, EvidenceKind]:
    """Return how far apart two kernels may be whose gates were recorded apart.

    Args:
        trial: Trial with the gates.
        net: Its network, or one with the same gates.
        x: Data in place of the trial's.
    """
    x = trial.x if x is None else x
    bound, kind = kernel_tolerance(net, x, trial.gates)
    slack = soft_slack(trial)
    if not slack:
        return bound, kind
    return bound + 2 * slack * kernel_magnitude(net, x, trial.gates), EvidenceKind.ROUNDING


def without_ties(trial: Trial, chain: PooledChain) -> Trial:
    """Keep the inputs at which no ties decide a maximum over all positions.

    A tie matters if some path goes through a winner. Shared ties never decide, as long as they
    are computed without rounding.

    Raises:
        CannotTry: If ties decide at every input.
    """
    net = trial.net
    layer = winners_layer(net, chain)
    compared, size, below = candidates(net, chain, trial.x, trial.gates)
    others = [torch.ones(1) if g == layer else t for g, t in enumerate(trial.gates)]
    exact = is_integral(without_factor(net), trial.x, others, trial.weights)
    exact = exact and float(size.max()) < _EXACT_BELOW
    if exact and net.gate_layers[layer].ties == "shared":
        return trial
    dtype = trial.x.dtype
    off = 0.0 if exact else 2 * gamma(roundings(net, chain.pool), dtype) * size
    if not exact:
        added = forward_underflow(net, trial.x, trial.gates, dtype=dtype, output=chain.pool)
        off = off + 2 * added.max()
    winning = compared + off >= (compared - off).amax(1, keepdim=True)
    decided = ((winning & (below > 0)).any(1) & (winning.sum(1) > 1)).logical_not().all(1)
    if not bool(decided.any()):
        raise CannotTry("several positions attain the maximum at every input; try other inputs")
    return trial if bool(decided.all()) else replace(trial, x=trial.x[decided])
