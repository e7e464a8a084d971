"""Activation regions of small networks: drawn where they lie, and counted beside the formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from matplotlib.collections import LineCollection
from numpy.typing import NDArray
from torch import nn

from reluctant.models import Regime, make_dlgn, make_fc
from reluctant.reports.exhibits import Column, Exhibit, Figure, Table, label, ours
from reluctant.reports.experiment import Experiment, Profile
from reluctant.reports.records import Record, group
from reluctant.reports.style import COLOURS, LINES, make_axes
from reluctant.theory.regions import regions
from reluctant.theory.slices import RegionSlice, region_slice

_HALF: Final = 2.5  # of the square that is drawn
_LAYERS: Final = 3


def _one(units: int, bias: bool) -> nn.Module:
    return make_fc(2, [units], generator=torch.Generator(), bias=bias, dtype=torch.float64)


def _deep(units: int) -> nn.Module:
    widths = [units // _LAYERS] * _LAYERS
    return make_fc(2, widths, generator=torch.Generator(), bias=True, dtype=torch.float64)


def _linear(units: int) -> nn.Module:
    value = make_fc(2, [units // _LAYERS] * _LAYERS, generator=torch.Generator(), bias=True)
    return make_dlgn(value, Regime.FRNPF_II, generator=torch.Generator()).double()


_NETWORKS: Final[Mapping[str, Callable[[int], nn.Module]]] = {
    "one layer": lambda units: _one(units, True),
    "one layer, no biases": lambda units: _one(units, False),
    "three layers": _deep,
    "DLGN, three layers": _linear,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Name one draw of weights."""

    network: str
    units: int
    seed: int


class RegionMaps(Experiment[Setting]):
    """Draw and count the activation regions of networks of two inputs."""

    name = "region-maps"
    title = "Activation regions, drawn and counted"
    about = (
        "A unit's gate changes where its pre-activation is 0. For one layer these are $m$ lines, in "
        "general position, and cut the plane into $\\sum_{i \\le 2} \\binom{m}{i}$ regions; without biases "
        "all of them go through 0 and there are $2 \\sum_{i < 2} \\binom{m-1}{i}$. In a deeper network lines "
        "of later layers bend where they cross those of earlier ones; in a deep linearly gated network "
        "they do not. Weights and biases are standard normal. Regions are counted by arithmetic on integers, "
        "and boundaries drawn between corners that are intersections of lines: nothing is sampled."
    )
    statements = ("clu.region-count", "clu.polyhedron", "dlgn.regions")
    papers = ("clu", "dlgn")
    code = ("reluctant.models", "reluctant.theory")

    def grid(self, profile: Profile) -> tuple[Setting, ...]:
        """Return networks, numbers of units and seeds."""
        units, seeds = {"smoke": ((6,), 1), "quick": ((12,), 3), "full": ((6, 12, 18), 20)}[profile]
        return tuple(
            Setting(name, m, seed) for name in _NETWORKS for m in units for seed in range(seeds)
        )

    def run(self, config: Setting) -> Mapping[str, Any]:
        """Return the number of regions, of those bounded, and of general position; and boundaries."""
        draws = torch.Generator().manual_seed(config.seed)
        network = _NETWORKS[config.network](config.units)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draws, dtype=torch.float64))
        found = regions(network, torch.zeros(1, 2, dtype=torch.float64))
        right, up = torch.eye(2, dtype=torch.float64)
        square = (-_HALF, _HALF, -_HALF, _HALF)
        drawn = region_slice(network, torch.zeros(2, dtype=torch.float64), right, up, extent=square)
        return {
            "regions": len(found),
            "bounded": int(found.bounded.sum()),
            "formula": found.expected,
            "drawn": len(drawn),
            **_boundaries(drawn),
        }

    def cost(self, config: Setting) -> float:
        """Return the number of linear programmes, roughly."""
        return float(config.units**3)

    def draw(self, records: Sequence[Record]) -> tuple[Exhibit, ...]:
        """Return the maps of one draw of each network, and a table of the counts."""
        return _maps(records), _counts(records)


def _boundaries(drawn: RegionSlice) -> dict[str, NDArray[Any]]:
    """Return both ends of every segment, and the number of its layer."""
    names = list(dict.fromkeys(s.layer for s in drawn.boundaries))
    order = {name: k for k, name in enumerate(sorted(names, key=_place(drawn)))}
    ends = [[[float(t) for t in end] for end in (s.start, s.end)] for s in drawn.boundaries]
    layers = [order[s.layer] for s in drawn.boundaries]
    return {"ends": np.array(ends).reshape(-1, 2, 2), "layers": np.array(layers, dtype=np.int64)}


def _place(drawn: RegionSlice) -> Callable[[str], int]:
    names = [layer.name.rpartition(" ")[2] for layer in drawn.patterns.layers]
    return names.index


def _maps(records: Sequence[Record]) -> Figure:
    shown = {name: runs[-1] for (name,), runs in group(records, "network").items()}
    canvas, panels = make_axes(1, len(shown), width="page", height=2.0)
    said = []
    for axes, (name, record) in zip(panels.flat, shown.items(), strict=True):
        for k in range(int(record["layers"].max(initial=-1)) + 1):
            ends = record["ends"][record["layers"] == k]
            look: dict[str, Any] = {"colors": COLOURS[k], "linestyles": LINES[k], "linewidths": 0.8}
            axes.add_collection(LineCollection(list(ends), **look))
        for spine in axes.spines.values():
            spine.set_visible(True)
        axes.set(xlim=(-_HALF, _HALF), ylim=(-_HALF, _HALF), aspect="equal", title=name)
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        said.append(f"{name}: {record['drawn']} of {record['regions']} regions")
    units = sorted({int(r.config["units"]) for r in shown.values()})
    return Figure(
        "region-maps-boundaries",
        f"Boundaries of activation regions of networks of {' or '.join(map(str, units))} units in a square "
        f"of side {2 * _HALF:g} around 0; one colour and one dash a layer, for one draw of weights.",
        f"Squares cut by line segments. {'; '.join(said)} lie in the square.",
        canvas,
        "page",
    )


def _counts(records: Sequence[Record]) -> Table:
    return Table(
        "region-maps-counts",
        "Activation regions of the whole plane, those that are bounded, and the number that as many lines "
        "in general position make (through 0, where there are no biases).",
        (
            Column("network"),
            Column("units"),
            Column("regions", "ours"),
            Column("bounded", "ours"),
            Column("formula", "ours"),
        ),
        tuple(
            (
                label(name),
                label(str(units)),
                *(ours(runs, key, digits=1) for key in ("regions", "bounded", "formula")),
            )
            for (name, units), runs in group(records, "network", "units").items()
        ),
    )
