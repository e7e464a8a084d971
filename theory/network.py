r"""Path networks: the one form into which every module is read.

A path network is a directed acyclic graph over tensors with seven kinds of nodes. ``Input`` and
``Constant`` begin paths, ``Weighted`` multiplies by trained weights, ``Reindex`` moves entries,
``Sum`` adds them, ``Scale`` multiplies by constants and ``Gate`` by recorded gates. Shapes leave
out the batch axis, which comes first in every tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from reluctant.theory.errors import InputError
from reluctant.theory.inputs import check_example
from reluctant.theory.operators import Bias, Operator

if TYPE_CHECKING:
    from reluctant.theory.replay import Program

Gates = Sequence[Tensor]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Node:
    """Be one tensor of a path network.

    Attributes:
        name: Name in the exported graph.
        shape: Shape without the batch axis.
        operands: Indices of the nodes it reads, all smaller than its own.
        place: Where it stands in the user's source, or the module's path.
    """

    name: str
    shape: tuple[int, ...]
    operands: tuple[int, ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Input(Node):
    """Begin one path at every coordinate of the data."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Constant(Node):
    """Begin paths at values that do not depend on the data and are not trained.

    Attributes:
        value: The values, of the node's shape.
        magnitude: A bound on the absolute values that were added to make them.
        is_input: True for a constant that feeds a weighted operation in place of the data.
    """

    value: Tensor
    magnitude: Tensor
    is_input: bool = False


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Weighted(Node):
    """Apply a weight tensor.

    Attributes:
        operator: How the weights act.
        weight: Index into the network's weights.
    """

    operator: Operator
    weight: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reindex(Node):
    """Move entries without arithmetic: views, permutations, slices, zero padding, concatenation.

    Attributes:
        move: Native function of the operands, each with a leading batch axis of any size. Entries
            that come from nowhere are 0.
        keeps_order: True if the move is a reshape.
    """

    move: Callable[[Sequence[Tensor]], Tensor]
    keeps_order: bool = False


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sum(Node):
    """Add operands of one shape, then add over axes.

    Attributes:
        axes: Axes of the operands' shape that are summed out.
    """

    axes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scale(Node):
    """Multiply by constants that are not trained.

    Attributes:
        factor: Constants, broadcastable to the node's shape.
    """

    factor: Tensor


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Gate(Node):
    """Multiply entry-wise by gates.

    Attributes:
        gate: Index into the network's gate layers.
    """

    gate: int


@dataclass(frozen=True, slots=True)
class GateLayer:
    """Say where one layer of gates comes from.

    Attributes:
        name: Name of the operation in the exported graph.
        kind: "relu", "max" (one-hot over windows) or "mask" (a factor computed elsewhere).
        hard: True if the gates can only be 0 or 1.
        own: True if they come from the tensor that they multiply.
        source: Node of the gating pre-activation, None if it could not be read.
        place: Where it stands in the user's source.
        ties: Convention at ties: of a max pooling "first" or "shared"; of a ReLU at q = 0, where
            its
            gate is 0, the derivative that torch takes, "zero", "half" or "one".
        made_by: Node of the exported graph that holds the gates, for the kind "mask".
    """

    name: str
    kind: str
    hard: bool
    own: bool
    source: int | None
    place: str = ""
    ties: str = "zero"
    made_by: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """Name a weight tensor.

    Attributes:
        name: Parameter's name in the module, of the first alias.
        shape: Shape in which it is used.
        entries: For every entry in that shape, its index in the flattened parameter.
        parameter: Identity of the parameter: equal for all uses of one tensor.
        value: Function that gives the current weights in that shape.
    """

    name: str
    shape: tuple[int, ...]
    entries: Tensor
    parameter: int
    value: Callable[[], Tensor]


def _same(t: Tensor) -> Tensor:
    return t


