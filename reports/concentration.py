"""How fast the tangent kernel of a network with fixed gates comes to its law as width grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from reluctant.models import (
    Architecture,
    FeatureNetwork,
    GatedNetwork,
    copy_fresh,
    he,
    initialise,
    make_conv,
    make_fc,
    make_residual,
    signs,
)
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
from reluctant.reports.intervals import fitted_exponent
from reluctant.reports.records import Record, group
from reluctant.reports.style import COLOURS, LINES, MARKERS, QUIET, make_axes
from reluctant.theory.kernels import ntk_law
from reluctant.theory.tangents import value_kernel
from reluctant.theory.tracing import trace

_EXAMPLES: Final = 6
_OWN: Final = "own gates, d = 3"

#: Input shape, and the network of a given width.
_NETWORKS: Final[Mapping[str, tuple[tuple[int, ...], Callable[..., Architecture]]]] = {
    **{
        f"d = {depth}": ((8,), lambda w, depth=depth, **k: make_fc((8,), [w] * (depth - 1), **k))
        for depth in (2, 3, 5)
    },
    "convolutional": ((1, 6), lambda w, **k: make_conv((1, 6), [w] * 2, **k)),
    "two skips": ((8,), lambda w, **k: make_residual((8,), w, skips=2, **k)),
    _OWN: ((8,), lambda w, **k: make_fc((8,), [w] * 2, **k)),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Name one draw of inputs and gates, at which the value weights are drawn several times."""

    network: str
    width: int
    draws: int
    seed: int


class Concentration(Experiment[Setting]):
    """Measure the error of the law at growing width, and the exponent with which it falls."""

    name = "concentration"
    title = "The tangent kernel against its law as width grows"
    about = (
        "With gates that do not depend on the value weights, the expected tangent kernel is a "
        "derivative of the neural path kernel, at any width: $d\\,\\sigma^{2(d-1)} H$ for a fully "
        "connected network with one $\\sigma$. The kernel of a single draw of weights comes to it "
        "at the rate $w^{-1/2}$ when the depth is fixed. The gates are those of a second random "
        "network, drawn independently and held; the value weights are $\\pm\\sigma$ with "
        "$\\sigma^2 = 2/w$, divided by the window's size in a convolution, and are drawn anew; "
        "inputs are Gaussian. The error is that of the matrix of all pairs of inputs relative to "
        "its law, in the Frobenius norm. The control is a network with its own gates, which do depend on the "
        "weights: there the law is not implied."
    )
    statements = (
        "ntk.fc-expectation",
        "ntk.fc-limit",
        "conv.ntk",
        "skip.ntk",
        "ntk.dependent-gates",
    )
    papers = ("npf", "dgn", "dlgn")
    code = ("reluctant.models", "reluctant.theory", "reluctant.reports.intervals")

    def grid(self, profile: Profile) -> tuple[Setting, ...]:
        """Return networks, widths and seeds."""
        widths, draws, seeds = {
            "smoke": ((4, 8, 16), 4, 1),
            "quick": ((8, 16, 32, 64, 128), 20, 3),
            "full": ((8, 16, 32, 64, 128, 256, 512, 1024), 16, 16),
        }[profile]
        networks = ("d = 3", _OWN) if profile == "smoke" else tuple(_NETWORKS)
        return tuple(
            Setting(network, width, draws, seed)
            for network in networks
            for width in widths
            for seed in range(seeds)
        )

    def run(self, config: Setting) -> Mapping[str, Any]:
        """Return the relative error of each draw, their root mean square, and that of the mean."""
        draws = torch.Generator().manual_seed(config.seed)  # the same inputs at every width
        shape, make = _NETWORKS[config.network]
        x = torch.randn(_EXAMPLES, *shape, generator=draws, dtype=torch.float64)
        value = make(config.width, generator=draws, dtype=torch.float64)
        module: nn.Module = value
        if config.network != _OWN:
            features = FeatureNetwork(copy_fresh(value, he(), draws), frozen=True)
            module = GatedNetwork(value, features)
        net = trace(module, x)
        variance = {name: _variance(p, config.width) for name, p in module.named_parameters()}
        law_of_values = signs([math.sqrt(_variance(p, config.width)) for p in value.parameters()])
        pairs: list[tuple[Tensor, Tensor]] = []
        for _ in range(config.draws):
            initialise(value, law_of_values, draws)
            kernel = value_kernel(net, x, net.gates(x), net.weight_values())
            is_same = pairs and config.network != _OWN
            law = pairs[0][1] if is_same else ntk_law(net, x, variance=variance)
            pairs.append((kernel, law))
        errors = [float((kernel - law).norm() / law.norm()) for kernel, law in pairs]
        mean, law = (torch.stack(matrices).mean(0) for matrices in zip(*pairs, strict=True))
        return {
            "errors": errors,
            "error": math.sqrt(math.fsum(e * e for e in errors) / len(errors)),
            "error of the mean": float((mean - law).norm() / law.norm()),
        }

    def cost(self, config: Setting) -> float:
        """Return the number of weights of the hidden layers, in a rough unit."""
        return 1.0 + config.draws * config.width**2 / 2e5

    def draw(self, records: Sequence[Record]) -> tuple[Exhibit, ...]:
        """Return the decay by width, and the fitted exponents."""
        rows = []
        for (network,), runs in group(records, "network").items():
            slope, radius = fitted_exponent(*_points(runs))
            by_width = list(group(runs, "width").values())
            rows.append(
                (
                    label(f"fully connected, {network}" if network.startswith("d") else network),
                    ours(by_width[0], "error", digits=3),
                    ours(by_width[-1], "error", digits=3),
                    derived(slope, runs, "slope of log error on log width"),
                    derived(radius, runs, "half-width of Student's 95 % interval"),
                )
            )
        widths = sorted({int(r.config["width"]) for r in records})
        return (
            _picture(records),
            Table(
                "concentration-rates",
                f"Relative error at the narrowest and the widest network ($w = {widths[0]}$ and "
                f"${widths[-1]}$; mean and standard deviation over draws of gates), and the fitted "
                "exponent of its decay with the half-width of its 95 % interval; theory says "
                "$-1/2$ for all but own gates.",
                (
                    Column("network"),
                    Column("narrowest", "ours"),
                    Column("widest", "ours"),
                    Column("exponent", "ours"),
                    Column("±", "ours"),
                ),
                tuple(rows),
                width="page",
            ),
        )


