"""Proofs of the laws of the tangent kernel of fully connected networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import sympy
from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import (
    SYMBOLS,
    VARIANCE,
    Shape,
    Shapes,
    chains,
    convolution,
    dense,
    gated,
    residual,
    tied,
)
from reluctant.properties.proofs_kernels import input_gram, overlap
from reluctant.properties.proofs_law import expected_tangent, law_of, the_law
from reluctant.theory.gate_book import reduced
from reluctant.theory.moments import bundles, mean, substituted, tangent_product
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork

Coefficient = Callable[[sympy.Expr, sympy.Expr], sympy.Expr]
_SIGMA = sympy.Symbol("sigma", positive=True)
_VARIANCE = sympy.Symbol("z", positive=True)


def times_depth(depth: sympy.Expr, variance: sympy.Expr) -> sympy.Expr:
    """Return d σ^(2(d−1))."""
    return depth * variance ** (depth - 1)


def without_depth(depth: sympy.Expr, variance: sympy.Expr) -> sympy.Expr:
    """Return the fault σ^(2(d−1))."""
    return variance ** (depth - 1)


def power_of_depth(depth: sympy.Expr, variance: sympy.Expr) -> sympy.Expr:
    """Return the fault d σ^(2d)."""
    return depth * variance**depth


def one_variance(
    symbolic: SymbolicNetwork, polynomial: PolyElement, of: Mapping[str, str] | None = None
) -> PolyElement:
    """Return a polynomial in which all layers have one variance, the extra generator z."""
    names = {name: "z" for name in symbolic.variance} if of is None else of
    return substituted(
        polynomial, {symbolic.variance[name]: symbolic.extra[z] for name, z in names.items()}
    )


def in_ring(expression: sympy.Expr, symbolic: SymbolicNetwork) -> PolyElement:
    """Return an expression in variances as an element of a network's ring."""
    plain = {s: sympy.Symbol(s.name) for s in expression.free_symbols}
    return symbolic.ring.from_expr(sympy.expand(expression.subs(plain)))


def depth_times_power(coefficient: Coefficient) -> Step:
    """Make the step that differentiates z^d, for every d at once."""

    def identities() -> Iterator[Identity]:
        d, kernel = sympy.Symbol("d", positive=True, integer=True), sympy.Symbol("H")
        slope = sympy.diff(_VARIANCE**d * kernel, _VARIANCE).subs(_VARIANCE, _SIGMA**2)
        right = coefficient(d, _SIGMA**2) * kernel
        yield Identity(slope, right, label=r"\Big( \frac{d}{d z} z^d H \Big)_{z = \sigma^2}")

    return Step(
        "All layers have one variance, so by the chain rule the sum of the derivatives is that of "
        "$z^d H$, for every depth $d$.",
        r"\sum_l \partial H / \partial z_l \, (\sigma^2) = d \, \sigma^{2(d-1)} H",
        identities,
    )


def _pair_shapes() -> tuple[Shape, ...]:
    return (
        dense(2, 2, 1),
        dense(1, 2, 2, 1),
        dense(1, 2, 1, bias=True),
        convolution(1, (3,), (2,)),
        residual(1, 2, 1, 1),
    )


