"""Rules for what multiplies the data by gates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from reluctant.theory.lowered import Call, Lowered, Mask, Path, Static, number
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.masks import mask_of
from reluctant.theory.rules_routing import shaped
from reluctant.theory.windows import Windows, adaptive, sliding


def own_gates(
    lower: Lowering,
    call: Call,
    q: Path,
    argument: str,
    ties: str = "zero",
    *,
    kind: str = "relu",
    low: Callable[[], Tensor] | None = None,
    above: float = 0.0,
    **rest: Any,
) -> Path:
    """Append gates that are 1 where an operand of the call is above a number, and low elsewhere.

    Args:
        lower: Network so far.
        call: Operation.
        q: What is gated, the operand less that number.
        argument: "self", or the name of the graph node of the operand.
        ties: Derivative at ties.
        kind: Kind of the layer.
        low: Gives the value of the gates that are not open, broadcastable to the operand; 0 if None.
        above: The number.
        rest: What else is to be said of the layer.
    """
    name = call.node.all_input_nodes[0].name if argument == "self" else argument

    def probe(values: Mapping[str, Any]) -> Tensor:
        pre_activation: Tensor = values[name]
        gates = (pre_activation > above).movedim(q.batch, 0).to(pre_activation.dtype)
        return gates if low is None else torch.where(gates > 0, gates, low().detach().to(gates))

    if low is not None:
        rest["low"] = low
    # Recorded before the call, which may change its operand in place.
    gated = lower.gate(
        call, q, after=name, probe=probe, kind=kind, hard=low is None, own=True,
        source=q.node, ties=ties, **rest,
    )  # fmt: skip
    return Path(gated.node, gated.shape, q.batch)


@rule("aten.relu.default", "aten.relu_.default")
def _relu(lower: Lowering, call: Call) -> Lowered:
    return own_gates(lower, call, lower.path(call, call["self"]), "self")


@rule("aten.leaky_relu.default", "aten.leaky_relu_.default")
def _leaky(lower: Lowering, call: Call) -> Lowered:
    return leaky(lower, call, lower.path(call, call["self"]), float(call["negative_slope"]))


def leaky(lower: Lowering, call: Call, q: Path, slope: float, **rest: Any) -> Path:
    """Append the gates of a leaky ReLU; those of a ReLU if its slope is 0."""
    rest = {"argument": "self", **rest}
    if not slope:
        return own_gates(lower, call, q, **rest)
    return own_gates(lower, call, q, kind="leaky", low=lambda: number(slope), **rest)


@rule("aten.abs.default", "aten.abs_.default")
def _absolute(lower: Lowering, call: Call) -> Lowered:
    if isinstance(call["self"], Mask):
        return mask_of(call, [call["self"]])
    return leaky(lower, call, lower.path(call, call["self"]), -1.0, ties="half")


@rule("aten.rrelu.default", "aten.rrelu_.default")
def _random_slope(lower: Lowering, call: Call) -> Lowered:
    if call["training"]:
        raise lower.refuse(call, "its slope is random in training mode; call module.eval() first")
    slope = (float(call["lower"]) + float(call["upper"])) / 2.0
    return leaky(lower, call, lower.path(call, call["self"]), slope)


@rule("aten.prelu.default")
def _trained_slope(lower: Lowering, call: Call) -> Lowered:
    q, slope = lower.path(call, call["self"]), call["weight"]
    if not isinstance(slope, Static):
        raise lower.refuse(call, "its slopes depend on the data")
    if slope.trained and slope.parameter is None:
        raise lower.refuse(
            call, "its slopes are computed from parameters; hold them in a parameter of their own"
        )
    count = slope.value().numel()
    if count > 1 and q.batch != 0:
        raise lower.refuse(call, "the batch axis of its operand is not the first")
    size = (-1, *[1] * (len(q.shape) - 1)) if count > 1 else ()
    if slope.trained:
        lower.note(
            f"{call.place}: {slope.name} is the slope of a PReLU: it makes values of gates, is no "
            "weight on a path, and laws over the weights hold it still"
        )
    return own_gates(
        lower, call, q, "self", kind="leaky", low=lambda: slope.value().reshape(size),
        slope=slope.parameter,
    )  # fmt: skip


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
        return own_gates(lower, call, q, "self", ties="one" if at_edges else "zero")
    if least is not None and most is not None and not least < most:
        raise lower.refuse(call, f"its lower edge {least} is not below its upper edge {most}")

    def ramp(edge: float, ties: str) -> Path:
        parts = [q]
        if edge:
            parts.append(lower.constant(call, q.shape, number(-edge)))
        shifted = lower.total(call, parts) if edge else q
        return own_gates(
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


@rule("reluctant.gate.default")
def _gate(lower: Lowering, call: Call) -> Lowered:
    q = call["q"]
    source = q.node if isinstance(q, Path) else None
    hard = call["slope"] == 0
    return Mask(call.name, hard, source, follows=True, moves=not hard)


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
    for held in (n.meta["val"] for n in call.node.all_input_nodes if n.name == name):
        if held.ndim != len(shape) + 1 or held.shape[0] != lower.batch:
            raise lower.refuse(call, "its gates have no axis that counts the examples")
    own = mask.follows and mask.source is not None and mask.source == value.node
    if own and mask.sign and (mask.sign in ("gt", "ge")) != turned:
        return stepped(lower, call, value, mask)

    def probe(values: Mapping[str, Any]) -> Tensor:
        gates = values[name]
        open_ = gates.logical_not() if turned else gates
        numbers = open_.to(lower.dtype) if open_.dtype is torch.bool else open_
        return numbers.expand(-1, *shape).detach()  # type: ignore[no-any-return]

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
        moves=mask.moves,
    )


def stepped(
    lower: Lowering, call: Call, q: Path, mask: Mask, low: Callable[[], Tensor] | None = None
) -> Path:
    """Append a ReLU, or a leaky one, that is written with a comparison.

    Args:
        lower: Network so far.
        call: Operation.
        q: What is gated and compared with 0.
        mask: The comparison.
        low: Gives the slope below 0; 0 if None.
    """
    argument = next(n.name for n in call.node.all_input_nodes if lower.lowered[n.name] == q)
    ties = "zero" if mask.sign in ("gt", "le") else "one"
    kind = "relu" if low is None else "leaky"
    made_by = mask.graph_node
    return own_gates(lower, call, q, argument, ties, kind=kind, low=low, made_by=made_by)
