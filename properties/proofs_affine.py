"""Proofs about affine pieces: the map of a pattern, importance, completeness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import (
    SYMBOLS,
    Shape,
    Shapes,
    chains,
    dense,
    everything,
    ladders,
    parallel,
    poolings,
)
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.structure import dense_chain
from reluctant.theory.symbolic import SymbolicNetwork
from reluctant.theory.symbolic_paths import GatePolynomials

Two = tuple[GatePolynomials, GatePolynomials]
Shared = Callable[[SymbolicNetwork], Two]


def equal(symbolic: SymbolicNetwork) -> Two:
    """Return equal gates at both inputs."""
    return symbolic.gates[0], symbolic.gates[0]


def neighbours(symbolic: SymbolicNetwork) -> Two:
    """Return gates that may differ at the two inputs."""
    return symbolic.gates[0], symbolic.gates[1]


def _equal_in_the_last_layer(symbolic: SymbolicNetwork) -> Two:
    g, h = symbolic.gates
    last = list(g)[-1]
    return g, {**h, last: g[last]}


def at_bits(polynomial: PolyElement, values: Mapping[int, int]) -> PolyElement:
    """Return a polynomial with some generators, by position, put to 0 or 1."""
    total: dict[tuple[int, ...], object] = {}
    for monomial, coefficient in polynomial.items():
        if any(monomial[i] and not v for i, v in values.items()):
            continue
        key = tuple(0 if i in values else e for i, e in enumerate(monomial))
        total[key] = total.get(key, 0) + coefficient
    return polynomial.ring.from_dict({m: c for m, c in total.items() if c})


def _without_input(symbolic: SymbolicNetwork, polynomial: PolyElement) -> PolyElement:
    """Return a polynomial at x = 0."""
    return at_bits(polynomial, dict.fromkeys(symbolic.index(symbolic.x[0]), 0))


def _times_gradient(symbolic: SymbolicNetwork, f: PolyElement) -> PolyElement:
    return symbolic.ring.add([x * f.diff(x) for x in symbolic.x[0]])


def layer_products(symbolic: SymbolicNetwork, gated_biases: bool = True) -> list[PolyElement]:
    """Return W_eff x + b_eff of a chain, W_eff and b_eff multiplied out layer by layer.

    Args:
        symbolic: Fully connected chain.
        gated_biases: Whether gates close biases too.
    """
    net, ring = symbolic.net, symbolic.ring
    chain = dense_chain(net)
    assert chain is not None
    size = len(symbolic.x[0])
    maps = [[ring.one if i == k else ring.zero for i in range(size)] for k in range(size)]
    shifts = [ring.zero] * size
    biases = [net.weights[node.weight] for node in net.biases]
    for k, i in enumerate(chain.layers):
        weight = net.weights[net.nodes[i].weight]  # type: ignore[attr-defined]
        rows, columns = weight.shape
        w = [
            [symbolic.weight[weight.name, r * columns + c] for c in range(columns)]
            for r in range(rows)
        ]

        def times(
            vector: Sequence[PolyElement], w: list[list[PolyElement]] = w
        ) -> list[PolyElement]:
            return [ring.add([a * b for a, b in zip(row, vector, strict=True)]) for row in w]

        maps = [
            list(row)
            for row in zip(*(times(column) for column in zip(*maps, strict=True)), strict=True)
        ]
        shifts = times(shifts)
        if biases:
            shifts = [s + symbolic.weight[biases[k].name, r] for r, s in enumerate(shifts)]
        gate = chain.gate_of[k] if k < len(chain.gate_of) else None
        if gate is not None:
            held = symbolic.gates[0][gate]
            maps = [[g * a for a in row] for g, row in zip(held, maps, strict=True)]
            shifts = [g * s for g, s in zip(held, shifts, strict=True)] if gated_biases else shifts
    return [
        ring.add([a * x for a, x in zip(row, symbolic.x[0], strict=True)]) + s
        for row, s in zip(maps, shifts, strict=True)
    ]


def _biased_chains() -> tuple[Shape, ...]:
    return (*chains(), dense(2, 2, 1, bias=True), dense(2, 2, 2, 1, bias=True))


def affine_in_pattern(
    shared: Shared = equal, shapes: Shapes = everything, gated_biases: bool = True
) -> Proof:
    """Make the proof that a network is affine where its gates are equal.

    Args:
        shared: Gates at x and at y.
        shapes: Networks.
        gated_biases: Whether gates close biases too.
    """

    def products() -> Iterator[Identity]:
        for shape in _biased_chains():
            symbolic = shape.symbols(examples=1)
            left = symbolic.forward(symbolic.x[0], symbolic.gates[0])
            for a, b in zip(left, layer_products(symbolic, gated_biases), strict=True):
                yield Identity(a, b, shape.words, "f(x)")

    def affine() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            (x, y), (g, h) = symbolic.x, shared(symbolic)
            for here, there in zip(symbolic.forward(x, g), symbolic.forward(y, h), strict=True):
                steps = [(b - a) * here.diff(a) for a, b in zip(x, y, strict=True)]
                yield Identity(there, here + symbolic.ring.add(steps), shape.words, "f(y)")

    steps = (
        Step(
            "On a chain, the output as traced against the product of all weight matrices with the "
            "gates between, and the biases carried through those above.",
            r"f(x) = W_p D_{p-1} \cdots D_1 W_1 x + \sum_l W_p D_{p-1} \cdots W_{l+1} D_l\, b_l",
            products,
        ),
        Step(
            "With equal gates the output at another input is that at the first and its derivative, "
            "taken with the gates held, times the difference.",
            r"G(x) = G(y) \Rightarrow f(y) = f(x) + \frac{\partial f}{\partial x}(y - x)",
            affine,
        ),
    )
    return Proof(
        name="clu.affine-in-pattern",
        title="Inside one activation pattern a network is one affine map, a product of its layers.",
        claim=r"G(x) = G(y) \Rightarrow f(y) = W_{eff}\, y + b_{eff}",
        symbols=SYMBOLS,
        steps=steps,
        conclusion="For all weights and inputs, and any gates, on the networks named.",
    )


def same_importance(shared: Shared = equal, shapes: Shapes = everything) -> Proof:
    """Make the proof that equal gates make equal derivatives.

    Args:
        shared: Gates at x and at y.
        shapes: Networks.
    """

    def identities() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            (x, y), (g, h) = symbolic.x, shared(symbolic)
            for here, there in zip(symbolic.forward(x, g), symbolic.forward(y, h), strict=True):
                for a, b in zip(x, y, strict=True):
                    label = r"\partial f / \partial x_i"
                    yield Identity(here.diff(a), there.diff(b), shape.words, label)

    step = Step(
        "The derivative by an input coordinate adds weights, gates and constants of the paths from "
        "it, and no input is left in it.",
        r"\frac{\partial f}{\partial x_i}(x) = \sum_{p : p_0 = i} A(x, p)\, v_p = "
        r"\frac{\partial f}{\partial x_i}(y)",
        identities,
    )
    return Proof(
        name="clu.same-cluster-same-importance",
        title="Inputs of one cluster share the importance of every feature.",
        claim=(
            r"G(x) = G(y) \Rightarrow \frac{\partial f}{\partial x_i}(x) = "
            r"\frac{\partial f}{\partial x_i}(y)"
        ),
        symbols=SYMBOLS,
        steps=(step,),
        conclusion="For all weights and inputs of the networks named, gates held.",
    )


def _without_sources() -> tuple[Shape, ...]:
    return (*chains(), *poolings(), *ladders(), parallel())


def _with_biases() -> tuple[Shape, ...]:
    return (dense(2, 2, 1, bias=True),)


def completeness(bias: bool = True, free: Shapes = _without_sources) -> Proof:
    """Make the proof that features and biases account for the output.

    Args:
        bias: Whether what biases give is added.
        free: Networks without biases.
    """

    def whole() -> Iterator[Identity]:
        for shape in everything():
            symbolic = shape.symbols(examples=1)
            for f in symbolic.forward(symbolic.x[0], symbolic.gates[0]):
                right = _times_gradient(symbolic, f)
                right += _without_input(symbolic, f) if bias else symbolic.ring.zero
                yield Identity(f, right, shape.words, "f(x)")

    def euler() -> Iterator[Identity]:
        for shape in free():
            symbolic = shape.symbols(examples=1)
            for f in symbolic.forward(symbolic.x[0], symbolic.gates[0]):
                yield Identity(f, _times_gradient(symbolic, f), shape.words, "f(x)")

    steps = (
        Step(
            "With the gates held the output is a constant, what paths from sources give, and terms "
            "of degree 1 in the input.",
            r"f(x) = \sum_i x_i \frac{\partial f}{\partial x_i} + b_{eff}",
            whole,
        ),
        Step(
            "Without sources every path begins at the input: Euler's identity.",
            r"f(x) = \sum_i x_i \frac{\partial f}{\partial x_i}",
            euler,
        ),
    )
    return Proof(
        name="clu.completeness",
        title="Gradient times input, and the bias that reaches the output, add up to the output.",
        claim=r"f(x) = \sum_i x_i \frac{\partial f}{\partial x_i} + b_{eff}",
        symbols=SYMBOLS,
        steps=steps,
        conclusion="For all weights and inputs of the networks named, gates held.",
    )


PROOFS: dict[str, Callable[..., Proof]] = {
    "clu.affine-in-pattern": affine_in_pattern,
    "clu.same-cluster-same-importance": same_importance,
    "clu.completeness": completeness,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "clu.affine-in-pattern": (
        Mutant("a neighbour's gates", {"shared": neighbours}),
        Mutant("biases that no gate closes", {"gated_biases": False}),
    ),
    "clu.same-cluster-same-importance": (
        Mutant("equal gates in the last layer only", {"shared": _equal_in_the_last_layer}),
        Mutant("a neighbour's gates", {"shared": neighbours}),
    ),
    "clu.completeness": (
        Mutant("biases left out", {"bias": False}),
        Mutant("Euler's identity with biases", {"free": _with_biases}),
    ),
}
