"""Proofs about the neural path kernel of networks with gates of any origin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations

import sympy
from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import (
    SYMBOLS,
    Shape,
    Shapes,
    chains,
    convolution,
    dense,
    residual,
)
from reluctant.theory.moments import bundle_law, coefficient_kernel, substituted
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork

Layers = Callable[[Sequence[int]], Sequence[int]]


def input_gram(symbolic: SymbolicNetwork, ones: bool = False) -> PolyElement:
    """Return ⟨x, x'⟩, or the number of inputs for the all-ones value input."""
    x, y = symbolic.x
    if ones:
        return symbolic.ring(len(x))
    return symbolic.ring.add([a * b for a, b in zip(x, y, strict=True)])


def _all(layers: Sequence[int]) -> Sequence[int]:
    return layers


def _all_but_one(layers: Sequence[int]) -> Sequence[int]:
    return layers[1:]


def overlap(symbolic: SymbolicNetwork, layers: Layers = _all, both: bool = True) -> PolyElement:
    """Return Λ, the product over the layers of ⟨G_l, G_l'⟩.

    Args:
        symbolic: Network.
        layers: Which layers are multiplied.
        both: False counts the gates of the first input only, a fault.
    """
    g, h = symbolic.gates
    product = symbolic.ring.one
    for layer in layers(tuple(g)):
        pairs = zip(g[layer], h[layer], strict=True)
        product = product * symbolic.ring.add([a * b if both else a for a, b in pairs])
    return product


def read_off(symbolic: SymbolicNetwork) -> PolyElement:
    """Return H read off the expanded outputs: coefficients of equal monomials in the weights."""
    f, other = (
        symbolic.forward(x, gates)[0] for x, gates in zip(symbolic.x, symbolic.gates, strict=True)
    )
    return coefficient_kernel(f, other, symbolic.variance_of)


def at_one(symbolic: SymbolicNetwork, law: PolyElement) -> PolyElement:
    """Return H(1)."""
    return substituted(law, dict.fromkeys(symbolic.variance.values(), 1))


def npk_hadamard(layers: Layers = _all, both: bool = True, shapes: Shapes = chains) -> Proof:
    """Make the proof that H = Σ ⊙ Λ.

    Args:
        layers: Layers that Λ has.
        both: Whether Λ has the gates of both inputs.
        shapes: Fully connected networks.
    """

    def one_layer() -> Iterator[Identity]:
        i, w = sympy.Symbol("i", integer=True), sympy.Symbol("w", integer=True, positive=True)
        g, h = sympy.IndexedBase("g"), sympy.IndexedBase("h")
        kernel = sympy.Symbol("U_l")
        whole = sympy.Sum(g[i] * h[i] * kernel, (i, 1, w))
        gates = sympy.Sum(g[i] * h[i] if both else g[i], (i, 1, w))
        yield Identity(whole, kernel * gates, label="U_{l+1}")

    def all_layers() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            right = input_gram(symbolic) * overlap(symbolic, layers, both)
            yield Identity(read_off(symbolic), right, shape.words, "H(x, y)")

    steps = (
        Step(
            "Different units of a layer share no path, and each unit has the kernel $U_l$ of its "
            "incoming paths. The next layer adds, over the $w$ units, gates times gates times "
            r"$U_l$, for any width $w$; and $U_1 = \langle x, y \rangle$.",
            r"U_{l+1} = \sum_{i=1}^{w} g_i h_i \, U_l = \langle G_l(x), G_l(y) \rangle \, U_l",
            one_layer,
        ),
        Step(
            "The kernel read off the expanded outputs, coefficient by coefficient, against the "
            "product.",
            r"H = \Sigma \odot \Lambda, \qquad \Lambda(x, y) = \prod_l \langle G_l(x), G_l(y) "
            r"\rangle",
            all_layers,
        ),
    )
    return Proof(
        name="dual.npk-hadamard",
        title="The kernel of a fully connected network is the input Gram matrix times the overlaps.",
        claim=r"H = \Sigma \odot \Lambda, \qquad \Lambda(x, y) = \prod_l \langle G_l(x), G_l(y) \rangle",
        symbols=SYMBOLS,
        steps=steps,
        conclusion=(
            "The first step is the induction over the layers, at any width; the second expands it "
            "on the networks named, for all inputs and for any gates, hard or soft."
        ),
    )


def _single_paths() -> tuple[Shape, ...]:
    return (
        *chains(),
        residual(2, 2, 2, 1),
        residual(2, 2, 1, 2),
        convolution(1, (3,), (2,), pool="flatten"),
        convolution(1, (3,), (2,), padding="zero", pool="flatten"),
    )


def _pooled() -> tuple[Shape, ...]:
    return (convolution(1, (3,), (2,), pool="max"),)


