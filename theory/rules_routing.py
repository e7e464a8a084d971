"""Rules for what moves entries: views, slices, padding, concatenation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reluctant.theory.lowered import Call, Lowered, Mask, Path, Static
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.masks import mask_of

_SAME = [
    "aten.clone.default", "aten.contiguous.default", "aten.alias.default",
    "aten.lift_fresh_copy.default", "aten.positive.default",
]  # fmt: skip


def shaped(lower: Lowering, call: Call, path: Path, shape: Sequence[int]) -> Path:
    """Reshape one example; the identity if nothing changes."""
    shape = tuple(shape)
    if path.shape == shape:
        return path
    return lower.reindex(
        call, [path], lambda ts: ts[0].reshape(ts[0].shape[0], *shape), keeps_order=True
    )


def expanded(lower: Lowering, call: Call, path: Path, shape: Sequence[int]) -> Path:
    """Broadcast one example to a shape."""
    shape = tuple(shape)
    if path.shape == shape:
        return path
    lead = (1,) * (len(shape) - len(path.shape))
    return lower.reindex(
        call,
        [path],
        lambda ts: ts[0].reshape(ts[0].shape[0], *lead, *path.shape).expand(-1, *shape),
    )


@rule(*_SAME)
def _same(lower: Lowering, call: Call) -> Lowered:
    return call["self"]  # type: ignore[no-any-return]


@rule("aten.detach.default", "aten.detach_.default")
def _detach(lower: Lowering, call: Call) -> Lowered:
    if isinstance(call["self"], Path):
        lower.note(f"{call.place}: detach stops the gradient of the module; the paths go on")
    return call["self"]  # type: ignore[no-any-return]


@rule(
    "aten.to.dtype",
    "aten._to_copy.default",
    "aten.to.dtype_layout",
    "aten.to.device",
    "aten._assert_tensor_metadata.default",
)
def _cast(lower: Lowering, call: Call) -> Lowered:
    kept: Lowered = call.arguments.get("self", call.arguments.get("a"))
    if isinstance(kept, Mask):
        return kept.held_by(call.name)
    value = call.node.meta.get("val")
    if isinstance(kept, Path) and isinstance(value, Tensor):
        if value.dtype is torch.bool:
            return mask_of(call, [kept])
        if not call.is_floating or torch.finfo(value.dtype).eps > torch.finfo(lower.dtype).eps:
            raise lower.refuse(call, f"it rounds the data to {value.dtype}; leave them as they are")
    return kept


@rule(
    "aten.dropout.default",
    "aten.dropout_.default",
    "aten.feature_dropout.default",
    "aten.alpha_dropout.default",
    "aten.feature_alpha_dropout.default",
)
def _dropout(lower: Lowering, call: Call) -> Lowered:
    if call["train"] and call["p"] != 0:
        raise lower.refuse(call, "dropout is random in training mode; call module.eval() first")
    return call["input"]  # type: ignore[no-any-return]


@rule(
    "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints",
    "aten.unsqueeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default", "aten.unflatten.int",
    "aten.view_as.default", "aten.reshape_as.default",
)  # fmt: skip
def _reshape(lower: Lowering, call: Call) -> Lowered:
    path = call["self"]
    if isinstance(path, Mask):
        return path.rearranged(call.name)
    assert call.shape is not None
    batch = _batch_after(lower, call, path)
    if batch is None:
        raise lower.refuse(call, "it mixes the axis that counts the examples with others")
    result = shaped(lower, call, path, [*call.shape[:batch], *call.shape[batch + 1 :]])
    return replace(result, batch=batch)


def _batch_after(lower: Lowering, call: Call, path: Path) -> int | None:
    """Return the axis that counts the examples after a reshape; None if it keeps none."""
    shape = call.shape or ()
    if "unsqueeze" in call.operation:
        return path.batch + int(call["dim"] % len(shape) <= path.batch)
    before = math.prod(path.shape[: path.batch])
    kept = [
        axis
        for axis, size in enumerate(shape)
        if size == lower.batch and math.prod(shape[:axis]) == before
    ]
    return path.batch if path.batch in kept else next(iter(kept), None)


@rule(
    "aten.permute.default",
    "aten.transpose.int",
    "aten.movedim.int",
    "aten.movedim.intlist",
    "aten.moveaxis.int",
    "aten.numpy_T.default",
    "aten.mT.default",
    "aten.t.default",
    "aten.swapaxes.default",
    "aten.swapdims.default",
)
def _permute(lower: Lowering, call: Call) -> Lowered:
    path = call["self"]
    if isinstance(path, Mask):
        return path.rearranged(call.name)
    rank = len(path.shape) + 1
    numbered = torch.empty(
        tuple(range(rank)), device="meta"
    )  # every axis has its number for a size
    order = list(call.node.target(numbered, *call.node.args[1:], **call.node.kwargs).shape)  # type: ignore[operator]
    batch = order.index(path.batch)
    axes = [path.axis(d) for d in order if d != path.batch]
    if axes == list(range(rank - 1)):
        return Path(path.node, path.shape, batch)
    moved = lower.reindex(call, [path], lambda ts: ts[0].permute(0, *(a + 1 for a in axes)))
    return Path(moved.node, moved.shape, batch)


@rule("aten.slice.Tensor")
def _slice(lower: Lowering, call: Call) -> Lowered:
    if isinstance(call["self"], Mask):
        return mask_of(call, [call["self"]])
    path = lower.path(call, call["self"])
    dim = call["dim"] % (len(path.shape) + 1)
    if (
        dim == path.batch
        and not call["start"]
        and (call["end"] is None or call["end"] >= lower.batch)
        and call["step"] == 1
    ):
        return path
    axis = path.axis(dim) + 1
    picked = slice(call["start"], call["end"], call["step"])
    moved = lower.reindex(call, [path], lambda ts: ts[0][(slice(None),) * axis + (picked,)])
    return Path(moved.node, moved.shape, path.batch)


@rule("aten.select.int")
def _select(lower: Lowering, call: Call) -> Lowered:
    if isinstance(call["self"], Mask):
        return mask_of(call, [call["self"]])
    path = lower.path(call, call["self"])
    axis, index = path.axis(call["dim"]) + 1, call["index"]
    moved = lower.reindex(call, [path], lambda ts: ts[0].select(axis, index))
    batch = path.batch - (call["dim"] % (len(path.shape) + 1) < path.batch)
    return Path(moved.node, moved.shape, batch)


@rule(
    "aten.chunk.default",
    "aten.split.Tensor",
    "aten.split_with_sizes.default",
    "aten.split.sizes",
    "aten.unbind.int",
)
def _split(lower: Lowering, call: Call) -> Lowered:
    path = lower.path(call, call["self"])
    axis = path.axis(call["dim"]) + 1
    values = call.node.meta["val"]
    if call.operation == "aten.unbind.int":
        parts = [lower.reindex(call, [path], _selecting(axis, i)) for i in range(len(values))]
        return tuple(Path(p.node, p.shape) for p in parts)
    start, found = 0, []
    for value in values:
        size = value.shape[call["dim"]]
        part = lower.reindex(call, [path], _narrowing(axis, start, size))
        found.append(Path(part.node, part.shape, path.batch))
        start += size
    return tuple(found)


def _selecting(axis: int, index: int) -> Callable[[Sequence[Tensor]], Tensor]:
    return lambda ts: ts[0].select(axis, index)


def _narrowing(axis: int, start: int, size: int) -> Callable[[Sequence[Tensor]], Tensor]:
    return lambda ts: ts[0].narrow(axis, start, size)


@rule("aten.expand.default", "aten.expand_as.default")
def _expand(lower: Lowering, call: Call) -> Lowered:
    path = call["self"]
    if isinstance(path, Mask):
        return path.rearranged(call.name)
    assert call.shape is not None
    if path.batch != 0 or len(call.shape) != len(path.shape) + 1:
        raise lower.refuse(call, "it adds an axis before the one that counts the examples")
    return expanded(lower, call, path, call.shape[1:])


@rule("aten.pad.default", "aten.constant_pad_nd.default")
def _pad(lower: Lowering, call: Call) -> Lowered:
    path, sizes = lower.path(call, call["self"]), list(call["pad"])
    mode, fill = call.arguments.get("mode", "constant"), call.arguments.get("value")
    if len(sizes) // 2 > len(path.shape) or path.batch != 0:
        raise lower.refuse(call, "it pads the axis that counts the examples")
    if mode == "constant":
        return _padded(lower, call, path, sizes, float(fill or 0.0))
    # torch pads other types than floats, and other ranks, only in constant mode: gather instead.
    index = torch.arange(math.prod(path.shape), dtype=torch.float64).reshape(1, *path.shape)
    rank = len(sizes) // 2
    lead = index.reshape(1, -1, *path.shape[len(path.shape) - rank :])
    padded = F.pad(lead, sizes, mode=mode).long()
    shape = (*path.shape[: len(path.shape) - rank], *padded.shape[2:])
    source = padded.flatten()
    return lower.reindex(
        call, [path], lambda ts: ts[0].flatten(1)[:, source.to(ts[0].device)].reshape(-1, *shape)
    )


def _padded(lower: Lowering, call: Call, path: Path, sizes: list[int], fill: float) -> Path:
    """Append zeros at the edges; another number there is a source."""
    if not math.isfinite(fill):
        raise lower.refuse(call, f"it pads with {fill}, and a source is a finite number")
    moved = lower.reindex(call, [path], lambda ts: F.pad(ts[0], sizes))
    if fill == 0.0:
        return moved
    inside = F.pad(torch.ones(path.shape, dtype=torch.float64), sizes)
    return lower.total(call, [moved, lower.constant(call, moved.shape, fill * (1.0 - inside))])


@rule("aten.flip.default")
def _flip(lower: Lowering, call: Call) -> Lowered:
    if isinstance(call["self"], Mask):
        return mask_of(call, [call["self"]])
    path = lower.path(call, call["self"])
    axes = [path.axis(d) + 1 for d in call["dims"]]
    return lower.reindex(call, [path], lambda ts: ts[0].flip(axes))


@rule("aten.roll.default")
def _roll(lower: Lowering, call: Call) -> Lowered:
    if isinstance(call["self"], Mask):
        return mask_of(call, [call["self"]])
    path = lower.path(call, call["self"])
    if not call["dims"]:
        raise lower.refuse(call, "it mixes the examples of a batch; name the dims to roll along")
    axes = [path.axis(d) + 1 for d in call["dims"]]
    return lower.reindex(call, [path], lambda ts: ts[0].roll(call["shifts"], axes))


def _operands(lower: Lowering, call: Call, items: Sequence[Any]) -> list[Path]:
    paths = [item for item in items if isinstance(item, Path)]
    if len({p.batch for p in paths}) > 1:
        raise lower.refuse(call, "its operands count the examples along different axes")
    found = []
    for item in items:
        if isinstance(item, Static) and not item.trained:
            item = lower.constant(
                call, item.value().shape[1:], lower.one_example(call, item.value())
            )
        found.append(lower.path(call, item))
    return found


@rule("aten.cat.default", "aten.concat.default", "aten.concatenate.default")
def _cat(lower: Lowering, call: Call) -> Lowered:
    paths = _operands(lower, call, call["tensors"])
    axis = paths[0].axis(call["dim"]) + 1
    joined = lower.reindex(call, paths, lambda ts: torch.cat(list(ts), axis))
    return Path(joined.node, joined.shape, paths[0].batch)


@rule("aten.stack.default")
def _stack(lower: Lowering, call: Call) -> Lowered:
    paths = _operands(lower, call, call["tensors"])
    rank, batch = len(paths[0].shape) + 2, paths[0].batch
    dim = call["dim"] % rank
    moved_batch = batch + (dim <= batch)
    axis = dim if dim < moved_batch else dim - 1
    joined = lower.reindex(call, paths, lambda ts: torch.stack(list(ts), axis + 1))
    return Path(joined.node, joined.shape, moved_batch)
