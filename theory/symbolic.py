"""Path networks over polynomial rings: the traced nodes, with symbols for weights, inputs, gates.

The nodes and operators are those that numbers go through, so that what is proved is what is
tested. Polynomials are sparse elements of one ring over the rationals; expressions would be two
orders of magnitude slower.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from typing import Any

import torch
from sympy import QQ, Symbol
from sympy.polys.orderings import lex
from sympy.polys.rings import PolyElement, PolyRing
from torch import Tensor

from reluctant.theory.errors import InputError, UnsupportedOperation
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Input, Node, Weighted
from reluctant.theory.operators import Bias
from reluctant.theory.paths import Entry, apply_constant, paths

Polynomials = Sequence[PolyElement]
GatePolynomials = Mapping[int, Polynomials]

_INPUTS, _GATES = "xy", "gh"  # letters of the first and the second input, and of their gates
_LARGEST_DENOMINATOR = 1000


class SymbolicNetwork:
    r"""Be a traced network whose weights, inputs and gates are generators of one ring.

    Args:
        net: Traced network, small: every entry of every tensor becomes a polynomial.
        examples: 1 for x, 2 for x and x' (written y, its gates h).
        extra: LaTeX names of further generators, such as ``c``.
        free: Number of generators kept for :class:`GateBook`.

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
            constants = (_rational(c).as_integer_ratio() for c in node.value.flatten().tolist())
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
                found[i] = _weighted_edges(self.net, node)
            elif not isinstance(node, Input | Constant | Gate):
                found[i] = _constant_edges(self.net, node)
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
        """Return every path, as :func:`reluctant.theory.paths.paths` lists them.

        Gates are marked by distinct primes, so that the product of those on a path names them.
        """
        shapes = gate_shapes(self.net)
        primes = _primes(sum(map(math.prod, shapes.values())))
        numbers = iter(primes)
        marked: dict[int, tuple[int, int]] = {}
        masks: list[Tensor] = []
        for layer in range(len(self.net.gate_layers)):
            if layer not in shapes:
                masks.append(torch.ones(1, dtype=torch.float64))
                continue
            chosen = [next(numbers) for _ in range(math.prod(shapes[layer]))]
            marked |= {p: (layer, k) for k, p in enumerate(chosen)}
            masks.append(torch.tensor([chosen], dtype=torch.float64).reshape(1, *shapes[layer]))
        program = self.net.program
        x = torch.ones(program.example_shape, dtype=program.dtype)
        listing = paths(self.net, x, gates=masks)
        return tuple(
            SymbolicPath(start, end, _rational(constant), _factors(int(activity), marked), word)
            for start, end, constant, activity, word in zip(
                listing.starts.tolist(),
                listing.ends.tolist(),
                listing.constants.tolist(),
                listing.activity[0].tolist(),
                listing.words,
                strict=True,
            )
        )


class SymbolicPath:
    """Be one path: where it starts and ends, its constant, its gates and its weights.

    Args:
        start: Input coordinate, −1 at a source.
        end: Output coordinate.
        constant: Product of its routing constants.
        gates: Its gates, each as (layer, entry).
        word: Its weights, each as (parameter, entry).
    """

    __slots__ = ("constant", "end", "gates", "start", "word")

    def __init__(
        self,
        start: int,
        end: int,
        constant: Fraction,
        gates: tuple[tuple[int, int], ...],
        word: tuple[Entry, ...],
    ) -> None:
        self.start, self.end, self.constant = start, end, constant
        self.gates, self.word = gates, word

    def activity(self, ring: PolyRing, gates: GatePolynomials) -> PolyElement:
        """Return A(x, p), the product of its gates."""
        product = ring.one
        for layer, k in self.gates:
            product = product * gates[layer][k]
        return product

    def feature(self, ring: PolyRing, x: Polynomials, gates: GatePolynomials) -> PolyElement:
        """Return φ_p(x): its input (1 at a source) times its gates and its constant."""
        start = ring.one if self.start < 0 else x[self.start]
        return start * self.activity(ring, gates) * QQ(*self.constant.as_integer_ratio())

    def value(self, ring: PolyRing, weight: Mapping[Entry, PolyElement]) -> PolyElement:
        """Return v_p, the product of its weights."""
        product = ring.one
        for entry in self.word:
            product = product * weight[entry]
        return product


class GateBook:
    r"""Name gates by the pre-activations that they are made from.

    :math:`1\{q > 0\}` and :math:`1\{q' > 0\}` get one symbol where q = c q' with c > 0, and so
    networks that compute their own gates can be compared without knowing any of them. A soft gate
    is any function of its q.

    Args:
        generators: Symbols to give out.
        positive: Generators that stand for positive numbers.
        hard: False for gates of which nothing is known but that equal q make equal gates.
        reduce: Normal form of pre-activations modulo relations among other generators.
    """

    def __init__(
        self,
        generators: Polynomials,
        positive: Polynomials = (),
        *,
        hard: bool = True,
        reduce: Callable[[PolyElement], PolyElement] | None = None,
    ) -> None:
        self._left = list(generators)
        self._given: dict[object, PolyElement] = {}
        self._idempotent = {g.ring.index(g) for g in generators} if hard else set()
        self._reduce = reduce
        self._positive = {c.ring.index(c) for c in positive}
        self._hard = hard

    def gates_of(self, pre_activations: Polynomials) -> list[PolyElement]:
        """Return the gate of each pre-activation; a hard gate of 0 is 0."""
        return [
            q.ring.zero if self._hard and not q else self._symbol(self._sign_of(q))
            for q in pre_activations
        ]

    def winners_of(self, entries: Polynomials, window: int) -> list[PolyElement]:
        """Return which entries are the largest of their windows, ties excluded or shared.

        Args:
            entries: Flattened (window, place) array.
            window: Size of its first axis.
        """
        places = len(entries) // window
        rivals = [frozenset(Counter(entries[k::places]).items()) for k in range(places)]
        return [self._symbol((q, rivals[k % places])) for k, q in enumerate(entries)]

    def _symbol(self, key: object) -> PolyElement:
        if key not in self._given:
            if not self._left:
                raise InputError("the gate book is full; reserve more symbols with free=")
            self._given[key] = self._left.pop(0)
        return self._given[key]

    def _sign_of(self, q: PolyElement) -> PolyElement:
        """Return q without its positive factors, where the gate is hard."""
        q = q if self._reduce is None else self._reduce(q)
        if not self._hard:
            return q
        q = reduced(q, idempotent=self._idempotent)
        least = [min(m[i] for m in q) if i in self._positive else 0 for i in range(q.ring.ngens)]
        terms = {tuple(e - b for e, b in zip(m, least, strict=True)): c for m, c in q.items()}
        size = sum(abs(c) for c in terms.values())
        return q.ring.from_dict({m: c / size for m, c in terms.items()})


