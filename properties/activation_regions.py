"""Statements of activation regions: polyhedra, and how many there are (clu)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluctant.properties import hypotheses as needs
from reluctant.properties.affine_pieces import READABLE_GATES
from reluctant.theory.affine_forms import ExactNetwork, identity
from reluctant.theory.arrangements import Plane, is_central, most_regions, region_count
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, Gates
from reluctant.theory.patterns import activation_patterns
from reluctant.theory.polyhedra import TOLERANCE, Polyhedron, polyhedron
from reluctant.theory.recording import record
from reluctant.theory.regions import Regions, expected_regions, regions
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.subdivision import Subdivision, met_gates, source_of
from reluctant.theory.underflow import forward_underflow
from reluctant.theory.verdicts import EvidenceKind

_MOST_REGIONS = 150  # that are gone through in one trial
_LARGEST = 200_000  # coefficients of the inequalities of one region
_POINTS = 256
_SPREAD = 50


def undecided(net: PathNetwork, x: Tensor, gates: Gates) -> Tensor:
    """Tell at which inputs some gate that is met could turn by rounding or underflow.

    Two evaluations are off by a bound each. A pre-activation that no path reaches is 0 in both.

    Args:
        net: Network.
        x: Inputs.
        gates: Gates that are held while pre-activations are computed.
    """
    near = torch.zeros(len(x), dtype=torch.bool)
    weights = net.weight_values()
    for g in met_gates(net):
        is_max = net.gate_layers[g].kind == "max"
        source = _windows(net, g) if is_max else source_of(net, g)
        q = net.forward(x.double(), gates, weights, output=source)
        size, reach = (
            net.forward(
                data,
                [a.abs() for a in gates],
                [w.abs() for w in weights],
                constant=torch.abs,
                magnitudes=True,
                output=source,
            )
            for data in (x.double().abs(), torch.ones_like(x).double())
        )
        bound = gamma(roundings(net, source), x.dtype) * size
        bound = 2 * (bound + forward_underflow(net, x, gates, dtype=x.dtype, output=source))
        if is_max and q.shape[1] > 1:
            best = q.topk(2, dim=1).values
            close = (best[:, 0] - best[:, 1] <= 2 * bound.amax(1)) & (reach.amax(1) > 0)
        else:
            close = (q.abs() <= bound) & (reach > 0)
        near |= close.flatten(1).any(1)
    return near


def _windows(net: PathNetwork, g: int) -> int:
    node = next(n for n in net.nodes if isinstance(n, Gate) and n.gate == g)
    return node.operands[0]


Changed = Callable[[Trial, list[Polyhedron]], list[Polyhedron]]


def _as_they_are(trial: Trial, found: list[Polyhedron]) -> list[Polyhedron]:
    return found


def _of_another(trial: Trial, found: list[Polyhedron]) -> list[Polyhedron]:
    return [*found[1:], found[0]]


def _one_turned(trial: Trial, found: list[Polyhedron]) -> list[Polyhedron]:
    """Turn the inequality round that the input is farthest from."""
    turned = []
    for p, point in zip(found, trial.x.double().numpy(), strict=True):
        side = np.ones(len(p.offsets))
        side[p.slack(point[None])[0].argmax()] = -1
        turned.append(replace(p, normals=p.normals * side[:, None], offsets=p.offsets * side))
    return turned


def _first_half(trial: Trial, found: list[Polyhedron]) -> list[Polyhedron]:
    """Leave out the later half of the inequalities."""
    return [
        replace(
            p, normals=p.normals[: len(p.offsets) // 2], offsets=p.offsets[: len(p.offsets) // 2]
        )
        for p in found
    ]


def patterns_are_polyhedra(trial: Trial, changed: Changed = _as_they_are) -> Sequence[Comparison]:
    """Compare the gates of each input with those at a point that its inequalities put inside."""
    net, x = trial.net, trial.x
    size = x[0].numel()
    units = sum(prod(net.nodes[_windows_or_source(net, g)].shape) for g in met_gates(net))
    if size * units > _LARGEST:
        raise CannotTry(f"{units} inequalities in {size} coordinates are too many")
    found = changed(trial, [polyhedron(net, x[k : k + 1]) for k in range(len(x))])
    data = x.double().numpy()
    slack = torch.tensor(
        [float(p.slack(d[None]).min(initial=1.0)) for p, d in zip(found, data, strict=True)]
    )
    # a coordinate of an inequality meets the roundings of a path, the product with x one more each
    off = gamma(2 * roundings(net) + 2 * size + 4, x.dtype) * _reach(found, data)
    kind = EvidenceKind.ROUNDING
    what = "inequalities of the region of x, at x"
    compared = [Comparison(-slack, torch.zeros_like(slack), off, kind, "at most", what, alive=True)]
    inside = [p.interior_point() for p in found]
    balls = torch.tensor(
        [p.chebyshev()[1] if q is not None else 0.0 for p, q in zip(found, inside, strict=True)]
    )
    what = "distance of x from the boundary against the largest ball"
    room = off + 2 * TOLERANCE
    compared.append(Comparison(slack.clamp(min=0, max=1), balls, room, kind, "at most", what))
    kept = [k for k, q in enumerate(inside) if q is not None]
    if not kept:
        return compared
    points = torch.from_numpy(np.stack([inside[k] for k in kept])).to(x)  # type: ignore[misc]
    gates = [g[kept].double() if len(g) == len(x) else g.double() for g in trial.gates]
    for there, where in ((points, "inside"), ((points + x[kept]) / 2, "halfway to x")):
        sure = ~undecided(net, there, gates)
        mine, other = (
            torch.from_numpy(activation_patterns(net, t).bits.astype(float))
            for t in (x[kept], there)
        )
        what = f"gates at a point {where} against those of x"
        alive = bool(sure.any())
        compared.append(
            Comparison(other[sure], mine[sure], 0.0, EvidenceKind.EXACT, what=what, alive=alive)
        )
    return compared


def _windows_or_source(net: PathNetwork, g: int) -> int:
    return _windows(net, g) if net.gate_layers[g].kind == "max" else source_of(net, g)


def _reach(found: list[Polyhedron], data: NDArray[np.float64]) -> Tensor:
    """Return how large the terms of a row can be at each input, in units of its length."""
    sizes = [
        float((np.abs(d).reshape(-1) @ np.abs(p.normals).T + np.abs(p.offsets)).max(initial=0.0))
        for p, d in zip(found, data, strict=True)
    ]
    return torch.tensor(sizes, dtype=torch.float64)


POLYHEDRON = Statement(
    id="clu.polyhedron",
    title="The region of a pattern is a convex polyhedron, and a linear programme finds its inside.",
    kind=Kind.EXACT,
    latex=r"\{y : G(y) = G(x)\} = \{y : \pm q_u(y) > 0\}, \qquad q_u(y) = \langle a_u, y \rangle + b_u",
    sources=("clu, section 3",),
    hypotheses=(needs.GATED, needs.STEPPED_GATES, READABLE_GATES),
    claim=patterns_are_polyhedra,
    revisits_gates=True,
    mutants=(
        Mutant("the region of another input", {"changed": _of_another}),
        Mutant("one inequality turned round", {"changed": _one_turned}),
        Mutant("the later half of the inequalities left out", {"changed": _first_half}),
    ),
    controls="Soft gates have no regions.",
    note="Up to its boundary. At a tie the region can be empty: then only the inequalities are compared.",
)


def _number(found: Regions) -> int:
    return len(found)


def _maps(found: Regions) -> int:
    return found.distinct_maps


def _one_dimension_less(planes: int, inputs: int, central: bool) -> int:
    return most_regions(planes, inputs - 1, central)


def _off_boundaries(trial: Trial, points: Tensor) -> Tensor:
    return ~undecided(trial.net, points, record(trial.net, points))


def _all(trial: Trial, points: Tensor) -> Tensor:
    return torch.ones(len(points), dtype=torch.bool)


def regions_can_be_counted(
    trial: Trial,
    count: Callable[[Regions], int] = _number,
    most: Callable[[int, int, bool], int] = most_regions,
    kept: Callable[[Trial, Tensor], Tensor] = _off_boundaries,
) -> Sequence[Comparison]:
    """Compare the enumerated regions with an arrangement's, with a bound, and with patterns met.

    Where every pre-activation is affine in the data the regions are those of one arrangement, whose
    number deletion and restriction give without any linear programme.
    """
    net, inputs = trial.net, prod(trial.net.input_shape)
    expected = expected_regions(net)
    if expected > _MOST_REGIONS:
        raise CannotTry(f"about {expected:,} regions are too many to go through")
    found = regions(net, limit=8 * _MOST_REGIONS)
    exact = EvidenceKind.EXACT
    compared = []
    planes = _arrangement(net)
    if planes is not None:
        mine, number = count(found), region_count(planes)
        bound = most(len(planes), inputs, is_central(net, met_gates(net)))
        what = f"{mine} regions found, {number} of the arrangement"
        compared += [
            Comparison(_as_tensor(mine), _as_tensor(number), 0.0, exact, what=what),
            Comparison(
                _as_tensor(number),
                _as_tensor(bound),
                0.0,
                exact,
                "at most",
                "regions against bound",
            ),
        ]
    shape = (_POINTS, *net.input_shape)
    points = torch.randint(-_SPREAD, _SPREAD + 1, shape, generator=trial.generator).to(trial.x)
    points[: _POINTS // 2] = points[: _POINTS // 2].sign()
    points = points[kept(trial, points)]
    listed = {_on_paths(net, bits) for bits in found.patterns.bits}
    met = activation_patterns(net, points).bits if len(points) else np.zeros((0, 1), dtype=bool)
    strangers = sum(tuple(bits.tolist()) not in listed for bits in met)
    what = f"patterns at {len(points)} points that are no region's"
    compared.append(
        Comparison(
            _as_tensor(strangers), _as_tensor(0), 0.0, exact, what=what, alive=len(points) > 0
        )
    )
    return compared


def _on_paths(net: PathNetwork, bits: NDArray[np.bool_]) -> tuple[bool, ...]:
    """Return the bits of the gates on the paths, of those of all that are met."""
    kept: list[bool] = []
    start = 0
    shapes = {n.gate: n.shape for n in net.nodes if isinstance(n, Gate)}
    for g in met_gates(net):
        stop = start + prod(shapes[g])
        if g in net.value_gates:
            kept += bits[start:stop].tolist()
        start = stop
    return tuple(kept)


def _arrangement(net: PathNetwork) -> list[Plane] | None:
    """Return the hyperplanes of all gates, None if some are bent by gates before them."""
    sources = list(dict.fromkeys(source_of(net, g) for g in met_gates(net)))
    above = net.ancestors(sources)
    if any(isinstance(net.nodes[i], Gate) for i in above):
        return None
    if any(net.gate_layers[g].kind == "max" for g in met_gates(net)):
        return None
    division = Subdivision(ExactNetwork(net), identity(prod(net.input_shape)), 1)
    forms = division.ungated(sources)
    return [tuple(row) for f in forms for row in f.fractions()]


def _as_tensor(count: int) -> Tensor:
    return torch.tensor([float(count)], dtype=torch.float64)


REGION_COUNT = Statement(
    id="clu.region-count",
    title="The activation regions of a small network can be counted; of one layer there is a formula.",
    kind=Kind.BOUND,
    latex=(
        r"\#\{\text{regions}\} = r(A_1) \le \sum_{i \le n} \binom{m}{i}, \qquad \text{without biases } "
        r"\le 2 \sum_{i < n} \binom{m-1}{i}, \quad \text{with equality in general position}"
    ),
    sources=("clu, section 3",),
    hypotheses=(needs.GATED, needs.FULLY_CONNECTED, needs.STEPPED_GATES, READABLE_GATES),
    claim=regions_can_be_counted,
    mutants=(
        Mutant("regions with one affine map counted once", {"count": _maps}),
        Mutant("one dimension less in the bound", {"most": _one_dimension_less}),
        Mutant("inputs on boundaries counted too", {"kept": _all}),
    ),
    controls="Patterns at ties are those of no region.",
    note=(
        "Full-dimensional regions, and two of one affine map count twice. The formula is for one layer of "
        "gates, or gates that are affine in the data; deeper networks are enumerated."
    ),
)

STATEMENTS = (POLYHEDRON, REGION_COUNT)
