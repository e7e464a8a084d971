"""Proofs about gradients: the tangent kernel, its parts, and the flow of the error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sympy import QQ
from sympy.polys.rings import PolyElement

from reluctant.properties.proof_shapes import (
    SYMBOLS,
    Shape,
    Shapes,
    convolution,
    dense,
    gated,
    ladders,
    parallel,
    residual,
    tied,
)
from reluctant.properties.proofs_kernels import read_off
from reluctant.properties.proofs_law import outputs, value_weights
from reluctant.theory.moments import bundles, substituted, tangent_product
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.structure import gate_parameters
from reluctant.theory.symbolic import SymbolicNetwork

Pairs = Callable[[PolyElement, PolyElement, int, int], PolyElement]


def _factor_shapes() -> tuple[Shape, ...]:
    return (
        dense(2, 2, 1),
        dense(2, 2, 2, 1),
        dense(2, 2, 1, bias=True),
        convolution(1, (3,), (2,)),
        convolution(1, (3,), (2,), (2,)),
        residual(2, 2, 1, 1),
        gated(2, 2, 2, 1),
        parallel(),
        tied(),
    )


def ntk_factor(only_same: bool = False, shapes: Shapes = _factor_shapes) -> Proof:
    """Make the proof that K = Φᵀ V Φ.

    Args:
        only_same: Whether V is taken as diagonal.
        shapes: Networks.
    """

    def identities() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            ring, weights = symbolic.ring, value_weights(symbolic)
            left = tangent_product(*outputs(symbolic), weights)
            found = bundles(symbolic, symbolic.listed)
            values = [b[0].value(ring, symbolic.weight) for b in found]
            here, there = (
                [ring.add([p.feature(ring, x, g) for p in b]) for b in found]
                for x, g in zip(symbolic.x, symbolic.gates, strict=True)
            )
            right = ring.add(
                [
                    here[i] * there[j] * tangent_product(v, w, weights)
                    for i, v in enumerate(values)
                    for j, w in enumerate(values)
                    if i == j or not only_same
                ]
            )
            yield Identity(left, right, shape.words, "K(x, y)")

    step = Step(
        "A hard gate has derivative 0 wherever it has one, so gates are held. The gradients of the "
        "expanded outputs, against features and gradients of the values of all pairs of bundles.",
        r"\langle \nabla f(x), \nabla f(y) \rangle = \sum_{b, b'} \phi_b(x) \, \langle \nabla "
        r"v_b, \nabla v_{b'} \rangle \, \phi_{b'}(y)",
        identities,
    )
    return Proof(
        name="dual.ntk-factor",
        title="With hard gates the tangent kernel factors into features and the values' kernel.",
        claim=r"K = \Phi^\top V \Phi, \qquad V = \nabla v^\top \nabla v",
        symbols=SYMBOLS,
        steps=(step,),
        conclusion=(
            "For all weights, inputs and hard gates, of one output, on the networks named; weights "
            "that act twice on a path are among them."
        ),
    )


def _split_shapes() -> tuple[Shape, ...]:
    return (
        gated(1, 2, 1),
        gated(2, 2, 1),
        gated(1, 2, 2, 1),
        gated(2, 2, 1, features="linear"),
        gated(1, 2, 1, features="linear", ones=True),
    )


class Learnt:
    """Be a gated network whose gates are any differentiable functions of their parameters.

    The derivative of each gate by each parameter that it depends on is a symbol; which they are is
    read off the traced network.

    Args:
        shape: Gated network.
        shared: Whether the gates depend on the value weights too.

    Attributes:
        symbolic: The network over its ring, which has one variance z more.
        depends: For each layer of gates the parameters' entries that it depends on.
        slope: Symbol of each derivative, by example, layer, gate and entry.
        values: Entries on the paths.
    """

    def __init__(self, shape: Shape, shared: bool) -> None:
        plain = shape.symbols()
        on_paths = {shape.net.weights[n.weight].name for n in shape.net.weighted}
        self.depends = {
            layer: [
                entry
                for entry in plain.weight
                if _identity_of(shape, entry[0]) in gate_parameters(shape.net, layer)
                or (shared and entry[0] in on_paths)
            ]
            for layer in plain.gates[0]
        }
        names = {
            (s, layer, k, entry): f"{letter}_{{{layer},{k},{n}}}"
            for s, letter in enumerate("pq")
            for layer, entries in self.depends.items()
            for k in range(len(plain.gates[s][layer]))
            for n, entry in enumerate(entries)
        }
        self.symbolic = shape.symbols(extra=[*names.values(), "z"])
        self.slope = {key: self.symbolic.extra[name] for key, name in names.items()}
        self.values = {entry for entry in plain.weight if entry[0] in on_paths}

    def derivative(self, f: PolyElement, example: int, entry: tuple[str, int]) -> PolyElement:
        """Return df/dθ, through the weight itself and through all gates."""
        total = f.diff(self.symbolic.weight[entry])
        for layer, entries in self.depends.items():
            if entry in entries:
                for k, gate in enumerate(self.symbolic.gates[example][layer]):
                    total += f.diff(gate) * self.slope[example, layer, k, entry]
        return total


def _identity_of(shape: Shape, name: str) -> int:
    return next(w.parameter for w in shape.net.weights if w.name == name)


def ntk_split(shared: bool = False, hard: bool = True, shapes: Shapes = _split_shapes) -> Proof:
    """Make the proof that K = K_v + K_f, and K_f = 0 for hard gates.

    Args:
        shared: Whether the gates depend on the value weights too.
        hard: Whether the gates of the last step have derivative 0.
        shapes: Gated networks.
    """

    def through_gates(net: Learnt, f: PolyElement, other: PolyElement) -> PolyElement:
        ring, gates = net.symbolic.ring, net.symbolic.gates
        total = ring.zero
        for layer, entries in net.depends.items():
            for below, others in net.depends.items():
                common = [e for e in entries if e in others]
                for i, g in enumerate(gates[0][layer]):
                    for j, h in enumerate(gates[1][below]):
                        kernel = [
                            net.slope[0, layer, i, e] * net.slope[1, below, j, e] for e in common
                        ]
                        total += f.diff(g) * other.diff(h) * ring.add(kernel)
        return total

    def parts() -> Iterator[tuple[Shape, Learnt, PolyElement, PolyElement]]:
        for shape in shapes():
            net = Learnt(shape, shared)
            f, other = outputs(net.symbolic)
            whole = net.symbolic.ring.add(
                [net.derivative(f, 0, e) * net.derivative(other, 1, e) for e in net.symbolic.weight]
            )
            value = tangent_product(f, other, [net.symbolic.weight[e] for e in net.values])
            yield shape, net, whole, value

    def splits() -> Iterator[Identity]:
        for shape, net, whole, value in parts():
            feature = through_gates(net, *outputs(net.symbolic))
            yield Identity(whole, value + feature, shape.words, "K(x, y)")

    def hard_gates() -> Iterator[Identity]:
        for shape, net, whole, value in parts():
            flat = dict.fromkeys(net.slope.values(), 0) if hard else {}
            yield Identity(substituted(whole, flat), value, shape.words, "K(x, y)")

    steps = (
        Step(
            "Gates are any differentiable functions of the parameters that reach them, as traced; "
            "$p$ and $q$ are their derivatives at $x$ and $y$. The chain rule over all parameters, "
            r"with $\Gamma_{ij} = \langle \nabla g_i, \nabla h_j \rangle$.",
            r"K = \sum_{\theta_v} \partial f \, \partial f' + \sum_{i,j} \frac{\partial f}"
            r"{\partial g_i} \frac{\partial f'}{\partial h_j} \, \Gamma_{ij}",
            splits,
        ),
        Step(
            "Hard and frozen gates have no derivative: only the first part is left.",
            "K = K_v",
            hard_gates,
        ),
    )
    return Proof(
        name="dual.dgn-ntk-split",
        title="With disjoint parameters the tangent kernel is that of the values plus the features'.",
        claim=r"K = K_v + K_f, \qquad K_f = 0 \text{ for hard or frozen gates}",
        symbols=(*SYMBOLS, ("p, q", "derivatives of gates by the parameters that they depend on")),
        steps=steps,
        conclusion="For all weights, inputs, gates and derivatives of gates, on the networks named.",
    )


def _linear_shapes() -> tuple[Shape, ...]:
    return (
        dense(2, 2, 2, 1),
        dense(2, 2, 1, bias=True),
        dense(2, 2, 2),
        convolution(1, (3,), (2,), (2,)),
        *ladders()[:2],
        gated(2, 2, 2, 1),
    )


Kernel = Callable[[SymbolicNetwork, Sequence[PolyElement]], PolyElement]


def _tangent(symbolic: SymbolicNetwork, pair: Sequence[PolyElement]) -> PolyElement:
    f, other = pair
    return tangent_product(f, other, value_weights(symbolic))


def _path_kernel(symbolic: SymbolicNetwork, pair: Sequence[PolyElement]) -> PolyElement:
    return read_off(symbolic)


def frozen_linear(kernel: Kernel = _tangent, shapes: Shapes = _linear_shapes) -> Proof:
    """Make the proof of linearity in each layer, and of e' = −K e.

    Args:
        kernel: Kernel that drives the error.
        shapes: Networks.
    """

    def multilinear() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(examples=1)
            f = symbolic.forward(symbolic.x[0], symbolic.gates[0])[0]
            for name in dict.fromkeys(shape.net.weights[n.weight].name for n in shape.net.weighted):
                own = [w for (tensor, _), w in symbolic.weight.items() if tensor == name]
                without = substituted(f, dict.fromkeys(own, 0))
                linear = symbolic.ring.add(
                    [w * substituted(f.diff(w), dict.fromkeys(own, 0)) for w in own]
                )
                yield Identity(f, without + linear, shape.words, "f(x)")

    def flow() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols(extra=("t_{1}", "t_{2}"))
            found, weights = outputs(symbolic), value_weights(symbolic)
            errors = [f - t for f, t in zip(found, symbolic.extra.values(), strict=True)]
            loss = symbolic.ring.add([e * e * QQ(1, 2) for e in errors])
            left = -tangent_product(found[0], loss, weights)
            own = tangent_product(found[0], found[0], weights)
            right = -(own * errors[0] + kernel(symbolic, found) * errors[1])
            yield Identity(left, right, shape.words, r"\dot e(x)")

    steps = (
        Step(
            "With the gates held, the output is what it is without a layer's weights, plus each of "
            "them times a slope that contains none of them.",
            r"f = f |_{\theta_l = 0} + \sum_{w \in \theta_l} w \, \frac{\partial f}{\partial w} "
            r"|_{\theta_l = 0}".replace("|", r"\big\vert"),
            multilinear,
        ),
        Step(
            r"Gradient flow $\dot\theta = -\nabla L$ of $L = \frac{1}{2} \sum e^2$ over two "
            "examples with targets $t_1$ and $t_2$: how the error of the first changes.",
            r"\dot e(x) = -\langle \nabla f(x), \nabla L \rangle = -K(x, x) e(x) - K(x, y) e(y)",
            flow,
        ),
    )
    return Proof(
        name="dual.frozen-gates-linear",
        title="With its gates fixed a network is linear in each layer's weights, and its error obeys "
        "a linear equation.",
        claim=r"f = \langle \phi, v \rangle \text{ multilinear in } \theta, \qquad \dot e = -K e",
        symbols=(*SYMBOLS, ("e", "errors, output less target"), ("K", "the tangent kernel")),
        steps=steps,
        conclusion=(
            "For all weights, inputs, targets and fixed gates, on the networks named. Layers that "
            "some path goes around, and biases, leave a part without them: there the output is "
            "affine in the layer."
        ),
    )


def _tied() -> tuple[Shape, ...]:
    return (tied(),)


PROOFS: dict[str, Callable[..., Proof]] = {
    "dual.ntk-factor": ntk_factor,
    "dual.dgn-ntk-split": ntk_split,
    "dual.frozen-gates-linear": frozen_linear,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "dual.ntk-factor": (Mutant("paths taken as independent", {"only_same": True}),),
    "dual.dgn-ntk-split": (
        Mutant("shared parameters", {"shared": True}),
        Mutant("learnt soft gates", {"hard": False}),
    ),
    "dual.frozen-gates-linear": (
        Mutant("the path kernel for the tangent kernel", {"kernel": _path_kernel}),
        Mutant("a layer used twice", {"shapes": _tied}),
    ),
}
