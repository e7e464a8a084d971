"""Places in a user's source: which file and line an error or an operation comes from."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

import torch
from torch import fx

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


def in_trace(trace: str) -> tuple[str, str]:
    """Return ``file.py:31`` and the source there, of the innermost line of the user's own in a trace.

    Args:
        trace: Text with lines such as ``File "net.py", line 31, in forward``, the source below each.
    """
    lines = [line.strip() for line in trace.splitlines()]
    for k in reversed(range(len(lines))):
        filename, found, rest = lines[k].removeprefix('File "').partition('", line ')
        if found and lines[k].startswith('File "') and is_user(filename):
            below = "".join(lines[k + 1 : k + 2]).partition("  #")[0]
            is_source = not below.startswith('File "')
            return f"{Path(filename).name}:{rest.split(',')[0]}", below if is_source else ""
    return "", ""


def place_of(node: fx.Node) -> str:
    """Return file and line of a call in the user's source, or else its module's path."""
    place, _ = in_trace(node.meta.get("stack_trace") or "")
    path, kind = _module_of(node)
    return place or (f"{path or 'the module'} ({kind.rpartition('.')[2]})" if kind else node.name)


def written_at(node: fx.Node) -> str:
    """Return what the user wrote where a node is called: a module of torch's, or else the source line.

    It is empty where the place says as much.
    """
    place, source = in_trace(node.meta.get("stack_trace") or "")
    path, kind = _module_of(node)
    if place and kind.startswith("torch.nn."):
        return f"{path} ({kind.rpartition('.')[2]})"
    return f"“{source}”" if source else ""


def _module_of(node: fx.Node) -> tuple[str, str]:
    """Return path and class of the module in whose forward a node is called."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    return path, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
