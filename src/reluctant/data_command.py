"""The commands about data sets: say what there is, and fetch what there is not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluctant.options import DataFolder
from reluctant.terminal import OneLineUsage, answering, progress_bar
from reluctant.theory.errors import InputError

if TYPE_CHECKING:
    from reluctant.reports.publications import Publication

data = typer.Typer(cls=OneLineUsage, invoke_without_command=True)


@data.callback()
@answering
def listing(context: typer.Context, folder: DataFolder = None) -> None:
    """Say which data sets there are, where they are looked for, and what each takes."""
    context.obj = folder
    if context.invoked_subcommand is not None:
        return
    import sklearn

    from reluctant.reports.data import digits
    from reluctant.reports.loading import PUBLICATIONS, data_folder

    place = data_folder(folder)
    own = digits()
    typer.echo(f"looked for in {place}: --data, else $RELUCTANT_DATA, else a cache of the user's")
    typer.echo(f"digits: {own.about}; {own.sizes}; inside scikit-learn {sklearn.__version__}")
    for published in PUBLICATIONS.values():
        typer.echo(f"{published.name}: {published.about}; {_state(published, place)}")


@data.command()
@answering
def fetch(
    context: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="mnist, cifar10, cifar100.")
    ],
    folder: DataFolder = None,
) -> None:
    """Fetch data sets from their publishers, unless they are there already."""
    from reluctant.reports import loading

    place = loading.data_folder(folder or context.obj)
    wanted = [loading.publication(name) for name in names]
    with progress_bar() as progress:
        for each in wanted:
            loading.fetch(each, place, progress)
    for each in wanted:
        typer.echo(f"{each.name}: {_state(each, place)}")


def _state(published: Publication, folder: Path) -> str:
    """Say where the files of a data set are and that they are whole, or how to get them."""
    from reluctant.reports.loading import find, load

    files = find(published, folder)
    if not files:
        return (
            f"not there; reluctant data fetch {published.name} fetches {_megabytes(published.size)}"
        )
    try:
        found = load(published.name, folder)
    except InputError as error:
        return str(error)
    disk = sum(file.stat().st_size for file in files)
    return (
        f"{found.sizes}; {_megabytes(disk)} on disk in {files[0].parent}, all checksums right;"
        f" {_megabytes(published.resident)} in memory"
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
