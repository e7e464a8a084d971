"""Exporting a module: its operations as a graph, with a place for each in the user's source."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import OutputKind
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from reluctant.theory.errors import UnsupportedOperation
from reluctant.theory.places import first_line, in_trace, is_user, user_frame
from reluctant.theory.spellings import write_out

EXPORT = threading.RLock()  # torch.export patches nn.Module while it works
_LOST = "We found a fake tensor in the exported program"  # what torch says, with no line
_VIEWS = (
    "view",
    "slice",
    "select",
    "chunk",
    "split",
    "transpose",
    "permute",
    "expand",
    "squeeze",
    "narrow",
    "flatten",
    "unbind",
    "alias",
    "detach",
    "reshape",
    "getitem",
)


@contextmanager
def in_peace() -> Iterator[None]:
    """Give export a deep stack, and keep its own warnings and logs from the user."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 10_000))
    loggers = [
        logging.getLogger(name)
        for name in ("torch.fx.experimental.symbolic_shapes", "torch.export", "torch._export")
    ]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        sys.setrecursionlimit(limit)


def export(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """Export a copy of a module's own, which the caller gives away.

    Args:
        module: Copy; hooks are put on its parts while it is exported.
        example: Inputs.

    Raises:
        UnsupportedOperation: If torch.export cannot follow; names, latest first, the parts of the
            module that had run until then.
    """
    finished: list[str] = []
    hooks = [
        part.register_forward_hook(lambda *_, path=path: finished.insert(0, path))
        for path, part in module.named_modules()
        if path
    ]
    try:
        with in_peace(), torch.no_grad():
            exported = torch.export.export(module, (example,), strict=False)
            if _mutates_a_view(exported.graph):
                exported = exported.run_decompositions({})
    except Exception as error:
        said, _ = in_trace(str(error))
        places: tuple[str, ...] = (user_frame(error), said and f"{said}: ")
        after = f"after {finished[0]}: " if finished else ""
        if _LOST in str(error):
            places = (*places, _place_of_data(module))
            reason = (
                "it goes through the .data of a tensor, which torch.export does not follow; use "
                "detach(), and change no weights in a forward"
            )
        elif isinstance(error, GuardOnDataDependentSymNode):
            reason = (
                "the forward branches on the values of its data (an if, a while or a size that they "
                "decide), so it is no path network; use torch.where or gates"
            )
        else:
            reason = (
                f"torch.export cannot follow the module: {first_line(error)} Write this part with "
                "operations on tensors"
            )
        where = next(filter(None, places), after)
        raise UnsupportedOperation(
            f"{where}{reason}",
            operation="torch.export",
            where=where.rstrip(": "),
            parts=tuple(dict.fromkeys(finished)),
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    write_out(exported.graph)
    return exported


def _place_of_data(module: nn.Module) -> str:
    """Return ``file.py:31: `` for the first line of a user's forward that reads or writes ``.data``."""
    for part in module.modules():
        forward = type(part).forward
        try:
            lines, start = inspect.getsourcelines(forward)
        except (OSError, TypeError):
            continue
        name = forward.__code__.co_filename
        found = (k for k, line in enumerate(lines) if re.search(r"\.data\b", line))
        first = next(found, None) if is_user(name) else None
        if first is not None:
            return f"{Path(name).name}:{start + first}: "
    return ""


def output_of(exported: torch.export.ExportedProgram) -> str:
    """Return the name of the node that is the output."""
    kinds = [spec.kind for spec in exported.graph_signature.output_specs]
    results = exported.graph.output_node().args[0]
    return str(results[kinds.index(OutputKind.USER_OUTPUT)].name)


def _mutates_a_view(graph: fx.Graph) -> bool:
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable or not node.all_input_nodes:
            continue
        changed = node.all_input_nodes[0]
        seen_later = any(user is not node for user in changed.users)
        if (
            changed.op == "placeholder"
            or seen_later
            or any(v in str(changed.target) for v in _VIEWS)
        ):
            return True
    return False