def npk_overlap(shapes: Shapes = _single_paths) -> Proof:
    """Make the proof that H adds overlaps over the input coordinates."""

    def identities() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            ring, (x, y), (g, h) = symbolic.ring, symbolic.x, symbolic.gates
            total = ring.zero
            for i, (a, b) in enumerate(zip(x, y, strict=True)):
                paths = [p for p in symbolic.listed if p.start == i and p.end == 0]
                both = [p.activity(ring, g) * p.activity(ring, h) for p in paths]
                total += a * b * ring.add(both)
            yield Identity(read_off(symbolic), total, shape.words, "H(x, y)")

    step = Step(
        "Where each bundle is one path, its feature is an input coordinate times its activity. The "
        "kernel read off the expanded outputs, against overlaps of the paths, listed one by one "
        "and sorted by the coordinate at which they start.",
        r"H(x, y) = \sum_i x_i y_i \sum_{p \,:\, p_0 = i} A(x, p) A(y, p)",
        identities,
    )
    return Proof(
        name="dual.npk-overlap",
        title="The kernel adds, over input coordinates, the paths that both inputs activate.",
        claim=r"H(x, y) = \sum_i x_i \, y_i \sum_{p \,:\, p_0 = i} A(x, p) A(y, p)",
        symbols=(*SYMBOLS, ("A(x, p)", "product of the gates on a path")),
        steps=(step,),
        conclusion=(
            "For all inputs and gates on the networks named. Nothing is used of the gates: for "
            "soft ones the overlap adds products of activities."
        ),
    )


def _equal_widths() -> tuple[Shape, ...]:
    return dense(2, 2, 2, 1), dense(2, 3, 3, 1), dense(1, 2, 2, 2, 1)


def _unequal_widths() -> tuple[Shape, ...]:
    return (convolution(1, (3,), (2, 2)),)


GatesBy = Mapping[int, Sequence[PolyElement]]
Reorder = Callable[[GatesBy, GatesBy, Sequence[int]], tuple[GatesBy, GatesBy]]


def _moved(gates: GatesBy, order: Sequence[int]) -> GatesBy:
    return {layer: gates[taken] for layer, taken in zip(gates, order, strict=True)}


def _for_both(gates: GatesBy, other: GatesBy, order: Sequence[int]) -> tuple[GatesBy, GatesBy]:
    return _moved(gates, order), _moved(other, order)


def _for_one(gates: GatesBy, other: GatesBy, order: Sequence[int]) -> tuple[GatesBy, GatesBy]:
    return _moved(gates, order), other


def permute_layers(reorder: Reorder = _for_both, shapes: Shapes = _equal_widths) -> Proof:
    """Make the proof that layers of gates can change places."""

    def identities() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            (x, y), (g, h) = symbolic.x, symbolic.gates
            right = at_one(symbolic, bundle_law(symbolic, x, g, y, h))
            for order in list(permutations(g))[1:]:
                here, there = reorder(g, h, order)
                left = at_one(symbolic, bundle_law(symbolic, x, here, y, there))
                yield Identity(left, right, shape.words, r"H(G_{\pi(1)}, \dots)")

    step = Step(
        "The kernel from its definition, paths listed, with the layers of gates in every order.",
        r"H(G_{\pi(1)}, \dots, G_{\pi(d-1)}) = H(G_1, \dots, G_{d-1})",
        identities,
    )
    return Proof(
        name="dlgn.permute-layers",
        title="Layers of gates of equal width can change places without a change of the kernel.",
        claim=r"H(G_{\pi(1)}, \dots, G_{\pi(d-1)}) = H(G_1, \dots, G_{d-1})",
        symbols=(*SYMBOLS, (r"\pi", "permutation of the layers")),
        steps=(step,),
        conclusion=(
            "For all inputs and any gates on the networks named. By dual.npk-hadamard the kernel "
            "is a product over the layers at any width and depth, which no order changes."
        ),
        lemmas=(npk_hadamard(shapes=lambda: _equal_widths()[:1]),),
    )


def _biased() -> tuple[Shape, ...]:
    return (dense(2, 2, 1, bias=True),)


PROOFS: dict[str, Callable[..., Proof]] = {
    "dual.npk-hadamard": npk_hadamard,
    "dual.npk-overlap": npk_overlap,
    "dlgn.permute-layers": permute_layers,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "dual.npk-hadamard": (
        Mutant("one layer left out", {"layers": _all_but_one}),
        Mutant("gates of one input", {"both": False}),
        Mutant("biases", {"shapes": _biased}),
    ),
    "dual.npk-overlap": (
        Mutant("bundles of several paths", {"shapes": _pooled}),
        Mutant("biases", {"shapes": _biased}),
    ),
    "dlgn.permute-layers": (
        Mutant("layers moved for one input only", {"reorder": _for_one}),
        Mutant("windows above 1", {"shapes": _unequal_widths}),
    ),
}
