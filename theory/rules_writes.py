"""Rules for what writes into a part of a tensor: ``h[:, :k].relu_()``, ``h[:, :k] = y``.

Export turns a write into a new tensor, in which the written entries come from one operand and the
others from another. That is routing, as a concatenation is: no entry is added to another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from reluctant.theory.lowered import Call, Lowered, Mask, Path, Static, leaves, number
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.masks import mask_of
from reluctant.theory.rules_routing import expanded
from reluctant.theory.rules_sums import term


def _gates_alone(call: Call) -> Mask | None:
    """Return the gates that a write makes of gates, or None if it concerns paths."""
    tensors = [a for a in leaves(call.arguments) if isinstance(a, Path | Mask | Static)]
    return None if any(isinstance(a, Path) for a in tensors) else mask_of(call, tensors)


def _refuse_gates(lower: Lowering, call: Call, *tensors: Any) -> None:
    if any(isinstance(t, Mask) for t in tensors):
        raise lower.refuse(call, "it mixes gates and data that carries paths in one tensor")


@rule("aten.copy.default", "aten.copy_.default")
def _copy(lower: Lowering, call: Call) -> Lowered:
    """Read a copy over all of a tensor: only what is written stays."""
    masks = _gates_alone(call)
    if masks is not None:
        return masks
    written = call["src"]
    _refuse_gates(lower, call, written)
    if not call.is_floating:
        raise lower.refuse(call, "it writes into a tensor of integers, which rounds")
    assert call.shape is not None
    if isinstance(written, Path):
        if len(written.shape) + 1 != len(call.shape):
            raise lower.refuse(call, "it adds an axis before the one that counts the examples")
        shape = tuple(size for d, size in enumerate(call.shape) if d != written.batch)
        return Path(expanded(lower, call, written, shape).node, shape, written.batch)
    if isinstance(written, Static) and not written.trained:
        whole = call.shape
        return Static(lambda: written.value().expand(whole), name=call.name, node=call.name)
    return written  # type: ignore[no-any-return]


@rule(
    "aten.fill.Scalar", "aten.fill_.Scalar", "aten.fill.Tensor", "aten.fill_.Tensor",
    "aten.zero.default", "aten.zero_.default",
)  # fmt: skip
def _fill(lower: Lowering, call: Call) -> Lowered:
    """Read one number over all of a tensor."""
    masks = _gates_alone(call)
    if masks is not None:
        return masks
    fill = call.arguments.get("value", 0.0)
    _refuse_gates(lower, call, fill)
    if isinstance(fill, Path) or (isinstance(fill, Static) and fill.trained):
        raise lower.refuse(call, "it fills with a number that is trained or depends on the data")
    filled = fill.value() if isinstance(fill, Static) else number(fill)
    assert call.shape is not None
    value = filled.to(call.node.meta["val"].dtype).expand(call.shape)
    return Static(lambda: value, name=call.name, node=call.name)


def _is_zero(t: Any) -> bool:
    return isinstance(t, Static) and not t.trained and not bool((t.value() != 0).any())


def _written(
    lower: Lowering,
    call: Call,
    write: Callable[[Tensor, Tensor], Tensor],
    shapes: Sequence[tuple[int, ...]],
) -> Path:
    """Append the move that takes some entries of an example from another tensor.

    Zeros come from nowhere: they begin no path.

    Args:
        lower: Network so far.
        call: Operation, with arguments "self" and "src".
        write: Write for tensors of one type, with a leading batch axis.
        shapes: Shapes of one example of the whole and of the part that is written.
    """
    items = (call["self"], call["src"])
    present = [k for k in (0, 1) if not _is_zero(items[k])]
    operands = [term(lower, call, items[k], shapes[k], 0) for k in present]

    def move(ts: Sequence[Tensor]) -> Tensor:
        given = dict(zip(present, ts, strict=True))
        n = ts[0].shape[0]
        whole, part = (given[k] if k in given else ts[0].new_zeros(n, *shapes[k]) for k in (0, 1))
        return write(whole, part)

    return lower.reindex(call, operands, move)


def _axis(lower: Lowering, call: Call) -> int:
    """Return the axis of the graph's tensor along which a write chooses entries."""
    _refuse_gates(lower, call, call["self"], call["src"])
    for t in (call["self"], call["src"]):
        if isinstance(t, Path) and t.batch != 0:
            raise lower.refuse(call, "the batch axis of its operand is not the first")
    assert call.shape is not None
    return int(call["dim"]) % len(call.shape)


@rule("aten.slice_scatter.default")
def _slice_scatter(lower: Lowering, call: Call) -> Lowered:
    masks = _gates_alone(call)
    if masks is not None:
        return masks
    axis, shape = _axis(lower, call), call.shape
    assert shape is not None
    start, stop, step = call["start"], call["end"], call["step"]
    if axis == 0:
        if start or (stop is not None and stop < lower.batch) or step != 1:
            raise lower.refuse(call, "it writes into some examples of a batch only")
        return term(lower, call, call["src"], shape[1:], 0)
    size = len(range(*slice(start, stop, step).indices(shape[axis])))
    part = (*shape[1:axis], size, *shape[axis + 1 :])

    def write(whole: Tensor, part: Tensor) -> Tensor:
        return torch.slice_scatter(whole, part, axis, start, stop, step)

    return _written(lower, call, write, (shape[1:], part))


@rule("aten.select_scatter.default")
def _select_scatter(lower: Lowering, call: Call) -> Lowered:
    masks = _gates_alone(call)
    if masks is not None:
        return masks
    axis, index, shape = _axis(lower, call), call["index"], call.shape
    assert shape is not None
    if axis == 0:
        raise lower.refuse(call, "it writes into one example of a batch only")

    def write(whole: Tensor, part: Tensor) -> Tensor:
        return torch.select_scatter(whole, part, axis, index)

    return _written(lower, call, write, (shape[1:], (*shape[1:axis], *shape[axis + 1 :])))
