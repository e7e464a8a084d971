"""Rules for what moves, adds and scales entries without weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reluctant.theory.lowering import Call, Lowered, Lowering, Mask, Path, Static, rule
from reluctant.theory.windows import adaptive, sliding

_SAME = [
    "aten.clone.default", "aten.contiguous.default", "aten.alias.default",
    "aten.lift_fresh_copy.default", "aten.positive.default",
]  # fmt: skip


def _path(lower: Lowering, call: Call, argument: Any) -> Path:
    if isinstance(argument, Path):
        return argument
    raise lower.refuse(call, "it needs a tensor that carries paths here")


def _shaped(lower: Lowering, call: Call, path: Path, shape: Sequence[int]) -> Path:
    """Reshape one example; the identity if nothing changes."""
    shape = tuple(shape)
    if path.shape == shape:
        return path
    return lower.reindex(
        call, [path], lambda ts: ts[0].reshape(ts[0].shape[0], *shape), keeps_order=True
    )


def _expanded(lower: Lowering, call: Call, path: Path, shape: Sequence[int]) -> Path:
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
        note = f"{call.place}: detach stops the gradient of the module; the paths go on"
        if note not in lower.notes:
            lower.notes.append(note)
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
        return Mask(call.name, kept.hard, kept.source, kept.ties)
    return kept


@rule(
    "aten.dropout.default",
    "aten.dropout_.default",
    "aten.feature_dropout.default",
    "aten.alpha_dropout.default",
)
def _dropout(lower: Lowering, call: Call) -> Lowered:
    if call["train"] and call["p"] != 0:
        raise lower.refuse(call, "dropout is random in training mode; call module.eval() first")
    return call["input"]  # type: ignore[no-any-return]


@rule(
    "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints",
    "aten.unsqueeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default", "aten.unflatten.int",
)  # fmt: skip
def _reshape(lower: Lowering, call: Call) -> Lowered:
    path = call["self"]
    if isinstance(path, Mask):
        return Mask(call.name, path.hard, path.source, path.ties)
    assert call.shape is not None
    if path.batch != 0 or not call.shape or call.shape[0] != lower.batch:
        raise lower.refuse(
            call, "it moves the axis that counts the examples; keep the batch axis first"
        )
    return _shaped(lower, call, path, call.shape[1:])


@rule(
    "aten.permute.default",
    "aten.transpose.int",
    "aten.movedim.int",
    "aten.t.default",
    "aten.swapaxes.default",
)
def _permute(lower: Lowering, call: Call) -> Lowered:
    path = call["self"]
    if isinstance(path, Mask):
        return Mask(call.name, path.hard, path.source, path.ties)
    rank = len(path.shape) + 1
    order = list(range(rank))
    if "dims" in call.arguments:
        order = [d % rank for d in call["dims"]]
    else:
        a, b = (call["dim0"] % rank, call["dim1"] % rank) if "dim0" in call.arguments else (0, 1)
        if "axis0" in call.arguments:
            a, b = call["axis0"] % rank, call["axis1"] % rank
        order[a], order[b] = order[b], order[a]
    batch = order.index(path.batch)
    axes = [path.axis(d) for d in order if d != path.batch]
    if axes == list(range(rank - 1)):
        return Path(path.node, path.shape, batch)
    moved = lower.reindex(call, [path], lambda ts: ts[0].permute(0, *(a + 1 for a in axes)))
    return Path(moved.node, moved.shape, batch)


@rule("aten.slice.Tensor")
def _slice(lower: Lowering, call: Call) -> Lowered:
    path = _path(lower, call, call["self"])
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
    path = _path(lower, call, call["self"])
    axis, index = path.axis(call["dim"]) + 1, call["index"]
    moved = lower.reindex(call, [path], lambda ts: ts[0].select(axis, index))
    batch = path.batch - (call["dim"] % (len(path.shape) + 1) < path.batch)
    return Path(moved.node, moved.shape, batch)


@rule("aten.index_select.default")
def _index_select(lower: Lowering, call: Call) -> Lowered:
    path, index = _path(lower, call, call["self"]), call["index"]
    axis = path.axis(call["dim"]) + 1
    if not isinstance(index, Static):
        raise lower.refuse(call, "its index depends on the data")
    picked = index.value()
    moved = lower.reindex(
        call, [path], lambda ts: ts[0].index_select(axis, picked.to(ts[0].device))
    )
    return Path(moved.node, moved.shape, path.batch)


@rule(
    "aten.chunk.default",
    "aten.split.Tensor",
    "aten.split_with_sizes.default",
    "aten.split.sizes",
    "aten.unbind.int",
)
def _split(lower: Lowering, call: Call) -> Lowered:
    path = _path(lower, call, call["self"])
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


@rule("aten.expand.default")
def _expand(lower: Lowering, call: Call) -> Lowered:
    path = call["self"]
    if isinstance(path, Mask):
        return Mask(call.name, path.hard, path.source, path.ties)
    assert call.shape is not None
    if path.batch != 0 or len(call.shape) != len(path.shape) + 1:
        raise lower.refuse(call, "it adds an axis before the one that counts the examples")
    return _expanded(lower, call, path, call.shape[1:])


@rule("aten.pad.default", "aten.constant_pad_nd.default")
def _pad(lower: Lowering, call: Call) -> Lowered:
    path, sizes = _path(lower, call, call["self"]), list(call["pad"])
    mode, fill = call.arguments.get("mode", "constant"), call.arguments.get("value")
    if len(sizes) // 2 > len(path.shape) or path.batch != 0:
        raise lower.refuse(call, "it pads the axis that counts the examples")
    if mode == "constant" and fill not in (None, 0, 0.0):
        raise lower.refuse(call, f"padding with {fill} is a source; pad with 0 or add the constant")
    if mode == "constant":
        return lower.reindex(call, [path], lambda ts: F.pad(ts[0], sizes))
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


@rule("aten.flip.default")
def _flip(lower: Lowering, call: Call) -> Lowered:
    path = _path(lower, call, call["self"])
    axes = [path.axis(d) + 1 for d in call["dims"]]
    return lower.reindex(call, [path], lambda ts: ts[0].flip(axes))


@rule("aten.roll.default")
def _roll(lower: Lowering, call: Call) -> Lowered:
    path = _path(lower, call, call["self"])
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
                call, item.value().shape[1:], _one_example(lower, call, item.value())
            )
        found.append(_path(lower, call, item))
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


def _summed(
    lower: Lowering, call: Call, path: Path, dims: Sequence[int] | None, keep: bool, mean: bool
) -> Path:
    rank = len(path.shape) + 1
    dims = [d % rank for d in dims] if dims else list(range(rank))
    axes = [path.axis(d) for d in dims]
    total = lower.total(call, [path], axes)
    if mean:
        count = math.prod(path.shape[a] for a in axes)
        total = lower.scale(call, total, torch.tensor(1.0 / count, dtype=torch.float64))
    if keep:
        kept = [1 if a in axes else size for a, size in enumerate(path.shape)]
        return Path(_shaped(lower, call, total, kept).node, tuple(kept), path.batch)
    return Path(total.node, total.shape, path.batch - sum(d < path.batch for d in dims))


@rule("aten.mean.dim", "aten.sum.dim_IntList")
def _mean(lower: Lowering, call: Call) -> Lowered:
    path = _path(lower, call, call["self"])
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
            return _mask(call, left, right)
        raise lower.refuse(call, "it adds gates to a tensor that carries paths")
    assert call.shape is not None
    batches = {t.batch for t in (left, right) if isinstance(t, Path)}
    if len(batches) > 1:
        raise lower.refuse(call, "its operands count the examples along different axes")
    (batch,) = batches
    shape = tuple(size for d, size in enumerate(call.shape) if d != batch)
    parts = []
    for term, sign in zip((left, right), signs, strict=True):
        part = _term(lower, call, term, shape, batch)
        parts.append(part if sign == 1.0 else lower.scale(call, part, torch.tensor(sign)))
    total = lower.total(call, parts)
    return Path(total.node, total.shape, batch)


def _term(lower: Lowering, call: Call, term: Any, shape: tuple[int, ...], batch: int) -> Path:
    if isinstance(term, Path):
        if term.batch != batch:
            raise lower.refuse(call, "its operands count the examples along different axes")
        return _expanded(lower, call, term, shape)
    if isinstance(term, Static) and term.trained:
        return bias(lower, call, term, shape)
    value = term.value() if isinstance(term, Static) else torch.tensor(float(term))
    return lower.constant(call, shape, _one_example(lower, call, value, len(shape)))


def bias(lower: Lowering, call: Call, static: Static, shape: tuple[int, ...]) -> Path:
    """Append trained weights that are added at every position."""
    from reluctant.theory.operators import Bias

    sizes = tuple(static.value().shape)
    if len(sizes) > len(shape):
        if math.prod(sizes[: len(sizes) - len(shape)]) != 1:
            raise lower.refuse(call, "a trained tensor with one entry an example is added")
        sizes = sizes[len(sizes) - len(shape) :]
    offset = len(shape) - len(sizes)
    own = tuple(offset + a for a, size in enumerate(sizes) if size != 1)
    flat = static.view(lambda t: t.reshape([size for size in t.shape if size != 1]))
    return lower.weighted(call, Bias(shape, own), None, flat)


def _differs(value: Tensor, rank: int) -> bool:
    """Tell whether a constant has an entry of its own for each example, as recorded masks have."""
    value = value.detach()
    return value.ndim == rank + 1 and value.shape[0] > 1 and not bool((value == value[:1]).all())


def _one_example(lower: Lowering, call: Call, value: Tensor, rank: int | None = None) -> Tensor:
    """Drop a batch axis along which a constant repeats itself."""
    value = value.detach()
    if rank is not None and value.ndim <= rank:
        return value
    if value.shape[0] > 1 and not bool((value == value[:1]).all()):
        raise lower.refuse(call, "a constant differs from example to example")
    return value[0]


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
    if not isinstance(left, Path):
        return _mask(call, left, right)
    if isinstance(right, Path):
        raise lower.refuse(
            call,
            "it is a product of two data tensors; gates must be comparisons such as (q > 0), or made "
            "by reluctant's gate operation",
        )
    assert call.shape is not None
    shape = tuple(size for d, size in enumerate(call.shape) if d != left.batch)
    left = Path(_expanded(lower, call, left, shape).node, shape, left.batch)
    if isinstance(right, Mask):
        if divides:
            raise lower.refuse(call, "it divides by gates")
        if left.batch != 0:
            raise lower.refuse(call, "gates multiply a tensor whose batch axis is not the first")
        return multiplied_by_mask(lower, call, left, right)
    if isinstance(right, Static) and right.trained:
        raise lower.refuse(
            call,
            f"the trained factor {right.name} multiplies entries; only linear and convolutional weights are read",
        )
    value = (
        right.value()
        if isinstance(right, Static)
        else torch.tensor(float(right), dtype=torch.float64)
    )
    if not divides and left.batch == 0 and _differs(value, len(shape)):
        hard = bool(((value == 0) | (value == 1)).all())
        assert isinstance(right, Static)
        return multiplied_by_mask(lower, call, left, Mask(right.node, hard, None))
    factor = _one_example(lower, call, value.double(), len(shape))
    scaled = lower.scale(call, left, 1.0 / factor if divides else factor)
    return Path(scaled.node, scaled.shape, left.batch)


def _mask(call: Call, *arguments: Any) -> Mask:
    from reluctant.theory.lowering import _mask_of

    return _mask_of(call, [a for a in arguments if isinstance(a, Path | Mask | Static)])


def multiplied_by_mask(lower: Lowering, call: Call, value: Path, mask: Mask) -> Path:
    """Append a layer of gates that were computed as a tensor of their own."""
    shape, name = value.shape, mask.graph_node
    own = mask.source is not None and mask.source == value.node

    def probe(values: Any) -> Tensor:
        gates = values[name]
        lead = gates if gates.ndim == len(shape) + 1 else gates[None]
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


@rule("aten.neg.default")
def _negate(lower: Lowering, call: Call) -> Lowered:
    return lower.scale(call, _path(lower, call, call["self"]), torch.tensor(-1.0))


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


def _pooled_average(lower: Lowering, call: Call, path: Path, windows: Any, ones: Tensor) -> Path:
    total = lower.total(call, [lower.reindex(call, [path], windows.move())], [0])
    lead = torch.ones(1, *path.shape, dtype=torch.float64)
    counts = windows.gather(lead).sum(1)
    divisor = torch.round(counts / ones)
    return lower.scale(call, total, (1.0 / divisor)[0])


@rule("aten.avg_pool1d.default", "aten.avg_pool2d.default", "aten.avg_pool3d.default")
def _average_pool(lower: Lowering, call: Call) -> Lowered:
    path, rank = _path(lower, call, call["self"]), len(call["kernel_size"])
    if call.operation[13] == "1":
        rank = 1
    else:
        rank = int(call.operation[13])
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
    path = _path(lower, call, call["self"])
    assert call.shape is not None
    rank = len(call["output_size"])
    windows = adaptive(path.shape[-rank:], call.shape[-rank:])
    return _pooled_average(
        lower, call, path, windows, torch.ones(1, *call.shape[1:], dtype=torch.float64)
    )


@rule("aten.batch_norm.default")
def _batch_norm(lower: Lowering, call: Call) -> Lowered:
    path = _path(lower, call, call["input"])
    mean, variance = call["running_mean"], call["running_var"]
    if call["training"] or mean is None or variance is None:
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
    note = "batch norm: γ and β and the statistics are constants; they are not among the weights"
    if note not in lower.notes:
        lower.notes.append(note)
    if not bool((magnitude != 0).any()):
        return scaled
    return lower.total(
        call, [scaled, lower.constant(call, path.shape, constant, magnitude=magnitude)]
    )
