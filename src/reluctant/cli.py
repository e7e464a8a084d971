"""The command line: ``reluctant statements | check | verify | refute | run | report | …``."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from reluctant.commands import line_of
from reluctant.data_command import data
from reluctant.destinations import (
    STDOUT,
    Form,
    conclude,
    ensure_folder,
    ensure_writable,
    talk_on_stderr,
)
from reluctant.explain_command import explain
from reluctant.kernel_command import kernel
from reluctant.options import (
    Counterexamples,
    Data,
    Device,
    Effort,
    JsonPath,
    KeepMode,
    Limit,
    MarkdownPath,
    Mean,
    Names,
    Resize,
    SearchProfile,
    Seed,
    Std,
    Strict,
    Target,
    Until,
    Weights,
)
from reluctant.replays import counterexamples, replay
from reluctant.report_command import report
from reluctant.runs_command import run, runs
from reluctant.schema import schema
from reluctant.terminal import OneLineUsage, answering, make_console, progress_bar
from reluctant.theory.errors import InputError

app = typer.Typer(
    name="reluctant",
    cls=OneLineUsage,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Believe no theorem about ReLU networks until you have tried to break it."""
    if version:
        from reluctant import __version__

        typer.echo(f"reluctant {__version__}")
        raise typer.Exit


@app.command()
@answering
def statements(
    identifier: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Identifier, or a prefix such as dual."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    proof: Annotated[
        bool,
        typer.Option("--proof", help="Check the symbolic proof of one, and print it as LaTeX."),
    ] = False,
    pages: Annotated[
        Path | None,
        typer.Option("--pages", metavar="DIR", help="Write a Markdown page for each paper."),
    ] = None,
) -> None:
    """List the statements, or show one: formula, sources, hypotheses, deliberate faults."""
    from reluctant.properties.catalogue import select
    from reluctant.tables import print_statement, statement_json, statement_table

    chosen = select([identifier] if identifier else None)
    is_one = len(chosen) == 1 and chosen[0].id == identifier
    if pages is not None:
        from reluctant.reports.paper_pages import write_paper_pages

        if identifier or as_json or proof:
            raise InputError("--pages writes all statements; give it alone")
        for file in write_paper_pages(pages):
            typer.echo(file)
    elif proof:
        from reluctant.properties.proofs import make_proof

        if not is_one:
            raise InputError("a proof is of one statement; name it, as in dual.inner-product")
        only = chosen[0]
        derivation = (only.proof() if only.proof else make_proof(only.id)).check()
        said = json.dumps(derivation.to_json(), indent=1, ensure_ascii=False)
        typer.echo(said if as_json else derivation.document())
    elif as_json:
        rows = [statement_json(statement) for statement in chosen]
        typer.echo(json.dumps(rows[0] if is_one else rows, indent=1, ensure_ascii=False))
    elif is_one:
        print_statement(make_console(), chosen[0])
    else:
        make_console().print(statement_table(chosen))


