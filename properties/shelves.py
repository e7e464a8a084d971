"""A run and its folder of counterexamples: the known ones are tried first, the new ones are kept."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from torch import Tensor, nn

from reluctant.properties import saved
from reluctant.properties.dropping import named
from reluctant.properties.judging import Judgement, judge
from reluctant.properties.saved import Saved
from reluctant.theory.errors import InputError, ReluctantError
from reluctant.theory.statements import Statement, Trial
from reluctant.theory.twins import twin
from reluctant.theory.verdicts import Outcome

if TYPE_CHECKING:
    from reluctant.properties.specimens import Family  # which loads Hypothesis

VARIABLE = "RELUCTANT_COUNTEREXAMPLES"
DEFAULT = ".reluctant/counterexamples"
Rebuild = Callable[[Saved], Trial | None]
Folder = Union[str, os.PathLike[str], "Shelf", None]


@dataclass(eq=False)
class Shelf:
    """Be the counterexamples that a run knows and keeps.

    Attributes:
        folder: Where they are; None knows none and keeps none.
        asked: Keep also what refutes a statement that is false as printed, which is no news.
        target: What names the user's network, or file of conjectures, on the command line.
        seed: Seed that the user's factory was called with.
        notes: What could not be used, written or reproduced, one line each.
    """

    folder: Path | None = None
    asked: bool = True
    target: str | None = None
    seed: int = 0
    notes: list[str] = field(default_factory=list)
    _spent: set[Path] = field(default_factory=set)  # no longer fail, and may be replaced

    def __post_init__(self) -> None:
        """Refuse what is no folder."""
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; counterexamples are kept in a folder")

    @classmethod
    def at(cls, folder: Folder) -> Shelf:
        """Return the shelf in a folder, a shelf itself, or one that is empty and stays so."""
        if isinstance(folder, Shelf):
            return folder
        return cls(None if folder is None else Path(folder))

    @cached_property
    def known(self) -> list[Saved]:
        """Return what the folder held when it was first asked, the smallest first."""
        return [] if self.folder is None else list(saved.read_all(self.folder, self._note))

    def keeps(self, statement: Statement) -> bool:
        """Tell whether a counterexample of a statement is news, or was asked for all the same."""
        return self.asked or statement.expected is not Outcome.REFUTED

    def retried(
        self, statement: Statement, subject: str, rebuild: Rebuild
    ) -> tuple[Trial, Judgement] | None:
        """Return the first known counterexample of a statement that still refutes it, if one does.

        What it says was decided when it was found, so that it takes no share of the error
        probability of a verdict.

        Args:
            statement: Statement.
            subject: Name of the network or family. What was found on another of the same shapes is
                tried too, and nothing is said if it does not fail.
            rebuild: Gives the trial again; None where the counterexample is of something else.
        """
        for known in self.known:
            if known.record.statement != statement.id or known.path in self._spent:
                continue
            try:
                trial = rebuild(known)
                if trial is None:
                    continue
                judgement = judge(statement, trial)
            except ReluctantError as error:
                self._note(f"known counterexample cannot be tried: {error}")
                continue
            if judgement.outcome is Outcome.REFUTED:
                return trial, judgement
            if known.record.subject == subject:
                self._spent.add(known.path)
                self._note(f"known counterexample no longer fails: {known.path}")
        return None

    def keep(
        self,
        statement: Statement,
        subject: str,
        trial: Trial,
        judgement: Judgement,
        network: Mapping[str, Any],
    ) -> str | None:
        """Keep a counterexample, unless a smaller one is there.

        Args:
            statement: What is refuted.
            subject: Name of the network or family.
            trial: Trial that refutes it.
            judgement: What it said.
            network: How the network is made again.

        Returns:
            The line that shows the failure again; None if this counterexample is not kept.
        """
        if self.folder is None or not self.keeps(statement):
            return None
        if self.target is not None:
            network = {**network, "target": self.target, "seed": self.seed}
        try:
            mine = saved.write(self.folder, statement.id, subject, trial, judgement, network)
            rivals = [
                other
                for other in saved.read_all(self.folder, lambda _: None)
                if other.record.key == mine.record.key
            ]
            for other in rivals:
                if other.path in self._spent and other.path != mine.path:
                    saved.delete(other)
            saved.keep_smallest([r for r in rivals if r.path not in self._spent])
        except OSError as error:
            self._note(f"the counterexample of {statement.id} is not kept: {error}")
            return None
        return line(mine) if mine.path.exists() else None

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def shelf_at(folder: str | None, *, target: str | None = None, seed: int = 0) -> Shelf:
    """Return the shelf of a command: in a folder given, named by the environment, or usual.

    Args:
        folder: Folder; empty for none. If None, it is what ``RELUCTANT_COUNTEREXAMPLES`` says, or
            else ``.reluctant/counterexamples``, where only what contradicts theory is kept.
        target: What names the user's network or file of conjectures.
        seed: Seed that the user's factory is called with.
    """
    named = os.environ.get(VARIABLE) if folder is None else folder
    place = DEFAULT if named is None else named
    return Shelf(Path(place) if place else None, bool(named), target, seed)


def of_module(module: nn.Module, x: Tensor) -> Rebuild:
    """Try what fits a module's shapes, on a copy of it, and nothing else."""

    def rebuild(known: Saved) -> Trial | None:
        if "family" in known.record.network or not saved.fits(known.record, module, x):
            return None
        return known.trial(twin(module), x.device)

    return rebuild


def of_family(family: Family) -> Rebuild:
    """Try what was drawn from a family, on networks built again."""

    def rebuild(known: Saved) -> Trial | None:
        if known.record.network.get("family") != family.name:
            return None
        return known.trial(family.architecture(known.record.network["choices"]))

    return rebuild


def line(known: Saved) -> str:
    """Return the line that shows a counterexample's failure again."""
    record, path = known.record, str(known.path)
    target = record.network.get("target")
    if target is not None:
        return shlex.join(["reluctant", "replay", path, target])
    if "family" not in record.network:
        return f"reluctant.replay({path!r}, module)"
    if named(record.statement) is not None:
        return shlex.join(["reluctant", "replay", path])
    return f"reluctant.replay({path!r}, claims=[claim])"
