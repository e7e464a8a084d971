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
        source=q.node, ties=ties, batch=q.batch, **rest,
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
