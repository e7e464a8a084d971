"""Hidden units that act nowhere else, and the same network with its units moved or rescaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reluctant.theory.entries import Entries
from reluctant.theory.images import Image, Origin, images, origins
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Reindex, Scale, Sum, Weighted
from reluctant.theory.operators import Bias
from reluctant.theory.twins import twin


@dataclass(frozen=True, slots=True, eq=False)
class HiddenLayer:
    """Be a layer of units whose incoming and outgoing weights act nowhere else.

    Attributes:
        incoming: Weight tensors (indices) whose rows are the units: weights, and a bias if there is
            one.
        outgoing: Weight tensor whose columns read the units.
        unit: For every column the unit that it reads.
        partner: For every column, a code of the position that it reads in that unit.
    """

    incoming: tuple[int, ...]
    outgoing: int
    unit: Tensor
    partner: Tensor

    @property
    def units(self) -> int:
        """Return the number of units."""
        return int(self.unit.max()) + 1


def hidden_layers(net: PathNetwork) -> list[HiddenLayer]:
    """Find the layers whose units may be permuted and rescaled: not on a residual stream.

    Between incoming and outgoing weights only sums with a bias, own gates, uniform constants and
    routing that keeps units apart are allowed; a batch norm's scale belongs to a unit and is not.

    Raises:
        NotIdentified: If parameters act twice on a path.
    """
    return [layer for _, layer in units_before(net) if isinstance(layer, HiddenLayer)]


def units_before(net: PathNetwork) -> list[tuple[Weighted, HiddenLayer | str]]:
    """Return, for all weights that others lie before, the units that they read.

    Returns:
        The weighted nodes, biases left out, each with its layer of units, or with the reason why
        these cannot be permuted and rescaled.

    Raises:
        NotIdentified: If parameters act twice on a path.
    """
    found = origins(net)
    program = net.program
    x = torch.zeros(program.example_shape, dtype=program.dtype, device=program.device)
    present = images(net, x, net.gates(x), found)
    readers: dict[int, list[int]] = {}
    # two operations may read one tensor, and are two readers
    for i in (*(k for node in net.weighted for k in node.operands), net.output):
        for k in present[i].terms:
            readers.setdefault(k, []).append(i)
    return [
        (node, _units(net, node, present, found, readers))
        for node in net.weighted
        if not isinstance(node.operator, Bias) and present[node.operands[0]].terms
    ]


def _units(
    net: PathNetwork,
    node: Weighted,
    present: Mapping[int, Image],
    found: Mapping[int, Origin],
    readers: Mapping[int, list[int]],
) -> HiddenLayer | str:
    operand = node.operands[0]
    terms, name = present[operand].terms, net.weights[node.weight].name
    made = [net.weights[k].name for k in terms]
    if node.operator.groups > 1:
        return f"{name} reads its units in groups"
    if len(found[node.weight].sites) > 1:
        return f"{name} acts at several places"
    if present[operand].data is not None:
        return f"{name} reads data or constants beside units"
    for k in (node.weight, *terms):
        if net.weights[k].parameter < 0:  # nothing to move them in
            return f"{net.weights[k].name} is computed from parameters"
    for k in terms:
        if readers[k] != [operand] or len(found[k].sites) > 1:
            return f"the units of {net.weights[k].name} are read beside {name} too"
        if found[k].operator(net, 0).groups > 1:  # each row is tied to the inputs of its group
            return f"the units of {net.weights[k].name} read their inputs in groups"
    if sum(not isinstance(found[k].operator(net, 0), Bias) for k in terms) != 1 or len(terms) > 2:
        return f"{name} reads a sum of {' and '.join(made)}"
    if not _keeps_units(net, [found[k].sites[0] for k in terms], operand):
        return f"between {made[0]} and {name} units are scaled, gated or joined"
    layer = _columns(net, node, operand, present, found, tuple(terms))
    return layer or f"{name} does not read each unit of {made[0]} by columns of its own"


def _keeps_units(net: PathNetwork, starts: list[int], end: int) -> bool:
    above = net.ancestors([end])
    for i in above:
        between = any(s in net.ancestors([i]) for s in starts) and i not in starts
        if not between:
            continue
        node = net.nodes[i]
        if isinstance(node, Scale) and not _is_one_number(node.factor):
            return False
        if isinstance(node, Gate):
            layer = net.gate_layers[node.gate]
            if not layer.own or not _is_one_number(layer.low()):  # slopes of their own
                return False
        if isinstance(node, Constant) or not isinstance(node, Scale | Gate | Sum | Reindex):
            return False
    return True


def _is_one_number(t: Tensor) -> bool:
    return bool((t == t.flatten()[0]).all())


def _columns(
    net: PathNetwork,
    node: Weighted,
    operand: int,
    present: Mapping[int, Image],
    found: Mapping[int, Origin],
    terms: tuple[int, ...],
) -> HiddenLayer | None:
    units = partners = None
    for k in terms:
        positions = found[k].positions
        index = node.operator.split(present[operand].terms[k].index)[:, 0]
        index = index.flatten(2) if index.ndim > 2 else index[..., None]  # (slot, column, position)
        seen = index > 0
        row = torch.where(seen, (index - 1) // positions, -1)
        unit = row.amax((0, 2))
        if not bool(((row == unit[None, :, None]) | ~seen).all()) or bool((unit < 0).any()):
            return None
        if isinstance(found[k].operator(net, 0), Bias):
            if units is not None and not torch.equal(units, unit):
                return None
            continue
        place = torch.where(seen, (index - 1) % positions, -1).amax((0, 2))
        if units is not None and not torch.equal(units, unit):
            return None
        units, partners = unit, place
    if units is None or partners is None:
        return None
    if len(set(zip(units.tolist(), partners.tolist(), strict=True))) != units.numel():
        return None
    return HiddenLayer(terms, node.weight, units, partners)


def permuted(
    net: PathNetwork, layer: HiddenLayer, order: Tensor, *, columns: bool = True
) -> nn.Module:
    """Return a copy of the module with the units of a layer in another order.

    Args:
        net: Network of the module.
        layer: Layer of units.
        order: New unit u is the old unit order[u].
        columns: False forgets the outgoing weights (a fault, for tests).
    """
    module = twin(net.module)
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for k in layer.incoming:
            moved = _in_rows(net, k)[order]
            _store(parameters[net.weights[k].name], net.weights[k].entries, moved)
        if columns:
            where = {
                pair: c
                for c, pair in enumerate(
                    zip(layer.unit.tolist(), layer.partner.tolist(), strict=True)
                )
            }
            source = [
                where[int(order[u]), p]
                for u, p in zip(layer.unit.tolist(), layer.partner.tolist(), strict=True)
            ]
            outgoing = net.weights[layer.outgoing]
            _store(
                parameters[outgoing.name], outgoing.entries, outgoing.value().detach()[:, source]
            )
    return module


def rescaled(
    net: PathNetwork, layer: HiddenLayer, unit: int, factor: float, *, columns: bool = True
) -> nn.Module:
    """Return a copy of the module with a unit's incoming weights times, and outgoing over, a factor.

    Args:
        net: Network of the module.
        layer: Layer of units.
        unit: Which of them.
        factor: What incoming weights are multiplied by.
        columns: False forgets the outgoing weights (a fault, for tests).
    """
    module = twin(net.module)
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for k in layer.incoming:
            moved = _in_rows(net, k).clone()
            moved[unit] *= factor
            _store(parameters[net.weights[k].name], net.weights[k].entries, moved)
        outgoing = net.weights[layer.outgoing]
        values = outgoing.value().detach().clone()
        values[:, layer.unit == unit] /= factor if columns else 1.0
        _store(parameters[outgoing.name], outgoing.entries, values)
    return module


def _in_rows(net: PathNetwork, k: int) -> Tensor:
    value = net.weights[k].value().detach()
    return value.reshape(-1, 1) if value.ndim < 2 else value.flatten(1)


def _store(parameter: nn.Parameter, entries: Entries, values: Tensor) -> None:
    flat = parameter.detach().flatten()  # a copy where the parameter is held in another order
    entries.put(flat, values)
    parameter.copy_(flat.reshape(parameter.shape))
