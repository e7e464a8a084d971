"""Rules for what multiplies the data by gates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from reluctant.theory.lowered import Call, Lowered, Mask, Path, Static, number
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.masks import is_mask_arithmetic, mask_of
from reluctant.theory.rules_routing import expanded, shaped
from reluctant.theory.windows import Windows, adaptive, sliding


def _own(
    lower: Lowering,
    call: Call,
    q: Path,
    argument: str,
    ties: str = "zero",
    *,
    kind: str = "relu",
    low: float = 0.0,
    above: float = 0.0,
) -> Path:
    """Append gates that are 1 where an operand of the call is above a number, and low elsewhere.

    Args:
        lower: Network so far.
        call: Operation.
        q: What is gated, the operand less that number.
        argument: "self", or the name of the graph node of the operand.
        ties: Derivative at ties.
        kind: Kind of the layer.
        low: Value of the gates that are not open.
        above: The number.
    """
    name = call.node.all_input_nodes[0].name if argument == "self" else argument

    def probe(values: Mapping[str, Any]) -> Tensor:
        pre_activation: Tensor = values[name]
        gates = (pre_activation > above).movedim(q.batch, 0).to(pre_activation.dtype)
        return gates if low == 0.0 else torch.where(gates > 0, gates, low)

    # Recorded before the call, which may change its operand in place.
    gated = lower.gate(
        call, q, after=name, probe=probe, kind=kind, hard=low == 0.0, own=True,
        source=q.node, ties=ties, low=low,
    )  # fmt: skip
    return Path(gated.node, gated.shape, q.batch)


@rule("aten.relu.default", "aten.relu_.default")
def _relu(lower: Lowering, call: Call) -> Lowered:
    return _own(lower, call, lower.path(call, call["self"]), "self")


@rule("aten.leaky_relu.default", "aten.leaky_relu_.default")
def _leaky(lower: Lowering, call: Call) -> Lowered:
    low = float(call["negative_slope"])
    kind = "leaky" if low else "relu"
    return _own(lower, call, lower.path(call, call["self"]), "self", kind=kind, low=low)


@rule(
    "aten.clamp_min.default", "aten.clamp_min_.default", "aten.clamp.default", "aten.clamp_.default",
    "aten.clamp_max.default", "aten.clamp_max_.default", "aten.clip.default", "aten.clip_.default",
)  # fmt: skip
def _clamp(lower: Lowering, call: Call) -> Lowered:
    least, most = call.arguments.get("min"), call.arguments.get("max")
    return _clipped(lower, call, least, most, at_edges=True)


@rule("aten.hardtanh.default", "aten.hardtanh_.default")
def _hardtanh(lower: Lowering, call: Call) -> Lowered:
    return _clipped(lower, call, call["min_val"], call["max_val"], at_edges=False)


@rule("aten.relu6.default", "aten.relu6_.default")
def _relu6(lower: Lowering, call: Call) -> Lowered:
    return _clipped(lower, call, 0.0, 6.0, at_edges=False)


def _clipped(
    lower: Lowering, call: Call, least: float | None, most: float | None, *, at_edges: bool
) -> Path:
    r"""Append a clipped ramp: two gates and a source; a ReLU if it is cut at 0 alone.

    .. math:: \min(\max(q, a), b) = a + 1\{q > a\} (q - a) - 1\{q > b\} (q - b)

    Args:
        lower: Network so far.
        call: Operation.
        least: a; None or infinite for none, where the first two terms are q.
        most: b; None or infinite for none.
        at_edges: True if torch's derivative at a and at b is 1, False if it is 0.
    """
    q = lower.path(call, call["self"])
    if any(isinstance(edge, Path | Static | Mask) for edge in (least, most)):
        raise lower.refuse(call, "its edges are tensors; only numbers can be read")
    least, most = (None if e is None or math.isinf(e) else e for e in (least, most))
    if least is None and most is None:
        return q
    if least == 0 and most is None:
        return _own(lower, call, q, "self", ties="one" if at_edges else "zero")
    if least is not None and most is not None and not least < most:
        raise lower.refuse(call, f"its lower edge {least} is not below its upper edge {most}")

    def ramp(edge: float, ties: str) -> Path:
        parts = [q]
        if edge:
            parts.append(lower.constant(call, q.shape, number(-edge)))
        shifted = lower.total(call, parts) if edge else q
        return _own(
            lower, call, Path(shifted.node, q.shape, q.batch), "self", ties, kind="clip", above=edge
        )

    parts = [q if least is None else ramp(float(least), "one" if at_edges else "zero")]
    if most is not None:
        upper = ramp(float(most), "zero" if at_edges else "one")
        parts.append(lower.scale(call, upper, number(-1)))
    if least:
        parts.append(lower.constant(call, q.shape, number(least)))
    total = lower.total(call, parts)
    return Path(total.node, total.shape, q.batch)


@rule("aten.threshold.default", "aten.threshold_.default")
def _threshold(lower: Lowering, call: Call) -> Lowered:
    if call["threshold"] != 0 or call["value"] != 0:
        raise lower.refuse(call, "only the threshold 0 with value 0 is a ReLU")
    return _own(lower, call, lower.path(call, call["self"]), "self")


@rule("aten.maximum.default", "aten.max.other")
def _maximum(lower: Lowering, call: Call) -> Lowered:
    left, right = call["self"], call["other"]
    names = [n.name for n in call.node.all_input_nodes]
    if isinstance(left, Static):
        left, right, names = right, left, names[::-1]
    if not isinstance(right, Static) or right.trained or bool((right.value() != 0).any()):
        raise lower.refuse(call, "only the maximum with 0 is a ReLU")
    return _own(lower, call, lower.path(call, left), names[0], ties="half")


@rule("reluctant.gate.default")
def _gate(lower: Lowering, call: Call) -> Lowered:
    q = call["q"]
    source = q.node if isinstance(q, Path) else None
    return Mask(call.name, call["slope"] == 0, source, follows=True)


def _winners(
    lower: Lowering,
    call: Call,
    path: Path,
    windows: Windows,
    arrange: Callable[[Tensor], Tensor],
    *,
    source: int,
    ties: str,
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
    """
    name = call.node.all_input_nodes[0].name

    def probe(values: Mapping[str, Any]) -> Tensor:
        candidates = windows.gather(arrange(values[name]), -math.inf)
        winners = (candidates == candidates.amax(1, keepdim=True)).to(candidates.dtype)
        if ties == "shared":
            return winners / winners.sum(1, keepdim=True)
        return winners * (winners.cumsum(1) == 1)

    picked = lower.gate(
        call,
        lower.reindex(call, [path], windows.move()),
        after=call.name,
        probe=probe,
        kind="max",
        hard=ties == "first",
        own=True,
        source=source,
        ties=ties,
    )
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
    path, rank = lower.path(call, call["self"]), int(call.operation[13])
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
    path, rank = lower.path(call, call["self"]), len(call["output_size"])
    windows = adaptive(path.shape[-rank:], call.node.meta["val"][0].shape[-rank:])
    return _pooled_maximum(lower, call, path, windows), Mask(call.name, False, None)


