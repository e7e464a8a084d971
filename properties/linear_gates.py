"""Statements of gates that are linear in the input: constant value input, shallow twins (dlgn)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reluctant.properties import hypotheses as needs
from reluctant.properties.bounds import is_integral, output_tolerance
from reluctant.properties.hadamard import entering, layer_gates
from reluctant.properties.tangents import ONES_INPUT
from reluctant.theory.anatomy import compares_data_with_numbers
from reluctant.theory.mask_labels import MaskReader
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Input, Reindex, Sum, Weighted
from reluctant.theory.operators import Bias, Dense
from reluctant.theory.rounding import absolute_output, gamma, roundings
from reluctant.theory.statements import (
    CannotTry,
    Comparison,
    Hypothesis,
    Kind,
    Mutant,
    Statement,
    Trial,
)
from reluctant.theory.structure import DenseChain, dense_chain
from reluctant.theory.underflow import (
    any_order_underflow,
    forward_underflow,
    is_free_of_underflow,
    smallest,
)
from reluctant.theory.verdicts import EvidenceKind, Unmet

_STEP = 2.0**-12  # how far neighbours are, in units of the data's integers
_EXACT_BELOW = 2.0**53


def _no_sources_in_features(net: PathNetwork) -> Iterator[Unmet]:
    name = "features without sources"
    for g in net.value_gates:
        layer = net.gate_layers[g]
        if layer.own or layer.source is None:
            reason = f"the gates of {layer.name} are not made by a readable feature network"
            yield Unmet(name, reason, layer.place)
            continue
        if compares_data_with_numbers(net, g):
            reason = f"the gates of {layer.name} come from a comparison with numbers other than 0"
            yield Unmet(name, reason, layer.place)
        made_from = MaskReader(net, net.input_shape[1:]).inputs(layer.made_by)
        for i in sorted(net.ancestors(made_from)):
            node = net.nodes[i]
            if isinstance(node, Constant) or (
                isinstance(node, Weighted) and isinstance(node.operator, Bias)
            ):
                reason = f"{node.name} adds to the pre-activations of {layer.name}"
                yield Unmet(name, reason, node.place)


FEATURES_WITHOUT_SOURCES = Hypothesis(
    "features without sources",
    "Gates come from another network, without biases or other sources, compared with 0.",
    _no_sources_in_features,
)


def _degree(net: PathNetwork) -> int:
    return 1 if needs.DATA_INPUT(net) is None else 0


def _other_degree(net: PathNetwork) -> int:
    return 1 - _degree(net)


Neighbours = Callable[[Trial], tuple[Tensor, Tensor]]


def in_one_region(trial: Trial) -> tuple[Tensor, Tensor]:
    """Return points near the inputs, and which of them have the same gates."""
    noise = torch.randint(-8, 9, trial.x.shape, generator=trial.generator).to(trial.x)
    y = trial.x + _STEP * noise
    other = trial.net.gates(y)
    same = torch.ones(len(y), dtype=torch.bool)
    for g in trial.net.value_gates:
        same &= (other[g] == trial.gates[g]).expand(len(y), *other[g].shape[1:]).flatten(1).all(1)
    return y, same


def _anywhere(trial: Trial) -> tuple[Tensor, Tensor]:
    return trial.x.roll(1, 0), torch.ones(len(trial.x), dtype=torch.bool)


def constant_input_makes_pieces(
    trial: Trial,
    factor: float = 2.0,
    degree: Callable[[PathNetwork], int] = _degree,
    neighbours: Neighbours = in_one_region,
) -> Sequence[Comparison]:
    """Compare f(cx) with f(x), or c f(x) for value input x; and f at points with the same gates."""
    net, x = trial.net, trial.x
    _refuse_lost_gates(trial, factor)

    def output(points: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = trial.module(points.clone())
        return found.double().reshape(trial.output.shape)

    power = factor ** degree(net)
    bound: Tensor | float = 0.0
    kind, what = EvidenceKind.EXACT, "f(cx) against f(x) times a power of c"
    if not is_free_of_underflow(net, x, trial.gates, dtype=x.dtype):
        there, here = (
            forward_underflow(net, points, trial.gates, dtype=x.dtype) for points in (factor * x, x)
        )
        bound, kind = (there + abs(power) * here).flatten(1), EvidenceKind.ROUNDING
    found = [Comparison(output(factor * x), power * trial.output, bound, kind, what=what)]
    if ONES_INPUT(net) is None:
        y, same = neighbours(trial)
        bound, kind = output_tolerance(net, x, trial.gates)
        there, here = output(y)[same], trial.output[same]
        slack = bound[same] if isinstance(bound, Tensor) else bound
        what = "f at two points with the same gates"
        found.append(Comparison(there, here, slack, kind, what=what))
    return found


def _refuse_lost_gates(trial: Trial, factor: float) -> None:
    """Refuse inputs at which a gate differs because its pre-activation underflows.

    A power of two turns no gate unless the pre-activation is within what underflow adds.
    """
    net, x = trial.net, trial.x
    others = net.gates(factor * x)
    for g in net.value_gates:
        source, turned = net.gate_layers[g].source, others[g] != trial.gates[g]
        if source is None or not bool(turned.any()):
            continue
        near = torch.zeros_like(turned)
        for points, scale in ((x, 1.0), (factor * x, factor)):
            q = net.forward(points.double(), trial.gates, trial.weights, output=source) / scale
            lost = forward_underflow(net, points, trial.gates, dtype=x.dtype, output=source)
            near |= (q.abs() <= lost / abs(scale)).reshape(turned.shape)
        if bool(near[turned].all()):
            name = net.gate_layers[g].name
            raise CannotTry(f"pre-activations of {name} underflow; scale inputs or weights up")


CONSTANT_INPUT = Statement(
    id="dlgn.constant-input-piecewise",
    title="With ones as value input the output is piecewise constant, and constant along rays.",
    kind=Kind.EXACT,
    latex=(
        r"G(x) = G(y) \Rightarrow f_{\mathbf 1}(x) = f_{\mathbf 1}(y), \qquad f_{\mathbf 1}(cx) = "
        r"f_{\mathbf 1}(x), \quad f_x(cx) = c f_x(x) \quad (c > 0)"
    ),
    sources=("dlgn, section 5",),
    hypotheses=(needs.GATED, needs.HARD_GATES, FEATURES_WITHOUT_SOURCES, needs.BIAS_FREE),
    claim=constant_input_makes_pieces,
    mutants=(
        Mutant("c < 0", {"factor": -2.0}),
        Mutant("degree 1 for ones, 0 for x", {"degree": _other_degree}),
        Mutant("points with other gates", {"neighbours": _anywhere}),
    ),
    controls="Soft gates; features with biases are piecewise constant, but not along rays.",
    note="With c a power of two the identity is bit for bit.",
)


Product = Callable[[list[Tensor], list[Tensor], Tensor], Tensor]


def _layers_above(
    net: PathNetwork, source: int, weights: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the matrices and shifts of the dense layers from the data to a pre-activation."""
    matrices: list[Tensor] = []
    shifts: list[Tensor] = []
    i, shift = source, torch.zeros((), dtype=torch.float64)
    while not isinstance(net.nodes[i], Input):
        node = net.nodes[i]
        if isinstance(node, Weighted) and isinstance(node.operator, Dense):
            matrices.append(weights[node.weight])
            shifts.append(shift)
            shift = torch.zeros((), dtype=torch.float64)
            i = node.operands[0]
        elif isinstance(node, Sum) and not node.axes:
            biases = [k for k in node.operands if _is_bias(net, k)]
            others = [k for k in node.operands if k not in biases]
            if len(others) != 1:
                raise CannotTry(f"{node.name} joins branches of the feature network")
            for k in biases:
                bias = net.nodes[k]
                assert isinstance(bias, Weighted)
                shift = shift + weights[bias.weight].flatten()
            i = others[0]
        elif isinstance(node, Reindex) and node.keeps_order:
            i = node.operands[0]
        else:
            raise CannotTry(f"{node.name} is no dense layer of the feature network")
    return matrices[::-1], shifts[::-1]


