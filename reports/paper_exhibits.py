"""A table of a paper and its figure, ours beside theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from reluctant.reports.comparison import judged, published_cell
from reluctant.reports.exhibits import Cell, Column, Figure, Table, label, ours, paired
from reluctant.reports.published import Row
from reluctant.reports.records import Record
from reluctant.reports.style import BLUE, VERMILION, make_axes

_OURS: Final[dict[str, Any]] = {"color": BLUE, "marker": "o", "ms": 4.0, "ls": ""}
_THEIRS: Final[dict[str, Any]] = {
    "color": VERMILION, "marker": "D", "ms": 3.6, "mfc": "white", "ls": ""
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """Carry a published row with our records.

    Attributes:
        row: The row.
        words: What it is called.
        metric: Entry of the records that is compared: ``last`` or ``best`` epoch.
        parts: Records of what it trains; of the two networks of a ratio, the numerator first.
    """

    row: Row
    words: str
    metric: str
    parts: tuple[tuple[Record, ...], ...]

    @property
    def runs(self) -> tuple[Record, ...]:
        """Return all records; none unless every part has some."""
        return tuple(r for part in self.parts for r in part) if all(self.parts) else ()

    @property
    def is_full(self) -> bool:
        """Tell whether all records are of the published setting; so are none."""
        return all(r.profile == "full" for r in self.runs)

    @property
    def heading(self) -> str:
        """Return the data set's name, or in whose place others stand."""
        name = str(self.row.setting["dataset"])
        return name if self.is_full else f"in place of {name}"

    @property
    def alone(self) -> tuple[Record, ...]:
        """Return all records of a row that is no ratio."""
        return self.parts[0] if len(self.parts) == 1 else ()

    def cell(self, key: str) -> Cell:
        """Return an accuracy in percent, or the ratio of two with the same seed."""
        if len(self.parts) == 1:
            return ours(self.parts[0], key, digits=1, scale=100)
        pairs = [(r, q) for r in self.parts[0] for q in self.parts[1] if r.seed == q.seed]
        return paired(pairs, key, digits=2)


def make_table(name: str, caption: str, lines: Sequence[Line]) -> Table:
    """Lay out rows under the names of their data sets, each with a verdict."""
    rows: list[tuple[Cell, ...]] = []
    heading = ""
    for line in lines:
        if line.heading != heading:
            heading = line.heading
            rows.append((label(heading),))
        theirs = published_cell(line.row, 1)
        verdict = judged(line.cell(line.metric), theirs)
        if not line.is_full:
            verdict = Cell("OTHER DATA", tone="muted")
        rows.append(
            (
                label(line.words),
                line.cell("last"),
                line.cell("best"),
                ours(line.alone, "best epoch", digits=0),
                theirs,
                verdict,
                label(str(line.cell("last").runs)),
                ours(line.alone, "training seconds", digits=1),
            )
        )
    columns = (
        Column("network"),
        Column("last", "ours"),
        Column("best", "ours"),
        Column("in epoch", "ours"),
        Column("published", "published"),
        Column("verdict", "verdict"),
        Column("seeds"),
        Column("seconds", "ours"),
    )
    return Table(name, caption, columns, tuple(rows), width="page")


def make_figure(name: str, caption: str, lines: Sequence[Line]) -> Figure:
    """Draw each row's accuracy with its deviation beside the published, a panel a data set."""
    shown = [line for line in lines if line.alone]
    names = list(dict.fromkeys(line.heading for line in shown))
    parts = {name: [line for line in shown if line.heading == name] for name in names}
    height = 0.9 + 0.17 * max(len(members) for members in parts.values())
    canvas, panels = make_axes(1, len(names), width="page", height=height)
    heard = []
    for axes, (title, members) in zip(panels.flat, parts.items(), strict=True):
        heard.append(f"{title}: {_panel(axes, members)}")
        axes.set_title(title, loc="left")
    words = "Filled: ours, with the standard deviation over seeds"
    if all(line.is_full for line in shown):
        key = [Line2D([], [], label="ours", **_OURS), Line2D([], [], label="published", **_THEIRS)]
        canvas.legend(handles=key, loc="outside lower center", ncols=2)
        words += "; hollow: as published, with the printed deviation"
    return Figure(
        name,
        f"{caption} {words}.",
        f"Test accuracy in percent, a row for each network. {' '.join(heard)}",
        canvas,
        "page",
    )


def _panel(axes: Axes, members: Sequence[Line]) -> str:
    words = []
    for height, line in enumerate(members):
        mine, row = line.cell(line.metric), line.row
        axes.errorbar(mine.value or 0.0, height - 0.12, xerr=mine.spread, **_OURS)
        words.append(f"{line.words} {mine.text}")
        if line.is_full:  # else there is nothing to compare
            axes.errorbar(float(row.value), height + 0.12, xerr=row.spread, **_THEIRS)
            words[-1] += f" beside {row.value}"
    axes.set(yticks=range(len(members)), yticklabels=[line.words for line in members])
    axes.set(ylim=(len(members) - 0.4, -0.6), xlabel="test accuracy (%)")
    axes.grid(False, axis="y")
    return "; ".join(words) + "."
