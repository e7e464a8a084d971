r"""Entries: where the entries of a weight tensor stand in the flattened parameter that holds them.

Nearly every weight tensor is a view of its parameter, and a view is known by its shape, its strides
and the place of its first entry, whatever its size. Only what no strides describe, such as entries
that were flipped, is a list of places as long as the tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Entries:
    """Say where each entry of a tensor stands in a flattened parameter.

    Attributes:
        total: Number of entries of the parameter.
        places: A view of the flattened parameter that holds no numbers, on the meta device; or the
            places one by one.
    """

    total: int
    places: Tensor

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Entries:
        """Return the entries of a parameter as it is."""
        return cls(math.prod(shape), torch.empty(tuple(shape), device="meta"))

    def moved(self, move: Callable[[Tensor], Tensor]) -> Entries:
        """Return the same entries in another arrangement, a view of the parameter if this makes one.

        Args:
            move: Moves the entries of a tensor, and leaves their values.
        """
        view = move(self.places)
        if view.is_meta and view.untyped_storage() is not self.places.untyped_storage():
            view = move(self.listed())
        return Entries(self.total, view)

    def listed(self) -> Tensor:
        """Return the places one by one, in the tensor's shape: eight bytes an entry."""
        if not self.places.is_meta:
            return self.places
        found = torch.tensor(self.places.storage_offset())
        for axis, (size, stride) in enumerate(
            zip(self.places.shape, self.places.stride(), strict=True)
        ):
            along = torch.arange(size) * stride
            found = found + along.reshape(-1, *[1] * (self.places.ndim - axis - 1))
        return found

    def of(self, flat: Tensor) -> Tensor:
        r"""Return the values at the entries, a view where the entries are one.

        Args:
            flat: Values of the flattened parameter, shape (\*, total).
        """
        lead, step = flat.shape[:-1], flat.stride(-1)
        if not self.places.is_meta:
            found = flat[..., self.places.flatten().to(flat.device)]
            return found.reshape(*lead, *self.places.shape)
        return flat.as_strided(
            (*lead, *self.places.shape),
            (*flat.stride()[:-1], *(step * stride for stride in self.places.stride())),
            flat.storage_offset() + step * self.places.storage_offset(),
        )

    def put(self, flat: Tensor, values: Tensor) -> None:
        """Write values at the entries, of which none may stand at two places.

        Args:
            flat: Values of the flattened parameter, shape (total,).
            values: One number an entry, in any shape of as many.
        """
        values = values.reshape(self.places.shape).to(flat)
        if self.places.is_meta:
            self.of(flat).copy_(values)
        else:
            flat[self.places.to(flat.device)] = values

    def add(self, flat: Tensor, values: Tensor) -> None:
        """Add values at the entries, those of one entry that stands at several places together.

        Args:
            flat: Values of the flattened parameter, shape (total,).
            values: One number an entry, in the tensor's shape.
        """
        if self.places.is_meta and not self.repeat:
            self.of(flat).add_(values)
        else:
            flat.index_add_(0, self.listed().flatten().to(flat.device), values.flatten())

    @cached_property
    def repeat(self) -> bool:
        """Tell whether some entry of the parameter stands at several places."""
        return int(self._marked().sum()) < self.places.numel()

    def repeat_along(self, axis: int) -> bool:
        """Tell whether an axis repeats the same entries, as an expanded one does."""
        if self.places.is_meta:
            return self.places.shape[axis] < 2 or self.places.stride(axis) == 0
        along = self.places.movedim(axis, 0)
        return bool((along == along[:1]).all())

    def meet(self, other: Entries) -> bool:
        """Tell whether an entry of one parameter stands in both tensors."""
        return bool(other.of(self._marked()).any())

    def are(self, other: Entries) -> bool:
        """Tell whether two tensors have the same entries of one parameter at the same places."""
        mine, theirs = self.places, other.places
        if mine.shape != theirs.shape:
            return False
        if mine.is_meta and theirs.is_meta:
            return self._steps == other._steps
        return torch.equal(self.listed(), other.listed())

    @property
    def _steps(self) -> tuple[int, ...]:
        """Return the first place, and the strides along axes of more than one entry."""
        pairs = zip(self.places.shape, self.places.stride(), strict=True)
        first = int(self.places.storage_offset())
        return (first, *(int(step) for size, step in pairs if size > 1))

    def _marked(self) -> Tensor:
        """Return which entries of the parameter stand in the tensor, one byte each."""
        marked = torch.zeros(self.total, dtype=torch.bool)
        if self.places.is_meta:
            self.of(marked).fill_(True)
        else:
            marked[self.places.flatten()] = True
        return marked
