"""The networks that statements are tried on: families from which Hypothesis draws specimens.

Architecture, weights and inputs are all drawn, so that they shrink. Weights and inputs are small
integers, which makes most identities exact and ties frequent, or such integers times 0.37.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from reluctant.models import (
    Hard,
    Regime,
    Soft,
    ValueInput,
    make_conv,
    make_dgn,
    make_dlgn,
    make_dlgn_sf,
    make_fc,
    make_residual,
)

EXAMPLES = 3
UNSEEN = torch.Generator()  # builders want one; every weight is overwritten by drawn numbers


@dataclass(frozen=True, slots=True, eq=False)
class Specimen:
    r"""Be one drawn network with inputs.

    Attributes:
        module: The network, float64, in evaluation mode.
        x: Inputs, shape (n, \*input).
        seed: Seed of whatever a claim draws.
    """

    module: nn.Module
    x: Tensor
    seed: int

    def __repr__(self) -> str:
        sizes = [tuple(p.shape) for p in self.module.parameters()]
        return f"Specimen({type(self.module).__name__}, parameters {sizes}, x {tuple(self.x.shape)}, seed {self.seed})"


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Be a kind of network.

    Attributes:
        name: What a reader calls it.
        specimens: Strategy that draws specimens.
    """

    name: str
    specimens: st.SearchStrategy[Specimen]


Builder = Callable[[st.DrawFn], tuple[nn.Module, tuple[int, ...]]]


@st.composite
def specimens_of(draw: st.DrawFn, build: Builder, dependent: bool = False) -> Specimen:
    """Draw a network, its weights and its inputs.

    Args:
        draw: Hypothesis's source of choices.
        build: Draws the architecture; returns it with the shape of one input.
        dependent: Copy the values' weights into the network that makes the gates.
    """
    module, shape = build(draw)
    module = module.double().eval()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            _draw_statistics(draw, part)
    parameters = [p for _, p in module.named_parameters()]
    scale = draw(st.sampled_from([1.0, 1.0, 0.37]))
    total = sum(p.numel() for p in parameters)
    numbers = draw(hnp.arrays(np.int8, total, elements=st.integers(-3, 3), fill=st.nothing()))
    flat = torch.from_numpy(numbers.astype(np.float64)) * scale
    with torch.no_grad():
        for parameter, values in zip(
            parameters, flat.split([p.numel() for p in parameters]), strict=True
        ):
            parameter.copy_(values.reshape(parameter.shape))
        if dependent:
            _copy_values_to_features(module)
    size = EXAMPLES * int(np.prod(shape))
    inputs = draw(hnp.arrays(np.int8, size, elements=st.integers(-3, 3), fill=st.nothing()))
    x = torch.from_numpy(inputs.astype(np.float64)).reshape(EXAMPLES, *shape)
    return Specimen(
        module, x * draw(st.sampled_from([1.0, 1.0, 0.37])), draw(st.integers(0, 2**16))
    )


def _draw_statistics(draw: st.DrawFn, norm: nn.modules.batchnorm._BatchNorm) -> None:
    """Draw running statistics; a variance near 0 would only test its ε."""
    count = norm.num_features
    assert norm.running_mean is not None and norm.running_var is not None
    mean = draw(st.lists(st.integers(-2, 2), min_size=count, max_size=count))
    variance = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    norm.running_mean.copy_(torch.tensor(mean))
    norm.running_var.copy_(torch.tensor(variance))


def _copy_values_to_features(module: nn.Module) -> None:
    parameters = dict(module.named_parameters())
    values = {
        name.removeprefix("value."): p
        for name, p in parameters.items()
        if name.startswith("value.")
    }
    for name, p in parameters.items():
        for suffix, value in values.items():
            if name.startswith("gates.") and name.endswith(f".{suffix}"):
                p.copy_(value)


SIZE = st.integers(1, 3)
_MANY = st.integers(2, 3)


def _widths(draw: st.DrawFn, least: int = 1, most: int = 3) -> list[int]:
    return draw(st.lists(SIZE, min_size=least, max_size=most))


def _equal(draw: st.DrawFn, least: int = 2, most: int = 3) -> list[int]:
    return [draw(_MANY)] * draw(st.integers(least, most))


