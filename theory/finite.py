"""Whether all numbers of a tensor are finite, in one pass and without a copy."""

from __future__ import annotations

import math

from torch import Tensor


def is_finite(t: Tensor) -> bool:
    """Tell whether all entries are finite; those of integers are, and those of nothing."""
    if not t.is_floating_point() or not t.numel():
        return not t.is_complex() or bool(t.detach().isfinite().all())
    low, high = t.detach().aminmax()  # NaN, if there is one
    return math.isfinite(float(low)) and math.isfinite(float(high))