@rule("aten.amax.default")
def _amax(lower: Lowering, call: Call) -> Lowered:
    return _maximum_over(lower, call, call["dim"], call["keepdim"], "shared")


@rule("aten.max.dim")
def _max_over(lower: Lowering, call: Call) -> Lowered:
    return _maximum_over(lower, call, [call["dim"]], call["keepdim"], "first"), Mask(
        call.name, False, None
    )


def _maximum_over(lower: Lowering, call: Call, dims: list[int], keep: bool, ties: str) -> Path:
    path = lower.path(call, call["self"])
    rank = len(path.shape) + 1
    axes = sorted(path.axis(d % rank) for d in dims) if dims else list(range(rank - 1))
    if path.batch != 0:
        raise lower.refuse(call, "the batch axis of its operand is not the first")
    others = [a for a in range(len(path.shape)) if a not in axes]
    order = [*others, *axes]
    moved = path
    if order != sorted(order):
        moved = lower.reindex(call, [path], lambda ts: ts[0].permute(0, *(a + 1 for a in order)))
    whole = Windows(tuple(torch.arange(path.shape[a])[None] for a in axes))

    def arrange(q: Tensor) -> Tensor:
        return q.permute(0, *(a + 1 for a in order))

    total = _winners(lower, call, moved, whole, arrange, source=path.node, ties=ties)
    kept = (
        [1 if a in axes else size for a, size in enumerate(path.shape)]
        if keep
        else [path.shape[a] for a in others]
    )
    return shaped(lower, call, total, kept)


def multiplied_by_mask(
    lower: Lowering, call: Call, value: Path, mask: Mask, *, turned: bool = False
) -> Path:
    """Append a layer of gates that were computed as a tensor of their own.

    Args:
        lower: Network so far.
        call: Operation.
        value: What is gated.
        mask: Gates.
        turned: True if the gates are open where the mask is not.
    """
    shape, name = value.shape, mask.graph_node
    own = mask.follows and mask.source is not None and mask.source == value.node

    def probe(values: Mapping[str, Any]) -> Tensor:
        gates = values[name]
        lead = gates if gates.ndim == len(shape) + 1 else gates[None]
        lead = lead.logical_not() if turned else lead
        return lead.expand(-1, *shape).detach()  # type: ignore[no-any-return]

    return lower.gate(
        call,
        value,
        after=call.name,
        probe=probe,
        kind="mask",
        hard=mask.hard,
        own=own,
        source=mask.source,
        ties=mask.ties,
        made_by=name,
    )


@rule("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf")
def _where(lower: Lowering, call: Call) -> Lowered:
    chosen, other = call["self"], call["other"]
    turned = isinstance(other, Path)
    kept, left = (other, chosen) if turned else (chosen, other)
    if not isinstance(call["condition"], Mask) or not isinstance(kept, Path) or not _is_zero(left):
        raise lower.refuse(
            call, "only a choice between the data and 0, by a comparison of the data, is a gate"
        )
    return _kept_where(lower, call, kept, call["condition"], turned=turned)


@rule(
    "aten.masked_fill.Scalar", "aten.masked_fill_.Scalar",
    "aten.masked_fill.Tensor", "aten.masked_fill_.Tensor",
)  # fmt: skip
def _masked_fill(lower: Lowering, call: Call) -> Lowered:
    filled, mask, value = call["self"], call["mask"], call["value"]
    if is_mask_arithmetic([filled, mask, value]):
        return mask_of(call, [a for a in (filled, mask, value) if isinstance(a, Mask | Static)])
    if not isinstance(mask, Mask) or not isinstance(filled, Path) or not _is_zero(value):
        raise lower.refuse(
            call, "only the data, filled with 0 by a comparison of the data, are gated"
        )
    return _kept_where(lower, call, filled, mask, turned=True)


def _kept_where(lower: Lowering, call: Call, kept: Path, mask: Mask, *, turned: bool) -> Path:
    if kept.batch != 0:
        raise lower.refuse(call, "gates multiply a tensor whose batch axis is not the first")
    assert call.shape is not None
    kept = expanded(lower, call, kept, call.shape[1:])
    return multiplied_by_mask(lower, call, kept, mask, turned=turned)


def _is_zero(value: Any) -> bool:
    if isinstance(value, Static):
        return not value.trained and not bool((value.value() != 0).any())
    return isinstance(value, int | float) and value == 0