def _is_bias(net: PathNetwork, i: int) -> bool:
    node = net.nodes[i]
    return isinstance(node, Weighted) and isinstance(node.operator, Bias)


def _composed(matrices: list[Tensor], shifts: list[Tensor], x: Tensor) -> Tensor:
    """Return C x + c with C = W_l … W_1 multiplied out first."""
    total = torch.eye(x.shape[1], dtype=torch.float64)
    shift = torch.zeros(x.shape[1], dtype=torch.float64)
    for w, b in zip(matrices, shifts, strict=True):
        total, shift = w @ total, w @ shift + b
    return x @ total.T + shift


def _with_relus(matrices: list[Tensor], shifts: list[Tensor], x: Tensor) -> Tensor:
    for k, (w, b) in enumerate(zip(matrices, shifts, strict=True)):
        x = (torch.relu(x) if k else x) @ w.T + b
    return x


def _without_first_factor(matrices: list[Tensor], shifts: list[Tensor], x: Tensor) -> Tensor:
    """Take a row of ones for the first layer's weights."""
    return _composed([torch.ones_like(matrices[0]), *matrices[1:]], shifts, x)


def _all_values(matrices: list[Tensor]) -> list[Tensor]:
    return matrices


def _last_as_ones(matrices: list[Tensor]) -> list[Tensor]:
    return [*matrices[:-1], torch.ones_like(matrices[-1])]


