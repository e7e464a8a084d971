"""Statement of the number of gate patterns of a deep linearly gated network (dlgn)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import comb, prod

import torch
from torch import Tensor

from reluctant.properties import hypotheses as needs
from reluctant.theory.arrangements import Plane, is_central, most_regions, region_count
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gates
from reluctant.theory.rationals import rational_output
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.underflow import any_order_underflow, forward_underflow
from reluctant.theory.verdicts import EvidenceKind

POINTS = 2048
_SPREAD = 50  # points are integers up to this, so that most are off every hyperplane
_MOST_FLATS = 2000  # intersections of hyperplanes that are gone through
_MOST_INPUTS = 512


def _one_dimension_less(planes: int, inputs: int, central: bool) -> int:
    return most_regions(planes, inputs - 1, central)


def _sources(net: PathNetwork) -> list[int]:
    """Return the nodes of the pre-activations of all gates."""
    found = []
    for g in net.value_gates:
        source = net.gate_layers[g].source
        if source is None:
            raise CannotTry(f"the gates of {net.gate_layers[g].name} cannot be read")
        found.append(source)
    return found


def _hyperplanes(trial: Trial) -> list[Plane]:
    """Return ⟨a, x⟩ + b of every gate, read off at 0 and at the unit vectors, with no rounding."""
    net, planes = trial.net, list[Plane]()
    size = prod(net.input_shape)
    basis = torch.cat([torch.zeros(1, size), torch.eye(size)]).double()
    points = basis.reshape(-1, *net.input_shape)
    gates = [g[:1].double() for g in trial.gates]
    for source in _sources(net):
        part = replace(net, output=source)
        q = [rational_output(part, point[None], gates, trial.weights) for point in points]
        shift = q[0]
        for unit, b in enumerate(shift):
            planes.append((*(values[unit] - b for values in q[1:]), b))
    return planes


def _never_on(trial: Trial, planes: Sequence[Plane] | None) -> Tensor:
    """Tell which pre-activations are 0 everywhere; without their planes, those that no path reaches."""
    if planes is not None:
        return torch.tensor([not any(plane) for plane in planes])
    net, everywhere = trial.net, torch.ones_like(trial.x[:1])
    gates = [g[:1] for g in trial.gates]
    parts = (replace(net, output=source) for source in _sources(net))
    reached = [any_order_underflow(p, everywhere, gates, trial.weights).flatten() for p in parts]
    return torch.cat(reached) == 0


Drawn = Callable[[Trial], Tensor]
Kept = Callable[[Trial, Tensor, Gates, Tensor], Tensor]


def _drawn(trial: Trial) -> Tensor:
    shape = (POINTS, *trial.net.input_shape)
    return torch.randint(-_SPREAD, _SPREAD + 1, shape, generator=trial.generator).double()


def _with_ties(trial: Trial) -> Tensor:
    points = _drawn(trial)
    return torch.cat([torch.zeros_like(points[:1]), points.sign(), points])[: len(points)]


def _off_hyperplanes(trial: Trial, points: Tensor, gates: Gates, never: Tensor) -> Tensor:
    """Tell which points are on no hyperplane, whatever rounding and underflow did.

    Both this evaluation and the module's own, which recorded the gates, are off by a bound.
    """
    net, weights, dtype = trial.net, trial.weights, trial.x.dtype
    largest = [w.abs() for w in weights]
    decided = []
    for source in _sources(net):
        q = net.forward(points, gates, weights, output=source)
        size = net.forward(
            points.abs(), gates, largest, constant=torch.abs, magnitudes=True, output=source
        )
        off = gamma(roundings(net, source), dtype) * size
        off = off + forward_underflow(net, points, gates, dtype=dtype, output=source)
        decided.append(torch.where(q == 0, 0.0, q.abs() - 2 * off).flatten(1).sign())
    signs = torch.cat(decided, 1)
    return ((signs > 0) | ((signs == 0) & never)).all(1)


def _everywhere(trial: Trial, points: Tensor, gates: Gates, never: Tensor) -> Tensor:
    return torch.ones(len(points), dtype=torch.bool)


def patterns_are_regions(
    trial: Trial,
    points: Drawn = _drawn,
    kept: Kept = _off_hyperplanes,
    most: Callable[[int, int, bool], int] = most_regions,
) -> Sequence[Comparison]:
    """Compare patterns met at drawn points with the regions of hyperplanes, and these with a bound."""
    net, inputs = trial.net, prod(trial.net.input_shape)
    if inputs > _MOST_INPUTS:
        raise CannotTry(f"{inputs} inputs are too many to draw points that meet most patterns")
    count = sum(prod(net.nodes[source].shape) for source in _sources(net))
    few = sum(comb(count, i) for i in range(inputs + 1)) <= _MOST_FLATS
    planes = _hyperplanes(trial) if few else None
    drawn = points(trial)
    gates = net.gates(drawn.to(trial.x))
    generic = kept(trial, drawn, gates, _never_on(trial, planes))
    if not bool(generic.any()):
        raise CannotTry("every point drawn is within rounding of some hyperplane")
    masks = [gates[g].expand(len(drawn), *gates[g].shape[1:]).flatten(1) for g in net.value_gates]
    met = len(torch.unique(torch.cat(masks, 1)[generic], dim=0))
    bound = most(count, inputs, is_central(net, net.value_gates))
    exact, what = EvidenceKind.EXACT, f"patterns met at {int(generic.sum())} points"
    if planes is None:
        what = f"{what} against the bound"
        return [Comparison(_number(met), _number(bound), 0.0, exact, "at most", what)]
    regions, what = region_count(planes), f"{what} against regions"
    return [
        Comparison(_number(met), _number(regions), 0.0, exact, "at most", what),
        Comparison(
            _number(regions), _number(bound), 0.0, exact, "at most", "regions against bound"
        ),
    ]


def _number(count: int) -> Tensor:
    return torch.tensor([float(count)], dtype=torch.float64)


REGIONS = Statement(
    id="dlgn.regions",
    title="The gates of a linearly gated network have no more patterns than hyperplanes regions.",
    kind=Kind.BOUND,
    latex=(
        r"\#\{G\} \le \sum_{i \le n_{in}} \binom{m}{i}, \qquad \text{without biases } "
        r"\#\{G\} \le 2 \sum_{i < n_{in}} \binom{m-1}{i}"
    ),
    sources=("dlgn, section 5",),
    hypotheses=(needs.GATED, needs.HARD_GATES, needs.LINEAR_FEATURES),
    claim=patterns_are_regions,
    mutants=(
        Mutant("patterns at ties counted too", {"points": _with_ties, "kept": _everywhere}),
        Mutant("one dimension less in the bound", {"most": _one_dimension_less}),
    ),
    controls="Patterns at ties exceed it: rows (1), (−1) give 3 > 2.",
    note="Patterns on open sets; m is the number of gates, n_in that of input coordinates.",
)

STATEMENTS = (REGIONS,)
