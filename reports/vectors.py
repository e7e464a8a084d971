"""Labelled vectors, for data that are drawn and not photographed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reluctant.reports.labelled import Labelled


@dataclass(frozen=True, slots=True, eq=False)
class Vectors(Labelled):
    """Carry labelled vectors as networks take them.

    Attributes:
        values: (n, d).
        labels: (n,), integers from 0.
    """

    values: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one vector."""
        return tuple(self.values.shape[1:])

    def at(self, index: Tensor) -> Vectors:
        """Return the vectors with these numbers, in this order."""
        return Vectors(self.values[index], self.labels[index])

    def relabelled(self, labels: Int[Tensor, " n"]) -> Vectors:
        """Return the vectors with other labels."""
        return replace(self, labels=labels)

    def to(self, device: torch.device | str) -> Vectors:
        """Return the vectors on a device."""
        return replace(self, values=self.values.to(device), labels=self.labels.to(device))

    def batch(
        self,
        index: Int[Tensor, " b"],
        generator: torch.Generator | None = None,
        augment: bool = False,
    ) -> tuple[Float[Tensor, "b d"], Int[Tensor, " b"]]:
        """Return vectors and their labels; there is no augmentation of them."""
        return self.values[index], self.labels[index]

    def feed(self, total: Any) -> None:
        """Give everything to a hash."""
        total.update(f"{tuple(self.values.shape)}".encode())
        total.update(self.values.cpu().contiguous().numpy().data)
        total.update(self.labels.cpu().numpy().astype("<i8").data)
