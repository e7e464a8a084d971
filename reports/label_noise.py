"""What gates keep of a network that was trained on wrong labels."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

import torch
from torch import nn

from reluctant.reports.data import DataSet, Form
from reluctant.reports.paper_tables import DATA, PaperTable, Setting, Size
from reluctant.reports.published import Row
from reluctant.reports.recipes import PAPERS, Recipe
from reluctant.reports.trainings import Draws

#: What each model is made of; "R" is M1 trained further on labels that are all random.
_SOURCES: Final = {"M1": "", "R": "M1", "M2": "M1", "M3": "R", "M4": "M1", "M5": "M4"}
_FURTHER: Final = ("R", "M4")  # go on with the weights of their source
_LEVELS: Final = {"M1": None, "R": 100, "M2": 0, "M3": 0, "M4": 0, "M5": 0}  # None: as asked


class LabelNoise(PaperTable):
    """Train on partly random labels, then values on the gates of what came out."""

    name = "label-noise"
    title = "Gates that were learnt from wrong labels"
    about = (
        "M1 is a DNN whose labels are random for a part of the images. M2 has the gates of M1, fixed, "
        "and values trained on the true labels; M3 those of M1 after further training on random "
        "labels alone; M4 is M1 trained further on the true labels, and M5 has the gates of M4. The "
        "draft states neither the network (here GCONV) nor from which of these the features of M3 "
        "come: this is our reading. All seeds see the same wrong labels."
    )
    papers = ("dlgn",)
    paper = "dlgn-draft"
    place = "table: label noise"
    recipes: ClassVar[Mapping[str, Recipe]] = {}
    sizes: ClassVar[Mapping[str, Size]] = {
        "smoke": Size(1, images=32, scale=1 / 32, epochs=1, protocols=("paper",)),
        "quick": Size(1, images=128, scale=1 / 16, epochs=2, protocols=("paper",)),
        "full": Size(3, protocols=("paper",)),
    }

    def entry(self, row: Row) -> Setting | None:
        """Return the training behind a row such as ``M2 fixed gates, true labels`` at 25 %."""
        kind, noise = row.setting["model"][:2], row.setting["label_noise"]
        data = DATA[row.setting["dataset"]]
        return Setting(data, "GCONV", kind, "paper", variant=f"{noise} % wrong")

    def words(self, row: Row) -> str:
        """Return what a row is called."""
        return f"{row.setting['label_noise']} %: {row.setting['model']}"

    def metric_of(self, row: Row) -> str:
        """Return ``best`` for the row that says so."""
        return "best" if "best epoch" in row.setting["model"] else "last"

    def recipe(self, config: Setting) -> Recipe:
        """Return the draft's recipe."""
        found = PAPERS["dlgn-draft table: label noise"]
        return replace(found, epochs=config.epochs) if config.epochs else found

    def source(self, config: Setting) -> Setting | None:
        """Return the network that gates or weights come from."""
        source = _SOURCES[config.model]
        return replace(config, model=source) if source else None

    def dataset(self, config: Setting) -> DataSet[Any]:
        """Return the images with as many random labels as the model is trained on."""
        data, level = super().dataset(config), _LEVELS[config.model]
        noise = int(config.variant.split()[0]) if level is None else level
        return _noisy(data, noise, stream=1 if config.model == "R" else 0)

    def network(
        self, config: Setting, form: Form, streams: Draws, source: nn.Module | None
    ) -> nn.Module:
        """Return a network that starts anew, goes on with its source, or has its gates."""
        if source is None:
            return super().network(replace(config, model="DNN"), form, streams, None)
        if config.model in _FURTHER:
            return copy.deepcopy(source).cpu()
        return super().network(replace(config, model="FLNPF"), form, streams, source)


def _noisy(data: DataSet[Any], percent: int, stream: int) -> DataSet[Any]:
    """Return a data set with so many labels to train on drawn anew, over all classes."""
    if not percent:
        return data
    labels = data.train.labels.clone()
    draws = torch.Generator().manual_seed(1000 * percent + stream)
    chosen = torch.randperm(len(labels), generator=draws)[: round(percent / 100 * len(labels))]
    labels[chosen] = torch.randint(data.classes, (len(chosen),), generator=draws)
    name = f"{data.name}, {percent} % of the labels drawn at random"
    return replace(data, name=name, train=data.train.relabelled(labels))