def path_decoupling(
    coefficient: Coefficient = times_depth, shapes: Shapes = _pair_shapes, centred: bool = True
) -> Proof:
    """Make the proof that tangents of different paths are orthogonal on average.

    Args:
        coefficient: Norm of a path's tangent, of its depth and the variance.
        shapes: Networks.
        centred: Whether the mean of a weight is 0.
    """

    def different() -> Iterator[Identity]:
        w, z, t, u = sympy.symbols("w z t u")
        average = 0 if centred else sympy.Symbol("m")
        a, b = sympy.Function("A")(u), sympy.Function("B")(u)
        # v_p = w A and v_q = B; t marks pairs of one path, whose mean does not vanish.
        along_u = (w * a.diff(u)) * (b.diff(u) + t * w * a.diff(u))
        along_w = sympy.diff(w * a, w) * sympy.diff(b + t * w * a, w)
        polynomial = sympy.Poly(sympy.expand(along_u), w)
        left = polynomial.coeff_monomial(1) + average * polynomial.coeff_monomial(w)
        left += z * polynomial.coeff_monomial(w**2) + along_w
        right = t * (z * a.diff(u) ** 2 + a**2)
        yield Identity(left, right, label=r"E_w \langle \nabla v_p, \nabla (v_q + t v_p) \rangle")

    def gram() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(examples=1)
            ring = symbolic.ring
            tags = [f"s_{{{k}}}" for k in range(len(bundles(symbolic, symbolic.listed)))]
            symbolic = shape.symbols(
                examples=1, extra=(*tags, *(t.replace("s", "t") for t in tags))
            )
            ring = symbolic.ring
            values = [b[0].value(ring, symbolic.weight) for b in bundles(symbolic, symbolic.listed)]
            marks = list(symbolic.extra.values())
            ours = ring.add([v * s for v, s in zip(values, marks, strict=False)])
            theirs = ring.add([v * t for v, t in zip(values, marks[len(values) :], strict=True)])
            weights = [ring.gens[i] for i in symbolic.variance_of]
            left = mean(tangent_product(ours, theirs, weights), symbolic.variance_of)
            right = ring.add(
                [
                    mean(tangent_product(v, v, weights), symbolic.variance_of) * s * t
                    for v, s, t in zip(values, marks, marks[len(values) :], strict=False)
                ]
            )
            label = r"E \sum_{p, q} s_p t_q \langle \nabla v_p, \nabla v_q \rangle"
            yield Identity(left, right, shape.words, label)

    def norms() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(examples=1, extra=("z",))
            ring, z = symbolic.ring, symbolic.extra["z"]
            signs = {i: ring.index(z) for i in symbolic.variance_of}
            weights = [ring.gens[i] for i in symbolic.variance_of]
            for bundle in bundles(symbolic, symbolic.listed):
                value = bundle[0].value(ring, symbolic.weight)
                left = reduced(tangent_product(value, value, weights), squares=signs)
                depth = sympy.Integer(len(bundle[0].word))
                right = in_ring(coefficient(depth, _VARIANCE), symbolic)
                label = r"\langle \nabla v_p, \nabla v_p \rangle"
                yield Identity(left, right, shape.words, label)

    steps = (
        Step(
            "Let $p$ meet a weight $w$ that $q$ does not: $v_p = w A$ and $v_q = B$, where $A$ and "
            "$B$ are any functions of the other weights. With $t$ as a mark, the mean over $w$ has "
            "no term without $t$.",
            r"E_w \langle \nabla v_p, \nabla v_q \rangle = 0",
            different,
        ),
        Step(
            "All pairs of bundles at once, marked by $s_p t_q$: only pairs $p = q$ are left.",
            r"E \langle \nabla v_p, \nabla v_q \rangle = 0 \quad (p \ne q)",
            gram,
        ),
        Step(
            r"For weights $\pm \sigma$, $w^2 = \sigma^2 = z$ surely, so each of the $d$ weights of "
            "a path leaves the product of the others.",
            r"\langle \nabla v_p, \nabla v_p \rangle = d \, \sigma^{2(d-1)}",
            norms,
        ),
    )
    return Proof(
        name="ntk.path-decoupling",
        title="The tangents of different paths are orthogonal on average; those of one have one norm.",
        claim=(
            r"E \langle \nabla v_p, \nabla v_q \rangle = 0 \; (p \ne q), \qquad "
            r"\langle \nabla v_p, \nabla v_p \rangle = d\, \sigma^{2(d-1)} \text{ for weights } "
            r"\pm\sigma"
        ),
        symbols=(*SYMBOLS, VARIANCE, ("s, t", "marks of paths"), ("d", "weights on a path")),
        steps=steps,
        conclusion=(
            "The first step is for any two paths that differ in a weight, so for any two bundles; "
            "the others expand it on the networks named."
        ),
    )


