"""Statements of learning with the gates held: K = K_v + K_f, linearity, descent (npf, dgn)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.bounds import (
    inner_product_bound,
    pair_underflow,
    path_sum_bound,
)
from reluctant.properties.own_gates import following_gates
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.tangents import batch_gradients, value_gradients, value_kernel
from reluctant.theory.verdicts import EvidenceKind


def _added(value: Tensor, feature: Tensor) -> Tensor:
    return value + feature


def _doubled(value: Tensor, feature: Tensor) -> Tensor:
    return 2 * value + feature


def _values_alone(value: Tensor, feature: Tensor) -> Tensor:
    return value


def tangent_kernel_splits(
    trial: Trial, together: Callable[[Tensor, Tensor], Tensor] = _added
) -> Sequence[Comparison]:
    """Compare K with K_v + K_f: values with the gates held fixed, features through the gates.

    K and K_f add products of the same derivatives, whose errors stay in both. What may differ are
    the derivatives by weights on paths, which are sums over paths, and how the products are added.
    """
    net, dtype = trial.net, trial.x.dtype
    on_paths = {net.weights[node.weight].name for node in net.weighted}
    others = [
        name
        for name, _ in trial.module.named_parameters()
        if name not in on_paths and name not in norm_parameters(trial)
    ]
    named = dict(trial.module.named_parameters())
    split = sum(named[name].numel() for name in on_paths & named.keys())
    rows = batch_gradients(trial.module, trial.x, [*sorted(on_paths), *others]).double()
    through_gates = rows[..., split:]
    whole, feature = _gram(rows), _gram(through_gates)
    value = value_kernel(net, trial.x, trial.gates, trial.weights)
    size = value_kernel(
        net,
        trial.x.abs(),
        [g.abs() for g in trial.gates],
        [w.abs() for w in trial.weights],
        magnitudes=True,
    )
    # A pair of derivatives meets the roundings of two paths, and as many as there are products.
    terms = rows.shape[1] * rows.shape[2]
    added = pair_underflow(net, trial.x, trial.gates, extra=terms, dtype=dtype)
    on_paths_bound = inner_product_bound(2 * roundings(net) + terms, size, added, dtype)
    sums = sum(inner_product_bound(terms + 2, _gram(part.abs())) for part in (rows, through_gates))
    bound = 2 * on_paths_bound + sums
    found = [
        Comparison(
            whole,
            together(value, feature),
            bound,
            EvidenceKind.ROUNDING,
            what="K against K_v + K_f",
        )
    ]
    if needs.STEPPED_GATES(net) is None:
        found.append(
            Comparison(
                feature,
                torch.zeros_like(feature),
                0.0,
                EvidenceKind.EXACT,
                what="K_f = 0 for gates that do not move",
            )
        )
    return found


def _gram(rows: Float[Tensor, "n outputs parameters"]) -> Float[Tensor, "n n"]:
    gram: Tensor = torch.einsum("nop,mop->nm", rows, rows)
    return gram


def norm_parameters(trial: Trial) -> set[str]:
    """Return the names of batch norms' parameters, which the theory holds constant."""
    found = set()
    for name, part in trial.module.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            found |= {f"{name}.weight".lstrip("."), f"{name}.bias".lstrip(".")}
    return found


NTK_SPLIT = Statement(
    id="dual.dgn-ntk-split",
    title="With disjoint parameters the tangent kernel is that of the values plus that of the features.",
    kind=Kind.EXACT,
    latex=r"K = K_v + K_f, \qquad K_f = 0 \text{ for hard or frozen gates}",
    sources=("dgn, section 4", "npf, section 5"),
    hypotheses=(needs.GATED, needs.DISJOINT, needs.PLAIN_WEIGHTS, needs.ZERO_AT_TIES),
    claim=tangent_kernel_splits,
    cost=costs.gradients,
    revisits_gates=True,
    mutants=(
        Mutant("K_v counted twice", {"together": _doubled}),
        Mutant("K_f left out", {"together": _values_alone}),
    ),
    controls="Shared parameters have cross terms.",
)


def _held(trial: Trial, weights: Sequence[Tensor]) -> list[Tensor]:
    return trial.gates


