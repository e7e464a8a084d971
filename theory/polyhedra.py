r"""Polyhedra by linear programming: empty or not, a point inside, the largest ball, what bounds them.

A polyhedron is :math:`\{x : \langle a_i, x \rangle + b_i \ge 0\}`, its rows divided by their lengths, so
that a row is the distance from its hyperplane. SciPy's HiGHS solves every programme, in float64: it
meets constraints to within 1e-7, so a ball of a smaller radius is no sign of an inside, and a
polyhedron that holds none counts as empty. (:mod:`reluctant.theory.feasibility` decides the same with no
rounding.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, linprog
from torch import Tensor, nn

from reluctant.theory.affine import require_stepped
from reluctant.theory.errors import InputError
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, Gates, Reindex
from reluctant.theory.patterns import open_gates
from reluctant.theory.recording import network_at, record
from reluctant.theory.subdivision import met_gates, source_of

TOLERANCE = 1e-7  # HiGHS's own default, primal and dual, for rows of length 1
_LARGEST_BALL = 1.0  # which is looked for where there is one of any radius


@dataclass(frozen=True, eq=False)
class Polyhedron:
    r"""Be the points at which some affine functions are not negative.

    Attributes:
        normals: a_i, rows of length 1, or 0 for a function that is constant.
        offsets: b_i, in the same units.
        names: What each function is; empty if nobody said.
        example_shape: Shape of one input, if the points are inputs of a network.

    Example:
        >>> triangle = Polyhedron.of(np.array([[1.0, 0], [0, 1], [-1, -1]]), np.array([0.0, 0, 1]))
        >>> center, radius = triangle.chebyshev()
        >>> round(radius, 6), triangle.is_bounded, triangle.facets.tolist()
        (0.292893, True, [0, 1, 2])
    """

    normals: Float[NDArray[np.float64], "m n"]
    offsets: Float[NDArray[np.float64], " m"]
    names: tuple[str, ...] = ()
    example_shape: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        normals: NDArray[np.float64],
        offsets: NDArray[np.float64],
        names: tuple[str, ...] = (),
        example_shape: tuple[int, ...] = (),
    ) -> Polyhedron:
        """Return the polyhedron of rows of any length.

        Args:
            normals: a, shape (m, n).
            offsets: b, shape (m,).
            names: What each row is.
            example_shape: Shape of one point, into which it is unflattened.

        Raises:
            InputError: If the shapes do not fit, or numbers are not finite.
        """
        normals, offsets = np.asarray(normals, np.float64), np.asarray(offsets, np.float64)
        if normals.ndim != 2 or offsets.shape != normals.shape[:1]:
            raise InputError(
                f"a polyhedron has normals (m, n) and offsets (m,), got {normals.shape} and {offsets.shape}"
            )
        if not (np.isfinite(normals).all() and np.isfinite(offsets).all()):
            raise InputError("normals and offsets of a polyhedron must be finite")
        length = np.linalg.norm(normals, axis=1)
        length[length == 0] = 1.0
        return cls(normals / length[:, None], offsets / length, names, example_shape)

    @property
    def dimensions(self) -> int:
        """Return n."""
        return int(self.normals.shape[1])

    def slack(self, points: NDArray[np.float64]) -> Float[NDArray[np.float64], "p m"]:
        """Return the distance of points from every hyperplane, negative outside.

        Args:
            points: Points, shape (p, ...).
        """
        flat = np.asarray(points, np.float64).reshape(len(points), -1)
        found: NDArray[np.float64] = flat @ self.normals.T + self.offsets
        return found

    def contains(
        self, points: NDArray[np.float64], margin: float = 0.0
    ) -> Bool[NDArray[np.bool_], " p"]:
        """Tell which points are inside, by at least a margin.

        Args:
            points: Points, shape (p, ...).
            margin: Distance from every hyperplane.
        """
        return np.asarray((self.slack(points) >= margin).all(axis=1))

    @cached_property
    def _ball(self) -> tuple[NDArray[np.float64] | None, float]:
        """Return center and radius of the largest ball of radius at most 1; None if there is none."""
        constant = ~self.normals.any(axis=1)
        if bool((self.offsets[constant] < 0).any()):
            return None, -np.inf
        return self._largest(self.offsets, _LARGEST_BALL)

    def _largest(
        self, offsets: NDArray[np.float64], most: float | None
    ) -> tuple[NDArray[np.float64], float]:
        """Return center and radius of the largest ball of a radius up to a number."""
        found = _solve(
            np.append(np.zeros(self.dimensions), -1.0),
            np.column_stack([-self.normals, self.normals.any(axis=1)]),
            offsets,
            [(None, None)] * self.dimensions + [(None, most)],
        )
        return found.x[:-1], float(found.x[-1])

    @property
    def is_empty(self) -> bool:
        """Tell whether no ball of radius 1e-7 is inside."""
        return not self._ball[1] > TOLERANCE

    def interior_point(self) -> NDArray[np.float64] | None:
        """Return the center of a ball inside, of the largest radius up to 1; None if it is empty."""
        return None if self.is_empty else self._shaped(self._ball[0])

    def chebyshev(self) -> tuple[NDArray[np.float64], float]:
        """Return center and radius of the largest ball inside.

        Returns:
            Center and radius; if balls of every radius fit, one of radius 1 and infinity.

        Raises:
            InputError: If the polyhedron is empty.
        """
        if self.is_empty:
            raise InputError("no ball fits into an empty polyhedron; ask is_empty before")
        cone = self._largest(np.zeros_like(self.offsets), _LARGEST_BALL)[1]  # of its rays
        if cone > TOLERANCE:
            return self._shaped(self._ball[0]), np.inf
        center, radius = self._largest(self.offsets, None)
        return self._shaped(center), radius

    @cached_property
    def is_bounded(self) -> bool:
        """Tell whether it holds no ray: whether A d ≥ 0 has no solution but 0; an empty one does not.

        Rays are looked for with 0 ≤ A d ≤ 1 and the largest sum, which is 0 where A d = 0 is all there
        is; then the rank decides.
        """
        if self.is_empty:
            return True
        if np.linalg.matrix_rank(self.normals) < self.dimensions:
            return False
        both = np.vstack([-self.normals, self.normals])
        right = np.append(np.zeros(len(self.normals)), np.ones(len(self.normals)))
        free = [(None, None)] * self.dimensions
        return bool(-_solve(-self.normals.sum(axis=0), both, right, free).fun <= TOLERANCE)

    @cached_property
    def facets(self) -> Int[NDArray[np.int64], " f"]:
        """Return the rows that bound it: those that some point violates alone, one of equal ones.

        Raises:
            InputError: If the polyhedron is empty.
        """
        if self.is_empty:
            raise InputError("an empty polyhedron has no facets; ask is_empty before")
        kept = np.flatnonzero(self.normals.any(axis=1))
        whole = np.column_stack([self.normals, self.offsets])[kept]
        for k in range(len(kept) - 1, -1, -1):
            others = np.delete(whole, k, axis=0)
            low, shift = whole[k, :-1], whole[k, -1]
            # how far below 0 the row can go, 1 at most, where the others hold
            found = _solve(
                low,
                np.vstack([-others[:, :-1], -low]),
                np.append(others[:, -1], shift + 1.0),
                [(None, None)] * self.dimensions,
            )
            if found.fun + shift >= -TOLERANCE:
                whole, kept = others, np.delete(kept, k)
        return kept

    def without_redundant(self) -> Polyhedron:
        """Return the same polyhedron by its facets alone."""
        kept = self.facets
        names = tuple(self.names[k] for k in kept) if self.names else ()
        return replace(self, normals=self.normals[kept], offsets=self.offsets[kept], names=names)

    def _shaped(self, point: NDArray[np.float64] | None) -> NDArray[np.float64]:
        assert point is not None
        return point.reshape(self.example_shape) if self.example_shape else point


def _solve(
    cost: NDArray[np.float64],
    matrix: NDArray[np.float64],
    right: NDArray[np.float64],
    bounds: Sequence[tuple[float | None, float | None]],
) -> OptimizeResult:
    """Minimise cost · x where matrix x ≤ right.

    Raises:
        InputError: If HiGHS gives up, as it may where numbers differ by many powers of ten.
    """
    found = linprog(cost, A_ub=matrix, b_ub=right, bounds=bounds, method="highs")
    if found.status:
        raise InputError(
            f"HiGHS could not solve a programme of {matrix.shape[0]} rows ({found.message.strip()}); "
            "scale inputs or weights, or decide without rounding by rl.regions"
        )
    return found


def polyhedron(module: nn.Module | PathNetwork, x: Tensor) -> Polyhedron:
    r"""Return the activation region of one input: where all gates are as they are there.

    .. math:: \{y : \pm q_u(y) \ge 0 \text{ for every unit } u\}, \qquad q_u(y) = \langle a_u, y \rangle
        + b_u \text{ with the gates of } x

    Args:
        module: Module, or a network traced at the shape of x.
        x: One input, shape (1, \*input).

    Raises:
        InputError: If x is not one input, or gates do not follow a pre-activation that can be read.

    Cost:
        One forward pass a layer of gates, for as many inputs as an input has coordinates.

    Source:
        clu, section 3.
    """
    net = network_at(module, x)
    if len(x) != 1:
        raise InputError(f"a region is that of one input, got {len(x)}; pass x[k:k+1]")
    require_stepped(net)
    gates = record(net, x)
    found = [_inequalities(net, x, gates, g) for g in met_gates(net)]
    size = x[0].numel()
    normals = np.concatenate([np.zeros((0, size)), *(a for a, _, _ in found)])
    offsets = np.concatenate([np.zeros(0), *(b for _, b, _ in found)])
    names = tuple(name for _, _, part in found for name in part)
    return Polyhedron.of(normals, offsets, names, tuple(x.shape[1:]))


def _inequalities(
    net: PathNetwork, x: Tensor, gates: Gates, g: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Return the inequalities of one layer of gates, and what they are of."""
    layer = net.gate_layers[g]
    if layer.kind == "max":
        return _of_winners(net, x, gates, g)
    source = source_of(net, g)
    a, b = _columns(net, x, gates, source)
    side = np.where(_signs(net, g, gates, source), 1.0, -1.0)
    return a * side[:, None], b * side, [f"{layer.name} {k}" for k in range(len(b))]


