"""Proof of the two expected kernels of networks whose soft gates learn apart from the values."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sympy
from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import SYMBOLS, VARIANCE, Shape, Shapes, gated
from reluctant.properties.proofs_gradients import Learnt
from reluctant.properties.proofs_kernels import input_gram, overlap
from reluctant.properties.proofs_law import outputs
from reluctant.properties.proofs_tangents import (
    Coefficient,
    depth_times_power,
    in_ring,
    times_depth,
    without_depth,
)
from reluctant.theory.moments import mean, substituted, tangent_product
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic_paths import SymbolicPath

_VARIANCE = sympy.Symbol("z", positive=True)


def _shapes() -> tuple[Shape, ...]:
    return (
        gated(2, 2, 1),
        gated(2, 2, 1, features="linear"),
        gated(1, 2, 2, 1),
        gated(2, 2, 2, 1, features="linear"),
    )


def soft_gates(
    coefficient: Coefficient = times_depth,
    all_inputs: bool = False,
    shared: bool = False,
    shapes: Shapes = _shapes,
) -> Proof:
    """Make the proof of E[K_v] and E[K_f].

    Args:
        coefficient: The constant of E[K_v], of depth and variance.
        all_inputs: Whether δ adds over the paths of all inputs, not of one.
        shared: Whether the gates depend on the value weights too.
        shapes: Fully connected gated networks.
    """

    def together(net: Learnt, polynomial: PolyElement) -> PolyElement:
        symbolic = net.symbolic
        averaged = mean(polynomial, symbolic.variance_of)
        return substituted(averaged, dict.fromkeys(symbolic.variance.values(), symbolic.extra["z"]))

    def values() -> Iterator[Identity]:
        for shape in shapes():
            net = Learnt(shape, shared)
            symbolic = net.symbolic
            weights = [symbolic.weight[e] for e in net.values]
            left = together(net, tangent_product(*outputs(symbolic), weights))
            depth = sympy.Integer(sum(shape.depth))
            factor = in_ring(coefficient(depth, _VARIANCE), symbolic)
            right = factor * input_gram(symbolic) * overlap(symbolic)
            yield Identity(left, right, shape.words, "E[K_v]")

    def along(net: Learnt, path: SymbolicPath, example: int, entry: tuple[str, int]) -> PolyElement:
        activity = path.activity(net.symbolic.ring, net.symbolic.gates[example])
        return net.derivative(activity, example, entry)

    def features() -> Iterator[Identity]:
        for shape in shapes():
            net = Learnt(shape, shared)
            symbolic = net.symbolic
            reached = {e for entries in net.depends.values() for e in entries}
            f, other = outputs(symbolic)
            left = symbolic.ring.add(
                [
                    together(net, net.derivative(f, 0, e) * net.derivative(other, 1, e))
                    for e in sorted(reached)
                ]
            )
            chosen = [p for p in symbolic.listed if all_inputs or p.start == 0]
            delta = symbolic.ring.add(
                [along(net, p, 0, e) * along(net, p, 1, e) for p in chosen for e in sorted(reached)]
            )
            right = symbolic.extra["z"] ** sum(shape.depth) * input_gram(symbolic) * delta
            yield Identity(left, right, shape.words, "E[K_f]")

    steps = (
        Step(
            "The values' part: gates are held, so the law of random weights applies, expanded.",
            r"E[K_v] = d \, \sigma^{2(d-1)} \, \Sigma \odot \lambda",
            values,
        ),
        depth_times_power(coefficient),
        Step(
            "The features' part: the derivative of the output by a parameter of the gates is "
            r"$\sum_p x(p_0) \, \partial A(x, p) \, v_p$, and only pairs of the same path keep a "
            "mean, $z^d$. Gates are any differentiable functions; $p$ and $q$ are their "
            "derivatives.",
            r"E[K_f] = \sigma^{2d} \, \Sigma \odot \delta",
            features,
        ),
    )
    return Proof(
        name="ntk.soft-gates",
        title="With soft gates that learn apart, two expected kernels: of the values and the gates.",
        claim=(
            r"E[K_v] = d\, \sigma^{2(d-1)}\, \Sigma \odot \lambda, \quad E[K_f] = \sigma^{2d}\, "
            r"\Sigma \odot \delta, \qquad \delta(x, y) = \sum_m \sum_{p \ni i} \frac{\partial "
            r"A(x, p)}{\partial \theta_m} \frac{\partial A(y, p)}{\partial \theta_m}"
        ),
        symbols=(*SYMBOLS, VARIANCE, ("p, q", "derivatives of gates by the parameters they have")),
        steps=steps,
        conclusion=(
            "For any independent weights of mean 0 and variance $\\sigma^2$, of one output, and "
            "for all inputs, gates and derivatives of gates, on the networks named."
        ),
    )


PROOFS: dict[str, Callable[..., Proof]] = {"ntk.soft-gates": soft_gates}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "ntk.soft-gates": (
        Mutant("d missing", {"coefficient": without_depth}),
        Mutant("delta over the paths of all inputs", {"all_inputs": True}),
        Mutant("shared parameters", {"shared": True}),
    ),
}
