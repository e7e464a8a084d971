"""The weighted operations: linear in the data, linear in one weight tensor.

An operator acts on tensors that carry one leading batch axis; its shapes leave that axis out. The
input is split into *groups* of *channels* (mixed by the weight) at *positions* (which share it);
the output has *rows* (one weight vector each) at positions of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

Axis = tuple[int, int, int, int, int]  # taps, stride, dilation, padding before, padding after


@runtime_checkable
class Operator(Protocol):
    """Describe how one weight tensor acts, and how it folds kernels.

    Attributes:
        rows: Number of output channels.
        groups: Number of groups of channels; a row reads one group.
        positions: Shape of the output positions.
        fan_in: Number of products that are added for one output entry, at most.
    """

    @property
    def rows(self) -> int:
        """Return the number of output channels."""
        ...

    @property
    def groups(self) -> int:
        """Return the number of groups of channels."""
        ...

    @property
    def positions(self) -> tuple[int, ...]:
        """Return the shape of the output positions."""
        ...

    @property
    def fan_in(self) -> int:
        """Return the largest number of products added for one output entry."""
        ...

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Return taps, stride, dilation and padding of every position axis."""
        ...

    def apply(self, x: Tensor | None, weight: Tensor) -> Tensor:
        r"""Apply the operator to x, shape (n, \*input), with weights of its own shape."""
        ...

    def split(self, t: Tensor) -> Tensor:
        r"""Arrange a (b, \*input) tensor as (b, group, channel, \*input position)."""
        ...

    def join(self, t: Tensor) -> Tensor:
        r"""Arrange a (b, row, position) tensor as the output, (b, \*output)."""
        ...


@dataclass(frozen=True, slots=True)
class Dense:
    """Mix the last axis; all axes before it are positions.

    Attributes:
        inputs: Size of the last axis.
        rows: Size of the last axis of the output.
        positions: Shape of the axes before the last.
    """

    inputs: int
    rows: int
    positions: tuple[int, ...] = ()

    @property
    def groups(self) -> int:
        """Return 1: every row reads every channel."""
        return 1

    @property
    def fan_in(self) -> int:
        """Return the number of inputs."""
        return self.inputs

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Return one tap on every position axis."""
        return ((1, 1, 1, 0, 0),) * len(self.positions)

    def apply(self, x: Tensor | None, weight: Tensor) -> Tensor:
        """Return x Wᵀ."""
        assert x is not None
        return F.linear(x, weight)

    def split(self, t: Tensor) -> Tensor:
        """Move the last axis to the front."""
        return t.movedim(-1, 1).unsqueeze(1)

    def join(self, t: Tensor) -> Tensor:
        """Move the rows to the last axis."""
        return t.movedim(1, -1).reshape(t.shape[0], *self.positions, self.rows)


@dataclass(frozen=True, slots=True)
class Convolution:
    """Mix channels over a sliding window, in one, two or three dimensions.

    Attributes:
        channels: Input channels.
        rows: Output channels.
        groups: Groups of channels.
        axes: For every position axis its taps, stride, dilation and zero padding on both sides.
        positions: Shape of the output positions.
    """

    channels: int
    rows: int
    groups: int
    axes: tuple[Axis, ...]
    positions: tuple[int, ...]

    @property
    def fan_in(self) -> int:
        """Return channels of a group times taps of the window."""
        return self.channels // self.groups * math.prod(axis[0] for axis in self.axes)

    def apply(self, x: Tensor | None, weight: Tensor) -> Tensor:
        """Return the convolution of x with the weights, no bias."""
        assert x is not None
        before = [axis[3] for axis in self.axes]
        after = [axis[4] for axis in self.axes]
        if before != after:
            x = F.pad(x, [p for axis in reversed(self.axes) for p in axis[3:5]])
            before = [0] * len(self.axes)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.axes) - 1]
        strides, dilations = [a[1] for a in self.axes], [a[2] for a in self.axes]
        return convolve(x, weight, None, strides, before, dilations, self.groups)

    def split(self, t: Tensor) -> Tensor:
        """Split the channel axis by groups."""
        return t.reshape(t.shape[0], self.groups, self.channels // self.groups, *t.shape[2:])

    def join(self, t: Tensor) -> Tensor:
        """Unfold the positions."""
        return t.reshape(t.shape[0], self.rows, *self.positions)


@dataclass(frozen=True, slots=True)
class Bias:
    """Put weights at every position: the values of paths that start at 1.

    Attributes:
        shape: Shape of the output.
        own: Axes of the output along which the weights differ; all others are positions.
    """

    shape: tuple[int, ...]
    own: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Return the number of weights."""
        return math.prod(self.shape[a] for a in self.own)

    @property
    def groups(self) -> int:
        """Return 1."""
        return 1

    @property
    def positions(self) -> tuple[int, ...]:
        """Return the sizes of the axes that share weights."""
        return tuple(size for a, size in enumerate(self.shape) if a not in self.own)

    @property
    def fan_in(self) -> int:
        """Return 1."""
        return 1

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Return one tap on every position axis."""
        return ((1, 1, 1, 0, 0),) * len(self.positions)

    def apply(self, x: Tensor | None, weight: Tensor) -> Tensor:
        """Return the weights along their axes, with a batch axis of one."""
        sizes = [size if a in self.own else 1 for a, size in enumerate(self.shape)]
        return weight.reshape(1, *sizes).expand(1, *self.shape)

    def split(self, t: Tensor) -> Tensor:
        """Refuse: a bias has no operand."""
        raise AssertionError("a bias has no operand")

    def join(self, t: Tensor) -> Tensor:
        """Move the rows to their axes."""
        rows = [self.shape[a] for a in self.own]
        unfolded = t.reshape(t.shape[0], *rows, *self.positions)
        places = [a for a in range(len(self.shape)) if a not in self.own]
        order = [*self.own, *places]
        return unfolded.permute(0, *(1 + order.index(a) for a in range(len(self.shape))))


def make_convolution(
    weight: Sequence[int],
    inputs: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Convolution:
    r"""Build the operator of a convolution from the arguments of ``aten.convNd``.

    Args:
        weight: Shape of the weights, (rows, channels of a group, \*taps).
        inputs: Shape of the input positions.
        stride: Strides, one an axis or one for all.
        padding: Zeros on both sides, one an axis or one for all, or "same" or "valid".
        dilation: Dilations, one an axis or one for all.
        groups: Groups of channels.
    """
    rank = len(inputs)
    strides, dilations = ([v[0]] * rank if len(v) == 1 else list(v) for v in (stride, dilation))
    axes: list[Axis] = []
    for a in range(rank):
        taps = weight[2 + a]
        reach = dilations[a] * (taps - 1)
        if padding == "same":
            before, after = reach // 2, reach - reach // 2
        elif isinstance(padding, str):
            before = after = 0
        else:
            before = after = padding[a] if len(padding) > 1 else padding[0]
        axes.append((taps, strides[a], dilations[a], before, after))
    sizes = tuple(
        (size + b + c - d * (k - 1) - 1) // s + 1
        for size, (k, s, d, b, c) in zip(inputs, axes, strict=True)
    )
    return Convolution(weight[1] * groups, weight[0], groups, tuple(axes), sizes)


def row_groups(operator: Operator) -> Tensor:
    """Return the group that each output row reads, shape (rows,)."""
    return torch.arange(operator.rows) // (operator.rows // operator.groups)
