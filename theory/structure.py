"""What a path network looks like: chains, skips, depth, where gates come from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import fx

from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Input, Reindex, Scale, Sum, Weighted
from reluctant.theory.operators import Bias, Convolution, Dense


@dataclass(frozen=True, slots=True)
class DenseChain:
    """Be a fully connected chain: dense layers with at most one layer of gates between two.

    Attributes:
        layers: Weighted nodes in order, biases left out.
        gate_of: For every hidden layer its gate layer, None if it has none.
        widths: Input size and then the rows of every layer.
    """

    layers: tuple[int, ...]
    gate_of: tuple[int | None, ...]
    widths: tuple[int, ...]

    @property
    def gates(self) -> tuple[int, ...]:
        """Return the gate layers in order."""
        return tuple(g for g in self.gate_of if g is not None)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Return the widths of the hidden layers."""
        return self.widths[1:-1]


def dense_chain(net: PathNetwork) -> DenseChain | None:
    """Return the chain that a fully connected network is, None if it is none."""
    layers: list[int] = []
    gate_of: list[int | None] = []
    waiting: int | None = None
    i = net.output
    while True:
        node = net.nodes[i]
        if (
            isinstance(node, Weighted)
            and isinstance(node.operator, Dense)
            and not node.operator.positions
        ):
            if layers:
                gate_of.append(waiting)
            elif waiting is not None:
                return None
            layers.append(i)
            waiting = None
        elif isinstance(node, Gate):
            if waiting is not None or not layers:
                return None
            waiting = node.gate
        elif isinstance(node, Sum) and not node.axes:
            others = [k for k in node.operands if not _is_bias(net, k)]
            if len(others) != 1:
                return None
            i = others[0]
            continue
        elif not (isinstance(node, Reindex) and node.keeps_order):
            break
        i = node.operands[0]
    begins = isinstance(node, Input) or (isinstance(node, Constant) and node.is_input)
    if not begins or not layers or waiting is not None:
        return None
    operators = [net.nodes[k].operator for k in reversed(layers)]  # type: ignore[attr-defined]
    widths = (operators[0].inputs, *(o.rows for o in operators))
    return DenseChain(tuple(reversed(layers)), tuple(reversed(gate_of)), widths)


@dataclass(frozen=True, slots=True)
class CountedShape:
    """Be a shape whose paths are counted by a formula.

    Attributes:
        inputs: Input coordinates that paths start at: features, or channels times positions.
        windows: Taps of the window of each convolution.
        filters: Filters of each convolution.
        dense: Widths of the hidden dense layers.
        skips: Number b of skips around blocks; 0 for a chain.
        block_depth: Layers of a block, if there are skips.
    """

    inputs: int
    windows: tuple[int, ...] = ()
    filters: tuple[int, ...] = ()
    dense: tuple[int, ...] = ()
    skips: int = 0
    block_depth: int = 0


def counted_shape(net: PathNetwork) -> CountedShape | None:
    """Return the shape of a dense chain, of convolutions pooled globally, or of a residual chain."""
    chain = dense_chain(net)
    if chain is not None:
        return CountedShape(chain.widths[0], dense=chain.hidden)
    return _residual_shape(net) or _pooled_shape(net)


def _residual_shape(net: PathNetwork) -> CountedShape | None:
    layers = [node for node in net.weighted if not isinstance(node.operator, Bias)]
    dense = [o for o in (n.operator for n in layers) if isinstance(o, Dense) and not o.positions]
    skips = identity_skips(net)
    if not skips or len(dense) < len(layers):
        return None
    widths = {o.rows for o in dense[:-1]} | {o.inputs for o in dense[1:]}
    sums = [
        i
        for i in net.value_nodes
        if isinstance(net.nodes[i], Sum) and len(net.nodes[i].operands) > 1
    ]
    plain = [i for i in sums if not any(_is_bias(net, k) for k in net.nodes[i].operands)]
    depth, rest = divmod(len(layers), len(skips) + 2)
    if len(widths) != 1 or rest or len(plain) != len(skips):
        return None
    if any(loses_paths(net, i) for i in net.value_nodes):
        return None
    for skip in skips:
        around = net.ancestors([skip.around])
        inside = [i for i in net.ancestors([skip.branch]) - around if net.nodes[i] in layers]
        if len(inside) != depth:
            return None
    expected = {(i + 2) * depth for i in range(len(skips) + 1)}
    if depths(net)[net.output] != expected:
        return None
    return CountedShape(dense[0].inputs, dense=tuple(widths), skips=len(skips), block_depth=depth)


def _pooled_shape(net: PathNetwork) -> CountedShape | None:
    """Read circular (or otherwise never zero-padded) convolutions, an average over all positions, dense layers."""
    windows: list[int] = []
    filters: list[int] = []
    dense: list[int] = []
    positions = math.prod(net.input_shape[1:])
    pooled, read = False, net.output_size  # read: entries or channels that the layer above reads
    i = net.output
    while not isinstance(net.nodes[i], Input):
        node = net.nodes[i]
        others = [k for k in node.operands if not _is_bias(net, k)]
        if len(others) != 1 or loses_paths(net, i):
            return None
        if isinstance(node, Weighted):
            operator = node.operator
            if operator.rows != read:
                return None
            if isinstance(operator, Dense) and not operator.positions and not pooled:
                dense.append(operator.rows)
                read = operator.inputs
            elif isinstance(operator, Convolution) and pooled and _sees_all(net, operator):
                windows.append(math.prod(axis[0] for axis in operator.axes))
                filters.append(operator.rows)
                read = operator.channels
            else:
                return None
        elif isinstance(node, Sum) and node.axes:
            shape = net.nodes[node.operands[0]].shape
            if pooled or not dense or math.prod(shape[a] for a in node.axes) != positions:
                return None
            pooled = True
        i = others[0]
    if not windows or read != net.input_shape[0]:
        return None
    return CountedShape(
        int(torch.Size(net.input_shape).numel()),
        tuple(windows),
        tuple(filters),
        tuple(reversed(dense[1:])),
    )


