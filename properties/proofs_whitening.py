"""Proof of how far depth whitens the tangent kernel of random gates before its variance wins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, permutations

import sympy
from sympy import QQ
from sympy.polys.rings import PolyElement, ring

from reluctant.properties.proof_shapes import SYMBOLS, dense
from reluctant.properties.whitening import (
    Meet,
    Number,
    Pairings,
    Weigh,
    anywhere,
    bernoulli_pairings,
    constant_pairings,
    gates_as_their_means,
    one_mask,
    second_moments,
    tangents_meet,
)
from reluctant.theory.gate_book import reduced
from reluctant.theory.moments import substituted, tangent_product
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork

_NAMES = ("all one", "tangents", "inputs", "crossed")
_UNITS = ((0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0))  # where p, p', q, q' are
_SIZES = ((1, 2, 1), (2, 2, 1), (1, 3, 1), (1, 2, 2, 1), (1, 2, 2, 2, 1))
_DEPTHS = range(2, 9)
_MEAN, _WIDTH = sympy.Symbol(r"\mu"), sympy.Symbol("w", positive=True, integer=True)


def _without_mean(width: Number, mean: Number, same: bool) -> Pairings:
    """Take σ² = 1/w."""
    return Pairings(*(mean**2 * weight for weight in bernoulli_pairings(width, mean, same)))


def _moment(first: Pairings, layer: Pairings, depth: int, meet: Meet) -> Number:
    return next(islice(second_moments(first, layer, meet), depth - 1, None))


def _signs_averaged(
    polynomial: PolyElement, weights: Sequence[PolyElement], z: PolyElement
) -> Number:
    """Average over weights ±σ, σ² = z."""
    squares = {z.ring.index(w): z.ring.index(z) for w in weights}
    return substituted(reduced(polynomial, squares=squares), dict.fromkeys(weights, 0))


def _placed(t: Sequence[Sequence[PolyElement]], units: Sequence[int]) -> PolyElement:
    """Return the sum of t_1 t_2 t_3 t_4 over ways to put the paths on units that are paired so."""
    space = t[0][0].ring
    chosen = permutations(range(len(t[0])), 1 + max(units))
    return space.add([_product(t[r][places[i]] for r, i in enumerate(units)) for places in chosen])


def _product(factors: Iterable[Number]) -> Number:
    total: Number = 1
    for factor in factors:
        total = total * factor
    return total


def _through_weights(meet: Meet) -> Iterator[Identity]:
    """Average four units of a layer over its weights, at four units before: more never meet."""
    names = [f"t_{{{r},{a}}}" for r in range(1, 5) for a in range(1, 5)]
    names += [f"w_{{{i},{a}}}" for i in (1, 2) for a in range(1, 5)]
    space, *letters = ring([sympy.Symbol(name) for name in (*names, "z", "y_1", "y_2")], QQ)
    t, w = [letters[4 * r : 4 * r + 4] for r in range(4)], letters[16:24]
    z, *marks = letters[24:]
    for k, units in enumerate(_UNITS):
        q = [
            space.add([a * b for a, b in zip(w[4 * i : 4 * i + 4], t[r], strict=True)])
            for r, i in enumerate(units)
        ]
        tangents = (tangent_product(q[r], q[r + 1], w) for r in (0, 2))
        pairs = (q[r] * q[r + 1] for r in (0, 2))
        left = _product(p + y * s for p, y, s in zip(pairs, marks, tangents, strict=True))
        right = space.add(
            [
                _product((z + y if meet(j, k) else z) for y in marks) * _placed(t, before)
                for j, before in enumerate(_UNITS)
                if j == k or 0 in (j, k)
            ]
        )
        yield Identity(_signs_averaged(left, w, z), right, label=rf"\text{{{_NAMES[k]}}}")


def _through_gates(weigh: Weigh) -> Iterator[Identity]:
    """Count the units of a layer of random gates, σ² = 1/(μw)."""
    i, j = sympy.symbols("i j", integer=True)
    for same in (True, False):
        both = _MEAN if same else _MEAN**2  # of g h; for one example g h = g² = g
        for k, chance in enumerate((both, both**2, _MEAN**2, both**2)):
            alike = sympy.Sum(chance, (i, 1, _WIDTH))
            count = alike.doit() if not k else (sympy.Sum(alike, (j, 1, _WIDTH)) - alike).doit()
            right = weigh(_WIDTH, _MEAN, same)[k]
            label = rf"\omega_{{{'x x' if same else 'x y'}}}(\text{{{_NAMES[k]}}})"
            yield Identity(count / (_MEAN * _WIDTH) ** 2, right, label=label)


def _expanded(weigh: Weigh, meet: Meet) -> Iterator[Identity]:
    """Average K² over gates and signs of small networks, and compare with the sum over words."""
    for sizes in _SIZES:
        shape, depth, width = dense(*sizes), len(sizes) - 1, sympy.Integer(sizes[1])
        symbolic = shape.symbols(extra=(r"\mu", "z"))
        space, z = symbolic.ring, symbolic.extra["z"]
        weights = [space.gens[i] for i in symbolic.variance_of]
        f, other = (symbolic.forward(symbolic.x[0], gates)[0] for gates in symbolic.gates)
        square = _signs_averaged(tangent_product(f, other, weights) ** 2, weights, z)
        for same in (True, False):
            left = substituted(_gates_averaged(symbolic, square, same=same), {z: 1})
            layer = Pairings(
                *(
                    space.from_expr(sympy.expand(weight * (_MEAN * width) ** 2))
                    for weight in weigh(width, _MEAN, same)
                )
            )
            right = _moment(constant_pairings(symbolic.x[0]), layer, depth, meet)
            yield Identity(left, right, shape.words, f"E K(x, {'x' if same else 'y'})^2")


def _gates_averaged(
    symbolic: SymbolicNetwork, polynomial: PolyElement, *, same: bool
) -> PolyElement:
    g, h = ([s for layer in gates.values() for s in layer] for gates in symbolic.gates)
    if same:
        polynomial = substituted(polynomial, dict(zip(h, g, strict=True)))
    hard = reduced(polynomial, idempotent=symbolic.gate_indices)
    return substituted(hard, dict.fromkeys([*g, *h], symbolic.extra[r"\mu"]))


def _distance(others: int) -> Iterator[Identity]:
    n, s, t = sympy.symbols("n s t", positive=True, integer=True)
    v, u = sympy.symbols("V U")
    own, whole = sympy.Sum((1 + v) - 2 + 1, (s, 1, n)), sympy.Sum(u, (s, 1, n))
    across = sympy.Sum(whole, (t, 1, n)) - whole
    right = v + (n + others) * u
    yield Identity(
        (own + across).doit() / n, right, label=r"E \frac{1}{n} \sum_i (\lambda_i - 1)^2"
    )


def _growth(weigh: Weigh, meet: Meet) -> Iterator[Identity]:
    space, a, b = ring("a,b", QQ)
    for depth in _DEPTHS:
        layer = Pairings(a, b, space.zero, space.zero)
        left = _moment(Pairings(1, 0, 0, 0), layer, depth, meet)
        label = rf"\sum_{{S \in \{{a, b\}}^{{{depth - 1}}}}} m_S^2 \prod_l \omega(S_l)"
        yield Identity(left, depth**2 * (a + b) ** (depth - 1), label=label)
    layer = weigh(_WIDTH, _MEAN, True)
    right = 1 + (1 - _MEAN) / (_MEAN * _WIDTH)
    yield Identity(layer.one + layer.tangents, right, label="a + b")


def _wide(weigh: Weigh, meet: Meet) -> Iterator[Identity]:
    """Expand in u = 1/w; every layer is multiplied by μ², so that all are polynomials."""
    space, u, mean = ring(r"u,\mu", QQ)
    width = 1 / sympy.Symbol("u")
    own, other = (
        Pairings(*(space.from_expr(sympy.expand(a * _MEAN**2)) for a in weigh(width, _MEAN, same)))
        for same in (True, False)
    )
    for depth in _DEPTHS:
        first, power = Pairings(1, 0, 0, 0), mean ** (2 * (depth - 1))
        moments = [_moment(first, layer, depth, meet) for layer in (own, other)]
        constants = [substituted(moment, {u: 0}) for moment in moments]
        factor = rf"\mu^{{{2 * (depth - 1)}}} {depth}^2"
        yield Identity(constants[0], depth**2 * power, label=f"{factor} (1 + V)_{{u = 0}}")
        yield Identity(constants[1], depth**2 * power**2, label=f"{factor} U_{{u = 0}}")
        slope = substituted(moments[0].diff(u), {u: 0})
        squares = sum(k * k for k in range(1, depth - 1))
        right = ((depth - 1) * depth**2 * (1 - mean) + 4 * squares) * mean ** (2 * depth - 3)
        yield Identity(slope, right, label=rf"{factor} (\partial_u V)_{{u = 0}}")


def depth_tradeoff(
    weigh: Weigh = bernoulli_pairings, meet: Meet = tangents_meet, others: int = -1
) -> Proof:
    """Make the proof of the spectrum's mean square distance from 1, its growth and its limit.

    Args:
        weigh: Gives the pairings of a layer.
        meet: Whether a weight can lie between layers with two given pairings.
        others: A row of the Gram matrix has n + others entries off the diagonal.
    """
    steps = (
        Step(
            "A term of $K^2$ has four paths, $p$ and $p'$ through one weight, $q$ and $q'$ through "
            "another. A layer of weights $\\pm\\sigma$, $\\sigma^2 = z$, is averaged, with $y_1$ and "
            "$y_2$ as marks of derivatives. What is left has the same pairing $S$ before and after, "
            "or one of the two is all one; $[S] = 1$ if $p$ meets $p'$ in both, else 0. Four units "
            "before are enough, as four paths come from no more.",
            r"E \prod_{j = 1}^{2} \big( q_j q'_j + y_j \langle \nabla q_j, \nabla q'_j \rangle \big) "
            r"= \sum_S \prod_{j = 1}^{2} (z + [S] \, y_j) \, t_S",
            lambda: _through_weights(meet),
        ),
        Step(
            "A layer of $w$ gates, on with chance $\\mu$: how many units, or pairs of units, carry "
            r"the four paths on average, times $\sigma^4$.",
            r"\omega_{x x} = \Big( \frac{1}{\mu w}, \frac{w-1}{w}, \frac{w-1}{w}, \frac{w-1}{w} "
            r"\Big), \qquad \omega_{x y} = \Big( \frac{1}{w}, \mu^2 \frac{w-1}{w}, \frac{w-1}{w}, "
            r"\mu^2 \frac{w-1}{w} \Big)",
            lambda: _through_gates(weigh),
        ),
        Step(
            "So layer by layer; the coefficient of $y_1 y_2$ counts the $m$ places of each weight. "
            r"Expanded, at $\sigma = 1$.",
            r"E K^2 = \sum_S m_S^2 \prod_l \omega(S_l)",
            lambda: _expanded(weigh, meet),
        ),
        Step(
            "The trace of $(K/d - I)^2$ has $n$ entries with mean $(1 + V) - 2 + 1$ and $n (n-1)$ "
            "with mean $U$.",
            r"E \frac{1}{n} \sum_i (\lambda_i - 1)^2 = V + (n-1) U",
            lambda: _distance(others),
        ),
        Step(
            "No word counts less than 0. Words without the last two pairings all have $m = d$, so "
            "they add as a binomial.",
            r"1 + V \ge (a + b)^{d-1}, \qquad a + b = 1 + \frac{1 - \mu}{\mu w}",
            lambda: _growth(weigh, meet),
        ),
        Step(
            "In powers of $u = 1/w$. Words without all one have $m = d$ if all are tangents and else "
            "$m = 0$, which gives the limits at every depth; words with it once give the slope, here "
            "for $d \\le 8$.",
            r"V = \frac{1}{w} \Big( \frac{1 - \mu}{\mu} (d-1) + \frac{4}{\mu d^2} \sum_{k \le d-2} "
            r"k^2 \Big) + O(w^{-2}), \qquad \lim_{w} U = \mu^{2(d-1)}",
            lambda: _wide(weigh, meet),
        ),
    )
    return Proof(
        name="ntk.depth-tradeoff",
        title="Depth whitens the tangent kernel until its variance wins, later in wider networks.",
        claim=(
            r"\begin{aligned} & E \frac{1}{n} \sum_i (\lambda_i - 1)^2 = V + (n-1) U, \qquad "
            r"d^2 (1 + V) = \sum_S m_S^2 \prod_l \omega(S_l), \\ & V \ge \Big( 1 + "
            r"\frac{1 - \mu}{\mu w} \Big)^{d-1} - 1, \qquad \lim_{w} U = \mu^{2(d-1)} \end{aligned}"
        ),
        symbols=(
            *SYMBOLS,
            ("S", "a pairing of four paths in each layer"),
            (r"\mu", "probability of a gate to be on"),
            ("w", "width"),
            ("d", "depth"),
            ("n", "number of examples"),
        ),
        steps=steps,
        conclusion=(
            "For every width, depth, probability and number of examples, by induction over the "
            "layers; the third step expands it on the networks named. As $V$ grows without bound "
            "with $d$ there is a best depth. In the limit of wide networks $(n-1) \\mu^{2(d-1)}$ is "
            "left, which falls with $d$, so that this depth grows without bound with $w$."
        ),
    )


PROOFS: dict[str, Callable[..., Proof]] = {"ntk.depth-tradeoff": depth_tradeoff}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "ntk.depth-tradeoff": (
        Mutant("one mask for all examples", {"weigh": one_mask}),
        Mutant("gates that are not idempotent", {"weigh": gates_as_their_means}),
        Mutant("variance 1/w", {"weigh": _without_mean}),
        Mutant("a weight taken out in every layer", {"meet": anywhere}),
        Mutant("n for n - 1", {"others": 0}),
    ),
}
