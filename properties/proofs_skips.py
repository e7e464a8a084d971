"""Proofs about networks with skips: ensembles of sub-networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sympy
from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import (
    SYMBOLS,
    VARIANCE,
    Shape,
    Shapes,
    ladders,
    residual,
)
from reluctant.properties.proofs_kernels import at_one, input_gram, read_off
from reluctant.properties.proofs_law import expected_tangent, law_of, the_law
from reluctant.properties.proofs_tangents import (
    Coefficient,
    in_ring,
    one_variance,
    power_of_depth,
    times_depth,
)
from reluctant.theory.moments import bundle_law, substituted
from reluctant.theory.network import PathNetwork
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.structure import identity_skips
from reluctant.theory.subnetworks import depth_of, subnetwork, subsets
from reluctant.theory.symbolic import SymbolicNetwork

Subsets = Callable[[int], Iterator[frozenset[int]]]


def _all_but_the_last(count: int) -> Iterator[frozenset[int]]:
    yield from (kept for kept in subsets(count) if len(kept) < count)


def ensemble(shape: Shape, chosen: Subsets = subsets) -> dict[frozenset[int], PathNetwork]:
    """Return the sub-networks of a network with skips, by the branches that they keep."""
    count = len(identity_skips(shape.net))
    return {kept: subnetwork(shape.net, kept) for kept in chosen(count)}


def _sub_output(symbolic: SymbolicNetwork, sub: PathNetwork) -> PolyElement:
    inner = SymbolicNetwork(sub)
    return inner.forward(symbolic.x[0], symbolic.gates[0], weight=symbolic.weight)[0]


def _sub_kernel(symbolic: SymbolicNetwork, sub: PathNetwork) -> PolyElement:
    (x, y), (g, h) = symbolic.x, symbolic.gates
    law = bundle_law(symbolic, x, g, y, h, listed=SymbolicNetwork(sub).listed)
    return at_one(symbolic, law)


def output_ensemble(chosen: Subsets = subsets, shapes: Shapes = ladders) -> Proof:
    """Make the proof that f is the sum of the sub-networks' outputs."""

    def identities() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            left = symbolic.forward(symbolic.x[0], symbolic.gates[0])[0]
            parts = [_sub_output(symbolic, sub) for sub in ensemble(shape, chosen).values()]
            yield Identity(left, symbolic.ring.add(parts), shape.words, "f(x)")

    def operators() -> Iterator[Identity]:
        one = sympy.Integer(1)
        for count in range(1, 6):
            branches = sympy.symbols(f"B_1:{count + 1}", commutative=False)
            first, last = sympy.symbols("F L", commutative=False)
            whole = first
            for branch in branches:
                whole = (one + branch) * whole
            parts = []
            for kept in chosen(count):
                part = first
                for k in sorted(kept):
                    part = branches[k] * part
                parts.append(last * part)
            label = r"f_{b = " + str(count) + "}"
            yield Identity(last * whole, sympy.Add(*parts), label=label)

    general = Step(
        "With the gates held, blocks are linear maps: $F$ before the skips, $B_j$ in branch $j$, "
        "$L$ after them, which do not commute. For up to five skips the product is expanded; "
        "multiplying by $1 + B_{b+1}$ doubles the terms, those with the new branch and those "
        "without.",
        r"f = L (1 + B_b) \cdots (1 + B_1) F x = \sum_{J \subseteq [b]} L \Big( \prod_{j \in J} B_j "
        r"\Big) F x",
        operators,
    )
    step = Step(
        "Each addition of a branch and its detour is replaced by one of the two, in all ways; the "
        "gates stay those of the whole network. Whole network and sub-networks are expanded.",
        r"f = \sum_{J \subseteq [b]} f_J",
        identities,
    )
    return Proof(
        name="skip.output-ensemble",
        title="A network with skips is the sum of its sub-networks, with the gates of the whole.",
        claim=r"f = \sum_{J \subseteq [b]} f_J",
        symbols=(*SYMBOLS, ("J", "the branches that are gone through"), ("b", "number of skips")),
        steps=(general, step),
        conclusion=(
            "The first step is for blocks of any width and kind; the second expands it, for all "
            "weights, inputs and gates, hard or soft, on the networks named."
        ),
    )


