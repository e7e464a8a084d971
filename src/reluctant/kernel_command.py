"""The command that computes the kernel of a data set into a file."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluctant.options import (
    Device,
    KeepMode,
    Limit,
    Mean,
    Resize,
    Scheduler,
    Seed,
    Std,
    Target,
    Weights,
)
from reluctant.terminal import answering, make_console, progress_bar
from reluctant.theory.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reluctant.datasets import Preparation

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class WhichLaw(StrEnum):
    """Which kernel: of the paths, of the outputs' law, of the tangents' law."""

    NPK = "npk"
    NNGP = "nngp"
    NTK = "ntk"


class Normal(StrEnum):
    """What the kernel of the paths is divided by."""

    NONE = "none"
    TRACE = "trace"
    WIDTH = "width"
    GATES = "gates"


class Precision(StrEnum):
    """Type in which is computed and written."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


@answering
def kernel(
    target: Target,
    data: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="Inputs: .npz (the array x, or the only one), .npy, or a folder of images.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="K.npy", help="File to write.")],
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Second inputs; the kernel is that of --data with these."
        ),
    ] = None,
    law: Annotated[WhichLaw, typer.Option(help="npk, or the law nngp or ntk.")] = WhichLaw.NPK,
    variance: Annotated[
        float, typer.Option(min=0.0, help="Variance of the weights, for the laws.")
    ] = 1.0,
    normalise: Annotated[
        Normal,
        typer.Option(
            help="none: inner products of path features; trace: to compare networks; width: limits"
            " of large width; gates: overlaps of gates alone, for chains of dense layers."
        ),
    ] = Normal.NONE,
    sources: Annotated[
        bool, typer.Option(help="Count the paths from biases and constants.")
    ] = True,
    output: Annotated[
        int | None, typer.Option(metavar="K", help="Only this output coordinate.")
    ] = None,
    precision: Annotated[
        Precision, typer.Option("--dtype", help="Type of the numbers.")
    ] = Precision.FLOAT32,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory beside the blocks, such as 500M or 2G.")
    ] = "2G",
    weights: Weights = None,
    resize: Resize = False,
    mean: Mean = None,
    std: Std = None,
    limit: Limit = None,
    device: Device = "cpu",
    seed: Seed = 0,
    keep_mode: KeepMode = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes; one computes with a thread a core.")
    ] = 1,
    scheduler: Scheduler = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another kernel that is there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it takes, and stop.")
    ] = False,
) -> None:
    """Compute the kernel of a data set into a .npy file; a killed run goes on where it was."""
    import torch

    from reluctant import checkpoints, datasets, targets
    from reluctant.theory.streaming import KernelJob, write_kernel

    how = datasets.Preparation(
        resize,
        datasets.read_numbers("--mean", mean),
        datasets.read_numbers("--std", std, positive=True),
        limit,
    )
    console = make_console(stderr=True)
    module = targets.make_module(target, seed)
    notes = checkpoints.load_weights(module, weights) if weights is not None else ()
    if not keep_mode:
        module.eval()
    targets.move(module, device)
    x, said = _inputs(data, how, module)
    y, more = (None, ()) if against is None else _inputs(against, how, module)
    targets.initialise(module, [x[:1]])
    job = KernelJob(
        module,
        x,
        y,
        law.value,
        variance,
        normalise.value,
        sources,
        output,
        getattr(torch, precision.value),
        read_size(memory),
    )
    for note in (*notes, *said, *more):
        console.print(f"note: {note}", markup=False, highlight=False)
    shape = " x ".join(map(str, job.shape))
    console.print(f"{law.value}, {shape}: {job.cost}", markup=False, highlight=False)
    if dry_run:
        return
    with progress_bar() as progress:
        write_kernel(
            job,
            out,
            workers=workers,
            scheduler=scheduler,
            overwrite=overwrite,
            progress=progress,
        )
    typer.echo(out)


def _inputs(path: Path, how: Preparation, module: nn.Module) -> tuple[Tensor, tuple[str, ...]]:
    from reluctant import datasets, targets

    (array,), said = datasets.load_data(path, (), how)
    return targets.like_weights(array, module), said


def read_size(text: str) -> int:
    """Return a number of bytes.

    >>> read_size("500M"), read_size("1.5G"), read_size("4096")
    (524288000, 1610612736, 4096)

    Raises:
        InputError: If it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise InputError(f"a size is a number with K, M, G or T, such as 2G, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])
