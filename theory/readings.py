"""Images as weighted operations read them: channels of groups at positions, ready for products.

What does not depend on the examples, which entries of an origin are read where, is a pattern. What
does is a matrix of factors for every example; where they are small integers times one number, as
0/1 gates are, they are kept as 8-bit integers, whose products are exact and fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reluctant.theory.images import Image, Origin

Strides = tuple[tuple[int, ...], tuple[int, ...], int]  # sizes, strides and offset
_LARGEST = 127  # of the 8-bit integers


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """Be the entries of one origin that a reading meets.

    Attributes:
        index: 1 + row · positions + position in the origin, 0 for none; shape (slot, group,
            channel, position).
        row: Row that each channel reads, -1 for none, shape (group, channel); None unless every
            channel reads one row, and all channels the same positions.
        entries: Then the positions that are read, slots before positions, shape (slot · position,).
        strides: The same as sizes, strides and an offset, if they have that form.
    """

    index: Tensor
    row: Tensor | None = None
    entries: Tensor | None = None
    strides: Strides | None = None

    @property
    def slots(self) -> int:
        """Return the number of entries of the origin that are added."""
        return self.index.shape[0]

    @property
    def places(self) -> int:
        """Return the number of positions of the reading."""
        return self.index.shape[3]


def pattern_of(index: Tensor, positions: int) -> Pattern:
    """Return the pattern of a term.

    Args:
        index: Entries that are read, shape (slot, group, channel, position), as in
            :class:`~reluctant.theory.images.Term`.
        positions: Number of positions of the origin.
    """
    present = index > 0
    rows = torch.where(present, (index - 1) // positions, -1)
    places = torch.where(present, (index - 1) % positions, -1)
    row, place = rows.amax((0, 3)), places.amax((1, 2))
    aligned = bool(((rows == row[None, :, :, None]) | ~present).all()) and bool(
        ((places == place[:, None, None, :]) | ~present).all()
    )
    if not aligned:
        return Pattern(index)
    entries = place.clamp(min=0).flatten()
    return Pattern(index, row, entries, strides_of(entries.tolist()))


def strides_of(entries: list[int]) -> Strides | None:
    """Return sizes, strides and offset of a list of positions; None if it has no such form.

    Args:
        entries: Positions, at least one.
    """
    sizes: list[int] = []
    strides: list[int] = []
    rest = entries
    while len(rest) > 1:
        step = rest[1] - rest[0]
        length = next((k for k in range(1, len(rest)) if rest[k] - rest[k - 1] != step), len(rest))
        if step < 0 or len(rest) % length:
            return None
        starts = rest[::length]
        if any(
            rest[k : k + length] != [first + step * i for i in range(length)]
            for k, first in zip(range(0, len(rest), length), starts, strict=True)
        ):
            return None
        sizes.insert(0, length)
        strides.insert(0, step)
        rest = starts
    return tuple(sizes), tuple(strides), rest[0]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Be the part of a reading that comes from one origin, for some examples.

    Attributes:
        pattern: Entries of the origin that are read.
        factor: Products of gates and constants without ``scale``, shape (group, n,
            slot · position, channel); 8-bit integers where they are.
        scale: What all factors are multiplied by.
    """

    pattern: Pattern
    factor: Tensor
    scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Be an operand as a weighted operation reads it, or the output.

    Attributes:
        data: Part that is an image of the data, shape (group, n, position, channel).
        parts: Parts by origin.
    """

    data: Tensor | None
    parts: Mapping[int, Part]

    def of(self, examples: slice) -> Reading:
        """Return the reading of some of its examples."""
        data = None if self.data is None else self.data[:, examples]
        parts = {k: Part(p.pattern, p.factor[:, examples], p.scale) for k, p in self.parts.items()}
        return Reading(data, parts)

    @property
    def examples(self) -> int:
        """Return the number of examples."""
        if self.data is not None:
            return self.data.shape[1]
        return next(iter(self.parts.values())).factor.shape[1]

    @property
    def nbytes(self) -> int:
        """Return the memory of its factors."""
        held = [p.factor for p in self.parts.values()]
        return sum(t.nbytes for t in (held if self.data is None else [*held, self.data]))


def reading_of(
    image: Image,
    arrange: Callable[[Tensor], Tensor],
    origins: Mapping[int, Origin],
    known: dict[int, Pattern],
) -> Reading:
    r"""Return an image as it is read.

    Args:
        image: Image of a tensor.
        arrange: Puts a (b, \*shape) tensor into the form (b, group, channel, position).
        origins: Origins of the network.
        known: Patterns by origin; the missing ones are added.
    """
    data = None if image.data is None else arrange(image.data).permute(1, 0, 3, 2).contiguous()
    parts = {}
    for k, term in image.terms.items():
        if k not in known:
            known[k] = pattern_of(arrange(term.index), origins[k].positions)
        n, slots = term.factor.shape[:2]
        factor, scale = compact(term.factor)
        arranged = arrange(factor.flatten(0, 1)).unflatten(0, (n, slots))
        ordered = arranged.permute(2, 0, 1, 4, 3)  # group, n, slot, position, channel
        parts[k] = Part(known[k], ordered.flatten(2, 3).contiguous(), scale)
    return Reading(data, parts)


def joined(readings: Sequence[Reading], dtype: torch.dtype) -> Reading:
    """Return the reading of several sets of examples, one after the other.

    Args:
        readings: Readings by one call.
        dtype: Type of factors that are no small integers in all of them.
    """
    if len(readings) == 1:
        return readings[0]
    data = [r.data for r in readings if r.data is not None]
    parts = {}
    for k, first in readings[0].parts.items():
        mine = [r.parts[k] for r in readings]
        scales = {p.scale for p in mine if p.scale != 1.0} or {1.0}
        # zeros alone are integers of any scale
        same = len(scales) == 1 and all(
            p.factor.dtype is torch.int8 and (p.scale in scales or not bool(p.factor.any()))
            for p in mine
        )
        factors = [p.factor if same else p.factor.to(dtype) * p.scale for p in mine]
        parts[k] = Part(first.pattern, torch.cat(factors, dim=1), scales.pop() if same else 1.0)
    return Reading(torch.cat(data, dim=1) if data else None, parts)


def compact(factor: Tensor) -> tuple[Tensor, float]:
    """Return a tensor as 8-bit integers and a number, if their product is the tensor, bit for bit.

    Otherwise the tensor itself and 1. The number is the largest entry, so that gates times one
    constant are found, or 1.
    """
    largest = float(factor.abs().amax()) if factor.numel() else 0.0
    for scale in dict.fromkeys((1.0, largest)):
        if 0.0 < largest <= _LARGEST * scale:
            whole = (factor / scale).round()
            if bool((whole * scale == factor).all()):
                return whole.to(torch.int8), scale
    return factor, 1.0
