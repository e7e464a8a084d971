"""Data sets of labelled images, each cut into the same two parts every time."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from reluctant.theory.errors import InputError

_TEST_SHARE: Final = 0.25
_SPLIT_SEED: Final = 0


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Carry labelled images.

    Attributes:
        pixels: (n, channel, height, width), float32, between 0 and 1.
        labels: (n,), integers from 0.
    """

    pixels: Float[Tensor, "n channel height width"]
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def at(self, index: Tensor) -> Images:
        """Return the images with these numbers, in this order."""
        return Images(self.pixels[index], self.labels[index])

    def to(self, device: torch.device | str) -> Images:
        """Return the images on a device."""
        return Images(self.pixels.to(device), self.labels.to(device))

    def by_class(self, per_class: int) -> Images:
        """Return the first images of each class, class after class.

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


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """Carry a data set in two parts.

    Attributes:
        name: Such as ``digits``.
        about: What it is, for captions; the number of images is :attr:`sizes`.
        classes: Number of classes.
        train: Images to learn from.
        test: Images to judge by.
    """

    name: str
    about: str
    classes: int
    train: Images
    test: Images

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one image."""
        return tuple(self.train.pixels.shape[1:])

    @property
    def sizes(self) -> str:
        """Return the numbers of images in words."""
        return f"{len(self.train)} images to train on, {len(self.test)} to test on"


@functools.cache
def digits() -> DataSet:
    """Return scikit-learn's handwritten digits: 8 × 8 pixels, ten classes, 1797 images.

    A quarter of each class is set apart for testing, drawn once and for all. The pixels, 0 to 16,
    are divided by 16. Nobody may write into the tensors: every call returns the same ones.
    """
    from sklearn.datasets import load_digits

    rows, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(rows / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    whole = Images(pixels, torch.tensor(labels, dtype=torch.int64))
    test = _held_out(labels, np.random.default_rng(_SPLIT_SEED))
    return DataSet(
        "digits",
        "scikit-learn's handwritten digits (8 × 8 pixels, 10 classes)",
        10,
        whole.at(torch.from_numpy(np.flatnonzero(~test))),
        whole.at(torch.from_numpy(np.flatnonzero(test))),
    )


def _held_out(labels: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Mark a share of each class, drawn without replacement."""
    marked = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        marked[members[: round(_TEST_SHARE * len(members))]] = True
    return marked
