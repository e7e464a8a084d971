"""Statement of the expected tangent kernel of pooled convolutions (dlgn, ckl)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from reluctant.properties import costs, shifts
from reluctant.properties import hypotheses as needs
from reluctant.properties.averages import tangent_average
from reluctant.properties.bounds import kernel_tolerance
from reluctant.properties.thinning import thinned
from reluctant.theory.kernels import npk
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Weighted
from reluctant.theory.pooled import pooled_chain
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.verdicts import EvidenceKind

_SIGMA_CV, _SIGMA_FC = 2.0, 0.5  # different, not 1, and powers of two


def _beta(d_cv: int, d_fc: int) -> float:
    return (
        d_cv * _SIGMA_CV ** (2 * (d_cv - 1)) * _SIGMA_FC ** (2 * d_fc)
        + d_fc * _SIGMA_CV ** (2 * d_cv) * _SIGMA_FC ** (2 * (d_fc - 1))
    )  # fmt: skip


def _beta_of_convolutions(d_cv: int, d_fc: int) -> float:
    return d_cv * _SIGMA_CV ** (2 * (d_cv - 1)) * _SIGMA_FC ** (2 * d_fc)


def _beta_of_all_weights(d_cv: int, d_fc: int) -> float:
    return (d_cv + d_fc) * _SIGMA_CV ** (2 * d_cv) * _SIGMA_FC ** (2 * d_fc)


def tangent_kernel_is_proportional(
    trial: Trial, beta: Callable[[int, int], float] = _beta
) -> Sequence[Comparison]:
    """Compare the expected tangent kernel, by enumeration or sampling of signs, with β H."""
    net, chain = trial.net, pooled_chain(trial.net)
    if chain is None:
        raise CannotTry("β is defined for convolutions pooled once, over all positions")
    sigma = {net.weights[node.weight].name: _SIGMA_FC for node in net.weighted}
    sigma |= {net.weights[node.weight].name: _SIGMA_CV for node in _layers(net, chain.convolutions)}
    small = thinned(trial, sigma)
    x, gates = small.x, small.gates
    average = tangent_average(trial, sigma, gates=gates, x=x)
    depths, outputs = (len(chain.convolutions), len(chain.dense)), net.output_size
    h = npk(net, x, x, output=0, gates=(gates, gates))
    off, _ = kernel_tolerance(net, x, gates)
    bound = average.half_width + outputs * _beta(*depths) * torch.as_tensor(off)
    sampled = average.kind is EvidenceKind.STATISTICAL
    return [
        Comparison(
            average.mean,
            outputs * beta(*depths) * h,
            bound,
            EvidenceKind.STATISTICAL if sampled else EvidenceKind.ROUNDING,
            what=f"E[K_v] over {'drawn' if sampled else 'all'} signs against β H",
            error_probability=average.error_probability,
            rival=outputs * _beta_of_convolutions(*depths) * h if sampled else None,
        )
    ]


def _layers(net: PathNetwork, nodes: Sequence[int]) -> list[Weighted]:
    return [node for node in (net.nodes[i] for i in nodes) if isinstance(node, Weighted)]


NTK = Statement(
    id="conv.ntk",
    title="With fixed gates the expected tangent kernel is a multiple of the path kernel.",
    kind=Kind.EXPECTED,
    latex=(
        r"E[K_v] = \beta_{cv} H, \quad \beta_{cv} = d_{cv} \sigma_{cv}^{2(d_{cv}-1)} "
        r"\sigma_{fc}^{2 d_{fc}} + d_{fc} \sigma_{cv}^{2 d_{cv}} \sigma_{fc}^{2(d_{fc}-1)}"
    ),
    sources=("dlgn, on convolution with global pooling", "ckl, on convolution"),
    hypotheses=(shifts.AVERAGED, shifts.ALL_SHIFTS, needs.BIAS_FREE, needs.UNTIED),
    claim=tangent_kernel_is_proportional,
    cost=costs.kernels,
    mutants=(
        Mutant("d_fc left out", {"beta": _beta_of_convolutions}),
        Mutant("σ^(2d) for σ^(2(d−1))", {"beta": _beta_of_all_weights}),
    ),
    controls="d_fc left out of β.",
    note=(
        f"Tried at σ_cv = {_SIGMA_CV:g}, σ_fc = {_SIGMA_FC:g}; K_v is the trace over the outputs. "
        "E[K_v] = β H needs no circular padding; its form as a sum over rotations does."
    ),
)

STATEMENTS = (NTK,)
