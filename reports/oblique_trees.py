"""Labels that a tree of hyperplanes gives, learnt by linearly gated networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reluctant.models import make_fc, make_model
from reluctant.reports.comparison import judged, published_cell
from reluctant.reports.data import DataSet, Form
from reluctant.reports.exhibits import Cell, Column, Exhibit, Table, label, ours
from reluctant.reports.experiment import Profile
from reluctant.reports.published import published_rows
from reluctant.reports.recipes import Recipe, Triangular
from reluctant.reports.records import Record, group
from reluctant.reports.trainings import FEATURES, VALUES, Draws, Trainings
from reluctant.reports.vectors import Vectors

_LEVELS: Final = 4
_TEST_SHARE: Final = 0.2

#: Dimension and number of points of the three data sets, as in the authors' generator.
_DATA: Final[Mapping[str, tuple[int, int]]] = {
    "SDI": (20, 40_000), "SDII": (100, 60_000), "SDIII": (500, 100_000)
}  # fmt: skip
_NETWORKS: Final = {"DNN": "DNN", "DLGN": "DLGN(x,1)", "DLGN-SF": "DLGN-SF(x,1)"}


@dataclass(frozen=True, slots=True)
class Setting:
    """Name one training.

    Attributes:
        data: One of the three data sets.
        images: Number of points to train on; 0: all.
        model: The network.
        width: Units a layer.
        depth: Weighted layers.
        epochs: Number of epochs.
        seed: What weights and order are drawn from; the tree and the points are the same for all.
    """

    data: str
    images: int
    model: str
    width: int
    depth: int
    epochs: int
    seed: int


class ObliqueTrees(Trainings[Setting]):
    """Train on points of a sphere that a tree of random hyperplanes has labelled."""

    name = "oblique-trees"
    title = "Labels from a tree of hyperplanes"
    about = (
        "Points are uniform on a sphere. At each of fifteen inner nodes of a tree of four levels a "
        "random hyperplane through the centre decides; sibling leaves have opposite labels. Tree "
        "and points are drawn anew here, once for all seeds. Depth, width and schedule are not "
        "stated in what we read; the shallow network has five weighted layers."
    )
    statements = ("dlgn.primal-linear",)

    def grid(self, profile: Profile) -> tuple[Setting, ...]:
        """Return data sets, networks and seeds."""
        names, images, width, epochs, seeds = {
            "smoke": (("SDI",), 64, 4, 1, 1),
            "quick": (("SDI",), 4000, 64, 4, 2),
            "full": (tuple(_DATA), 0, 128, 60, 5),
        }[profile]
        return tuple(
            Setting(name, images, model, width, 5, epochs, seed)
            for name in names
            for model in _NETWORKS
            for seed in range(seeds)
        )

    def data(self, config: Setting) -> tuple[str, ...]:
        """Return no name: the data are drawn."""
        return ()

    def dataset(self, config: Setting) -> DataSet[Vectors]:
        """Return the points."""
        return oblique(config.data).first(config.images)

    def form(self, config: Setting) -> Form:
        """Return what the points are like."""
        dimension, points = _DATA[config.data]
        whole = points - round(_TEST_SHARE * points)
        return Form((dimension,), 2, min(config.images or whole, whole))

    def recipe(self, config: Setting) -> Recipe:
        """Return the one schedule for all networks."""
        return Recipe(config.epochs, Triangular(3e-3), 128)

    def network(
        self, config: Setting, form: Form, streams: Draws, source: nn.Module | None
    ) -> nn.Module:
        """Return the network of a setting."""
        widths = [config.width] * (config.depth - 1)
        value = make_fc(
            form.shape, widths, form.classes, generator=streams(VALUES), dtype=torch.float32
        )
        return make_model(value, _NETWORKS[config.model], generator=streams(FEATURES))

    def draw(self, records: Sequence[Record]) -> tuple[Exhibit, ...]:
        """Return the accuracies beside the published."""
        printed = {
            (row.setting["dataset"], row.setting["model"]): row
            for row in published_rows("oblique", "text")
        }
        is_full = all(r.profile == "full" for r in records)
        rows: list[tuple[Cell, ...]] = []
        for (name, model), runs in group(records, "data", "model").items():
            theirs = published_cell(printed.get((name, model)), 2)
            mine = ours(runs, "last", digits=2, scale=100)
            verdict = judged(mine, theirs) if is_full else Cell("FEWER POINTS", tone="muted")
            best = ours(runs, "best", digits=2, scale=100)
            count = label(str(len(runs)))
            rows.append((label(f"{name}, {model}"), mine, best, theirs, verdict, count))
        return (
            Table(
                "oblique-trees-accuracy",
                "Test accuracy in percent on points that a tree of hyperplanes has labelled, mean and "
                "standard deviation over seeds, after the last and in the best epoch. The published "
                "numbers are of another tree of the same kind.",
                (
                    Column("data, network"),
                    Column("last", "ours"),
                    Column("best", "ours"),
                    Column("published", "published"),
                    Column("verdict", "verdict"),
                    Column("seeds"),
                ),
                tuple(rows),
            ),
        )


def oblique(name: str) -> DataSet[Vectors]:
    """Return one of the three data sets, the same each time; a fifth of it to test on."""
    dimension, points = _DATA[name]
    draws = torch.Generator().manual_seed(dimension)
    planes = torch.randn(2**_LEVELS - 1, dimension, generator=draws)
    x = torch.randn(points, dimension, generator=draws)
    x /= x.norm(dim=1, keepdim=True)
    labels = leaf_labels(planes, x)
    test = round(_TEST_SHARE * points)
    parts = Vectors(x[test:], labels[test:]), Vectors(x[:test], labels[:test])
    return DataSet(name, f"{name}: {points} points labelled by a tree of hyperplanes", 2, *parts)


def leaf_labels(planes: Float[Tensor, "nodes d"], x: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Return the label of each point's leaf: 0 for a left one, 1 for a right one.

    Args:
        planes: Normals of the inner nodes, level by level; the children of node k are 2k + 1, on
            the negative side, and 2k + 2.
        x: Points.
    """
    node = torch.zeros(len(x), dtype=torch.int64)
    side = (x @ planes.T > 0).long()
    for _ in range((len(planes) + 1).bit_length() - 1):
        turn = side.gather(1, node[:, None])[:, 0]
        node = 2 * node + 1 + turn
    return turn