def _recomputed(trial: Trial, weights: Sequence[Tensor]) -> list[Tensor]:
    return following_gates(trial.net, trial.x, trial.gates, weights)


def _coupled(rows: Tensor, error: Tensor) -> Tensor:
    """Return K e for tangents given row by row."""
    return rows @ (rows.T @ error)


def _each_alone(rows: Tensor, error: Tensor) -> Tensor:
    return (rows * rows).sum(1) * error


def output_is_multilinear(
    trial: Trial,
    gates: Callable[[Trial, Sequence[Tensor]], list[Tensor]] = _held,
    kernel: Callable[[Tensor, Tensor], Tensor] = _coupled,
) -> Sequence[Comparison]:
    """Compare f along a line in one weight tensor with the line; and its slope under descent with −K e."""
    net, x = trial.net, trial.x.double()
    found = []
    for k, weight in enumerate(net.weights):
        if not any(node.weight == k for node in net.weighted):
            continue
        other = torch.randint(-2, 3, weight.shape, generator=trial.generator).double()
        ends = [list(trial.weights), [other if j == k else w for j, w in enumerate(trial.weights)]]
        middle = [2 * w - other if j == k else w for j, w in enumerate(trial.weights)]
        a, b, c = (net.forward(x, gates(trial, w), w) for w in (*ends, middle))
        absolute = [w.abs() for w in middle]
        absolute[k] = 2 * trial.weights[k].abs() + other.abs()
        bound = path_sum_bound(net, x, trial.gates, weights=absolute, passes=4, extra=4)
        bound = bound.reshape(a.shape)
        found.append(
            Comparison(
                c, 2 * a - b, bound, EvidenceKind.ROUNDING, what=f"f on a line in {weight.name}"
            )
        )
    if not found:
        raise CannotTry("the network has no weights")
    found.append(_descent(trial, kernel))
    return found


def _descent(trial: Trial, kernel: Callable[[Tensor, Tensor], Tensor]) -> Comparison:
    """Compare the output's change under gradient flow of the squared loss with −K e."""
    net, x = trial.net, trial.x.double()
    target = trial.draw(*trial.output.shape)

    def output(weights: tuple[Tensor, ...]) -> Tensor:
        return net.forward(x, trial.gates, list(weights)).reshape(target.shape)

    weights = tuple(trial.weights)
    pull = torch.func.vjp(output, weights)[1]
    error = output(weights) - target
    (slope,) = pull(error)
    change: Tensor = torch.func.jvp(output, (weights,), (tuple(-s for s in slope),))[1]
    rows = value_gradients(net, trial.x, trial.gates, trial.weights).flatten(0, 1)
    right = -kernel(rows, error.flatten()).reshape(target.shape)
    size = (rows.abs() @ (rows.abs().T @ error.flatten().abs())).reshape(target.shape)
    big = net.forward(
        x.abs(),
        [g.abs() for g in trial.gates],
        [w.abs() for w in weights],
        constant=torch.abs,
        magnitudes=True,
    )
    scale = size + big.reshape(target.shape) * float(error.abs().max()) * rows.shape[1]
    added = pair_underflow(net, x, trial.gates, trial.weights, extra=rows.numel()).sum()
    added = added * max(1.0, float(error.abs().max()))
    return Comparison(
        change,
        right,
        8 * (gamma(4 * roundings(net) + rows.numel()) * scale + added),
        EvidenceKind.ROUNDING,
        what="e' against −K e",
    )


FROZEN_LINEAR = Statement(
    id="dual.frozen-gates-linear",
    title="With its gates fixed a network is affine in each layer, and the tangent kernel drives its error.",
    kind=Kind.EXACT,
    latex=r"f = \langle \phi, v \rangle \text{ multilinear in } \theta, \qquad \dot e = -K e",
    sources=("npf, section 5", "dgn, section 3"),
    hypotheses=(needs.GATED, needs.UNTIED),
    claim=output_is_multilinear,
    mutants=(
        Mutant("gates that move with the weights", {"gates": _recomputed}),
        Mutant("K's diagonal in place of K", {"kernel": _each_alone}),
    ),
    controls="Gates that move.",
)

STATEMENTS = (NTK_SPLIT, FROZEN_LINEAR)
