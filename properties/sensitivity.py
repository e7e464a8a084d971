r"""How far a network is from a symmetry that it does not have, measured on inputs.

A theorem says nothing about a network that only nearly meets its hypotheses; these numbers say how
nearly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reluctant.theory.findings import Size
from reluctant.theory.network import PathNetwork
from reluctant.theory.symmetry import orbit, rotate

_INPUTS = 8
_SHIFTS = 63
_WORK = 2e10  # multiply-adds to spend on shifts


@dataclass(frozen=True, slots=True)
class Sample:
    r"""Be the inputs that are measured on.

    Attributes:
        x: Inputs, shape (n, \*input), n ≥ 1.
        name: Where they come from, such as ``the data``.
    """

    x: Tensor
    name: str

    def first(self, count: int = _INPUTS) -> Sample:
        """Return the first ones."""
        return Sample(self.x[:count].detach(), self.name)

    @property
    def words(self) -> str:
        """Return how many there are, and where they come from."""
        n = len(self.x)
        return f"{n} input{'' if n == 1 else 's'} of {self.name}"


def source_share(net: PathNetwork, sample: Sample) -> Size | None:
    r"""Measure which share of the output the paths from biases and other sources carry.

    .. math:: \frac{\|f_s(x)\|}{\|f_s(x)\| + \|f_d(x)\|}, \qquad f = f_d + f_s

    Gates are as recorded, and :math:`f_d` adds the paths from the data.

    Args:
        net: Network.
        sample: Inputs.
    """
    sample = sample.first()
    here = net.at(sample.x)
    gates, weights = here.gates(sample.x), here.weight_values()
    x = sample.x.double()
    data = here.forward(x, gates, weights, sources=False)
    sources = here.forward(x, gates, weights) - data
    what = "|paths from sources| / (|paths from sources| + |paths from data|)"
    return _size(what, sample.words, _norms(sources), _norms(sources) + _norms(data))


def ray_change(module: nn.Module, sample: Sample) -> Size | None:
    r"""Measure how far the output is from growing with the input.

    .. math:: \frac{\|f(2x) - 2 f(x)\|}{\|2 f(x)\|}

    Args:
        module: Module.
        sample: Inputs.
    """
    sample = sample.first()
    twice = 2.0 * _outputs(module, sample.x)
    change = _outputs(module, 2.0 * sample.x) - twice
    return _size("|f(2x) − 2 f(x)| / |2 f(x)|", sample.words, _norms(change), _norms(twice))


def shift_change(net: PathNetwork, sample: Sample, seed: int = 0) -> Size | None:
    r"""Measure how far the output is from staying the same when the data are shifted cyclically.

    .. math:: \frac{\|f(\mathrm{rot}(x, r)) - f(x)\|}{\|f(x)\|}

    Args:
        net: Network of data with positions.
        sample: Inputs.
        seed: Seed of the choice of shifts r, where all of them are too many.

    Cost:
        A forward pass of the module for each input and shift.
    """
    sizes = net.input_shape[1:]
    work = sum(math.prod(node.shape) * node.operator.fan_in for node in net.weighted)
    passes = int(_WORK / max(work, 1))
    sample = sample.first(max(1, min(_INPUTS, passes // _INPUTS)))
    others = [r for r in orbit(sizes, (1,) * len(sizes)) if any(r)]
    count = min(len(others), _SHIFTS, max(_INPUTS, passes // len(sample.x)))
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))
    chosen = [others[k] for k in order[:count].tolist()]
    before = _outputs(net.module, sample.x)
    changes = [_norms(_outputs(net.module, rotate(sample.x, r)) - before) for r in chosen]
    every = "all" if count == len(others) else f"{count} of the"
    on = f"{sample.words}, {every} {len(others)} cyclic shifts"
    return _size("|f(shifted x) − f(x)| / |f(x)|", on, torch.stack(changes), _norms(before))


def _outputs(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = module(x.clone())
    return found.detach().double().reshape(len(x), -1)


def _norms(t: Tensor) -> Tensor:
    return t.reshape(len(t), -1).square().sum(1).sqrt()


def _size(what: str, on: str, change: Tensor, whole: Tensor) -> Size | None:
    """Return the ratios, without the inputs where the whole is 0; None if it is 0 for all."""
    alive = whole > 0
    if not bool(alive.any()):
        return None
    ratios = (change / whole)[..., alive]
    lost = int((~alive).sum())
    on += f" ({lost} left out, where f(x) = 0)" if lost else ""
    return Size(what, on, float(ratios.max()), float(ratios.mean()))
