"""Examples with labels, of whatever kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reluctant.theory.errors import InputError


class Labelled(ABC):
    """Be examples with labels, integers from 0, that nobody writes into."""

    __slots__ = ()
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one example."""

    @abstractmethod
    def at(self, index: Tensor) -> Self:
        """Return the examples with these numbers, in this order."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Return the examples on a device."""

    @abstractmethod
    def relabelled(self, labels: Int[Tensor, " n"]) -> Self:
        """Return the examples with other labels."""

    @abstractmethod
    def batch(
        self,
        index: Int[Tensor, " b"],
        generator: torch.Generator | None = None,
        augment: bool = False,
    ) -> tuple[Float[Tensor, " b *shape"], Int[Tensor, " b"]]:
        """Return examples as networks take them, and their labels, on their device.

        Args:
            index: Numbers of the examples, on the same device.
            generator: What an augmentation is drawn from, of the same device.
            augment: Whether to.
        """

    @abstractmethod
    def feed(self, total: Any) -> None:
        """Give everything to a hash."""

    def by_class(self, per_class: int) -> Self:
        """Return the first examples of each class, class after class.

        Args:
            per_class: How many of each.

        Raises:
            InputError: If a class has fewer; says which.
        """
        chosen = []
        for label in self.labels.unique().tolist():
            members = (self.labels == label).nonzero().flatten()
            if len(members) < per_class:
                raise InputError(
                    f"{per_class} images of each class were asked for, but class {label} has "
                    f"{len(members)}; ask for fewer"
                )
            chosen.append(members[:per_class])
        return self.at(torch.cat(chosen))
