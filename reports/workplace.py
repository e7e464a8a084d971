"""Where configurations are computed: on which device, beside which files, until when."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reluctant.theory.errors import ReluctantError


class OutOfTime(ReluctantError):
    """Say that the time is up, and that what was done so far is kept."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Say where some configurations are computed.

    Attributes:
        device: Such as ``cpu`` or ``cuda:1``.
        folder: For what a computation needs in order to go on after it was killed. It has the same
            files the next time, and is removed once the results are kept. Made by whoever writes
            first; None: nothing is kept.
        deadline: When to stop, as ``time.time()`` counts.
        progress: Told the share that is done.
    """

    device: str = "cpu"
    folder: Path | None = None
    deadline: float = math.inf
    progress: Callable[[float], None] | None = None

    def file(self, name: str) -> Path | None:
        """Return the place of a file that outlives a kill, None if nothing is kept."""
        return None if self.folder is None else self.folder / name

    def reached(self, share: float) -> None:
        """Say how much is done, where everything so far is kept.

        Raises:
            OutOfTime: If the time is up, and not all is done.
        """
        if self.progress is not None:
            self.progress(share)
        if share < 1.0 and time.time() > self.deadline:
            raise OutOfTime("the time is up; the same command goes on from here")
