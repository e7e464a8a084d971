"""The paths of a trial's network, listed where they are few."""

from __future__ import annotations

from reluctant.theory.counts import rough_count
from reluctant.theory.paths import Paths, paths
from reluctant.theory.statements import CannotTry, Trial


def few_paths(trial: Trial) -> Paths:
    """Return the paths of a trial's network.

    Raises:
        CannotTry: If there are more than the trial lists; says how many there are.
    """
    count = rough_count(trial.net)
    if count > trial.paths:
        raise CannotTry(f"{count:.4g} paths are too many to list (at most {trial.paths})")
    return paths(trial.net, trial.x, gates=trial.gates, limit=trial.paths)