def _variance(weight: Tensor, width: int) -> float:
    """Return σ² of a layer: 2/w, divided by the size of its window."""
    return 2 / (width * weight[0, 0].numel())


def _points(records: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Return the width and the error of every draw of gates.

    Draws of values at the same gates are not independent of each other, so they count as one.
    """
    return [float(r.config["width"]) for r in records], [float(r["error"]) for r in records]


def _picture(records: Sequence[Record]) -> Figure:
    found = group(records, "network")
    dense = {key: runs for (key,), runs in found.items() if key.startswith("d ")}
    others = {key: runs for (key,), runs in found.items() if key not in dense}
    widths = sorted({int(r.config["width"]) for r in records})
    canvas, panels = make_axes(1, 2, width="page", height=2.5, sharex=True, sharey=True)
    for axes, networks in zip(panels.flat, (dense, others), strict=True):
        for index, (network, runs) in enumerate(networks.items()):
            _decay(axes, network, runs, index + (3 if networks is others else 0))
        axes.set(xscale="log", yscale="log", xlabel="width $w$")
        axes.set(xticks=widths, xticklabels=[str(w) for w in widths])
        axes.minorticks_off()
        if networks:
            axes.legend(loc="lower left")
    slopes = "; ".join(
        f"{network} has slope {fitted_exponent(*_points(runs))[0]:.2f}"
        for (network,), runs in found.items()
    )
    panels[0, 0].set(ylabel="relative error")
    low, high = panels[0, 0].get_ylim()
    panels[0, 0].set(ylim=(low * (low / high) ** 0.35, high))
    return Figure(
        "concentration-decay",
        "Error of the tangent kernel of one draw of $\\pm\\sigma$ weights relative to its law, "
        "root mean square over draws, with one standard deviation over draws of gates, and the "
        "fitted line; the legend has its slope with Student's 95 % interval. Left: fully "
        "connected networks of depth $d$. Right: circular convolutions with pooling, a network "
        "with two skips, and as control a fully connected one with its own gates.",
        f"Relative error against width on logarithmic axes, one line a network. {slopes}.",
        canvas,
        "page",
    )


def _decay(axes: Axes, network: str, records: Sequence[Record], index: int) -> None:
    """Plot one network's errors with the line through them."""
    sizes, errors = _points(records)
    slope, radius = fitted_exponent(sizes, errors)
    by_width = {w: [e for v, e in zip(sizes, errors, strict=True) if v == w] for w in sizes}
    means, spreads = zip(*(mean_and_spread(e) for e in by_width.values()), strict=True)
    look: dict[str, Any] = {
        "color": QUIET if network == _OWN else COLOURS[index],
        "marker": MARKERS[index],
    }
    text = f"${network}$" if network.startswith("d ") else network.replace("d = 3", "$d = 3$")
    text = f"{text}: ${slope:.2f} \\pm {radius:.2f}$"
    axes.errorbar(list(by_width), means, spreads, ls="", label=text, **look)
    centre = np.mean(np.log(sizes)), np.mean(np.log(errors))
    line = np.exp(centre[1] + slope * (np.log(list(by_width)) - centre[0]))
    axes.plot(list(by_width), line, ls=LINES[index], lw=0.8, marker="", color=look["color"])
