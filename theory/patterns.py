"""Activation patterns: which gates are open at which inputs, packed eight to a byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from reluctant.theory.errors import InputError
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import GateLayer
from reluctant.theory.recording import network_at, record

_AT_ONCE = 4096  # examples whose gates are held before they are packed


@dataclass(frozen=True, slots=True)
class PatternLayer:
    r"""Be one layer of gates in a pattern.

    Attributes:
        name: Place and name of the operation, as :func:`~reluctant.theory.kernels.gates` gives them.
        shape: Shape of its gates; of a max pooling (taps, \*shape).
    """

    name: str
    shape: tuple[int, ...]

    @property
    def units(self) -> int:
        """Return the number of gates."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Return the bytes that they take: each layer begins with a byte of its own."""
        return -(-self.units // 8)


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """Be the activation patterns of n inputs.

    A bit is 1 where a gate is open: where the pre-activation of a ReLU, leaky or not, is positive; at the
    winners of a max pooling; and where a mask is not 0. Two rows are equal exactly if the gates are.

    Attributes:
        packed: Bits, eight to a byte and the first highest, shape (n, bytes).
        layers: Layers, in order.
    """

    packed: NDArray[np.uint8]
    layers: tuple[PatternLayer, ...]

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[np.int64]) -> Patterns:
        return replace(self, packed=self.packed[rows])

    def layer(self, k: int) -> Patterns:
        """Return the patterns of one layer, counted from 0, or from the end if negative.

        Raises:
            InputError: If there is no such layer; lists those there are.
        """
        asked: object = k
        if not isinstance(asked, int) or not -len(self.layers) <= asked < len(self.layers):
            known = "; ".join(f"{i}: {one.name}" for i, one in enumerate(self.layers))
            raise InputError(f"there is no layer {k!r} of gates; there are {known or 'none'}")
        k %= len(self.layers)
        start = sum(one.nbytes for one in self.layers[:k])
        one = self.layers[k]
        return Patterns(self.packed[:, start : start + one.nbytes], (one,))

    @property
    def bits(self) -> NDArray[np.bool_]:
        """Return all bits, shape (n, units)."""
        found = [np.zeros((len(self), 0), dtype=bool)]
        start = 0
        for one in self.layers:
            part = self.packed[:, start : start + one.nbytes]
            found.append(np.unpackbits(part, axis=1, count=one.units).astype(bool))
            start += one.nbytes
        return np.concatenate(found, axis=1)

    @property
    def keys(self) -> list[bytes]:
        """Return each row as bytes, which can be compared and hashed."""
        return [row.tobytes() for row in self.packed]

    def groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first row of each distinct pattern, and to which of them each row belongs.

        Patterns are in the order of their first rows.
        """
        place: dict[bytes, int] = {}
        members = np.array([place.setdefault(key, len(place)) for key in self.keys], dtype=np.int64)
        first = np.full(len(place), len(members), dtype=np.int64)
        np.minimum.at(first, members, np.arange(len(members)))
        return first, members


def activation_patterns(module: nn.Module | PathNetwork, x: Tensor) -> Patterns:
    r"""Return the activation pattern of each input.

    Args:
        module: Module, or a network traced at the shape of x.
        x: Inputs, shape (n, \*input).

    Raises:
        InputError: If the gates of a layer are soft, or take more than two values; names it.

    Cost:
        One forward pass; memory of one bit a gate.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> found = activation_patterns(net, torch.randn(5, 2))
        >>> len(found), found.bits.shape, found.packed.shape
        (5, (5, 3), (5, 1))
    """
    net = network_at(module, x)
    shapes: dict[int, tuple[int, ...]] = {}
    rows = []
    for some in x.split(_AT_ONCE):
        recorded = record(net, some)
        packed = [np.zeros((len(some), 0), dtype=np.uint8)]
        for g in net.value_gates:
            opened = open_gates(net.gate_layers[g], recorded[g]).expand(
                len(some), *recorded[g].shape[1:]
            )
            shapes[g] = tuple(opened.shape[1:])
            packed.append(np.packbits(opened.flatten(1).cpu().numpy(), axis=1))
        rows.append(np.concatenate(packed, axis=1))
    layers = (
        PatternLayer(f"{net.gate_layers[g].place} {net.gate_layers[g].name}", shapes[g])
        for g in net.value_gates
    )
    return Patterns(np.concatenate(rows), tuple(layers))


def open_gates(layer: GateLayer, gates: Tensor) -> Tensor:
    r"""Tell which gates are open.

    Args:
        layer: Layer.
        gates: Recorded gates, shape (n, \*shape).

    Raises:
        InputError: If they are soft, or take values that two cannot stand for.
    """
    if layer.moves:
        raise InputError(
            f"the gates of {layer.name} ({layer.place}) are soft and have no pattern; make them hard"
        )
    opened: Tensor = gates != (layer.low().to(gates) if layer.kind == "leaky" else 0.0)
    if layer.kind == "mask" and not layer.hard and bool((gates[opened] != 1).any()):
        raise InputError(
            f"the gates of {layer.name} ({layer.place}) take other values than 0 and 1, which a bit "
            "cannot hold"
        )
    return opened
