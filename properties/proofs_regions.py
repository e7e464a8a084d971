"""Proofs about regions: polyhedra, and pieces that agree where they meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import sympy
from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import (
    SYMBOLS,
    Shape,
    Shapes,
    convolution,
    dense,
    gated,
    ladders,
    parallel,
)
from reluctant.properties.proofs_affine import Shared, at_bits, equal, neighbours
from reluctant.theory.nodes import Gate
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant


def _own_gates() -> tuple[Shape, ...]:
    return (
        dense(2, 2, 1),
        dense(2, 2, 2, 1),
        dense(2, 2, 1, bias=True),
        convolution(1, (3,), (2,)),
        convolution(1, (3,), (1,), pool="max"),
        parallel(),
        *ladders()[:2],
    )


def _gates_from_elsewhere() -> tuple[Shape, ...]:
    return (gated(2, 2, 1, features="linear"),)


def continuous(shapes: Shapes = _own_gates) -> Proof:
    """Make the proof that pieces agree where one gate turns.

    Args:
        shapes: Networks whose gates follow what they multiply.
    """

    def turned() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(examples=1)
            gates = symbolic.gates[0]
            outputs = symbolic.forward(symbolic.x[0], gates)
            for node in symbolic.net.nodes:
                if isinstance(node, Gate) and node.gate in gates:
                    layer = symbolic.net.gate_layers[node.gate]
                    held = [symbolic.ring.index(g) for g in gates[node.gate]]
                    source = node.operands[0] if layer.kind == "max" else layer.source
                    q = symbolic.forward(symbolic.x[0], gates, node=source)
                    for one, other, crossed in _turns(held, q, layer.kind, node.shape[0]):
                        for f in outputs:
                            change = at_bits(f, one) - at_bits(f, other)
                            factor = change.div([crossed])[0][0] if change else change
                            yield Identity(change, factor * crossed, shape.words, "f_P - f_Q")

    step = Step(
        "Two pieces that meet in a facet differ in one gate, that of a unit whose pre-activation $q$ is "
        "0 there, or in the winner of one window, whose two largest entries $t$, $t'$ are equal there. The "
        "difference of the outputs, gates of all other units held, is a multiple of $q$, or of $t - t'$: "
        "it is divided by it, and nothing is left.",
        r"f\big|_{g = 1} - f\big|_{g = 0} = q\, r, \qquad f\big|_t - f\big|_{t'} = (t - t')\, r",
        turned,
    )
    return Proof(
        name="clu.continuous",
        title="The affine pieces agree on the boundaries that they share.",
        claim=r"q = 0 \Rightarrow W_P\, x + b_P = W_Q\, x + b_Q",
        symbols=(*SYMBOLS, ("q", "pre-activation of the unit whose gate turns")),
        steps=(step,),
        conclusion=(
            "For all weights and inputs of the networks named, across facets; corners are reached "
            "from facets, where affine maps are continuous."
        ),
    )


Turn = tuple[dict[int, int], dict[int, int], PolyElement]


def _turns(held: list[int], q: list[PolyElement], kind: str, taps: int) -> Iterator[Turn]:
    """Yield two settings of one gate, or of one window's, and what is 0 where they meet."""
    if kind != "max":
        for g, pre_activation in zip(held, q, strict=True):
            if pre_activation:
                yield {g: 1}, {g: 0}, pre_activation
        return
    places = len(held) // taps
    for place in range(places):
        window = held[place::places]
        for a, b in combinations(range(taps), 2):
            one, other = ({g: int(k == winner) for k, g in enumerate(window)} for winner in (a, b))
            yield one, other, q[a * places + place] - q[b * places + place]


