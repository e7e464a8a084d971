"""Symmetries at full size, modulo primes: rays, units that move or are rescaled, gated twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reluctant.models.converters import GatedTwin, to_dgn
from reluctant.models.gates import Soft
from reluctant.theory.modular import FieldTrial, Identity, ModularClaim, Recording
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, Reindex, Sum, Weighted
from reluctant.theory.operators import Bias, Dense
from reluctant.theory.residues import ResidueNetwork
from reluctant.theory.statements import CannotTry, Mutant
from reluctant.theory.tracing import trace
from reluctant.theory.units import HiddenLayer


def network_is_homogeneous(trial: FieldTrial, power: int = 1) -> Sequence[Identity]:
    """Compare every tensor that is gated, and the output, at c x with c times that at x.

    Where all pre-activations scale, gates of own ReLUs and maxima stay as they are for c > 0.
    """
    net, over = trial.net, trial.over
    c = trial.draw(1)
    scaled = over.reduce(c * trial.x)
    moved = trial.network.values(scaled, trial.gates, trial.weights)
    factor = c
    for _ in range(power - 1):
        factor = over.reduce(factor * c)
    gated = (net.nodes[i].operands[0] for i in net.value_nodes if isinstance(net.nodes[i], Gate))
    return [
        trial.identity(
            moved[i],
            over.reduce(factor * trial.values[i]),
            f"{net.nodes[i].name} at c x against c times it at x",
            degree=power,
            node=i,
        )
        for i in (*dict.fromkeys(gated), net.output)
    ]


HOMOGENEOUS = ModularClaim(network_is_homogeneous, (Mutant("c² for c", {"power": 2}),))


def _layers(trial: FieldTrial) -> list[HiddenLayer]:
    if not trial.recording.layers:
        raise CannotTry("no layer has units that act nowhere else")
    return trial.recording.layers


def between(net: PathNetwork, layer: HiddenLayer) -> tuple[int, list[int]]:
    """Return the weighted node of a layer's units, and the nodes between it and the next weights.

    Args:
        net: Network.
        layer: Layer of units.
    """
    starts = [
        i
        for i in net.value_nodes
        if isinstance(node := net.nodes[i], Weighted)
        and node.weight in layer.incoming
        and not isinstance(node.operator, Bias)
    ]
    ends = [
        node.operands[0] for node in net.weighted if node.weight == layer.outgoing and node.operands
    ]
    found, reached = [], {starts[0]}
    inside = net.ancestors(ends)
    for i in net.value_nodes:
        if i in inside and any(k in reached for k in net.nodes[i].operands):
            reached.add(i)
            found.append(i)
    return starts[0], found


def _followed(
    net: PathNetwork, nodes: Sequence[int], start: int, codes: Tensor
) -> dict[int, Tensor]:
    """Send codes of entries along the moves after a node; a window keeps its largest code."""
    found = {start: codes}
    for i in nodes:
        node = net.nodes[i]
        known = [found[k] for k in node.operands if k in found]
        if isinstance(node, Reindex):
            found[i] = node.move(known)
        elif isinstance(node, Sum) and node.axes:
            found[i] = known[0].amax([a + 1 for a in node.axes])
        else:
            found[i] = known[0]
    return found


def moved_gates(
    net: PathNetwork, layer: HiddenLayer, order: Tensor, gates: Sequence[Tensor]
) -> list[Tensor]:
    """Return the gates after units changed places: those of a moved unit move with it.

    Args:
        net: Network.
        layer: Layer of units.
        order: New unit u is the old unit order[u].
        gates: Gates before.
    """
    start, nodes = between(net, layer)
    node = net.nodes[start]
    assert isinstance(node, Weighted)
    size = int(torch.Size(node.shape).numel())
    codes = torch.arange(1.0, size + 1, dtype=torch.float64).reshape(1, *node.shape)
    axis = codes.ndim - 1 if isinstance(node.operator, Dense) else 1
    before = _followed(net, nodes, start, codes)
    after = _followed(net, nodes, start, codes.index_select(axis, order))
    found = list(gates)
    for i in nodes:
        gate = net.nodes[i]
        if not isinstance(gate, Gate):
            continue
        old, new = before[gate.operands[0]].flatten(), after[gate.operands[0]].flatten()
        at = torch.empty_like(old, dtype=torch.long)
        # Entries outside a window repeat the code 0; their gates multiply nothing.
        at[new.argsort(stable=True)] = old.argsort(stable=True)
        moved = gates[gate.gate].flatten(1)[:, at]
        found[gate.gate] = moved.reshape(gates[gate.gate].shape)
    return found


def _locally(
    trial: FieldTrial, layer: HiddenLayer, gates: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[int, Tensor]:
    """Return the node that reads a layer's units, and its value with other gates and weights."""
    net, given, end = trial.net, {}, -1
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Weighted) and node.weight in layer.incoming:
            operand = trial.values[node.operands[0]] if node.operands else None
            given[i] = trial.over.reduce(node.operator.apply(operand, weights[node.weight]))
        elif isinstance(node, Weighted) and node.weight == layer.outgoing:
            end = i
    return end, trial.network.changed(trial.values, given, gates, weights, target=end)


