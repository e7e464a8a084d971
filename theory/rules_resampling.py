"""Rules for what changes the number of positions without weights: upsampling and shuffles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reluctant.theory.lowered import Call, Lowered, Path
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.windows import Windows

_FORMS = ("default", "vec")


def _resampled(lower: Lowering, call: Call) -> tuple[Path, list[Tensor]]:
    """Return the operand, and for each position axis the matrix that acts along it.

    Upsampling is separable, and its rows add up to 1: the matrix along an axis is what becomes of
    tensors that are unit vectors along it and constant along the others.
    """
    path = lower.batch_first(call, call["input"] if "input" in call.arguments else call["self"])
    assert call.shape is not None
    rank = len(path.shape) - 1
    arguments: dict[str, Any] = {
        k: v for k, v in call.arguments.items() if k not in ("input", "self")
    }
    matrices = []
    for axis in range(rank):
        size = path.shape[1 + axis]
        units = torch.eye(size, dtype=torch.float64)
        shape = [size if a == axis else path.shape[1 + a] for a in range(rank)]
        along = [size if a == axis else 1 for a in range(rank)]
        probe = units.reshape(size, 1, *along).expand(size, 1, *shape)
        made: Tensor = call.node.target(probe, **arguments)  # type: ignore[operator]
        first = [slice(None) if a == axis else 0 for a in range(rank)]
        matrices.append(made[(slice(None), 0, *first)].T)
    return path, matrices


@rule(*(f"aten.upsample_nearest{rank}d.{form}" for rank in (1, 2, 3) for form in _FORMS))
@rule(*(f"aten._upsample_nearest_exact{rank}d.{form}" for rank in (1, 2, 3) for form in _FORMS))
def _nearest(lower: Lowering, call: Call) -> Lowered:
    path, matrices = _resampled(lower, call)
    windows = Windows(tuple(matrix.argmax(1)[:, None] for matrix in matrices))
    return lower.reindex(call, [path], lambda ts: windows.gather(ts[0])[:, 0])


@rule(
    *(
        f"aten.upsample_{name}.{form}"
        for name in ("linear1d", "bilinear2d", "trilinear3d")
        for form in _FORMS
    )
)
def _linear(lower: Lowering, call: Call) -> Lowered:
    path, matrices = _resampled(lower, call)
    rank = len(matrices)
    taps = [max(1, int((matrix != 0).sum(1).max())) for matrix in matrices]
    largest = [matrix.topk(count, dim=1) for matrix, count in zip(matrices, taps, strict=True)]
    windows = Windows(tuple(torch.where(v.values != 0, v.indices, -1) for v in largest))
    weights = largest[0].values
    for v in largest[1:]:
        weights = weights[..., None, None] * v.values
    # (position, taps) of each axis in turn; the windows have all taps first, in one axis.
    weights = weights.permute(*range(1, 2 * rank, 2), *range(0, 2 * rank, 2)).flatten(0, rank - 1)
    moved = lower.reindex(call, [path], windows.move())
    return lower.total(call, [lower.scale(call, moved, weights.unsqueeze(1))], [0])


@rule(
    "aten.pixel_shuffle.default", "aten.pixel_unshuffle.default", "aten.channel_shuffle.default",
    "aten.native_channel_shuffle.default",
)  # fmt: skip
def _shuffle(lower: Lowering, call: Call) -> Lowered:
    path, move = lower.batch_first(call, call["self"]), call.node.target
    (size,) = (v for k, v in call.arguments.items() if k != "self")
    return lower.reindex(call, [path], lambda ts: move(ts[0], size))  # type: ignore[operator]
