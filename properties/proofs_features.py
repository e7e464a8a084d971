"""Proofs about the features of deep linearly gated networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sympy
from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import OWN_GATES, Shape, Shapes, gated, gated_convolution
from reluctant.theory.gate_book import GateBook
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork


def _linear_shapes() -> tuple[Shape, ...]:
    return (
        gated(2, 2, 2, 1, features="linear"),
        gated(1, 2, 2, 2, 1, features="linear"),
        gated(2, 2, 1, features="linear", bias=True),
        gated_convolution(1, (3,), (2,)),
        gated_convolution(1, (3,), (2, 2)),
    )


def _chains() -> tuple[Shape, ...]:
    return (
        gated(2, 2, 2, 1, features="linear"),
        gated(2, 3, 2, 1, features="linear"),
        gated(1, 2, 2, 2, 1, features="linear"),
    )


def _through_relus() -> tuple[Shape, ...]:
    return (gated(2, 2, 2, 1),)


def sources(symbolic: SymbolicNetwork) -> list[int]:
    """Return the nodes of the pre-activations that make the gates on the paths."""
    found = (symbolic.net.gate_layers[layer].source for layer in symbolic.gates[0])
    return [source for source in found if source is not None]


def composed(symbolic: SymbolicNetwork, layer: int) -> list[PolyElement]:
    """Return W_l ⋯ W_1 x of a dense feature network, by products of matrices."""
    column = sympy.Matrix([x.as_expr() for x in symbolic.x[0]])
    tensors = [w for w in symbolic.net.weights if w.name.startswith("gates.")]
    for weight in tensors[: layer + 1]:
        rows, columns = weight.shape
        entries = [symbolic.weight[weight.name, k].as_expr() for k in range(rows * columns)]
        column = sympy.Matrix(rows, columns, entries) * column
    return [symbolic.ring.from_expr(sympy.expand(q)) for q in column]


def primal_linear(
    shapes: Shapes = _linear_shapes, chains: Shapes = _chains, both_on: bool = True
) -> Proof:
    """Make the proof that gates are half-spaces and regions of paths convex.

    Args:
        shapes: Gated networks.
        chains: Fully connected ones among them, without biases.
        both_on: Whether a gate is on at both ends, or at one.
    """

    def matrices() -> Iterator[Identity]:
        for shape in chains():
            symbolic = shape.symbols(examples=1, free=24)
            book = GateBook(symbolic.free)
            for layer, source in enumerate(sources(symbolic)):
                left = symbolic.forward(symbolic.x[0], book, node=source)
                right = composed(symbolic, layer)
                for a, b in zip(left, right, strict=True):
                    yield Identity(a, b, shape.words, "q_l(x)")

    def affine() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(extra=("t",), free=60)
            book, t = GateBook(symbolic.free), symbolic.extra["t"]
            between = [t * a + (1 - t) * b for a, b in zip(*symbolic.x, strict=True)]
            for source in sources(symbolic):
                here, there, middle = (
                    symbolic.forward(x, book, node=source) for x in (*symbolic.x, between)
                )
                for a, b, q in zip(here, there, middle, strict=True):
                    yield Identity(q, t * a + (1 - t) * b, shape.words, "q(t x + (1 - t) y)")

    def convex() -> Iterator[Identity]:
        q, t, rest = sympy.symbols("q t s", positive=True)
        other = sympy.Symbol("q'", positive=True) if both_on else sympy.Symbol("q'", real=True)
        one = sympy.Integer(1)
        yield Identity(sympy.sign(t * q + rest * other), one, label="sign(t q + s q')")

    steps = (
        Step(
            "The pre-activations that make the gates, as traced, against products of the feature "
            "network's matrices.",
            r"q_l(x) = W_l \cdots W_1 x, \qquad G_l(x) = 1\{q_l(x) > 0\}",
            matrices,
        ),
        Step(
            "With biases and convolutions too they are affine: between two inputs they are between "
            "their values.",
            "q(t x + (1 - t) y) = t q(x) + (1 - t) q(y)",
            affine,
        ),
        Step(
            "Where $q$ and $q'$ are positive at both ends, and $t$ and $s = 1 - t$ are positive, "
            "so is $t q + s q'$: a gate that is on at both ends is on between them. A path is "
            "active where all its gates are on, and half-spaces meet in a convex set.",
            "t q + s q' > 0",
            convex,
        ),
    )
    return Proof(
        name="dlgn.primal-linear",
        title="Gates of a deep linearly gated network are half-spaces, so regions of paths are convex.",
        claim=r"G_l(x) = 1\{W_l \cdots W_1 x > 0\}, \qquad \{x : A(x, p) = 1\} \text{ convex}",
        symbols=(*OWN_GATES, ("q", "pre-activations that make gates"), ("t", "between 0 and 1")),
        steps=steps,
        conclusion="For all weights and inputs of the networks named.",
    )


PROOFS: dict[str, Callable[..., Proof]] = {"dlgn.primal-linear": primal_linear}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "dlgn.primal-linear": (
        Mutant("ReLUs between the feature layers", {"shapes": _through_relus}),
        Mutant("ReLUs in a composed map", {"chains": _through_relus}),
        Mutant("on at one end only", {"both_on": False}),
    ),
}
