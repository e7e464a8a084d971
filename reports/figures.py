"""Write a drawing as SVG, PDF and PNG whose bytes depend on nothing but what is drawn."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from matplotlib.figure import Figure as Canvas

from reluctant.reports.exhibits import Figure
from reluctant.reports.style import style
from reluctant.theory.verdicts import write_whole

# What each format would otherwise write of the day and the library's version.
_SILENT: Final[dict[str, dict[str, None]]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
FORMATS: Final = tuple(_SILENT)
_DRAWN: Final[WeakKeyDictionary[Canvas, dict[tuple[str, int], bytes]]] = WeakKeyDictionary()


def drawing(figure: Figure, form: str = "svg", dpi: int = 300) -> bytes:
    """Return the file of a drawing, which is drawn once and has one layout in every form.

    Args:
        figure: What to write.
        form: ``svg``, ``pdf`` or ``png``.
        dpi: Resolution of what is not drawn with lines.
    """
    kept = _DRAWN.setdefault(figure.canvas, {})
    if (form, dpi) not in kept:
        if form != "svg":
            drawing(figure)  # whichever is asked for first, the layout is that of the vectors
        kept[form, dpi] = _drawn(figure.canvas, form, dpi)
        figure.canvas.set_layout_engine("none")  # found once, and half the cost
    return kept[form, dpi]


def _drawn(canvas: Canvas, form: str, dpi: int) -> bytes:
    buffer = io.BytesIO()
    # It takes the dates inside matplotlib's own fonts for a mistake.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    with style():
        canvas.savefig(buffer, format=form, dpi=dpi, metadata=_SILENT[form])
    return buffer.getvalue()


def write_figure(figure: Figure, folder: Path) -> tuple[Path, ...]:
    """Write a figure in every format, and its description as text."""
    files = [
        write_whole(folder / f"{figure.name}.{form}", drawing(figure, form)) for form in FORMATS
    ]
    return (*files, write_whole(folder / f"{figure.name}.txt", figure.alt + "\n"))
