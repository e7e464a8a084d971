"""The limit of the tangent kernel as a fully connected network widens (npf, dgn)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.widths import (
    Estimate,
    Law,
    Pair,
    arc_cosine_products,
    fitted_rate,
    gate_products,
    mean_estimate,
    pair_of,
    tangent_samples,
)
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.structure import dense_chain
from reluctant.theory.verdicts import EvidenceKind


def _depth_and_gain(pair: Pair, gain: float) -> float:
    return pair.depth * gain ** (2 * (pair.depth - 1))


def _gain_only(pair: Pair, gain: float) -> float:
    return gain ** (2 * (pair.depth - 1))


def _gain_once(pair: Pair, gain: float) -> float:
    return pair.depth * gain ** (pair.depth - 1)


def tangent_kernel_converges(
    trial: Trial,
    coefficient: Callable[[Pair, float], float] = _depth_and_gain,
    overlap: Law = gate_products,
    rate: float = 0.5,
) -> Sequence[Comparison]:
    """Compare tangent kernels of widening networks with their law, and the rate with ½.

    The networks have the trial's depth, inputs and random gates independent of the values.
    """
    chain = dense_chain(trial.net)
    if chain is None:
        raise CannotTry("the law is one for a chain of dense layers")
    pair = pair_of(trial, len(chain.layers))
    if not bool(pair.gram.any()):
        zero = torch.zeros(1, dtype=torch.float64)
        return [Comparison(zero, zero, 0.0, EvidenceKind.STATISTICAL, what="all inputs are 0")]
    samples = tangent_samples(pair, trial.generator)
    gain = samples.gain

    wrong: dict[str, tuple[Callable[[Pair, float], float], Law]] = {
        "no d": (_gain_only, gate_products),
        "c^(d−1)": (_gain_once, gate_products),
    }
    if pair.is_telling:
        wrong["order-1 arc-cosine"] = (_depth_and_gain, arc_cosine_products(1))
    chance = trial.error_probability / (len(wrong) + 1)  # one more for the rate

    def law(of: Callable[[Pair, float], float], products: Law) -> Estimate:
        return mean_estimate(samples, of(pair, gain), products, chance)

    found = law(coefficient, overlap)
    rivals = {name: law(of, products) for name, (of, products) in wrong.items()}
    comparisons = [
        Comparison(
            found.kernel,
            found.law,
            found.half_width,
            EvidenceKind.STATISTICAL,
            what=f"mean K_v at width {samples.widths[-1]}, not {name}",
            error_probability=found.error_probability,
            rival=rival.law,
        )
        for name, rival in rivals.items()
    ]
    slope, half_width = fitted_rate(samples, coefficient(pair, gain), overlap, chance)
    if slope.numel():
        comparisons.append(
            Comparison(
                slope,
                torch.full_like(slope, rate),
                half_width,
                EvidenceKind.STATISTICAL,
                what="rate of the error in w",
                estimate="rate of the error in w",
                error_probability=chance,
                rival=torch.full_like(slope, 1.0),
            )
        )
    return comparisons


FC_LIMIT = Statement(
    id="ntk.fc-limit",
    title="As the width grows the tangent kernel converges, at the rate of the root of the width.",
    kind=Kind.LIMIT,
    latex=(
        r"K_v \to d\, c^{2(d-1)} \langle x, x' \rangle \prod_l \langle G_l, G_l' \rangle / w, "
        r"\qquad \text{error } O(w^{-1/2})"
    ),
    sources=("npf, theorem 5.1", "dgn, section 4"),
    hypotheses=(needs.FULLY_CONNECTED, needs.BIAS_FREE, needs.GATED, needs.DATA_INPUT),
    claim=tangent_kernel_converges,
    cost=costs.kernels,
    mutants=(
        Mutant("d missing", {"coefficient": _gain_only}),
        Mutant("c^(d−1) for c^(2(d−1))", {"coefficient": _gain_once}),
        Mutant("order-1 for order-0 arc-cosine", {"overlap": arc_cosine_products(1)}),
        Mutant("rate 1 for ½", {"rate": 1.0}),
    ),
    controls="The nearest wrong laws, each excluded by the interval.",
    note=(
        "Measured on networks of the given depth and inputs. The intervals are Student's, valid "
        "for many draws only; the rate is fitted as log rmse = a − s log w + b/w."
    ),
    draws_networks=True,
)
