"""Operations over a prime field that neither run as they are nor multiply by gates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from reluctant.theory.lowered import number
from reluctant.theory.operations import EXTREMES_OVER_AXES

if TYPE_CHECKING:
    from reluctant.theory.residue_graph import Walk


def windows(walk: Walk, node: fx.Node, q: Tensor) -> Tensor:
    """Return the entries that a maximum chooses from, along the second axis."""
    operation = str(node.target)
    if operation in EXTREMES_OVER_AXES:
        dims = walk.argument(node, "dim")
        dims = [d % q.ndim for d in (dims if isinstance(dims, list | tuple) else [dims])]
        dims = sorted(dims) or list(range(1, q.ndim))
        others = [d for d in range(1, q.ndim) if d not in dims]
        return q.permute(0, *dims, *others).flatten(1, len(dims))
    if operation.startswith("aten.adaptive_max_pool"):
        rank = int(operation[len("aten.adaptive_max_pool")])
        if math.prod(walk.argument(node, "output_size")) != 1:
            raise walk.refuse(node, "only a maximum over all positions is known")
        return q.flatten(q.ndim - rank).movedim(-1, 1)
    rank = int(operation[len("aten.max_pool")])
    if rank > 2 or walk.argument(node, "ceil_mode"):
        raise walk.refuse(node, "windows in space, or beyond the edge, are not known")
    kernel, stride, padding, dilation = (
        [*given, *given] if len(given) == 1 and rank == 2 else list(given)
        for given in (
            walk.argument(node, "kernel_size"),
            walk.argument(node, "stride") or walk.argument(node, "kernel_size"),
            walk.argument(node, "padding"),
            walk.argument(node, "dilation"),
        )
    )
    if rank == 1:
        q = q.unsqueeze(-2)
        kernel, stride = [1, *kernel], [1, *stride]
        padding, dilation = [0, *padding], [1, *dilation]
    # (n, channel taps, position)
    taps = F.unfold(q, tuple(kernel), tuple(dilation), tuple(padding), tuple(stride))
    taps = taps.reshape(q.shape[0], q.shape[1], math.prod(kernel), -1)
    return taps.movedim(2, 1)


def both(walk: Walk, node: fx.Node) -> Tensor:
    """Return the two tensors that a maximum or a minimum chooses from, along the second axis."""
    given = [a for a in (*node.args, *node.kwargs.values()) if isinstance(a, fx.Node)]
    return torch.stack(torch.broadcast_tensors(*(_scalar(walk, each) for each in given)), 1)


_CHOICES = {
    "where": ("self", "other"), "masked_fill": ("value", "self"), "index_put": ("values", "self"),
}  # fmt: skip


def choice(walk: Walk, node: fx.Node, layers: Sequence[int]) -> Tensor:
    """Choose between two tensors by layers of gates, one for each of them that is not 0."""
    names = _CHOICES[walk.operation(node).split(".")[1].removesuffix("_")]
    total, left = torch.zeros((), dtype=torch.float64), list(layers)
    for given in (walk.argument(node, name) for name in names):
        part = walk.found[given.name] if isinstance(given, fx.Node) else number(given)
        if not isinstance(part, Tensor) or bool((part != 0).any()):
            total = total + walk.over.reduce(_scalar(walk, given) * walk.gates[left.pop(0)])
    return total


def _scalar(walk: Walk, value: Any) -> Tensor:
    if isinstance(value, fx.Node):
        value = walk.residues(walk.found[value.name])
    return value if isinstance(value, Tensor) else walk.over.constants(number(value))


def _add(walk: Walk, node: fx.Node) -> Tensor:
    left, right = _scalar(walk, node.args[0]), _scalar(walk, node.args[1])
    factor = walk.argument(node, "alpha")
    operation = walk.operation(node)
    turned = "rsub" in operation
    if factor != 1:
        scaled = walk.over.reduce(_scalar(walk, factor) * (left if turned else right))
        left, right = (scaled, right) if turned else (left, scaled)
    if turned:
        return right - left
    return left - right if "sub" in operation else left + right


def _multiply(walk: Walk, node: fx.Node) -> Tensor:
    return _scalar(walk, node.args[0]) * _scalar(walk, node.args[1])


def _divide(walk: Walk, node: fx.Node) -> Tensor:
    divisor: Any = node.args[1]
    value = walk.found[divisor.name] if isinstance(divisor, fx.Node) else number(divisor)
    if not isinstance(value, Tensor):
        raise walk.refuse(node, "it divides by residues")
    # The reading multiplies by the reciprocal, as float64 has it; so does this.
    return _scalar(walk, node.args[0]) * walk.over.constants(1.0 / value.double())


def _padded(walk: Walk, node: fx.Node) -> Tensor:
    mode = "constant" if "nd" in walk.operation(node) else walk.argument(node, "mode")
    if mode != "constant":
        return walk.run(node)  # type: ignore[no-any-return]
    fill = float(walk.over.constants(number(walk.argument(node, "value") or 0.0)))
    return F.pad(walk.operand(node), list(walk.argument(node, "pad")), value=fill)


def _total(walk: Walk, node: fx.Node) -> Tensor:
    t = walk.operand(node)
    dims = walk.argument(node, "dim")
    added: Tensor = t.sum(dims or None, keepdim=bool(walk.argument(node, "keepdim")))
    if "mean" not in str(node.target):
        return added
    count = t.numel() // added.numel()
    return walk.over.reduce(added) * walk.over.inverse(count)


def _average(walk: Walk, node: fx.Node) -> Tensor:
    t = walk.operand(node)
    rank = int(str(node.target)[len("aten.avg_pool")])
    if walk.argument(node, "ceil_mode"):
        raise walk.refuse(node, "windows beyond the edge are not known")
    ones = torch.ones(1, *t.shape[1:], dtype=torch.float64)
    shares = node.target(ones, *node.args[1:], **node.kwargs)  # type: ignore[operator]
    kernel = walk.argument(node, "kernel_size")
    stride, padding = walk.argument(node, "stride") or kernel, walk.argument(node, "padding")
    counts = torch.round(_windows_added(ones, rank, kernel, stride, padding) / shares)
    inverses = counts.clone()
    for count in counts.unique().tolist():
        inverses[counts == count] = float(walk.over.inverse(int(count)))
    added = walk.over.reduce(_windows_added(t, rank, kernel, stride, padding))
    return added * walk.over.reduce(inverses)


def _windows_added(
    t: Tensor, rank: int, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Add the entries of sliding windows: a convolution with ones, each channel by itself."""
    taps = [kernel[0]] * rank if len(kernel) == 1 else list(kernel)
    weight = torch.ones(t.shape[1], 1, *taps, dtype=torch.float64)
    convolve: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return convolve(t, weight, None, stride, padding, 1, t.shape[1])


