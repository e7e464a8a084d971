"""Path networks over polynomial rings: the traced nodes, with symbols for weights, inputs, gates.

The nodes and operators are those that numbers go through, so that what is proved is what is
tested. Polynomials are sparse elements of one ring over the rationals, which SymPy multiplies much
faster than expressions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from sympy import QQ, Symbol
from sympy.polys.orderings import lex
from sympy.polys.rings import PolyElement, PolyRing

from reluctant.theory.errors import UnsupportedOperation
from reluctant.theory.gate_book import GateBook, Polynomials
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Input, Node, Weighted
from reluctant.theory.operators import Bias
from reluctant.theory.paths import Entry
from reluctant.theory.symbolic_paths import GatePolynomials, SymbolicPath, list_paths
from reluctant.theory.wiring import constant_edges, gate_shapes, rational, weighted_edges

_INPUTS, _GATES = "xy", "gh"  # letters of the first and the second input, and of their gates


class SymbolicNetwork:
    r"""Be a traced network whose weights, inputs and gates are generators of one ring.

    Args:
        net: Traced network, small: every entry of every tensor becomes a polynomial.
        examples: 1 for x, 2 for x and x' (written y, its gates h).
        extra: LaTeX names of further generators, such as ``c``.
        free: Number of generators kept for :class:`~reluctant.theory.gate_book.GateBook`.

    Attributes:
        net: The network.
        ring: Ring of polynomials over the rationals.
        weight: Generator of each entry of each parameter.
        variance: Generator z_l of each parameter tensor, by the parameter's name.
        x: For each example the generators of its coordinates.
        gates: For each example and each gate layer on the paths, the generators of its gates.
        extra: The further generators, by name.
        free: The generators kept for a gate book.
    """

    def __init__(
        self, net: PathNetwork, *, examples: int = 2, extra: Sequence[str] = (), free: int = 0
    ) -> None:
        self.net = net
        names: list[str] = []

        def take(new: Iterable[str]) -> slice:
            start = len(names)
            names.extend(new)
            return slice(start, len(names))

        entries = _entry_names(net)
        weights = take(entries.values())
        parameters = dict.fromkeys(name for name, _ in entries)
        variances = take(f"z_{{{k}}}" for k in range(1, len(parameters) + 1))
        size = math.prod(net.input_shape)
        inputs = [
            take(f"{_INPUTS[s]}_{{{i}}}" for i in range(1, size + 1)) for s in range(examples)
        ]
        shapes = gate_shapes(net)
        gates = [
            {
                layer: take(
                    f"{_GATES[s]}_{{{k},{i}}}" for i in range(1, math.prod(shapes[layer]) + 1)
                )
                for k, layer in enumerate(shapes, start=1)
            }
            for s in range(examples)
        ]
        further = take(extra)
        kept = take(f"r_{{{k}}}" for k in range(1, free + 1))
        self.ring = PolyRing([Symbol(name) for name in names], QQ, lex)
        generators = self.ring.gens
        self.weight: dict[Entry, PolyElement] = dict(zip(entries, generators[weights], strict=True))
        self.variance = dict(zip(parameters, generators[variances], strict=True))
        self.x = tuple(generators[s] for s in inputs)
        self.gates = tuple(
            {layer: generators[s] for layer, s in by_layer.items()} for by_layer in gates
        )
        self.extra = dict(zip(extra, generators[further], strict=True))
        self.free = generators[kept]

    def forward(
        self,
        x: Polynomials,
        gates: GatePolynomials | GateBook,
        *,
        weight: Mapping[Entry, PolyElement] | None = None,
        node: int | None = None,
    ) -> list[PolyElement]:
        """Send polynomials through the nodes of the network.

        Args:
            x: Coordinates of the input, in the ring of this network or of another.
            gates: Gates of each layer; or a book, which names gates by what they are the sign of.
            weight: Entries of the parameters, in the same ring; the generators if None.
            node: Node to evaluate; the output if None.

        Returns:
            The entries of that node, flattened.

        Cost:
            One product of polynomials for each product of numbers in a forward pass.
        """
        weight = self.weight if weight is None else weight
        found: dict[int, list[PolyElement]] = {}

        def value(i: int) -> list[PolyElement]:
            if i not in found:
                here = self.net.nodes[i]
                operands = [value(k) for k in here.operands]
                if isinstance(here, Input):
                    found[i] = list(x)
                elif isinstance(here, Gate):
                    masks = masks_of(here, operands[0])
                    found[i] = [t * g for t, g in zip(operands[0], masks, strict=True)]
                else:
                    found[i] = self._linear(i, here, operands, weight, x[0].ring)
            return found[i]

        def masks_of(here: Gate, gated: list[PolyElement]) -> Polynomials:
            if not isinstance(gates, GateBook):
                return gates[here.gate]
            layer = self.net.gate_layers[here.gate]
            if layer.kind == "max":
                return gates.winners_of(gated, here.shape[0])
            if layer.source is None:
                raise UnsupportedOperation("the pre-activation of these gates could not be read")
            return gates.gates_of(value(layer.source))

        return value(self.net.output if node is None else node)

    def own_gates(
        self,
        x: Polynomials,
        book: GateBook,
        *,
        weight: Mapping[Entry, PolyElement] | None = None,
    ) -> dict[int, list[PolyElement]]:
        """Return the gates on the paths that the network makes at x, as a book names them."""
        found = {}
        for i in self.net.value_nodes:
            node = self.net.nodes[i]
            if isinstance(node, Gate):
                (operand,) = node.operands
                gated = self.forward(x, book, weight=weight, node=operand)
                layer = self.net.gate_layers[node.gate]
                if layer.kind == "max":
                    found[node.gate] = book.winners_of(gated, node.shape[0])
                else:
                    source = self.forward(x, book, weight=weight, node=layer.source)
                    found[node.gate] = book.gates_of(source)
        return found

    def _linear(
        self,
        i: int,
        node: Node,
        operands: list[list[PolyElement]],
        weight: Mapping[Entry, PolyElement],
        ring: PolyRing,
    ) -> list[PolyElement]:
        if isinstance(node, Constant):
            constants = (rational(c).as_integer_ratio() for c in node.value.flatten().tolist())
            return [ring(QQ(*c)) for c in constants]
        parts: list[list[PolyElement]] = [[] for _ in range(math.prod(node.shape))]
        if isinstance(node, Weighted):
            for source, target, entry in self._wiring[i]:
                w = weight[entry]
                parts[target].append(w if source is None else operands[0][source] * w)
        else:
            for operand, source, target, constant in self._wiring[i]:
                parts[target].append(operands[operand][source] * constant)
        return [ring.add(part) for part in parts]

    @cached_property
    def _wiring(self) -> dict[int, list[Any]]:
        """Return, for each node, which entry of what reaches which of its own, and by what factor."""
        found: dict[int, list[Any]] = {}
        for i, node in enumerate(self.net.nodes):
            if isinstance(node, Weighted):
                found[i] = weighted_edges(self.net, node)
            elif not isinstance(node, Input | Constant | Gate):
                found[i] = constant_edges(self.net, node)
        return found

    def index(self, generators: Iterable[PolyElement]) -> frozenset[int]:
        """Return the positions of generators in the ring's monomials."""
        return frozenset(self.ring.index(g) for g in generators)

    @cached_property
    def gate_indices(self) -> frozenset[int]:
        """Return the positions of all gates, those of a book too."""
        fixed = [g for by_layer in self.gates for layer in by_layer.values() for g in layer]
        return self.index([*fixed, *self.free])

    @cached_property
    def variance_of(self) -> dict[int, PolyElement]:
        """Return z_l for the position of each weight on the paths."""
        on_paths = {self.net.weights[node.weight].name for node in self.net.weighted}
        return {
            self.ring.index(w): self.variance[name]
            for (name, _), w in self.weight.items()
            if name in on_paths
        }

    @cached_property
    def listed(self) -> tuple[SymbolicPath, ...]:
        """Return every path of the network."""
        return list_paths(self.net)


def _entry_names(net: PathNetwork) -> dict[Entry, str]:
    """Return LaTeX names: w or b on the paths, u elsewhere; number of the tensor, then indices."""
    on_paths = {net.weights[node.weight].name: node for node in net.weighted}
    number = {name: k for k, name in enumerate(dict.fromkeys(w.name for w in net.weights), 1)}
    named: dict[Entry, str] = {}
    for weight in net.weights:
        node = on_paths.get(weight.name)
        letter = "u" if node is None else "b" if isinstance(node.operator, Bias) else "w"
        places = torch.arange(weight.size).reshape(weight.shape)
        for entry, place in zip(
            weight.entries.listed().flatten().tolist(), places.flatten().tolist(), strict=True
        ):
            index = "".join(str(int(i) + 1) for i in _unravel(place, weight.shape))
            named.setdefault(
                (weight.name, entry), f"{letter}_{{{number[weight.name]},{index or 1}}}"
            )
    return named


def _unravel(place: int, shape: Sequence[int]) -> list[int]:
    found: list[int] = []
    for size in reversed(shape):
        place, rest = divmod(place, size)
        if size > 1:
            found.append(rest)
    return found[::-1]
