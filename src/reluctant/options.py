"""The options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Effort(StrEnum):
    """How many examples a check tries."""

    QUICK = "quick"
    DEFAULT = "default"
    THOROUGH = "thorough"


class SearchProfile(StrEnum):
    """How many examples the property suite tries."""

    SMOKE = "smoke"
    DEV = "dev"
    CI = "ci"
    NIGHTLY = "nightly"


class RunProfile(StrEnum):
    """How large the experiments are: seconds, minutes on a laptop, a GPU."""

    SMOKE = "smoke"
    QUICK = "quick"
    FULL = "full"


Names = Annotated[
    str | None,
    typer.Option("--statements", metavar="A,B", help="Only these statements, by identifier."),
]
JsonPath = Annotated[
    Path | None, typer.Option("--json", metavar="PATH", help="Write JSON here; - for stdout.")
]
MarkdownPath = Annotated[
    Path | None,
    typer.Option("--markdown", metavar="PATH", help="Write Markdown here; - for stdout."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Count INCONCLUSIVE and UNSUPPORTED as unexpected.")
]
Counterexamples = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Folder of counterexamples, tried first and kept there;"
        " $RELUCTANT_COUNTEREXAMPLES or .reluctant/counterexamples if left out, '' for none.",
    ),
]
Size = Annotated[RunProfile, typer.Option("--profile", help="How large the experiments are.")]
Output = Annotated[str, typer.Option("--output", metavar="DIR", help="Folder to write into.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes that share the work; one a core if left out."),
]
Until = Annotated[
    str | None,
    typer.Option(
        metavar="PART", help="Only as far as a module, such as features.7, or a node, %relu_1."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Inputs to check on: .npz (the array x, or the only one), .npy, or a folder of images.",
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Where data sets are, or are fetched to; $RELUCTANT_DATA if left out, else a cache.",
    ),
]
Resize = Annotated[
    bool, typer.Option("--resize", help="Bring images of other sizes to that of the input.")
]
Mean = Annotated[
    str | None, typer.Option(metavar="A,B,C", help="Taken off images with values in [0, 1].")
]
Std = Annotated[str | None, typer.Option(metavar="A,B,C", help="What they are divided by.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="At most so many of the data; 256 images if left out.")
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights: .safetensors, or a saved state dict."),
]
Device = Annotated[str, typer.Option(help="Where to run the network, such as cuda.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of weights, inputs and draws.")]
KeepMode = Annotated[
    bool, typer.Option("--keep-mode", help="Do not put the network into evaluation mode.")
]
Target = Annotated[
    str,
    typer.Argument(
        metavar="PACKAGE.MODULE:FACTORY",
        help="Your network: a class, a function or a module; or path/to/file.py:FACTORY.",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Dask scheduler whose workers do the work instead."),
]
