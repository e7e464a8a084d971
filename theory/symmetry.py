r"""Shift symmetry of a path network, read off its structure.

A network is shift invariant if cyclic shifts of the data's positions leave its output as it is,
whatever the weights. It is found by labelling every entry of every tensor with the function of the
shifted data that it is (see :mod:`reluctant.theory.labels`), and refuted by naming the operation
whose outputs are no longer permuted by shifts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reluctant.theory.breaks import NAME, Breaks
from reluctant.theory.labels import of_data, offsets_of, periods_of, steps_of
from reluctant.theory.network import PathNetwork
from reluctant.theory.shift_walk import Walk
from reluctant.theory.verdicts import Unmet


@dataclass(frozen=True, slots=True)
class ShiftSymmetry:
    """Say under which cyclic shifts of its data a network is invariant.

    Attributes:
        sizes: Number of positions along each spatial axis.
        steps: Along each axis, the shift of which all multiples leave the output as it is. It is 1
            unless strides or pooling windows leave only some shifts.
        follows: Nodes whose tensors shift exactly as the data does, along their last axes.
    """

    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    follows: tuple[int, ...] = ()

    @property
    def shifts(self) -> tuple[tuple[int, ...], ...]:
        """Return the shifts under which the network is invariant, that by nothing first."""
        return orbit(self.sizes, self.steps)


def orbit(sizes: Sequence[int], steps: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return all shifts by multiples of a step along each axis, that by nothing first.

    >>> orbit((4, 3), (2, 3))
    ((0, 0), (2, 0))
    """
    return tuple(
        itertools.product(*(range(0, n, step) for n, step in zip(sizes, steps, strict=True)))
    )


def rotate(x: Float[Tensor, " *shape"], shifts: Sequence[int]) -> Float[Tensor, " *shape"]:
    r"""Shift the last axes of a tensor cyclically.

    .. math:: \mathrm{rot}(x, r)(i) = x(i + r \bmod n)

    Args:
        x: Tensor whose last axes are the positions.
        shifts: r, one integer for each of these axes.
    """
    return x.roll([-r for r in shifts], tuple(range(-len(shifts), 0)))


def shift_symmetry(net: PathNetwork, *, ordered: Collection[int] = ()) -> ShiftSymmetry | Unmet:
    """Find the cyclic shifts under which a network is invariant for all weights and data.

    The positions are the axes of the data after the first, which counts channels. Invariance is of
    the function; a max pooling keeps the value of a maximum that several entries attain, but a
    kernel notices which of them won. Shifts that are found leave the output as it is; there may be
    more, since maxima are not known to be ordered: a maximum of maxima can undo what padding broke.

    Args:
        net: Network.
        ordered: Gate layers of a maximum for which it shall count that "the first of several
            winners" depends on the order of the positions.

    Returns:
        The shifts, or the operation that breaks the symmetry, with the reason.

    Cost:
        A few passes of 64-bit integers over the activations of one example, those still to be read
        held; a window costs one pass a tap. It is found once for all networks of one structure.
    """
    found = net.once(_found, frozenset(ordered))
    return asymmetries(net, ordered=ordered)[0] if found is None else found


def asymmetries(net: PathNetwork, *, ordered: Collection[int] = ()) -> tuple[Unmet, ...]:
    """Return every operation that breaks shift symmetry though what it reads has it.

    A window of weights or of a pool that meets zeros or an edge is named, and taken, in what
    follows, for one that goes round. What comes after another operation that breaks the symmetry is
    not judged.

    Args:
        net: Network.
        ordered: As for :func:`shift_symmetry`.

    Returns:
        None of them if some shifts leave the output as it is.
    """
    if net.once(_found, frozenset(ordered)) is not None:
        return ()
    return net.once(_broken, frozenset(ordered))


def _found(net: PathNetwork, ordered: frozenset[int]) -> ShiftSymmetry | None:
    sizes = net.input_shape[1:]
    if not _has_positions(sizes):
        return None
    walk = Walk(net, sizes, ordered)
    follows = tuple(i for i in walk if _follows(walk, i))
    steps = steps_of(walk.labels[net.output], sizes)
    if any(step == size > 1 for step, size in zip(steps, sizes, strict=True)):
        return None
    return ShiftSymmetry(tuple(sizes), steps, follows)


def _broken(net: PathNetwork, ordered: frozenset[int]) -> tuple[Unmet, ...]:
    sizes = net.input_shape[1:]
    if not _has_positions(sizes):
        why = f"data of shape {net.input_shape} have no positions that could be shifted"
        return (Unmet(NAME, why, "the data"),)
    return tuple(dict.fromkeys(Breaks(net, sizes, ordered)))


def _has_positions(sizes: Sequence[int]) -> bool:
    return math.prod(sizes) > 1


def _follows(walk: Walk, i: int) -> bool:
    """Tell whether a tensor shifts as the data does, along its last axes."""
    shape, axes = walk.net.nodes[i].shape, len(walk.sizes)
    if tuple(shape[-axes:]) != tuple(walk.sizes) or i in walk.unread:
        return False
    labels, places = walk.labels[i], offsets_of(of_data((1, *walk.sizes)))[:, 0]
    kinds = labels[0].flatten(-axes)
    if not bool((kinds == kinds[..., :1]).all()):
        return False
    whole = torch.tensor(walk.sizes).reshape(-1, *[1] * len(shape))
    spread = places.reshape(axes, *[1] * (len(shape) - axes), *walk.sizes)
    ahead = ((offsets_of(labels) - spread) % whole).flatten(-axes)
    alike = bool((ahead == ahead[..., :1]).all())
    return alike and bool((periods_of(labels) == whole).all())