@dataclass(frozen=True, slots=True, eq=False)
class PathNetwork:
    """Be a module, read as a gated path network at one input shape.

    Attributes:
        nodes: Tensors in topological order.
        output: Index of the output node.
        weights: Weight tensors, one for each use of a parameter in one shape.
        gate_layers: Where the gates come from.
        program: The exported graph, which computes the gates.
        module: The module that was read.
        notes: What a reader of results must know, such as constants held fixed.
    """

    nodes: tuple[Node, ...]
    output: int
    weights: tuple[Weight, ...]
    gate_layers: tuple[GateLayer, ...]
    program: Program
    module: nn.Module
    notes: tuple[str, ...] = ()
    _live: tuple[int, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_live", tuple(sorted(self.ancestors([self.output]))))

    def __repr__(self) -> str:
        kinds = [type(self.nodes[i]).__name__ for i in self.value_nodes]
        counted = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
        return f"PathNetwork({type(self.module).__name__}: {counted})"

    @property
    def value_nodes(self) -> tuple[int, ...]:
        """Return the nodes that lie on paths to the output, in order."""
        return self._live

    @property
    def value_gates(self) -> tuple[int, ...]:
        """Return the gate layers that multiply paths to the output, in order."""
        found = (self.nodes[i] for i in self.value_nodes)
        return tuple(dict.fromkeys(node.gate for node in found if isinstance(node, Gate)))

    @property
    def weighted(self) -> tuple[Weighted, ...]:
        """Return the weighted nodes on paths to the output, biases too."""
        found = (self.nodes[i] for i in self.value_nodes)
        return tuple(node for node in found if isinstance(node, Weighted))

    @property
    def biases(self) -> tuple[Weighted, ...]:
        """Return the bias nodes on paths to the output."""
        return tuple(node for node in self.weighted if isinstance(node.operator, Bias))

    @property
    def output_size(self) -> int:
        """Return the number of output coordinates."""
        return int(torch.Size(self.nodes[self.output].shape).numel())

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one example."""
        return tuple(self.program.example_shape[1:])

    def ancestors(self, starts: Iterable[int]) -> set[int]:
        """Return the nodes on paths into the given nodes, themselves included."""
        todo, seen = list(starts), set()
        while todo:
            i = todo.pop()
            if i not in seen:
                seen.add(i)
                todo.extend(self.nodes[i].operands)
        return seen

    def weight_values(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """Return the module's current weights, detached, in the given type."""
        return [w.value().detach().to(dtype) for w in self.weights]

    def at(self, x: Tensor) -> PathNetwork:
        """Return this network read at the shape, type and device of x.

        Raises:
            InputError: If x is no batch of finite floating-point numbers that the module takes.
        """
        check_example(x, "the input")
        program = self.program
        if (tuple(x.shape), x.dtype, x.device) == (
            program.example_shape,
            program.dtype,
            program.device,
        ):
            return self
        from reluctant.theory.tracing import trace

        return trace(self.module, x)  # pyright: ignore[reportReturnType]

    def gates(self, x: Tensor) -> list[Tensor]:
        r"""Run the module's own arithmetic on x and record every gate layer.

        Args:
            x: Inputs, shape (n, \*input). The network is read again if n is another.

        Returns:
            One (n, \*shape) tensor a gate layer, in the module's type. Layers that lie on no path
            to the output are recorded too.

        Raises:
            InputError: If x is no batch of finite numbers of the module's shape, type and device.
        """
        return self.at(x).program.run(x).gates

    def forward(
        self,
        x: Tensor,
        gates: Gates | None,
        weights: Sequence[Tensor],
        *,
        constant: Callable[[Tensor], Tensor] = _same,
        reduce: Callable[[Tensor], Tensor] = _same,
        sources: bool = True,
        magnitudes: bool = False,
        replace: Mapping[int, Callable[[list[Tensor]], Tensor]] | None = None,
        output: int | None = None,
    ) -> Tensor:
        r"""Send x along all paths, with gates and weights given.

        .. math:: f(x) = \sum_p x(p_0)\, A(x, p)\, v_p

        Args:
            x: Data, shape (n, \*input).
            gates: Gate layers as :meth:`gates` returns them; None: all gates on.
            weights: Weight tensors, one for each of :attr:`weights`.
            constant: Applied to constants and scale factors, such as ``torch.abs``.
            reduce: Applied to every tensor, such as a residue modulo a prime.
            sources: False leaves out biases and constants that are not inputs.
            magnitudes: True uses the magnitude of constants in place of their value.
            replace: Nodes whose value is computed by another function of their operands.
            output: Node to evaluate; the network's output if None.

        Returns:
            Values of that node, shape (n, \*shape).

        Raises:
            InputError: If x, the gates or the weights are not of the network's shapes, or not of
                one type and device.

        Cost:
            One forward pass of the module.
        """
        check_operands(self, x, gates, weights)
        target = self.output if output is None else output
        order = self._live if output is None else tuple(sorted(self.ancestors([target])))
        last_use = {operand: i for i in order for operand in self.nodes[i].operands}
        values: dict[int, Tensor] = {}
        n = x.shape[0]
        for i in order:
            node = self.nodes[i]
            operands = [values[k] for k in node.operands]
            if replace is not None and i in replace:
                t = replace[i](operands)
            elif isinstance(node, Input):
                t = x
            elif isinstance(node, Constant):
                t = constant(node.magnitude if magnitudes else node.value).to(x)
                t = (
                    t.expand(n, *node.shape)
                    if sources or node.is_input
                    else x.new_zeros(n, *node.shape)
                )
            elif isinstance(node, Weighted):
                t = node.operator.apply(operands[0] if operands else None, weights[node.weight])
                if not operands:
                    t = t.expand(n, *node.shape) if sources else x.new_zeros(n, *node.shape)
            elif isinstance(node, Reindex):
                t = node.move(operands)
            elif isinstance(node, Sum):
                t = operands[0]
                for other in operands[1:]:
                    t = t + other
                t = t.sum([a + 1 for a in node.axes]) if node.axes else t
            elif isinstance(node, Scale):
                t = operands[0] * constant(node.factor).to(x)
            elif isinstance(node, Gate):
                t = operands[0] if gates is None else operands[0] * gates[node.gate].to(x)
            else:
                raise AssertionError(type(node))
            values[i] = reduce(t)
            for k in set(node.operands):
                if last_use[k] == i:
                    del values[k]
        return values[target]


def check_operands(
    net: PathNetwork, x: Tensor, gates: Gates | None, weights: Sequence[Tensor]
) -> None:
    """Raise unless x, gates and weights fit a network, and each other.

    Raises:
        InputError: Names the first that does not.
    """
    if not isinstance(x, Tensor):
        raise InputError(f"the input must be a torch.Tensor, got {type(x).__name__}")
    if tuple(x.shape[1:]) != net.input_shape or x.ndim == 0 or x.shape[0] == 0:
        raise InputError(
            f"the input has shape {tuple(x.shape)}, but the network was read at "
            f"(n, {', '.join(map(str, net.input_shape))}) with n >= 1; trace the module again for "
            "another shape"
        )
    if len(weights) != len(net.weights):
        raise InputError(
            f"the network has {len(net.weights)} weight tensors, got {len(weights)}; "
            "pass as many as weight_values() gives"
        )
    for known, weight in zip(net.weights, weights, strict=True):
        if tuple(weight.shape) != known.shape:
            raise InputError(
                f"{known.name} has shape {known.shape}, got {tuple(weight.shape)} for it"
            )
        if (weight.dtype, weight.device) != (x.dtype, x.device):
            raise InputError(
                f"{known.name} is given as {weight.dtype} on {weight.device}, but the input is "
                f"{x.dtype} on {x.device}; convert one, for instance with x.to(weight)"
            )
    if gates is not None and len(gates) != len(net.gate_layers):
        raise InputError(
            f"the network has {len(net.gate_layers)} layers of gates, got {len(gates)}; "
            "pass as many as gates() gives"
        )
    for layer, gate in zip(net.gate_layers, gates or (), strict=False):
        if gate.shape[0] not in (1, x.shape[0]):
            raise InputError(
                f"the gates of {layer.name} are those of {gate.shape[0]} inputs, got {x.shape[0]} "
                "inputs; record them on the same inputs"
            )


def check_weights(net: PathNetwork) -> None:
    """Raise if a weight of the network is not finite.

    Raises:
        InputError: Names the first parameter that holds NaN or infinity.
    """
    for weight in net.weights:
        if not bool(torch.isfinite(weight.value()).all()):
            raise InputError(
                f"{weight.name} holds NaN or infinite values; a path network needs finite weights: "
                "reload or re-initialise the module"
            )
