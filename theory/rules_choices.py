r"""Rules for what chooses between two tensors, entry by entry: a layer of gates for each, added.

.. math:: \mathrm{where}(m, a, b) = m \odot a + (1 - m) \odot b

Gates that nothing is to come through are left out, and a choice between q and a q by the sign of q
is one layer of leaky gates.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from reluctant.theory.lowered import Call, Lowered, Mask, Path, Static, number
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.masks import is_mask_arithmetic, mask_of
from reluctant.theory.nodes import Scale
from reluctant.theory.rules_gates import multiplied_by_mask, own_gates, stepped
from reluctant.theory.rules_sums import term


def _choice(lower: Lowering, call: Call, mask: Any, chosen: Any, other: Any) -> Lowered:
    """Append a choice: one tensor where a mask is open, the other where it is not."""
    if is_mask_arithmetic([mask, chosen, other]):
        return mask_of(call, [mask, chosen, other])
    if not isinstance(mask, Mask):
        raise lower.refuse(call, "only a comparison of the data can choose between tensors")
    if not mask.hard:
        raise lower.refuse(call, "its condition is no comparison, which would be 0 or 1")
    if any(isinstance(t, Mask) for t in (chosen, other)):
        raise lower.refuse(call, "it mixes gates and data that carries paths in one tensor")
    paths = [t for t in (chosen, other) if isinstance(t, Path)]
    assert call.shape is not None
    shape, batch = lower.broadcast(call, paths) if paths else (call.shape[1:], 0)
    if batch != 0:
        raise lower.refuse(call, "gates multiply a tensor whose batch axis is not the first")
    slope = _slope(lower, mask, chosen, other)
    if slope is not None and chosen.shape == shape:
        q = chosen if _opens_above(mask) else other
        return stepped(lower, call, q, mask, lambda: slope)
    kept = [(t, turned) for t, turned in ((chosen, False), (other, True)) if not is_zero(t)]
    parts = [
        multiplied_by_mask(lower, call, term(lower, call, t, shape, 0), mask, turned=turned)
        for t, turned in kept
    ]
    return lower.total(call, parts) if len(parts) > 1 else parts[0]


def _opens_above(mask: Mask) -> bool:
    return mask.sign in ("gt", "ge")


def _slope(lower: Lowering, mask: Mask, chosen: Any, other: Any) -> Tensor | None:
    """Return a, if q is chosen where it is positive and a q where it is not."""
    q, scaled = (chosen, other) if _opens_above(mask) else (other, chosen)
    if not (mask.sign and isinstance(q, Path) and isinstance(scaled, Path)):
        return None
    node = lower.nodes[scaled.node]
    is_multiple = isinstance(node, Scale) and node.operands == (q.node,)
    if not is_multiple or mask.source != q.node:
        return None
    assert isinstance(node, Scale)
    return node.factor if node.factor.numel() == 1 else None


@rule("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def _where(lower: Lowering, call: Call) -> Lowered:
    return _choice(lower, call, call["condition"], call["self"], call["other"])


@rule(
    "aten.masked_fill.Scalar", "aten.masked_fill_.Scalar",
    "aten.masked_fill.Tensor", "aten.masked_fill_.Tensor",
)  # fmt: skip
def _masked_fill(lower: Lowering, call: Call) -> Lowered:
    return _choice(lower, call, call["mask"], call["value"], call["self"])


@rule("aten.index_put.default", "aten.index_put_.default")
def _written_where(lower: Lowering, call: Call) -> Lowered:
    """Read one number, written where a mask is open: ``t[t < 0] = 0``."""
    indices, value, whole = call["indices"], call["values"], call["self"]
    mask = indices[0] if len(indices) == 1 else None
    shapes = {n.name: tuple(n.meta["val"].shape) for n in call.node.all_input_nodes}
    is_whole = isinstance(mask, Mask) and shapes[mask.graph_node] == call.shape
    if not is_whole or call["accumulate"]:
        raise lower.refuse(
            call, "only a number written where a comparison of the data holds is read"
        )
    if not isinstance(value, Static) or value.value().numel() != 1:
        raise lower.refuse(call, "what it writes is no number; choose with torch.where")
    one = value.view(lambda t: t.reshape(()))
    return _choice(lower, call, mask, one, whole)


@rule("aten.threshold.default", "aten.threshold_.default")
def _threshold(lower: Lowering, call: Call) -> Lowered:
    """Read the threshold 0 with value 0; others were written as a choice."""
    return own_gates(lower, call, lower.path(call, call["self"]), "self")


@rule("aten.heaviside.default")
def _heaviside(lower: Lowering, call: Call) -> Lowered:
    q, at_ties = call["self"], call["values"]
    fixed = isinstance(at_ties, Static) and not at_ties.trained
    values = at_ties.value() if fixed else number(-1.0)
    if not isinstance(q, Path) or q.batch != 0 or not bool(((values == 0) | (values == 1)).all()):
        raise lower.refuse(call, "only steps of the data whose value at 0 is 0 or 1 are gates")
    whole = call.shape == (lower.batch, *q.shape)
    sign = ("gt", "ge")[int(values.flatten()[0])] if values.unique().numel() == 1 else ""
    return Mask(call.name, True, q.node, follows=whole, sign=sign)


def is_zero(value: Any) -> bool:
    """Tell whether what is chosen is the constant 0, which begins no path."""
    if isinstance(value, Static):
        return not value.trained and not bool((value.value() != 0).any())
    return isinstance(value, int | float) and value == 0
