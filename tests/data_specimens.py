"""Tiny data sets in the formats of the publishers, with checksums of their own."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reluctant.reports.formats import read_idx, read_pickles
from reluctant.reports.publications import Publication, base_name

CLASSES = 3
COUNTS = (6, 3)


@dataclass(frozen=True)
class Specimen:
    """A publication, its files as they are fetched and as they are unpacked, and its images."""

    publication: Publication
    packed: Mapping[str, bytes]
    unpacked: Mapping[str, bytes]
    pixels: tuple[NDArray[Any], ...]
    labels: tuple[NDArray[Any], ...]

    def write(self, folder: Path, *, packed: bool, flat: bool = False) -> list[Path]:
        """Write the files into a folder."""
        paths = []
        for name, content in (self.packed if packed else self.unpacked).items():
            path = folder / (base_name(name) if flat else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            paths.append(path)
        return paths


def md5(content: bytes) -> str:
    """Return the checksum that a publication states."""
    return hashlib.md5(content).hexdigest()


def pictures(shape: tuple[int, int, int], count: int, seed: int) -> tuple[NDArray[Any], ...]:
    """Return random pixels and every class in turn."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *shape), np.uint8), np.arange(count) % CLASSES


def python2(rows: NDArray[Any], labels: list[int]) -> bytes:
    """Write a dictionary as the pickler of Python 2 and NumPy 1 did, text and bytes being one."""
    listed = b"".join(b"K" + bytes([label]) for label in labels)
    size = struct.pack("<II", *rows.shape)
    shape = b"M" + size[:2] + b"M" + size[4:6] + b"\x86"
    return (
        b"\x80\x02}(U\x06labels](" + listed + b"e"
        b"U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + shape + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<I", rows.size) + rows.tobytes() + b"tbu."
    )


def archive(files: Mapping[str, bytes]) -> bytes:
    """Pack files as the publisher of CIFAR does."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as packed:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return whole.getvalue()


def cifar(
    url: str = "http://localhost:9/", *, spoilt: Mapping[str, bytes] | None = None
) -> Specimen:
    """Make a data set like CIFAR: two batches to train on, one to test on.

    Args:
        url: Where it is said to be published.
        spoilt: Contents in place of those of some files, as if published so.
    """
    shape = (3, 4, 4)
    pixels, labels = zip(*(pictures(shape, count, count) for count in COUNTS), strict=True)
    half = COUNTS[0] // 2
    parts = {
        "tiny-py/batch_1": (pixels[0][:half], labels[0][:half]),
        "tiny-py/batch_2": (pixels[0][half:], labels[0][half:]),
        "tiny-py/test_batch": (pixels[1], labels[1]),
    }
    unpacked = {n: python2(p.reshape(len(p), -1), c.tolist()) for n, (p, c) in parts.items()}
    # The second batch as Python 3 and NumPy 2 write it.
    rows, known = parts["tiny-py/batch_2"]
    held = {b"data": rows.reshape(len(rows), -1), b"labels": known.tolist()}
    unpacked["tiny-py/batch_2"] = pickle.dumps(held, protocol=3)
    unpacked |= spoilt or {}
    packed = {"tiny-python.tar.gz": archive({**unpacked, "tiny-py/readme.html": b"<p>"})}
    return _specimen("tiny", shape, True, url, packed, unpacked, pixels, labels, 2)


def mnist(
    url: str = "http://localhost:9/", *, spoilt: Mapping[str, bytes] | None = None
) -> Specimen:
    """Make a data set like MNIST: images and labels apart, in files of their own."""
    shape = (1, 5, 4)
    pixels, labels = zip(*(pictures(shape, count, count) for count in COUNTS), strict=True)
    unpacked = {}
    for part, images, known in zip(("train", "t10k"), pixels, labels, strict=True):
        sizes = struct.pack(">III", len(images), *shape[1:])
        unpacked[f"raw/{part}-images"] = b"\0\0\x08\x03" + sizes + images.tobytes()
        lengths = b"\0\0\x08\x01" + struct.pack(">I", len(known))
        unpacked[f"raw/{part}-labels"] = lengths + known.astype(np.uint8).tobytes()
    unpacked |= spoilt or {}
    packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in unpacked.items()}
    return _specimen("small", shape, False, url, packed, unpacked, pixels, labels, 2)


def _specimen(
    name: str,
    shape: tuple[int, int, int],
    mirrors: bool,
    url: str,
    packed: Mapping[str, bytes],
    unpacked: Mapping[str, bytes],
    pixels: tuple[NDArray[Any], ...],
    labels: tuple[NDArray[Any], ...],
    to_train: int,
) -> Specimen:
    sums = {place: md5(content) for place, content in unpacked.items()}
    publication = Publication(
        name,
        f"{name} noise",
        CLASSES,
        shape,
        mirrors,
        url,
        sum(map(len, packed.values())),
        {place: md5(content) for place, content in packed.items()},
        dict(list(sums.items())[:to_train]),
        dict(list(sums.items())[to_train:]),
        COUNTS,
        partial(read_pickles, labels="labels") if mirrors else read_idx,
    )
    return Specimen(publication, packed, unpacked, pixels, labels)
