"""Where weighted operations read: their operands, or what stands before routing of whole positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from reluctant.theory.folds import Window, windows
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Reindex, Weighted
from reluctant.theory.operators import Bias, Convolution, Operator

_MOST_RUNS = 3  # of one tap along one axis; routing in more pieces is left in the operand


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Be one call of a weighted operation, and how it reads its operand.

    Attributes:
        node: The weighted node.
        operand: Node that is read: the operand, or what stands before the routing of whole
            positions (padding, cropping) that the windows take over; -1 for a bias.
        operator: How the weights act.
        windows: What the taps read of the operand, along each position axis.
        shape: Positions of the operand.
    """

    node: int
    operand: int
    operator: Operator
    windows: tuple[Window, ...]
    shape: tuple[int, ...]


def site_of(net: PathNetwork, i: int) -> Site:
    """Return how a weighted node reads its operand."""
    node = net.nodes[i]
    assert isinstance(node, Weighted)
    operator = node.operator
    if isinstance(operator, Bias):
        return Site(i, -1, operator, (), ())
    operand = node.operands[0]
    sizes = _positions(operator, net.nodes[operand].shape)
    routed: list[list[int]] = [list(range(size)) for size in sizes]
    found = windows(operator, routed, sizes)
    while isinstance(operator, Convolution):
        before = _moved_positions(net, operand, routed)
        if before is None:
            break
        inner = net.nodes[operand].operands[0]
        wider = windows(operator, before, _positions(operator, net.nodes[inner].shape))
        if any(len(runs) > _MOST_RUNS for w in wider for runs in w.taps):
            break
        routed, found, operand = before, wider, inner
    return Site(i, operand, operator, found, _positions(operator, net.nodes[operand].shape))


def _positions(operator: Operator, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(operator.split(torch.empty(1, *shape, device="meta")).shape[3:])


def _moved_positions(
    net: PathNetwork, i: int, routed: Sequence[Sequence[int]]
) -> list[list[int]] | None:
    """Return where positions come from before a node that moves whole positions; None if it is none.

    Args:
        net: Network.
        i: Node.
        routed: For every position axis, the node's entry that stands at each place, -1 for none.
    """
    node = net.nodes[i]
    if not isinstance(node, Reindex) or len(node.operands) != 1:
        return None
    before = net.nodes[node.operands[0]].shape
    if len(before) != len(node.shape) or before[0] != node.shape[0]:
        return None
    size = torch.Size(before).numel()
    labels = torch.arange(1, size + 1, device=net.program.device).reshape(1, *before)
    moved = node.move([labels])[0].cpu()
    one = size // before[0]
    channel = torch.arange(before[0]).reshape(-1, *[1] * (len(before) - 1))
    own = torch.where(moved > 0, moved - channel * one, 0)
    if not torch.equal(own, own[:1].expand_as(own)) or bool((own > one).any()):
        return None
    axes = torch.unravel_index((own[0] - 1).clamp(min=0), before[1:])
    found = [
        torch.where(own[0] > 0, entry, -1).movedim(a, 0).reshape(own.shape[1 + a], -1).amax(1)
        for a, entry in enumerate(axes)
    ]
    grids = torch.meshgrid(*found, indexing="ij")
    code = torch.ones_like(own[0])
    inside = torch.ones_like(own[0], dtype=torch.bool)
    for grid, size in zip(grids, before[1:], strict=True):
        code = (code - 1) * size + grid + 1
        inside &= grid >= 0
    if not torch.equal(torch.where(inside, code, 0), own[0]):
        return None
    come = [source.tolist() for source in found]
    return [
        [source[k] if k >= 0 else -1 for k in read]
        for source, read in zip(come, routed, strict=True)
    ]
