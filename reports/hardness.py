"""How hard labels are for the neural path kernel while a network learns them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final

import numpy as np
import torch

from reluctant.models import make_fc, make_model
from reluctant.models.laws import scaled
from reluctant.reports.comparison import judged
from reluctant.reports.data import DataSet, Images
from reluctant.reports.exhibits import (
    Cell,
    Column,
    Exhibit,
    Figure,
    Table,
    derived,
    label,
    missing,
    ours,
    published,
)
from reluctant.reports.experiment import Experiment, Profile
from reluctant.reports.loading import load
from reluctant.reports.published import published_rows
from reluctant.reports.recipes import PAPERS
from reluctant.reports.records import Record, group
from reluctant.reports.style import COLOURS, LINES, MARKERS, make_axes
from reluctant.reports.training import ENGINE, train
from reluctant.theory.kernels import npk
from reluctant.theory.measures import nu
from reluctant.theory.tangents import ntk

_MODELS: Final = ("DNN", "DLNPF")
_DIGITS: Final = (4, 7)
_EVERY: Final = 2  # epochs between two measurements


@dataclass(frozen=True, slots=True)
class Setting:
    """Name one training on two of the digits.

    Attributes:
        data: Data set.
        model: ``DNN``, or ``DLNPF``: values beside the features of a second network.
        width: Units a layer.
        depth: Weighted layers.
        epochs: Number of epochs.
        per_class: Examples of each digit at which kernels are measured.
        seed: What everything is drawn from.
    """

    data: str
    model: str
    width: int
    depth: int
    epochs: int
    per_class: int
    seed: int


class Hardness(Experiment[Setting]):
    """Measure ν and the trace of the tangent kernel while a network is trained."""

    name = "hardness"
    title = "How hard the labels are for the kernel, epoch by epoch"
    about = (
        "A fully connected network learns to tell the digit 4 from 7. At some of its training "
        "images, $\\nu_t = y^T (H_t / \\mathrm{tr} H_t)^{-1} y$ with labels $\\pm 1$ is the squared norm "
        "of the smallest function of the kernel's space with these values: it falls as the paths "
        "that are active align with the labels. Beside it the traces of the two parts of the tangent "
        "kernel: $K_v$, by the values, and $K_f$, by what the gates are made of, which a network "
        "whose gates are its own and hard does not have."
    )
    statements = ("dual.dgn-ntk-split",)
    papers = ("npf",)
    code = ("reluctant.models", "reluctant.theory", *ENGINE)

    def grid(self, profile: Profile) -> tuple[Setting, ...]:
        """Return seeds."""
        data, width, depth, epochs, per_class, seeds = {
            "smoke": ("digits", 8, 3, 2, 10, 1),
            "quick": ("digits", 32, 4, 20, 40, 2),
            "full": ("mnist", 100, 6, 50, 100, 10),
        }[profile]
        return tuple(
            Setting(data, model, width, depth, epochs, per_class, seed)
            for model in _MODELS
            for seed in range(seeds)
        )

    def data(self, config: Setting) -> tuple[str, ...]:
        """Return the data set's name."""
        return (config.data,)

    def run(self, config: Setting) -> Mapping[str, Any]:
        """Return ν and the two traces at every second epoch."""
        data = _two_digits(load(config.data))
        value = make_fc(
            data.input_shape, [config.width] * (config.depth - 1), 2,
            generator=_draws(config, 0), law=scaled(2.0), dtype=torch.float32,
        )  # fmt: skip
        network = make_model(value, config.model, generator=_draws(config, 1))
        chosen = data.train.by_class(config.per_class)
        x, labels = chosen.batch(torch.arange(len(chosen)))
        targets = 1.0 - 2.0 * labels.double()
        names = [name for name, _ in network.named_parameters()]
        parts = {
            "K_v": [n for n in names if network is value or n.startswith("value.")],
            "K_f": [n for n in names if network is not value and not n.startswith("value.")],
        }
        found: dict[str, list[float]] = {key: [] for key in ("epochs", "nu", "error of nu", *parts)}

        def measure(epoch: int) -> None:
            if epoch % _EVERY:
                return
            twin = copy.deepcopy(network).double().eval()
            hardness = nu(npk(twin, x.double(), normalise="trace"), targets)
            found["epochs"].append(epoch)
            found["nu"].append(hardness.value)
            found["error of nu"].append(hardness.error)
            for part, members in parts.items():
                kernel = ntk(twin, x.double(), parameters=members) if members else torch.zeros(1, 1)
                found[part].append(float(kernel.trace()))

        measure(0)
        recipe = replace(PAPERS["npf figure: decay of nu_t"], epochs=config.epochs)
        course = train(network, data, recipe, _draws(config, 2), after_epoch=measure)
        return {
            **{key: np.array(values) for key, values in found.items()},
            "fall": found["nu"][-1] / found["nu"][0],
            "last": course.last,
        }

    def cost(self, config: Setting) -> float:
        """Return the duration of a training in units of one epoch."""
        return config.epochs * config.depth * config.width * (2.0 if config.model != "DNN" else 1.0)

    def draw(self, records: Sequence[Record]) -> tuple[Exhibit, ...]:
        """Return the curves, and ν at the start and the end beside the published."""
        canvas, panels = make_axes(1, 3, width="page", height=2.2)
        titles = ("nu", "K_v", "K_f")
        heard = []
        for index, ((model,), runs) in enumerate(group(records, "model").items()):
            look = {"color": COLOURS[index], "ls": LINES[index], "marker": MARKERS[index]}
            for axes, key in zip(panels.flat, titles, strict=True):
                if key == "K_f" and model == "DNN":
                    continue
                curves = np.stack([r[key] for r in runs])
                axes.plot(runs[0]["epochs"], curves.mean(0), label=model, markevery=5, **look)
                heard.append(
                    f"{key} of {model}: {curves.mean(0)[0]:.3g} to {curves.mean(0)[-1]:.3g}"
                )
        for axes, title in zip(
            panels.flat, ("$\\nu_t$", "trace of $K_v$", "trace of $K_f$"), strict=True
        ):
            axes.set(xlabel="epoch", title=title)
        canvas.legend(
            *panels.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=2
        )
        figure = Figure(
            "hardness-curves",
            "$\\nu_t$ and the traces of the tangent kernel's parts by epoch, mean over seeds, at "
            f"training images of {records[0].config['data']}.",
            f"Three panels of curves against epoch, from first to last: {'; '.join(heard)}.",
            canvas,
            "page",
        )
        return figure, _table(records)


