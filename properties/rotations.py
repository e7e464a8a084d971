"""Overlaps added over the rotations of one input: by listed paths, or by passes of ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reluctant.properties.bounds import is_integral, kernel_underflow
from reluctant.properties.shifts import Shift
from reluctant.theory.counts import count_paths
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gates
from reluctant.theory.paths import paths
from reluctant.theory.pooled import PooledChain, without_factor
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import Trial
from reluctant.theory.symmetry import orbit, rotate
from reluctant.theory.tracing import trace

Chosen = Callable[[PathNetwork, Gates], list[Tensor]]


def all_rotations(sizes: Sequence[int]) -> tuple[Shift, ...]:
    """Return every cyclic shift along axes of the given sizes, that by nothing first."""
    return orbit(sizes, (1,) * len(sizes))


def as_recorded(net: PathNetwork, chain: PooledChain, gates: Gates) -> list[Tensor]:
    """Keep the winners of a maximum as they were recorded."""
    return list(gates)


def rotation_sum(
    trial: Trial,
    chain: PooledChain,
    rotations: Callable[[Sequence[int]], tuple[Shift, ...]] = all_rotations,
    winners: Callable[[PathNetwork, PooledChain, Gates], list[Tensor]] = as_recorded,
) -> tuple[Tensor, Tensor]:
    r"""Sum overlaps over rotations, and bound the rounding of the sum.

    .. math::
        \sum_r \sum_i x(i)\, \mathrm{rot}(x', r)(i)\, \mathrm{overlap}(i, x, \mathrm{rot}(x', r))

    Every path is listed where there are few. Else the paths are added by forward passes with all
    weights 1, fed with :math:`x \odot \mathrm{rot}(x', r)` and gated by the product of the gates.

    Args:
        trial: Trial with the network.
        chain: Its shape.
        rotations: Shifts to sum over, given the sizes.
        winners: Gates to use, given the recorded ones.

    Returns:
        The sum for the first output, and the bound, both of shape (n, n).
    """
    net, turned = without_factor(trial.net), rotations(trial.net.input_shape[1:])
    few = count_paths(net, trial.x) <= trial.paths
    found, size = (_listed if few else _passed)(
        trial, turned, lambda at, gates: winners(at, chain, gates)
    )
    gates = winners(net, chain, trial.gates)
    if is_integral(net, trial.x, gates, []) and float(size.max()) < 2.0**53:
        return found, torch.zeros_like(found)
    additions = (trial.paths if few else 0) + trial.x[0].numel() + len(turned) + 8
    added = (1 + additions) * kernel_underflow(net, trial.x, gates, output=0).max()
    return found, gamma(additions + 4 * roundings(net)) * size + added


def _listed(trial: Trial, turned: Sequence[Shift], chosen: Chosen) -> tuple[Tensor, Tensor]:
    """Add x(i) x'(i) overlap(i, x, x') over listed paths; and the absolute values of that."""
    n = len(trial.x)
    stacked = torch.cat([trial.x, *(rotate(trial.x, r) for r in turned)])
    net = trace(trial.module, stacked)
    listed = paths(net, stacked, gates=chosen(net, net.gates(stacked)), limit=trial.paths)
    overlap = listed.overlap(0)

    def total(t: Tensor) -> Tensor:
        blocks = [slice((k + 1) * n, (k + 2) * n) for k in range(len(turned))]
        parts = [torch.einsum("ni,mi,inm->nm", t[:n], t[b], overlap[:, :n, b]) for b in blocks]
        return torch.stack(parts).sum(0)

    return total(listed.x), total(listed.x.abs())


def _passed(trial: Trial, turned: Sequence[Shift], chosen: Chosen) -> tuple[Tensor, Tensor]:
    """Add the same by forward passes with all weights 1, a pair of inputs an example."""
    net, n = without_factor(trial.net), len(trial.x)
    ones = [torch.ones(w.shape, dtype=torch.float64) for w in net.weights]
    mine = chosen(net, trial.gates)

    def pairs(left: Tensor, right: Tensor) -> Tensor:
        return (left.double()[:, None] * right.double()[None]).flatten(0, 1)

    total = torch.zeros(2, n, n, dtype=torch.float64)
    for shift in turned:
        moved = rotate(trial.x, shift)
        gates = [pairs(a, b) for a, b in zip(mine, chosen(net, net.gates(moved)), strict=True)]
        product = pairs(trial.x, moved)
        for k, fed_with in enumerate((product, product.abs())):
            output = net.forward(fed_with, gates, ones, sources=False)
            total[k] += output.flatten(1)[:, 0].reshape(n, n)
    return total[0], total[1]