def _permuted(
    layer: HiddenLayer, order: Tensor, weights: Sequence[Tensor], columns: bool
) -> list[Tensor]:
    """Return the weights after the units of a layer changed places."""
    moved = list(weights)
    for k in layer.incoming:
        rows = weights[k].reshape(layer.units, -1)
        moved[k] = rows[order].reshape(weights[k].shape)
    if columns:
        width = int(layer.partner.max()) + 1
        place = torch.empty(layer.units * width, dtype=torch.long)
        place[layer.unit * width + layer.partner] = torch.arange(len(layer.unit))
        source = place[order[layer.unit] * width + layer.partner]
        moved[layer.outgoing] = weights[layer.outgoing][:, source]
    return moved


def units_can_be_permuted(trial: FieldTrial, columns: bool = True) -> Sequence[Identity]:
    """Compare what reads a layer before and after its units change places, and the output.

    The output is compared after the units of all layers have changed places, gates with them.
    """
    net, found = trial.net, []
    every_gate, every_weight = list(trial.gates), list(trial.weights)
    for layer in _layers(trial):
        order = torch.randperm(layer.units, generator=trial.generator)
        if layer.units > 1 and bool((order == torch.arange(layer.units)).all()):
            order = order.flip(0)
        gates = moved_gates(net, layer, order, trial.gates)
        weights = _permuted(layer, order, trial.weights, columns)
        end, value = _locally(trial, layer, gates, weights)
        what = f"{net.nodes[end].name} before and after the units that it reads change places"
        found.append(trial.identity(value, trial.values[end], what, node=end))
        three = zip(gates, trial.gates, every_gate, strict=True)
        every_gate = [sofar if moved is still else moved for moved, still, sofar in three]
        every_weight = _permuted(layer, order, every_weight, columns)
    output = trial.network.output(trial.x, every_gate, every_weight).flatten(1)
    found.append(trial.identity(output, trial.graph_output, "f after all of them change places"))
    return found


PERMUTE_UNITS = ModularClaim(
    units_can_be_permuted,
    (Mutant("units moved without their outgoing weights", {"columns": False}),),
)