def _adaptive_average(walk: Walk, node: fx.Node) -> Tensor:
    t, sizes = walk.operand(node), walk.argument(node, "output_size")
    for axis, count in enumerate(sizes):
        dim = t.ndim - len(sizes) + axis
        size = t.shape[dim]
        rows = []
        for i in range(count):
            start, stop = i * size // count, -(-(i + 1) * size // count)
            rows.append(walk.over.reduce(t.narrow(dim, start, stop - start).sum(dim)))
            rows[-1] = walk.over.reduce(rows[-1] * walk.over.inverse(stop - start))
        t = torch.stack(rows, dim)
    return t


RULES: dict[str, Callable[[Walk, fx.Node], Tensor]] = {
    **{
        f"aten.{name}": _add
        for name in ("add.Tensor", "add_.Tensor", "sub.Tensor", "sub_.Tensor", "rsub.Scalar",
                     "add.Scalar", "sub.Scalar")
    },
    **{f"aten.{name}": _multiply for name in ("mul.Tensor", "mul_.Tensor", "mul.Scalar")},
    **{f"aten.{name}": _divide for name in ("div.Tensor", "div_.Tensor", "div.Scalar")},
    **{f"aten.{name}": _padded for name in ("pad.default", "constant_pad_nd.default")},
    **{f"aten.{name}": _total for name in ("mean.dim", "sum.dim_IntList")},
    **{f"aten.avg_pool{k}d.default": _average for k in (1, 2, 3)},
    **{f"aten.adaptive_avg_pool{k}d.default": _adaptive_average for k in (1, 2, 3)},
}  # fmt: skip
