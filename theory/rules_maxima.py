"""Rules for what chooses the largest or the smallest of several entries.

A choice is a layer of gates, 1 at the winner, or equal parts where entries tie and torch shares the
derivative; then a sum. The smallest is the largest of the opposite, and the opposite of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from reluctant.theory.lowered import Call, Lowered, Mask, Path, Static, leaves, number
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.masks import is_mask_arithmetic, mask_of
from reluctant.theory.nodes import Scale
from reluctant.theory.operations import EXTREMES_OF_TWO, EXTREMES_OVER_AXES
from reluctant.theory.rules_choices import is_zero
from reluctant.theory.rules_gates import leaky
from reluctant.theory.rules_routing import shaped
from reluctant.theory.rules_sums import term
from reluctant.theory.windows import Windows, adaptive, sliding


def _winners(
    lower: Lowering,
    call: Call,
    path: Path,
    windows: Windows,
    arrange: Callable[[Tensor], Tensor],
    *,
    source: int,
    ties: str,
    batch: int = 0,
) -> Path:
    """Append the choice of the largest entry of every window.

    Args:
        lower: Network so far.
        call: Operation.
        path: Tensor, arranged so that the windows lie along its last axes.
        windows: Windows.
        arrange: Brings the recorded operand, batch axis first, into the same arrangement.
        source: Node of the operand.
        ties: "first", or "shared" for equal parts.
        batch: Axis of the graph's tensor that counts the examples.
    """
    name = call.node.all_input_nodes[0].name
    listed = lower.reindex(call, [path], windows.move())

    def candidates(values: Mapping[str, Any]) -> Tensor:
        return windows.gather(arrange(values[name]), -math.inf)

    return _chosen(lower, call, listed, candidates, source=source, ties=ties, batch=batch)


def _chosen(
    lower: Lowering,
    call: Call,
    listed: Path,
    candidates: Callable[[Mapping[str, Any]], Tensor],
    *,
    source: int,
    ties: str,
    batch: int = 0,
) -> Path:
    """Append the gates of the winner, and the sum of what they let through.

    Args:
        lower: Network so far.
        call: Operation.
        listed: What is chosen from, along the first axis of an example.
        candidates: Gives the recorded values of the same.
        source: Node of the operand.
        ties: "first", or "shared" for equal parts.
        batch: Axis of the graph's tensor that counts the examples.
    """

    def probe(values: Mapping[str, Any]) -> Tensor:
        compared = candidates(values)
        winners = (compared == compared.amax(1, keepdim=True)).to(compared.dtype)
        if ties == "shared":
            return winners / winners.sum(1, keepdim=True)
        return winners * (winners.cumsum(1) == 1)

    picked = lower.gate(
        call, listed, after=call.name, probe=probe, kind="max", hard=ties == "first", own=True,
        source=source, ties=ties, batch=batch,
    )  # fmt: skip
    return lower.total(call, [picked], [0])


def _pooled_maximum(lower: Lowering, call: Call, path: Path, windows: Windows) -> Path:
    shape = path.shape

    def arrange(q: Tensor) -> Tensor:
        return q.reshape(q.shape[0], *shape)

    return _winners(lower, call, path, windows, arrange, source=path.node, ties="first")


@rule(
    "aten.max_pool1d.default", "aten.max_pool2d.default", "aten.max_pool3d.default",
    "aten.max_pool2d_with_indices.default", "aten.max_pool1d_with_indices.default",
)  # fmt: skip
def _max_pool(lower: Lowering, call: Call) -> Lowered:
    path, rank = lower.batch_first(call, call["self"]), int(call.operation[13])
    value = call.node.meta["val"]
    with_indices = isinstance(value, tuple | list)
    shape = (value[0] if with_indices else value).shape
    windows = sliding(
        path.shape[-rank:],
        call["kernel_size"],
        call["stride"],
        call["padding"],
        call["dilation"],
        shape[-rank:],
    )
    pooled = _pooled_maximum(lower, call, path, windows)
    return (pooled, Mask(call.name, False, None)) if with_indices else pooled


@rule(
    "aten.adaptive_max_pool1d.default",
    "aten.adaptive_max_pool2d.default",
    "aten.adaptive_max_pool3d.default",
)
def _adaptive_max_pool(lower: Lowering, call: Call) -> Lowered:
    path, rank = lower.batch_first(call, call["self"]), len(call["output_size"])
    windows = adaptive(path.shape[-rank:], call.node.meta["val"][0].shape[-rank:])
    return _pooled_maximum(lower, call, path, windows), Mask(call.name, False, None)


@rule(*EXTREMES_OVER_AXES)
def _over_axes(lower: Lowering, call: Call) -> Lowered:
    if isinstance(call["dim"], int):  # and then it gives their places, too
        return _extreme_over(lower, call, [call["dim"]], "first"), Mask(call.name, False, None)
    return _extreme_over(lower, call, call["dim"], "shared")


def _extreme_over(lower: Lowering, call: Call, dims: list[int], ties: str) -> Path:
    sign = EXTREMES_OVER_AXES[call.operation]
    path = lower.path(call, call["self"])
    dims = [d % (len(path.shape) + 1) for d in dims] or list(range(len(path.shape) + 1))
    axes = sorted(path.axis(d) for d in dims)
    others = [a for a in range(len(path.shape)) if a not in axes]
    order = [*others, *axes]
    compared = moved = _signed(lower, call, path, sign)
    if order != sorted(order):
        moved = lower.reindex(call, [moved], lambda ts: ts[0].permute(0, *(a + 1 for a in order)))
    whole = Windows(tuple(torch.arange(path.shape[a])[None] for a in axes))

    def arrange(q: Tensor) -> Tensor:
        return sign * q.movedim(path.batch, 0).permute(0, *(a + 1 for a in order))

    total = _winners(
        lower, call, moved, whole, arrange, source=compared.node, ties=ties, batch=path.batch
    )
    kept, batch = [path.shape[a] for a in others], path.batch - sum(d < path.batch for d in dims)
    if call["keepdim"]:
        kept, batch = [1 if a in axes else n for a, n in enumerate(path.shape)], path.batch
    return replace(_signed(lower, call, shaped(lower, call, total, kept), sign), batch=batch)


def _signed(lower: Lowering, call: Call, path: Path, sign: int) -> Path:
    return path if sign == 1 else lower.scale(call, path, number(sign))


@rule(*EXTREMES_OF_TWO)
def _of_two(lower: Lowering, call: Call) -> Lowered:
    """Read a maximum of q and a q as a leaky ReLU, with 0 as a ReLU, and any other as a choice."""
    sign = EXTREMES_OF_TWO[call.operation]
    given = [a for a in leaves(call.arguments) if isinstance(a, Path | Mask | Static)]
    names = [n.name for n in leaves([*call.node.args, *call.node.kwargs.values()])]
    if is_mask_arithmetic(given):
        return mask_of(call, given)
    if any(isinstance(a, Mask) for a in given):
        raise lower.refuse(call, "it mixes gates and data that carries paths in one tensor")
    shape, batch = lower.broadcast(call, given)
    is_shared = "clamp" not in call.operation  # which gives the derivative to what it clamps
    for q, other, name, at_ties in zip(given, given[::-1], names, ("one", "zero"), strict=True):
        slope = _multiple(lower, q, other)
        if slope is None or sign * slope > sign:
            continue
        path = lower.path(call, q)
        if path.shape == shape:
            word = "half" if is_shared else at_ties
            return leaky(lower, call, path, slope, argument=name, ties=word)
    absent = [is_zero(a) for a in given]
    parts = [
        _signed(lower, call, term(lower, call, a, shape, batch), sign)
        for a, none in zip(given, absent, strict=True)
        if not none
    ]

    def listing(ts: Sequence[Tensor]) -> Tensor:
        present = iter(ts)
        return torch.stack([torch.zeros_like(ts[0]) if n else next(present) for n in absent], 1)

    def candidates(values: Mapping[str, Any]) -> Tensor:
        both = torch.broadcast_tensors(*(values[name].to(lower.dtype) for name in names))
        return torch.stack([sign * t.movedim(batch, 0) for t in both], 1)

    listed = lower.reindex(call, parts, listing)
    ties = "shared" if is_shared else "first"
    total = _chosen(lower, call, listed, candidates, source=listed.node, ties=ties, batch=batch)
    return replace(_signed(lower, call, total, sign), batch=batch)


def _multiple(lower: Lowering, q: Any, other: Any) -> float | None:
    """Return a where the other tensor is a q, None where it is none that is known of."""
    if not isinstance(q, Path):
        return None
    node = lower.nodes[other.node] if isinstance(other, Path) else None
    if isinstance(node, Scale) and node.operands == (q.node,) and other.batch == q.batch:
        return float(node.factor) if node.factor.numel() == 1 else None
    return 0.0 if is_zero(other) else None