def _dense(bias: bool = False) -> Builder:
    def build(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
        inputs = draw(SIZE)
        return make_fc(inputs, _widths(draw), draw(SIZE), generator=UNSEEN, bias=bias), (inputs,)

    return build


def _convolution(rank: int = 1, **options: Any) -> Builder:
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


def _residual(conv: bool) -> Builder:
    def build(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
        shape: tuple[int, ...] = (1, draw(st.integers(3, 4))) if conv else (draw(SIZE),)
        depth = 1 if conv else draw(st.integers(1, 2))
        net = make_residual(
            shape if conv else shape[0], draw(st.integers(1, 2)), draw(st.integers(1, 2)),
            skips=draw(st.integers(1, 2)), block_layers=depth, window=2, generator=UNSEEN,
        )  # fmt: skip
        return net, shape

    return build


def _gated(
    value: Callable[[st.DrawFn], tuple[Any, tuple[int, ...]]],
    make: Callable[..., nn.Module],
    **options: Any,
) -> Builder:
    def build(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
        architecture, shape = value(draw)
        return make(architecture, generator=UNSEEN, **options), shape

    return build


def _narrow(bias: bool = False) -> Callable[[st.DrawFn], tuple[Any, tuple[int, ...]]]:
    def build(draw: st.DrawFn) -> tuple[Any, tuple[int, ...]]:
        inputs = draw(SIZE)
        widths = draw(st.lists(SIZE, min_size=1, max_size=2))
        return make_fc(inputs, widths, generator=UNSEEN, bias=bias), (inputs,)

    return build


def _equal_dense(draw: st.DrawFn) -> tuple[Any, tuple[int, ...]]:
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


def _normed(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
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


def _shared(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    inputs = draw(SIZE)
    return _Shared(inputs, draw(SIZE)), (inputs,)


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


def _concatenated(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    inputs = draw(SIZE)
    return _Concatenated(inputs, _widths(draw, most=2), draw(st.integers(1, 2))), (inputs,)


FROZEN, INDEPENDENT = Regime.FRNPF_II, Regime.DLNPF
_CIRCULAR = _convolution(1)

FAMILIES: tuple[Family, ...] = tuple(
    Family(name, specimens_of(build, dependent))
    for name, build, dependent in (
        ("FC", _dense(), False),
        ("FC, biases", _dense(bias=True), False),
        ("conv 1-D, circular, average pool", _CIRCULAR, False),
        ("conv 2-D, circular, average pool", _convolution(2), False),
        ("conv, circular, biases", _convolution(1, bias=True), False),
        ("conv, zero padding", _convolution(1, padding="zero"), False),
        ("conv, circular, flatten", _convolution(1, pool="flatten"), False),
        ("conv, circular, max pool", _convolution(1, pool="max"), False),
        ("conv, circular, max pool, first", _convolution(1, pool="max", ties="first"), False),
        ("conv, circular, stride 2", _convolution(1, stride=2), False),
        ("conv, batch norm, zero padding", _normed, False),
        ("residual FC", _residual(False), False),
        ("residual conv, circular", _residual(True), False),
        ("shared branches", _shared, False),
        ("DGN, hard", _gated(_equal_dense, make_dgn, regime=FROZEN, gate=Hard()), False),
        (
            "DGN, soft",
            _gated(_equal_dense, make_dgn, regime=INDEPENDENT, gate=Soft(4.0, 0.1)),
            False,
        ),
        (
            "DGN, copied start",
            _gated(_equal_dense, make_dgn, regime=Regime.FRNPF_DI, gate=Hard()),
            True,
        ),
        ("DGN conv, hard", _gated(_CIRCULAR, make_dgn, regime=FROZEN, gate=Hard()), False),
        (
            "DGN conv, soft, ones",
            _gated(
                _CIRCULAR,
                make_dgn,
                regime=INDEPENDENT,
                gate=Soft(10.0),
                value_input=ValueInput.ONES,
            ),
            False,
        ),
        ("DLGN, hard", _gated(_equal_dense, make_dlgn, regime=FROZEN, gate=Hard()), False),
        (
            "DLGN, soft, ones",
            _gated(
                _equal_dense,
                make_dlgn,
                regime=INDEPENDENT,
                gate=Soft(10.0),
                value_input=ValueInput.ONES,
            ),
            False,
        ),
        ("DLGN conv, hard", _gated(_CIRCULAR, make_dlgn, regime=FROZEN, gate=Hard()), False),
        (
            "DLGN conv, window 1",
            _gated(_convolution(1, window=1), make_dlgn, regime=FROZEN, gate=Hard()),
            False,
        ),
        (
            "DLGN, soft",
            _gated(_narrow(), make_dlgn, regime=INDEPENDENT, gate=Soft(10.0)),
            False,
        ),
        (
            "DLGN, hard, biases",
            _gated(_narrow(bias=True), make_dlgn, regime=FROZEN, gate=Hard()),
            False,
        ),
        (
            "DGN, hard, ones",
            _gated(
                _equal_dense,
                make_dgn,
                regime=FROZEN,
                gate=Hard(),
                value_input=ValueInput.ONES,
            ),
            False,
        ),
        (
            "DGN conv, max pool",
            _gated(_convolution(1, pool="max"), make_dgn, regime=FROZEN, gate=Hard()),
            False,
        ),
        ("concatenated FC", _concatenated, False),
        (
            "DGN residual FC",
            _gated(_residual(False), make_dgn, regime=FROZEN, gate=Hard()),
            False,
        ),
        (
            "DLGN residual FC",
            _gated(_residual(False), make_dlgn, regime=FROZEN, gate=Hard()),
            False,
        ),
        ("DLGN-SF, hard", _gated(_equal_dense, make_dlgn_sf, frozen=True, gate=Hard()), False),
    )
)
