r"""The ensemble of sub-networks at full size, modulo primes: 2^54 of them for ResNet-110.

Put a switch :math:`s_j` at every skip, which takes :math:`s_j` times the branch and
:math:`1 - s_j` times the detour. At 0 and 1 the output :math:`g(s)` is that of a sub-network. If g
is affine in each switch, then the sum over all sub-networks is :math:`2^b g(1/2, \dots, 1/2)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from reluctant.theory.heights import Size
from reluctant.theory.modular import FieldTrial, Identity, ModularClaim
from reluctant.theory.statements import CannotTry, Mutant
from reluctant.theory.structure import Skip, identity_skips

_FEW = 2  # switches whose sub-networks are added one by one
Total = Callable[[FieldTrial, Sequence[Skip]], Tensor]


def _switch(trial: FieldTrial, skip: Skip) -> Callable[[list[Tensor], Tensor], Tensor]:
    place = trial.net.nodes[skip.node].operands.index(skip.branch)

    def mixed(operands: list[Tensor], s: Tensor) -> Tensor:
        branch, around = operands[place], operands[1 - place]
        step = trial.network.reduce(branch - around)
        return trial.network.reduce(around + trial.network.reduce(s * step))

    return mixed


def _switched(
    trial: FieldTrial, skips: Sequence[Skip], at: Sequence[Tensor]
) -> dict[int, Callable[[list[Tensor]], Tensor]]:
    found: dict[int, Callable[[list[Tensor]], Tensor]] = {}
    for skip, s in zip(skips, at, strict=True):
        mixed = _switch(trial, skip)
        found[skip.node] = lambda ts, f=mixed, s=s: f(ts, s)  # type: ignore[misc]
    return found


def _halves(trial: FieldTrial, skips: Sequence[Skip]) -> list[Tensor]:
    half = torch.tensor(float(trial.over.inverse(2)), dtype=torch.float64)
    return [trial.over.reduce(half)] * len(skips)


def _g(trial: FieldTrial, skips: Sequence[Skip], at: Sequence[Tensor]) -> Tensor:
    replace = _switched(trial, skips, at)
    return trial.network.output(trial.x, trial.gates, trial.weights, replace=replace).flatten(1)


def all_subnetworks(trial: FieldTrial, skips: Sequence[Skip]) -> Tensor:
    """Return the sum of the outputs of all sub-networks, shape (n, outputs)."""
    power = float(pow(2, len(skips), trial.over.prime))
    factor = trial.over.reduce(torch.tensor(power, dtype=torch.float64))
    return trial.over.reduce(factor * _g(trial, skips, _halves(trial, skips)))


def _all_but_one(trial: FieldTrial, skips: Sequence[Skip]) -> Tensor:
    """Leave out the sub-network of detours only."""
    none = [torch.zeros((), dtype=torch.float64)] * len(skips)
    return trial.over.reduce(all_subnetworks(trial, skips) - _g(trial, skips, none))


def _one_never_skipped(trial: FieldTrial, skips: Sequence[Skip]) -> Tensor:
    """Leave out the sub-networks that go around the last block."""
    at = [*_halves(trial, skips[:-1]), torch.ones((), dtype=torch.float64)]
    power = float(pow(2, len(skips) - 1, trial.over.prime))
    factor = trial.over.reduce(torch.tensor(power, dtype=torch.float64))
    return trial.over.reduce(factor * _g(trial, skips, at))


def output_is_a_sum_over_subnetworks(
    trial: FieldTrial, total: Total = all_subnetworks
) -> Sequence[Identity]:
    """Compare f with the sum over sub-networks; g with the affine function of each switch; and few.

    A polynomial is affine in a switch if g at a new value is g plus the step times the slope, for
    all values.
    """
    net, over = trial.net, trial.over
    skips = identity_skips(net)
    if not skips:
        raise CannotTry("the network has no identity skips")
    b = len(skips)
    extra = Size(b + 2, 3.0 * b + math.log2(trial.output.numel()))
    size = trial.recording.sizes[net.output].times(extra)
    what = f"graph against the sum of 2^{b} sub-networks"
    found = [trial.identity(trial.graph_output, total(trial, skips), what, size=size)]
    at = [s.reshape(()) for s in trial.draw(b, 1)]
    along = trial.draw(*trial.output.shape)
    shaped = along.reshape(len(along), *net.nodes[net.output].shape)
    switches = {skip.node: _switch(trial, skip) for skip in skips}
    _, _, slopes = trial.network.slopes(
        trial.x, trial.gates, trial.weights, shaped, switches=switches, at=at
    )
    replace = _switched(trial, skips, at)
    values = trial.network.values(trial.x, trial.gates, trial.weights, replace=replace)
    here = trial.inner(along, values[net.output].flatten(1))
    for skip, s, slope in zip(skips, at, slopes, strict=True):
        new = trial.draw()
        operands = [values[k] for k in net.nodes[skip.node].operands]
        given = {skip.node: switches[skip.node](operands, new)}
        moved = trial.network.changed(values, given, trial.gates, trial.weights, replace=replace)
        left = over.reduce(trial.inner(along, moved.flatten(1)) - here)
        right = over.reduce(over.reduce(new - s) * slope)
        name = net.nodes[skip.node].name
        what = f"g after a switch at {name} against its slope"
        found.append(trial.identity(left, right, what, size=size))
    found.append(_few_one_by_one(trial, skips, at, size))
    return found


def _few_one_by_one(
    trial: FieldTrial, skips: Sequence[Skip], at: Sequence[Tensor], size: Size
) -> Identity:
    """Compare the sum over a few blocks' sub-networks, each evaluated, with the value at halves."""
    few = torch.randperm(len(skips), generator=trial.generator)[:_FEW].tolist()
    added = torch.zeros_like(trial.output)
    for choice in product((0.0, 1.0), repeat=len(few)):
        here = list(at)
        for j, s in zip(few, choice, strict=True):
            here[j] = torch.tensor(s, dtype=torch.float64)
        added = trial.over.reduce(added + _g(trial, skips, here))
    halves = list(at)
    for j in few:
        halves[j] = _halves(trial, skips[:1])[0]
    factor = 2.0 ** len(few)
    right = trial.over.reduce(factor * _g(trial, skips, halves))
    what = f"{2 ** len(few)} sub-networks one by one against g at ½"
    return trial.identity(added, right, what, size=size)


OUTPUT_ENSEMBLE = ModularClaim(
    output_is_a_sum_over_subnetworks,
    (
        Mutant("one sub-network left out", {"total": _all_but_one}),
        Mutant("one block never skipped", {"total": _one_never_skipped}),
    ),
)
