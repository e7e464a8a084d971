"""The small networks on which proofs are carried out, with symbols for all their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from reluctant.models import (
    Hard,
    Regime,
    ValueInput,
    make_conv,
    make_dgn,
    make_dlgn,
    make_fc,
    make_residual,
)
from reluctant.theory.gate_book import Polynomials
from reluctant.theory.network import PathNetwork
from reluctant.theory.symbolic import SymbolicNetwork
from reluctant.theory.tracing import trace

SYMBOLS = (
    ("x, y", "coordinates of two inputs, $y$ in place of $x'$"),
    ("w, b", "weights and biases, first index the tensor"),
    ("g, h", "gates at $x$ and at $y$, first index the layer"),
)
OWN_GATES = (
    ("x, y", "coordinates of two inputs, $y$ in place of $x'$"),
    ("w, b, u", "weights, biases, and weights that only make gates; first index the tensor"),
    ("r", "gates, one symbol for each pre-activation up to positive factors"),
)
VARIANCE = ("z_l", "variance of the entries of weight tensor $l$")


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Be one small network.

    Attributes:
        words: What it is, in words.
        net: The traced network; its numbers are never read.
        depth: Number of its weight tensors of each kind: convolutions and dense layers.
    """

    words: str
    net: PathNetwork
    depth: tuple[int, int]

    def symbols(self, **options: Any) -> SymbolicNetwork:
        """Return the network over its ring; options as for :class:`SymbolicNetwork`."""
        return SymbolicNetwork(self.net, **options)


def make_shape(words: str, module: nn.Module, input_shape: Sequence[int]) -> Shape:
    """Trace a module at an input shape."""
    example = torch.ones(2, *input_shape, dtype=torch.float64)
    net = trace(module.double().eval(), example)
    ranks = [len(net.weights[node.weight].shape) for node in net.weighted if node.operands]
    return Shape(words, net, (sum(r > 2 for r in ranks), sum(r == 2 for r in ranks)))


def unseen() -> torch.Generator:
    """Return a source of weights that no proof reads."""
    return torch.Generator().manual_seed(0)