def polyhedral(shared: Shared = equal, both_inside: bool = True, balanced: bool = True) -> Proof:
    """Make the proof that regions are polyhedra, and that multipliers show that one is empty.

    Args:
        shared: Gates at both ends of a segment.
        both_inside: Whether both ends are inside.
        balanced: Whether multipliers make the normals cancel.
    """

    def affine() -> Iterator[Identity]:
        for shape in _own_gates():
            symbolic = shape.symbols(extra=("t",))
            t, (g, h) = symbolic.extra["t"], shared(symbolic)
            between = [t * a + (1 - t) * b for a, b in zip(*symbolic.x, strict=True)]
            for layer in g:
                node = symbolic.net.gate_layers[layer].source
                here, there, middle = (
                    symbolic.forward(x, gates, node=node)
                    for x, gates in zip((*symbolic.x, between), (g, h, g), strict=True)
                )
                for a, b, q in zip(here, there, middle, strict=True):
                    yield Identity(q, t * a + (1 - t) * b, shape.words, "q(t x + (1 - t) y)")

    def convex() -> Iterator[Identity]:
        q, t, rest = sympy.symbols("q t s", positive=True)
        other = sympy.Symbol("q'", positive=True) if both_inside else sympy.Symbol("q'", real=True)
        left = sympy.sign(t * q + rest * other)
        yield Identity(left, sympy.Integer(1), label="sign(t q + s q')")

    def empty() -> Iterator[Identity]:
        for n in (1, 2, 3):
            a = sympy.Matrix(n + 1, n, sympy.symbols(f"a1:{n * (n + 1) + 1}"))
            x = sympy.Matrix(sympy.symbols(f"x1:{n + 1}"))
            b = sympy.symbols(f"b1:{n + 2}")
            # cofactors of a column of constants: Σ λ a = 0 whatever a is
            ones = a.row_join(sympy.ones(n + 1, 1))
            weights = [ones.cofactor(i, n) if balanced else 1 for i in range(n + 1)]
            left = sum(w * ((a.row(i) * x)[0] + b[i]) for i, w in enumerate(weights))
            right = sum(w * c for w, c in zip(weights, b, strict=True))
            yield Identity(left, right, f"{n + 1} inequalities in {n} coordinates")

    steps = (
        Step(
            "With the gates of a pattern held, every pre-activation is affine in the input.",
            "q(t x + (1 - t) y) = t q(x) + (1 - t) q(y)",
            affine,
        ),
        Step(
            "So the inputs with this pattern solve one linear inequality a unit, and between two of "
            "them are others: where $q$, $q'$, $t$ and $s = 1 - t$ are positive, so is $t q + s q'$.",
            "t q + s q' > 0",
            convex,
        ),
        Step(
            r"If $\lambda \ge 0$ and $\sum_i \lambda_i a_i = 0$, the inequalities add up to a number that "
            "does not depend on the input; where it is not positive, no input satisfies them all strictly. "
            "The identity is expanded for the multipliers that make the sum vanish.",
            r"\sum_i \lambda_i (\langle a_i, x \rangle + b_i) = \sum_i \lambda_i b_i",
            empty,
        ),
    )
    return Proof(
        name="clu.polyhedron",
        title="The region of a pattern is a convex polyhedron, and a linear programme finds its inside.",
        claim=r"\{y : G(y) = G(x)\} = \{y : \pm q_u(y) > 0\}",
        symbols=(*SYMBOLS, ("q", "pre-activations"), (r"\lambda", "multipliers")),
        steps=steps,
        conclusion=(
            "For all weights and inputs of the networks named. That multipliers exist where no input "
            "does is Motzkin's theorem, and the duality of linear programmes."
        ),
    )


PROOFS: dict[str, Callable[..., Proof]] = {
    "clu.continuous": continuous,
    "clu.polyhedron": polyhedral,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "clu.continuous": (Mutant("gates from elsewhere", {"shapes": _gates_from_elsewhere}),),
    "clu.polyhedron": (
        Mutant("a neighbour's gates at one end", {"shared": neighbours}),
        Mutant("inside at one end only", {"both_inside": False}),
        Mutant("multipliers 1", {"balanced": False}),
    ),
}
