r"""The one law of random weights with fixed gates, proved by induction over the weights.

.. math:: E[f f'] = H(\sigma^2), \qquad E\langle \nabla f, \nabla f' \rangle =
    \sum_l \partial H / \partial z_l\, (\sigma^2)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sympy
from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import (
    SYMBOLS,
    VARIANCE,
    Shape,
    Shapes,
    convolution,
    dense,
    gated,
    ladders,
    parallel,
    tied,
)
from reluctant.theory.moments import bundle_law, mean, tangent_product, total_derivative
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork

_TEXT = r"""For a weight $w$ that acts at most once on every path, $f = w A + B$ and
$f' = w A' + B'$, where $A, B, A', B'$ do not contain $w$."""


def law_shapes() -> Sequence[Shape]:
    """Return the networks on which the law is expanded as well."""
    return (
        dense(2, 3, 2, 1),
        dense(2, 2, 1, bias=True),
        convolution(1, (3,), (2,), (2,)),
        convolution(1, (3,), (1,), bias=True),
        convolution(1, (3,), (2,), padding="zero"),
        convolution(1, (3,), (2,), pool="max"),
        *ladders(),
        gated(2, 2, 2, 1),
        parallel(),
    )


def outputs(symbolic: SymbolicNetwork) -> tuple[PolyElement, PolyElement]:
    """Return the first output at both inputs, their gates symbols too."""
    f, other = (
        symbolic.forward(x, gates)[0] for x, gates in zip(symbolic.x, symbolic.gates, strict=True)
    )
    return f, other


def law_of(symbolic: SymbolicNetwork) -> PolyElement:
    """Return H(z) of the first output at both inputs."""
    (x, y), (g, h) = symbolic.x, symbolic.gates
    return bundle_law(symbolic, x, g, y, h)


def value_weights(symbolic: SymbolicNetwork) -> list[PolyElement]:
    """Return the weights on the paths."""
    return [symbolic.ring.gens[i] for i in symbolic.variance_of]


def expected_tangent(symbolic: SymbolicNetwork) -> PolyElement:
    """Return the expectation of the tangent kernel of the first output, variances symbols."""
    f, other = outputs(symbolic)
    tangent = tangent_product(f, other, value_weights(symbolic))
    return mean(tangent, symbolic.variance_of)


def _over(
    w: sympy.Symbol, expression: sympy.Expr, z: sympy.Symbol, centred: bool = True
) -> sympy.Expr:
    """Average over one weight of mean 0 and mean square z."""
    polynomial = sympy.Poly(sympy.expand(expression), w)
    assert polynomial.degree() <= 2
    average = 0 if centred else sympy.Symbol("m")
    first = polynomial.coeff_monomial(1) + average * polynomial.coeff_monomial(w)
    return first + z * polynomial.coeff_monomial(w**2)


def _one_weight(centred: bool) -> Iterator[Identity]:
    w, z = sympy.symbols("w z")
    a, b, c, d = sympy.symbols("A B A' B'")
    left = _over(w, (w * a + b) * (w * c + d), z, centred)
    yield Identity(left, z * a * c + b * d, label="E_w[f f']")


def _other_weights(centred: bool) -> Iterator[Identity]:
    w, z, u = sympy.symbols("w z u")
    a, b, c, d = (sympy.Function(name)(u) for name in ("A", "B", "A'", "B'"))
    product = sympy.diff(w * a + b, u) * sympy.diff(w * c + d, u)
    right = z * a.diff(u) * c.diff(u) + b.diff(u) * d.diff(u)
    label = r"E_w[\partial_u f \, \partial_u f']"
    yield Identity(_over(w, product, z, centred).doit(), right, label=label)


def _same_weight(own: bool) -> Iterator[Identity]:
    w, z = sympy.symbols("w z")
    a, b, c, d = sympy.symbols("A B A' B'")
    product = sympy.diff(w * a + b, w) * sympy.diff(w * c + d, w)
    right = a * c if own else sympy.Integer(0)
    yield Identity(_over(w, product, z), right, label=r"E_w[\partial_w f \, \partial_w f']")


def _derivative(own: bool) -> Iterator[Identity]:
    z, other = sympy.symbols("z z_u")
    around, through = (sympy.Function(name)(other) for name in ("H_B", "H_A"))
    law = z * through + around
    right = z * through.diff(other) + around.diff(other) + (through if own else 0)
    yield Identity(law.diff(other) + law.diff(z), right, label=r"(\partial_u + \partial_w) H_f")


