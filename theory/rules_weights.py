"""Rules for what multiplies the data by trained weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from reluctant.theory.lowered import Call, Lowered, Path, Static, differs
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.operators import Dense, make_convolution
from reluctant.theory.rules_sums import bias
from reluctant.theory.windows import Windows


def _operand(lower: Lowering, call: Call, argument: Any) -> Path:
    """Return the data operand; a constant in place of the data is an input."""
    if isinstance(argument, Static) and not argument.trained:
        value = argument.value()
        if differs(value):
            raise lower.refuse(call, "a constant input differs from example to example")
        return lower.constant(call, value.shape[1:], value[0], is_input=True)
    if not isinstance(argument, Path):
        raise lower.refuse(call, "its operand carries no paths")
    return argument


def weight_of(lower: Lowering, call: Call, argument: Any, what: str) -> Static:
    """Return an argument that must be trained."""
    if not isinstance(argument, Static):
        raise lower.refuse(call, f"its {what} depends on the data")
    if not argument.trained:
        raise lower.refuse(
            call, f"its {what} is a constant, not a parameter; make it an nn.Parameter"
        )
    return argument


@rule("aten.linear.default")
def _linear(lower: Lowering, call: Call) -> Lowered:
    return dense(
        lower, call, call["input"], weight_of(lower, call, call["weight"], "weight"), call["bias"]
    )


@rule("aten.addmm.default")
def _addmm(lower: Lowering, call: Call) -> Lowered:
    if call["beta"] != 1 or call["alpha"] != 1:
        raise lower.refuse(call, "it scales its parts")
    weight = weight_of(lower, call, call["mat2"], "second factor")
    return dense(lower, call, call["mat1"], weight.view(lambda t: t.t()), call["self"])


def dense(lower: Lowering, call: Call, operand: Any, weight: Static, shift: Any) -> Path:
    """Append a dense layer, its weights one row an output, and its bias if it has one."""
    path = _operand(lower, call, operand)
    if path.batch == len(path.shape):
        raise lower.refuse(call, "it mixes the examples of a batch")
    rows, inputs = weight.value().shape
    result = lower.weighted(call, Dense(inputs, rows, path.shape[:-1]), path, weight)
    return replace(_with_bias(lower, call, result, shift), batch=path.batch)


@rule(
    "aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default",
    "aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding",
)  # fmt: skip
def _convolution(lower: Lowering, call: Call) -> Lowered:
    path = lower.batch_first(call, _operand(lower, call, call["input"]))
    weight = weight_of(lower, call, call["weight"], "weight")
    operator = make_convolution(
        weight.value().shape,
        path.shape[1:],
        call["stride"],
        call["padding"],
        call["dilation"],
        call["groups"],
    )
    return _with_bias(
        lower, call, lower.weighted(call, operator, path, weight), call["bias"], channel=0
    )


@rule("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def _transposed_convolution(lower: Lowering, call: Call) -> Lowered:
    """Read a transposed convolution as what it equals.

    That is a convolution of stride 1 with the weights turned round, over the data with zeros put
    between its positions and around them.
    """
    path = lower.batch_first(call, _operand(lower, call, call["input"]))
    weight = weight_of(lower, call, call["weight"], "weight")
    channels, rows, *taps = weight.value().shape
    groups, rank = int(call["groups"]), len(taps)
    strides, paddings, extras, dilations = (
        [v[0]] * rank if len(v) == 1 else list(v)
        for v in (call["stride"], call["padding"], call["output_padding"], call["dilation"])
    )
    axes = []
    for a, size in enumerate(path.shape[1:]):
        reach = dilations[a] * (taps[a] - 1)
        length = (size - 1) * strides[a] + 1 + 2 * (reach - paddings[a]) + extras[a]
        place = torch.arange(length) - (reach - paddings[a])
        source = place.div(strides[a], rounding_mode="floor")
        is_data = (place % strides[a] == 0) & (source >= 0) & (source < size)
        axes.append(torch.where(is_data, source, -1)[:, None])
    stretched = Windows(tuple(axes))

    def turned(t: Tensor) -> Tensor:
        grouped = t.reshape(groups, channels // groups, rows, *taps).transpose(1, 2)
        whole = grouped.reshape(groups * rows, channels // groups, *taps)
        return whole.flip(list(range(2, 2 + rank)))

    spread = lower.reindex(call, [path], lambda ts: stretched.gather(ts[0])[:, 0])
    weight = weight.view(turned)
    operator = make_convolution(weight.value().shape, spread.shape[1:], [1], [0], dilations, groups)
    result = lower.weighted(call, operator, spread, weight)
    return _with_bias(lower, call, result, call["bias"], channel=0)


def _with_bias(
    lower: Lowering, call: Call, result: Path, shift: Any, channel: int | None = None
) -> Path:
    if shift is None:
        return result
    if not isinstance(shift, Static):
        raise lower.refuse(call, "its bias depends on the data")
    if channel is not None:
        rank = len(result.shape) - 1
        shift = shift.view(lambda t: t.reshape(-1, *[1] * rank))
    if shift.trained:
        added = bias(lower, call, shift, result.shape)
    else:
        added = lower.constant(call, result.shape, shift.value().to(torch.float64))
    return lower.total(call, [result, added])
