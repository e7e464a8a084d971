"""The commands about counterexamples that were kept: list them, and show the failure of one again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluctant.destinations import STDOUT, Form, conclude, ensure_writable, talk_on_stderr
from reluctant.options import JsonPath, MarkdownPath
from reluctant.terminal import answering
from reluctant.theory.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from reluctant.properties.saved import Saved


@answering
def replay(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A counterexample's .json.")],
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="Your network, as for check, or your file of conjectures, as for refute;"
            " none for what verify found.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where to run the network; where it failed if left out.")
    ] = None,
    json_path: JsonPath = None,
    markdown_path: MarkdownPath = None,
) -> None:
    """Show the failure of a counterexample that was kept again."""
    documents: dict[Form, Path | None] = {"json": json_path, "markdown": markdown_path}
    ensure_writable(*documents.values())
    from reluctant import targets
    from reluctant.properties import replaying, saved
    from reluctant.properties.dropping import named

    known = saved.read(path.with_suffix(".json"))
    is_drawn = "family" in known.record.network
    is_known = named(known.record.statement) is not None
    if is_drawn and ((target and is_known) or device):
        raise InputError(
            f"the network of {known.path} is built from the file, on the cpu; leave out "
            f"{f'--device {device}' if device else target}"
        )
    with talk_on_stderr(STDOUT in documents.values()):
        module = None if is_drawn or target is None else _network(known, target, device)
        claims = targets.load_conjectures(target) if is_drawn and target is not None else ()
        report = replaying.replay(known.path, module, claims=claims)
    conclude(report, documents, strict=False, by_statement=False)


@answering
def counterexamples(
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR",
            help="$RELUCTANT_COUNTEREXAMPLES or .reluctant/counterexamples if left out.",
        ),
    ] = None,
) -> None:
    """List the counterexamples that were kept, and the line that shows each one's failure again."""
    from reluctant.properties.shelves import line, shelf_at

    shelf = shelf_at(folder)
    for known in shelf.known:
        record = known.record
        typer.echo(f"{record.statement} on {record.subject}: {record.summary} ({record.numbers})")
        typer.echo(f"  {line(known)}")
    for note in shelf.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{len(shelf.known)} counterexamples in {shelf.folder or 'no folder'}")


def _network(known: Saved, target: str, device: str | None) -> nn.Module:
    """Make the user's network as the check made it."""
    from reluctant import targets
    from reluctant.properties.replaying import wrapped

    record = known.record
    module = targets.make_module(target, record.network.get("seed", 0))
    if not record.network["training"]:
        module.eval()
    targets.move(module, device or record.environment["device"])
    x = targets.like_weights(known.tensors["x"], module)
    targets.initialise(wrapped(record, module), [x])
    return module
