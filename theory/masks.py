"""Gates computed from gates: what an operation makes of them, and whether they stay 0 or 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from reluctant.theory.lowered import Call, Mask, Path, Static, leaves
from reluctant.theory.operations import COMPARISONS, MOVED, MOVES

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
_TAKES_NUMBERS = ("mul", "where", "scatter")  # as values, and not as axes or places
_OPPOSITE = {"gt": "le", "le": "gt", "ge": "lt", "lt": "ge", "": ""}
_NOT = ("aten.logical_not.default", "aten.bitwise_not.default")


def is_mask_arithmetic(arguments: Sequence[Any]) -> bool:
    """Tell whether an operation reads gates and constants only."""
    tensors = [a for a in arguments if isinstance(a, Path | Mask | Static)]
    return all(isinstance(a, Mask) or (isinstance(a, Static) and not a.trained) for a in tensors)


def mask_of(call: Call, arguments: Sequence[Any]) -> Mask:
    """Return the gates that an operation makes of data, gates and constants.

    They are hard if they are boolean, or if the operation keeps 0 and 1 and has no other operands.
    They follow the data that they were made from if they compare it with 0.
    """
    read = [a for a in arguments if isinstance(a, Path | Mask)]
    sources = [a.node if isinstance(a, Path) else a.source for a in read]
    source = sources[0] if sources else None
    keeps = call.operation in MOVES | MOVED or any(part in call.operation for part in _KEEPS_HARD)
    is_boolean = getattr(call.node.meta.get("val"), "dtype", None) is torch.bool
    hard = is_boolean or (keeps and _reads_bits_only(call, arguments))
    if call.operation in _NOT and isinstance(read[0], Mask) and is_boolean:
        return Mask(call.name, hard, source, follows=read[0].follows, sign=_OPPOSITE[read[0].sign])
    sign = COMPARISONS.get(call.operation, "")
    if sign and isinstance(call["self"], Path) and float(call["other"]) == 0.0:
        return Mask(call.name, hard, source, follows=True, sign=sign)
    return Mask(call.name, hard, source, moves=any(m.moves for m in read if isinstance(m, Mask)))


def _reads_bits_only(call: Call, arguments: Sequence[Any]) -> bool:
    """Tell whether all values that an operation reads are 0 or 1."""
    masks_hard = all(a.hard for a in arguments if isinstance(a, Mask))
    constants = [
        a.value() for a in arguments if isinstance(a, Static) and a.value().is_floating_point()
    ]
    numbers = [a for a in leaves(call.arguments) if isinstance(a, int | float)]
    if any(part in call.operation for part in _TAKES_NUMBERS):
        constants += [torch.tensor(float(a)) for a in numbers]
    return masks_hard and all(bool(((t == 0) | (t == 1)).all()) for t in constants)
