"""The variances of the weights on paths."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import SupportsFloat

from reluctant.theory.errors import InputError
from reluctant.theory.network import PathNetwork

Variance = float | Mapping[str, float]


def variances_of(net: PathNetwork, variance: Variance) -> dict[str, float]:
    """Return one variance a parameter on a path, by name.

    Args:
        net: Network.
        variance: One number for all, or one for each by name; those of other parameters are left
            out.

    Raises:
        InputError: If one is missing, negative or not finite; says which.
    """
    names = [net.weights[node.weight].name for node in net.weighted]
    if isinstance(variance, Mapping):
        missing = [name for name in names if name not in variance]
        if missing:
            raise InputError(
                f"no variance is given for {', '.join(missing)}; give one for every parameter on a path"
            )
        values = {name: _number(variance[name]) for name in names}
    else:
        values = dict.fromkeys(names, _number(variance))
    for name, value in values.items():
        if not 0.0 <= value < float("inf"):
            raise InputError(f"the variance of {name} must be finite and at least 0, got {value}")
    return values


def _number(variance: object) -> float:
    if isinstance(variance, SupportsFloat):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):  # arrays of several numbers
            return float(variance)
    raise InputError(
        "variance must be a number, or a mapping that gives one for each parameter by name, got "
        f"{variance!r}"
    )
