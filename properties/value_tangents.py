"""Statements of the tangent kernel as path features times the path values' tangents (npf)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor, nn

from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.bounds import pair_underflow, spectral_tolerance
from reluctant.properties.listing import few_paths
from reluctant.theory.paths import Paths
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.tangents import ntk
from reluctant.theory.verdicts import EvidenceKind


def value_tangents(listed: Paths) -> tuple[Tensor, Tensor]:
    """Return ∇v_b by listed weights, shape (bundles, weights), signed and in absolute value."""
    entries = {e: k for k, e in enumerate(sorted({e for word in listed.words for e in word}))}
    rows = torch.zeros(len(listed.bundles), len(entries), dtype=torch.float64)
    for b, (_, word) in enumerate(listed.bundles):
        for position, entry in enumerate(word):
            others = [listed.weight_of[e] for k, e in enumerate(word) if k != position]
            rows[b, entries[entry]] += prod(others)
    return rows, rows.abs()


def _tangent_gram(rows: Tensor) -> Tensor:
    return rows @ rows.T


def _tangent_norms(rows: Tensor) -> Tensor:
    return torch.diag((rows * rows).sum(1))


def _features(listed: Paths) -> Tensor:
    return listed.bundle_features


def _gates_alone(listed: Paths) -> Tensor:
    """Return features without the input's factor."""
    return replace(listed, x=torch.ones_like(listed.x)).bundle_features


class _SumOfLogits(nn.Module):
    """Add up the outputs of a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.module(x)
        return output.flatten(1).sum(1, keepdim=True)


def _traced_over_outputs(trial: Trial, names: list[str]) -> Tensor:
    return ntk(trial.module, trial.x, parameters=names)


def _of_the_sum_of_logits(trial: Trial, names: list[str]) -> Tensor:
    summed = _SumOfLogits(trial.module)
    return ntk(summed, trial.x, parameters=[f"module.{name}" for name in names])


def ntk_factors_through_the_values(
    trial: Trial,
    value_kernel_of: Callable[[Tensor], Tensor] = _tangent_gram,
    features: Callable[[Paths], Tensor] = _features,
    tangent: Callable[[Trial, list[str]], Tensor] = _traced_over_outputs,
) -> Sequence[Comparison]:
    """Compare the module's own tangent kernel with Φᵀ (∇vᵀ∇v) Φ, bundles listed."""
    listed = few_paths(trial)
    rows, magnitude = value_tangents(listed)
    names = sorted({w.name for w in trial.net.weights})
    left = tangent(trial, names).double()
    phi = features(listed)
    right, size = torch.zeros_like(left), torch.zeros_like(left)
    for o in range(trial.output.shape[1]):
        mine = listed.bundle_ends == o
        right = right + phi[:, mine] @ value_kernel_of(rows[mine]) @ phi[:, mine].T
        size = (
            size + phi[:, mine].abs() @ (magnitude[mine] @ magnitude[mine].T) @ phi[:, mine].abs().T
        )
    count = 4 * (roundings(trial.net) + len(listed.bundles)) + len(rows[0])
    dtype = trial.x.dtype
    added = pair_underflow(trial.net, trial.x, trial.gates, extra=count, dtype=dtype)
    return [
        Comparison(
            left,
            right,
            2 * (gamma(count, dtype) * size + added),
            EvidenceKind.ROUNDING,
            what="automatic differentiation against Φᵀ V Φ",
        )
    ]


NTK_FACTOR = Statement(
    id="dual.ntk-factor",
    title="With gates that do not move the tangent kernel factors into path features and the values' tangent kernel.",
    kind=Kind.EXACT,
    latex=r"K = \Phi^\top V \Phi, \qquad V = \nabla v^\top \nabla v",
    sources=("npf, proposition 5.1",),
    hypotheses=(needs.STEPPED_GATES, needs.PLAIN_WEIGHTS, needs.ZERO_AT_TIES),
    claim=ntk_factors_through_the_values,
    cost=costs.path_gradients,
    revisits_gates=True,
    mutants=(
        Mutant("paths taken as independent", {"value_kernel_of": _tangent_norms}),
        Mutant("the input's factor left out of Φ", {"features": _gates_alone}),
        Mutant(
            "the sum of the outputs for the trace over them", {"tangent": _of_the_sum_of_logits}
        ),
    ),
    controls="Learnt soft gates; ties with half gradients.",
)


def _largest(matrix: Tensor) -> Tensor:
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values[-1:]


def _smallest(matrix: Tensor) -> Tensor:
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values[:1]


def _mean(matrix: Tensor) -> Tensor:
    return matrix.diagonal().mean()[None]


def smallest_eigenvalues_are_ordered(
    trial: Trial, of_values: Callable[[Tensor], Tensor] = _largest
) -> Sequence[Comparison]:
    """Compare λ_min(K) with λ_min(H) λ_max(V), one output."""
    listed = few_paths(trial)
    if len(listed.bundles) > 1500:
        raise CannotTry(
            f"{len(listed.bundles)} bundles are too many for an eigenvalue of V (at most 1500)"
        )
    mine = listed.bundle_ends == 0
    phi = listed.bundle_features[:, mine]
    rows = value_tangents(listed)[0][mine]
    v = rows @ rows.T
    k, h = phi @ v @ phi.T, phi @ phi.T
    if not v.numel():
        raise CannotTry("no path reaches the first output")
    right = _smallest(h) * of_values(v)
    slack = spectral_tolerance(k) + spectral_tolerance(h) * float(torch.linalg.matrix_norm(v, 2))
    slack += spectral_tolerance(v) * float(torch.linalg.matrix_norm(h, 2))
    return [
        Comparison(
            _smallest(k),
            right,
            slack,
            EvidenceKind.ROUNDING,
            "at most",
            "λ_min(K) ≤ λ_min(H) λ_max(V)",
        )
    ]


MIN_EIG = Statement(
    id="dual.min-eig",
    title="The smallest eigenvalue of the tangent kernel is bounded through the path kernel's.",
    kind=Kind.BOUND,
    latex=r"\lambda_{min}(K) \le \lambda_{min}(H)\, \lambda_{max}(V)",
    sources=("npf, proposition 5.2",),
    hypotheses=(needs.STEPPED_GATES, needs.PLAIN_WEIGHTS, needs.ZERO_AT_TIES),
    claim=smallest_eigenvalues_are_ordered,
    cost=costs.path_gradients,
    mutants=(
        Mutant("V's smallest eigenvalue", {"of_values": _smallest}),
        Mutant("V's mean eigenvalue", {"of_values": _mean}),
    ),
    note="The printed proof takes the minimiser of K; the minimiser of H is the one that works.",
)

STATEMENTS = (NTK_FACTOR, MIN_EIG)
