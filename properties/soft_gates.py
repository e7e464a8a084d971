"""Statements of soft gates that learn: expected tangent kernels of values and of features (dgn)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev, vmap

from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.averages import tangent_average
from reluctant.properties.bounds import inner_product_bound
from reluctant.properties.hadamard import input_gram, layer_gates
from reluctant.properties.laws import averaged
from reluctant.properties.tangents import times_depth
from reluctant.properties.thinning import Thinned, thinned
from reluctant.properties.weights import weight_entries
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate
from reluctant.theory.rounding import roundings
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
from reluctant.theory.underflow import enlarged, smallest
from reluctant.theory.verdicts import EvidenceKind, Unmet

SIGMA = 2.0  # a power of two, and σ ≠ 1 tells powers of σ apart
_MOST_GRADIENTS = 2**24
Coefficient = Callable[[int, float], float]


def _logistic(net: PathNetwork, g: int) -> tuple[float, float] | None:
    """Return β and ε of a layer of soft gates (1 + ε) σ(βq), None if it is no such layer."""
    layer = net.gate_layers[g]
    made = {node.name: node for node in net.program.graph.nodes}.get(layer.made_by)
    if layer.source is None or made is None or not str(made.target).startswith("reluctant.gate"):
        return None
    slope, excess = (float(str(made.args[k])) if len(made.args) > k else 0.0 for k in (1, 2))
    return (slope, excess) if slope else None


def _soft(net: PathNetwork) -> Iterator[Unmet]:
    for g in net.value_gates:
        layer = net.gate_layers[g]
        if _logistic(net, g) is None:
            reason = f"the gates of {layer.name} are not (1 + ε) σ(βq)"
            yield Unmet("soft gates", reason, layer.place)
        above = net.ancestors([layer.source]) if layer.source is not None else set()
        for i in above:
            node = net.nodes[i]
            if isinstance(node, Gate) and not net.gate_layers[node.gate].hard:
                reason = f"{node.name} gates the features of {layer.name} softly"
                yield Unmet("soft gates", reason, node.place)


SOFT = Hypothesis(
    "soft gates", "Every gate is (1 + ε) σ(βq), with features that have hard gates or none.", _soft
)


@dataclass(frozen=True, slots=True, eq=False)
class _Moving:
    """Hold the gates of a chain of dense layers, and how they move with their parameters θ.

    Attributes:
        gates: For each hidden layer, shape (n, width).
        slopes: ∂G/∂θ, for each hidden layer, shape (n, width, θ).
    """

    gates: list[Tensor]
    slopes: list[Tensor]


def _moving(trial: Trial, chain: DenseChain, part: Thinned) -> _Moving:
    r"""Return the gates that are left on and their derivatives, β G (1 − G/(1+ε)) ∂q/∂θ."""
    net = trial.net
    on_paths = {node.weight for node in net.weighted}
    sources = [net.gate_layers[g].source for g in chain.gates]
    above = net.ancestors([s for s in sources if s is not None])
    used = sorted({w for i in above if (w := getattr(net.nodes[i], "weight", None)) is not None})
    theta = [k for k in used if k not in on_paths]
    count = sum(trial.weights[k].numel() for k in theta)
    if len(trial.x) * sum(chain.hidden) * count > _MOST_GRADIENTS:
        raise CannotTry(f"{count} parameters of the gates are too many to differentiate")
    slopes = []
    for g in chain.gates:
        layer, form = net.gate_layers[g], _logistic(net, g)
        if form is None:
            raise CannotTry(f"the gates of {layer.name} have no derivative that is known")

        def pre_activation(chosen: tuple[Tensor, ...], source: int | None = layer.source) -> Tensor:
            weights = list(trial.weights)
            for k, w in zip(theta, chosen, strict=True):
                weights[k] = w
            return net.forward(trial.x.double(), trial.gates, weights, output=source).flatten(1)

        jacobians = jacrev(pre_activation)(tuple(trial.weights[k] for k in theta))
        along = torch.cat([j.flatten(2) for j in jacobians], 2)  # (n, width, θ)
        gate = part.gates[g].double().flatten(1)
        slopes.append((form[0] * gate * (1 - gate / (1 + form[1])))[..., None] * along)
    gates = [g for g in layer_gates(chain, part.gates) if g is not None]
    return _Moving(gates, slopes)


def path_activities(moving: _Moving) -> tuple[Tensor, Tensor]:
    """List A(x, p) and ∂A(x, p)/∂θ of the paths of one input node: (n, path), (n, path, θ)."""
    parameters = moving.slopes[0].shape[2]
    n = len(moving.gates[0])
    activity = torch.ones(n, 1, dtype=torch.float64)
    slope = torch.zeros(n, 1, parameters, dtype=torch.float64)
    for g, dg in zip(moving.gates, moving.slopes, strict=True):
        slope = slope[:, :, None] * g[:, None, :, None] + activity[..., None, None] * dg[:, None]
        slope = slope.flatten(1, 2)
        activity = (activity[:, :, None] * g[:, None]).flatten(1)
    return activity, slope


def _of_one_input(delta: Tensor, inputs: int) -> Tensor:
    return delta


def _of_all_inputs(delta: Tensor, inputs: int) -> Tensor:
    return inputs * delta


def _along(moving: _Moving) -> Tensor:
    """Return δ(s, s'), derivatives of products of gates multiplied by one another."""
    _, slope = path_activities(moving)
    return torch.einsum("npm,qpm->nq", slope, slope)


def _layers_apart(moving: _Moving) -> Tensor:
    """Return δ with the products of derivatives of different layers' gates left out."""
    total = torch.zeros(len(moving.gates[0]), len(moving.gates[0]), dtype=torch.float64)
    for k in range(len(moving.slopes)):
        slopes = [dg if j == k else torch.zeros_like(dg) for j, dg in enumerate(moving.slopes)]
        total = total + _along(_Moving(moving.gates, slopes))
    return total


def twice_depth(depth: int, sigma: float) -> float:
    """Return σ^(2d)."""
    return sigma ** (2 * depth)


def without_depth(depth: int, sigma: float) -> float:
    """Return σ^(2(d−1))."""
    return sigma ** (2 * (depth - 1))


def _ungated_square(moving: _Moving) -> _Moving:
    return _Moving([g**2 for g in moving.gates], moving.slopes)


def _unchanged(moving: _Moving) -> _Moving:
    return moving


def soft_gates_have_two_kernels(
    trial: Trial,
    of_values: Coefficient = times_depth,
    of_features: Coefficient = twice_depth,
    delta: Callable[[_Moving], Tensor] = _along,
    starts: Callable[[Tensor, int], Tensor] = _of_one_input,
    squared: Callable[[_Moving], _Moving] = _unchanged,
) -> Sequence[Comparison]:
    """Compare E[K_v] with d σ^(2(d−1)) Σ ⊙ λ and E[K_f] with σ^(2d) Σ ⊙ δ, traced over the outputs."""
    chain, part = _chain(trial), thinned(trial, SIGMA, outputs=False)
    moving = _moving(trial, chain, part)
    paths = prod(chain.hidden)
    if paths * moving.slopes[0].shape[2] * len(trial.x) > _MOST_GRADIENTS:
        raise CannotTry(f"{paths} paths from an input are too many to list")
    depth, gram = len(chain.layers), part.net.output_size * input_gram(part.net, part.x)
    activity, _ = path_activities(squared(moving))
    average = tangent_average(trial, SIGMA, gates=part.gates, x=part.x, net=part.net)
    of_v = of_values(depth, SIGMA) * gram * (activity @ activity.T)
    inputs = part.x[0].numel()
    of_f = of_features(depth, SIGMA) * gram * starts(delta(squared(moving)), inputs)
    left, bound = _feature_average(trial, chain, part, moving)
    what = "E[K_f] by every sign pattern"
    return [
        averaged(average, of_v, part, SIGMA, passes=4 + paths // roundings(part.net)),
        Comparison(left, of_f, bound, EvidenceKind.ROUNDING, what=what),
    ]


def _chain(trial: Trial) -> DenseChain:
    chain = dense_chain(trial.net)
    if chain is None or not chain.gates or None in chain.gate_of:
        raise CannotTry("the formulas are those of a chain of dense layers, each with gates")
    return chain


def _feature_average(
    trial: Trial, chain: DenseChain, part: Thinned, moving: _Moving
) -> tuple[Float[Tensor, "n n"], Tensor]:
    """Average ⟨∇_θ f, ∇_θ f'⟩ over every sign pattern of the values; and bound its rounding.

    The chain rule goes through the gates: ∇_θ f = Σ_l ∂f/∂G_l ∂G_l/∂θ, the first by automatic
    differentiation of the network.
    """
    entries = weight_entries(trial, SIGMA, part.gates, part.x, part.net)
    n, slopes = len(part.x), torch.cat(moving.slopes, 1)  # (n, gate, θ)
    count = len(entries.signed)
    bits = torch.arange(entries.patterns)[:, None] >> torch.arange(count) & 1
    rows = entries.with_signs(1.0 - 2.0 * bits.double())

    def kernel(row: Tensor, x: Tensor, opened: Sequence[Tensor], along: Tensor) -> Tensor:
        weights = entries.weights(row)

        def output(chosen: tuple[Tensor, ...]) -> Tensor:
            gates = list(opened)
            for g, mask in zip(chain.gates, chosen, strict=True):
                gates[g] = mask
            return part.net.forward(x, gates, weights).reshape(n, -1).sum(0)

        found = jacrev(output)(tuple(opened[g] for g in chain.gates))  # (output, n, width) each
        pulled = torch.einsum("ong,ngm->onm", torch.cat([f.flatten(2) for f in found], 2), along)
        return torch.einsum("onm,oqm->nq", pulled, pulled)

    def signed(row: Tensor) -> Tensor:
        return kernel(row, entries.x, entries.gates, slopes)

    mean = vmap(signed, chunk_size=256)(rows).mean(0)
    positive = entries.sigmas[entries.live]
    size = kernel(positive, entries.x.abs(), [g.abs() for g in entries.gates], slopes.abs())
    # Weights are ±2, so that an η is multiplied by no more than the enlarged factors of its term.
    held = [enlarged(g) for g in entries.gates]
    reach = kernel(positive, enlarged(entries.x), held, enlarged(slopes))
    # The terms are added over gates and parameters here, over paths and parameters on the other side.
    terms = (2 * slopes.shape[1] + prod(chain.hidden)) * slopes.shape[2]
    summed = 4 * roundings(part.net) + terms + entries.patterns + 8
    return mean, 2 * inner_product_bound(summed, size, summed * smallest() * reach)


SOFT_GATES = Statement(
    id="ntk.soft-gates",
    title="With soft gates that learn apart, two expected kernels: of the values and of the gates.",
    kind=Kind.EXPECTED,
    latex=(
        r"E[K_v] = d\, \sigma^{2(d-1)}\, \Sigma \odot \lambda, \quad E[K_f] = \sigma^{2d}\, \Sigma "
        r"\odot \delta, \qquad \delta(s, s') = \sum_m \sum_{p \ni i} "
        r"\frac{\partial A(x_s, p)}{\partial \theta_m} \frac{\partial A(x_{s'}, p)}{\partial \theta_m}"
    ),
    sources=("dgn, section 4",),
    hypotheses=(
        needs.GATED,
        SOFT,
        needs.FULLY_CONNECTED,
        needs.BIAS_FREE,
        needs.UNTIED,
        needs.DISJOINT,
    ),
    claim=soft_gates_have_two_kernels,
    cost=costs.kernels,
    mutants=(
        Mutant("δ over the paths of all inputs", {"starts": _of_all_inputs}),
        Mutant("the soft gate squared", {"squared": _ungated_square}),
        Mutant("derivatives of different layers taken apart", {"delta": _layers_apart}),
        Mutant("σ^(2(d−1)) for σ^(2d)", {"of_features": without_depth}),
    ),
    controls="δ over all paths: n_in times too big; shared parameters.",
    note="λ(s, s') = Σ A(x_s, p) A(x_s', p), over the paths p of one input node.",
)


STATEMENTS = (SOFT_GATES,)
