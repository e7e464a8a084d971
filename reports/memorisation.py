"""How depth helps a network with fixed random gates to memorise, and when it stops helping."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reluctant.reports.comparison import judged, published_cell
from reluctant.reports.exhibits import (
    Cell,
    Column,
    Exhibit,
    Figure,
    Table,
    label,
    mean_and_spread,
    ours,
)
from reluctant.reports.experiment import Experiment, Profile, RunFailed
from reluctant.reports.published import published_rows
from reluctant.reports.records import Record, group, select
from reluctant.reports.style import COLOURS, LINES, MARKERS, make_axes

_STEP: Final = 0.1  # over the largest eigenvalue of the first tangent kernel
_POINTS: Final = 40  # of a curve


@dataclass(frozen=True, slots=True)
class Setting:
    """Name one training.

    Attributes:
        width: Units a layer.
        depth: Weighted layers.
        examples: Number of examples.
        epochs: Steps of gradient descent on all of them.
        seed: What gates, weights and targets are drawn from.
    """

    width: int
    depth: int
    examples: int
    epochs: int
    seed: int


class Memorisation(Experiment[Setting]):
    """Train values at fixed gates on targets that mean nothing."""

    name = "memorisation"
    title = "Memorising with fixed random gates, by depth and width"
    about = (
        "Every example is the number 1 with gates of its own, drawn with probability $1/2$ each and "
        "held; targets are uniform on $[-1, 1]$; the values start as $\\pm\\sqrt{2/w}$ and are trained "
        "by gradient descent on all examples, with a step of $0.1$ over the largest eigenvalue of "
        "the tangent kernel at the start. Deeper networks tell the gates of two examples apart "
        "better, until the tangent kernel is too far from its mean."
    )
    statements = ("ntk.depth-tradeoff",)
    papers = ("npf",)

    def grid(self, profile: Profile) -> tuple[Setting, ...]:
        """Return widths, depths and seeds."""
        widths, depths, examples, epochs, seeds = {
            "smoke": ((5,), (2, 4), 10, 20, 2),
            "quick": ((25,), (2, 4, 8, 12, 20), 50, 400, 3),
            "full": ((25, 500), (2, 4, 6, 8, 12, 16, 20), 200, 5000, 10),
        }[profile]
        return tuple(
            Setting(width, depth, examples, epochs, seed)
            for width in widths
            for depth in depths
            for seed in range(seeds)
        )

    def run(self, config: Setting) -> Mapping[str, Any]:
        """Return the squared error over that at the start, on a grid of epochs.

        Raises:
            RunFailed: If the error stops being finite.
        """
        draws = torch.Generator().manual_seed(config.seed)
        n, w, d = config.examples, config.width, config.depth
        gates = torch.randint(2, (d - 1, n, w), generator=draws).float()
        targets = 2 * torch.rand(n, generator=draws) - 1
        signs = [2 * torch.randint(2, shape, generator=draws) - 1 for shape in _shapes(w, d)]
        weights = [math.sqrt(2 / w) * s.float() for s in signs]
        step = _STEP / float(torch.linalg.eigvalsh(_tangents(weights, gates).double())[-1])
        shown = np.unique(np.geomspace(1, config.epochs, _POINTS).astype(int))
        left, errors = set(shown.tolist()), []
        start = math.nan
        for epoch in range(config.epochs + 1):
            before, after = _passes(weights, gates)
            residual = before[-1][:, 0] - targets
            error = float(residual.square().sum())
            start = error if epoch == 0 else start
            if not math.isfinite(error):
                raise RunFailed(f"the error became {error} in epoch {epoch}")
            if epoch in left:
                errors.append(error / start)
            for weight, x, y in zip(weights, before, after, strict=False):
                weight.sub_((y * residual[:, None]).T @ x, alpha=step)
        return {"epochs": shown, "errors": np.array(errors), "left": errors[-1], "step": step}

    def cost(self, config: Setting) -> float:
        """Return the products of a training, in units of 10⁹."""
        return 3e-9 * config.epochs * config.examples * config.depth * config.width**2

    def draw(self, records: Sequence[Record]) -> tuple[Exhibit, ...]:
        """Return the curves, and what is left at the end beside what was read off the figure."""
        widths = list(group(records, "width"))
        canvas, panels = make_axes(1, len(widths), width="page", height=2.3, sharey=True)
        heard = []
        for axes, (width,) in zip(panels.flat, widths, strict=True):
            members = group(select(records, width=width), "depth")
            for index, ((depth,), runs) in enumerate(members.items()):
                curves = np.stack([r["errors"] for r in runs])
                look = {"color": COLOURS[index % 7], "marker": MARKERS[index % 7]}
                axes.plot(
                    runs[0]["epochs"], curves.mean(0), ls=LINES[index % 7], label=f"$d = {depth}$",
                    markevery=8, **look,
                )  # fmt: skip
                mean, _ = mean_and_spread(r["left"] for r in runs)
                heard.append(f"width {width}, depth {depth}: {mean:.2f}")
            axes.set(xscale="log", xlabel="epoch", title=f"$w = {width}$", ylim=(-0.03, 1.05))
        panels.flat[0].set_ylabel("squared error over that at the start")
        handles, names = panels.flat[-1].get_legend_handles_labels()
        canvas.legend(handles, names, loc="outside lower center", ncols=7)
        figure = Figure(
            "memorisation-curves",
            "Squared error over that at the start, mean over seeds, by depth.",
            f"Falling curves of error against epoch; left at the end: {'; '.join(heard)}.",
            canvas,
            "page",
        )
        return figure, _table(records)


def _shapes(width: int, depth: int) -> list[tuple[int, int]]:
    """Return the shapes of the weights from an input of 1 to an output."""
    sizes = (1, *(width,) * (depth - 1), 1)
    return [(b, a) for a, b in itertools.pairwise(sizes)]


def _passes(
    weights: Sequence[Tensor], gates: Float[Tensor, "layer n w"]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return what goes into each weight, the output last, and the derivatives of the outputs.

    Returns:
        d + 1 tensors (n, units), and d of the derivatives by what comes out of each weight.
    """
    before = [torch.ones(gates.shape[1], 1)]
    for weight, gate in zip(weights, [*gates, None], strict=True):
        out = before[-1] @ weight.T
        before.append(out if gate is None else gate * out)
    after = [torch.ones(gates.shape[1], 1)]
    for weight, gate in zip(weights[:0:-1], gates.flip(0), strict=True):
        after.append(gate * (after[-1] @ weight))
    return before, after[::-1]


