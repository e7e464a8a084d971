"""A cell of the data, subdivided where gates change, layer by layer, with no rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Generic

import numpy as np
import torch
from numpy.typing import NDArray

from reluctant.theory.affine_forms import ExactNetwork, Forms, Row, dyadic
from reluctant.theory.cells import C
from reluctant.theory.errors import InputError
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, GateLayer, Reindex

Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Piece(Generic[C]):
    """Be a cell in which no gate changes.

    Attributes:
        cell: The cell.
        bits: By gate layer, which gates are open, of the shape of the gates.
        output: The network's output there.
    """

    cell: C
    bits: Mapping[int, Bits]
    output: Forms


class Subdivision:
    """Cut cells of the data where the gates of a network change.

    Gates that only make other gates, as those of a feature network, cut too.

    Args:
        exact: Network, with its matrices as integers.
        start: The data as affine functions of the coordinates of the cells.
        limit: Number of pieces that are accepted.

    Attributes:
        made: For each affine function that cut, the name of the first layer that it is of.

    Raises:
        InputError: If a layer of gates does not follow the sign of a pre-activation that can be
            read; names it.
    """

    def __init__(self, exact: ExactNetwork, start: Forms, limit: int) -> None:
        self.net = net = exact.net
        self.exact, self.start, self.limit = exact, start, limit
        self.made: dict[Row, str] = {}
        sources = [source_of(net, g) for g in met_gates(net)]
        self.order = sorted(net.ancestors([net.output, *sources]))

    def pieces(self, cell: C) -> list[Piece[C]]:
        """Return the pieces of a cell.

        Raises:
            InputError: If there are more than the limit.
        """
        found: list[Piece[C]] = []
        todo: list[tuple[int, dict[int, Forms], dict[int, Bits], C]] = [(0, {}, {}, cell)]
        while todo:
            start, forms, bits, cell = todo.pop()
            for place in range(start, len(self.order)):
                i = self.order[place]
                node = self.net.nodes[i]
                if isinstance(node, Gate) and node.gate not in bits:
                    parts = self._split(node, forms, cell)
                    todo += [(place, dict(forms), {**bits, node.gate: b}, c) for c, b in parts]
                    break
                operands = [forms[k] for k in node.operands]
                gates = None
                if isinstance(node, Gate):
                    gates = self._factors(node, bits[node.gate])
                forms[i] = self.exact.forms(i, operands, self.start, gates)
            else:
                found.append(Piece(cell, bits, forms[self.net.output]))
            self._accept(len(found) + len(todo))
        return found

    def ungated(self, wanted: Sequence[int]) -> list[Forms]:
        """Return nodes that no gate comes before.

        Args:
            wanted: Nodes.
        """
        forms: dict[int, Forms] = {}
        for i in sorted(self.net.ancestors(wanted)):
            operands = [forms[k] for k in self.net.nodes[i].operands]
            forms[i] = self.exact.forms(i, operands, self.start)
        return [forms[i] for i in wanted]

    def _split(self, node: Gate, forms: Mapping[int, Forms], cell: C) -> list[tuple[C, Bits]]:
        layer = self.net.gate_layers[node.gate]
        if layer.kind == "max":
            return self._winners(node, forms[node.operands[0]], cell)
        places = self._places[node.gate]
        rows = forms[source_of(self.net, node.gate)]
        parts: list[tuple[C, dict[int, int]]] = [(cell, {})]
        for entry in dict.fromkeys(places.flatten().tolist()):
            row = rows.row(entry)
            self.made.setdefault(row, layer.name)
            parts = [
                (side, {**known, entry: bit})
                for one, known in parts
                for side, bit in zip(one.cut(row), (1, 0), strict=True)
                if side is not None
            ]
            self._accept(len(parts))
        flat = places.flatten().tolist()
        return [
            (one, np.array([known[k] for k in flat], dtype=np.uint8).reshape(node.shape))
            for one, known in parts
        ]

    def _winners(self, node: Gate, forms: Forms, cell: C) -> list[tuple[C, Bits]]:
        """Split a cell by which entries of each window are the largest."""
        windows, layer = self._windows[node.gate], self.net.gate_layers[node.gate]
        shared = layer.ties == "shared"
        parts: list[tuple[C, Bits]] = [(cell, np.zeros(windows.shape, dtype=np.uint8))]
        for window in range(windows.shape[1]):
            taps = np.flatnonzero(windows[:, window])
            equal: dict[Row, list[int]] = {}  # taps whose entries are one function
            for tap in taps.tolist():
                entry = tap * windows.shape[1] + window
                equal.setdefault(tuple(forms.numerators[entry].tolist()), []).append(tap)
            after = []
            for one, bits in parts:
                for rivals in equal.values():
                    part: C | None = one
                    for others in equal.values():
                        if others is not rivals and part is not None:
                            mine, other = (
                                t[0] * windows.shape[1] + window for t in (rivals, others)
                            )
                            row = forms.difference(mine, other)
                            self.made.setdefault(row, layer.name)
                            part = part.cut(row)[0]
                    if part is not None:
                        won = bits.copy()
                        won[rivals if shared else rivals[:1], window] = 1
                        after.append((part, won))
            parts = after
            self._accept(len(parts))
        return [(one, bits.reshape(node.shape)) for one, bits in parts]

    def _accept(self, count: int) -> None:
        if count > self.limit:
            raise InputError(
                f"there are more than {self.limit} regions; pass a larger limit=, or take a smaller "
                "network"
            )

    def _factors(self, node: Gate, bits: Bits) -> list[Fraction]:
        """Return the gates that bits stand for, one an entry."""
        layer = self.net.gate_layers[node.gate]
        if layer.kind == "max":
            winners = bits.reshape(len(bits), -1)
            counts = np.broadcast_to(winners.sum(axis=0), winners.shape)
            pairs = zip(winners.flatten().tolist(), counts.flatten().tolist(), strict=True)
            return [Fraction(bit, count) for bit, count in pairs]
        low = self._lows[node.gate]
        return [Fraction(1) if b else a for b, a in zip(bits.flatten(), low, strict=True)]

    @cached_property
    def _places(self) -> dict[int, NDArray[np.int64]]:
        """Return which entry of the pre-activation makes each gate, by layer."""
        found = {}
        for node in self._gate_nodes:
            layer = self.net.gate_layers[node.gate]
            if layer.kind != "max":
                shape = self.net.nodes[source_of(self.net, node.gate)].shape
                held = np.arange(math.prod(shape)).reshape(shape)
                found[node.gate] = np.broadcast_to(held, node.shape)
        return found

    @cached_property
    def _windows(self) -> dict[int, NDArray[np.bool_]]:
        """Return which taps of each window are inside the tensor, shape (taps, windows)."""
        found = {}
        for node in self._gate_nodes:
            if self.net.gate_layers[node.gate].kind == "max":
                gathered = self.net.nodes[node.operands[0]]
                assert isinstance(gathered, Reindex)
                inside = self.exact.sources_of(gathered) > 0
                found[node.gate] = inside.reshape(len(inside), -1)
        return found

    @cached_property
    def _lows(self) -> dict[int, list[Fraction]]:
        """Return the gates of units that are not open, one an entry."""
        found = {}
        for node in self._gate_nodes:
            low = self.net.gate_layers[node.gate].low().detach().cpu()
            found[node.gate] = dyadic(low.expand(node.shape))
        return found

    @cached_property
    def _gate_nodes(self) -> list[Gate]:
        found = (self.net.nodes[i] for i in self.order)
        return list({n.gate: n for n in found if isinstance(n, Gate)}.values())


def require_limit(limit: object) -> None:
    """Raise unless a limit is a number of regions.

    Raises:
        InputError: Says what came instead.
    """
    if not isinstance(limit, int) or limit < 1:
        raise InputError(f"limit must be a number of regions, at least 1, got {limit!r}")


def met_gates(net: PathNetwork) -> tuple[int, ...]:
    """Return the gate layers on the paths, and those that make them, in order."""
    known: set[int] = set()
    todo = list(net.value_gates)
    while todo:
        g = todo.pop()
        if g not in known:
            known.add(g)
            above = (net.nodes[i] for i in net.ancestors([source_of(net, g)]))
            todo += [node.gate for node in above if isinstance(node, Gate)]
    return tuple(sorted(known))


def source_of(net: PathNetwork, g: int) -> int:
    """Return the node of a layer's pre-activations.

    Raises:
        InputError: If its gates do not follow their signs, or do not follow the data at all.
    """
    layer = net.gate_layers[g]
    if layer.source is None or not (layer.kind != "mask" or _is_marked(net, layer)):
        raise InputError(
            f"the gates of {layer.name} ({layer.place}) cannot be read as signs of a pre-activation; "
            "make them by ReLUs, max pooling, or reluctant.theory.gating.gate with slope 0"
        )
    return layer.source


def _is_marked(net: PathNetwork, layer: GateLayer) -> bool:
    """Tell whether a mask is 1 exactly where its pre-activation is positive."""
    made = next((n for n in net.program.graph.nodes if n.name == layer.made_by), None)
    return layer.hard and made is not None and made.target is torch.ops.reluctant.gate.default
