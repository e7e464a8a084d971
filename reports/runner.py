"""Run what has no record yet, one configuration after the other, and keep every result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from reluctant.reports.experiment import Experiment, Profile, Progress, RunFailed, as_json
from reluctant.reports.loading import data_folder, ensure, using
from reluctant.reports.provenance import hardware, versions
from reluctant.reports.records import PROFILES, Gap, Record, Store, writable_folder
from reluctant.reports.registry import experiment as experiment_named
from reluctant.theory.errors import InputError
from reluctant.theory.tasks import finished

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes may then do the same work
    fcntl = None  # type: ignore[assignment]


#: Records that come with the package, such as those of a machine with an accelerator.
PACKAGED: Final = Path(__file__).parent / "published_records"


@dataclass(frozen=True, slots=True)
class Results:
    """Carry what there is of an experiment under a profile.

    Attributes:
        records: Finished runs, in the order of the grid.
        gaps: Configurations without a result, each with the reason.
        older: Number of records made by other code than the present one.
        ran: Number of configurations that were run just now.
    """

    records: tuple[Record, ...]
    gaps: tuple[Gap, ...]
    older: int = 0
    ran: int = 0


def report_store(output: Path, published: Sequence[Path | str] = ()) -> Store:
    """Return the records of the report in a folder: its own, others', and those of the package."""
    packaged = [PACKAGED] if PACKAGED.is_dir() else []
    return Store(output / "records", (*published, *packaged))


def collect(experiment: Experiment[Any], profile: Profile, store: Store) -> Results:
    """Read what there is, and run nothing."""
    _check(profile)
    code = experiment.code_digest()
    records, gaps = [], []
    for config in experiment.grid(profile):
        found = store.find(experiment.name, profile, as_json(config), code)
        if isinstance(found, Record) and found.result is None:
            found = Gap(experiment.name, found.config, f"run failed: {found.failure}")
        if isinstance(found, Record):
            records.append(found)
        else:
            gaps.append(found)
    return Results(tuple(records), tuple(gaps), sum(r.code != code for r in records))


def run(
    experiment: Experiment[Any] | str,
    profile: Profile,
    store: Store | Path | str,
    progress: Progress | None = None,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    data: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Results:
    """Run every configuration that has no record, and return all there is.

    A configuration that is interrupted leaves nothing behind and is run again next time. One that
    raises :class:`~reluctant.reports.experiment.RunFailed` is kept as failed and not tried again
    until its code changes; any other exception makes a gap with its message for now, and the
    others go on. Two processes on one folder do not run the same configuration at once.

    Args:
        experiment: What to run, or its name.
        profile: ``smoke``, ``quick`` or ``full``.
        store: Where records are, or the folder of a report that has them.
        progress: Told a configuration, the share of all costs that is done in thousandths, and
            a thousand.
        workers: Number of processes that share the work.
        scheduler: Address of a Dask scheduler whose workers do it instead; they have to see the
            same folder.
        data: Folder of the data sets; see :func:`~reluctant.reports.loading.data_folder`. What is
            not there is fetched before the first configuration that needs it.
        clock: Seconds, for the records.

    Raises:
        InputError: If the folder cannot be written, that of the data is none, or the profile or the
            experiment is not known.
    """
    _check(profile)
    place = data_folder(data)
    if isinstance(experiment, str):
        experiment = experiment_named(experiment)
    if not isinstance(store, Store):
        store = report_store(writable_folder(store))
    code = experiment.code_digest()
    grid = experiment.grid(profile)
    drafts = [
        Record(experiment.name, profile, plain, None, code, int(plain.get("seed") or 0))
        for plain in map(as_json, grid)
    ]
    missing = [i for i, draft in enumerate(drafts) if not _is_done(store, draft)]
    costs = [experiment.cost(config) for config in grid]
    whole = sum(costs) or 1.0
    left = sum(costs[i] for i in missing)
    coming = iter([_brief(drafts[i].config) for i in missing])

    def say() -> None:
        if progress is not None:
            what = ": ".join((experiment.name, *(n for n in (next(coming, ""),) if n)))
            progress(what, round(1000 * (1 - left / whole)), 1000)

    refused = _refused({n for i in missing for n in experiment.data(grid[i])}, place, progress)
    errors = {
        drafts[i].digest: refused[n]
        for i in missing
        for n in experiment.data(grid[i])
        if n in refused
    }
    ran = 0
    say()
    pieces = [
        (i, experiment, grid[i], drafts[i], store, place, clock)
        for i in missing
        if drafts[i].digest not in errors
    ]
    for index, was_run, error in finished(_run_one, pieces, workers, scheduler=scheduler):
        left -= costs[index]
        ran += was_run
        if not error and scheduler is not None and not _is_done(store, drafts[index]):
            error = f"its worker wrote no record in {store.folder}: do they see the same folder?"
        if error:
            errors[drafts[index].digest] = error
        say()
    found = collect(experiment, profile, store)
    gaps = tuple(_explained(gap, profile, errors) for gap in found.gaps)
    return Results(found.records, gaps, found.older, ran)


def _is_done(store: Store, draft: Record) -> bool:
    found = store.find(draft.experiment, draft.profile, draft.config, draft.code)
    return isinstance(found, Record)


def _run_one(
    index: int,
    experiment: Experiment[Any],
    config: Any,
    draft: Record,
    store: Store,
    data: Path,
    clock: Callable[[], float],
) -> tuple[int, bool, str]:
    """Run a configuration unless somebody else has; return whether it ran, and what went wrong."""
    own = store.path(experiment.name, draft.digest, draft.code)
    with _alone(own), using(data) as loaded:
        if _is_done(store, draft):
            return index, False, ""
        start = clock()
        result, failure = None, ""
        try:
            result = dict(experiment.run(config))
        except RunFailed as error:
            failure = str(error) or "no reason given"
        except Exception as error:
            return index, False, f"{type(error).__name__}: {error}"
        store.write(
            replace(
                draft,
                result=result,
                failure=failure,
                seconds=round(clock() - start, 4),
                versions=versions(),
                hardware=hardware(),
                data=loaded,
            )
        )
        return index, True, ""


def _refused(names: set[str], folder: Path, progress: Progress | None) -> dict[str, str]:
    """Have data sets fetched, and return why one cannot be had, by name."""
    reasons = {}
    for name in sorted(names):
        try:
            ensure(name, folder, progress)
        except InputError as error:
            reasons[name] = str(error)
    return reasons


def _explained(gap: Gap, profile: str, errors: dict[str, str]) -> Gap:
    digest = Record(gap.experiment, profile, gap.config, None, "").digest
    return Gap(gap.experiment, gap.config, errors.get(digest, gap.reason), gap.path)


def _check(profile: str) -> None:
    if profile not in PROFILES:
        raise InputError(f"the profile is one of {', '.join(PROFILES)}, not {profile!r}")


def _brief(config: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in config.items())


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the right to run one configuration; the system takes it back if the process dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock")
        handle = lock.open("wb")
    except OSError as error:
        raise InputError(
            f"records cannot be written to {path.parent} ({error.strerror}); choose another folder"
        ) from error
    with handle:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
