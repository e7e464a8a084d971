"""The data sets that others publish: where, in which files, with which checksums."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Final

from reluctant.reports.formats import Part, read_idx, read_pickles


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """Say everything about a published data set but its images.

    Attributes:
        name: As on the command line.
        about: What it is, for captions.
        classes: Number of classes.
        shape: Channels, height and width.
        mirrors: Whether a mirror image is of the same class.
        url: Where its archives are, with a slash at the end.
        size: Bytes to fetch.
        archives: MD5 of each, by its place in the user's folder.
        train: MD5 of each file to train on, by its place once unpacked.
        test: Likewise to test on.
        images: Number of images to train and to test on.
        read: Turns the contents of a part's files and the shape into pixels and labels.
    """

    name: str
    about: str
    classes: int
    shape: tuple[int, int, int]
    mirrors: bool
    url: str
    size: int
    archives: Mapping[str, str]
    train: Mapping[str, str]
    test: Mapping[str, str]
    images: tuple[int, int]
    read: Callable[[Mapping[str, bytes], tuple[int, int, int]], Part]

    @property
    def unpacked(self) -> Mapping[str, str]:
        """Return the MD5 of every unpacked file, by its place."""
        return {**self.train, **self.test}

    @property
    def resident(self) -> int:
        """Return the bytes that the pixels take."""
        return sum(self.images) * math.prod(self.shape)


def base_name(place: str) -> str:
    """Return the name of a file without its folders."""
    return PurePosixPath(place).name


# https://www.cs.toronto.edu/~kriz/cifar.html has the checksums of the archives.
_TORONTO: Final = "https://www.cs.toronto.edu/~kriz/"

CIFAR10: Final = Publication(
    "cifar10",
    "CIFAR-10 (32 × 32 colour photographs, 10 classes)",
    10,
    (3, 32, 32),
    True,
    _TORONTO,
    170_498_071,
    {"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    {
        "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    {"cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e"},
    (50_000, 10_000),
    partial(read_pickles, labels="labels"),
)

CIFAR100: Final = Publication(
    "cifar100",
    "CIFAR-100 (32 × 32 colour photographs, 100 classes)",
    100,
    (3, 32, 32),
    True,
    _TORONTO,
    169_001_437,
    {"cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"},
    {"cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d"},
    {"cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    (50_000, 10_000),
    partial(read_pickles, labels="fine_labels"),
)

MNIST: Final = Publication(
    "mnist",
    "MNIST (28 × 28 handwritten digits, 10 classes)",
    10,
    (1, 28, 28),
    False,
    "https://ossci-datasets.s3.amazonaws.com/mnist/",  # the authors' own page hands out no files
    11_594_722,
    {
        "MNIST/raw/train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "MNIST/raw/train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "MNIST/raw/t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "MNIST/raw/t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    {
        "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    },
    {
        "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    (60_000, 10_000),
    read_idx,
)