def _draws(config: Setting, stream: int) -> torch.Generator:
    return torch.Generator().manual_seed(1000 * config.seed + stream)


def _two_digits(data: DataSet[Images]) -> DataSet[Images]:
    """Return the images of two classes, which become 0 and 1."""

    def part(images: Images) -> Images:
        chosen = images.at(torch.isin(images.labels, torch.tensor(_DIGITS)).nonzero().flatten())
        return chosen.relabelled((chosen.labels == _DIGITS[1]).long())

    name = f"{data.name}, {_DIGITS[0]} against {_DIGITS[1]}"
    return replace(data, name=name, classes=2, train=part(data.train), test=part(data.test))


def _table(records: Sequence[Record]) -> Table:
    (printed,) = published_rows("npf", "figure: decay of nu_t")
    series = [float(value) for value in printed.value]
    fall = series[-1] / series[0]
    rows: list[tuple[Cell, ...]] = []
    for (model,), runs in group(records, "model").items():
        theirs = published(fall, printed.source) if model == "DNN" else missing("not published")
        mine = ours(runs, "fall")
        verdict = judged(mine, theirs)
        if any(r.profile != "full" for r in runs):
            verdict = Cell("OTHER DATA", tone="muted")
        first = derived(fmean(float(r["nu"][0]) for r in runs), runs, "nu before training", 0)
        last = derived(fmean(float(r["nu"][-1]) for r in runs), runs, "nu after training", 0)
        rows.append((label(model), first, last, mine, theirs, verdict, label(str(len(runs)))))
    return Table(
        "hardness-fall",
        "$\\nu_t$ before and after training, and their quotient with its standard deviation over "
        "seeds, beside the quotient of the last and the first value that were read off npf's figure.",
        (
            Column("network"),
            Column("before", "ours"),
            Column("after", "ours"),
            Column("quotient", "ours"),
            Column("published", "published"),
            Column("verdict", "verdict"),
            Column("seeds"),
        ),
        tuple(rows),
    )
