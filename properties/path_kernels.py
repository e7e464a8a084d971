"""Statements of the neural path kernel: Σ ⊙ Λ, overlaps of paths, positivity (npf, dlgn)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.bounds import kernel_tolerance, spectral_tolerance
from reluctant.properties.hadamard import gate_overlap, input_gram, layer_gates
from reluctant.properties.listing import few_paths
from reluctant.theory.kernels import npk
from reluctant.theory.paths import Paths
from reluctant.theory.statements import Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.structure import DenseChain, dense_chain
from reluctant.theory.verdicts import EvidenceKind


def _all_layers(trial: Trial, chain: DenseChain) -> list[Tensor | None]:
    return layer_gates(chain, trial.gates)


def _all_but_one(trial: Trial, chain: DenseChain) -> list[Tensor | None]:
    layers = layer_gates(chain, trial.gates)
    return [torch.ones_like(g) if k == 0 and g is not None else g for k, g in enumerate(layers)]


def _weak_inequality(trial: Trial, chain: DenseChain) -> list[Tensor | None]:
    net, gates = trial.net, list(trial.gates)
    for g in chain.gates:
        source = net.gate_layers[g].source
        if source is not None:
            q = net.forward(trial.x.double(), trial.gates, trial.weights, output=source)
            gates[g] = q >= 0
    return layer_gates(chain, gates)


def npk_is_a_hadamard_product(
    trial: Trial, layers: Callable[[Trial, DenseChain], list[Tensor | None]] = _all_layers
) -> Sequence[Comparison]:
    """Compare the propagated kernel with Σ ⊙ Λ."""
    chain = dense_chain(trial.net)
    assert chain is not None
    bound, kind = kernel_tolerance(trial.net, trial.x, trial.gates, output=0)
    left = npk(trial.net, trial.x, output=0)
    overlap = gate_overlap(layers(trial, chain), chain.hidden)
    right = input_gram(trial.net, trial.x) * overlap
    return [Comparison(left, right, bound, kind, what="propagated kernel against Σ ⊙ Λ")]


NPK_HADAMARD = Statement(
    id="dual.npk-hadamard",
    title="The kernel of a fully connected network is the input Gram matrix times the gate overlaps.",
    kind=Kind.EXACT,
    latex=r"H = \Sigma \odot \Lambda, \qquad \Lambda(x, x') = \prod_{l} \langle G_l(x), G_l(x') \rangle",
    sources=("npf, section 3", "dlgn, section 4"),
    hypotheses=(needs.FULLY_CONNECTED, needs.BIAS_FREE),
    claim=npk_is_a_hadamard_product,
    cost=costs.kernels,
    mutants=(
        Mutant("one layer left out of Λ", {"layers": _all_but_one}),
        Mutant("gates with ≥ in place of >", {"layers": _weak_inequality}),
    ),
    controls="Biases, convolutions and skips with Λ taken over all layers do not satisfy it.",
)


def _activity_of_both(listed: Paths, output: int) -> Tensor:
    return listed.overlap(output)


def _activity_of_one(listed: Paths, output: int) -> Tensor:
    n = len(listed.x)
    totals = [
        listed.activity[:, (listed.starts == i) & (listed.ends == output)].sum(1)
        for i in range(listed.x.shape[1])
    ]
    return torch.stack([t[:, None].expand(n, n) for t in totals])


def _of_both(x: Tensor) -> Tensor:
    return x[:, None] * x


def _of_the_first(x: Tensor) -> Tensor:
    return (x * x)[:, None].expand(-1, len(x), -1)


def npk_is_a_sum_of_overlaps(
    trial: Trial,
    overlap: Callable[[Paths, int], Tensor] = _activity_of_both,
    signal: Callable[[Tensor], Tensor] = _of_both,
) -> Sequence[Comparison]:
    """Compare the propagated kernel with Σ_i x(i) x'(i) overlap(i, x, x'), paths listed."""
    listed = few_paths(trial)
    bound, kind = kernel_tolerance(trial.net, trial.x, trial.gates, output=0)
    right = torch.einsum("nmi,inm->nm", signal(listed.x), overlap(listed, 0))
    return [
        Comparison(
            npk(trial.net, trial.x, output=0),
            right,
            bound,
            kind,
            what="propagated kernel against listed overlaps",
        )
    ]


NPK_OVERLAP = Statement(
    id="dual.npk-overlap",
    title="The kernel adds, over input coordinates, the paths that both inputs activate.",
    kind=Kind.EXACT,
    latex=r"H(x, x') = \sum_i x(i)\, x'(i) \sum_{p \,:\, p_0 = i} A(x, p) A(x', p)",
    sources=("npf, lemma 4.1",),
    hypotheses=(
        needs.SINGLE_PATHS,
        needs.HARD_GATES,
        needs.UNSCALED,
        needs.BIAS_FREE,
        needs.DATA_INPUT,
    ),
    claim=npk_is_a_sum_of_overlaps,
    mutants=(
        Mutant("paths that one of both activates", {"overlap": _activity_of_one}),
        Mutant("x(i)² for x(i) x'(i)", {"signal": _of_the_first}),
    ),
    controls="Bundles of several paths (global pooling).",
)


def _as_it_is(kernel: Tensor) -> Tensor:
    return kernel


def _hollow(kernel: Tensor) -> Tensor:
    return kernel - 2 * torch.diag(torch.diagonal(kernel))


def _half_for_the_first(layers: list[Tensor | None]) -> list[Tensor | None]:
    """Make soft gates: ½ and 1 in place of 1 and 1 for the first example."""
    n = next((len(g) for g in layers if g is not None), 1)
    half = torch.ones(n, 1, dtype=torch.float64)
    half[0] = 0.5
    return [None if g is None else g * half for g in layers]


def _at_least(left: Tensor, right: Tensor, bound: float, what: str, *, alive: bool) -> Comparison:
    return Comparison(right, left, bound, EvidenceKind.ROUNDING, "at most", what, alive=alive)


def kernels_are_psd(
    trial: Trial,
    kernel: Callable[[Tensor], Tensor] = _as_it_is,
    soften: Callable[[list[Tensor | None]], list[Tensor | None]] = lambda layers: layers,
) -> Sequence[Comparison]:
    """Compare smallest eigenvalues with 0, and Λ with its diagonal and with Schur's bound."""
    h = kernel(npk(trial.net, trial.x, output=0))
    found = [
        _at_least(
            torch.linalg.eigvalsh(h)[:1],
            torch.zeros(1, dtype=torch.float64),
            spectral_tolerance(h),
            "λ_min(H) ≥ 0",
            alive=bool(h.any()),  # an eigenvalue 0 of a kernel that is not 0 can be missed
        )
    ]
    chain = dense_chain(trial.net)
    hard = needs.HARD_GATES(trial.net) is None
    if chain is None or not hard or needs.BIAS_FREE(trial.net) is not None:
        return found
    layers = soften(layer_gates(chain, trial.gates))
    overlap = gate_overlap(layers, chain.hidden).expand(h.shape)
    diagonal = torch.diagonal(overlap)
    exact = float(overlap.max()) < 2**53
    if exact:
        smaller = torch.minimum(diagonal[:, None], diagonal[None, :])
        found.append(
            Comparison(
                overlap,
                smaller,
                0.0,
                EvidenceKind.EXACT,
                "at most",
                "Λ(s,s') ≤ min(Λ(s,s), Λ(s',s'))",
            )
        )
    inputs = input_gram(trial.net, trial.x)
    smallest = torch.linalg.eigvalsh(inputs)[:1] * diagonal.min()
    slack = spectral_tolerance(inputs) * float(diagonal.max()) + spectral_tolerance(h)
    found.append(
        _at_least(
            torch.linalg.eigvalsh(inputs * overlap)[:1],
            smallest,
            slack,
            "λ_min(Σ⊙Λ) ≥ λ_min(Σ) min Λ(s,s)",
            alive=bool(h.any()),
        )
    )
    return found


PSD = Statement(
    id="dual.psd",
    title="The kernels are positive semi-definite, and the overlaps obey Schur's bound.",
    kind=Kind.BOUND,
    latex=r"H \succeq 0, \quad \Lambda(s,s') \le \min(\Lambda(s,s), \Lambda(s',s')), \quad "
    r"\lambda_{min}(\Sigma \odot \Lambda) \ge \lambda_{min}(\Sigma) \min_s \Lambda(s,s)",
    sources=("npf, section 4",),
    hypotheses=(),
    claim=kernels_are_psd,
    cost=costs.kernels,
    mutants=(
        Mutant("the diagonal's sign turned", {"kernel": _hollow}),
        Mutant("soft gates ½ and 1 taken as hard", {"soften": _half_for_the_first}),
    ),
    controls="Soft gates ½ and 1 give Λ(s,s) = ¼ < Λ(s,s') = ½.",
)

STATEMENTS = (NPK_HADAMARD, NPK_OVERLAP, PSD)
