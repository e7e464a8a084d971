"""Statements of the variance of the tangent kernel over random value weights (npf, dgn)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations_with_replacement
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap

from reluctant.properties import hypotheses as needs
from reluctant.properties.bounds import is_integral
from reluctant.properties.hadamard import entering, layer_gates
from reluctant.properties.tangent_moments import (
    GAUSSIAN,
    SIGNS,
    GateSums,
    open_variance,
    tangent_moments,
)
from reluctant.properties.thinning import one_output
from reluctant.properties.weights import WeightEntries, affordable_patterns, weight_entries
from reluctant.theory.network import PathNetwork
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
from reluctant.theory.verdicts import EvidenceKind, Unmet

SIGMA = 2  # an integer keeps integers exact
_EXACT_BELOW = 2.0**53
_EVERY_WIDTH = 8  # depth up to which every width is tried
Vector = Sequence[Fraction]
Opened = Callable[[Vector, Sequence[GateSums], Sequence[int]], tuple[Vector, Sequence[GateSums]]]
Shape = Callable[[int, int, int], Fraction]


def _at_most_one(net: PathNetwork) -> Iterator[Unmet]:
    made = {node.name: node for node in net.program.graph.nodes}
    for g in net.value_gates:
        layer = net.gate_layers[g]
        low = layer.low()
        if layer.hard or (layer.kind == "leaky" and bool(((low >= 0) & (low <= 1)).all())):
            continue
        node = made.get(layer.made_by)
        is_logistic = node is not None and str(node.target).startswith("reluctant.gate")
        excess = float(str(node.args[2])) if is_logistic and len(node.args) > 2 else 0.0  # type: ignore[union-attr]
        if not is_logistic or excess > 0:
            reason = f"the gates of {layer.name} can exceed 1"
            yield Unmet("gates at most 1", reason, layer.place)


AT_MOST_ONE = Hypothesis("gates at most 1", "Every gate lies in [0, 1].", _at_most_one)


def _magnitudes(
    x: Vector, gates: Sequence[GateSums], widths: Sequence[int]
) -> tuple[Vector, Sequence[GateSums]]:
    """Take |x| for x, and all gates on."""
    return [abs(a) for a in x], [GateSums.open(Fraction(width)) for width in widths]


def _one_unit_less(
    x: Vector, gates: Sequence[GateSums], widths: Sequence[int]
) -> tuple[Vector, Sequence[GateSums]]:
    return [abs(a) for a in x], [GateSums.open(Fraction(width - 1)) for width in widths]


def _relative(mean: Fraction, variance: Fraction) -> Fraction:
    return variance / mean**2 if mean else Fraction(0)


def _absolute(mean: Fraction, variance: Fraction) -> Fraction:
    return variance


def _fractions(t: Tensor) -> list[list[Fraction]]:
    return [[Fraction(value) for value in row] for row in t.double().flatten(1).tolist()]


def _sums(chain: DenseChain, trial: Trial) -> list[list[list[Fraction]]]:
    """Return the gates of each hidden layer, input and unit, as exact numbers."""
    count = len(trial.x)
    return [
        _fractions(torch.ones(count, width) if g is None else g.expand(count, width))
        for g, width in zip(layer_gates(chain, trial.gates), chain.hidden, strict=True)
    ]


def variance_grows_with_gates_and_inputs(
    trial: Trial,
    kurtosis: int = SIGNS,
    of: Callable[[Fraction, Fraction], Fraction] = _absolute,
    opened: Opened = _magnitudes,
) -> Sequence[Comparison]:
    """Compare Var K_v at pairs of inputs with that at their magnitudes, all gates on.

    Both by the moments of layer after layer, in exact numbers; where there are few weights the
    moments are compared with those over every sign pattern.
    """
    chain = dense_chain(trial.net)
    if chain is None:
        raise CannotTry("the moments are known for a chain of dense layers")
    inputs = _fractions(entering(trial.net, trial.x))
    layers = _sums(chain, trial)
    v = Fraction(SIGMA**2)
    left, right, found = [], [], []
    for i, j in combinations_with_replacement(range(len(inputs)), 2):
        sums = [GateSums.of(g[i], g[j]) for g in layers]
        moments = tangent_moments(inputs[i], inputs[j], sums, v, kurtosis)
        found.append(moments[1])
        left.append(of(*moments))
        x, open_sums = opened(inputs[i], sums, chain.hidden)
        y, _ = opened(inputs[j], sums, chain.hidden)
        right.append(of(*tangent_moments(x, y, open_sums, v)))
    exact, what = EvidenceKind.EXACT, "Var K_v against all gates on, by moments"
    return [
        Comparison(_numbers(left), _numbers(right), 0.0, exact, "at most", what),
        *_by_every_pattern(trial, found),
    ]


def _by_every_pattern(trial: Trial, moments: Sequence[Fraction]) -> list[Comparison]:
    """Compare variances found by moments with those over every sign pattern, in whole numbers."""
    entries = weight_entries(trial, float(SIGMA), net=one_output(trial.net, 0))
    integral = is_integral(entries.net, entries.x, entries.gates, [])
    if not integral or entries.patterns > affordable_patterns(trial):
        return []
    kernels = kernels_by_pattern(entries)
    if float(kernels.abs().max()) >= _EXACT_BELOW:
        return []
    variances = []
    for i, j in combinations_with_replacement(range(len(trial.x)), 2):
        drawn = [int(k) for k in kernels[:, i, j].tolist()]
        mean = Fraction(sum(drawn), len(drawn))
        variances.append(Fraction(sum(k * k for k in drawn), len(drawn)) - mean**2)
    sides = [_numbers(side) for side in (variances, moments)]
    what = "Var K_v by every sign pattern against moments"
    return [Comparison(sides[0], sides[1], 0.0, EvidenceKind.EXACT, what=what)]


def _numbers(values: Sequence[Fraction]) -> Tensor:
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def kernels_by_pattern(entries: WeightEntries) -> Float[Tensor, "patterns n n"]:
    """Return the tangent kernel of the first output at every sign pattern of the weights.

    Outputs are linear in each weight, so a slope is half the difference of two outputs over σ.

    Cost:
        One forward pass a pattern.
    """
    count = len(entries.signed)
    bits = torch.arange(entries.patterns)[:, None] >> torch.arange(count) & 1
    rows = entries.with_signs(1.0 - 2.0 * bits.double())
    f: Tensor = vmap(entries.output, chunk_size=1024)(rows)[..., 0]  # (pattern, n)
    n = f.shape[1]
    kernels = f.new_zeros(len(f), n, n)
    for j, entry in enumerate(entries.signed.tolist()):
        halves = f.reshape(-1, 2, 2**j, n)
        slope = (halves[:, :1] - halves[:, 1:]) / (2 * entries.sigmas[entry])
        flat = slope.expand(-1, 2, -1, -1).reshape(len(f), n)
        kernels = kernels + flat[:, :, None] * flat[:, None, :]
    return kernels


FC_VARIANCE = Statement(
    id="ntk.fc-variance",
    title="The tangent kernel varies most with all gates on and inputs that are not negative.",
    kind=Kind.BOUND,
    latex=(
        r"\mathrm{Var}\, K_v(x, x') \le \mathrm{Var}\, K_v^{G = 1}(|x|, |x'|) "
        r"\quad \text{for weights } \pm\sigma, \; G \in [0, 1]"
    ),
    sources=("npf, section 5 (variance)", "dgn, section 4"),
    hypotheses=(needs.FULLY_CONNECTED, needs.BIAS_FREE, needs.UNTIED, AT_MOST_ONE),
    claim=variance_grows_with_gates_and_inputs,
    mutants=(
        Mutant("Gaussian weights against ±σ", {"kurtosis": GAUSSIAN}),
        Mutant("variances over squared means", {"of": _relative}),
        Mutant("one unit of each layer shut on the right", {"opened": _one_unit_less}),
    ),
    controls="Gaussian weights: ⟨∇v_p, ∇v_p⟩ is no longer constant. Gates above 1.",
    note=(
        "The gates are held as recorded. With all gates on, x = 1 and σ² = 1/w the variance is "
        "4 (1² + … + (d−2)²)/w + O(w^(−2)): of order 1/w at fixed d, and d³/w as d grows."
    ),
)


def _printed(depth: int, width: int, inputs: int) -> Fraction:
    """Return the printed bound at σ² = 1/w, without its constant."""
    larger = max(depth**2 * width ** (2 * depth - 3), depth**3 * width ** (2 * depth - 4))
    return Fraction(inputs**2 * larger, width ** (2 * depth - 2))


def _cubic(depth: int, width: int, inputs: int) -> Fraction:
    return Fraction(inputs**2 * depth**3, width)


def _width_allowed(depth: int) -> int:
    """Return the least w with 4 d / w² < 1."""
    return isqrt(4 * depth) + 1


def _width_at_least_depth(depth: int) -> int:
    return max(depth, _width_allowed(depth))


@cache
def _first_above(
    constant: Fraction, shape: Shape, depths: tuple[int, int], least: Callable[[int], int]
) -> tuple[int, int]:
    """Return the first depth, and then width, whose variance is above the constant times a shape.

    Every width up to 8 d is tried for small depths, and doubled ones for others. If none is above,
    the last tried is returned.
    """
    depth = width = 0
    for depth in range(*depths):
        widths: Sequence[int] = range(least(depth), 8 * depth + 1)
        if depth > _EVERY_WIDTH:
            widths = [least(depth) * 2**k for k in range(5)]
        for width in widths:
            moments = tangent_moments([1.0], [1.0], [GateSums.open(width)] * (depth - 1), 1 / width)
            if moments[1] > float(constant * shape(depth, width, 1)):
                return depth, width
    return depth, width


def variance_has_the_printed_order(
    trial: Trial,
    shape: Shape = _printed,
    constants: Sequence[Fraction] = (Fraction(1), Fraction(10), Fraction(100)),
    depths: tuple[int, int] = (2, 97),
    least: Callable[[int], int] = _width_allowed,
) -> Sequence[Comparison]:
    """Compare exact variances of networks of growing depth with C times what is printed.

    One input coordinate 1, all gates on, weights ±w^(−1/2). Whatever C, some depth is too much.
    """
    found = []
    for constant in constants:
        depth, width = _first_above(constant, shape, depths, least)
        left, right = open_variance(depth, width), constant * shape(depth, width, 1)
        what = f"Var K_v at d = {depth}, w = {width} against {constant} times what is printed"
        numbers = {
            "d": depth, "w": width, "n_in": 1, "C": str(constant), "sigma squared": f"1/{width}",
            "weights": "±sigma, every sign pattern", "x": [[1.0]], "gates": "all on",
            "left": str(left), "right": str(right),
        }  # fmt: skip
        sides = _numbers([left]), _numbers([right])
        found.append(Comparison(*sides, 0.0, EvidenceKind.EXACT, "at most", what, numbers=numbers))
    return found


FC_VARIANCE_PRINTED = Statement(
    id="ntk.fc-variance-printed",
    title="One constant bounds the variance at every depth by d² or d³ times powers of the width.",
    kind=Kind.FALSE_AS_PRINTED,
    latex=(
        r"\mathrm{Var}\, K_v \le C\, n_{in}^2\, \sigma^{4(d-1)} \max\{d^2 w^{2(d-2)+1},"
        r"d^3 w^{2(d-2)}\} \quad (4d/w^2 < 1)"
    ),
    sources=("npf, theorem 5.1 (variance)", "dgn, section 4 (variance)"),
    hypotheses=(needs.FULLY_CONNECTED, needs.BIAS_FREE),
    claim=variance_has_the_printed_order,
    mutants=(
        Mutant(
            "4 d³/w, for w ≥ d",
            {"shape": _cubic, "constants": (Fraction(4),), "least": _width_at_least_depth},
        ),
        Mutant("depth 2 only, where nothing varies", {"depths": (2, 3)}),
    ),
    controls="d = 2, n_in = 1: Var = 0.",
    note=(
        "At fixed d the rate in w is right. Uniformly in d it is not: with σ² = 1/w, n_in = 1 and "
        "all gates on w Var K_v → 4 (1² + … + (d−2)²), which grows as d³, where d² is printed."
    ),
    corrected="ntk.fc-variance",
    draws_networks=True,
)

STATEMENTS = (FC_VARIANCE, FC_VARIANCE_PRINTED)
