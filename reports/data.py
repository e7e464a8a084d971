"""Data sets of labelled images, each cut into the same two parts every time."""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reluctant.reports.labelled import Labelled
from reluctant.theory.errors import InputError

Part = TypeVar("Part", bound=Labelled)

_TEST_SHARE: Final = 0.25
_SPLIT_SEED: Final = 0


@dataclass(frozen=True, slots=True, eq=False)
class Images(Labelled):
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

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one image."""
        return tuple(self.pixels.shape[1:])

    def feed(self, total: Any) -> None:
        """Give pixels and labels to a hash."""
        total.update(f"{tuple(self.pixels.shape)}".encode())
        total.update(self.pixels.cpu().contiguous().numpy().data)
        total.update(self.labels.cpu().numpy().astype("<i8").data)

    def relabelled(self, labels: Int[Tensor, " n"]) -> Images:
        """Return the images with other labels."""
        return replace(self, labels=labels)

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


@dataclass(frozen=True, slots=True)
class Form:
    """Say what the images of a data set are like, without having them.

    Attributes:
        shape: Channels, height and width.
        classes: Number of classes.
        images: Number of images to train on.
    """

    shape: tuple[int, ...]
    classes: int
    images: int


@dataclass(frozen=True, slots=True, eq=False)
class DataSet(Generic[Part]):
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
    train: Part
    test: Part

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one image."""
        return self.train.shape

    @property
    def form(self) -> Form:
        """Return what the images are like."""
        return Form(self.input_shape, self.classes, len(self.train))

    def first(self, images: int) -> DataSet[Part]:
        """Return the data set of the first images of both parts; all of them for 0."""
        if not images:
            return self
        train, test = (
            part.at(torch.arange(min(images, len(part)))) for part in (self.train, self.test)
        )
        return replace(self, train=train, test=test)

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of pixels and labels, however they were stored."""
        total = hashlib.sha256()
        for part in (self.train, self.test):
            part.feed(total)
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
def digits() -> DataSet[Images]:
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


@functools.cache
def large_digits() -> DataSet[Images]:
    """Return :func:`digits` with 3 × 32 × 32 pixels: each pixel four times as wide and high.

    For networks that are made for photographs of this size where there are none. Nobody may write
    into the tensors.
    """

    def enlarged(part: Images) -> Images:
        pixels = part.pixels.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)
        mean, deviation = (t.expand(3) for t in (part.mean, part.deviation))
        return replace(part, pixels=pixels, mean=mean, deviation=deviation)

    small = digits()
    about = "scikit-learn's handwritten digits, enlarged to 3 × 32 × 32 pixels (10 classes)"
    return DataSet("large-digits", about, 10, enlarged(small.train), enlarged(small.test))


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
