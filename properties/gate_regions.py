"""Statement of the number of gate patterns of a deep linearly gated network (dlgn)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import comb

import torch
from torch import Tensor

from reluctant.properties import hypotheses as needs
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Weighted
from reluctant.theory.operators import Bias
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.verdicts import EvidenceKind

POINTS = 2048
_SPREAD = 50  # points are integers up to this, so that most are off every hyperplane
_MOST_FLATS = 2000  # intersections of hyperplanes that are gone through
_MOST_INPUTS = 512
Plane = tuple[Fraction, ...]  # normal, then offset


def region_count(planes: Sequence[Plane]) -> int:
    r"""Count the regions that hyperplanes cut space into, exactly.

    A further hyperplane cuts as many regions in two as the others cut it into:
    :math:`r(A \cup h) = r(A) + r(A|_h)`.

    Args:
        planes: a₁, …, a_n, b of each hyperplane ⟨a, x⟩ + b = 0. Those with a = 0 cut nothing.

    Returns:
        The number of regions; 1 if there are no hyperplanes.

    Cost:
        One step an intersection of hyperplanes, Σ_(i≤n) C(m, i) at most.

    Source:
        Zaslavsky, *Facing up to arrangements*, 1975.
    """
    distinct = list(dict.fromkeys(_scaled(p) for p in planes if any(p[:-1])))
    if not distinct:
        return 1
    if len(distinct[0]) == 2:
        return len(distinct) + 1
    total = 1
    for k, plane in enumerate(distinct):
        total += region_count([_on(plane, other) for other in distinct[:k]])
    return total


def _scaled(plane: Plane) -> Plane:
    first = next(a for a in plane if a)
    return tuple(a / first for a in plane)


def _on(plane: Plane, other: Plane) -> Plane:
    """Return the trace of another hyperplane on one, in coordinates that leave out one axis."""
    pivot = next(k for k, a in enumerate(plane[:-1]) if a)
    factor = other[pivot] / plane[pivot]
    return tuple(
        b - factor * a for k, (a, b) in enumerate(zip(plane, other, strict=True)) if k != pivot
    )


def most_regions(planes: int, inputs: int, central: bool) -> int:
    """Return the largest number of regions of m hyperplanes in n dimensions.

    Args:
        planes: m.
        inputs: n.
        central: Whether all of them go through 0.
    """
    if central:
        return 2 * sum(comb(planes - 1, i) for i in range(inputs)) if planes else 1
    return sum(comb(planes, i) for i in range(inputs + 1))


def _one_dimension_less(planes: int, inputs: int, central: bool) -> int:
    return most_regions(planes, inputs - 1, central)


def _central(net: PathNetwork) -> bool:
    """Tell whether no gating pre-activation has a source."""
    for g in net.value_gates:
        source = net.gate_layers[g].source
        for i in net.ancestors([source]) if source is not None else ():
            node = net.nodes[i]
            if isinstance(node, Constant) or (
                isinstance(node, Weighted) and isinstance(node.operator, Bias)
            ):
                return False
    return True


def _pre_activations(net: PathNetwork, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the pre-activations of all gates, shape (n, gate)."""
    found = []
    for g in net.value_gates:
        source = net.gate_layers[g].source
        if source is None:
            raise CannotTry(f"the gates of {net.gate_layers[g].name} cannot be read")
        found.append(net.forward(x, None, weights, output=source).flatten(1))
    return torch.cat(found, 1)


def _hyperplanes(trial: Trial) -> list[Plane]:
    """Return ⟨a, x⟩ + b of every gate, read off at 0 and at the unit vectors."""
    net = trial.net
    size = int(torch.Size(net.input_shape).numel())
    if size > _MOST_INPUTS:
        raise CannotTry(f"{size} inputs are too many to read off hyperplanes")
    basis = torch.cat([torch.zeros(1, size), torch.eye(size)]).double()
    q = _pre_activations(net, basis.reshape(-1, *net.input_shape), trial.weights)
    rows = torch.cat([q[1:] - q[:1], q[:1]]).T
    return [tuple(Fraction(a) for a in row) for row in rows.tolist()]


Points = Callable[[Trial, Sequence[Plane]], Tensor]


def _generic(trial: Trial, planes: Sequence[Plane]) -> Tensor:
    """Draw points, and keep those that are on no hyperplane, beyond rounding."""
    points = _drawn(trial)
    q = _pre_activations(trial.net, points, trial.weights)
    largest = [w.abs() for w in trial.weights]
    size = _pre_activations(trial.net, points.abs(), largest)
    deepest = max(roundings(trial.net, s) for s in _sources(trial.net))
    off = gamma(deepest) * size
    always_shut = torch.tensor([not any(plane) for plane in planes])
    return points[((q.abs() > off) | always_shut).all(1)]


def _sources(net: PathNetwork) -> list[int]:
    found = [net.gate_layers[g].source for g in net.value_gates]
    return [s for s in found if s is not None]


def _drawn(trial: Trial) -> Tensor:
    shape = (POINTS, *trial.net.input_shape)
    return torch.randint(-_SPREAD, _SPREAD + 1, shape, generator=trial.generator).double()


def _at_ties_too(trial: Trial, planes: Sequence[Plane]) -> Tensor:
    points = _drawn(trial)
    return torch.cat([torch.zeros_like(points[:1]), points.sign(), points])[: len(points)]


def patterns_are_regions(
    trial: Trial, points: Points = _generic, most: Callable[[int, int, bool], int] = most_regions
) -> Sequence[Comparison]:
    """Compare patterns met at drawn points with the regions of hyperplanes, and these with a bound."""
    net, planes = trial.net, _hyperplanes(trial)
    inputs = len(planes[0]) - 1
    at = points(trial, planes)
    if not len(at):
        raise CannotTry("every point drawn is within rounding of some hyperplane")
    gates = net.gates(at.to(trial.x))
    flat = torch.cat(
        [gates[g].expand(len(at), *gates[g].shape[1:]).flatten(1) for g in net.value_gates], 1
    )
    met = len(torch.unique(flat, dim=0))
    bound = most(len(planes), inputs, _central(net))
    exact = EvidenceKind.EXACT
    if sum(comb(len(planes), i) for i in range(inputs + 1)) > _MOST_FLATS:
        what = f"patterns met at {len(at)} points against the bound"
        return [Comparison(_number(met), _number(bound), 0.0, exact, "at most", what)]
    count = region_count(planes)
    what = f"patterns met at {len(at)} points against regions"
    return [
        Comparison(_number(met), _number(count), 0.0, exact, "at most", what),
        Comparison(_number(count), _number(bound), 0.0, exact, "at most", "regions against bound"),
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
        Mutant("patterns at ties counted too", {"points": _at_ties_too}),
        Mutant("one dimension less in the bound", {"most": _one_dimension_less}),
    ),
    controls="Patterns at ties exceed it: rows (1), (−1) give 3 > 2.",
    note="Patterns on open sets; m is the number of gates, n_in that of input coordinates.",
)

STATEMENTS = (REGIONS,)
