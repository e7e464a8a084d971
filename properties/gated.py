"""Statements of deep gated and deep linearly gated networks (dlgn)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import torch
from torch import Tensor

from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.bounds import (
    inner_product_bound,
    is_integral,
    kernel_tolerance,
    output_tolerance,
)
from reluctant.properties.orders import LAYERS_COMMUTE, commuting_layers
from reluctant.properties.weights import evaluations
from reluctant.theory.counts import rough_count
from reluctant.theory.kernels import npk
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gates, Sum, Weighted
from reluctant.theory.paths import Paths, paths
from reluctant.theory.rounding import absolute_output, roundings
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.structure import dense_chain
from reluctant.theory.tracing import trace
from reluctant.theory.twins import twin
from reluctant.theory.underflow import forward_underflow
from reluctant.theory.verdicts import EvidenceKind

_MOST_ORDERS = 6
Map = Callable[[Trial, int, Tensor], Tensor]


def _pre_activation(trial: Trial, source: int, x: Tensor) -> Tensor:
    return trial.net.forward(x, None, trial.weights, output=source)


def _through_relus(trial: Trial, source: int, x: Tensor) -> Tensor:
    """Return a pre-activation with a ReLU after every earlier one, as features of a DGN have."""
    net = trial.net
    above = net.ancestors([source]) - {source}
    earlier = {net.gate_layers[g].source for g in net.value_gates} & above
    replaced: dict[int, Callable[[list[Tensor]], Tensor]] = {}
    for i in earlier:
        node = net.nodes[i] if i is not None else None
        if isinstance(node, Weighted) and node.operands:
            replaced[i] = lambda t, n=node: torch.relu(  # type: ignore[index, misc]
                n.operator.apply(t[0], trial.weights[n.weight])
            )
        elif isinstance(node, Sum) and not node.axes:
            replaced[i] = lambda t: torch.relu(torch.stack(t).sum(0))  # type: ignore[index]
    return net.forward(x, None, trial.weights, output=source, replace=replaced)


def _affine(trial: Trial, source: int, x: Tensor) -> Tensor:
    """Return A x + b, with A and b read off at 0 and at the unit vectors.

    Where there are too many of these it is the sum of the values at two parts of x, less b.
    """
    net = trial.net
    size = int(torch.Size(net.input_shape).numel())
    if (size + 1) * len(net.value_gates) > evaluations(trial) * len(x):
        part = torch.randint(0, 2, x.shape, generator=trial.generator).to(x)
        zero, one, other = (_pre_activation(trial, source, x * m) for m in (0, part, 1 - part))
        return one + other - zero
    basis = torch.cat([torch.zeros(1, size), torch.eye(size)]).double()
    values = _pre_activation(trial, source, basis.reshape(-1, *net.input_shape)).flatten(1)
    b, a = values[:1], values[1:] - values[:1]
    return (x.flatten(1) @ a + b).reshape(len(x), *net.nodes[source].shape)


def _positive(q: Tensor) -> Tensor:
    return q > 0


def _not_negative(q: Tensor) -> Tensor:
    return q >= 0


def _undecided(trial: Trial, source: int, q: Tensor, x: Tensor) -> tuple[Tensor, EvidenceKind]:
    """Tell where a pre-activation is within rounding of 0, and how that is known."""
    part = replace(trial.net, output=source)
    gates = [g.double() for g in trial.gates]
    size = absolute_output(part, x, gates)
    at_zero = absolute_output(part, torch.zeros_like(x), gates)
    if is_integral(part, 2 * x, gates, trial.weights) and float(size.max()) < 2.0**50:
        return torch.zeros_like(q, dtype=torch.bool), EvidenceKind.EXACT
    count = roundings(part) + x[0].numel() + 4
    reach = 1.0 + x.flatten(1).abs().sum(1).reshape(-1, *[1] * (q.ndim - 1))
    added, added_at_zero = (
        forward_underflow(part, inputs, gates, dtype=trial.x.dtype)
        for inputs in (x, torch.zeros_like(x))
    )
    bound = 4 * inner_product_bound(
        count, size + reach * at_zero, added + reach * added_at_zero, trial.x.dtype
    )
    return q.abs() <= bound, EvidenceKind.ROUNDING


def _repeated(t: Tensor, gates: Tensor, name: str) -> Tensor:
    """Repeat what belongs to pre-activations along the axes that their gates have more of.

    Raises:
        CannotTry: If the gates have other axes than the last ones of the pre-activations.
    """
    more = gates.ndim - t.ndim
    if more >= 0 and all(
        a in (1, b) for a, b in zip(t.shape[1:], gates.shape[1 + more :], strict=True)
    ):
        return t.reshape(len(t), *[1] * more, *t.shape[1:]).expand_as(gates)
    raise CannotTry(
        f"the gates of {name} have shape {tuple(gates.shape[1:])}, their pre-activations "
        f"{tuple(t.shape[1:])}; which belongs to which is not known"
    )


def gates_are_half_spaces(
    trial: Trial,
    affine: Map = _affine,
    side: Callable[[Tensor], Tensor] = _positive,
) -> Sequence[Comparison]:
    """Compare recorded gates with half-spaces of composed maps, and gates between two inputs.

    A point between two inputs has every gate that both have on: regions of paths are convex.
    """
    net, x = trial.net, trial.x
    middle = (x + x.roll(1, 0)) / 2
    between = net.gates(middle)
    found = []
    for g in net.value_gates:
        layer, recorded = net.gate_layers[g], trial.gates[g].double()
        source, name = layer.source, layer.name
        assert source is not None
        q, own = affine(trial, source, x.double()), _pre_activation(trial, source, x.double())
        near, kind = _undecided(trial, source, own, x.double())
        near, q, own = (_repeated(t, recorded, name) for t in (near, q, own))
        if layer.hard and bool(((own > 0) != (recorded > 0))[~near].any()):
            raise CannotTry(
                f"the gates of {name} are not where their pre-activations are positive, place by "
                "place; write them as value * (q > 0), with q in the layout of value"
            )
        decided = torch.where(near, recorded, side(q).double())
        found.append(Comparison(recorded, decided, 0.0, kind, what="gates against half-spaces"))
        center = _affine(trial, source, middle.double())
        near, kind = _undecided(trial, source, center, middle.double())
        near = _repeated(near, recorded, name)
        both = torch.minimum(recorded, recorded.roll(1, 0)) * ~near
        middle_gates = between[g].double().expand_as(both)
        what = "gates of both ends at the middle"
        found.append(Comparison(both, middle_gates, 0.0, kind, "at most", what))
    return found


PRIMAL_LINEAR = Statement(
    id="dlgn.primal-linear",
    title="Gates of a deep linearly gated network are half-spaces, so regions of paths are convex.",
    kind=Kind.EXACT,
    latex=r"G_l(x) = 1\{W_l \cdots W_1 x > 0\}, \qquad \{x : A(x, p) = 1\} \text{ convex}",
    sources=("dlgn, section 5",),
    hypotheses=(needs.GATED, needs.HARD_GATES, needs.LINEAR_FEATURES),
    claim=gates_are_half_spaces,
    mutants=(
        Mutant("half-spaces with ≥ in place of >", {"side": _not_negative}),
        Mutant("ReLUs between the feature layers", {"affine": _through_relus}),
    ),
    controls="A gated network whose features have ReLUs or max pooling.",
)


def _value_names(net: PathNetwork) -> set[str]:
    return {net.weights[node.weight].name for node in net.weighted}


def _all_names(net: PathNetwork) -> set[str]:
    return {name for name, _ in net.module.named_parameters()}


def _features(listed: Paths) -> Tensor:
    return listed.bundle_features


def _valued(listed: Paths) -> Tensor:
    return listed.bundle_features * listed.bundle_values


def output_is_linear_in_the_values(
    trial: Trial,
    redrawn: Callable[[PathNetwork], set[str]] = _value_names,
    features: Callable[[Paths], Tensor] = _features,
) -> Sequence[Comparison]:
    """Redraw the values: compare features before and after, and the new output with ⟨φ, v⟩."""
    module = twin(trial.module)
    chosen = redrawn(trial.net)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in chosen:
                new = torch.randint(-3, 4, parameter.shape, generator=trial.generator)
                parameter.copy_(new)
        output = module(trial.x).double().reshape(trial.output.shape)
    net = trace(module, trial.x)
    bound, kind = output_tolerance(net, trial.x, trial.gates)
    if rough_count(net) > trial.paths:
        right = net.forward(trial.x.double(), trial.gates, net.weight_values())
        right = right.reshape(output.shape)
        return [Comparison(output, right, bound, kind, what="new output against former gates")]
    before = paths(trial.net, trial.x, gates=trial.gates, limit=trial.paths)
    after = paths(net, trial.x, limit=trial.paths)
    size = int(after.ends.max()) + 1 if len(after) else 0
    right = output.new_zeros(output.shape)
    parts = before.bundle_features * after.bundle_values
    right[:, :size] = parts.new_zeros(len(parts), size).index_add_(1, after.bundle_ends, parts)
    mine = features(before)[:, before.bundle_ends == 0]
    kernel_bound, kernel_kind = kernel_tolerance(trial.net, trial.x, trial.gates, output=0)
    kernel = npk(net, trial.x, output=0)
    exact = EvidenceKind.EXACT
    return [
        Comparison(
            before.bundle_features, after.bundle_features, 0.0, exact, what="φ before and after"
        ),
        Comparison(output, right, bound, kind, what="new output against ⟨φ, v⟩"),
        Comparison(kernel, mine @ mine.T, kernel_bound, kernel_kind, what="H against ⟨φ, φ'⟩"),
    ]


DUAL_LINEAR = Statement(
    id="dlgn.dual-linear",
    title="Given the gates the output is linear in the path values, and its kernel is the NPK.",
    kind=Kind.EXACT,
    latex=r"f(x) = \langle \phi(x), v \rangle, \qquad \phi \text{ does not depend on } v",
    sources=("dlgn, section 5",),
    hypotheses=(needs.GATED, needs.DISJOINT, needs.PLAIN_WEIGHTS),
    claim=output_is_linear_in_the_values,
    mutants=(
        Mutant("gates redrawn with the values", {"redrawn": _all_names}),
        Mutant("features that carry the values", {"features": _valued}),
    ),
    controls="Own gates, which follow the values.",
)


def _orders(trial: Trial, count: int) -> list[tuple[int, ...]]:
    """Return every order but the first of few layers, or some of many."""
    if count < 2:
        raise CannotTry("there are not two layers of gates that could change places")
    if count <= 3:
        return list(permutations(range(count)))[1:]
    drawn = {tuple(torch.randperm(count, generator=trial.generator).tolist()) for _ in range(12)}
    others = sorted(drawn - {tuple(range(count))})
    return others[:_MOST_ORDERS] or [tuple(reversed(range(count)))]


Reorder = Callable[[Trial, Sequence[int], Sequence[int]], tuple[Gates, Gates]]


def _moved(trial: Trial, layers: Sequence[int], order: Sequence[int]) -> list[Tensor]:
    gates = list(trial.gates)
    for layer, taken in zip(layers, order, strict=True):
        gates[layer] = trial.gates[layers[taken]]
    return gates


def _for_both(trial: Trial, layers: Sequence[int], order: Sequence[int]) -> tuple[Gates, Gates]:
    moved = _moved(trial, layers, order)
    return moved, moved


def _for_one(trial: Trial, layers: Sequence[int], order: Sequence[int]) -> tuple[Gates, Gates]:
    return _moved(trial, layers, order), trial.gates


def _units_for_one(
    trial: Trial, layers: Sequence[int], order: Sequence[int]
) -> tuple[Gates, Gates]:
    gates = list(trial.gates)
    gates[layers[0]] = gates[layers[0]].roll(1, 1)
    return gates, trial.gates


def _compared_orders(
    trial: Trial, groups: Sequence[Sequence[int]], reorder: Reorder
) -> list[Comparison]:
    bound, kind = kernel_tolerance(trial.net, trial.x, trial.gates)
    before = npk(trial.net, trial.x)
    found = []
    for layers in groups:
        for order in _orders(trial, len(layers)):
            after = npk(trial.net, trial.x, trial.x, gates=reorder(trial, layers, order))
            what = "H before and after layers of gates change places"
            found.append(Comparison(before, after, bound, kind, what=what))
    return found


def layers_of_gates_can_be_permuted(
    trial: Trial, reorder: Reorder = _for_both
) -> Sequence[Comparison]:
    """Compare the kernel before and after layers of gates of a dense chain change places."""
    chain = dense_chain(trial.net)
    if chain is None:
        raise CannotTry("the network is no chain of dense layers")
    return _compared_orders(trial, [chain.gates], reorder)


PERMUTE_LAYERS = Statement(
    id="dlgn.permute-layers",
    title="Layers of gates of equal width can change places without a change of the kernel.",
    kind=Kind.EXACT,
    latex=r"H(G_{\pi(1)}, \dots, G_{\pi(d-1)}) = H(G_1, \dots, G_{d-1})",
    sources=("dlgn, section 5",),
    hypotheses=(needs.FULLY_CONNECTED, needs.EQUAL_WIDTHS, needs.BIAS_FREE),
    claim=layers_of_gates_can_be_permuted,
    cost=costs.kernels,
    mutants=(
        Mutant("layers moved for x only", {"reorder": _for_one}),
        Mutant("units of one layer moved for x only", {"reorder": _units_for_one}),
    ),
    controls="Unequal widths; biases, whose paths cross some layers only.",
    note="Gates may be hard or soft, own or outside: the kernel only sees the masks.",
)


def layers_of_convolution_gates_can_be_permuted(
    trial: Trial, reorder: Reorder = _for_both
) -> Sequence[Comparison]:
    """Compare the kernel before and after layers of gates of one shape change places."""
    groups = [layers for layers in commuting_layers(trial.net) if len(layers) > 1]
    if not groups:
        raise CannotTry("no two layers of gates have one shape, with weights between them")
    return _compared_orders(trial, groups, reorder)


PERMUTE_LAYERS_CONV = Statement(
    id="dlgn.permute-layers-conv",
    title="Layers of gates of a convolution can change places only if its windows have size 1.",
    kind=Kind.NOT_IMPLIED,
    latex=r"H(G_{\pi(1)}, \dots, G_{\pi(d-1)}) = H(G_1, \dots, G_{d-1})",
    sources=("dlgn, section 5 (claims its shift invariance only)",),
    hypotheses=(LAYERS_COMMUTE, needs.BIAS_FREE),
    claim=layers_of_convolution_gates_can_be_permuted,
    cost=costs.kernels,
    mutants=(
        Mutant("layers moved for x only", {"reorder": _for_one}),
        Mutant("channels of one layer moved for x only", {"reorder": _units_for_one}),
    ),
    controls="Windows larger than 1: the kernel's value changes, its shift invariance does not.",
)

STATEMENTS = (PRIMAL_LINEAR, DUAL_LINEAR, PERMUTE_LAYERS, PERMUTE_LAYERS_CONV)