def units_can_be_rescaled(trial: FieldTrial, inverse: bool = True) -> Sequence[Identity]:
    """Compare what reads a layer before and after its units are scaled, and the output.

    Weights out of a unit are divided by what those into it are multiplied by. The output is
    compared after the units of all layers have been scaled.
    """
    net, over, found, units = trial.net, trial.over, [], 0
    every = list(trial.weights)
    for layer in _layers(trial):
        drawn = torch.randint(1, over.prime, (layer.units,), generator=trial.generator)
        factors = over.reduce(drawn.double())
        divided = [float(over.inverse(int(c))) for c in drawn.tolist()]
        outward = over.reduce(torch.tensor(divided, dtype=torch.float64)) if inverse else factors
        weights = _scaled(trial, layer, factors, outward, trial.weights)
        every = _scaled(trial, layer, factors, outward, every)
        end, value = _locally(trial, layer, trial.gates, weights)
        what = f"{net.nodes[end].name} before and after the units that it reads are rescaled"
        found.append(
            trial.identity(value, trial.values[end], what, degree=2 * layer.units, node=end)
        )
        units += layer.units
    output = trial.network.output(trial.x, trial.gates, every).flatten(1)
    what = "f after all of them are rescaled"
    found.append(trial.identity(output, trial.graph_output, what, degree=2 * units))
    return found


def _scaled(
    trial: FieldTrial,
    layer: HiddenLayer,
    inward: Tensor,
    outward: Tensor,
    weights: Sequence[Tensor],
) -> list[Tensor]:
    """Return the weights after the units of a layer are scaled."""
    over, found = trial.over, list(weights)
    for k in layer.incoming:
        rows = weights[k].reshape(layer.units, -1) * inward[:, None]
        found[k] = over.reduce(rows).reshape(weights[k].shape)
    size = (1, -1, *[1] * (weights[layer.outgoing].ndim - 2))
    columns = outward[layer.unit].reshape(size)
    found[layer.outgoing] = over.reduce(weights[layer.outgoing] * columns)
    return found


RESCALE = ModularClaim(
    units_can_be_rescaled,
    (Mutant("the weights out of a unit scaled up, not down", {"inverse": False}),),
)


def _shared(trial: FieldTrial) -> GatedTwin:
    return to_dgn(trial.net.module, trial.recording.data, shared=True)


def _soft(trial: FieldTrial) -> GatedTwin:
    return to_dgn(trial.net.module, trial.recording.data, shared=True, gate=Soft(4.0))


def _recorded(trial: FieldTrial, make: Callable[[FieldTrial], GatedTwin]) -> Recording:
    """Return the twin's recording, made once for all trials."""
    known = trial.recording.shared
    if make not in known:
        data = trial.recording.data
        known[make] = Recording(trace(make(trial), data), data)
    twin: Recording = known[make]
    return twin


def relu_network_is_a_gated_network(
    trial: FieldTrial, make: Callable[[FieldTrial], GatedTwin] = _shared
) -> Sequence[Identity]:
    """Compare gates with those of the gated twin, and the module's graph with the twin's paths."""
    twin = _recorded(trial, make)
    layers = trial.net.value_gates
    if len(twin.net.value_gates) != len(layers):
        raise CannotTry("the twin has another number of gate layers")
    found, gates = [], list(twin.gates)
    for g, k in zip(layers, twin.net.value_gates, strict=True):
        mine = trial.recording.gates[g]
        if mine.numel() != twin.gates[k].numel():
            raise CannotTry("the twin arranges the windows of a maximum in another way")
        what = f"gates of {trial.net.gate_layers[g].name}, module against twin"
        found.append(Identity(mine, twin.gates[k].reshape(mine.shape), 0, 0.0, what))
        gates[k] = trial.gates[g].reshape(gates[k].shape)
    named = {
        name: trial.parameters[id(p)]
        for name, p in trial.net.module.named_parameters()
        if id(p) in trial.parameters
    }
    weights = [w.entries.of(named[w.name.removeprefix("value.")]) for w in twin.net.weights]
    network = ResidueNetwork(twin.net, trial.over)
    right = network.output(trial.x, gates, weights).flatten(1)
    found.append(trial.identity(trial.graph_output, right, "graph against the twin's paths"))
    return found


RELU_IS_DGN = ModularClaim(
    relu_network_is_a_gated_network, (Mutant("soft gates", {"make": _soft}),)
)
