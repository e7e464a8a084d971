"""The tables of the paper on linearly gated networks: four, sixteen, a hundred and ten layers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Final

from reluctant.reports.paper_tables import DATA, PaperTable, Setting, Size
from reluctant.reports.published import Row
from reluctant.reports.recipes import PAPERS, SGD, Recipe, Triangular

_BOTH: Final = ("modern", "paper")


class ShallowGates(PaperTable):
    """Train C4GAP with gates of its own, decoupled, and linear."""

    name = "dlgn-table-1"
    title = "Four convolutions: gates decoupled, then linear"
    about = (
        "C4GAP has four convolutions and a global average pooling. A DGN takes its gates from a "
        "second network of the same shape, a DLGN from one without gates; the second letter in "
        "brackets is what the value network is fed, the image or ones."
    )
    papers = ("dlgn",)
    statements = ("dlgn.primal-linear",)
    paper = "dlgn"
    place = "table I"
    recipes: ClassVar[Mapping[str, Recipe]] = {"": PAPERS["dlgn table I"]}
    sizes: ClassVar[Mapping[str, Size]] = {
        "smoke": Size(1, images=64, scale=1 / 32, epochs=1, protocols=_BOTH),
        "quick": Size(2, scale=1 / 16, epochs=6),
        "full": Size(3, protocols=_BOTH),
    }

    def rows(self) -> tuple[Row, ...]:
        """Return the rows whose gate layers are in their own order."""
        return tuple(row for row in super().rows() if not row.setting["permuted_layers"])

    def entry(self, row: Row) -> Setting | None:
        """Return the training behind an accuracy."""
        found = row.setting
        return Setting(DATA[found["dataset"]], found["architecture"], found["model"], "paper")


class PermutedGates(ShallowGates):
    """Train C4GAP with its gate layers in every other order."""

    name = "dlgn-table-1-permuted"
    title = "Four convolutions: gate layers in every other order"
    about = (
        "The gates of one layer stand in another layer's place. A row is the mean over the 23 "
        "orders of four layers other than the natural one; its seeds count the orders."
    )
    sizes: ClassVar[Mapping[str, Size]] = {
        "smoke": Size(1, images=32, scale=1 / 32, epochs=1),
        "quick": Size(1, images=128, scale=1 / 32, epochs=1),
        "full": Size(1, protocols=_BOTH),
    }

    def rows(self) -> tuple[Row, ...]:
        """Return the rows whose gate layers are in another order."""
        return tuple(row for row in PaperTable.rows(self) if row.setting["permuted_layers"])

    def variants(self, setting: Setting, profile: str) -> tuple[Setting, ...]:
        """Return a training for each order of the gate layers; a DNN has its own order only."""
        if setting.model == "DNN":
            return (setting,)
        _, *others = itertools.permutations(range(4))
        chosen = others if profile == "full" else others[::11]
        return tuple(replace(setting, order=order) for order in chosen)


class DeepGates(PaperTable):
    """Train VGG-16 and ResNet-110 with gates of their own, decoupled, and linear."""

    name = "dlgn-table-2"
    title = "Sixteen and a hundred and ten layers: gates decoupled, then linear"
    about = (
        "VGG-16 with batch normalisation and average pools, and ResNet-110, with the same four ways "
        "to gates as the four convolutions."
    )
    papers = ("dlgn",)
    statements = ("dlgn.primal-linear",)
    paper = "dlgn"
    place = "table II"
    recipes: ClassVar[Mapping[str, Recipe]] = {"": PAPERS["dlgn table II"]}
    sizes: ClassVar[Mapping[str, Size]] = {
        "smoke": Size(1, images=16, scale=1 / 64, epochs=1),
        "quick": Size(1, images=128, scale=1 / 16, epochs=1),
        "full": Size(3, protocols=_BOTH),
    }

    def entry(self, row: Row) -> Setting | None:
        """Return the training behind an accuracy."""
        found = row.setting
        return Setting(DATA[found["dataset"]], found["architecture"], found["model"], "paper")


class ShallowFeatures(PaperTable):
    """Train DLGN-SF, whose gate layers are one linear map of the input each, beside C1GAP."""

    name = "dlgn-table-3"
    title = "Gates from one linear map a layer"
    about = (
        "C1GAP has one convolution. In DLGN-SF(x,1) each gate layer is a linear map of the image of "
        "its own, so that nothing before the gates is deep. An ensemble is the mean of the outputs "
        "of sixteen networks that were trained apart."
    )
    papers = ("dlgn",)
    statements = ("dlgn.primal-linear",)
    paper = "dlgn"
    place = "table III"
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "": PAPERS["dlgn table III"],
        "C4GAP": replace(PAPERS["dlgn table I"], epochs=50),
        "VGG-16": PAPERS["dlgn table II"],
    }
    sizes: ClassVar[Mapping[str, Size]] = {
        "smoke": Size(1, images=32, scale=1 / 64, epochs=1),
        "quick": Size(2, images=128, scale=1 / 16, epochs=2),
        "full": Size(3, protocols=_BOTH),
    }

    def entry(self, row: Row) -> Setting | None:
        """Return the training behind a row such as ``C1GAP 16-ensemble 200 epochs``."""
        found = _NAMED.fullmatch(row.setting["model"])
        assert found is not None, row
        name, members, gates, epochs = found.groups()
        setting = Setting(DATA[row.setting["dataset"]], name, "DNN", "paper", epochs=int(epochs))
        if gates:
            return replace(setting, model="DLGN-SF(x,1)", variant=name)
        return replace(setting, members=int(members or 1))


class Further(PaperTable):
    """Train the networks of the second table as well as we can, all by one recipe."""

    name = "dlgn-further"
    title = "How far linear gates go"
    about = (
        "The paper leaves open how much of the distance between a DLGN and a DNN is left with a better "
        "training. One recipe for all: a long triangular schedule with decay, moved and mirrored "
        "images, smoothed labels. Every gating pre-activation stays affine in the image, which is "
        "tried on the trained networks."
    )
    papers = ("dlgn",)
    statements = ("dlgn.primal-linear",)
    paper = "dlgn"
    place = "table II"
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "": Recipe(
            120,
            Triangular(0.2),
            256,
            SGD(momentum=0.9, decay=1e-3, nesterov=True),
            augment=True,
            smoothing=0.1,
        )
    }
    sizes: ClassVar[Mapping[str, Size]] = {
        "smoke": Size(1, images=16, scale=1 / 64, epochs=1, protocols=("further",)),
        "quick": Size(1, images=128, scale=1 / 16, epochs=1, protocols=("further",)),
        "full": Size(3, protocols=("further",)),
    }
    entry = DeepGates.entry


_NAMED: Final = re.compile(r"(\S+?)(?: (\d+)-ensemble)?(-DLGN-SF)? (\d+) epochs")
