"""Proofs that hidden units can change places, and be rescaled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from sympy.polys.rings import PolyElement
from torch import Tensor, nn

from reluctant.properties.proof_shapes import OWN_GATES, Shape, Shapes, convolution, dense
from reluctant.properties.proofs_kernels import at_one
from reluctant.properties.proofs_symmetries import sign_step
from reluctant.theory.gate_book import GateBook, reduced
from reluctant.theory.moments import bundle_law
from reluctant.theory.network import PathNetwork
from reluctant.theory.paths import Entry
from reluctant.theory.proofs import Identity, Proof, Reduction, Step
from reluctant.theory.statements import Mutant
from reluctant.theory.symbolic import SymbolicNetwork
from reluctant.theory.tracing import trace
from reluctant.theory.twins import twin
from reluctant.theory.units import hidden_layers, permuted, rescaled

_GATES = 40
Weights = Mapping[Entry, PolyElement]


def _unit_shapes() -> tuple[Shape, ...]:
    return (
        dense(2, 2, 1),
        dense(2, 2, 2, 1),
        dense(2, 2, 1, bias=True),
        convolution(1, (3,), (2,)),
        convolution(1, (3,), (2,), (2,)),
    )


def _with_parameters(shape: Shape, numbers: Sequence[Tensor]) -> PathNetwork:
    """Return the network of a copy of the module, its parameters replaced."""
    module = twin(shape.net.module)
    with torch.no_grad():
        for parameter, new in zip(module.parameters(), numbers, strict=True):
            parameter.copy_(new)
    return replace(
        trace(module, torch.ones(shape.net.program.example_shape, dtype=torch.float64)),
        module=module,
    )


def _read(module: nn.Module) -> dict[Entry, float]:
    return {
        (name, k): value
        for name, parameter in module.named_parameters()
        for k, value in enumerate(parameter.detach().flatten().tolist())
    }


def moves(shape: Shape, columns: bool = True) -> Iterator[dict[Entry, Entry]]:
    """Yield, for each hidden layer turned by one unit, the entry that each entry comes from.

    Read off the function that the numerical tests use, on a module of distinct numbers.
    """
    sizes = [p.numel() for p in shape.net.module.parameters()]
    numbers = torch.arange(1.0, sum(sizes) + 1).double().split(sizes)
    shapes = [p.shape for p in shape.net.module.parameters()]
    net = _with_parameters(shape, [n.reshape(s) for n, s in zip(numbers, shapes, strict=True)])
    named = {number: entry for entry, number in _read(net.module).items()}
    for layer in hidden_layers(net):
        order = torch.arange(layer.units).roll(1)
        after = _read(permuted(net, layer, order, columns=columns))
        yield {entry: named[number] for entry, number in after.items()}


def permute_units(columns: bool = True, shapes: Shapes = _unit_shapes) -> Proof:
    """Make the proof that hidden units can change places, with their weights.

    Args:
        columns: Whether outgoing weights move with their units.
        shapes: Networks.
    """

    def cases() -> Iterator[tuple[Shape, SymbolicNetwork, GateBook, Weights]]:
        for shape in shapes():
            for origin in moves(shape, columns):
                symbolic = shape.symbols(free=_GATES)
                weight = {entry: symbolic.weight[origin[entry]] for entry in symbolic.weight}
                yield shape, symbolic, GateBook(symbolic.free), weight

    def outputs() -> Iterator[Identity]:
        for shape, symbolic, book, weight in cases():
            left = symbolic.forward(symbolic.x[0], book, weight=weight)[0]
            right = symbolic.forward(symbolic.x[0], book)[0]
            yield Identity(left, right, shape.words, r"f_{P \theta}(x)")

    def kernels() -> Iterator[Identity]:
        for shape, symbolic, book, weight in cases():
            left = _kernel(symbolic, book, weight)
            right = _kernel(symbolic, book, symbolic.weight)
            yield Identity(left, right, shape.words, r"H_{P \theta}(x, y)")

    steps = (
        Step(
            "The units of each hidden layer are turned by one, incoming and outgoing weights with "
            "them. Their pre-activations, and so their gates, turn with them, and the output adds "
            "the same terms in another order.",
            r"f_{P \theta} = f_\theta",
            outputs,
        ),
        Step(
            "The kernel, paths listed, with the gates that the network makes with the moved "
            "weights.",
            r"H_{P \theta} = H_\theta",
            kernels,
        ),
    )
    return Proof(
        name="dual.permute-units",
        title="Hidden units can change places, with their weights.",
        claim=r"f_{P \theta} = f_\theta, \qquad H_{P \theta} = H_\theta",
        symbols=OWN_GATES,
        steps=steps,
        conclusion="For all weights and inputs of the networks named, ties included.",
    )


def _kernel(symbolic: SymbolicNetwork, book: GateBook, weight: Weights) -> PolyElement:
    (x, y) = symbolic.x
    g, h = (symbolic.own_gates(t, book, weight=weight) for t in (x, y))
    return at_one(symbolic, bundle_law(symbolic, x, g, y, h))


def scalings(shape: Shape) -> Iterator[dict[Entry, float]]:
    """Yield, for the first unit of each hidden layer, the factor of each entry: 2, ½ or 1."""
    ones = [torch.ones_like(p) for p in shape.net.module.parameters()]
    net = _with_parameters(shape, ones)
    for layer in hidden_layers(net):
        yield _read(rescaled(net, layer, 0, 2.0))


def rescale(positive: bool = True, outgoing: bool = True, shapes: Shapes = _unit_shapes) -> Proof:
    """Make the proof that positive rescaling of a hidden unit changes nothing.

    Args:
        positive: Whether the factor is known to be positive.
        outgoing: Whether the outgoing weights are divided by it.
        shapes: Networks.
    """

    def cases() -> Iterator[tuple[Shape, SymbolicNetwork, GateBook, Weights, Reduction]]:
        for shape in shapes():
            for factors in scalings(shape):
                symbolic = shape.symbols(extra=("c", "k"), free=_GATES)
                c, k = symbolic.extra.values()
                pair = (symbolic.ring.index(c), symbolic.ring.index(k))
                by = {2.0: c, 0.5: k if outgoing else symbolic.ring.one, 1.0: symbolic.ring.one}
                weight = {e: by[factors[e]] * w for e, w in symbolic.weight.items()}
                reduce = partial(reduced, inverses=(pair,))
                book = GateBook(symbolic.free, (c, k) if positive else (), reduce=reduce)
                yield shape, symbolic, book, weight, reduce

    def gates() -> Iterator[Identity]:
        for shape, symbolic, book, weight, _ in cases():
            here = symbolic.own_gates(symbolic.x[0], book)
            there = symbolic.own_gates(symbolic.x[0], book, weight=weight)
            for layer in here:
                for a, b in zip(there[layer], here[layer], strict=True):
                    yield Identity(a, b, shape.words, "G(x)")

    def values() -> Iterator[Identity]:
        for shape, symbolic, _, weight, reduce in cases():
            for path in symbolic.listed:
                left = path.value(symbolic.ring, weight)
                right = path.value(symbolic.ring, symbolic.weight)
                yield Identity(left, right, shape.words, "v_p", reduce)

    def outputs() -> Iterator[Identity]:
        for shape, symbolic, book, weight, reduce in cases():
            left = symbolic.forward(symbolic.x[0], book, weight=weight)[0]
            right = symbolic.forward(symbolic.x[0], book)[0]
            yield Identity(left, right, shape.words, "f(x)", reduce)

    def kernels() -> Iterator[Identity]:
        for shape, symbolic, book, weight, reduce in cases():
            left = _kernel(symbolic, book, weight)
            right = _kernel(symbolic, book, symbolic.weight)
            yield Identity(left, right, shape.words, "H(x, y)", reduce)

    steps = (
        sign_step(positive),
        Step(
            "Weights into a unit times $c$, weights out of it times $k$ with $c k = 1$: the unit's "
            "pre-activation is $c$ times what it was, all others are as they were, and so are the "
            "gates.",
            r"G_{\theta'}(x) = G_\theta(x)",
            gates,
        ),
        Step(
            "A path through the unit has one weight of each kind, so its value is as it was.",
            r"v_p(\theta') = v_p(\theta)",
            values,
        ),
        Step("So is the output.", r"f_{\theta'}(x) = f_\theta(x)", outputs),
        Step("So is the kernel, paths listed.", r"H_{\theta'} = H_\theta", kernels),
    )
    return Proof(
        name="dual.rescale",
        title="Positive rescaling of a hidden unit changes neither gates nor output nor kernel.",
        claim=(
            r"w_{in} \to c\, w_{in}, \; w_{out} \to w_{out} / c \;\Rightarrow\; "
            r"\phi, v, f, H \text{ unchanged} \qquad (c > 0)"
        ),
        symbols=(*OWN_GATES, ("c, k", "a positive number and its inverse")),
        steps=steps,
        conclusion="For all weights and inputs of the networks named, ties included.",
    )


PROOFS: dict[str, Callable[..., Proof]] = {
    "dual.permute-units": permute_units,
    "dual.rescale": rescale,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "dual.permute-units": (Mutant("outgoing weights left behind", {"columns": False}),),
    "dual.rescale": (
        Mutant("c of any sign", {"positive": False}),
        Mutant("outgoing weights not divided", {"outgoing": False}),
    ),
}
