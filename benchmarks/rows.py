"""What a row of the benchmarks is: contestants, a goal, and what is read off their times."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.contestants import Contestant, Result

Cells = Sequence[str]


@dataclass(frozen=True, slots=True)
class Goal:
    """Be a wish for one contestant: at most so many seconds, bytes, blocks, or times another's.

    Attributes:
        name: The contestant.
        at_most: The number.
        measure: "seconds"; "memory", in bytes with the result; "blocks", memory beside the result,
            in sizes of the result.
        against: Contestant whose number is the unit; None for an absolute goal.
    """

    name: str
    at_most: float
    measure: str = "seconds"
    against: str | None = None

    def verdict(self, results: Mapping[str, Result]) -> str:
        """Say what was wished and what came."""
        values = [_value(results[n], self.measure) for n in (self.name, self.against) if n]
        if None in values:
            return f"{self.wish}: not measured"
        number, unit = values[0] or 0.0, (values[1] or 0.0) if self.against else 1.0
        met = "met" if number <= self.at_most * unit else "**missed**"
        said = f"{self.wish}: {met}, {self._words(number / unit)}"
        if self.against is None:
            return said
        return f"{said}; of CPU time {self._words(self._of_cpu(results, self.against))}"

    def _of_cpu(self, results: Mapping[str, Result], against: str) -> float:
        return best(results[self.name], "cpu") / best(results[against], "cpu")

    @property
    def wish(self) -> str:
        """Return what is wished, in words."""
        if self.against is None:
            return f"{self.name}: at most {self._words(self.at_most)}"
        if self.at_most < 1:
            return f"{self.name}: at least {1 / self.at_most:.3g} times as fast as {self.against}"
        return f"{self.name}: at most {self.at_most:.3g} times the time of {self.against}"

    def _words(self, number: float) -> str:
        if self.against is not None:
            return f"{1 / number:.3g} times as fast" if self.at_most < 1 else f"{number:.3g} times"
        if self.measure == "memory":
            return f"{number / 2**30:.3g} GiB"
        return f"{number:.3g} {'s' if self.measure == 'seconds' else 'sizes of the result'}"


def _value(result: Result, measure: str) -> float | None:
    if result.not_run is not None or not result.runs:
        return None
    if measure == "seconds":
        return best(result, "wall")
    peak, own = result.first["peak"], result.first["bytes"]
    return float(peak) if measure == "memory" else max(0.0, peak - own) / own


def best(result: Result, clock: str) -> float:
    """Return the shortest time on a clock, "wall" or "cpu"."""
    return min(run[clock] for run in result.runs)


@dataclass(frozen=True, slots=True)
class Row(ABC):
    """Be something measured in one go.

    Attributes:
        name: Identifier.
        title: What it asks, in one line.
        contestants: Who is measured; the first is what the others are compared with.
        goals: Wishes.
        repetitions: Runs of each that count.
        uncounted: Runs of each before them.
        isolated: True gives each contestant a process of its own, which makes its memory known.
        small: Sizes for that process to warm up with.
        note: What has to be known to read the table.
    """

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    goals: tuple[Goal, ...] = ()
    repetitions: int = 5
    uncounted: int = 1
    isolated: bool = False
    small: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def asked(self) -> dict[str, Any]:
        """Return what determines its measurement, for JSON."""
        return {
            "contestants": [c.asked for c in self.contestants],
            "repetitions": self.repetitions,
            "uncounted": self.uncounted,
            "isolated": self.isolated,
        }

    @abstractmethod
    def head(self) -> Cells:
        """Return the names of its columns."""

    @abstractmethod
    def line(self, result: Result, others: Mapping[str, Result]) -> Cells:
        """Return the columns of one contestant that was measured."""

    def findings(self, results: Mapping[str, Result]) -> Iterator[str]:
        """Yield what the times say together."""
        for goal in self.goals:
            yield goal.verdict(results)

    def table(self, results: Sequence[Result]) -> Iterator[str]:
        """Yield its table and findings as Markdown."""
        named = {result.name: result for result in results}
        yield f"| {' | '.join(self.head())} |"
        yield "|---" * len(self.head()) + "|"
        for result in results:
            if result.not_run is not None:
                reason = result.not_run.replace("|", "\\|")
                cells: Cells = [result.name, f"NOT RUN: {reason}", *[""] * (len(self.head()) - 2)]
            else:
                cells = [result.name, *self.line(result, named)]
            yield f"| {' | '.join(cells)} |"
        yield ""
        yield from (f"- {finding}" for finding in self.findings(named))


def _times(result: Result) -> list[str]:
    walls = [run["wall"] for run in result.runs]
    return [f"{t:.3g}" for t in (min(walls), median(walls), best(result, "cpu"))]


_TIMES = ("best, s", "median, s", "CPU, s")


@dataclass(frozen=True, slots=True)
class Contest(Row):
    """Compare contestants with the first.

    Where several say that they compute the same kernel, the table has the relative difference of
    its norm at a hundred examples from that of the first that does.

    Attributes:
        same: Names of contestants that compute the same kernel.
    """

    same: tuple[str, ...] = ()

    def head(self) -> Cells:
        """Return the names of its columns."""
        some = ("memory", "of it the result") if self.isolated else ()
        other = ("relative difference",) if self.same else ()
        return ("", *_TIMES, "times the first", "of CPU", "10⁹ products/s", *some, *other)

    def line(self, result: Result, others: Mapping[str, Result]) -> Cells:
        """Return times, ratios, rate, memory and agreement."""
        first = others[self.contestants[0].name]
        cells = _times(result)
        for clock in ("wall", "cpu"):
            ratio = best(result, clock) / best(first, clock) if first.runs else math.nan
            cells.append("–" if math.isnan(ratio) else f"{ratio:.3g}")
        work = result.first["work"]
        cells.append(f"{work / best(result, 'wall') / 1e9:.3g}" if work else "–")
        if self.isolated:
            cells += [f"{result.first[k] / 2**20:.3g} MiB" for k in ("peak", "bytes")]
        if self.same:
            cells.append(self._difference(result, others))
        return cells

    def _difference(self, result: Result, others: Mapping[str, Result]) -> str:
        known = [others[n] for n in self.same if others[n].first]
        if result.name not in self.same or not known:
            return "–"
        value, reference = result.first["value"], known[0].first["value"]
        return f"{abs(value - reference) / reference:.1g}"


@dataclass(frozen=True, slots=True)
class Prediction(Row):
    """Compare times with those that an operation count predicts at the rate of the first.

    Attributes:
        pairs: Pairs of examples of every other contestant.
    """

    pairs: int = 1

    def head(self) -> Cells:
        """Return the names of its columns."""
        return (
            "",
            *_TIMES,
            "10⁹ products",
            "10⁹ products/s",
            "s a pair",
            "predicted",
            "times that",
        )

    def line(self, result: Result, others: Mapping[str, Result]) -> Cells:
        """Return times, rate, and time a pair beside the predicted one."""
        first, work = others[self.contestants[0].name], result.first["work"]
        cells = [*_times(result), f"{work / 1e9:.3g}", f"{work / best(result, 'wall') / 1e9:.3g}"]
        if result is first or not first.runs:
            return [*cells, "–", "–", "–"]
        taken = best(result, "wall")
        predicted = work / first.first["work"] * best(first, "wall")
        return [
            *cells,
            *(f"{t:.3g}" for t in (taken / self.pairs, predicted / self.pairs, taken / predicted)),
        ]


@dataclass(frozen=True, slots=True)
class Scaling(Row):
    """Fit the exponent of the time in one size.

    Attributes:
        sizes: Value of the size for each contestant.
        predicted: Exponent that the operation count has.
        clock: Clock that is fitted: "cpu" is disturbed less by other programs.
    """

    sizes: tuple[int, ...] = ()
    predicted: float = 1.0
    clock: str = "cpu"

    def head(self) -> Cells:
        """Return the names of its columns."""
        return ("", *_TIMES, "10⁹ products/s")

    def line(self, result: Result, others: Mapping[str, Result]) -> Cells:
        """Return times and rate."""
        work = result.first["work"]
        return [*_times(result), f"{work / best(result, 'wall') / 1e9:.3g}" if work else "–"]

    def findings(self, results: Mapping[str, Result]) -> Iterator[str]:
        """Yield goals and the exponent."""
        yield from (goal.verdict(results) for goal in self.goals)
        measured = [
            (size, best(results[c.name], self.clock))
            for size, c in zip(self.sizes, self.contestants, strict=True)
            if results[c.name].runs
        ]
        if len(measured) < 3:
            yield "exponent: not fitted, fewer than three sizes were measured"
            return
        value, low, high = exponent(*zip(*measured, strict=True))
        clock = "CPU time" if self.clock == "cpu" else "time"
        yield (
            f"exponent of the {clock}: {value:.2f}, {low:.2f} to {high:.2f} at 95 %; "
            f"predicted {self.predicted:g}"
        )


def exponent(sizes: Sequence[float], times: Sequence[float]) -> tuple[float, float, float]:
    """Return b of times ∝ size^b with an interval of 95 %, by least squares of the logarithms.

    Args:
        sizes: Three or more sizes.
        times: Their times.
    """
    fit = stats.linregress(np.log(sizes), np.log(times))
    wide = float(stats.t.ppf(0.975, len(sizes) - 2) * fit.stderr)
    return float(fit.slope), float(fit.slope) - wide, float(fit.slope) + wide