def fc_expectation(
    coefficient: Coefficient = times_depth, shapes: Shapes = chains, *, ones: bool = False
) -> Proof:
    """Make the proof that the expected tangent kernel is d σ^(2(d−1)) Σ ⊙ Λ.

    Args:
        coefficient: The constant, of depth and variance.
        shapes: Fully connected networks.
        ones: Whether the value input is all ones, so that Σ is n_in.
    """

    def law_is_hadamard() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            product = symbolic.ring.one
            for name in dict.fromkeys(shape.net.weights[n.weight].name for n in shape.net.weighted):
                product = product * symbolic.variance[name]
            right = product * input_gram(symbolic, ones) * overlap(symbolic)
            yield Identity(law_of(symbolic), right, shape.words, "H(z)")

    def expanded() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(extra=("z",))
            names = {shape.net.weights[n.weight].name for n in shape.net.weighted}
            left = one_variance(symbolic, expected_tangent(symbolic), dict.fromkeys(names, "z"))
            factor = in_ring(coefficient(sympy.Integer(len(names)), _VARIANCE), symbolic)
            right = factor * input_gram(symbolic, ones) * overlap(symbolic)
            yield Identity(left, right, shape.words, "E[K_v]")

    gram = "n_{in}" if ones else r"\Sigma"
    steps = (
        Step(
            "Without biases every path meets every layer once, so the variables come out of $H$.",
            rf"H(z) = \Big( \prod_l z_l \Big) \, {gram} \odot \Lambda",
            law_is_hadamard,
        ),
        depth_times_power(coefficient),
        Step(
            "The same expanded without the law: gradients of the output, averaged over the weights.",
            rf"E[K_v] = d \, \sigma^{{2(d-1)}} {gram} \odot \Lambda",
            expanded,
        ),
    )
    return Proof(
        name="ntk.constant-input" if ones else "ntk.fc-expectation",
        title=(
            "With the all-ones value input the inputs' Gram matrix becomes the number of inputs."
            if ones
            else "At any width the expected tangent kernel is a multiple of the path kernel."
        ),
        claim=(
            r"E[K_v] = d\, \sigma^{2(d-1)}\, n_{in}\, \Lambda"
            if ones
            else r"E[K_v] = d\, \sigma^{2(d-1)} H, \qquad H = \Sigma \odot \Lambda"
        ),
        symbols=(*SYMBOLS, VARIANCE, ("d", "depth, the number of weight layers")),
        steps=steps,
        conclusion=(
            "For any independent weights of mean 0 and variance $\\sigma^2$, gates fixed, of one "
            "output; the kernel of several outputs is the sum of theirs. The derivative is for "
            "every depth, the factorisation is proved for any width in dual.npk-hadamard, and the "
            "expansions are on the networks named."
        ),
        lemmas=(the_law(),),
    )


def _with_ones() -> tuple[Shape, ...]:
    return (
        gated(2, 2, 2, 1, features="linear", ones=True),
        gated(3, 2, 1, features="linear", ones=True),
        gated(2, 2, 2, 1, ones=True),
    )


def constant_input(coefficient: Coefficient = times_depth, shapes: Shapes = _with_ones) -> Proof:
    """Make the proof for the all-ones value input."""
    return fc_expectation(coefficient, shapes, ones=True)


def _biased() -> tuple[Shape, ...]:
    return (dense(2, 2, 1, bias=True),)


def _tied() -> tuple[Shape, ...]:
    return (tied(),)


def _with_data() -> tuple[Shape, ...]:
    return (gated(2, 2, 2, 1, features="linear"),)


PROOFS: dict[str, Callable[..., Proof]] = {
    "ntk.path-decoupling": path_decoupling,
    "ntk.fc-expectation": fc_expectation,
    "ntk.constant-input": constant_input,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "ntk.path-decoupling": (
        Mutant("d missing", {"coefficient": without_depth}),
        Mutant("sigma^(2d)", {"coefficient": power_of_depth}),
        Mutant("a layer used twice", {"shapes": _tied}),
        Mutant("weights whose mean is not 0", {"centred": False}),
    ),
    "ntk.fc-expectation": (
        Mutant("d missing", {"coefficient": without_depth}),
        Mutant("sigma^(2d)", {"coefficient": power_of_depth}),
        Mutant("biases", {"shapes": _biased}),
        Mutant("a layer used twice", {"shapes": _tied}),
    ),
    "ntk.constant-input": (
        Mutant("d missing", {"coefficient": without_depth}),
        Mutant("the data as value input", {"shapes": _with_data}),
    ),
}
