"""Intervals: how far a mean or a fitted exponent could be from the true one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import stats

LEVEL: Final = 0.95


def mean_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    r"""Return the mean and half of Student's interval for it.

    .. math:: \bar x \pm t_{n-1}\, s / \sqrt{n}

    Args:
        values: At least one number, thought of as independent draws from a Gaussian.
        level: Probability with which the interval covers the true mean.

    Returns:
        The mean and the radius; the radius of a single number is NaN.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    quantile = float(stats.t.ppf((1 + level) / 2, len(values) - 1))
    return mean, quantile * statistics.stdev(values) / math.sqrt(len(values))


def fitted_exponent(
    sizes: Sequence[float], errors: Sequence[float], level: float = LEVEL
) -> tuple[float, float]:
    """Return the slope of log error on log size, and half its interval.

    The interval is Student's for the residuals of the line, so it is about the range of sizes that
    was run and says nothing about smaller corrections to the power.

    Args:
        sizes: Positive numbers, at least two of them different.
        errors: As many positive numbers.
        level: Probability with which the interval covers the true slope.

    Returns:
        Slope and radius; both NaN if there are fewer than three points or one size.
    """
    if len(set(sizes)) < 2 or len(sizes) < 3:
        return math.nan, math.nan
    (slope, _), covariance = np.polyfit(np.log(sizes), np.log(errors), 1, cov=True)
    quantile = float(stats.t.ppf((1 + level) / 2, len(sizes) - 2))
    return float(slope), quantile * math.sqrt(float(covariance[0, 0]))
