"""What every command does with the terminal: exit codes, one-line errors, progress, width."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol

import typer
from typer.core import TyperGroup

from reluctant.theory.errors import ReluctantError

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")

# Exit codes. Every verdict as expected is 0. An interruption is the shell's own number for it, and
# a fault of this package the system's: neither must look like a refuted theorem.
UNEXPECTED, MISUSE, FAULT, INTERRUPTED = 1, 2, 70, 130

# A table in a log file should not wrap at the width of a terminal that is not there.
_LOG_WIDTH = 120

_BETWEEN_LINES = 10.0  # seconds


# Typer takes its usage errors from Click, or from a copy of it; this is their base in both.
_UsageError: Any = typer.BadParameter.__base__


class Progress(Protocol):
    """Hear how far something has come."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Say what is being done, and how many of how many units are done."""


class OneLineUsage(TyperGroup):
    """Say in one line what is wrong with the words on a command line, where Typer draws a box."""

    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Read the words up to the command."""
        with _usage():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Read the words after the command, and run it."""
        with _usage():
            return super().invoke(ctx)


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # no words at all: Typer prints the help
            raise
        said = _one_line(error.format_message()).replace("Value error, ", "").rstrip(".")
        more = f"see {error.ctx.command_path} --help" if error.ctx else "see --help"
        typer.echo(f"error: {said}{' ' if said.endswith('?') else '; '}{more}", err=True)
        raise typer.Exit(MISUSE) from None


def answering(command: Callable[P, None]) -> Callable[P, None]:
    """Turn the errors that a user can mend into one line on stderr and an exit code."""

    @functools.wraps(command)
    def answered(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (BrokenPipeError, typer.Exit, typer.Abort):
            raise
        except (ReluctantError, OSError) as error:
            typer.echo(f"error: {_one_line(error)}", err=True)
            raise typer.Exit(MISUSE) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Exception:
            traceback.print_exc()
            typer.echo("a fault of reluctant, no verdict: please report the lines above", err=True)
            raise typer.Exit(FAULT) from None

    return answered


def make_console(*, stderr: bool = False) -> Console:
    """Open a console that wraps at the terminal's width, and late where there is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    has_width = stream.isatty() or "COLUMNS" in os.environ
    width = None if has_width else _LOG_WIDTH
    return Console(stderr=stderr, highlight=False, emoji=False, width=width)


@contextmanager
def progress_bar(clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """Show on stderr how far the block has come, and let it be interrupted once.

    At a terminal it is a bar with the time left; elsewhere a line every ten seconds at most.

    Args:
        clock: Gives the time in seconds.

    Yields:
        A function of what is being done, the units done and the units in all.
    """
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    console = make_console(stderr=True)
    hidden = not console.is_terminal  # a hidden bar leaves no empty lines in a log
    bars = progress.Progress(*columns, console=console, transient=True, disable=hidden)
    with interruptible() as is_interrupted, bars:
        task = bars.add_task("", total=None)
        said = clock()

        def advance(what: str, done: int, total: int, /) -> None:
            nonlocal said
            if is_interrupted():
                raise KeyboardInterrupt
            bars.update(task, completed=done, total=total, description=what)
            if hidden and clock() - said >= _BETWEEN_LINES:
                said = clock()
                typer.echo(f"{done} of {total} ({100 * done // max(1, total)} %): {what}", err=True)

        yield advance


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C interrupt the block, and a second Ctrl-C end the process at once.

    Yields:
        A function that tells whether the block was interrupted: an exception that is raised in a
        callback of a library may be lost there.
    """
    pressed = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    # Where SIGINT is ignored, as in the background of a shell, it stays so.
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_usual or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: pressed
    finally:
        if not pressed:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _one_line(error: BaseException | str) -> str:
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return f"{what}; check that the path exists and that you may use it"
    return " ".join(str(error).split())
