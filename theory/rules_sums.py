"""Rules for what adds and averages entries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from reluctant.theory.lowered import Call, Lowered, Mask, Path, Static, number
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.masks import mask_of
from reluctant.theory.operators import Bias
from reluctant.theory.rules_routing import expanded, shaped
from reluctant.theory.windows import Windows, adaptive, sliding


def _summed(
    lower: Lowering, call: Call, path: Path, dims: Sequence[int] | None, keep: bool, mean: bool
) -> Path:
    rank = len(path.shape) + 1
    dims = [d % rank for d in dims] if dims else list(range(rank))
    axes = [path.axis(d) for d in dims]
    total = lower.total(call, [path], axes)
    if mean:
        count = math.prod(path.shape[a] for a in axes)
        total = lower.scale(call, total, number(1.0 / count))
    if keep:
        kept = [1 if a in axes else size for a, size in enumerate(path.shape)]
        return Path(shaped(lower, call, total, kept).node, tuple(kept), path.batch)
    return Path(total.node, total.shape, path.batch - sum(d < path.batch for d in dims))


@rule("aten.mean.dim", "aten.sum.dim_IntList")
def _mean(lower: Lowering, call: Call) -> Lowered:
    path = lower.path(call, call["self"])
    return _summed(lower, call, path, call["dim"], call["keepdim"], "mean" in call.operation)


@rule(
    "aten.add.Tensor",
    "aten.add_.Tensor",
    "aten.sub.Tensor",
    "aten.sub_.Tensor",
    "aten.rsub.Scalar",
    "aten.add.Scalar",
    "aten.sub.Scalar",
)
def _add(lower: Lowering, call: Call) -> Lowered:
    left, right, alpha = call["self"], call["other"], call.arguments.get("alpha", 1)
    signs = [1.0, -float(alpha)] if "sub" in call.operation else [1.0, float(alpha)]
    if "rsub" in call.operation:
        signs = [-float(alpha), 1.0]
    if isinstance(left, Mask) or isinstance(right, Mask):
        if not any(isinstance(t, Path) for t in (left, right)):
            return mask_of(call, [a for a in (left, right) if isinstance(a, Path | Mask | Static)])
        raise lower.refuse(call, "it adds gates to a tensor that carries paths")
    shape, batch = lower.broadcast(call, (left, right))
    parts = []
    for added, sign in zip((left, right), signs, strict=True):
        part = term(lower, call, added, shape, batch)
        parts.append(part if sign == 1.0 else lower.scale(call, part, number(sign)))
    total = lower.total(call, parts)
    return Path(total.node, total.shape, batch)


def term(lower: Lowering, call: Call, added: Any, shape: tuple[int, ...], batch: int) -> Path:
    """Return paths, trained weights or constants as a path tensor, broadcast to one example's shape.

    Args:
        lower: Network so far.
        call: Operation that reads it.
        added: Path tensor, static tensor or number.
        shape: Shape of one example.
        batch: Axis of the result that counts the examples.
    """
    if isinstance(added, Path):
        return expanded(lower, call, added, shape)
    if isinstance(added, Static) and added.trained:
        axis = batch - (len(shape) + 1 - added.value().ndim)
        if axis >= 0:
            if not added.repeats(axis):
                raise lower.refuse(call, "a trained tensor with one entry an example is added")
            added = added.view(lambda t: t.select(axis, 0))
        return bias(lower, call, added, shape)
    value = added.value() if isinstance(added, Static) else number(added)
    return lower.constant(call, shape, lower.one_example(call, value, len(shape), batch))


def bias(lower: Lowering, call: Call, static: Static, shape: tuple[int, ...]) -> Path:
    """Append trained weights that are added at every position."""
    for axis in range(static.value().ndim):
        if static.value().shape[axis] > 1 and static.repeats(axis):
            static = static.view(lambda t, a=axis: t.narrow(a, 0, 1))  # type: ignore[misc]
    sizes = tuple(static.value().shape)
    offset = len(shape) - len(sizes)
    own = tuple(offset + a for a, size in enumerate(sizes) if size != 1)
    flat = static.view(lambda t: t.reshape([size for size in t.shape if size != 1]))
    return lower.weighted(call, Bias(shape, own), None, flat)


def _pooled_average(
    lower: Lowering, call: Call, path: Path, windows: Windows, ones: Tensor
) -> Path:
    total = lower.total(call, [lower.reindex(call, [path], windows.move())], [0])
    lead = torch.ones(1, *path.shape, dtype=torch.float64)
    counts = windows.gather(lead).sum(1)
    divisor = torch.round(counts / ones)
    return lower.scale(call, total, (1.0 / divisor)[0])


@rule("aten.avg_pool1d.default", "aten.avg_pool2d.default", "aten.avg_pool3d.default")
def _average_pool(lower: Lowering, call: Call) -> Lowered:
    path, rank = lower.batch_first(call, call["self"]), int(call.operation[13])
    assert call.shape is not None
    windows = sliding(
        path.shape[-rank:],
        call["kernel_size"],
        call["stride"],
        call["padding"],
        [1],
        call.shape[-rank:],
    )
    arguments = {k: v for k, v in call.arguments.items() if k != "self"}
    ones = call.node.target(torch.ones(1, *path.shape, dtype=torch.float64), **arguments)  # type: ignore[operator]
    return _pooled_average(lower, call, path, windows, ones)


@rule(
    "aten.adaptive_avg_pool1d.default",
    "aten.adaptive_avg_pool2d.default",
    "aten.adaptive_avg_pool3d.default",
)
def _adaptive_average_pool(lower: Lowering, call: Call) -> Lowered:
    path = lower.batch_first(call, call["self"])
    assert call.shape is not None
    rank = len(call["output_size"])
    windows = adaptive(path.shape[-rank:], call.shape[-rank:])
    return _pooled_average(
        lower, call, path, windows, torch.ones(1, *call.shape[1:], dtype=torch.float64)
    )
