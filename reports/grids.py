"""Which configurations are asked for, and which of them differ by their seed alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from reluctant.reports.experiment import Experiment, Profile
from reluctant.reports.records import PROFILES
from reluctant.theory.errors import InputError


def chosen(
    experiment: Experiment[Any],
    profile: Profile,
    seeds: int | None = None,
    protocol: str | None = None,
) -> tuple[Any, ...]:
    """Return the configurations of an experiment.

    Args:
        experiment: The experiment.
        profile: ``smoke``, ``quick`` or ``full``.
        seeds: How many seeds of each configuration, from 0 on; what the profile has if left out.
        protocol: Only configurations of this protocol.

    Raises:
        InputError: If the profile or the protocol is not known, or there is nothing to seed.
    """
    if profile not in PROFILES:
        raise InputError(f"the profile is one of {', '.join(PROFILES)}, not {profile!r}")
    grid = experiment.grid(profile)
    if protocol is not None:
        known = dict.fromkeys(getattr(config, "protocol", None) for config in grid)
        if protocol not in known:
            there = ", ".join(str(name) for name in known if name is not None)
            raise InputError(
                f"{experiment.name} has no protocol {protocol!r} under the profile {profile}; "
                + (f"there is {there}" if there else "leave --protocol out")
            )
        grid = tuple(config for config in grid if config.protocol == protocol)
    if seeds is None:
        return grid
    if seeds < 1:
        raise InputError(f"an experiment needs at least one seed, not {seeds}")
    if not all(hasattr(config, "seed") for config in grid):
        raise InputError(f"{experiment.name} has nothing to seed; leave --seeds out")
    first = dict.fromkeys(dataclasses.replace(config, seed=0) for config in grid)
    return tuple(dataclasses.replace(config, seed=k) for config in first for k in range(seeds))


def seedless(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without its seed."""
    return {key: value for key, value in config.items() if key != "seed"}


def by_seed(grid: Iterable[Any]) -> tuple[tuple[Any, ...], ...]:
    """Group configurations that differ by their seed alone, in order of first appearance."""
    found: dict[Any, list[Any]] = {}
    for config in grid:
        key = dataclasses.replace(config, seed=0) if hasattr(config, "seed") else config
        found.setdefault(key, []).append(config)
    return tuple(map(tuple, found.values()))
