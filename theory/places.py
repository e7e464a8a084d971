"""Places in a user's source: which file and line an error or an operation comes from."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

import torch

_FOREIGN = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parent),
    *(
        f"{sysconfig.get_paths()['stdlib']}/{name}"
        for name in ("contextlib", "copy", "functools", "importlib", "typing")
    ),
    "<",
)


def is_user(filename: str) -> bool:
    """Tell whether a file is neither torch's, nor Python's own, nor of the theory."""
    return not filename.startswith(_FOREIGN) and "typing_extensions" not in filename


def user_frame(error: BaseException, outside: Path | None = None) -> str:
    """Return ``file.py:31: `` for the innermost line of the user's own, or nothing.

    Args:
        error: Error that was raised.
        outside: Folder whose files are not the user's either.
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_user(f.filename)]
    frames = [f for f in frames if outside is None or not Path(f.filename).is_relative_to(outside)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: " if frames else ""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, as a sentence."""
    if isinstance(error, SystemExit):
        return f"it leaves Python with the code {error.code!r}."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".") + "."
