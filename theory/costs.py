r"""What computations on a network cost, known before they begin: multiply-adds, and bytes held at once.

Both are counted from shapes alone. Bytes are those of float64 tensors beside the network, its inputs
and its recorded gates; they are an upper estimate, of the right order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, Sum, Weighted

_TILE_BYTES = 1 << 22  # of the kernels of pairs that are propagated together, one pair at least
LARGE = 1e7  # multiply-adds of one forward pass above which a network counts as large
_REMEDY = "--effort thorough allows more, and smaller inputs take less"
_DOUBLE = 8
_HELD = 6  # tensors of a block's size that the contraction of a kernel holds: U, products, windows
_TANGENT = 2.5  # a law holds every kernel with its derivative, and the products of both
_ROWS = 4  # lists of gradients that are held at once, and Gram matrices that are taken of them
_ALONGSIDE = 6  # tensors of an activation's size that one step of a pass holds, and float64 gates


@dataclass(frozen=True, slots=True)
class Cost:
    """Be what something takes.

    Attributes:
        kernels: Multiply-adds on kernels.
        passes: Multiply-adds of passes through the network, which make better use of a machine.
        bytes: Bytes held at once.
    """

    kernels: float = 0.0
    passes: float = 0.0
    bytes: float = 0.0

    def beyond(self, limit: Cost) -> str:
        """Say what exceeds a limit and what to do; the empty string if nothing does."""
        found = [
            f"{mine:.1e} multiply-adds, more than {most:.0e}"
            for mine, most in ((self.kernels, limit.kernels), (self.passes, limit.passes))
            if mine > most
        ]
        if self.bytes > limit.bytes:
            found.append(f"{in_units(self.bytes)}, more than {in_units(limit.bytes)}")
        return f"{' and '.join(found)} at this effort; {_REMEDY}" if found else ""


UNLIMITED = Cost(math.inf, math.inf, math.inf)


def in_units(size: float) -> str:
    """Return a number of bytes in words.

    >>> in_units(3 * 2**29)
    '1.5 GiB'
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def is_large(net: PathNetwork) -> bool:
    """Tell whether one forward pass of one example takes more than ten million multiply-adds."""
    return pass_work(net) > LARGE


def pass_work(net: PathNetwork) -> int:
    """Return the multiply-adds of one forward pass of one example."""
    return sum(math.prod(node.shape) * node.operator.fan_in for node in net.weighted)


def pass_cost(net: PathNetwork, examples: int, count: int = 1) -> Cost:
    """Return what forward passes take that are done one after another.

    Args:
        net: Network.
        examples: Number of examples of each.
        count: Number of passes.
    """
    last_use = {k: i for i in net.value_nodes for k in net.nodes[i].operands}
    live, held, most = dict[int, int](), 0, 0
    for i in net.value_nodes:
        live[i] = math.prod(net.nodes[i].shape)
        held += live[i]
        most = max(most, held + _ALONGSIDE * live[i])
        held -= sum(live.pop(k) for k in set(net.nodes[i].operands) if last_use[k] == i)
    weights = sum(weight.entries.numel() for weight in net.weights)
    return Cost(
        passes=float(count) * examples * pass_work(net),
        bytes=float(_DOUBLE * (examples * most + weights)),
    )


def gradient_cost(net: PathNetwork, examples: int) -> Cost:
    """Return what the gradients of every output at every example take, by passes of the batch.

    Args:
        net: Network.
        examples: Number of examples.
    """
    rows = examples * net.output_size
    entries = sum(p.numel() for p in net.module.parameters())
    one = pass_cost(net, examples)
    held = sum(math.prod(net.nodes[i].shape) for i in net.value_nodes)
    return Cost(
        passes=(1 + 2 * rows) * one.passes + _ROWS * examples * rows * float(entries),
        bytes=one.bytes + _DOUBLE * (examples * held + _ROWS * rows * float(entries)),
    )


def trial_bytes(net: PathNetwork, examples: int) -> float:
    """Return the bytes that a trial keeps: weights, in float64 too, their places, and gates.

    Args:
        net: Network.
        examples: Number of examples.
    """
    entries = sum(p.numel() for p in net.module.parameters())
    gates = sum(math.prod(node.shape) for node in net.nodes if isinstance(node, Gate))
    return _DOUBLE * (3.0 * entries + examples * gates + 1)


def kernel_work(net: PathNetwork) -> float:
    """Estimate the multiply-adds that the kernel of one pair of examples takes.

    Positions squared times channels, for each weight tensor that an operand comes from, where sums
    over positions follow; positions times channels where none does.
    """
    summed = _summed(net)
    parts: dict[int, set[int]] = {}
    total = 0.0
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Weighted):
            size = float(math.prod(net.nodes[node.operands[0]].shape)) if node.operands else 0.0
            positions = float(math.prod(node.operator.positions))
            origins_met = max(1, len(parts[node.operands[0]])) if node.operands else 0
            total += size * origins_met * (positions if i in summed else 1.0)
            parts[i] = {node.weight}
        else:
            parts[i] = set().union(*(parts[k] for k in node.operands)) if node.operands else set()
    return total


def kernel_cost(net: PathNetwork, examples: int) -> Cost:
    """Return what the kernel of examples takes, or the law of their tangent kernel.

    Args:
        net: Network.
        examples: Number of examples.
    """
    summed = _summed(net)
    images = 0.0
    slots: dict[int, dict[int, int]] = {}
    for i in net.value_nodes:
        slots[i] = _slots(net, i, slots)
        size = math.prod(net.nodes[i].shape)
        images += size * (1 + sum(slots[i].values()))
    found = [node for i in summed if isinstance(node := net.nodes[i], Weighted)]
    wholes = [node.operator.groups * math.prod(node.operator.positions) ** 2 for node in found]
    read = [math.prod(net.nodes[k].shape[1:]) ** 2 for node in found for k in node.operands]
    largest = max([*wholes, *read], default=1)
    together = min(examples, max(1, int((_TILE_BYTES / (_DOUBLE * largest)) ** 0.5)))
    kernels = together**2 * (sum(wholes) + _HELD * largest) * _TANGENT
    weights = max((weight.entries.numel() for weight in net.weights), default=0)
    return Cost(
        kernels=kernel_work(net) * examples**2,
        bytes=_DOUBLE * (2.0 * images * (examples + 1) + kernels + 2.0 * weights),
    )


def _summed(net: PathNetwork) -> set[int]:
    """Return the nodes after which a sum over positions follows."""
    found: set[int] = set()
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Sum) and any(
            net.nodes[node.operands[0]].shape[a] > 1 for a in node.axes
        ):
            found |= net.ancestors([i])
    return found


def _slots(net: PathNetwork, i: int, slots: dict[int, dict[int, int]]) -> dict[int, int]:
    """Return how many entries of each weight tensor's outputs an entry of a node is a sum of."""
    node = net.nodes[i]
    if isinstance(node, Weighted):
        return {node.weight: 1}
    found: dict[int, int] = {}
    for k in node.operands:
        for origin, count in slots[k].items():
            found[origin] = max(count, found.get(origin, 0))
    if isinstance(node, Sum) and node.axes:
        shape = net.nodes[node.operands[0]].shape
        over = math.prod(shape[a] for a in node.axes)
        return {origin: over * count for origin, count in found.items()}
    return found
