"""What a network is made of, layer by layer: strides, pools, gates, shared weights, skips."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import fx

from reluctant.theory.edges import edges
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Node, Reindex, Scale, Sum, Weighted
from reluctant.theory.operations import ADDITIONS, COMPARISONS
from reluctant.theory.operators import Bias, Convolution, Dense
from reluctant.theory.pooled import is_a_maximum
from reluctant.theory.structure import gate_parameters, identity_skips

_COMPARED = {"gt", "ge", "lt", "le", "eq", "ne"}
_ZEROS = {"aten.zeros_like.default", "aten.new_zeros.default", "aten.zeros.default"}


def called(net: PathNetwork, node: Node) -> str:
    """Return the name that the module gives to a layer of weights, or else that of the node."""
    if not isinstance(node, Weighted):
        return node.name
    name = net.weights[node.weight].name.removesuffix(".weight").removesuffix(".bias")
    return f"layer {name}" if name.isdigit() else name


@dataclass(frozen=True, slots=True)
class Reduction:
    """Be a stride or a pool after which fewer positions are left, but more than one.

    Attributes:
        node: The operation.
        before: Positions along each axis.
        after: Positions left along each axis.
    """

    node: Node
    before: tuple[int, ...]
    after: tuple[int, ...]


def reductions(net: PathNetwork) -> tuple[Reduction, ...]:
    """Return the strided convolutions, pools and strided slices on paths to the output, in order."""
    alive = {net.nodes[i].name: net.nodes[i] for i in reversed(net.value_nodes)}
    unpadded = {edge.node.name: edge.sizes for edge in edges(net)}
    axes, found = len(net.input_shape) - 1, []
    for made in net.program.graph.nodes:
        if made.name not in alive or not _steps(made):
            continue
        after = _shape(made)[2:]
        before = unpadded.get(made.name, _shape(made.all_input_nodes[0])[2:])
        if len(before) == len(after) == axes and math.prod(after) > 1 and before != after:
            found.append(Reduction(alive[made.name], before, after))
    return tuple(found)


def _steps(made: fx.Node) -> bool:
    """Tell whether an operation of the graph can leave out positions other than at the edges."""
    name = str(made.target)
    if "conv" in name and "transpose" not in name:
        stride = made.args[3] if len(made.args) > 3 else made.kwargs.get("stride", [1])
        return any(step != 1 for step in stride)  # type: ignore[union-attr]
    if name == "aten.slice.Tensor":
        return bool(len(made.args) > 4 and made.args[4] != 1)
    return "pool" in name


def _shape(made: fx.Node) -> tuple[int, ...]:
    value = made.meta["val"]
    return tuple((value[0] if isinstance(value, tuple | list) else value).shape)


@dataclass(frozen=True, slots=True)
class Pool:
    """Be an operation that leaves one number of all positions.

    Attributes:
        node: The operation.
        positions: Number of positions that it joins.
        by: "average", "sum", "maximum", or "weights" where a layer reads all positions with
            weights of their own.
    """

    node: Node
    positions: int
    by: str


def global_pools(net: PathNetwork) -> tuple[Pool, ...]:
    """Return where paths to the output leave their positions, in order."""
    found = []
    averages = {
        k for i in net.value_nodes if isinstance(net.nodes[i], Scale) for k in net.nodes[i].operands
    }
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Sum) and node.axes:
            base, picks = _pooled(net, node.operands[0])
            shape, entries = net.nodes[base].shape, net.nodes[node.operands[0]].shape
            joined = math.prod(entries[a] for a in node.axes)
            if joined == math.prod(shape[1:]) > 1 and math.prod(node.shape) == shape[0]:
                by = "maximum" if picks else "average" if i in averages else "sum"
                found.append(Pool(node, joined, by))
        elif isinstance(node, Weighted) and node.operands:
            positions = _flattened(net, node)
            if positions > 1:
                found.append(Pool(node, positions, "weights"))
    return tuple(found)


def _pooled(net: PathNetwork, i: int) -> tuple[int, bool]:
    """Return the tensor of which a sum adds entries, and whether it picks the largest ones."""
    picks = False
    while len(net.nodes[i].operands) == 1:
        node = net.nodes[i]
        if isinstance(node, Gate) and is_a_maximum(net, node.gate):
            picks = True
        elif not isinstance(node, Reindex):
            break
        (i,) = node.operands
    return i, picks


def _flattened(net: PathNetwork, node: Weighted) -> int:
    """Return how many positions weights read that are shared by none; 1 if they share them."""
    operator = node.operator
    if isinstance(operator, Convolution):
        whole = tuple(axis[0] for axis in operator.axes) == net.nodes[node.operands[0]].shape[1:]
        return operator.fan_in * operator.groups // operator.channels if whole else 1
    i = node.operands[0]
    while isinstance(here := net.nodes[i], Reindex) and here.keeps_order:
        i = here.operands[0]
    if not isinstance(operator, Dense) or operator.positions or i == node.operands[0]:
        return 1
    return math.prod(net.nodes[i].shape[1:])


def shared_weights(net: PathNetwork) -> dict[str, tuple[Weighted, ...]]:
    """Return the parameters that act in several places, by name, with the nodes that use them."""
    uses: dict[int, list[Weighted]] = {}
    for node in net.weighted:
        uses.setdefault(net.weights[node.weight].parameter, []).append(node)
    return {
        net.weights[nodes[0].weight].name: tuple(nodes) for nodes in uses.values() if len(nodes) > 1
    }


def makers_of_gates(net: PathNetwork, layer: int) -> tuple[str, ...]:
    """Return the names of the parameters that a layer of gates is made from, in the module's order.

    Args:
        net: Network.
        layer: Gate layer.
    """
    made = gate_parameters(net, layer)
    return tuple(name for name, p in net.module.named_parameters() if id(p) in made)


def threshold_of(net: PathNetwork, layer: int) -> float:
    """Return the number with which the comparison of a gate layer is made; 0 where there is none.

    Args:
        net: Network.
        layer: Gate layer.
    """
    graph = {node.name: node for node in net.program.graph.nodes}
    todo = [graph[net.gate_layers[layer].made_by]] if net.gate_layers[layer].made_by else []
    while todo:
        node = todo.pop()
        if str(node.target) in COMPARISONS:
            return float(str(node.args[1]))
        todo.extend(k for k in node.all_input_nodes if k.name not in _carriers(net))
    return 0.0


def compares_data_with_numbers(net: PathNetwork, layer: int) -> bool:
    """Tell whether gates that are a tensor of their own come from a comparison with more than data and 0.

    Args:
        net: Network.
        layer: Gate layer.
    """
    graph, data = {node.name: node for node in net.program.graph.nodes}, net.program.data
    todo, seen = [graph[net.gate_layers[layer].made_by]], _carriers(net)
    while todo:
        node = todo.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        is_comparison = any(part in _COMPARED for part in str(node.target).split(".")[1:2])
        if is_comparison and not all(_is_data_or_zero(each, data) for each in node.args[:2]):
            return True
        todo.extend(node.all_input_nodes)
    return False


def _is_data_or_zero(operand: object, data: str) -> bool:
    if not isinstance(operand, fx.Node):
        return operand == 0
    todo, seen = [operand], set[fx.Node]()
    while todo:
        node = todo.pop()
        if node.name == data or str(node.target) in _ZEROS:
            return True
        if node not in seen:
            seen.add(node)
            todo.extend(node.all_input_nodes)
    return False


def _carriers(net: PathNetwork) -> set[str]:
    """Return the names of the operations that carry paths."""
    return {node.name for node in net.nodes if not isinstance(node, Gate)}


def joins(net: PathNetwork) -> tuple[tuple[Node, str], ...]:
    """Return where branches meet, in order: identity skips, projected skips, concatenations."""
    identity = {skip.node for skip in identity_skips(net)}
    sums = {n.name for n in net.program.graph.nodes if str(n.target) in ADDITIONS}
    found = []
    for i in net.value_nodes:
        node = net.nodes[i]
        branches = [k for k in dict.fromkeys(node.operands) if _carries_data(net, k)]
        if i in identity:
            found.append((node, "identity skip"))
        elif node.name in sums and isinstance(node, Sum) and len(branches) > 1:
            found.append((node, "sum of branches"))
        elif isinstance(node, Reindex) and len(branches) > 1:
            found.append((node, "concatenation"))
    return tuple(found)


def _carries_data(net: PathNetwork, i: int) -> bool:
    return any(
        not isinstance(net.nodes[k], Constant) and not _is_bias(net.nodes[k])
        for k in net.ancestors([i])
    )


def _is_bias(node: Node) -> bool:
    return isinstance(node, Weighted) and isinstance(node.operator, Bias)


def batch_norms(net: PathNetwork) -> tuple[Node, ...]:
    """Return the batch norms on paths to the output, in order."""
    made = {n.name for n in net.program.graph.nodes if str(n.target) == "aten.batch_norm.default"}
    return tuple(
        node
        for node in (net.nodes[i] for i in net.value_nodes)
        if isinstance(node, Scale) and node.name in made
    )
