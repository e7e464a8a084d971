"""Operations of an exported graph written out as others of the same values and derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg

from reluctant.theory.lowered import arguments_of

_ATEN = torch.ops.aten


@dataclass(frozen=True, slots=True)
class _Pen:
    """Write operations before a node, in the place of it.

    Attributes:
        graph: Graph.
        node: What is written out.
    """

    graph: fx.Graph
    node: fx.Node

    def __call__(self, target: Any, *arguments: Any) -> fx.Node:
        with self.graph.inserting_before(self.node):
            made = self.graph.call_function(target, arguments)
        values = map_arg(arguments, lambda n: n.meta["val"])
        made.meta = {**self.node.meta, "val": target(*values)}
        return made


def write_out(graph: fx.Graph) -> None:
    """Write thresholds, shrinkages, hard sigmoids and clamps by tensors as what they are made of.

    Args:
        graph: Exported graph, which is changed. Nothing but the result of an operation in place
            reads what that has written.
    """
    for node in list(graph.nodes):
        spelling = _SPELLINGS.get(str(node.target))
        if spelling is None:
            continue
        names = {n.name: n for n in node.all_input_nodes}
        made = spelling(_Pen(graph, node), **arguments_of(node, names))
        if made is not None:
            node.replace_all_uses_with(made)
            graph.erase_node(node)


def _threshold(pen: _Pen, self: fx.Node, threshold: float, value: float) -> fx.Node | None:
    """Write a threshold as the choice that it is, unless it is a ReLU."""
    if threshold == value == 0:
        return None
    return pen(_ATEN.where.ScalarOther, pen(_ATEN.gt.Scalar, self, threshold), self, value)


def _hard_shrinkage(pen: _Pen, self: fx.Node, lambd: float) -> fx.Node:
    """Choose q where abs(q) > λ, and else 0."""
    beyond = pen(_ATEN.gt.Scalar, pen(_ATEN.abs.default, self), lambd)
    return pen(_ATEN.where.ScalarOther, beyond, self, 0)


def _soft_shrinkage(pen: _Pen, self: fx.Node, lambd: float) -> fx.Node:
    """Write relu(q - λ) - relu(-q - λ)."""
    if lambd == 0:
        return self
    above, below = (
        pen(_ATEN.relu.default, pen(_ATEN.sub.Scalar, q, lambd))
        for q in (self, pen(_ATEN.neg.default, self))
    )
    return pen(_ATEN.sub.Tensor, above, below)


def _hard_sigmoid(pen: _Pen, self: fx.Node) -> fx.Node:
    """Write a ramp from 0 to 6, which begins at -3, divided by 6."""
    ramp = pen(_ATEN.hardtanh.default, pen(_ATEN.add.Scalar, self, 3), 0, 6)
    return pen(_ATEN.div.Scalar, ramp, 6)


def _clamp(
    pen: _Pen, self: fx.Node, min: fx.Node | None = None, max: fx.Node | None = None
) -> fx.Node:
    """Clamp from below, then from above."""
    above = self if min is None else pen(_ATEN.clamp_min.Tensor, self, min)
    return above if max is None else pen(_ATEN.clamp_max.Tensor, above, max)


_SPELLINGS: dict[str, Callable[..., fx.Node | None]] = {
    f"aten.{name}": spelling
    for names, spelling in (
        (("threshold.default", "threshold_.default"), _threshold),
        (("hardshrink.default",), _hard_shrinkage),
        (("softshrink.default",), _soft_shrinkage),
        (("hardsigmoid.default", "hardsigmoid_.default"), _hard_sigmoid),
        (("clamp.Tensor", "clamp_.Tensor", "clip.Tensor", "clip_.Tensor"), _clamp),
        (("clamp_min_.Tensor", "clamp_max_.Tensor"), _clamp),
    )
    for name in names
}
