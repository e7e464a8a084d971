r"""All activation regions of a small network, counted and described with no rounding.

A hidden layer cuts every region of the layers before it by hyperplanes of its own: a unit's
pre-activation is affine there. Each part is kept if some point is inside, which
:mod:`reluctant.theory.feasibility` decides on integers; so a count is a theorem about these very weights,
however thin the regions are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reluctant.theory.affine import AffineMap, require_stepped
from reluctant.theory.affine_forms import ExactNetwork, Forms, Row, identity
from reluctant.theory.arrangements import is_central, most_regions
from reluctant.theory.cells import Polytope
from reluctant.theory.errors import InputError
from reluctant.theory.inputs import require_module
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate
from reluctant.theory.patterns import PatternLayer, Patterns
from reluctant.theory.polyhedra import Polyhedron
from reluctant.theory.recording import network_at
from reluctant.theory.subdivision import (
    Bits,
    Piece,
    Subdivision,
    met_gates,
    require_limit,
    source_of,
)

MOST_REGIONS = 5000


@dataclass(frozen=True, eq=False)
class Region:
    r"""Be one full-dimensional activation region.

    Attributes:
        rows: Functions that are positive inside, each as integers a₁, …, a_n, b. Some may be implied.
        point: A point inside, exactly.
        map: The network there, exactly: each output as a function of the data.
        example_shape: Shape of one input.
    """

    rows: tuple[Row, ...]
    point: tuple[Fraction, ...]
    map: Forms
    example_shape: tuple[int, ...]

    @cached_property
    def polyhedron(self) -> Polyhedron:
        """Return the closed region, for linear programming."""
        held = [[float(Fraction(c, _size(row))) for c in row] for row in self.rows]
        whole = np.array(held, dtype=np.float64).reshape(len(self.rows), len(self.point) + 1)
        return Polyhedron.of(whole[:, :-1], whole[:, -1], (), self.example_shape)

    @property
    def affine(self) -> AffineMap:
        r"""Return W (1, outputs, \*input) and b (1, outputs), each entry rounded once."""
        held = torch.from_numpy(self.map.floats())[None]
        weight = held[..., :-1].unflatten(2, self.example_shape) if self.example_shape else held
        return AffineMap(weight, held[..., -1])

    @property
    def key(self) -> tuple[tuple[Fraction, ...], ...]:
        """Return the affine map in a form that is equal for equal maps."""
        return tuple(self.map.fractions())


@dataclass(frozen=True, eq=False)
class Regions:
    """Be all regions of a network.

    Attributes:
        found: The regions.
        patterns: Their activation patterns, one row a region: of all gates, those that only make other
            gates too.
        expected: Regions that as many hyperplanes in general position make.
    """

    found: tuple[Region, ...]
    patterns: Patterns
    expected: int

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Region]:
        return iter(self.found)

    def __getitem__(self, k: int) -> Region:
        return self.found[k]

    @cached_property
    def bounded(self) -> NDArray[np.bool_]:
        """Tell which regions are bounded, by linear programming."""
        return np.array([region.polyhedron.is_bounded for region in self.found], dtype=bool)

    @cached_property
    def distinct_maps(self) -> int:
        """Return the number of different affine maps: regions with one map count once."""
        return len({region.key for region in self.found})


def regions(
    module: nn.Module | PathNetwork,
    example: Tensor | None = None,
    *,
    limit: int = MOST_REGIONS,
) -> Regions:
    r"""Return every full-dimensional activation region of a small network.

    Own gates, those of a feature network and max pooling are read alike; a deep linearly gated
    network cuts space by one arrangement of hyperplanes. Inputs on a hyperplane are in no region.

    Args:
        module: Module, or a traced network.
        example: One input or more, shape (n, \*input), for its shape; None where the module's first
            linear layer says it.
        limit: Number of regions that are accepted.

    Raises:
        InputError: If more regions are to be expected, or are met, than the limit; says how many. If gates
            are soft, or cannot be read as signs of a pre-activation; names them.

    Cost:
        One linear programme on integers for each region and unit; hundreds a second.

    Source:
        clu, section 3; counts: Zaslavsky, *Facing up to arrangements*, 1975.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> found = regions(net)
        >>> len(found), int(found.bounded.sum())  # three lines in general position
        (7, 1)
    """
    require_limit(limit)
    net = _network(module, example)
    require_stepped(net)
    expected = expected_regions(net)
    if expected > limit:
        raise InputError(
            f"about {expected:,} regions are to be expected, more than limit={limit:,}; take a smaller "
            "network, or rl.region_slice for those that meet a plane"
        )
    size = math.prod(net.input_shape)
    division = Subdivision(ExactNetwork(net), identity(size), limit)
    pieces = division.pieces(Polytope.space(size))
    found = tuple(Region(p.cell.rows, p.cell.point, p.output, net.input_shape) for p in pieces)
    return Regions(found, pattern_rows(net, pieces), expected)


def expected_regions(net: PathNetwork) -> int:
    """Return the regions of as many hyperplanes in general position as a network has units.

    With one layer of gates, or gates that are affine in the data, there are no more. Deeper networks
    bend their hyperplanes and can have more, but trained and drawn ones are seldom far from it.

    Args:
        net: Network.

    Returns:
        Their number, which is at least 2^min(m, n) for m units and n inputs; 2^62 if that is more.

    Source:
        Hanin and Rolnick, *Deep ReLU networks have surprisingly few activation patterns*, 2019.
    """
    met = met_gates(net)
    kinds = {g: net.gate_layers[g].kind for g in met}
    sources = {source_of(net, g) for g in met if kinds[g] != "max"}
    planes = sum(math.prod(net.nodes[i].shape) for i in sources)
    for node in net.nodes:
        if isinstance(node, Gate) and kinds.get(node.gate) == "max":  # one for each rival of a tap
            planes += (node.shape[0] - 1) * math.prod(node.shape[1:])
    inputs = math.prod(net.input_shape)
    if min(planes, inputs) > 62:  # a million binomials of a million digits take forever
        return 2**62
    return most_regions(planes, inputs, is_central(net, met))


def _network(module: nn.Module | PathNetwork, example: Tensor | None) -> PathNetwork:
    if isinstance(module, PathNetwork):
        return module
    require_module(module)
    if example is None:
        first = next((m for m in module.modules() if isinstance(m, nn.Linear)), None)
        if first is None:
            raise InputError("the module has no nn.Linear that tells its input; pass example=")
        example = first.weight.new_zeros(1, first.in_features)
    return network_at(module, example)


def _size(row: Row) -> int:
    """Return the largest coefficient, 1 if all are 0."""
    return max(map(abs, row)) or 1


def pattern_rows(net: PathNetwork, pieces: list[Piece]) -> Patterns:  # type: ignore[type-arg]
    """Return the patterns of pieces, one row each.

    Args:
        net: Network.
        pieces: Its pieces.
    """
    met = met_gates(net)
    shapes = {n.gate: n.shape for n in net.nodes if isinstance(n, Gate)}
    layers = tuple(
        PatternLayer(f"{net.gate_layers[g].place} {net.gate_layers[g].name}", shapes[g])
        for g in met
    )

    def row(bits: dict[int, Bits]) -> NDArray[np.uint8]:
        packed = [np.packbits(bits[g].flatten()) for g in met]
        return np.concatenate([np.zeros(0, dtype=np.uint8), *packed])

    rows = [row(dict(p.bits)) for p in pieces]
    return Patterns(np.array(rows, dtype=np.uint8).reshape(len(pieces), -1), layers)
