"""Specimens of a family, drawn by Hypothesis once and kept, so that all statements share the tracing."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from reluctant.properties.specimens import Family, Specimen
from reluctant.theory.statements import Trial, error_share

BATCH = 12  # specimens drawn at a time; Hypothesis begins each batch with the simplest one
_UNCHECKED = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
)


def make_trial(specimen: Specimen, position: int = 0) -> Trial:
    """Return a trial of a drawn specimen.

    Args:
        specimen: Module, inputs and seed.
        position: Number of the trial in its verdict, from 0; its share of the error falls with it.
    """
    generator = torch.Generator().manual_seed(specimen.seed)
    return Trial(
        specimen.module,
        specimen.x,
        generator,
        error_probability=error_share(position),
        choices=specimen.choices,
    )


class Pool:
    """Be the endless, repeatable sequence of trials of one family.

    Reading a network takes most of the time of judging it, so a trial is read once and judged by
    every statement.

    Args:
        family: Family to draw from.
        seed_: Seed of the draws; batch ``k`` is drawn with the seed ``seed_ + k``.
    """

    def __init__(self, family: Family, seed_: int) -> None:
        self.family = family
        self.seed = seed_
        self._trials: list[Trial] = []
        self._ends: list[int] = []  # of the batches, which can be shorter than asked for

    def __iter__(self) -> Iterator[Trial]:
        """Go through the trials from the first on, drawing those that are missing."""
        position = 0
        while True:
            while position == len(self._trials):
                self._draw()
            yield self._trials[position]
            position += 1

    def head(self, count: int, start: int = 0) -> Iterator[Trial]:
        """Go through ``count`` trials, from number ``start`` on."""
        return islice(self, start, start + count)

    def shrink(
        self, refutes: Callable[[Specimen], bool], position: int, attempts: int = 400
    ) -> Specimen | None:
        """Return the smallest specimen that Hypothesis finds like the one at a position.

        Args:
            refutes: Tells whether a specimen is still of interest.
            position: Number of a trial that is.
            attempts: Largest number of specimens to ask it about, after the first of interest.

        Returns:
            None if the batch, drawn again, has none.
        """
        smallest: Specimen | None = None
        known: dict[bytes, bool] = {}
        spent = 0

        def attempt(specimen: Specimen) -> None:
            nonlocal smallest, spent
            fingerprint = _fingerprint(specimen)
            if fingerprint not in known:
                spent += smallest is not None
                known[fingerprint] = spent <= attempts and refutes(specimen)
            if known[fingerprint]:
                smallest = specimen
                raise _Found

        batch = bisect_right(self._ends, position)
        try:
            self._search(attempt, batch, (Phase.generate, Phase.shrink))
        except _Found:
            return smallest
        return None

    def _draw(self) -> None:
        self._search(
            lambda specimen: self._trials.append(make_trial(specimen, len(self._trials))),
            len(self._ends),
            (Phase.generate,),
        )
        self._ends.append(len(self._trials))

    def _search(
        self, attempt: Callable[[Specimen], object], batch: int, phases: Iterable[Phase]
    ) -> None:
        def anonymous(specimen: Specimen) -> None:
            attempt(specimen)

        drawn: Any = given(self.family.specimens)(anonymous)
        quiet = settings(
            max_examples=BATCH,
            deadline=None,
            database=None,
            derandomize=False,
            phases=tuple(phases),
            report_multiple_bugs=False,
            verbosity=Verbosity.quiet,
            suppress_health_check=_UNCHECKED,
        )
        seed(self.seed + batch)(quiet(drawn))()


def _fingerprint(specimen: Specimen) -> bytes:
    """Return what tells a specimen from others: Hypothesis shows the same one more than once."""
    seen = hashlib.blake2b(repr((specimen.module, specimen.x.shape, specimen.seed)).encode())
    for tensor in (*specimen.module.parameters(), *specimen.module.buffers(), specimen.x):
        seen.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return seen.digest()


class _Found(AssertionError):
    """Tell Hypothesis that a specimen is of interest, so that it shrinks."""


@cache
def pool(family: Family, seed_: int = 0) -> Pool:
    """Return the pool of a family, the same one at every call."""
    return Pool(family, seed_)