def _sees_all(net: PathNetwork, operator: Convolution) -> bool:
    """Tell whether every window of a convolution is whole, one at each position of the data."""
    return (
        operator.groups == 1
        and operator.positions == net.input_shape[1:]
        and all(
            stride == 1 and before == after == 0 for _, stride, _, before, after in operator.axes
        )
    )


def loses_paths(net: PathNetwork, i: int) -> bool:
    """Tell whether a node brings in zeros, or chooses by a maximum."""
    node = net.nodes[i]
    if isinstance(node, Reindex):
        ones = [torch.ones(1, *net.nodes[k].shape) for k in node.operands]
        return not bool(node.move(ones).all())
    if isinstance(node, Scale):
        return not bool(node.factor.all())
    return isinstance(node, Gate) and net.gate_layers[node.gate].kind == "max"


def _is_bias(net: PathNetwork, i: int) -> bool:
    node = net.nodes[i]
    return isinstance(node, Weighted) and isinstance(node.operator, Bias)


def depths(net: PathNetwork, *, sources: bool = False) -> dict[int, frozenset[int]]:
    """Return, for every live node, the numbers of weight layers on paths that arrive there.

    Args:
        net: Network.
        sources: True counts the paths from biases too (a bias is a weight layer).
    """
    found: dict[int, frozenset[int]] = {}
    for i in net.value_nodes:
        node = net.nodes[i]
        arriving = (
            frozenset().union(*(found[k] for k in node.operands))
            if node.operands
            else frozenset({0})
        )
        if isinstance(node, Weighted):
            if isinstance(node.operator, Bias):
                arriving = frozenset({1}) if sources else frozenset()
            else:
                arriving = frozenset(d + 1 for d in arriving)
        elif (
            not node.operands
            and not isinstance(node, Input)
            and not getattr(node, "is_input", False)
            and not sources
        ):
            arriving = frozenset()
        found[i] = arriving
    return found


@dataclass(frozen=True, slots=True)
class Skip:
    """Be a sum where one operand goes around what the other goes through.

    Attributes:
        node: The sum.
        branch: Its operand that goes through weights.
        around: Its operand that goes around them without weights.
    """

    node: int
    branch: int
    around: int


def identity_skips(net: PathNetwork) -> tuple[Skip, ...]:
    """Return the sums of two paths where one is an unweighted detour around the other."""
    return net.once(_identity_skips)


def _identity_skips(net: PathNetwork) -> tuple[Skip, ...]:
    found = []
    for i in net.value_nodes:
        node = net.nodes[i]
        if not isinstance(node, Sum) or node.axes or len(node.operands) != 2:
            continue
        a, b = node.operands
        for branch, around in ((a, b), (b, a)):
            if _goes_around(net, branch, around):
                found.append(Skip(i, branch, around))
                break
    return tuple(found)


def _goes_around(net: PathNetwork, branch: int, around: int) -> bool:
    """Tell whether the branch leaves from a tensor of which the detour is an unweighted image."""
    above = net.ancestors([branch])
    node = around
    while node not in above:
        here = net.nodes[node]
        if isinstance(here, Weighted) or len(here.operands) != 1:
            return False
        node = here.operands[0]
    if node == branch:
        return False
    between = [i for i in above if node in net.ancestors([i]) and i != node]
    return any(isinstance(net.nodes[i], Weighted) for i in between)


def last_operations(net: PathNetwork) -> list[Weighted] | None:
    """Return the operations that make all outputs alike, a dense layer and its bias for instance.

    Returns:
        What the outputs are sums of, one entry a term; None unless each term is a dense layer that
        mixes everything, or a bias.
    """
    todo, found = [net.output], []
    while todo:
        node = net.nodes[todo.pop()]
        if isinstance(node, Weighted):
            operator = node.operator
            whole = int(torch.Size(operator.positions).numel()) == 1
            if not (whole and isinstance(operator, Dense | Bias)):
                return None
            found.append(node)
        elif (isinstance(node, Sum) and not node.axes) or (
            isinstance(node, Reindex) and node.keeps_order
        ):
            todo.extend(node.operands)
        else:
            return None
    return found


def gate_parameters(net: PathNetwork, layer: int) -> set[int]:
    """Return the identities of the parameters that a layer of gates depends on."""
    name = net.program.probes[layer][0]
    nodes = {node.name: node for node in net.program.graph.nodes}
    start = nodes[name]
    made_by = (
        start.all_input_nodes if net.gate_layers[layer].kind != "mask" else _mask_inputs(net, layer)
    )
    todo, seen = list(made_by), set()
    found: set[int] = set()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op == "placeholder" and node.name != net.program.data:
            found.add(id(net.program.bindings[node.name]()))
        todo.extend(node.all_input_nodes)
    return found


def _mask_inputs(net: PathNetwork, layer: int) -> list[fx.Node]:
    """Return the graph node that holds the gates of a layer of kind "mask"."""
    wanted = net.gate_layers[layer].made_by
    return [node for node in net.program.graph.nodes if node.name == wanted]


def outputs_share_a_kernel(net: PathNetwork) -> bool:
    """Tell whether one kernel stands for all: there is one output, or one dense layer makes them."""
    return net.output_size == 1 or last_operations(net) is not None