def _chain(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


@cache
def dense(*sizes: int, bias: bool = False) -> Shape:
    """Return a fully connected network: inputs, hidden widths, outputs."""
    module = make_fc(sizes[0], sizes[1:-1], sizes[-1], generator=unseen(), bias=bias)
    words = f"fully connected {_chain(sizes)}{', biases' if bias else ''}"
    return make_shape(words, module, sizes[:1])


@cache
def convolution(
    channels: int,
    positions: tuple[int, ...],
    filters: tuple[int, ...],
    dense: tuple[int, ...] = (),
    *,
    bias: bool = False,
    padding: str = "circular",
    pool: str = "average",
) -> Shape:
    """Return convolutions of window 2, one pooling over all positions, then dense layers."""
    shape = (channels, *positions)
    module = make_conv(
        shape, filters, 1, dense=dense, window=2, bias=bias, padding=padding, pool=pool,
        generator=unseen(),
    )  # fmt: skip
    return make_shape(_convolution_words(shape, filters, dense, bias, padding, pool), module, shape)


def _convolution_words(
    shape: Sequence[int],
    filters: Sequence[int],
    dense: Sequence[int],
    bias: bool,
    padding: str,
    pool: str,
) -> str:
    places = " by ".join(map(str, shape[1:]))
    text = f"{padding} convolution of {places} positions, channels {_chain((shape[0], *filters))}"
    pooled = {"average": "averaged", "max": "maximum", "flatten": "flattened"}[pool]
    return f"{text}, {pooled}, dense {_chain((*dense, 1))}{', biases' if bias else ''}"


@cache
def residual(
    inputs: int, width: int, skips: int, block: int, *, scales: tuple[float, float] = (1.0, 1.0)
) -> Shape:
    """Return dense blocks, skips around the middle ones."""
    module = make_residual(
        inputs, width, 1, skips=skips, block_layers=block, generator=unseen(),
        pre_scale=scales[0], post_scale=scales[1],
    )  # fmt: skip
    counted = [
        f"{number} {noun}{'' if number == 1 else 's'}"
        for number, noun in ((skips, "skip"), (block, "dense layer"), (inputs, "input"))
    ]
    words = f"{counted[0]} around blocks of {counted[1]}, {counted[2]}, width {width}"
    if scales != (1.0, 1.0):
        words += f", scaled by {scales[0]:g} before and by {scales[1]:g} after each addition"
    return make_shape(words, module, (inputs,))


@cache
def gated(*sizes: int, features: str = "relu", ones: bool = False, bias: bool = False) -> Shape:
    """Return a fully connected gated network: a DGN, or with linear features a DLGN."""
    value = make_fc(sizes[0], sizes[1:-1], sizes[-1], generator=unseen(), bias=bias)
    make = make_dgn if features == "relu" else make_dlgn
    chosen = ValueInput.ONES if ones else ValueInput.X
    module = make(value, Regime.DLNPF, generator=unseen(), gate=Hard(), value_input=chosen)
    words = f"{'DGN' if features == 'relu' else 'DLGN'} {_chain(sizes)}"
    words += (", all-ones value input" if ones else "") + (", biases" if bias else "")
    return make_shape(words, module, sizes[:1])


@cache
def gated_convolution(
    channels: int,
    positions: tuple[int, ...],
    filters: tuple[int, ...],
    *,
    padding: str = "circular",
) -> Shape:
    """Return a convolutional DLGN fed with ones."""
    shape = (channels, *positions)
    value = make_conv(shape, filters, 1, window=2, padding=padding, generator=unseen())
    module = make_dlgn(
        value, Regime.DLNPF, generator=unseen(), gate=Hard(), value_input=ValueInput.ONES
    )
    words = f"DLGN, {_convolution_words(shape, filters, (), False, padding, 'average')}"
    return make_shape(f"{words}, all-ones value input", module, shape)


class _Tied(nn.Module):
    """Use one layer twice on a path."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        self.output = nn.Linear(2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.layer(torch.relu(self.layer(x))))
        output: Tensor = self.output(hidden)
        return output


class _Parallel(nn.Module):
    """Use one layer in two parallel branches, and t + relu(t)."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(2, 2, bias=False)
        self.output = nn.Linear(2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        t = self.shared(x)
        output: Tensor = self.output(t + torch.relu(t) + torch.relu(self.shared(-x)))
        return output


@cache
def tied() -> Shape:
    """Return a network with a weight twice on its paths."""
    return make_shape("one layer used twice, 2-2-2-1", _Tied(), (2,))


@cache
def parallel() -> Shape:
    """Return a network with one layer in parallel branches."""
    return make_shape("one layer in two parallel branches, 2-2-1", _Parallel(), (2,))


def chains() -> tuple[Shape, ...]:
    """Return fully connected networks without biases, of two to four layers."""
    return dense(2, 2, 1), dense(2, 3, 2, 1), dense(2, 2, 2, 2), dense(2, 2, 2, 2, 1)


def poolings() -> tuple[Shape, ...]:
    """Return circular convolutions without biases, averaged over all positions."""
    return (
        convolution(1, (3,), (2,)),
        convolution(2, (3,), (1, 2)),
        convolution(1, (3,), (2,), (2,)),
        convolution(1, (4,), (1,), (1, 2)),
        convolution(1, (3, 3), (1,)),
    )


def ladders() -> tuple[Shape, ...]:
    """Return networks with skips."""
    return (
        residual(2, 2, 1, 1),
        residual(2, 2, 2, 1),
        residual(1, 2, 3, 1),
        residual(2, 2, 1, 2),
        residual(1, 2, 2, 1, scales=(2.0, 3.0)),
    )


def everything() -> tuple[Shape, ...]:
    """Return one network of each kind and more, biases and shared weights among them."""
    others = (
        dense(2, 2, 1, bias=True),
        convolution(1, (3,), (1,), bias=True),
        convolution(1, (3,), (2,), padding="zero"),
        convolution(1, (3,), (2,), pool="max"),
        convolution(1, (3,), (2,), pool="flatten"),
        gated(2, 2, 2, 1),
        gated(2, 2, 2, 1, features="linear", ones=True),
        parallel(),
    )
    return (*chains(), *poolings(), *ladders(), *others)


def rotated(entries: Polynomials, shape: Sequence[int], shift: Sequence[int]) -> list[Any]:
    r"""Return rot(t, r)(i) = t(i + r), cyclic along the positions.

    Args:
        entries: Flattened (channel, \*positions) array.
        shape: Its shape.
        shift: r, one number a position axis.
    """
    places = torch.arange(math.prod(shape)).reshape(tuple(shape))
    axes = tuple(range(1, len(shape)))
    order = places.roll(tuple(-r for r in shift), axes).flatten().tolist()
    return [entries[k] for k in order]


def shifts(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return all cyclic shifts of the positions, that by nothing first."""
    grid = torch.cartesian_prod(*(torch.arange(size) for size in shape[1:]))
    return [tuple(r) for r in grid.reshape(-1, len(shape) - 1).tolist()]


Shapes = Callable[[], Sequence[Shape]]
