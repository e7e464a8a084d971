"""Gates computed from gates: what an operation makes of them, and whether they stay 0 or 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from reluctant.theory.lowered import Call, Mask, Path, Static
from reluctant.theory.operations import MOVES

_KEEPS_HARD = (
    "mul",
    "bitwise",
    "logical",
    "where",
    "_to_copy",
    "to.",
    "type_as",
    "one_hot",
    "scatter",
    "select",
    "roll",
)


_SIGNS = {f"aten.{name}.Scalar" for name in ("gt", "ge", "lt", "le")}


def is_mask_arithmetic(arguments: Sequence[Any]) -> bool:
    """Tell whether an operation reads gates and constants only."""
    tensors = [a for a in arguments if isinstance(a, Path | Mask | Static)]
    return all(isinstance(a, Mask) or (isinstance(a, Static) and not a.trained) for a in tensors)


def mask_of(call: Call, arguments: Sequence[Any]) -> Mask:
    """Return the gates that an operation makes of data, gates and constants.

    They are hard if they are boolean, or if the operation keeps 0 and 1 and all its gates are hard.
    They follow the data that they were made from if they compare it with 0.
    """
    sources = [
        a.node if isinstance(a, Path) else a.source for a in arguments if isinstance(a, Path | Mask)
    ]
    masks_hard = all(a.hard for a in arguments if isinstance(a, Mask))
    keeps = call.operation in MOVES or any(part in call.operation for part in _KEEPS_HARD)
    boolean = getattr(call.node.meta.get("val"), "dtype", None) is torch.bool
    hard = boolean or (masks_hard and keeps)
    follows = (
        call.operation in _SIGNS and isinstance(call["self"], Path) and float(call["other"]) == 0.0
    )
    return Mask(call.name, hard, sources[0] if sources else None, follows=follows)
