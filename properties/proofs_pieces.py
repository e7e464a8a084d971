"""Proofs about gated networks fed with ones: what is constant, and one map for each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import (
    OWN_GATES,
    SYMBOLS,
    Shape,
    Shapes,
    gated,
    gated_convolution,
)
from reluctant.properties.proofs_features import composed, sources
from reluctant.properties.proofs_symmetries import sign_step
from reluctant.theory.gate_book import GateBook
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork

_GATES = 40


def _ones() -> tuple[Shape, ...]:
    return (
        gated(2, 2, 2, 1, features="linear", ones=True),
        gated(2, 2, 2, 1, ones=True),
        gated(3, 2, 1, ones=True),
        gated_convolution(1, (3,), (2, 2)),
    )


def _data() -> tuple[Shape, ...]:
    return (
        gated(2, 2, 2, 1, features="linear"),
        gated(2, 2, 2, 1),
        gated(1, 2, 2, 2, 1),
    )


def _biased() -> tuple[Shape, ...]:
    return (gated(2, 2, 1, features="linear", ones=True, bias=True),)


def constant_input(
    ones: Shapes = _ones, data: Shapes = _data, positive: bool = True, degree: int = 1
) -> Proof:
    """Make the proof that ones as value input make pieces constant.

    Args:
        ones: Gated networks fed with ones.
        data: Gated networks fed with the data.
        positive: Whether the factor of the input is known to be positive.
        degree: Power of the factor that comes out of the output for data.
    """

    def pieces() -> Iterator[Identity]:
        for shape in ones():
            symbolic = shape.symbols()
            (x, y), g = symbolic.x, symbolic.gates[0]
            left, right = symbolic.forward(y, g)[0], symbolic.forward(x, g)[0]
            yield Identity(left, right, shape.words, "f(y)")

    def along(shape: Shape) -> tuple[PolyElement, PolyElement, PolyElement]:
        symbolic = shape.symbols(examples=1, extra=("c",), free=_GATES)
        c, x = symbolic.extra["c"], symbolic.x[0]
        book = GateBook(symbolic.free, [c] if positive else [])
        return c, symbolic.forward([c * t for t in x], book)[0], symbolic.forward(x, book)[0]

    def rays() -> Iterator[Identity]:
        for shape in ones():
            _, left, right = along(shape)
            yield Identity(left, right, shape.words, "f(c x)")

    def scaled() -> Iterator[Identity]:
        for shape in data():
            c, left, right = along(shape)
            yield Identity(left, c**degree * right, shape.words, "f(c x)")

    steps = (
        Step(
            "Paths begin at ones, so with equal gates the outputs at two inputs are one "
            "polynomial.",
            r"G(x) = G(y) \Rightarrow f_{\mathbf 1}(x) = f_{\mathbf 1}(y)",
            pieces,
        ),
        sign_step(positive),
        Step(
            "Features without sources scale with the input, so no gate changes along a ray, and "
            "neither does the output.",
            r"f_{\mathbf 1}(c x) = f_{\mathbf 1}(x) \qquad (c > 0)",
            rays,
        ),
        Step(
            "With the data as value input each path carries one coordinate, and so one factor.",
            "f_x(c x) = c f_x(x) \\qquad (c > 0)",
            scaled,
        ),
    )
    return Proof(
        name="dlgn.constant-input-piecewise",
        title="With ones as value input the output is piecewise constant, and constant along rays.",
        claim=(
            r"G(x) = G(y) \Rightarrow f_{\mathbf 1}(x) = f_{\mathbf 1}(y), \qquad f_{\mathbf 1}"
            r"(c x) = f_{\mathbf 1}(x), \quad f_x(c x) = c f_x(x) \quad (c > 0)"
        ),
        symbols=(*OWN_GATES, ("c", "a positive number")),
        steps=steps,
        conclusion="For all weights and inputs of the networks named, ties included.",
    )


def _chains() -> tuple[Shape, ...]:
    return (
        gated(2, 2, 1, features="linear", ones=True),
        gated(2, 2, 2, 1, features="linear", ones=True),
        gated(1, 2, 3, 2, 1, features="linear", ones=True),
    )


def _through_relus() -> tuple[Shape, ...]:
    return (gated(2, 2, 2, 1, ones=True),)


def tensor_of_values(symbolic: SymbolicNetwork, last: bool = True) -> PolyElement:
    """Return ⟨V, ⊗ G_l⟩ with V the tensor of path values from the ones, unit by unit.

    Args:
        symbolic: Fully connected gated network fed with ones.
        last: Whether V has the last layer's weights.
    """
    ring, gates = symbolic.ring, list(symbolic.gates[0].values())
    values = [w for w in symbolic.net.weights if w.name.startswith("value.")]
    matrices = [
        [
            [symbolic.weight[w.name, r * w.shape[1] + k] for k in range(w.shape[1])]
            for r in range(w.shape[0])
        ]
        for w in values
    ]
    total = ring.zero
    for units in product(*(range(len(layer)) for layer in gates)):
        entry = ring.add(matrices[0][units[0]])
        for matrix, below, above in zip(matrices[1:], units, units[1:], strict=False):
            entry = entry * matrix[above][below]
        if last:
            entry = entry * matrices[-1][0][units[-1]]
        for layer, unit in zip(gates, units, strict=True):
            entry = entry * layer[unit]
        total += entry
    return total


def shallow_contained(shapes: Shapes = _chains, last: bool = True) -> Proof:
    """Make the proof that deep linear gates are those of one linear map a layer.

    Args:
        shapes: Fully connected gated networks fed with ones.
        last: Whether V has the last layer's weights.
    """

    def maps() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(examples=1, free=_GATES)
            book = GateBook(symbolic.free)
            for layer, source in enumerate(sources(symbolic)):
                left = symbolic.forward(symbolic.x[0], book, node=source)
                for a, b in zip(left, composed(symbolic, layer), strict=True):
                    yield Identity(a, b, shape.words, "q_l(x)")

    def tensors() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(examples=1)
            left = symbolic.forward(symbolic.x[0], symbolic.gates[0])[0]
            yield Identity(left, tensor_of_values(symbolic, last), shape.words, "f(x)")

    steps = (
        Step(
            "The pre-activations that make the gates, as traced, against one matrix a layer, the "
            "product of the feature network's.",
            r"q_l = C_l x, \qquad C_l = W_l \cdots W_1",
            maps,
        ),
        Step(
            "The output against the sum over all choices of one unit a layer: the sum of the path "
            "values from the ones through these units, times their gates.",
            r"f_{\mathbf 1}(x) = \Big\langle V, \bigotimes_l G_l(x) \Big\rangle",
            tensors,
        ),
    )
    return Proof(
        name="dlgn.shallow-contained",
        title="Fully connected deep linear gates are those of one linear map a layer.",
        claim=(
            r"q_l = C_l x, \; C_l = W_l \cdots W_1, \qquad f_{\mathbf 1}(x) = \Big\langle V, "
            r"\bigotimes_l G_l(x) \Big\rangle"
        ),
        symbols=(*SYMBOLS, ("u", "weights of the feature network"), ("V", "tensor of path values")),
        steps=steps,
        conclusion="For all weights and inputs, and any gates, on the networks named.",
    )


PROOFS: dict[str, Callable[..., Proof]] = {
    "dlgn.constant-input-piecewise": constant_input,
    "dlgn.shallow-contained": shallow_contained,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "dlgn.constant-input-piecewise": (
        Mutant("c of any sign", {"positive": False}),
        Mutant("the data as value input", {"ones": _data}),
        Mutant("features with biases", {"ones": _biased}),
        Mutant("degree 0 for x", {"degree": 0}),
    ),
    "dlgn.shallow-contained": (
        Mutant("ReLUs between the maps", {"shapes": _through_relus}),
        Mutant("V without the last layer's weights", {"last": False}),
    ),
}
