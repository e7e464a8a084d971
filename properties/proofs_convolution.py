"""Proofs about circular convolutions with one pooling over all positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import sympy
from sympy import QQ
from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import (
    OWN_GATES,
    SYMBOLS,
    Shape,
    Shapes,
    convolution,
    gated_convolution,
    poolings,
    rotated,
    shifts,
)
from reluctant.properties.proofs_kernels import at_one, read_off
from reluctant.theory.gate_book import GateBook, Polynomials
from reluctant.theory.moments import bundle_law
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork
from reluctant.theory.symbolic_paths import GatePolynomials
from reluctant.theory.wiring import gate_shapes

_GATES = 90
Shift = tuple[int, ...]
Some = Callable[[Sequence[Shift]], Sequence[Shift]]


def every(found: Sequence[Shift]) -> Sequence[Shift]:
    """Return all rotations."""
    return found


def only_none(found: Sequence[Shift]) -> Sequence[Shift]:
    """Return the rotation by nothing, a fault."""
    return found[:1]


def turned(shape: Shape, gates: GatePolynomials, shift: Shift) -> dict[int, Polynomials]:
    """Return the gates at a rotated input: those of convolutions rotate, dense ones do not.

    Args:
        shape: Network of window and stride such that positions stay as they are.
        gates: Gates at the input.
        shift: Rotation.
    """
    places = shape.net.input_shape[1:]
    found: dict[int, Polynomials] = {}
    for layer, size in gate_shapes(shape.net).items():
        if size[1:] == places:
            found[layer] = rotated(gates[layer], size, shift)
        elif size[0] == sympy.prod(places) and len(size) > 1:  # (window, channel): winners
            windows = (1, *places, *size[1:])
            found[layer] = rotated(gates[layer], windows, (*shift, *[0] * (len(size) - 1)))
        else:
            found[layer] = gates[layer]
    return found


def _moved(shape: Shape, x: Polynomials, shift: Shift) -> list[PolyElement]:
    return rotated(x, shape.net.input_shape, shift)


def rotation_sum(shape: Shape, symbolic: SymbolicNetwork, some: Some = every) -> PolyElement:
    """Return Σ_r Σ_i x(i) rot(x', r)(i) overlap(i, x, rot(x', r)), no factor, paths listed."""
    ring, (x, y), (g, h) = symbolic.ring, symbolic.x, symbolic.gates
    paths = [p for p in symbolic.listed if p.end == 0]
    total = ring.zero
    for shift in some(shifts(shape.net.input_shape)):
        other, gates = _moved(shape, y, shift), turned(shape, h, shift)
        for p in paths:
            total += x[p.start] * other[p.start] * p.activity(ring, g) * p.activity(ring, gates)
    return total


def _circular() -> tuple[Shape, ...]:
    return (
        convolution(1, (3,), (2,), (2,)),
        convolution(2, (3,), (1, 2)),
        convolution(1, (3,), (2,), bias=True),
        convolution(1, (3, 3), (1,)),
        convolution(1, (3,), (2,), pool="max"),
        gated_convolution(1, (3,), (2, 2)),
    )


def _zero_padded() -> tuple[Shape, ...]:
    return (convolution(1, (3,), (2,), padding="zero"),)


def _biased() -> tuple[Shape, ...]:
    return (convolution(1, (3,), (1,), bias=True),)


def _flattened() -> tuple[Shape, ...]:
    return (convolution(1, (3,), (2,), pool="flatten"),)


def _booked(shape: Shape, hard: bool = True) -> tuple[SymbolicNetwork, GateBook]:
    symbolic = shape.symbols(free=_GATES)
    return symbolic, GateBook(symbolic.free, hard=hard)


def equivariant(shapes: Shapes = _circular, alike: bool = True) -> Proof:
    """Make the proof that tensors shift with the input, and outputs do not change.

    Args:
        shapes: Networks.
        alike: Whether weights and gates are the same function at every position.
    """

    def tensors() -> Iterator[Identity]:
        for shape in shapes():
            places = shape.net.input_shape[1:]
            for shift in shifts(shape.net.input_shape)[1:]:
                symbolic, book = _booked(shape)
                moved = _moved(shape, symbolic.x[0], shift)
                for i in shape.net.value_nodes:
                    node = shape.net.nodes[i]
                    if node.operands and node.shape[1:] == places:
                        left = symbolic.forward(moved, book, node=i)
                        right = symbolic.forward(symbolic.x[0], book, node=i)
                        turned_right = rotated(right, node.shape, shift)
                        for a, b in zip(left, turned_right, strict=True):
                            yield Identity(a, b, shape.words, r"z_l(\mathrm{rot}(x, r))")

    def outputs() -> Iterator[Identity]:
        for shape in shapes():
            for shift in shifts(shape.net.input_shape)[1:]:
                symbolic, book = _booked(shape)
                left = symbolic.forward(_moved(shape, symbolic.x[0], shift), book)[0]
                right = symbolic.forward(symbolic.x[0], book)[0]
                yield Identity(left, right, shape.words, r"f(\mathrm{rot}(x, r))")

    def any_size() -> Iterator[Identity]:
        i, r, k = sympy.symbols("i r k", integer=True)
        last = sympy.Symbol("m", integer=True, positive=True)
        w, x, q = sympy.IndexedBase("w"), sympy.Function("x"), sympy.Function("q")

        def convolved(t: Callable[[sympy.Expr], sympy.Expr]) -> sympy.Expr:
            return sympy.Sum((w[k] if alike else w[k, i]) * t(i + k), (k, 0, last))

        left = convolved(lambda place: x(place + r))
        right = convolved(x).subs(i, i + r)
        yield Identity(left, right, label=r"z(\mathrm{rot}(x, r))(i)")

        def gated(t: Callable[[sympy.Expr], sympy.Expr]) -> sympy.Expr:
            gate = sympy.Function("g")
            return (gate(t(i)) if alike else gate(t(i), i)) * t(i)

        yield Identity(gated(lambda place: q(place + r)), gated(q).subs(i, i + r))

    steps = (
        Step(
            "Positions are integers and $x$ is periodic. A convolution with a window of any size, "
            "and a gate that is any function of its pre-activation $q$, commute with a rotation.",
            r"\sum_k w_k \, x(i + k + r) = z(i + r)",
            any_size,
        ),
        Step(
            "Every tensor that has the positions of the input, at the rotated input, entry by "
            "entry; gates are named by their pre-activations, so they rotate with them.",
            r"z_l(\mathrm{rot}(x, r)) = \mathrm{rot}(z_l(x), r)",
            tensors,
        ),
        Step(
            "The pooling adds over all positions, or takes the largest of them.",
            r"f(\mathrm{rot}(x, r)) = f(x)",
            outputs,
        ),
    )
    return Proof(
        name="conv.equivariant",
        title="Circular convolution shifts with its input; global pooling makes the output invariant.",
        claim=r"z_l(\mathrm{rot}(x, r)) = \mathrm{rot}(z_l(x), r), \qquad f(\mathrm{rot}(x, r)) = f(x)",
        symbols=(*OWN_GATES, ("r", "a rotation, with an index a gate")),
        steps=steps,
        conclusion=(
            "The first step is for every window and number of positions; the others expand it, "
            "for all weights, inputs and rotations, on the networks named."
        ),
    )


def npk_rotation_sum(some: Some = every, shapes: Shapes = poolings) -> Proof:
    """Make the proof that the kernel adds overlaps over rotations.

    Args:
        some: Which rotations are added.
        shapes: Networks.
    """

    def identities() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            positions = int(sympy.prod(shape.net.input_shape[1:]))
            right = rotation_sum(shape, symbolic, some) * QQ(1, positions**2)
            yield Identity(read_off(symbolic), right, shape.words, "H(x, y)")

    step = Step(
        "The paths of a bundle are the rotations of one of them. The kernel read off the expanded "
        "outputs, against overlaps of the paths, listed one by one; at the rotated input the gates "
        "of convolutions are rotated, by conv.equivariant, and those of dense layers are as they "
        "were.",
        r"H(x, y) = \frac{1}{n_{in}^2} \sum_r \sum_i x(i)\, \mathrm{rot}(y, r)(i)\, "
        r"\mathrm{overlap}(i, x, \mathrm{rot}(y, r))",
        identities,
    )
    return Proof(
        name="conv.npk-rotation-sum",
        title="With average pooling the kernel adds the overlaps with every rotation of one input.",
        claim=step.formula,
        symbols=(*SYMBOLS, ("r", "a rotation"), ("n_{in}", "positions")),
        steps=(step,),
        conclusion=(
            "For all inputs and any gates that rotate with the input, on the networks named. "
            "Nothing else is used of the gates: they may be soft, overlaps being sums of products."
        ),
    )


Gates = Callable[[SymbolicNetwork, Polynomials, Polynomials, GateBook], GatePolynomials]


def of_the_shifted(
    symbolic: SymbolicNetwork, moved: Polynomials, still: Polynomials, book: GateBook
) -> GatePolynomials:
    """Return the gates that the network makes at the moved input."""
    return symbolic.own_gates(moved, book)


def of_the_unshifted(
    symbolic: SymbolicNetwork, moved: Polynomials, still: Polynomials, book: GateBook
) -> GatePolynomials:
    """Return the gates at the input before it was moved, a fault."""
    return symbolic.own_gates(still, book)


def invariance(shapes: Shapes, gates: Gates, hard: bool) -> Iterator[Identity]:
    """Yield H(rot(x, r), y) = H(x, y) for every rotation but that by nothing.

    Args:
        shapes: Networks that make their own gates.
        gates: Gates at the rotated input.
        hard: Whether gates are 0 or 1.
    """
    for shape in shapes():
        for shift in shifts(shape.net.input_shape)[1:]:
            symbolic, book = _booked(shape, hard)
            (x, y) = symbolic.x
            moved = _moved(shape, x, shift)
            g, h = symbolic.own_gates(x, book), symbolic.own_gates(y, book)
            turned_gates = gates(symbolic, moved, x, book)
            left = bundle_law(symbolic, moved, turned_gates, y, h)
            right = bundle_law(symbolic, x, g, y, h)
            label = r"H(\mathrm{rot}(x, r), y)"
            yield Identity(at_one(symbolic, left), at_one(symbolic, right), shape.words, label)


def npk_invariant(gates: Gates = of_the_shifted, shapes: Shapes = _circular) -> Proof:
    """Make the proof that the kernel is shift invariant.

    Args:
        gates: Gates at the shifted input.
        shapes: Networks.
    """
    steps = (
        Step(
            "Hard gates, named by their pre-activations at the rotated input; the kernel from its "
            "definition, paths listed.",
            r"H(\mathrm{rot}(x, r), y) = H(x, y)",
            lambda: invariance(shapes, gates, True),
        ),
        Step(
            "Soft gates: any function of the pre-activation, with equal values where these are "
            "equal polynomials.",
            r"H(\mathrm{rot}(x, r), y) = H(x, y)",
            lambda: invariance(shapes, gates, False),
        ),
    )
    return Proof(
        name="conv.npk-invariant",
        title="The kernel of a shift invariant network is shift invariant.",
        claim=r"H(\mathrm{rot}(x, r), y) = H(x, y)",
        symbols=(*OWN_GATES, ("r", "a rotation, with an index a gate")),
        steps=steps,
        conclusion="For all weights and inputs, and all rotations, of the networks named.",
    )


PROOFS: dict[str, Callable[..., Proof]] = {
    "conv.equivariant": equivariant,
    "conv.npk-rotation-sum": npk_rotation_sum,
    "conv.npk-invariant": npk_invariant,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "conv.equivariant": (
        Mutant("zero padding", {"shapes": _zero_padded}),
        Mutant("flattened", {"shapes": _flattened}),
        Mutant("weights that differ by position", {"alike": False}),
    ),
    "conv.npk-rotation-sum": (
        Mutant("only r = 0", {"some": only_none}),
        Mutant("biases", {"shapes": _biased}),
    ),
    "conv.npk-invariant": (
        Mutant("gates recorded before the shift", {"gates": of_the_unshifted}),
        Mutant("zero padding", {"shapes": _zero_padded}),
        Mutant("flattened", {"shapes": _flattened}),
    ),
}