def npk_ensemble(chosen: Subsets = subsets, cross: bool = False, shapes: Shapes = ladders) -> Proof:
    """Make the proof that H is the sum of the sub-networks' kernels.

    Args:
        chosen: Which sub-networks are added.
        cross: Whether products of different sub-networks are added too.
        shapes: Networks.
    """

    def identities() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            parts = [_sub_kernel(symbolic, sub) for sub in ensemble(shape, chosen).values()]
            right = symbolic.ring.add(parts)
            if cross:
                ones = dict.fromkeys(symbolic.weight.values(), 1)
                f = [substituted(_sub_output(symbolic, s), ones) for s in ensemble(shape).values()]
                right += f[0] * f[1]
            yield Identity(read_off(symbolic), right, shape.words, "H(x, y)")

    step = Step(
        "Paths of different sub-networks differ in a weight, so no bundle has paths of two. The "
        "kernel read off the expanded outputs, against the kernels of the sub-networks, paths "
        "listed.",
        r"H = \sum_{J \subseteq [b]} H_J",
        identities,
    )
    return Proof(
        name="skip.npk-ensemble",
        title="The kernel of a network with skips is the sum of the kernels of its sub-networks.",
        claim=r"H = \sum_{J \subseteq [b]} H_J",
        symbols=(*SYMBOLS, ("J", "the branches that are gone through"), ("b", "number of skips")),
        steps=(step,),
        conclusion="For all inputs and gates, hard or soft, on the networks named.",
    )


Blocks = Callable[[sympy.Expr], sympy.Expr]


def _first_and_last(chosen: sympy.Expr) -> sympy.Expr:
    return chosen + 2


def _one_block_less(chosen: sympy.Expr) -> sympy.Expr:
    return chosen + 1


def ntk(
    coefficient: Coefficient = times_depth,
    blocks: Blocks = _first_and_last,
    shapes: Shapes = ladders,
) -> Proof:
    """Make the proof that the expected tangent kernel weighs each sub-network by its depth.

    Args:
        coefficient: β, of depth and variance.
        blocks: Number of blocks of a sub-network, of |J|.
        shapes: Networks.
    """
    z = sympy.Symbol("z", positive=True)

    def depths() -> Iterator[Identity]:
        for shape in shapes():
            nets = ensemble(shape)
            (shortest,) = depth_of(nets[frozenset()])
            for kept, sub in nets.items():
                (depth,) = depth_of(sub)
                right = blocks(sympy.Integer(len(kept))) * sympy.Rational(shortest, 2)
                yield Identity(sympy.Integer(depth), right, shape.words, "d_J")

    def constant() -> Iterator[Identity]:
        size, block, kernel = sympy.symbols("|J| d_blk H", positive=True)
        depth = blocks(size) * block
        left = sympy.diff(z ** ((size + 2) * block) * kernel, z)
        yield Identity(left, coefficient(depth, z) * kernel, label=r"\beta_J H_J")

    def expanded() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(extra=("z",))
            left = one_variance(symbolic, expected_tangent(symbolic))
            nets = ensemble(shape)
            (shortest,) = depth_of(nets[frozenset()])
            total = symbolic.ring.zero
            for kept, sub in nets.items():
                depth = blocks(sympy.Integer(len(kept))) * sympy.Rational(shortest, 2)
                factor = in_ring(coefficient(depth, z), symbolic)
                total += factor * _sub_kernel(symbolic, sub)
            yield Identity(left, total, shape.words, "E[K_v]")

    steps = (
        Step(
            "Every path of sub-network $J$ crosses the first and the last block and those of $J$.",
            r"d_J = (\vert J \vert + 2) \, d_{blk}",
            depths,
        ),
        Step(
            "So its part of $H$ has the variables to that power; the derivative, for all sizes.",
            r"\frac{d}{d z} z^{d_J} H_J = \beta_J H_J, \qquad \beta_J = d_J z^{d_J - 1}",
            constant,
        ),
        Step(
            "The same expanded without the law: gradients of the output, averaged over the weights; "
            "constants before and after the additions are part of $H_J$.",
            r"E[K_v] = \sum_J \beta_J H_J",
            expanded,
        ),
    )
    return Proof(
        name="skip.ntk",
        title="The expected tangent kernel weighs each sub-network by its depth.",
        claim=(
            r"E[K_v] = \sum_J \beta_J H_J, \qquad \beta_J = d_J \sigma^{2(d_J - 1)}, \quad "
            r"d_J = (\vert J \vert + 2)\, d_{blk}"
        ),
        symbols=(*SYMBOLS, VARIANCE, ("z", r"$\sigma^2$, the same for all layers")),
        steps=steps,
        conclusion=(
            "For any independent weights of mean 0 and variance $\\sigma^2$, gates fixed, of one "
            "output. The constant is for all sizes; the expansions are on the networks named."
        ),
        lemmas=(the_law(),),
    )


Slope = Callable[[sympy.Expr], sympy.Expr]


def _whole_slope(skips: sympy.Expr) -> sympy.Expr:
    return (skips + 4) * 2 ** (skips - 1)


def _branches_only(skips: sympy.Expr) -> sympy.Expr:
    return skips * 2 ** (skips - 1)