def shallow_features_suffice(
    trial: Trial,
    product: Product = _composed,
    values: Callable[[list[Tensor]], list[Tensor]] = _all_values,
) -> Sequence[Comparison]:
    """Compare pre-activations with one map each; and f, for ones, with ⟨V, ⊗ G⟩."""
    net, chain, x = trial.net, dense_chain(trial.net), trial.x.double()
    if chain is None:
        raise CannotTry("shallow maps of the same kind contain dense layers only")
    gates = [g.double() for g in trial.gates]
    found = []
    for g in chain.gates:
        source = net.gate_layers[g].source
        if source is None:
            raise CannotTry(f"the gates of {net.gate_layers[g].name} cannot be read")
        part = replace(net, output=source)
        q = part.forward(x, gates, trial.weights).flatten(1)
        matrices, shifts = _layers_above(net, source, trial.weights)
        right = product(matrices, shifts, x.flatten(1))
        size = absolute_output(part, x, gates).flatten(1)
        count = roundings(part) + sum(chain.widths) + 4
        # Both orders of the products: an η is multiplied by what is still to come in either.
        added = count * smallest() * any_order_underflow(part, x, gates, trial.weights)
        bound: Tensor | float = 2 * (gamma(count) * size + added.flatten(1))
        kind = EvidenceKind.ROUNDING
        integral = is_integral(part, x, gates, trial.weights)
        if integral and float(size.max()) < _EXACT_BELOW:
            bound, kind = 0.0, EvidenceKind.EXACT
        what = "gating pre-activations against one map a layer"
        found.append(Comparison(q, right, bound, kind, what=what))
    if ONES_INPUT(net) is None:
        found.append(_tensor_of_values(trial, chain, values))
    return found


def _tensor_of_values(
    trial: Trial, chain: DenseChain, values: Callable[[list[Tensor]], list[Tensor]]
) -> Comparison:
    """Compare f with ⟨V, ⊗ G⟩, V the tensor of path values added over the inputs."""
    net, n = trial.net, len(trial.x)
    if math.prod(chain.hidden) * net.output_size > trial.paths:
        raise CannotTry(f"{math.prod(chain.hidden)} entries of V are too many to list")
    nodes = [net.nodes[i] for i in chain.layers]
    matrices = values([trial.weights[w.weight] for w in nodes if isinstance(w, Weighted)])
    v = matrices[0] @ entering(net, trial.x)[0]  # (unit of layer 1)
    for w in matrices[1:]:
        v = v[..., None] * w.T  # (units of layers 1, …, l)
    total = v.expand(n, *v.shape)
    for g in layer_gates(chain, trial.gates):
        total = total if g is None else total * g.reshape(n, -1, *[1] * (total.ndim - 2))
        total = total.sum(1)
    bound, kind = output_tolerance(net, trial.x, trial.gates, passes=4)
    if kind is EvidenceKind.ROUNDING:  # here each entry of V underflows on its own
        lost = any_order_underflow(net, trial.x, trial.gates, trial.weights).reshape(n, -1)
        bound = bound + 4 * roundings(net) * smallest() * lost
    right = total.reshape(trial.output.shape)
    return Comparison(trial.output, right, bound, kind, what="f against ⟨V, ⊗ G⟩")


SHALLOW_CONTAINED = Statement(
    id="dlgn.shallow-contained",
    title="Fully connected deep linear gates are those of one linear map a layer.",
    kind=Kind.EXACT,
    latex=(
        r"q_l = C_l x, \; C_l = W_l \cdots W_1, \qquad f_{\mathbf 1}(x) = \Big\langle V, "
        r"\bigotimes_l G_l(x) \Big\rangle"
    ),
    sources=("dlgn, section 6",),
    hypotheses=(
        needs.GATED,
        needs.FULLY_CONNECTED,
        needs.BIAS_FREE,
        needs.LINEAR_FEATURES,
    ),
    claim=shallow_features_suffice,
    mutants=(
        Mutant("ReLUs between the maps", {"product": _with_relus}),
        Mutant("ones for the first layer's weights", {"product": _without_first_factor}),
        Mutant("V without the last layer's weights", {"values": _last_as_ones}),
    ),
    controls="Convolutions of one window: a product of two has a wider window.",
    note="V, which DLGN-VT sets free, has one entry for each path from the ones.",
)

STATEMENTS = (CONSTANT_INPUT, SHALLOW_CONTAINED)