def reduced(
    polynomial: PolyElement,
    *,
    idempotent: Collection[int] = (),
    inverses: Collection[tuple[int, int]] = (),
    squares: Mapping[int, int] | None = None,
) -> PolyElement:
    """Return the normal form of a polynomial modulo relations, each on generators of its own.

    Args:
        polynomial: What to rewrite.
        idempotent: Positions of the generators with g² = g.
        inverses: Pairs of positions with c · c⁻¹ = 1.
        squares: For positions with w² = z, the position of z.
    """
    total: dict[tuple[int, ...], Any] = {}
    for monomial, coefficient in polynomial.items():
        powers = list(monomial)
        for i in idempotent:
            powers[i] = min(powers[i], 1)
        for i, k in inverses:
            common = min(powers[i], powers[k])
            powers[i], powers[k] = powers[i] - common, powers[k] - common
        for i, z in (squares or {}).items():
            powers[z] += powers[i] // 2
            powers[i] %= 2
        key = tuple(powers)
        total[key] = total.get(key, 0) + coefficient
    return polynomial.ring.from_dict({m: c for m, c in total.items() if c})


def gate_shapes(net: PathNetwork) -> dict[int, tuple[int, ...]]:
    """Return the shape of each layer of gates on the paths, in order."""
    live = [net.nodes[i] for i in net.value_nodes]
    return {node.gate: node.shape for node in live if isinstance(node, Gate)}


def _entry_names(net: PathNetwork) -> dict[Entry, str]:
    """Return LaTeX names: w or b on the paths, u elsewhere; number of the tensor, then indices."""
    on_paths = {net.weights[node.weight].name: node for node in net.weighted}
    number = {name: k for k, name in enumerate(dict.fromkeys(w.name for w in net.weights), 1)}
    named: dict[Entry, str] = {}
    for weight in net.weights:
        node = on_paths.get(weight.name)
        letter = "u" if node is None else "b" if isinstance(node.operator, Bias) else "w"
        places = torch.arange(weight.entries.numel()).reshape(weight.shape)
        for entry, place in zip(
            weight.entries.flatten().tolist(), places.flatten().tolist(), strict=True
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


def _basis(shape: Sequence[int]) -> Tensor:
    size = math.prod(shape)
    return torch.eye(size, dtype=torch.float64).reshape(size, *shape)


def _weighted_edges(net: PathNetwork, node: Weighted) -> list[tuple[int | None, int, Entry]]:
    """Return (entry of the operand, entry of the node, weight): the operator on a basis."""
    weight = net.weights[node.weight]
    entries = weight.entries.flatten().tolist()
    edges: list[tuple[int | None, int, Entry]] = []
    for k, weights in enumerate(_basis(weight.shape)):
        if node.operands:
            images = node.operator.apply(_basis(net.nodes[node.operands[0]].shape), weights)
        else:
            images = node.operator.apply(None, weights)
        for source, row in enumerate(images.flatten(1).tolist()):
            where = source if node.operands else None
            for target, factor in enumerate(row):
                assert factor in (0.0, 1.0), "an operator multiplies by its weights only"
                if factor:
                    edges.append((where, target, (weight.name, entries[k])))
    return edges


def _constant_edges(net: PathNetwork, node: Node) -> list[tuple[int, int, int, Any]]:
    """Return (operand, its entry, entry of the node, constant): the node on a basis."""
    shapes = [net.nodes[k].shape for k in node.operands]
    edges = []
    for operand, shape in enumerate(shapes):
        size = math.prod(shape)
        tried = [
            _basis(s) if j == operand else torch.zeros(size, *s, dtype=torch.float64)
            for j, s in enumerate(shapes)
        ]
        images = apply_constant(node, tried).reshape(size, -1)
        for source, target in images.nonzero().tolist():
            constant = _rational(float(images[source, target]))
            edges.append((operand, source, target, QQ(*constant.as_integer_ratio())))
    return edges


def _rational(number: float) -> Fraction:
    """Return the fraction of small denominator that a routing constant is the rounding of.

    Raises:
        UnsupportedOperation: If there is none within four roundings.
    """
    found = Fraction(number).limit_denominator(_LARGEST_DENOMINATOR)
    if abs(float(found) - number) > 4 * math.ulp(number):
        raise UnsupportedOperation(f"the constant {number!r} is no fraction of small denominator")
    return found


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % p for p in found):
            found.append(candidate)
        candidate += 1
    return found


def _factors(number: int, marked: Mapping[int, tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for p, gate in marked.items():
        while number % p == 0:
            number //= p
            found.append(gate)
    assert number == 1
    return tuple(found)
