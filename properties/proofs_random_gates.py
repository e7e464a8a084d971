"""Proofs about gates that are repeated, and gates drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import sympy
from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import SYMBOLS, dense
from reluctant.properties.proofs_kernels import at_one, overlap
from reluctant.properties.proofs_tangents import times_depth
from reluctant.theory.gate_book import reduced
from reluctant.theory.moments import bundle_law, substituted
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork

Rescale = Callable[[sympy.Expr, sympy.Expr], sympy.Expr]
_SIZES = ((2, 2, 1), (2, 2, 2, 1), (1, 2, 3, 1))


def _variance_over(variance: sympy.Expr, repeats: sympy.Expr) -> sympy.Expr:
    return variance / repeats


def _unscaled(variance: sympy.Expr, repeats: sympy.Expr) -> sympy.Expr:
    return variance


def _over_square(variance: sympy.Expr, repeats: sympy.Expr) -> sympy.Expr:
    return variance / repeats**2


def gate_repeat(rescale: Rescale = _variance_over) -> Proof:
    """Make the proof that repeating every gate leaves the expected tangent kernel.

    Args:
        rescale: New variance of the weights, of the old one and the number of repeats.
    """

    def any_depth() -> Iterator[Identity]:
        d, m = sympy.symbols("d m", positive=True, integer=True)
        z, once, k = sympy.symbols("z L k", positive=True)
        repeated = sympy.Sum(once, (k, 1, m)).doit()
        left = times_depth(d, rescale(z, m)) * repeated ** (d - 1)
        right = times_depth(d, z) * once ** (d - 1)
        yield Identity(left, right, label=r"d \sigma_{(m)}^{2(d-1)} \Lambda_{(m)}")

    def expanded() -> Iterator[Identity]:
        for sizes in _SIZES:
            narrow = dense(*sizes).symbols()
            (x, y), (g, h) = narrow.x, narrow.gates
            right = at_one(narrow, bundle_law(narrow, x, g, y, h))
            for m in (2, 3):
                shape = dense(sizes[0], *(m * w for w in sizes[1:-1]), sizes[-1])
                listed = shape.symbols(examples=1).listed
                here, there = ({k: list(v) * m for k, v in gates.items()} for gates in (g, h))
                left = at_one(narrow, bundle_law(narrow, x, here, y, there, listed=listed))
                depth = len(sizes) - 1
                ratio = rescale(sympy.Integer(1), sympy.Integer(m)) ** (depth - 1)
                factor = narrow.ring.domain(ratio.p) / narrow.ring.domain(ratio.q)
                words = f"{shape.words}, gates repeated {m} times"
                yield Identity(left * factor, right, words, r"\sigma_{(m)}^{2(d-1)} H_{(m)}")

    steps = (
        Step(
            "A layer whose gates are repeated $m$ times has the overlap $L$ added $m$ times, so with "
            "$d - 1$ layers of gates $H_{(m)} = m^{d-1} H$, which the variances take away.",
            r"d \, (\sigma^2 / m)^{d-1} \, m^{d-1} H = d \, \sigma^{2(d-1)} H",
            any_depth,
        ),
        Step(
            r"The kernels of wide and narrow networks, paths listed, at $\sigma = 1$.",
            r"m^{-(d-1)} H_{(m)} = H",
            expanded,
        ),
    )
    return Proof(
        name="ntk.gate-repeat",
        title="Repeating every gate, with weights made smaller, leaves the expected tangent kernel.",
        claim=(
            r"d\, \sigma_{(m)}^{2(d-1)} H_{(m)} = d\, \sigma^{2(d-1)} H, \qquad \sigma_{(m)} = "
            r"\sigma / \sqrt{m}"
        ),
        symbols=(*SYMBOLS, ("m", "how often each gate is repeated"), ("d", "depth")),
        steps=steps,
        conclusion=(
            "The first step is for any widths, depth and number of repeats, by "
            "dual.npk-hadamard and ntk.fc-expectation; the second expands it on the networks named."
        ),
    )


def _over_gates(
    symbolic: SymbolicNetwork, polynomial: PolyElement, *, hard: bool, same: bool
) -> PolyElement:
    """Average over independent gates that are on with probability μ.

    Args:
        symbolic: Network, with an extra generator for μ.
        polynomial: Polynomial in its gates.
        hard: Whether g² = g is used.
        same: Whether both inputs have one mask.
    """
    (g, h), mu = symbolic.gates, symbolic.extra[r"\mu"]
    first = [s for layer in g.values() for s in layer]
    second = [s for layer in h.values() for s in layer]
    if same:
        polynomial = substituted(polynomial, dict(zip(second, first, strict=True)))
    indices: Collection[int] = symbolic.gate_indices if hard else ()
    return substituted(
        reduced(polynomial, idempotent=indices), dict.fromkeys([*first, *second], mu)
    )


def bernoulli_gates(
    hard: bool = True, one_mask: bool = False, by_mean: bool = True, others: int = -1
) -> Proof:
    """Make the proof of the average overlaps of random gates, and of the spectrum.

    Args:
        hard: Whether g² = g is used.
        one_mask: Whether all inputs share their gates.
        by_mean: Whether the variance of the weights has the probability of gates in it.
        others: The largest eigenvalue is 1 + (n + others) a.
    """
    d, w = sympy.symbols("d w", positive=True, integer=True)
    mu = sympy.Symbol("mu", positive=True)
    a = sympy.Symbol("a")

    def one_layer() -> Iterator[Identity]:
        i = sympy.Symbol("i", integer=True)
        own = mu if hard else mu**2
        other = own if one_mask else mu**2
        label = r"E \langle G(x), G(x) \rangle"
        yield Identity(sympy.Sum(own, (i, 1, w)).doit(), mu * w, label=label)
        label = r"E \langle G(x), G(y) \rangle"
        yield Identity(sympy.Sum(other, (i, 1, w)).doit(), mu**2 * w, label=label)

    def expanded() -> Iterator[Identity]:
        for width, depth in ((2, 2), (3, 2), (2, 3), (2, 4)):
            shape = dense(1, *[width] * (depth - 1), 1)
            symbolic = shape.symbols(extra=(r"\mu",))
            chance = symbolic.extra[r"\mu"]
            product = overlap(symbolic)
            own = _over_gates(symbolic, product, hard=hard, same=True)
            right = (width * chance) ** (depth - 1)
            yield Identity(own, right, shape.words, r"E \Lambda(x, x)")
            other = _over_gates(symbolic, product, hard=hard, same=one_mask)
            right = (width * chance**2) ** (depth - 1)
            yield Identity(other, right, shape.words, r"E \Lambda(x, y)")

    def scaled() -> Iterator[Identity]:
        for chance, right in ((mu, sympy.Integer(1)), (mu**2, mu ** (d - 1))):
            variance = 1 / (mu * w) if by_mean else 1 / w
            left = variance ** (d - 1) * (chance * w) ** (d - 1)
            yield Identity(sympy.powsimp(sympy.expand_power_base(left)), right, label="E[K] / d")

    def spectrum() -> Iterator[Identity]:
        n = sympy.Symbol("n", integer=True, positive=True)
        row = 1 + sympy.Sum(a, (sympy.Symbol("i"), 1, n - 1)).doit()
        yield Identity(row, 1 + (n + others) * a, label=r"\lambda_1")
        x = sympy.Symbol("lambda")
        for size in range(2, 6):
            matrix = sympy.Matrix(size, size, lambda i, j: 1 if i == j else a)
            left = matrix.charpoly(x).as_expr()
            right = (x - 1 - (size + others) * a) * (x - 1 + a) ** (size - 1)
            yield Identity(left, right, label=rf"\det(\lambda - K)_{{n = {size}}}")

    steps = (
        Step(
            "A layer of $w$ gates: at one input $g^2 = g$ has mean $\\mu$, at two inputs $g h$ has "
            "mean $\\mu^2$.",
            r"E \langle G(x), G(x) \rangle = \mu w, \qquad E \langle G(x), G(y) \rangle = \mu^2 w",
            one_layer,
        ),
        Step(
            "Layers are independent, so the means multiply; the product of the layers is expanded, "
            "reduced by $g^2 = g$, and averaged gate by gate.",
            r"E \Lambda(x, x) = (\mu w)^{d-1}, \qquad E \Lambda(x, y) = (\mu^2 w)^{d-1}",
            expanded,
        ),
        Step(
            r"With $\sigma^2 = 1 / (\mu w)$ and input 1, for every depth.",
            r"E[K(x, x)] / d = 1, \qquad E[K(x, y)] / d = \mu^{d-1}",
            scaled,
        ),
        Step(
            "A matrix with 1 on the diagonal and $a$ off it: the all-ones vector has the row sum "
            "as its eigenvalue, differences of two unit vectors have $1 - a$; expanded for up to "
            "five inputs.",
            r"1 + (n - 1) a \text{ once}, \qquad 1 - a \text{ otherwise}, \qquad a = \mu^{d-1}",
            spectrum,
        ),
    )
    return Proof(
        name="ntk.bernoulli-gates",
        title="With gates on at random, for each unit and input, depth whitens the tangent kernel.",
        claim=(
            r"\begin{aligned} & E \Lambda(x, x) = (\mu w)^{d-1}, \quad E \Lambda(x, y) = "
            r"(\mu^2 w)^{d-1}, \\ & \sigma^2 = \frac{1}{\mu w} \Rightarrow \mathrm{spec}\, "
            r"\frac{1}{d} E[K] = \{1 + (n-1) \mu^{d-1}, 1 - \mu^{d-1}, \dots\} \end{aligned}"
        ),
        symbols=(*SYMBOLS, (r"\mu", "probability of a gate to be on"), ("w", "width")),
        steps=steps,
        conclusion="For every width, depth and probability; the expansions are on the networks named.",
    )


PROOFS: dict[str, Callable[..., Proof]] = {
    "ntk.gate-repeat": gate_repeat,
    "ntk.bernoulli-gates": bernoulli_gates,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "ntk.gate-repeat": (
        Mutant("variances as they were", {"rescale": _unscaled}),
        Mutant("sigma over m", {"rescale": _over_square}),
    ),
    "ntk.bernoulli-gates": (
        Mutant("gates that are not idempotent", {"hard": False}),
        Mutant("one mask for all inputs", {"one_mask": True}),
        Mutant("variance 1/w", {"by_mean": False}),
        Mutant("n for n - 1", {"others": 0}),
    ),
}