def _columns(
    net: PathNetwork, x: Tensor, gates: Gates, node: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the affine map from the data to a node, gates held: its values at unit vectors, and at 0.

    Biases are left out of the former, and what a constant in place of the data gives is taken away.
    """
    size = x[0].numel()
    origin = torch.zeros(1, *x.shape[1:], dtype=torch.float64, device=x.device)
    units = torch.eye(size, dtype=torch.float64, device=x.device).reshape(size, *x.shape[1:])
    weights, held = net.weight_values(), [g.double() for g in gates]
    start = net.forward(origin, held, weights, output=node, sources=False).flatten(1)
    ends = net.forward(units, held, weights, output=node, sources=False).flatten(1)
    shift = net.forward(origin, held, weights, output=node).flatten()
    return (ends - start).T.cpu().numpy(), shift.cpu().numpy()


def _signs(net: PathNetwork, g: int, gates: Gates, source: int) -> NDArray[np.bool_]:
    """Tell for every entry of a pre-activation whether its gates are open."""
    opened = open_gates(net.gate_layers[g], gates[g])[0].cpu().numpy()
    shape = net.nodes[source].shape
    places = np.broadcast_to(np.arange(math.prod(shape)).reshape(shape), opened.shape)
    found = np.zeros(math.prod(shape), dtype=bool)
    found[places.flatten()] = opened.flatten()
    return found


def _of_winners(
    net: PathNetwork, x: Tensor, gates: Gates, g: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Return winner less rival for each window of a max pooling, both ways where winners tie."""
    node = next(n for n in net.nodes if isinstance(n, Gate) and n.gate == g)
    gathered = net.nodes[node.operands[0]]
    assert isinstance(gathered, Reindex)
    taps = node.shape[0]
    normals, offsets = _columns(net, x, gates, node.operands[0])
    a, b = normals.reshape(taps, -1, x[0].numel()), offsets.reshape(taps, -1)
    inside = gathered.move([x.new_ones(1, *net.nodes[k].shape) for k in gathered.operands])
    present = inside.reshape(taps, -1).cpu().numpy() > 0
    won = gates[g][0].reshape(taps, -1).cpu().numpy() > 0
    rows, shifts, names = [np.zeros((0, a.shape[2]))], [np.zeros(0)], []
    for window in range(won.shape[1]):
        first, *others = np.flatnonzero(won[:, window]).tolist()
        rivals = [k for k in np.flatnonzero(present[:, window]).tolist() if k != first]
        over = [(first, k) for k in rivals] + [(k, first) for k in others]  # winners are equal
        left, right = [i for i, _ in over], [k for _, k in over]
        rows.append(a[left, window] - a[right, window])
        shifts.append(b[left, window] - b[right, window])
        names += [f"{net.gate_layers[g].name} {window}: {i} over {k}" for i, k in over]
    return np.concatenate(rows), np.concatenate(shifts), names
