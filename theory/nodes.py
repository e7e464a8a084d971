"""Nodes of a path network, and the gate layers and weights that they name.

There are seven kinds of nodes. ``Input`` and ``Constant`` begin paths, ``Weighted`` multiplies by
trained weights, ``Reindex`` moves entries, ``Sum`` adds them, ``Scale`` multiplies by constants and
``Gate`` by recorded gates. Shapes leave out the batch axis, which comes first in every tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reluctant.theory.entries import Entries
from reluctant.theory.operators import Operator

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
    is_input: bool


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


def _shut() -> Tensor:
    return torch.zeros(())


@dataclass(frozen=True, slots=True, eq=False)
class GateLayer:
    """Say where one layer of gates comes from.

    Attributes:
        name: Name of the operation in the exported graph.
        kind: "relu", "leaky" (its lower value is not 0), "clip" (one of the two gates of a clipped
            ramp), "max" (one-hot over windows) or "mask" (a factor computed as a tensor of its own).
        hard: True if the gates can only be 0 or 1.
        own: True if they come from the tensor that they multiply.
        source: Node of the gating pre-activation, None if it could not be read.
        place: Where it stands in the user's source.
        ties: Convention at ties: of a max pooling "first" or "shared"; of a ReLU at q = 0, where its
            gate has its lower value, the derivative that torch takes: "zero" for that value, "one"
            for the upper one, "half" for their mean.
        made_by: Node of the exported graph that holds the gates, if they are a tensor of their own.
        low: Gives a ReLU's gate where its pre-activation is not positive: one number, or one a
            channel. Of a PReLU it is a parameter, which makes gates and is no weight on a path.
        slope: Identity of that parameter, None if there is none.
        moves: True if the gates are soft, and so move with their pre-activation between ties.
        batch: Axis of the graph's tensor that counts the examples; it is the first of the gates.
    """

    name: str
    kind: str
    hard: bool
    own: bool
    source: int | None
    place: str = ""
    ties: str = "zero"
    made_by: str = ""
    low: Callable[[], Tensor] = _shut
    slope: int | None = None
    moves: bool = False
    batch: int = 0

    @property
    def is_step(self) -> bool:
        """Tell whether the gates follow the signs of the very tensor that they multiply."""
        return self.kind in ("relu", "leaky", "clip")

    @property
    def is_stepped(self) -> bool:
        """Tell whether the gates are constant between ties."""
        return not self.moves


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """Name a weight tensor.

    Attributes:
        name: Parameter's name in the module, of the first alias.
        shape: Shape in which it is used.
        entries: Where its entries stand in the flattened parameter.
        parameter: Identity of the parameter: equal for all uses of one tensor.
        value: Function that gives the current weights in that shape.
    """

    name: str
    shape: tuple[int, ...]
    entries: Entries
    parameter: int
    value: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """Return the number of entries."""
        return math.prod(self.shape)

    def absolute(self) -> Tensor:
        """Return the absolute values of the present weights, in float64: one copy of them."""
        return self.value().detach().to(torch.float64, copy=True).abs_()
