"""Compare a number of ours with a published one, and say which way it differs."""

from __future__ import annotations

import math
from typing import Final

from scipy import stats

from reluctant.reports.exhibits import Cell, published
from reluctant.reports.published import Row

#: Runs behind a published deviation; the papers state five.
PUBLISHED_RUNS: Final = 5
_LEVEL: Final = 0.95


def published_cell(row: Row | None, digits: int = 2) -> Cell:
    """Return the cell of a published number, or a dash where nobody printed one."""
    if row is None or not isinstance(row.value, int | float):
        return Cell("–", tone="muted", source="not published")
    return published(row.value, row.source, row.spread, digits)


def interval(ours: Cell, theirs: Cell, runs: int = PUBLISHED_RUNS) -> tuple[float, float] | None:
    r"""Return Welch's 95 % interval for the difference of the means, ours less theirs.

    With variances :math:`s^2/n` and :math:`t^2/m` of the two means the degrees of freedom are
    Welch's :math:`(s^2/n + t^2/m)^2 / (s^4/(n^2(n-1)) + t^4/(m^2(m-1)))`. A published number
    without a deviation counts as exact; that makes the interval too short, never too long.

    Args:
        ours: A mean over at least two runs.
        theirs: A published number; its deviation is read as a standard deviation over ``runs``
            (the papers do not state whether it is one).
        runs: Runs behind the published number.

    Returns:
        None if ours is missing or comes from a single run.
    """
    if ours.value is None or theirs.value is None or ours.spread is None or ours.runs < 2:
        return None
    mine = ours.spread**2 / ours.runs
    other = (theirs.spread or 0.0) ** 2 / runs
    difference = ours.value - theirs.value
    if mine + other == 0.0:
        return difference, difference
    freedom = (mine + other) ** 2 / (mine**2 / (ours.runs - 1) + other**2 / (runs - 1))
    radius = float(stats.t.ppf((1 + _LEVEL) / 2, freedom)) * math.sqrt(mine + other)
    return difference - radius, difference + radius


def judged(ours: Cell, theirs: Cell, runs: int = PUBLISHED_RUNS) -> Cell:
    """Return the verdict of a row: REPRODUCED, HIGHER, LOWER, ONE RUN, NOT PUBLISHED or NOT RUN."""
    if ours.value is None:
        return Cell("NOT RUN", tone="muted")
    if theirs.value is None:
        return Cell("NOT PUBLISHED", tone="muted")
    found = interval(ours, theirs, runs)
    if found is None:
        difference = ours.value - theirs.value
        return Cell("ONE RUN", difference, tone="muted", records=ours.records, how="difference")
    low, high = found
    difference = ours.value - theirs.value
    how = f"Welch's {100 * _LEVEL:.0f} % interval of the difference, {low:.3g} to {high:.3g}"
    if low <= 0.0 <= high:
        return Cell("REPRODUCED", difference, tone="good", records=ours.records, how=how)
    if difference > 0:
        return Cell("HIGHER", difference, records=ours.records, how=how)
    return Cell("LOWER", difference, tone="bad", records=ours.records, how=how)
