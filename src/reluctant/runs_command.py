"""The commands that run experiments, and say what is done of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reluctant.options import DataFolder, Device, Output, RunProfile, Scheduler, Size, Workers
from reluctant.terminal import answering, progress_bar

if TYPE_CHECKING:
    from reluctant.reports.surveys import Survey

Seeds = Annotated[
    int | None, typer.Option(min=1, help="Seeds of each configuration; those of the profile else.")
]
Protocol = Annotated[
    str | None, typer.Option(help="Only this protocol of training: paper, modern.")
]

_HEADINGS = ("experiment", "done", "failed", "under way", "begun", "missing", "taken", "to come")


@answering
def run(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment.")],
    profile: Size = RunProfile.QUICK,
    output: Output = "out/report",
    seeds: Seeds = None,
    protocol: Protocol = None,
    device: Device = "cpu",
    seconds: Annotated[
        float | None,
        typer.Option(min=1, help="Stop after so long; the same command goes on from there."),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    data_folder: DataFolder = None,
) -> None:
    """Run one experiment; a killed run goes on where it was, and several share the work.

    Exits with 1 as long as something is missing that another call might do.
    """
    from reluctant.reports import runner
    from reluctant.reports.execution import Execution
    from reluctant.reports.grids import chosen
    from reluctant.reports.registry import experiment as named
    from reluctant.reports.trainings import Trainings
    from reluctant.theory.tasks import processes

    Execution(device)  # says what is wrong with it before anything is fetched
    found = named(experiment)
    if isinstance(found, Trainings):
        for words in found.unstated(chosen(found, profile.value, seeds, protocol)):
            typer.echo(f"not stated by the paper: {words}")
    with progress_bar() as progress:
        results = runner.run(
            found,
            profile.value,
            output,
            progress,
            seeds=seeds,
            protocol=protocol,
            device=device,
            seconds=seconds,
            workers=workers or (processes() if device == "cpu" else 1),
            scheduler=scheduler,
            data=data_folder,
        )
    typer.echo(f"{experiment}: {len(results.records)} records, {results.ran} of them run just now")
    for reason in dict.fromkeys(gap.reason for gap in results.gaps):
        count = sum(gap.reason == reason for gap in results.gaps)
        typer.echo(f"missing: {reason}" + (f" ({count} configurations)" if count > 1 else ""))
    raise typer.Exit(int(any(not gap.is_final for gap in results.gaps)))


@answering
def runs(
    experiment: Annotated[
        str | None, typer.Argument(help="Name of an experiment; all if left out.")
    ] = None,
    profile: Size = RunProfile.QUICK,
    output: Output = "out/report",
    seeds: Seeds = None,
    protocol: Protocol = None,
) -> None:
    """List what is done, failed, under way and missing of experiments, and what it would cost."""
    from pathlib import Path

    from reluctant.reports.registry import experiment as named
    from reluctant.reports.registry import experiments
    from reluctant.reports.runner import report_store
    from reluctant.reports.surveys import survey
    from reluctant.tables import aligned
    from reluctant.theory.errors import InputError

    store = report_store(Path(output))
    if experiment is not None:
        found = survey(named(experiment), profile.value, store, seeds=seeds, protocol=protocol)
        rows = [
            (
                line.state.value,
                duration(line.seconds),
                line.name,
                line.words,
            )
            for line in found.lines
        ]
        table = aligned(("state", "time", "configuration", ""), rows)
        typer.echo("\n".join((*table, "", *aligned(_HEADINGS, [_row(found)]))))
        return
    sums = []
    for each in experiments().values():
        try:
            found = survey(each, profile.value, store, seeds=seeds, protocol=protocol)
        except InputError:  # no such protocol, or nothing to seed
            continue
        sums.append(_row(found))
    if not sums:
        raise InputError(f"no experiment has a protocol {protocol!r}; leave --protocol out")
    typer.echo("\n".join(aligned(_HEADINGS, sums)))


def _row(found: Survey) -> tuple[str, ...]:
    from reluctant.reports.surveys import State

    counts = (str(found.count(state)) for state in State)
    to_come = duration(found.to_come)
    if found.to_come is None and found.unit:
        to_come = f"{sum(line.cost for line in found.rest):.3g} × {found.unit}"
    return found.name, *counts, duration(found.taken), to_come


def duration(seconds: float | None) -> str:
    """Return seconds in words, such as ``3 min 20 s``; ``?`` for what is not known."""
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
