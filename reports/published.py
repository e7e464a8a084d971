"""What the papers printed: numbers, how they were obtained, and where their sources disagree."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from reluctant.theory.errors import InputError


@dataclass(frozen=True, slots=True)
class Row:
    """Carry one published number.

    Attributes:
        paper: Key of the paper in the bibliography, or ``dlgn-draft``, ``oblique``.
        place: Where it stands, such as ``table II``.
        metric: What was measured.
        value: The number; for a few rows a list or a mapping.
        spread: The printed deviation, over five runs unless its protocol says otherwise.
        read_from: ``source`` (the authors' LaTeX), ``figure`` (read off, approximate) or
            ``rerun`` (from the authors' code, never printed: not a published number).
        setting: Data set, architecture, model and whatever else tells the row from others.
    """

    paper: str
    place: str
    metric: str
    value: Any
    spread: float | None
    read_from: str
    setting: Mapping[str, Any]

    @property
    def source(self) -> str:
        """Return the words that stand for its source beside the number."""
        note = {"figure": ", read off the figure", "rerun": ", from the authors' code"}
        return f"{self.paper}, {self.place}{note.get(self.read_from, '')}"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Carry one place where paper, README, code and mathematics disagree."""

    paper: str
    subject: str
    what: str
    values: Mapping[str, str]


@functools.cache
def _data() -> dict[str, Any]:
    text = files("reluctant.reports").joinpath("published.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


@functools.cache
def rows() -> tuple[Row, ...]:
    """Return every number of the file, reruns included."""
    return tuple(Row(**row) for row in _data()["results"])


def published_rows(paper: str, place: str, **setting: Any) -> tuple[Row, ...]:
    """Return the printed numbers of one table or figure whose setting has these values.

    Args:
        paper: Key of the paper, such as ``npf``.
        place: Such as ``main table``, ``table II``, ``figure: memorisation``.
        **setting: Such as ``dataset="MNIST"``, ``model="DLNPF"``.

    Raises:
        InputError: If the paper has no such place; lists those that it has.
    """
    mine = [r for r in rows() if r.paper == paper and r.read_from != "rerun"]
    here = [r for r in mine if r.place == place]
    if not here:
        places = ", ".join(dict.fromkeys(r.place for r in mine)) or "none"
        raise InputError(f"no published number of {paper!r} stands in {place!r}; there is {places}")
    return tuple(r for r in here if all(r.setting.get(k) == v for k, v in setting.items()))


def protocol(paper: str, place: str) -> str:
    """Return how a table was obtained as far as that is stated, or ``not stated``."""
    stated: str = _data()["protocols"].get(f"{paper} {place}", "not stated")
    return stated


@functools.cache
def mismatches() -> tuple[Mismatch, ...]:
    """Return the ledger of disagreements."""
    return tuple(Mismatch(**entry) for entry in _data()["mismatches"])
