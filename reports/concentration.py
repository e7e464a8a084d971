"""How fast the tangent kernel of a network with fixed gates comes to its law as width grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reluctant.reports.exhibits import (
    Column,
    Exhibit,
    Figure,
    Table,
    derived,
    label,
    mean_and_spread,
    ours,
)
from reluctant.reports.experiment import Experiment, Profile
from reluctant.reports.records import Record, group
from reluctant.reports.style import QUIET, make_axes

_INPUTS: Final = 8
_EXAMPLES: Final = 12


@dataclass(frozen=True, slots=True)
class Setting:
    """Name one draw of gates, inputs and value weights."""

    depth: int
    width: int
    seed: int


class Concentration(Experiment[Setting]):
    """Measure the error of the law at growing width, and the exponent with which it falls."""

    name = "concentration"
    title = "The tangent kernel against its law as width grows"
    about = (
        "With gates that do not depend on the value weights, the expected tangent kernel of a "
        "fully connected network is $d\\,\\sigma^{2(d-1)} H$ at any width; the kernel of a single "
        "draw of weights comes to it at the rate $w^{-1/2}$ when the depth is fixed. Gates are "
        "drawn at random, weights are $\\pm\\sigma$ with $\\sigma = \\sqrt{2/w}$, and the error is "
        "that of the whole matrix relative to its law, in the Frobenius norm."
    )
    statements = ("ntk.fc-expectation", "ntk.fc-limit")
    papers = ("npf", "dgn")

    def grid(self, profile: Profile) -> tuple[Setting, ...]:
        """Return depths, widths and seeds."""
        widths = {
            "smoke": (8, 32),
            "quick": (8, 16, 32, 64, 128, 256, 512),
            "full": (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
        }[profile]
        depths = (3,) if profile == "smoke" else (2, 3, 5)
        seeds = {"smoke": 2, "quick": 8, "full": 32}[profile]
        return tuple(Setting(d, w, s) for d in depths for w in widths for s in range(seeds))

    def run(self, config: Setting) -> Mapping[str, Any]:
        """Return the relative error of one draw."""
        random = np.random.default_rng([config.seed, config.depth, config.width])
        x = random.standard_normal((_EXAMPLES, _INPUTS)) / math.sqrt(_INPUTS)
        hidden = config.depth - 1
        gates = random.integers(0, 2, size=(hidden, _EXAMPLES, config.width)).astype(float)
        sigma = math.sqrt(2 / config.width)
        sizes = [_INPUTS, *[config.width] * hidden, 1]
        weights = [sigma * random.choice((-1.0, 1.0), size=shape) for shape in pairwise(sizes)]
        kernel = _tangent_kernel(x, gates, weights)
        paths = np.prod(gates @ gates.transpose(0, 2, 1), axis=0)
        law = config.depth * sigma ** (2 * hidden) * (x @ x.T) * paths
        return {"error": float(np.linalg.norm(kernel - law) / np.linalg.norm(law))}

    def cost(self, config: Setting) -> float:
        """Return the number of products in the matrices of weights."""
        return float(1 + config.depth * config.width**2 / 1e5)

    def draw(self, records: Sequence[Record]) -> tuple[Exhibit, ...]:
        """Return the decay by width, and the fitted exponents."""
        canvas, axes = make_axes(height=2.2)
        rows = []
        for (depth,), members in group(records, "depth").items():
            by_width = group(members, "width")
            widths = [width for (width,) in by_width]
            points = [mean_and_spread(r["error"] for r in runs) for runs in by_width.values()]
            means, spreads = zip(*points, strict=True)
            axes.errorbar(widths, means, spreads, label=f"$d = {depth}$")
            narrowest, *_ = by_width.values()
            *_, widest = by_width.values()
            slope, radius = fitted_exponent(members)
            rows.append(
                (
                    label(str(depth)),
                    ours(narrowest, "error", digits=3),
                    ours(widest, "error", digits=3),
                    derived(slope, members, "slope of log error on log width"),
                    derived(radius, members, "half-width of the 95 % interval"),
                )
            )
        low, high = axes.get_xlim()[0], max(r.config["width"] for r in records)
        guide = np.array([max(low, 8), high])
        axes.plot(guide, 1.1 * guide**-0.5, color=QUIET, lw=0.7, ls=":", marker="", zorder=1)
        middle = float(np.sqrt(guide[0] * guide[1]))
        axes.annotate("$w^{-1/2}$", (middle, 1.1 * middle**-0.5), color=QUIET, ha="right", va="top",
                      xytext=(-2, -2), textcoords="offset points", fontsize=7.5)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="width $w$", ylabel="relative error")
        axes.legend()
        return (
            Figure(
                "concentration-decay",
                "Error of the tangent kernel of one draw of $\\pm\\sigma$ weights relative to "
                "$d\\,\\sigma^{2(d-1)} H$, with one standard deviation over draws. The dotted "
                "line falls like $w^{-1/2}$.",
                "Relative error against width on logarithmic axes, one line a depth. All lines "
                "fall parallel to the dotted line of slope minus one half; deeper networks lie "
                "higher.",
                canvas,
            ),
            Table(
                "concentration-rates",
                "Fitted exponent of the decay in width by depth, with the half-width of its 95 % "
                "interval; theory says $-1/2$.",
                (
                    Column("$d$"),
                    Column("narrowest", "ours"),
                    Column("widest", "ours"),
                    Column("exponent", "ours"),
                    Column("±", "ours"),
                ),
                tuple(rows),
            ),
        )


def fitted_exponent(records: Sequence[Record]) -> tuple[float, float]:
    """Return the slope of log error on log width, and half its 95 % interval.

    The interval is Student's for the residuals of the line, so it is about the range of widths
    that was run and says nothing about smaller corrections to the power.
    """
    widths = np.log([float(r.config["width"]) for r in records])
    errors = np.log([float(r["error"]) for r in records])
    if len(set(widths.tolist())) < 2 or len(widths) < 3:
        return math.nan, math.nan
    fit = stats.linregress(widths, errors)
    return float(fit.slope), float(fit.stderr * stats.t.ppf(0.975, len(widths) - 2))


def _tangent_kernel(
    x: NDArray[Any], gates: NDArray[Any], weights: list[NDArray[Any]]
) -> NDArray[Any]:
    """Sum over layers the Gram matrices of what enters a layer times those of what leaves it."""
    entering = [x]
    for mask, weight in zip(gates, weights, strict=False):
        entering.append((entering[-1] @ weight) * mask)
    leaving = np.ones((len(x), 1))
    kernel = np.zeros((len(x), len(x)))
    for layer in range(len(weights) - 1, -1, -1):
        kernel += (entering[layer] @ entering[layer].T) * (leaving @ leaving.T)
        if layer > 0:
            leaving = (leaving @ weights[layer].T) * gates[layer - 1]
    return kernel
