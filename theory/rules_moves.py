"""The rule for what only moves entries, whatever its arguments: where each comes from is found by running it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.fx.node import map_arg

from reluctant.theory.lowered import Call, Lowered, Mask, Path, Static, Unreadable, leaves, value_of
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.masks import is_mask_arithmetic, mask_of
from reluctant.theory.operations import MOVED


@rule(*MOVED)
def _moved(lower: Lowering, call: Call) -> Lowered:
    """Number the entries of all operands from 1 on, move the numbers, and read off who came where."""
    if is_mask_arithmetic([*leaves(call.arguments)]):
        return mask_of(call, [*leaves(call.arguments)])
    nodes = [n for n in call.node.all_input_nodes if isinstance(lower.lowered[n.name], Path)]
    paths = [lower.path(call, lower.lowered[n.name]) for n in nodes]
    others = [lower.lowered[n.name] for n in call.node.all_input_nodes if n not in nodes]
    if not paths or any(isinstance(other, Mask) for other in others):
        why = "gates, or places that depend on the data, are among its operands"
        return Unreadable(lower.refuse(call, why), is_final=True)
    if any(isinstance(other, Static) and other.value().is_floating_point() for other in others):
        raise lower.refuse(call, "it puts constants or weights among the data; use torch.cat")
    numbers = _numbered(lower, paths)

    def number_of(node: fx.Node) -> Any:
        if node in nodes:
            return numbers[nodes.index(node)]
        return value_of(lower.lowered[node.name]).cpu()

    args, kwargs = map_arg((call.node.args, call.node.kwargs), number_of)
    results = call.node.target(*args, **kwargs)  # type: ignore[operator]
    if isinstance(results, Tensor):
        return _routed(lower, call, paths, results)
    return tuple(_routed(lower, call, paths, result) for result in results)


def _numbered(lower: Lowering, paths: Sequence[Path]) -> list[Tensor]:
    """Return each operand with the numbers of its entries in place of them, examples one after another."""
    total, start, found = _size(paths), 1, []
    for path in paths:
        own = torch.arange(start, start + math.prod(path.shape), dtype=torch.float64)
        examples = total * torch.arange(lower.batch, dtype=torch.float64)[:, None]
        found.append((own + examples).reshape(lower.batch, *path.shape).movedim(0, path.batch))
        start += math.prod(path.shape)
    return found


def _size(paths: Sequence[Path]) -> int:
    return sum(math.prod(path.shape) for path in paths)


def _routed(lower: Lowering, call: Call, paths: Sequence[Path], numbers: Tensor) -> Path:
    """Append the move that made numbers of entries, 0 where one comes from nowhere."""
    batch = _batch_axis(lower, paths, numbers)
    if batch is None:
        raise lower.refuse(call, "it mixes the examples of a batch")
    source = numbers.select(batch, 0)
    index = source.flatten().long()

    def move(operands: Sequence[Tensor]) -> Tensor:
        entries = torch.cat([t.flatten(1) for t in operands], 1)
        known = F.pad(entries, (1, 0))
        return known.index_select(1, index.to(known.device)).reshape(len(known), *source.shape)

    moved = lower.reindex(call, paths, move)
    return Path(moved.node, moved.shape, batch)


def _batch_axis(lower: Lowering, paths: Sequence[Path], numbers: Tensor) -> int | None:
    """Return the axis along which every example has its own entries, moved as those of the first."""
    total = _size(paths)
    examples = total * torch.arange(lower.batch, dtype=torch.float64)
    axes = [axis for axis, size in enumerate(numbers.shape) if size == lower.batch]
    for axis in sorted(axes, key=lambda axis: axis != paths[0].batch):
        along = numbers.movedim(axis, -1)
        if torch.equal(along, torch.where(along[..., :1] > 0, along[..., :1] + examples, 0.0)):
            is_first = bool((along[..., 0] <= total).all())
            return axis if is_first else None
    return None
