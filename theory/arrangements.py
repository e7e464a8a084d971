"""Arrangements of hyperplanes: how many regions they cut space into, exactly and at most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import comb

from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Weighted
from reluctant.theory.operators import Bias

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


def most_bounded(planes: int, inputs: int) -> int:
    """Return the number of bounded regions of m hyperplanes in general position in n dimensions.

    Args:
        planes: m.
        inputs: n.

    Source:
        Zaslavsky, *Facing up to arrangements*, 1975.
    """
    return comb(planes - 1, inputs) if planes else int(inputs == 0)


def is_central(net: PathNetwork, gates: Iterable[int]) -> bool:
    """Tell whether no pre-activation of some gate layers has a source."""
    for g in gates:
        source = net.gate_layers[g].source
        for i in net.ancestors([source]) if source is not None else ():
            node = net.nodes[i]
            if isinstance(node, Constant) or (
                isinstance(node, Weighted) and isinstance(node.operator, Bias)
            ):
                return False
    return True