def _same_layer(all_weights: bool) -> Iterator[Identity]:
    z = sympy.Symbol("z")
    own = sympy.symbols("z_1:4")
    general = sympy.Integer(0)
    for k in range(2 ** len(own)):
        chosen = [s for j, s in enumerate(own) if k >> j & 1]
        general += sympy.Symbol(f"a_{{{k}}}") * sympy.Mul(*chosen)
    together = dict.fromkeys(own, z)
    left = sum(general.diff(s) for s in (own if all_weights else own[:1])).subs(together)
    yield Identity(left, sympy.diff(general.subs(together), z), label=r"\frac{d H}{d z}")


def the_law(
    shapes: Shapes = law_shapes, centred: bool = True, own: bool = True, all_weights: bool = True
) -> Proof:
    """Make the proof of the law.

    Args:
        shapes: Networks on which it is expanded as well.
        centred: Whether the mean of a weight is 0.
        own: Whether the derivative along the weight itself is counted.
        all_weights: Whether the derivatives along all weights of a layer are added.
    """

    def outputs_have_the_law() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            f, other = outputs(symbolic)
            left = mean(f * other, symbolic.variance_of)
            yield Identity(left, law_of(symbolic), shape.words, "E[f(x) f(y)] = H(z)")

    def tangents_have_the_law() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            right = total_derivative(law_of(symbolic), symbolic.variance.values())
            label = r"E \langle \nabla f(x), \nabla f(y) \rangle"
            yield Identity(expected_tangent(symbolic), right, shape.words, label)

    steps = (
        Step(
            f"{_TEXT} Only the mean and the variance $z$ of $w$ are used. This is the rule "
            "$H_f = z H_A + H_B$ by which $H(z)$ is built from the bundles through $w$ and those "
            "around it, so $E[f f'] = H(z)$ by induction over the weights.",
            "E_w[f f'] = z A A' + B B'",
            lambda: _one_weight(centred),
        ),
        Step(
            "The part of the tangent kernel along another weight $u$ obeys the same rule.",
            r"E_w[\partial_u f \, \partial_u f'] = z \, \partial_u A \, \partial_u A' + "
            r"\partial_u B \, \partial_u B'",
            lambda: _other_weights(centred),
        ),
        Step(
            "The part along $w$ itself loses the weight; its mean is $E[A A'] = H_A$.",
            r"E_w[\partial_w f \, \partial_w f'] = A A'",
            lambda: _same_weight(own),
        ),
        Step(
            "Differentiating $H_f = z H_A + H_B$ gives these two parts, with one variable for "
            r"each weight. So $E \langle \nabla f, \nabla f' \rangle = \sum_w \partial H / "
            r"\partial z_w$ by induction.",
            r"(\partial_u + \partial_w) H_f = z \, \partial_u H_A + \partial_u H_B + H_A",
            lambda: _derivative(own),
        ),
        Step(
            "Weights of one layer share their variance: the derivatives along them add up, here "
            "for three weights and any multilinear $H$ of coefficients $a_k$.",
            r"\sum_{w \in l} \partial H / \partial z_w = \partial H / \partial z_l",
            lambda: _same_layer(all_weights),
        ),
        Step(
            "The law of outputs, expanded: the product of the outputs, weight by weight averaged, "
            "against the bundles listed path by path.",
            "E[f(x) f(y)] = H(z)",
            outputs_have_the_law,
        ),
        Step(
            "The law of tangents, expanded likewise.",
            r"E \langle \nabla f(x), \nabla f(y) \rangle = \sum_l \partial H / \partial z_l",
            tangents_have_the_law,
        ),
    )
    return Proof(
        name="the law of random weights",
        title="With fixed gates, and independent weights of mean 0, both kernels are those of $H$.",
        claim=(
            r"\begin{aligned} E[f(x) f(y)] &= H(z) = \sum_b \Big( \prod_{l \in b} z_l \Big) "
            r"\phi_b(x) \phi_b(y), \\ E \langle \nabla f(x), \nabla f(y) \rangle &= \sum_l "
            r"\partial H / \partial z_l \end{aligned}"
        ),
        symbols=(*SYMBOLS, VARIANCE),
        steps=steps,
        conclusion=(
            "The induction is for every network in which no weight acts twice on a path, at any "
            "width; the expansions repeat it on the networks named."
        ),
    )


def _tied() -> tuple[Shape, ...]:
    return (tied(),)


FAULTS: tuple[Mutant, ...] = (
    Mutant("weights whose mean is not 0", {"centred": False}),
    Mutant("the weight's own derivative left out", {"own": False}),
    Mutant("one weight of a layer for all", {"all_weights": False}),
    Mutant("a layer used twice", {"shapes": _tied}),
)