@app.command()
@answering
def check(
    target: Target,
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="3,32,32",
            help="Shape of one input, without the batch; once for each of several inputs.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which of several outputs: a position, or a name."),
    ] = None,
    until: Until = None,
    names: Names = None,
    weights: Weights = None,
    data: Data = None,
    resize: Resize = False,
    mean: Mean = None,
    std: Std = None,
    limit: Limit = None,
    device: Device = "cpu",
    seed: Seed = 0,
    effort: Annotated[Effort, typer.Option(help="How many examples to try.")] = Effort.DEFAULT,
    strict: Strict = False,
    keep_mode: KeepMode = False,
    json_path: JsonPath = None,
    html_path: Annotated[
        Path | None,
        typer.Option("--html", metavar="PATH", help="Write a page here; - for stdout."),
    ] = None,
    markdown_path: MarkdownPath = None,
    folder: Annotated[
        Path | None,
        typer.Option("--report", metavar="DIR", help="Write a paper and a page into this folder."),
    ] = None,
    counterexamples: Counterexamples = None,
) -> None:
    """Say which theorems apply to your network, which fail, and on what smallest example."""
    documents: dict[Form, Path | None] = {
        "json": json_path,
        "html": html_path,
        "markdown": markdown_path,
    }
    ensure_writable(*documents.values())
    ensure_folder(folder)
    wanted = _split(names)
    from reluctant import checkpoints, datasets, targets
    from reluctant.properties.conformance import check as check_module
    from reluctant.properties.shelves import shelf_at

    shelf = shelf_at(counterexamples, target=target, seed=seed)
    with talk_on_stderr(STDOUT in documents.values()), progress_bar() as progress:
        module = targets.make_module(target, seed)
        notes = checkpoints.load_weights(module, weights) if weights is not None else ()
        if not keep_mode:
            module.eval()
        targets.move(module, device)
        inputs = None
        if data is not None:
            how = datasets.Preparation(
                resize,
                datasets.read_numbers("--mean", mean),
                datasets.read_numbers("--std", std, positive=True),
                limit,
            )
            sizes = [targets.read_shape(shape) for shape in shapes or ()]
            arrays, said = datasets.load_data(data, sizes, how)
            notes += said
            inputs = [targets.like_weights(array, module) for array in arrays]
        if shapes:
            example = [targets.make_example(shape, module, seed) for shape in shapes]
        elif inputs is not None:
            example = [array[:1] for array in inputs]
        else:
            raise InputError(
                "the shape of an input is not known; give --input 3,32,32 or --data FILE"
            )
        targets.initialise(module, example)
        options = {
            "--input": shapes,
            "--output": output,
            "--weights": weights,
            "--data": data,
            "--resize": resize,
            "--mean": mean,
            "--std": std,
            "--limit": limit,
            "--device": device,
            "--seed": seed,
            "--effort": effort.value,
            "--keep-mode": keep_mode,
        }

        def line(part: str | None) -> str:
            return line_of(target, {**options, "--until": part})

        report = check_module(
            module,
            targets.one_or_all(example),
            wanted,
            output=int(output) if output is not None and output.isdecimal() else output,
            name=target,
            effort=effort.value,
            seed=seed,
            data=None if inputs is None else targets.one_or_all(inputs),
            progress=progress,
            counterexamples=shelf,
            until=until,
            again=lambda identifier: f"{line(until)} --statements {identifier}",
            part=line,
        )
    report = replace(report, notes=(*notes, *report.notes))
    command = line_of(target, {**options, "--until": until, "--statements": names})
    conclude(report, documents, strict, by_statement=False, folder=folder, command=command)


@app.command()
@answering
def verify(
    names: Names = None,
    profile: Annotated[
        SearchProfile, typer.Option(help="How many examples to try.")
    ] = SearchProfile.DEV,
    power: Annotated[
        bool, typer.Option("--power", help="List every deliberate fault and what noticed it.")
    ] = False,
    sharpness: Annotated[
        bool, typer.Option("--sharpness", help="Drop each hypothesis alone: is it needed?")
    ] = False,
    strict: Strict = False,
    json_path: JsonPath = None,
    markdown_path: MarkdownPath = None,
    counterexamples: Counterexamples = None,
) -> None:
    """Try every statement on every kind of model, and every check on its deliberate faults."""
    documents: dict[Form, Path | None] = {"json": json_path, "markdown": markdown_path}
    ensure_writable(*documents.values())
    wanted = _split(names)
    from reluctant.properties.shelves import shelf_at
    from reluctant.properties.verification import verify as verify_suite

    shelf = shelf_at(counterexamples)
    with progress_bar() as progress:
        report = verify_suite(
            wanted, profile.value, progress, dropping=sharpness, counterexamples=shelf
        )
    from reluctant import tables

    console = make_console(stderr=STDOUT in documents.values())
    if power:
        console.print(tables.power_table(report.mutants))
    if sharpness:
        console.print(tables.sharpness_table(report.sharpness))
    conclude(report, documents, strict, by_statement=True)


@app.command()
@answering
def refute(
    place: Annotated[
        str, typer.Argument(metavar="FILE.py", help="File or module with conjectures.")
    ],
    effort: Annotated[Effort, typer.Option(help="How many networks to try.")] = Effort.DEFAULT,
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
    strict: Strict = False,
    json_path: JsonPath = None,
    markdown_path: MarkdownPath = None,
    counterexamples: Counterexamples = None,
) -> None:
    """Try to refute your own conjectures on networks of every kind."""
    documents: dict[Form, Path | None] = {"json": json_path, "markdown": markdown_path}
    ensure_writable(*documents.values())
    from reluctant import targets
    from reluctant.properties.conjectures import refute as refute_all
    from reluctant.properties.shelves import shelf_at

    shelf = shelf_at(counterexamples, target=place)
    claims = targets.load_conjectures(place)
    line = f"reluctant refute {shlex.quote(place)} --effort {effort.value} --seed {seed}"
    with progress_bar() as progress:
        report = refute_all(
            claims, effort.value, progress, seed=seed, reproduce=line, counterexamples=shelf
        )
    conclude(report, documents, strict, by_statement=True)


for command in (run, runs, report, explain, kernel, replay, counterexamples, schema):
    app.command()(command)
app.add_typer(data, name="data")


def _split(names: str | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    from reluctant.properties.catalogue import select

    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise InputError("--statements names none; leave it out to try all of them")
    return tuple(statement.id for statement in select(wanted))
