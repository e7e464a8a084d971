"""Networks that break one hypothesis and keep the others: where assumptions have to earn their keep."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from reluctant.models import Architecture, GatedNetwork, Soft, make_conv, make_fc
from reluctant.properties.networks import SIZE
from reluctant.properties.specimens import UNSEEN, Builder, Family


class _Chain(nn.Module):
    """Apply dense layers, each but the last followed by an activation; one layer may act twice."""

    def __init__(
        self,
        sizes: list[int],
        activation: Callable[[Tensor], Tensor] = torch.relu,
        *,
        again: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))
        self.activation = activation
        self.again = again

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers[:-1]):
            x = self.activation(layer(x))
            if number == 1 and self.again:
                x = self.activation(layer(x))
        output: Tensor = self.layers[-1](x)
        return output


class _Branches(nn.Module):
    """Add branches to detours: of unequal depth, one around another, or side by side."""

    def __init__(self, inputs: int, width: int, form: str) -> None:
        super().__init__()
        self.form = form
        self.first = nn.Linear(inputs, width, bias=False)
        self.branches = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(3))
        self.last = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        one, two, three = self.branches
        if self.form == "uneven":
            h = h + torch.relu(one(h))
            h = h + torch.relu(three(torch.relu(two(h))))
        elif self.form == "nested":
            inner = torch.relu(one(h))
            h = h + torch.relu(three(inner + torch.relu(two(inner))))
        else:
            h = h + torch.relu(one(h)) + torch.relu(two(h))
        output: Tensor = self.last(torch.relu(h))
        return output


class _Tied(nn.Module):
    """Use one branch twice, on a residual stream."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width, bias=False)
        self.branch = nn.Linear(width, width, bias=False)
        self.last = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        h = h + torch.relu(self.branch(h))
        h = h + torch.relu(self.branch(h))
        output: Tensor = self.last(h)
        return output


class _Computed(nn.Module):
    """Compute a weight: the product of a parameter with another, entry by entry."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.zeros(width, inputs))
        self.size = nn.Parameter(torch.zeros(width, 1))
        self.last = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(nn.functional.linear(x, self.size * self.direction))
        output: Tensor = self.last(h)
        return output


class _Recurrent(nn.Module):
    """Convolve circularly twice with one filter bank, then average."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            channels, channels, window, padding="same", padding_mode="circular", bias=False
        )
        self.last = nn.Linear(channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.conv(torch.relu(self.conv(x))))
        output: Tensor = self.last(h.mean(2))
        return output


def _halves_at_ties(q: Tensor) -> Tensor:
    return torch.maximum(q, torch.zeros_like(q))


def _scaled(q: Tensor) -> Tensor:
    return 0.5 * torch.relu(q)


def _chain(activation: Callable[[Tensor], Tensor] = torch.relu, **options: Any) -> Builder:
    def build(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
        inputs, width = draw(SIZE), draw(SIZE)
        hidden = [width] * draw(st.integers(2, 3))
        return _Chain([inputs, *hidden, draw(SIZE)], activation, **options), (inputs,)

    return build


def _own_soft(value: Callable[[st.DrawFn], tuple[Architecture, tuple[int, ...]]]) -> Builder:
    def build(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
        architecture, shape = value(draw)
        return GatedNetwork(architecture, None, Soft(4.0, 0.1)), shape

    return build


def _dense(draw: st.DrawFn) -> tuple[Architecture, tuple[int, ...]]:
    inputs = draw(SIZE)
    widths = draw(st.lists(SIZE, min_size=1, max_size=2))
    return make_fc(inputs, widths, draw(SIZE), generator=UNSEEN), (inputs,)


def _circular(draw: st.DrawFn) -> tuple[Architecture, tuple[int, ...]]:
    shape = (1, draw(st.integers(3, 4)))
    return make_conv(shape, [draw(SIZE)], 1, window=2, generator=UNSEEN), shape


def _padded_maximum(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    shape = (1, draw(st.integers(3, 4)))
    net = make_conv(shape, [draw(SIZE)], 1, window=2, padding="zero", pool="max", generator=UNSEEN)
    return net, shape


def _linear(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    inputs = draw(SIZE)
    return nn.Linear(inputs, draw(SIZE), bias=False), (inputs,)


def _small(make: Callable[[int, int], nn.Module]) -> Builder:
    def build(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
        inputs = draw(SIZE)
        return make(inputs, draw(st.integers(1, 2))), (inputs,)

    return build


def _recurrent(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    channels = draw(st.integers(1, 2))
    return _Recurrent(channels, 3), (channels, draw(st.integers(3, 4)))


CONTROLS: tuple[Family, ...] = tuple(
    Family(name, build)
    for name, build in (
        ("no gate at all", _linear),
        ("FC, one layer twice", _chain(again=True)),
        ("FC, own soft gates", _own_soft(_dense)),
        ("FC, scaled", _chain(_scaled)),
        ("FC, half a gradient at ties", _chain(_halves_at_ties)),
        ("FC, computed weights", _small(_Computed)),
        ("conv, own soft gates", _own_soft(_circular)),
        ("conv, zero padding, max pool", _padded_maximum),
        ("conv, one layer twice", _recurrent),
        ("skips of unequal depth", _small(lambda n, w: _Branches(n, w, "uneven"))),
        ("a skip inside a skip", _small(lambda n, w: _Branches(n, w, "nested"))),
        ("branches side by side", _small(lambda n, w: _Branches(n, w, "parallel"))),
        ("one branch twice", _small(_Tied)),
    )
)
