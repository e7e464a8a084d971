"""Proof that the kernels of concatenated branches add."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import sympy
import torch
from sympy.polys.rings import PolyElement
from torch import Tensor, nn

from reluctant.properties.proof_shapes import SYMBOLS, Shape, Shapes, make_shape
from reluctant.properties.proofs_kernels import at_one, read_off
from reluctant.theory.moments import bundle_law
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork
from reluctant.theory.symbolic_paths import SymbolicPath

_WIDTH = 2
Parts = Callable[[Sequence[PolyElement]], Sequence[PolyElement]]


class _Concatenated(nn.Module):
    """Put branches side by side: one after another, or one module at two images of the data."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.first = nn.Linear(2, _WIDTH, bias=False)
        self.second = None if shared else nn.Linear(_WIDTH, _WIDTH, bias=False)
        self.output = nn.Linear(2 * _WIDTH, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        one = torch.relu(self.first(x))
        two = torch.relu(self.first(-x) if self.second is None else self.second(one))
        output: Tensor = self.output(torch.cat([one, two], dim=1))
        return output


@cache
def _shapes() -> tuple[Shape, ...]:
    return (
        make_shape("features of two layers side by side, 2-2-1", _Concatenated(False), (2,)),
        make_shape("one module at $x$ and at $-x$ side by side", _Concatenated(True), (2,)),
    )


def _branch_of(path: SymbolicPath) -> int:
    """Return which branch a path goes through, by the column of the last weights that it meets."""
    return path.word[-1][1] // _WIDTH


def _kernel(symbolic: SymbolicNetwork, listed: Sequence[SymbolicPath]) -> PolyElement:
    (x, y), (g, h) = symbolic.x, symbolic.gates
    return at_one(symbolic, bundle_law(symbolic, x, g, y, h, listed=listed))


def _each_once(parts: Sequence[PolyElement]) -> Sequence[PolyElement]:
    return parts


def _all_but_the_last(parts: Sequence[PolyElement]) -> Sequence[PolyElement]:
    return parts[:-1]


def _the_first_twice(parts: Sequence[PolyElement]) -> Sequence[PolyElement]:
    return (*parts, parts[0])


def dense_concat(parts: Parts = _each_once, apart: bool = True, shapes: Shapes = _shapes) -> Proof:
    """Make the proof that kernels of concatenated branches add.

    Args:
        parts: Which kernels of branches are added, and how often.
        apart: Whether each branch is read by weights of its own.
        shapes: Networks.
    """

    def one_unit() -> Iterator[Identity]:
        first, second = sympy.symbols("w_1 w_2")
        a, b, c, d = sympy.symbols("z_1 z_2 z_1' z_2'")
        other = second if apart else first
        product = sympy.expand((first * a + other * b) * (first * c + other * d))
        polynomial = sympy.Poly(product, first, second)
        squares = [polynomial.coeff_monomial(w**2) for w in (first, second)]
        yield Identity(sum(squares), a * c + b * d, label="H_z")

    def expanded() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            kernels = [
                _kernel(symbolic, [p for p in symbolic.listed if _branch_of(p) == k])
                for k in range(2)
            ]
            right = symbolic.ring.add(list(parts(kernels)))
            yield Identity(read_off(symbolic), right, shape.words, "H(x, y)")

    steps = (
        Step(
            "Entries $z_1$ and $z_2$ of two branches are read by weights $w_1$ and $w_2$ of their "
            "own. The kernel adds coefficients of equal monomials, so there is no product of "
            "different branches.",
            r"(w_1 z_1 + w_2 z_2) (w_1 z_1' + w_2 z_2') \to z_1 z_1' + z_2 z_2'",
            one_unit,
        ),
        Step(
            "The kernel read off the expanded outputs, against those of the branches, their paths "
            "listed apart.",
            r"H_z = H_{z_1 \to z} + H_{z_2 \to z}",
            expanded,
        ),
    )
    return Proof(
        name="skip.dense-concat",
        title="Where features are concatenated, the kernels of the branches add.",
        claim=r"z = W [z_1; z_2] \;\Rightarrow\; H_z = H_{z_1 \to z} + H_{z_2 \to z}",
        symbols=(*SYMBOLS, ("z_1, z_2", "features of two branches")),
        steps=steps,
        conclusion=(
            "The first step is for any branches; the second expands it, for all inputs and gates, "
            "hard or soft, on the networks named."
        ),
    )


PROOFS: dict[str, Callable[..., Proof]] = {"skip.dense-concat": dense_concat}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "skip.dense-concat": (
        Mutant("the last branch left out", {"parts": _all_but_the_last}),
        Mutant("the first branch counted twice", {"parts": _the_first_twice}),
        Mutant("branches read by the same weights", {"apart": False}),
    ),
}
