"""Proofs that outputs are sums over paths, and of how many paths there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sympy
from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import (
    SYMBOLS,
    Shape,
    Shapes,
    chains,
    convolution,
    dense,
    everything,
    gated,
    gated_convolution,
    ladders,
)
from reluctant.properties.proofs_kernels import at_one, read_off
from reluctant.theory.gate_book import GateBook
from reluctant.theory.moments import bundle_law, bundles, substituted
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.structure import counted_shape
from reluctant.theory.symbolic import SymbolicNetwork
from reluctant.theory.symbolic_paths import GatePolynomials

Turn = Callable[[GatePolynomials], GatePolynomials]


def _as_they_are(gates: GatePolynomials) -> GatePolynomials:
    return gates


def _one_flipped(gates: GatePolynomials) -> GatePolynomials:
    layer = next(iter(gates))
    first, *others = gates[layer]
    return {**gates, layer: [1 - first, *others]}


def sum_over_bundles(
    symbolic: SymbolicNetwork, gates: GatePolynomials, output: int = 0
) -> PolyElement:
    """Return ⟨φ(x), v⟩ of one output, paths listed and put into bundles."""
    ring, x = symbolic.ring, symbolic.x[0]
    total = ring.zero
    for bundle in bundles(symbolic, symbolic.listed, output):
        feature = ring.add([p.feature(ring, x, gates) for p in bundle])
        total += feature * bundle[0].value(ring, symbolic.weight)
    return total


def inner_product(gates: Turn = _as_they_are, shapes: Shapes = everything) -> Proof:
    """Make the proof that f = ⟨φ, v⟩.

    Args:
        gates: Gates of the paths, from those of the network.
        shapes: Networks.
    """

    def identities() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(examples=1)
            values = symbolic.forward(symbolic.x[0], symbolic.gates[0])
            for output, left in enumerate(values):
                right = sum_over_bundles(symbolic, gates(symbolic.gates[0]), output)
                yield Identity(left, right, shape.words, "f(x)")

    def one_operation() -> Iterator[Identity]:
        p, count = sympy.symbols("p P", integer=True, positive=True)
        phi, v = sympy.IndexedBase("phi"), sympy.IndexedBase("v")
        g, w, c = sympy.symbols("g w c")
        tensor = sympy.Sum(phi[p] * v[p], (p, 1, count))
        turned = gates({0: (g,)})[0][0]
        for factor, feature, value in (
            (g, turned * phi[p], v[p]),
            (w, phi[p], w * v[p]),
            (c, c * phi[p], v[p]),
        ):
            right = sympy.Sum(feature * value, (p, 1, count))
            yield Identity(factor * tensor, right, label=sympy.latex(factor * tensor))

    general = Step(
        r"Let an entry of a tensor be $\sum_p \phi_p v_p$ over the paths that arrive there. A gate "
        "$g$ or a routing constant $c$ multiplies the features, a weight $w$ the values, and sums "
        "and moves of entries join or move lists of paths. So the next tensor is a sum over its "
        "paths too; and an input is one path of feature $x$ and value 1.",
        r"w \sum_p \phi_p v_p = \sum_p \phi_p (w v_p), \qquad g \sum_p \phi_p v_p = \sum_p "
        r"(g \phi_p) v_p",
        one_operation,
    )
    step = Step(
        "The output is computed layer by layer through the operations of the network, and from "
        "the list of its paths: start and gates make the feature, the product of the weights the "
        "value, and paths of equal weights one bundle. Both are expanded.",
        r"f(x) = \sum_b \phi_b(x) \, v_b",
        identities,
    )
    return Proof(
        name="dual.inner-product",
        title="The output is the inner product of neural path feature and neural path value.",
        claim=r"f(x) = \langle \phi(x), v \rangle = \sum_b \phi_b(x) \, v_b",
        symbols=SYMBOLS,
        steps=(general, step),
        conclusion=(
            "The first step is the induction over the operations of any gated path network; the "
            "second expands it, for all weights, inputs and gates, hard or soft, on the networks "
            "named."
        ),
    )


Count = Callable[[sympy.Expr, sympy.Expr, sympy.Expr], sympy.Expr]


def _chain_count(n: sympy.Expr, w: sympy.Expr, d: sympy.Expr) -> sympy.Expr:
    return n * w ** (d - 1)


def _one_layer_more(n: sympy.Expr, w: sympy.Expr, d: sympy.Expr) -> sympy.Expr:
    return n * w**d


def _pooled_count(
    positions: sympy.Expr, channels: sympy.Expr, window: sympy.Expr, w: sympy.Expr
) -> Callable[[sympy.Expr, sympy.Expr], sympy.Expr]:
    """Return the number of paths by the numbers of convolutions and of dense layers."""
    return lambda cv, fc: channels * positions * (window * w) ** cv * w ** (fc - 1)


def _without_positions(
    positions: sympy.Expr, channels: sympy.Expr, window: sympy.Expr, w: sympy.Expr
) -> Callable[[sympy.Expr, sympy.Expr], sympy.Expr]:
    return _pooled_count(sympy.Integer(1), channels, window, w)


def _all_ones(shape: Shape) -> tuple[int, list[int]]:
    """Return the number of paths to the first output, and the sizes of its bundles."""
    symbolic = shape.symbols(examples=1)
    found = [len(bundle) for bundle in bundles(symbolic, symbolic.listed)]
    return sum(found), found


def path_count(
    count: Count = _chain_count,
    pooled_count: Callable[..., Any] = _pooled_count,
    ends: int = 2,
) -> Proof:
    """Make the proof of the three path counts.

    Args:
        count: Number of paths of a chain, of inputs, width and depth.
        pooled_count: Number of paths of convolutions that are pooled.
        ends: Number of blocks without a skip.
    """
    n, w, k, c = sympy.symbols("n_in w w_cv c_in", positive=True, integer=True)
    depth, other, m = sympy.symbols("d d_fc m", positive=True, integer=True)

    def chain() -> Iterator[Identity]:
        one = sympy.Integer(1)
        yield Identity(count(n, w, one), n, label="P_1")
        yield Identity(count(n, w, depth + 1), w * count(n, w, depth), label="P_{d+1}")

    def pooled() -> Iterator[Identity]:
        convolved = c * k * (w * k) ** (depth - 1)
        yield Identity(convolved.subs(depth, 1), c * k)
        yield Identity(convolved.subs(depth, depth + 1), w * k * convolved)
        whole = n * convolved * w**other
        yield Identity(whole, pooled_count(n, c, k, w)(depth, other), label="P")

    def skips() -> Iterator[Identity]:
        b, i = sympy.symbols("b i", positive=True, integer=True)
        t = sympy.Symbol("t")
        pascal = sympy.binomial(b, i) + sympy.binomial(b, i - 1)
        yield Identity(sympy.combsimp(pascal / sympy.binomial(b + 1, i)), sympy.Integer(1))
        block = _chain_count(n, w, m)
        for size in range(1, 6):
            total = sum(
                sympy.binomial(size, j) * _chain_count(n, w, (j + ends) * m)
                for j in range(size + 1)
            )
            powers = sum(sympy.binomial(size, j) * t**j for j in range(size + 1))
            yield Identity((1 + t) ** size, powers)
            yield Identity(block * (1 + w**m) ** size * w**m, total, label=f"P_{{b = {size}}}")

    def listed() -> Iterator[Identity]:
        for shape in (*chains(), *_counted_poolings(), *ladders()):
            number, sizes = _all_ones(shape)
            right = _formula(shape, count)
            yield Identity(sympy.Integer(number), right, shape.words, "P")
            folds = set(sizes)
            positions = sympy.prod(shape.net.input_shape[1:])
            for fold in folds:
                yield Identity(sympy.Integer(fold), positions, shape.words, "n_{in}")

    steps = (
        Step(
            "Chain: $P_1 = n_{in}$ paths reach a unit of the first layer, and each unit of the "
            "next is reached from $w$ units.",
            r"P_d = n_{in} \, w^{d-1}, \qquad P_{d+1} = w \, P_d",
            chain,
        ),
        Step(
            "Circular convolutions: a unit reads $w_{cv}$ positions of each channel; the average "
            "reads $n_{in}$ positions, and each dense layer $w$ units.",
            r"n_{in} \cdot c_{in} w_{cv} (w w_{cv})^{d_{cv} - 1} \cdot w^{d_{fc}} = "
            r"c_{in} n_{in} (w_{cv} w)^{d_{cv}} w^{d_{fc} - 1}",
            pooled,
        ),
        Step(
            "Skips: a middle block of $m$ layers adds $w^m$ paths for each that goes around it, "
            "and the last block ends at one output; the binomial theorem, by Pascal's rule, and "
            "expanded.",
            r"n_{in} w^{m-1} (1 + w^m)^b \, w^m = n_{in} \sum_i \binom{b}{i} w^{(i+2) m - 1}",
            skips,
        ),
        Step(
            "The formulas against the number of listed paths; convolutions have them in bundles "
            "of one path for each position.",
            "",
            listed,
        ),
    )
    return Proof(
        name="dual.path-count",
        title="The number of paths is a product of widths, windows and sizes.",
        claim=(
            r"P = n_{in} w^{d-1}, \quad c_{in} n_{in} (w_{cv} w)^{d_{cv}} w^{d_{fc}-1}, \quad "
            r"n_{in} \sum_i \binom{b}{i} w^{(i+2) d_{blk} - 1}"
        ),
        symbols=(
            ("P", "paths to one output"),
            ("n_{in}", "inputs, or positions"),
            ("m", "layers of a block"),
            ("b", "skips"),
        ),
        steps=steps,
        conclusion=(
            "For every width, depth and window; for up to five skips expanded, and by Pascal's "
            "rule for more."
        ),
    )


def _counted_poolings() -> tuple[Shape, ...]:
    return (
        convolution(1, (3,), (2,)),
        convolution(2, (3,), (1, 2)),
        convolution(1, (4,), (2,), (2, 1)),
        convolution(1, (3, 3), (2,)),
    )


def _formula(shape: Shape, count: Count) -> sympy.Expr:
    """Return the count by the formula of the kind of network, with its own sizes."""
    sizes = counted_shape(shape.net)
    assert sizes is not None
    product = sympy.Integer(sizes.inputs)
    if sizes.skips:
        (w,), m = sizes.dense, sizes.block_depth
        return sum(
            sympy.binomial(sizes.skips, i) * sizes.inputs * w ** ((i + 2) * m - 1)
            for i in range(sizes.skips + 1)
        )
    if not sizes.windows:
        if len(set(sizes.dense)) == 1:
            n, w = sympy.Integer(sizes.inputs), sympy.Integer(sizes.dense[0])
            return count(n, w, sympy.Integer(len(sizes.dense) + 1))
        return product * sympy.prod(sizes.dense)
    return product * sympy.prod(sizes.windows) * sympy.prod(sizes.filters) * sympy.prod(sizes.dense)


def _gated_shapes() -> tuple[Shape, ...]:
    return (
        gated(2, 2, 2, 1),
        gated(2, 2, 2, 1, features="linear"),
        gated(2, 2, 1, features="linear", bias=True),
        gated(2, 2, 2, 1, features="linear", ones=True),
        gated_convolution(1, (3,), (2,)),
    )


def _own_gates() -> Sequence[Shape]:
    return (dense(2, 2, 2, 1),)


def dual_linear(shapes: Shapes = _gated_shapes, gates: Turn = _as_they_are) -> Proof:
    """Make the proof that outputs of gated networks are linear in the path values.

    Args:
        shapes: Gated networks.
        gates: Gates of the paths, from those of the network.
    """

    def features_are_free() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(examples=1, free=24)
            ring = symbolic.ring
            values = {ring.gens[i]: 0 for i in symbolic.variance_of}
            book = GateBook(symbolic.free)
            for layer in symbolic.gates[0]:
                source = shape.net.gate_layers[layer].source
                for q in symbolic.forward(symbolic.x[0], book, node=source):
                    yield Identity(q, substituted(q, values), shape.words, "q(x)")

    def linear() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            left = symbolic.forward(symbolic.x[0], symbolic.gates[0])[0]
            right = sum_over_bundles(symbolic, gates(symbolic.gates[0]))
            yield Identity(left, right, shape.words, "f(x)")

    def kernel() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            (x, y), (g, h) = symbolic.x, symbolic.gates
            right = at_one(symbolic, bundle_law(symbolic, x, gates(g), y, h))
            yield Identity(read_off(symbolic), right, shape.words, "H(x, y)")

    steps = (
        Step(
            "No pre-activation that makes a gate contains a value weight: with the value weights "
            "replaced by 0 it is the same polynomial.",
            r"\partial q / \partial \theta_v = 0",
            features_are_free,
        ),
        Step(
            "So the features are constants where value weights vary, and the output is linear in "
            "the products of value weights.",
            r"f(x) = \langle \phi(x), v \rangle",
            linear,
        ),
        Step(
            "The kernel of that linear model is the neural path kernel.",
            r"\langle \phi(x), \phi(y) \rangle = H(x, y)",
            kernel,
        ),
    )
    return Proof(
        name="dlgn.dual-linear",
        title="Given the gates the output is linear in the path values, and its kernel is the NPK.",
        claim=r"f(x) = \langle \phi(x), v \rangle, \qquad \phi \text{ does not depend on } v",
        symbols=(*SYMBOLS, ("u", "weights of the feature network"), ("q", "its pre-activations")),
        steps=steps,
        conclusion="For all weights, inputs and gates, hard or soft, on the networks named.",
    )


def _zero_padded() -> tuple[Shape, ...]:
    return (convolution(1, (3,), (2,), padding="zero"),)


PROOFS: dict[str, Callable[..., Proof]] = {
    "dual.inner-product": inner_product,
    "dual.path-count": path_count,
    "dlgn.dual-linear": dual_linear,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "dual.inner-product": (Mutant("one gate flipped", {"gates": _one_flipped}),),
    "dual.path-count": (
        Mutant("one layer more", {"count": _one_layer_more}),
        Mutant("positions not counted", {"pooled_count": _without_positions}),
        Mutant("one block less", {"ends": 1}),
    ),
    "dlgn.dual-linear": (
        Mutant("own gates", {"shapes": _own_gates}),
        Mutant("one gate flipped", {"gates": _one_flipped}),
    ),
}
