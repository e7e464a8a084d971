"""Architectures that Hypothesis draws: the builders' own, and modules as people write them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from reluctant.models import Regime, Skip, Stage, make_conv, make_fc, make_residual, make_staged
from reluctant.properties.specimens import UNSEEN, Builder

ValueBuilder = Callable[[st.DrawFn], tuple[Any, tuple[int, ...]]]

SIZE = st.integers(1, 3)
_MANY = st.integers(2, 3)


def _widths(draw: st.DrawFn, least: int = 1, most: int = 3) -> list[int]:
    return draw(st.lists(SIZE, min_size=least, max_size=most))


def _equal(draw: st.DrawFn, least: int = 2, most: int = 3) -> list[int]:
    return [draw(_MANY)] * draw(st.integers(least, most))


def dense(bias: bool = False) -> Builder:
    """Draw fully connected networks of one to three hidden layers."""

    def build(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
        inputs = draw(SIZE)
        return make_fc(inputs, _widths(draw), draw(SIZE), generator=UNSEEN, bias=bias), (inputs,)

    return build


def convolution(rank: int = 1, **options: Any) -> Builder:
    """Draw one or two convolutions along some axes, pooled, with at most one dense layer more."""

    def build(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
        sides = [draw(st.integers(3, 4) if rank > 1 else st.integers(3, 5)) for _ in range(rank)]
        shape = (draw(st.integers(1, 2)), *sides)
        chosen = {"window": 2 if rank > 1 else draw(st.integers(2, 3)), **options}
        if options.get("stride"):  # two layers leave shifts by 4, which are not all
            shape, chosen["window"] = (shape[0], *[8] * rank), 2
        widths = draw(st.lists(st.integers(1, 2), min_size=1, max_size=2))
        dense = draw(st.lists(st.integers(1, 2), max_size=1))
        return make_conv(
            shape, widths, draw(st.integers(1, 2)), dense=dense, generator=UNSEEN, **chosen
        ), shape

    return build


def residual(conv: bool) -> Builder:
    """Draw residual networks of one or two skips."""

    def build(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
        shape: tuple[int, ...] = (1, draw(st.integers(3, 4))) if conv else (draw(SIZE),)
        depth = 1 if conv else draw(st.integers(1, 2))
        net = make_residual(
            shape if conv else shape[0], draw(st.integers(1, 2)), draw(st.integers(1, 2)),
            skips=draw(st.integers(1, 2)), block_layers=depth, window=2, generator=UNSEEN,
        )  # fmt: skip
        return net, shape

    return build


def staged(draw: st.DrawFn) -> tuple[Any, tuple[int, ...]]:
    """Draw networks of two or three stages: a pooling, a stride with a padded skip, one without."""
    shape = (draw(st.integers(1, 2)), 4)
    width, more, last = draw(SIZE), draw(st.integers(0, 1)), draw(st.integers(1, 2))
    skip = list(Skip)[draw(st.integers(0, 2))]
    stages = [
        Stage((width,), pool=draw(st.integers(1, 2))),
        Stage((draw(st.integers(1, 2)), width + more), stride=draw(st.integers(1, 2)), skip=skip),
    ]
    net = make_staged(
        shape, stages, last, window=2, padding="zero", bias=True, batch_norm=True, generator=UNSEEN
    )
    return net, shape


def gated(value: ValueBuilder, make: Callable[..., nn.Module], **options: Any) -> Builder:
    """Put gates from elsewhere on a value network, their layers in any order that fits.

    Args:
        value: Draws the architecture of the values.
        make: Makes the gated network.
        options: For make; those that are strategies are drawn.
    """

    def build(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
        architecture, shape = value(draw)
        chosen = {
            name: draw(option) if isinstance(option, st.SearchStrategy) else option
            for name, option in options.items()
        }
        if chosen.get("regime") is Regime.FLNPF:
            chosen["learnt"] = copy.deepcopy(architecture)
        order = _order(draw, architecture.gate_shapes)
        return make(architecture, generator=UNSEEN, order=order, **chosen), shape

    return build


def _order(draw: st.DrawFn, shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """Draw a permutation of gate layers that moves each to a layer of its shape."""
    order = list(range(len(shapes)))
    for shape in dict.fromkeys(shapes):
        places = [k for k, other in enumerate(shapes) if other == shape]
        for place, source in zip(places, draw(st.permutations(places)), strict=True):
            order[place] = source
    return order


def narrow(bias: bool = False) -> ValueBuilder:
    """Draw values of one or two hidden layers, of widths that may differ."""

    def build(draw: st.DrawFn) -> tuple[Any, tuple[int, ...]]:
        inputs = draw(SIZE)
        widths = draw(st.lists(SIZE, min_size=1, max_size=2))
        return make_fc(inputs, widths, generator=UNSEEN, bias=bias), (inputs,)

    return build


def equal_dense(draw: st.DrawFn) -> tuple[Any, tuple[int, ...]]:
    """Draw values of two or three hidden layers of one width."""
    inputs = draw(SIZE)
    return make_fc(inputs, _equal(draw), draw(st.integers(1, 2)), generator=UNSEEN), (inputs,)


class _Normed(nn.Module):
    """Be what many people write: functional ReLUs, batch norm, a padded convolution, one shared module."""

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.again = nn.Conv2d(width, width, 1)
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.first(x)))
        h = nn.functional.max_pool2d(h + torch.relu(self.again(h)), 2, stride=1)
        output: Tensor = self.last(h.mean((2, 3)))
        return output


def normed(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """Draw a small network with batch norm."""
    channels = draw(st.integers(1, 2))
    side = draw(st.integers(2, 3))
    return _Normed(channels, draw(st.integers(1, 2)), draw(st.integers(1, 2))), (
        channels,
        side,
        side,
    )


class _Shared(nn.Module):
    """Use one module in two parallel branches, and t + relu(t)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.shared = nn.Linear(inputs, width, bias=False)
        self.last = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        t = self.shared(x)
        output: Tensor = self.last(torch.relu(t + torch.relu(t)) + torch.relu(self.shared(-x)))
        return output


def shared(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """Draw a network whose branches share a module."""
    inputs = draw(SIZE)
    return _Shared(inputs, draw(SIZE)), (inputs,)


class _Leaky(nn.Module):
    """Let a part of what is not positive through."""

    def __init__(self, sizes: Sequence[int], slope: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = nn.functional.leaky_relu(layer(x), self.slope)
        output: Tensor = self.layers[-1](x)
        return output


def leaky(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """Draw fully connected networks of leaky ReLUs."""
    inputs, slope = draw(SIZE), draw(st.sampled_from([0.5, 0.25, 0.01]))
    return _Leaky([inputs, *_widths(draw, most=2), draw(SIZE)], slope), (inputs,)


class _Concatenated(nn.Module):
    """Read each layer's input and output side by side, as DenseNets do."""

    def __init__(self, inputs: int, widths: list[int], outputs: int) -> None:
        super().__init__()
        sizes = [sum([inputs, *widths[:k]]) for k in range(len(widths) + 1)]
        self.hidden = nn.ModuleList(
            nn.Linear(size, width, bias=False)
            for size, width in zip(sizes[:-1], widths, strict=True)
        )
        self.last = nn.Linear(sizes[-1], outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z = x
        for layer in self.hidden:
            z = torch.cat([z, torch.relu(layer(z))], 1)
        output: Tensor = self.last(z)
        return output


def concatenated(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """Draw a densely connected network."""
    inputs = draw(SIZE)
    return _Concatenated(inputs, _widths(draw, most=2), draw(st.integers(1, 2))), (inputs,)
