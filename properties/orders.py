"""Which layers of gates could change places: those of one shape in a row, with weights between."""

from __future__ import annotations

from collections.abc import Iterator

from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, Reindex, Sum, Weighted
from reluctant.theory.operators import Bias
from reluctant.theory.statements import Hypothesis
from reluctant.theory.verdicts import Unmet


def commuting_layers(net: PathNetwork) -> list[list[int]]:
    """Return groups of gate layers of one shape, in order, none of which multiplies another.

    A pooling, or whatever else moves or adds positions, ends a group.
    """
    groups: list[list[int]] = [[]]
    shape: tuple[int, ...] | None = None
    run: list[int] = []  # gates since the last weights
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Gate):
            run.append(i)
            continue
        ends_run = isinstance(node, Weighted) and bool(node.operands)
        ends_group = (isinstance(node, Sum) and bool(node.axes)) or _moves(net, i)
        if (ends_run or ends_group) and run:
            gate = net.nodes[run[0]]
            assert isinstance(gate, Gate)
            if gate.shape != shape or not groups[-1]:
                groups.append([])
            if len(run) == 1 and net.gate_layers[gate.gate].kind != "max":
                groups[-1].append(gate.gate)
                shape = gate.shape
            else:
                groups.append([])
            run = []
        if ends_group:
            groups.append([])
    return [layers for layers in groups if layers]


def _moves(net: PathNetwork, i: int) -> bool:
    """Tell whether a node moves entries, and not just to pad them for a convolution."""
    node = net.nodes[i]
    if not isinstance(node, Reindex) or node.keeps_order:
        return False
    readers = [net.nodes[k] for k in net.value_nodes if i in net.nodes[k].operands]
    return not all(isinstance(reader, Weighted | Reindex) for reader in readers)


def _commute(net: PathNetwork) -> Iterator[Unmet]:
    name = LAYERS_COMMUTE_NAME
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Weighted) and not isinstance(node.operator, Bias):
            operator = node.operator
            taps = [axis[0] for axis in operator.axes]
            if any(tap > 1 for tap in taps):
                size = " × ".join(map(str, taps))
                yield Unmet(name, f"{node.name} has windows of size {size}", node.place)
            elif operator.groups > 1 or any(axis[1] > 1 for axis in operator.axes):
                yield Unmet(name, f"{node.name} has groups or strides", node.place)
        elif isinstance(node, Reindex) and len(set(node.operands)) > 1:
            yield Unmet(name, f"{node.name} puts branches side by side", node.place)
        elif isinstance(node, Sum) and not node.axes:
            branches = [k for k in node.operands if not _is_bias(net, k)]
            if len(branches) > 1:
                yield Unmet(name, f"{node.name} joins branches", node.place)


def _is_bias(net: PathNetwork, i: int) -> bool:
    node = net.nodes[i]
    return isinstance(node, Weighted) and isinstance(node.operator, Bias)


LAYERS_COMMUTE_NAME = "a chain with windows of size 1"
LAYERS_COMMUTE = Hypothesis(
    LAYERS_COMMUTE_NAME,
    "Dense layers, or convolutions of window and stride 1 without groups, one after the other.",
    _commute,
)
