"""Rules for what multiplies entries by constants, or by gates computed elsewhere."""

from __future__ import annotations

import torch

from reluctant.theory.lowered import Call, Lowered, Mask, Path, Static, differs, number
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.masks import mask_of
from reluctant.theory.rules_gates import multiplied_by_mask
from reluctant.theory.rules_products import times_weights
from reluctant.theory.rules_routing import expanded


@rule(
    "aten.mul.Tensor",
    "aten.mul_.Tensor",
    "aten.div.Tensor",
    "aten.div_.Tensor",
    "aten.mul.Scalar",
    "aten.div.Scalar",
)
def _multiply(lower: Lowering, call: Call) -> Lowered:
    left, right = call["self"], call["other"]
    divides = "div" in call.operation
    if isinstance(right, Path) and not divides:
        left, right = right, left
    if isinstance(right, Path):
        made = "it divides by data" if divides else "it is a product of two data tensors"
        raise lower.refuse(
            call,
            f"{made}; gates must be comparisons such as (q > 0), or made by reluctant's gate operation",
        )
    if not isinstance(left, Path):
        if any(isinstance(a, Static) and a.trained for a in (left, right)):
            raise lower.refuse(
                call, "weights multiply gates; multiply what is gated by them before"
            )
        return mask_of(call, [a for a in (left, right) if isinstance(a, Mask | Static)])
    shape, batch = lower.broadcast(call, [left])
    left = Path(expanded(lower, call, left, shape).node, shape, batch)
    if isinstance(right, Mask):
        if divides:
            raise lower.refuse(call, "it divides by gates")
        if left.batch != 0:
            raise lower.refuse(call, "gates multiply a tensor whose batch axis is not the first")
        return multiplied_by_mask(lower, call, left, right)
    if isinstance(right, Static) and right.trained:
        if divides:
            raise lower.refuse(call, f"it divides by the trained factor {right.name}")
        return times_weights(lower, call, left, right)
    value = right.value() if isinstance(right, Static) else number(right)
    if not divides and left.batch == 0 and value.ndim == len(shape) + 1 and differs(value):
        hard = bool(((value == 0) | (value == 1)).all())
        assert isinstance(right, Static)
        return multiplied_by_mask(lower, call, left, Mask(right.node, hard, None))
    factor = lower.one_example(call, value.double(), len(shape), batch)
    scaled = lower.scale(call, left, 1.0 / factor if divides else factor)
    return Path(scaled.node, scaled.shape, left.batch)


@rule("aten.neg.default")
def _negate(lower: Lowering, call: Call) -> Lowered:
    return lower.scale(call, lower.path(call, call["self"]), number(-1))


@rule(
    "aten.ones_like.default",
    "aten.zeros_like.default",
    "aten.full_like.default",
    "aten.new_ones.default",
    "aten.new_zeros.default",
    "aten.new_full.default",
)
def _filled(lower: Lowering, call: Call) -> Lowered:
    assert call.shape is not None
    fill = (
        1.0
        if "ones" in call.operation
        else 0.0
        if "zeros" in call.operation
        else float(call["fill_value"])
    )
    value = torch.full(call.shape, fill, dtype=call.node.meta["val"].dtype)
    return Static(lambda: value, name=call.name)


@rule("aten._native_batch_norm_legit_no_training.default")
def _written_out_batch_norm(lower: Lowering, call: Call) -> Lowered:
    """Read what functionalisation makes of a batch norm: it and two empty statistics."""
    return _batch_norm(lower, call), None, None


@rule("aten.batch_norm.default")
def _batch_norm(lower: Lowering, call: Call) -> Lowered:
    path = lower.batch_first(call, call["input"])
    mean, variance = call["running_mean"], call["running_var"]
    if call.arguments.get("training") or mean is None or variance is None:
        raise lower.refuse(
            call,
            "batch norm in training mode depends on the whole batch; call module.eval() and keep running statistics",
        )
    deviation = torch.sqrt(variance.value().double() + call["eps"])
    factor = (
        1.0 / deviation if call["weight"] is None else call["weight"].value().double() / deviation
    )
    shift = torch.zeros_like(factor) if call["bias"] is None else call["bias"].value().double()
    size = (-1, *[1] * (len(path.shape) - 1))
    center = mean.value().double() * factor
    factor, constant = factor.reshape(size), (shift - center).reshape(size)
    magnitude = (shift.abs() + center.abs()).reshape(size)
    scaled = lower.scale(call, path, factor)
    lower.note(
        "batch norm: γ and β and the statistics are constants; they are not among the weights"
    )
    if not bool((magnitude != 0).any()):
        return scaled
    return lower.total(
        call, [scaled, lower.constant(call, path.shape, constant, magnitude=magnitude)]
    )