def _tangents(weights: Sequence[Tensor], gates: Float[Tensor, "layer n w"]) -> Float[Tensor, "n n"]:
    """Return the tangent kernel of all values."""
    before, after = _passes(weights, gates)
    return sum((x @ x.T) * (y @ y.T) for x, y in zip(before, after, strict=False))  # type: ignore[return-value]


def _table(records: Sequence[Record]) -> Table:
    printed = {
        (row.setting["width"], row.setting["depth"]): row
        for row in published_rows("npf", "figure: memorisation")
    }
    is_full = all(r.profile == "full" for r in records)
    rows: list[tuple[Cell, ...]] = []
    for (width, depth), runs in group(records, "width", "depth").items():
        row = printed.get((width, depth))
        mine, theirs = ours(runs, "left"), published_cell(row)
        verdict = judged(mine, theirs, 10) if is_full else Cell("OTHER SIZE", tone="muted")
        rows.append(
            (label(str(width)), label(str(depth)), mine, theirs, verdict, label(str(len(runs))))
        )
    return Table(
        "memorisation-left",
        "Squared error left at the end over that at the start, mean and standard deviation over "
        "seeds, beside what was read off the figure of npf.",
        (
            Column("width"),
            Column("depth"),
            Column("left", "ours"),
            Column("published", "published"),
            Column("verdict", "verdict"),
            Column("seeds"),
        ),
        tuple(rows),
    )
