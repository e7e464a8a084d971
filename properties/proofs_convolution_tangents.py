"""Proof of the law of the tangent kernel of circular convolutions with an average."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import sympy

from reluctant.properties.proof_shapes import SYMBOLS, VARIANCE, Shape, Shapes, convolution
from reluctant.properties.proofs_kernels import read_off
from reluctant.properties.proofs_law import expected_tangent, law_of, the_law
from reluctant.properties.proofs_tangents import in_ring, one_variance
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant

Beta = Callable[[sympy.Expr, sympy.Expr, sympy.Expr, sympy.Expr], sympy.Expr]


def beta_cv(
    convolved: sympy.Expr, dense: sympy.Expr, z_cv: sympy.Expr, z_fc: sympy.Expr
) -> sympy.Expr:
    """Return β_cv, of both depths and both variances."""
    return convolved * z_cv ** (convolved - 1) * z_fc**dense + dense * z_cv**convolved * z_fc ** (
        dense - 1
    )


def _without_dense_depth(
    convolved: sympy.Expr, dense: sympy.Expr, z_cv: sympy.Expr, z_fc: sympy.Expr
) -> sympy.Expr:
    return convolved * z_cv ** (convolved - 1) * z_fc**dense + z_cv**convolved * z_fc ** (dense - 1)


def _dense_part_missing(
    convolved: sympy.Expr, dense: sympy.Expr, z_cv: sympy.Expr, z_fc: sympy.Expr
) -> sympy.Expr:
    return convolved * z_cv ** (convolved - 1) * z_fc**dense


def _deep() -> tuple[Shape, ...]:
    return (
        convolution(1, (3,), (2,)),
        convolution(1, (3,), (1, 2)),
        convolution(1, (3,), (2,), (2,)),
        convolution(1, (4,), (1, 1), (1, 2)),
    )


def _biased() -> tuple[Shape, ...]:
    return (convolution(1, (3,), (1,), bias=True),)


def ntk(beta: Beta = beta_cv, shapes: Shapes = _deep) -> Proof:
    """Make the proof that the expected tangent kernel is β_cv times the kernel.

    Args:
        beta: The constant, of both depths and both variances.
        shapes: Networks.
    """
    z_cv, z_fc = sympy.symbols("z_cv z_fc", positive=True)

    def variances(shape: Shape) -> Mapping[str, str]:
        ranks = {w.name: len(w.shape) for w in shape.net.weights}
        return {name: "z_cv" if rank > 2 else "z_fc" for name, rank in ranks.items()}

    def factored() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            product = symbolic.ring.one
            for z in symbolic.variance.values():
                product = product * z
            right = product * read_off(symbolic)
            yield Identity(law_of(symbolic), right, shape.words, "H(z)")

    def constant() -> Iterator[Identity]:
        d_cv, d_fc = sympy.symbols("d_cv d_fc", positive=True, integer=True)
        kernel = sympy.Symbol("H")
        law = z_cv**d_cv * z_fc**d_fc * kernel
        left = law.diff(z_cv) + law.diff(z_fc)
        yield Identity(left, beta(d_cv, d_fc, z_cv, z_fc) * kernel, label=r"\beta_{cv} H")

    def expanded() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(extra=("z_cv", "z_fc"))
            left = one_variance(symbolic, expected_tangent(symbolic), variances(shape))
            d_cv, d_fc = (sympy.Integer(d) for d in shape.depth)
            right = in_ring(beta(d_cv, d_fc, z_cv, z_fc), symbolic) * read_off(symbolic)
            yield Identity(left, right, shape.words, "E[K_v]")

    steps = (
        Step(
            "Without biases every path meets every layer once, so the variables come out of $H$.",
            r"H(z) = \Big( \prod_l z_l \Big) H",
            factored,
        ),
        Step(
            "Convolutions share one variance and dense layers another; the chain rule, for all "
            "depths.",
            r"\Big( \frac{\partial}{\partial z_{cv}} + \frac{\partial}{\partial z_{fc}} \Big) "
            r"z_{cv}^{d_{cv}} z_{fc}^{d_{fc}} H = \beta_{cv} H",
            constant,
        ),
        Step(
            "The same expanded without the law: gradients of the output, averaged over the weights.",
            r"E[K_v] = \beta_{cv} H",
            expanded,
        ),
    )
    return Proof(
        name="conv.ntk",
        title="With fixed gates the expected tangent kernel is a multiple of the path kernel.",
        claim=(
            r"E[K_v] = \beta_{cv} H, \quad \beta_{cv} = d_{cv} \sigma_{cv}^{2(d_{cv}-1)} "
            r"\sigma_{fc}^{2 d_{fc}} + d_{fc} \sigma_{cv}^{2 d_{cv}} \sigma_{fc}^{2(d_{fc}-1)}"
        ),
        symbols=(
            *SYMBOLS,
            VARIANCE,
            ("z_{cv}, z_{fc}", r"$\sigma_{cv}^2$ and $\sigma_{fc}^2$"),
            ("d_{cv}, d_{fc}", "numbers of convolutions and of dense layers"),
        ),
        steps=steps,
        conclusion=(
            "For any independent weights of mean 0 and these variances, gates fixed, of one output. "
            "The constant is for all depths; the expansions are on the networks named. As a sum "
            "over rotations the kernel is that of conv.npk-rotation-sum."
        ),
        lemmas=(the_law(),),
    )


PROOFS: dict[str, Callable[..., Proof]] = {"conv.ntk": ntk}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "conv.ntk": (
        Mutant("d_fc missing", {"beta": _without_dense_depth}),
        Mutant("the dense part missing", {"beta": _dense_part_missing}),
        Mutant("biases", {"shapes": _biased}),
    ),
}