def _plain() -> tuple[Shape, ...]:
    return (
        residual(2, 2, 1, 1),
        residual(2, 2, 2, 1),
        residual(1, 2, 3, 1),
        residual(3, 3, 1, 1),
    )


def linear_count(
    slope: Slope = _whole_slope, standard: bool = False, shapes: Shapes = _plain
) -> Proof:
    """Make the proof that with all gates on both laws count sub-networks and their layers.

    Args:
        slope: Number of layers of all sub-networks, of the number of skips.
        standard: Whether the variances are taken as 1.
        shapes: Networks.
    """

    def general() -> Iterator[Identity]:
        b, w, n = sympy.symbols("b w n_in", positive=True, integer=True)
        first, inner, last = sympy.symbols("z_1 z z_o", positive=True)
        # b equal variables: by the chain rule the derivative by z is the sum of their derivatives
        law = n * first * (1 + w * inner) ** b * w * last
        values = {first: 1 / n, inner: 1 / w, last: 1 / w}
        if standard:
            values = dict.fromkeys(values, sympy.Integer(1))
        yield Identity(law.subs(values), 2**b, label=r"H(\sigma^2)")
        tangent = sum(s * law.diff(s) for s in values)
        label = r"\sum_l \sigma_l^2 \, \partial H / \partial z_l"
        yield Identity(tangent.subs(values), slope(b), label=label)

    def expanded() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            on = {g: 1 for by in symbolic.gates for layer in by.values() for g in layer}
            law = substituted(law_of(symbolic), on)
            fan_in = {
                shape.net.weights[n.weight].name: n.operator.fan_in for n in shape.net.weighted
            }
            at = {
                symbolic.variance[name]: symbolic.ring.domain(1) / (1 if standard else fan)
                for name, fan in fan_in.items()
            }
            unit = input_gram(symbolic) * (symbolic.ring.domain(1) / len(symbolic.x[0]))
            skips = sympy.Integer(len(identity_skips(shape.net)))
            count = int(2**skips)
            yield Identity(substituted(law, at), count * unit, shape.words, r"H(\sigma^2)")
            tangent = symbolic.ring.add([z * law.diff(z) for z in at])
            right = int(slope(skips)) * unit
            label = r"\sum_l \sigma_l^2 \, \partial H / \partial z_l"
            yield Identity(substituted(tangent, at), right, shape.words, label)

    steps = (
        Step(
            "With all gates on, a unit of the first layer has the kernel "
            r"$z_1 \langle x, y \rangle$, each middle block multiplies by $1 + w z$ and the last "
            r"layer by $w z_o$, for any width $w$ and any number $b$ of skips; here "
            r"$\langle x, y \rangle = n_{in}$.",
            r"H(z) = \langle x, y \rangle \, z_1 (1 + w z)^b \, w z_o, \qquad z_1 = 1 / n_{in}, "
            r"\quad z = z_o = 1 / w",
            general,
        ),
        Step(
            "The same from the definition of $H(z)$, paths listed.",
            r"H(\sigma^2) = 2^b \, \langle x, y \rangle / n_{in}, \qquad \sum_l \sigma_l^2 \, "
            r"\partial H / \partial z_l = (b + 4)\, 2^{b-1} \, \langle x, y \rangle / n_{in}",
            expanded,
        ),
    )
    return Proof(
        name="skip.linear-count",
        title="With all gates on the laws count sub-networks, and their layers.",
        claim=(
            r"H(\sigma^2) = 2^b \, \langle x, y \rangle / n_{in}, \qquad \sum_l \sigma_l^2 \,"
            r"\partial H / \partial z_l = (b + 4)\, 2^{b-1} \, \langle x, y \rangle / n_{in}"
        ),
        symbols=(*SYMBOLS, VARIANCE, ("b", "number of skips"), ("w", "width")),
        steps=steps,
        conclusion=(
            "The first step is for every width and every number of skips, with one layer in each "
            "block; the second expands it on the networks named."
        ),
    )


PROOFS: dict[str, Callable[..., Proof]] = {
    "skip.output-ensemble": output_ensemble,
    "skip.npk-ensemble": npk_ensemble,
    "skip.ntk": ntk,
    "skip.linear-count": linear_count,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "skip.output-ensemble": (Mutant("the longest left out", {"chosen": _all_but_the_last}),),
    "skip.npk-ensemble": (
        Mutant("the longest left out", {"chosen": _all_but_the_last}),
        Mutant("cross terms added", {"cross": True}),
    ),
    "skip.ntk": (
        Mutant("|J| + 1 for |J| + 2", {"blocks": _one_block_less}),
        Mutant("sigma^(2d)", {"coefficient": power_of_depth}),
    ),
    "skip.linear-count": (
        Mutant("variances 1", {"standard": True}),
        Mutant("layers outside the branches not counted", {"slope": _branches_only}),
    ),
}
