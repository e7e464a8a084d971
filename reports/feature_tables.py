"""The tables of the paper on neural path features: fixed, learnt, and learnt for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, ClassVar, Final

from reluctant.reports.paper_tables import DATA, PaperTable, Setting, Size
from reluctant.reports.published import Row, published_rows
from reluctant.reports.recipes import PAPERS, Recipe
from reluctant.reports.records import Record, group

_BOTH: Final = ("modern", "paper")
_RATES: Final = (0.1, 0.01, 0.001)
_EPOCHS: Final = {
    ("FC", "Adam"): 100,
    ("FC", "SGD"): 300,
    ("VCONV", "Adam"): 80,
    ("VCONV", "SGD"): 80,
}  # where npf's code has others than for GCONV


class Features(PaperTable):
    """Train networks whose features are fixed at random, learnt beforehand, or learnt on the way."""

    name = "npf-main-table"
    title = "Features: fixed, learnt, on the way"
    about = (
        "FRNPF(II) and FRNPF(DI) have features that stay as they were drawn, independently of the "
        "values or as a copy of them; in DLNPF they are trained beside the values; in FLNPF they are "
        "those of a trained DNN of the same seed, and stay. For SGD the best of the paper's three "
        "constant rates counts."
    )
    papers = ("npf",)
    paper = "npf"
    place = "main table"
    metric = "best"
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "Adam": PAPERS["npf main table, Adam"],
        **{f"SGD at {rate}": PAPERS[f"npf main table, SGD at {rate}"] for rate in _RATES},
    }
    sizes: ClassVar[Mapping[str, Size]] = {
        "smoke": Size(1, images=32, scale=1 / 32, epochs=1, protocols=_BOTH),
        "quick": Size(2, scale=1 / 16, epochs=6),
        "full": Size(3, protocols=_BOTH),
    }

    def entry(self, row: Row) -> Setting | None:
        """Return the training behind an accuracy; the kernel's row trains nothing."""
        found = row.setting
        if "optimiser" not in found:
            return None
        network, optimiser = found["architecture"], found["optimiser"]
        model = "DNN" if found["model"] == "ReLU" else found["model"]
        return Setting(
            DATA[found["dataset"]], network, model, "paper",
            variant=optimiser, epochs=_EPOCHS.get((network, optimiser), 0),
        )  # fmt: skip

    def variants(self, setting: Setting, profile: str) -> tuple[Setting, ...]:
        """Return a training for each rate that the paper chose from."""
        if setting.variant != "SGD":
            return (setting,)
        return tuple(replace(setting, variant=f"SGD at {rate}") for rate in _RATES)

    def chosen(self, runs: Sequence[Record]) -> Sequence[Record]:
        """Return the runs at the best rate, by the mean of the best epochs."""
        rates = group(runs, "variant").values()
        return max(rates, key=lambda own: fmean(r["best"] for r in own), default=())


class Stages(PaperTable):
    """Train values on the features of a network that was trained for some epochs."""

    name = "npf-stages"
    title = "Features by the epochs that they were learnt for"
    about = (
        "The features of FLNPF are those of a DNN after so many epochs of its training; after none, "
        "they are random."
    )
    papers = ("npf",)
    paper = "npf"
    place = "figure: FLNPF by training stage"
    metric = "best"
    recipes: ClassVar[Mapping[str, Recipe]] = {"": PAPERS["npf main table, Adam"]}
    sizes: ClassVar[Mapping[str, Size]] = {
        "smoke": Size(1, images=32, scale=1 / 32, epochs=2, protocols=("paper",)),
        "quick": Size(2, images=512, scale=1 / 16, epochs=6, protocols=("paper",)),
        "full": Size(3, protocols=("paper",)),
    }

    def entry(self, row: Row) -> Setting | None:
        """Return FLNPF made of a network that was trained so far."""
        found, stage = row.setting, row.setting["stage_epoch"]
        model = "FLNPF" if stage else "FRNPF(II)"
        return Setting(DATA[found["dataset"]], found["architecture"], model, "paper", until=stage)

    def words(self, row: Row) -> str:
        """Return what a row is called."""
        return f"after {row.setting['stage_epoch']} epochs"


class SoftGates(PaperTable):
    """Train networks whose gates are sigmoids of many slopes, and one whose gates alone train."""

    name = "dgn-soft-gates"
    title = "Soft gates by their slope, deep linear networks, and training of gates alone"
    about = (
        "A soft-ReLU multiplies the pre-activation $q$ by $(1 + \\varepsilon) \\sigma(\\beta q)$. In the "
        "last row the values stay as they were drawn and the gates, of a feature network, are trained."
    )
    papers = ("dgn",)
    paper = "dgn"
    place = "table 7"
    recipes: ClassVar[Mapping[str, Recipe]] = {"": PAPERS["dgn table 7"]}
    options: ClassVar[Mapping[str, Mapping[str, Any]]] = {"GCONV": {"dense": (256, 256)}}
    sizes: ClassVar[Mapping[str, Size]] = {
        "smoke": Size(1, images=32, scale=1 / 32, epochs=1, protocols=("paper",)),
        "quick": Size(1, images=128, scale=1 / 16, epochs=2, protocols=("paper",)),
        "full": Size(3, protocols=("paper",)),
    }

    def rows(self) -> tuple[Row, ...]:
        """Return the rows of the table, and the one in the text."""
        return (*super().rows(), *published_rows("dgn", "text"))

    def entry(self, row: Row) -> Setting | None:
        """Return the training behind a row."""
        found = row.setting
        base = Setting(DATA[found["dataset"]], "GCONV", "DNN", "paper")
        if found["model"] == "soft-ReLU":
            return replace(base, gate=(float(found["beta"]), float(found["eps"])))
        if found["model"] == "deep linear":
            return replace(base, model="deep linear")
        if found["model"] == "ReLU":
            return base
        return replace(base, model="DLNPF", frozen_values=True)

    def words(self, row: Row) -> str:
        """Return what a row is called."""
        found = row.setting
        if found["model"] != "soft-ReLU":
            return str(found["model"]).partition(" (")[0]
        return f"soft-ReLU, ε = {found['eps']}, β = {found['beta']}"


class DeepNetworks(PaperTable):
    """Train VGG-19 and a fast residual network with gates of their own and linear ones."""

    name = "dlgn-draft-networks"
    title = "VGG-19 and DavidNet"
    about = "Two networks of an unpublished draft, with gates of their own and linear ones."
    papers = ("dlgn",)
    statements = ("dlgn.primal-linear",)
    paper = "dlgn-draft"
    place = "text"
    recipes: ClassVar[Mapping[str, Recipe]] = {"": PAPERS["dlgn-draft text"]}
    sizes: ClassVar[Mapping[str, Size]] = {
        "smoke": Size(1, images=16, scale=1 / 64, epochs=1, protocols=_BOTH),
        "quick": Size(1, images=128, scale=1 / 16, epochs=1),
        "full": Size(3, protocols=_BOTH),
    }

    def entry(self, row: Row) -> Setting | None:
        """Return the training behind a row."""
        network = {"VGG19": "VGG-19", "DavidNet ResNet": "DavidNet"}[row.setting["architecture"]]
        model = "DNN" if row.setting["model"] == "DNN" else "DLGN(x,x)"
        return Setting(DATA[row.setting["dataset"]], network, model, "paper")
