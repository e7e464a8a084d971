"""Experiments: a grid of configurations, a run of one, and what is shown of all of them."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar

from reluctant.reports.exhibits import Exhibit
from reluctant.reports.provenance import code_digest
from reluctant.reports.records import Record
from reluctant.reports.workplace import Workplace
from reluctant.theory.errors import InputError, ReluctantError

Profile: TypeAlias = Literal["smoke", "quick", "full"]
Config = TypeVar("Config")


class Progress(Protocol):
    """Hear how far something has come; the command line draws a bar from it."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Say what is being done now, and that ``done`` of ``total`` units are done."""


class RunFailed(ReluctantError):
    """Say that a run came to an end without a result, and that another try would as well.

    Raise it in :meth:`Experiment.run` for what belongs to the configuration, such as a loss that
    became NaN in some epoch. The reason is kept as the record and shown as a gap.
    """


class Experiment(ABC, Generic[Config]):
    r"""Be one experiment of the paper. Subclasses are final and hold no state.

    A new experiment is one class in one module of ``reluctant.reports`` and one line in
    :mod:`reluctant.reports.registry`::

        @dataclass(frozen=True, slots=True)
        class Setting:
            width: int
            seed: int                       # every random choice follows from it

        class Concentration(Experiment[Setting]):
            name = "concentration"          # folder of the records, argument on the command line
            title = "The tangent kernel against its law as width grows"
            about = "One paragraph of prose; inline formulas as $d\\,\\sigma^{2(d-1)} H$."
            statements = ("ntk.fc-expectation", "ntk.fc-limit")
            code = ("reluctant.theory.kernels", "reluctant.theory.tangents")

            def grid(self, profile):        # the smoke grid takes seconds, the quick one a minute
                widths = {"smoke": (4,), "quick": (8, 32, 128), "full": (8, 32, 128, 512, 2048)}
                return tuple(Setting(w, seed) for w in widths[profile] for seed in range(3))

            def run(self, setting):         # pure: the same setting gives the same result
                generator = torch.Generator().manual_seed(setting.seed)
                ...
                return {"error": 0.031, "kernel": kernel.numpy()}

            def draw(self, records):        # finished records only, never empty; see below
                figure, axes = make_axes()  # of reluctant.reports.style
                for (width,), runs in group(records, "width").items():
                    mean, spread = mean_and_spread(r["error"] for r in runs)
                    axes.errorbar(width, mean, spread)
                table = Table(
                    "concentration-errors",
                    "Relative error of $K_v$ against $d\\,\\sigma^{2(d-1)} H$.",
                    (Column("Width"), Column("Error", "ours")),
                    tuple((label(str(w)), ours(runs, "error", digits=3))
                          for (w,), runs in group(records, "width").items()),
                )
                return (
                    Figure("concentration-decay", "Caption.", "Text for the blind.", figure),
                    table,
                )

    What the rest of the package does with it: each configuration is run once and its record kept
    in a file of its own, so a killed run loses at most the configuration in progress; captions get
    the profile, the number of records and the gaps; the draft of a figure or a table that comes
    from missing records is left out. ``draw`` is called within the report's style, with whatever
    finished, so it must cope with a part of the grid (not with none of it) and with more seeds.

    One whose runs are long, or faster together, overrides :meth:`run_all` in place of :meth:`run`:
    :class:`~reluctant.reports.trainings.Trainings` does, for whatever trains networks.

    Attributes:
        name: Lower-case letters, digits and hyphens; never changed once records exist.
        title: Heading of its section; inline formulas between dollar signs.
        about: What is done and why, one paragraph.
        statements: Identifiers of the statements that it bears on.
        papers: Keys of the papers whose numbers it repeats.
        code: Modules and packages whose source decides the result; the experiment's own module
            always counts. A change there makes its records obsolete.
        at_once: Whether an accelerator computes several seeds of one configuration at once.
        unit: Unit of :meth:`cost`, if it has one.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str] = ""
    statements: ClassVar[tuple[str, ...]] = ()
    papers: ClassVar[tuple[str, ...]] = ()
    code: ClassVar[tuple[str, ...]] = ()
    at_once: ClassVar[bool] = False
    unit: ClassVar[str] = ""

    @abstractmethod
    def grid(self, profile: Profile) -> tuple[Config, ...]:
        """Return the configurations: frozen dataclasses of numbers, strings, tuples and None."""

    @abstractmethod
    def run(self, config: Config) -> Mapping[str, Any]:
        """Return numbers, strings, lists and numpy arrays by name.

        Raises:
            RunFailed: If the configuration has no result, however often it is tried.
        """

    def run_all(
        self, configs: Sequence[Config], place: Workplace
    ) -> Sequence[Mapping[str, Any] | RunFailed]:
        """Return the result of each configuration, or why it has none.

        Args:
            configs: One, or several that differ by their seeds.
            place: Where to compute, and what to keep meanwhile. Who uses none of it is computed
                on the CPU and begins anew after a kill.

        Raises:
            OutOfTime: If the time of the place is up.
        """
        found: list[Mapping[str, Any] | RunFailed] = []
        for config in configs:
            try:
                found.append(self.run(config))
            except RunFailed as error:
                found.append(error)
        return found

    @abstractmethod
    def draw(self, records: Sequence[Record]) -> tuple[Exhibit, ...]:
        """Return the figures and tables, from at least one finished record."""

    def data(self, config: Config) -> tuple[str, ...]:
        """Return the names of the data sets that a run loads, to be fetched before it begins."""
        return ()

    def cost(self, config: Config) -> float:
        """Return the relative duration of a run, for the time left; any unit."""
        return 1.0

    def code_digest(self) -> str:
        """Return the hash of the source that decides the results."""
        return code_digest((type(self).__module__, *self.code))


def as_json(config: Any) -> dict[str, Any]:
    """Return a configuration as plain JSON.

    Raises:
        InputError: If it is not a frozen dataclass of plain values; names the field.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise InputError(f"a configuration is a frozen dataclass, not {config!r}")
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        found[field.name] = _plain(value, f"{type(config).__name__}.{field.name}")
    return found


def brief(config: Any) -> str:
    """Return a configuration in words, without what is as its fields have it by default."""
    return " ".join(
        f"{field.name}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if field.name == "seed" or getattr(config, field.name) != field.default
    )


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(entry, where) for entry in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise InputError(
        f"{where} is a {type(value).__name__}; configurations hold numbers, strings, tuples, None"
    )
