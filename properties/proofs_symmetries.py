r"""Proofs about networks that make their own gates: gates are named by their pre-activations.

Two hard gates are equal where their pre-activations are positive multiples of each other, and
nothing else is used of them. So the identities hold whatever the gates turn out to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import sympy
from sympy.polys.rings import PolyElement

from reluctant.models import make_fc
from reluctant.models.converters import to_dgn
from reluctant.properties.proof_shapes import (
    OWN_GATES,
    Shape,
    Shapes,
    convolution,
    dense,
    make_shape,
    residual,
    unseen,
)
from reluctant.properties.proofs_kernels import at_one
from reluctant.theory.gate_book import GateBook
from reluctant.theory.moments import bundle_law
from reluctant.theory.paths import Entry
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork

_GATES = 40
Weights = Mapping[Entry, PolyElement]


def sign_step(positive: bool = True) -> Step:
    """Make the step that a positive factor does not change a gate."""

    def gate(q: sympy.Expr) -> sympy.Expr:
        return sympy.sign(q) * (1 + sympy.sign(q)) / 2

    def identities() -> Iterator[Identity]:
        q = sympy.Symbol("q", real=True)
        c = sympy.Symbol("c", positive=True) if positive else sympy.Symbol("c", real=True)
        yield Identity(gate(c * q), gate(q), label=r"1\{c q > 0\}")

    return Step(
        "A hard gate is $1$, $0$, $0$ for $q > 0$, $q = 0$, $q < 0$; a factor $c > 0$ does not "
        "change it.",
        r"1\{c q > 0\} = 1\{q > 0\} \qquad (c > 0)",
        identities,
    )


def _homogeneous_shapes() -> tuple[Shape, ...]:
    return (
        dense(2, 2, 1),
        dense(2, 2, 2, 1),
        convolution(1, (3,), (2,), (2,)),
        convolution(1, (3,), (2,), padding="zero"),
        residual(2, 2, 1, 1),
        residual(1, 2, 2, 1),
    )


def homogeneous(shapes: Shapes = _homogeneous_shapes, positive: bool = True) -> Proof:
    """Make the proof that gates do not change along a ray, and outputs and kernels scale."""

    def along(shape: Shape) -> tuple[SymbolicNetwork, GateBook, list[PolyElement]]:
        symbolic = shape.symbols(extra=("c",), free=_GATES)
        c = symbolic.extra["c"]
        book = GateBook(symbolic.free, [c] if positive else [])
        return symbolic, book, [c * t for t in symbolic.x[0]]

    def gates() -> Iterator[Identity]:
        for shape in shapes():
            symbolic, book, scaled = along(shape)
            here, there = symbolic.own_gates(symbolic.x[0], book), symbolic.own_gates(scaled, book)
            for layer in here:
                for a, b in zip(there[layer], here[layer], strict=True):
                    yield Identity(a, b, shape.words, "G(c x)")

    def outputs() -> Iterator[Identity]:
        for shape in shapes():
            symbolic, book, scaled = along(shape)
            right = symbolic.extra["c"] * symbolic.forward(symbolic.x[0], book)[0]
            yield Identity(symbolic.forward(scaled, book)[0], right, shape.words, "f(c x)")

    def kernels() -> Iterator[Identity]:
        for shape in shapes():
            symbolic, book, scaled = along(shape)
            (x, y) = symbolic.x
            g, moved, h = (symbolic.own_gates(t, book) for t in (x, scaled, y))
            left = at_one(symbolic, bundle_law(symbolic, scaled, moved, y, h))
            right = symbolic.extra["c"] * at_one(symbolic, bundle_law(symbolic, x, g, y, h))
            yield Identity(left, right, shape.words, "H(c x, y)")

    steps = (
        sign_step(positive),
        Step(
            "Layer by layer: given equal gates below, pre-activations at $c x$ are $c$ times those "
            "at $x$, so the next gates are equal too.",
            "G(c x) = G(x)",
            gates,
        ),
        Step("With these gates the output scales.", "f(c x) = c f(x)", outputs),
        Step("So does the kernel, paths listed.", "H(c x, y) = c H(x, y)", kernels),
    )
    return Proof(
        name="dual.homogeneous",
        title="Without sources gates do not change along a ray, and output and kernel scale with it.",
        claim=r"G(c x) = G(x), \quad f(c x) = c f(x), \quad H(c x, y) = c H(x, y) \qquad (c > 0)",
        symbols=(*OWN_GATES, ("c", "a positive number")),
        steps=steps,
        conclusion="For all weights and inputs of the networks named, ties included.",
    )


def _biased() -> tuple[Shape, ...]:
    return (dense(2, 2, 1, bias=True),)


def _twins(
    shared: bool,
) -> Iterator[tuple[str, SymbolicNetwork, SymbolicNetwork, Weights, Weights]]:
    """Yield a ReLU network, its DGN, and weights of both in the ring of the DGN."""
    for sizes in ((2, 2, 1), (2, 2, 2, 1), (1, 2, 2, 2, 1)):
        module = make_fc(sizes[0], sizes[1:-1], sizes[-1], generator=unseen())
        plain = make_shape("fully connected " + "-".join(map(str, sizes)), module, sizes[:1])
        twin = make_shape("its DGN", to_dgn(module), sizes[:1])
        there = twin.symbols(examples=1, free=_GATES)
        ours = {
            (name.removeprefix("value."), k): w
            for (name, k), w in there.weight.items()
            if name.startswith("value.")
        }
        theirs = dict(there.weight)
        if shared:
            theirs |= {
                (name, k): ours[name.removeprefix("own_features."), k]
                for name, k in there.weight
                if name.startswith("own_features.")
            }
        yield plain.words, plain.symbols(examples=1), there, ours, theirs


def relu_is_dgn(shared: bool = True) -> Proof:
    """Make the proof that a ReLU network is a DGN whose two networks share their weights."""

    def gates() -> Iterator[Identity]:
        for words, plain, twin, ours, theirs in _twins(shared):
            book = GateBook(twin.free)
            x = twin.x[0]
            own = plain.own_gates(x, book, weight=ours)
            outside = twin.own_gates(x, book, weight=theirs)
            for mine, given in zip(own.values(), outside.values(), strict=True):
                for a, b in zip(mine, given, strict=True):
                    yield Identity(a, b, words, "G(x)")

    def outputs() -> Iterator[Identity]:
        for words, plain, twin, ours, theirs in _twins(shared):
            book = GateBook(twin.free)
            left = plain.forward(twin.x[0], book, weight=ours)[0]
            right = twin.forward(twin.x[0], book, weight=theirs)[0]
            yield Identity(left, right, words, "f(x)")

    steps = (
        Step(
            "Feature network and ReLU network have the same pre-activations, so the gates that "
            "the feature network hands over are the ReLU network's own.",
            r"1\{q_l(x) > 0\} \text{ of both}",
            gates,
        ),
        Step(
            "So the value network, with these gates and the same weights, has the same output.",
            r"f_\theta^{ReLU}(x) = \langle \phi_\theta(x), v_\theta \rangle",
            outputs,
        ),
    )
    return Proof(
        name="dual.relu-is-dgn",
        title="A ReLU network is a gated network whose feature and value networks share weights.",
        claim=r"f_\theta^{ReLU}(x) = \langle \phi_\theta(x), v_\theta \rangle",
        symbols=OWN_GATES,
        steps=steps,
        conclusion="For all weights and inputs of the networks named, ties included.",
    )


PROOFS: dict[str, Callable[..., Proof]] = {
    "dual.homogeneous": homogeneous,
    "dual.relu-is-dgn": relu_is_dgn,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "dual.homogeneous": (
        Mutant("c of any sign", {"positive": False}),
        Mutant("biases", {"shapes": _biased}),
    ),
    "dual.relu-is-dgn": (Mutant("weights not shared", {"shared": False}),),
}
