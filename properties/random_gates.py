"""Statements of gates made up by number: each repeated, or each on at random (dgn, npf)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reluctant.models import GatedNetwork, RecordedMasks, make_fc
from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.averages import tangent_average
from reluctant.properties.bounds import (
    inner_product_bound,
    kernel_tolerance,
    spectral_tolerance,
)
from reluctant.properties.gate_patterns import dense_chain_of, gate_patterns
from reluctant.properties.hadamard import entering, input_gram, layer_gates
from reluctant.properties.thinning import one_output
from reluctant.properties.weights import affordable_patterns, weight_entries
from reluctant.theory.kernels import npk, ntk_law
from reluctant.theory.network import PathNetwork
from reluctant.theory.statements import Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.verdicts import EvidenceKind

SIGMA = 2.0  # an integer keeps small integers exact
REPEATS = 4  # m; its square root is a whole number
_MOST_PRODUCTS = 2**24


def _by_root(sigma: float, repeats: int) -> float:
    return sigma / math.sqrt(repeats)


def _not_rescaled(sigma: float, repeats: int) -> float:
    return sigma


def _by_repeats(sigma: float, repeats: int) -> float:
    return sigma / repeats


def repeated_gates_keep_the_kernel(
    trial: Trial, rescaled: Callable[[float, int], float] = _by_root
) -> Sequence[Comparison]:
    """Compare d σ^(2(d−1)) H of a network with that of one m times as wide, each gate repeated."""
    chain = dense_chain_of(trial)
    wide = make_fc(
        chain.widths[0], [REPEATS * w for w in chain.hidden], generator=trial.generator
    ).double()
    x = entering(trial.net, trial.x).contiguous()
    masks = [
        torch.ones(len(x), width, dtype=torch.float64) if g is None else g
        for g, width in zip(layer_gates(chain, trial.gates), chain.hidden, strict=True)
    ]
    repeated = [g.expand(len(x), -1).repeat_interleave(REPEATS, 1) for g in masks]
    twin = GatedNetwork(wide, RecordedMasks(repeated))
    depth = len(chain.layers)

    def scaled(sigma: float, kernel: Tensor) -> Tensor:
        return depth * sigma ** (2 * (depth - 1)) * kernel

    left = scaled(SIGMA, npk(trial.net, trial.x, output=0))
    right = scaled(rescaled(SIGMA, REPEATS), npk(twin, x, output=0))
    bound, kind = kernel_tolerance(
        trial.net, trial.x, trial.gates, variance=SIGMA**2, tangent=True, passes=2 * REPEATS
    )
    what = f"d σ^(2(d−1)) H against that of gates repeated {REPEATS} times"
    return [Comparison(left, right, bound, kind, what=what)]


GATE_REPEAT = Statement(
    id="ntk.gate-repeat",
    title="Repeating every gate, with weights made smaller, leaves the expected tangent kernel.",
    kind=Kind.EXACT,
    latex=(
        r"d\, \sigma_{(m)}^{2(d-1)} H_{(m)} = d\, \sigma^{2(d-1)} H, \qquad \sigma_{(m)} = "
        r"\sigma / \sqrt{m}"
    ),
    sources=("npf, section 5", "dgn, section 4"),
    hypotheses=(needs.GATED, needs.FULLY_CONNECTED, needs.BIAS_FREE),
    claim=repeated_gates_keep_the_kernel,
    cost=costs.kernels,
    mutants=(
        Mutant("σ not rescaled", {"rescaled": _not_rescaled}),
        Mutant("σ/m for σ/√m", {"rescaled": _by_repeats}),
    ),
    controls="σ not rescaled.",
    note="So a finite set of gates has the kernel of an infinitely wide network as its limit.",
)


def _apart(mean: float) -> float:
    return mean**2


def _one_mask(mean: float) -> float:
    return mean


def _by_mean_and_width(mean: float, width: int) -> float:
    return 1.0 / (mean * width)


def _by_width(mean: float, width: int) -> float:
    return 1.0 / width


def bernoulli_gates_whiten(
    trial: Trial,
    both: Callable[[float], float] = _apart,
    variance: Callable[[float, int], float] = _by_mean_and_width,
) -> Sequence[Comparison]:
    """Compare averages over all gates, and over weights, with powers of μ; and the spectrum.

    Every pattern of gates that an input can have is gone through, with its probability. Inputs are
    a unit vector, or whatever constant feeds the paths in their place; both sides have its Σ.
    """
    patterns = gate_patterns(trial)
    width, depth, n = patterns.chain.hidden[0], len(patterns.chain.layers), len(trial.x)
    x, gates, mean = patterns.x, patterns.gates, patterns.mean
    net = one_output(trial.net.at(x), 0)
    unit = input_gram(net, x[:1])[0]  # positive terms
    off_unit = inner_product_bound(entering(net, x).shape[1], unit)
    means = [(mean * width) ** (depth - 1), (both(mean) * width) ** (depth - 1)]
    powers = torch.tensor(means, dtype=torch.float64)
    kernel = npk(net, x, gates=(gates, gates))
    bound, kind = kernel_tolerance(net, x, gates, passes=1)
    slack = patterns.tolerance(kernel, bound) + powers * off_unit
    if kind is EvidenceKind.EXACT and patterns.averages_exactly(kernel):
        slack = torch.zeros_like(slack)
    else:
        kind = EvidenceKind.ROUNDING
    what = f"E Λ over every pattern of gates on with chance {mean:g}"
    comparisons = [Comparison(patterns.average(kernel), powers * unit, slack, kind, what=what)]
    kernel, off = _expected_kernel(trial, net, x, gates, variance(mean, width))
    gram = patterns.average(kernel) / depth
    law = torch.tensor([1.0, (both(mean) / mean) ** (depth - 1)], dtype=torch.float64)
    # The division, σ = √σ² to the power 2(d − 1), and the powers of μ round 8 d times in all.
    slack = patterns.tolerance(kernel, off) / depth + off_unit
    slack = slack + inner_product_bound(8 * depth, gram.abs() + law * unit)
    rounding, what = EvidenceKind.ROUNDING, "E[K]/d at σ² = 1/(μw)"
    comparisons.append(Comparison(gram, law * unit, slack, rounding, what=what))
    matrix = gram[1] + (gram[0] - gram[1]) * torch.eye(n, dtype=torch.float64)
    values = torch.linalg.eigvalsh(matrix)
    spectrum = unit * torch.cat([(1 - law[1]).expand(n - 1), (1 + (n - 1) * law[1])[None]])
    slack, what = n * slack.max() + spectral_tolerance(matrix), "eigenvalues of E[K]/d"
    comparisons.append(Comparison(values, spectrum, slack, rounding, what=what))
    return comparisons


def _expected_kernel(
    trial: Trial, net: PathNetwork, x: Tensor, gates: list[Tensor], variance: float
) -> tuple[Tensor, Tensor | float]:
    """Return E_v[K] at given gates, by every sign pattern of few weights; and its rounding."""
    sigma = math.sqrt(variance)
    entries = weight_entries(trial, sigma, gates, x, net)
    dear = entries.patterns * len(x) ** 2 > _MOST_PRODUCTS
    if not dear and entries.patterns <= affordable_patterns(trial):
        average = tangent_average(trial, sigma, gates=gates, x=x, net=net)
        return average.mean, average.half_width
    law = ntk_law(net, x, variance=variance, gates=(gates, gates))
    return law, kernel_tolerance(net, x, gates, variance=variance, tangent=True, passes=1)[0]


BERNOULLI_GATES = Statement(
    id="ntk.bernoulli-gates",
    title="With gates on at random, for each unit and input, depth whitens the tangent kernel.",
    kind=Kind.EXPECTED,
    latex=(
        r"E \Lambda(s, s) = (\mu w)^{d-1}, \; E \Lambda(s, s') = (\mu^2 w)^{d-1}; \quad \sigma^2 = "
        r"\tfrac{1}{\mu w} \Rightarrow \mathrm{spec}\, \tfrac{1}{d} E[K] = \{1 + (n-1) \mu^{d-1}, "
        r"1 - \mu^{d-1}, \dots\}"
    ),
    sources=("dgn, section 4", "npf, section 5"),
    hypotheses=(needs.FULLY_CONNECTED, needs.EQUAL_WIDTHS, needs.BIAS_FREE, needs.UNTIED),
    claim=bernoulli_gates_whiten,
    cost=costs.kernels,
    mutants=(
        Mutant("one mask for all examples", {"both": _one_mask}),
        Mutant("σ² = 1/w, without μ", {"variance": _by_width}),
    ),
    controls="One mask for all examples: no whitening.",
    note="The recorded gates play no part: every pattern takes their place, and Σ = 1.",
)

STATEMENTS = (GATE_REPEAT, BERNOULLI_GATES)
