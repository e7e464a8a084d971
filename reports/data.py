"""Data sets of labelled images, each cut into the same two parts every time."""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reluctant.theory.errors import InputError

_TEST_SHARE: Final = 0.25
_SPLIT_SEED: Final = 0


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Carry labelled images as they are published, a byte a pixel and channel.

    Attributes:
        pixels: (n, channel, height, width), bytes.
        labels: (n,), integers from 0.
        mean: Mean of each channel over the images to train on, in the unit of the pixels.
        deviation: Standard deviation of each channel over them, likewise.
        mirrors: Whether a mirror image is of the same class: true of photographs, false of digits.
    """

    pixels: UInt8[Tensor, "n channel height width"]
    labels: Int[Tensor, " n"]
    mean: Float[Tensor, " channel"]
    deviation: Float[Tensor, " channel"]
    mirrors: bool = False

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def at(self, index: Tensor) -> Images:
        """Return the images with these numbers, in this order."""
        return replace(self, pixels=self.pixels[index], labels=self.labels[index])

    def to(self, device: torch.device | str) -> Images:
        """Return the images on a device."""
        return Images(
            self.pixels.to(device),
            self.labels.to(device),
            self.mean.to(device),
            self.deviation.to(device),
            self.mirrors,
        )

    def batch(
        self,
        index: Int[Tensor, " b"],
        generator: torch.Generator | None = None,
        augment: bool = False,
    ) -> tuple[Float[Tensor, "b channel height width"], Int[Tensor, " b"]]:
        """Return images as networks take them, and their labels, on the device of the pixels.

        The mean is taken off and the rest divided by the deviation. Augmented images are moved
        before by up to an eighth of their side each way, 4 pixels of 32, black coming in from
        outside, and every other one is mirrored, where that is the same class.

        Args:
            index: Numbers of the images, on the same device.
            generator: What an augmentation is drawn from, of the same device. The same seed,
                device and numbers give the same images.
            augment: Whether to.

        Raises:
            InputError: If an augmentation has nothing to draw from.
        """
        pixels = self.pixels[index]
        if augment:
            if generator is None or generator.device.type != pixels.device.type:
                raise InputError(
                    "an augmentation is drawn on the device of the images; give batch a "
                    f"torch.Generator({str(pixels.device)!r})"
                )
            pixels = _moved(pixels, generator, self.mirrors)
        mean, deviation = (t.reshape(-1, 1, 1) for t in (self.mean, self.deviation))
        return (pixels - mean) / deviation, self.labels[index]

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
    def checksum(self) -> str:
        """Return the SHA-256 of pixels and labels, however they were stored."""
        total = hashlib.sha256()
        for part in (self.train, self.test):
            total.update(f"{tuple(part.pixels.shape)}".encode())
            total.update(part.pixels.cpu().contiguous().numpy().data)
            total.update(part.labels.cpu().numpy().astype("<i8").data)
        return total.hexdigest()

    @property
    def sizes(self) -> str:
        """Return the numbers of images in words."""
        return f"{len(self.train)} images to train on, {len(self.test)} to test on"


def make_parts(
    train: tuple[UInt8[Tensor, "n channel height width"], Int[Tensor, " n"]],
    test: tuple[UInt8[Tensor, "m channel height width"], Int[Tensor, " m"]],
    *,
    mirrors: bool,
) -> tuple[Images, Images]:
    """Return the images to train on and those to test on, both normalised by the former.

    Args:
        train: Pixels and labels.
        test: Likewise.
        mirrors: Whether a mirror image is of the same class.
    """
    mean, deviation = _moments(train[0])
    return Images(*train, mean, deviation, mirrors), Images(*test, mean, deviation, mirrors)


@functools.cache
def digits() -> DataSet:
    """Return scikit-learn's handwritten digits: 8 × 8 pixels, ten classes, 1797 images.

    A quarter of each class is set apart for testing, drawn once and for all. The pixels are 0 to
    16. Nobody may write into the tensors: every call returns the same ones.
    """
    from sklearn.datasets import load_digits

    rows, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(rows, dtype=torch.uint8).reshape(-1, 1, 8, 8)
    is_test = torch.from_numpy(_held_out(labels, np.random.default_rng(_SPLIT_SEED)))
    parts = [(pixels[chosen], torch.tensor(labels)[chosen]) for chosen in (~is_test, is_test)]
    return DataSet(
        "digits",
        "scikit-learn's handwritten digits (8 × 8 pixels, 10 classes)",
        10,
        *make_parts(*parts, mirrors=False),
    )


def _held_out(labels: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Mark a share of each class, drawn without replacement."""
    marked = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        marked[members[: round(_TEST_SHARE * len(members))]] = True
    return marked


def _moments(
    pixels: UInt8[Tensor, "n channel height width"],
) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
    """Return mean and standard deviation of each channel, from sums of integers."""
    values = torch.arange(256)
    found = []
    for channel in pixels.unbind(1):
        counts = torch.bincount(channel.flatten(), minlength=256)
        first, second = int(counts @ values), int(counts @ values**2)
        count = channel.numel()
        found.append((first / count, math.sqrt(count * second - first**2) / count))
    mean, deviation = torch.tensor(found, dtype=torch.float32).T
    return mean, deviation


def _moved(
    pixels: UInt8[Tensor, "b channel height width"], generator: torch.Generator, mirrors: bool
) -> UInt8[Tensor, "b channel height width"]:
    """Move each image by a draw of its own, and mirror it or not."""
    (count, channels, height, width), device = pixels.shape, pixels.device
    far = height // 8
    top, left = torch.randint(2 * far + 1, (2, count, 1), generator=generator, device=device)
    rows = top + torch.arange(height, device=device)  # (b, height), numbers of rows of the padded
    columns = left + torch.arange(width, device=device)  # (b, width)
    if mirrors:
        is_mirrored = torch.rand((count, 1), generator=generator, device=device) < 0.5
        columns = torch.where(is_mirrored, columns.flip(1), columns)
    images = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    padded = F.pad(pixels, (far,) * 4)
    return padded[images, channel, rows[:, None, :, None], columns[:, None, None, :]]
