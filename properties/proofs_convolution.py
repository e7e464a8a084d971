"""Proofs about circular convolutions with one pooling over all positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import sympy
import torch
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
from reluctant.theory.nodes import Constant
from reluctant.theory.pooled import fed
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork
from reluctant.theory.symbolic_paths import GatePolynomials
from reluctant.theory.wiring import gate_shapes

_GATES = 90
Shift = tuple[int, ...]
Some = Callable[[Sequence[Shift]], Sequence[Shift]]


def _all(found: Sequence[Shift]) -> Sequence[Shift]:
    return found


def _only_none(found: Sequence[Shift]) -> Sequence[Shift]:
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


def rotation_sum(shape: Shape, symbolic: SymbolicNetwork, some: Some = _all) -> PolyElement:
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


def _gated_zero_padded() -> tuple[Shape, ...]:
    return (gated_convolution(1, (3,), (2,), padding="zero"),)


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


def npk_rotation_sum(some: Some = _all, shapes: Shapes = poolings) -> Proof:
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


def _of_the_shifted(
    symbolic: SymbolicNetwork, moved: Polynomials, still: Polynomials, book: GateBook
) -> GatePolynomials:
    return symbolic.own_gates(moved, book)


def _of_the_unshifted(
    symbolic: SymbolicNetwork, moved: Polynomials, still: Polynomials, book: GateBook
) -> GatePolynomials:
    return symbolic.own_gates(still, book)


def _invariance(shapes: Shapes, gates: Gates, hard: bool) -> Iterator[Identity]:
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


def npk_invariant(gates: Gates = _of_the_shifted, shapes: Shapes = _circular) -> Proof:
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
            lambda: _invariance(shapes, gates, True),
        ),
        Step(
            "Soft gates: any function of the pre-activation, with equal values where these are "
            "equal polynomials.",
            r"H(\mathrm{rot}(x, r), y) = H(x, y)",
            lambda: _invariance(shapes, gates, False),
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


def _fed_with_ones() -> tuple[Shape, ...]:
    return (
        gated_convolution(1, (3,), (2,)),
        gated_convolution(1, (3,), (2, 2)),
        gated_convolution(1, (3, 3), (1,)),
    )


def _ramp(shape: Sequence[int]) -> torch.Tensor:
    ramp = 1 + torch.arange(math.prod(shape[1:]), dtype=torch.float64)
    return ramp.reshape(1, *shape[1:]).expand(*shape)


def _fed_with_a_ramp() -> tuple[Shape, ...]:
    shape = gated_convolution(1, (3,), (2,))
    (start,) = (n for n in shape.net.nodes if isinstance(n, Constant) and n.is_input)
    net = fed(shape.net, _ramp(start.shape))
    return (replace(shape, words="the same fed with a ramp", net=net),)


def constant_input(shapes: Shapes = _fed_with_ones) -> Proof:
    """Make the proof that ones as value input keep the kernel shift invariant."""
    step = Step(
        "Gates come from the data by the feature network, paths begin at ones; the kernel from "
        "its definition, with the gates of the rotated data.",
        r"H_{\mathbf 1}(\mathrm{rot}(x, r), y) = H_{\mathbf 1}(x, y)",
        lambda: _invariance(shapes, _of_the_shifted, True),
    )
    soft = Step(
        "The same for soft gates, any function of the pre-activation.",
        step.formula,
        lambda: _invariance(shapes, _of_the_shifted, False),
    )
    return Proof(
        name="conv.constant-input",
        title="Ones in place of the data on the paths keep the kernel shift invariant.",
        claim=step.formula,
        symbols=(*OWN_GATES, ("r", "a rotation, with an index a gate")),
        steps=(step, soft),
        conclusion="For all weights and inputs, and all rotations, of the networks named.",
    )


def _maxima() -> tuple[Shape, ...]:
    return (
        convolution(1, (3,), (2,), pool="max"),
        convolution(2, (3,), (2,), pool="max"),
        convolution(1, (4,), (1, 2), pool="max"),
        convolution(1, (3,), (2,), (2,), pool="max"),
    )


def max_pool(some: Some = _all, gates: Gates = _of_the_shifted, shapes: Shapes = _maxima) -> Proof:
    """Make the proof that a maximum keeps the kernel invariant, and that it is a sum of overlaps.

    Args:
        some: Which rotations are added.
        gates: Gates and winners at the shifted input.
        shapes: Networks.
    """

    def identities() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            right = rotation_sum(shape, symbolic, some)
            yield Identity(read_off(symbolic), right, shape.words, "H(x, y)")

    steps = (
        Step(
            "A winner is named by its entry and by those it is compared with, so without ties "
            "winners rotate with the input.",
            r"H(\mathrm{rot}(x, r), y) = H(x, y)",
            lambda: _invariance(shapes, gates, True),
        ),
        Step(
            "The kernel read off the expanded outputs against overlaps of listed paths: winners "
            "are gates too, and there is no average.",
            r"H(x, y) = \sum_r \sum_i x(i)\, \mathrm{rot}(y, r)(i)\, "
            r"\mathrm{overlap}(i, x, \mathrm{rot}(y, r))",
            identities,
        ),
    )
    return Proof(
        name="conv.max-pool",
        title="A maximum over all positions keeps the kernel invariant where no ties decide.",
        claim=(
            r"H(\mathrm{rot}(x, r), y) = H(x, y) = \sum_r \sum_i x(i)\, \mathrm{rot}(y, r)(i)\, "
            r"\mathrm{overlap}(i, x, \mathrm{rot}(y, r))"
        ),
        symbols=(*OWN_GATES, ("g, h", "gates and winners at $x$ and $y$")),
        steps=steps,
        conclusion=(
            "For all weights, and inputs at which no tie decides, of the networks named. The "
            "second step holds for any gates and winners that rotate with the input."
        ),
    )


PROOFS: dict[str, Callable[..., Proof]] = {
    "conv.equivariant": equivariant,
    "conv.npk-rotation-sum": npk_rotation_sum,
    "conv.npk-invariant": npk_invariant,
    "conv.constant-input": constant_input,
    "conv.max-pool": max_pool,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "conv.equivariant": (
        Mutant("zero padding", {"shapes": _zero_padded}),
        Mutant("flattened", {"shapes": _flattened}),
        Mutant("weights that differ by position", {"alike": False}),
    ),
    "conv.npk-rotation-sum": (
        Mutant("only r = 0", {"some": _only_none}),
        Mutant("biases", {"shapes": _biased}),
    ),
    "conv.npk-invariant": (
        Mutant("gates recorded before the shift", {"gates": _of_the_unshifted}),
        Mutant("zero padding", {"shapes": _zero_padded}),
        Mutant("flattened", {"shapes": _flattened}),
    ),
    "conv.constant-input": (
        Mutant("a ramp as value input", {"shapes": _fed_with_a_ramp}),
        Mutant("zero padding", {"shapes": _gated_zero_padded}),
    ),
    "conv.max-pool": (
        Mutant("only r = 0", {"some": _only_none}),
        Mutant("winners recorded before the shift", {"gates": _of_the_unshifted}),
    ),
}
