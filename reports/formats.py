"""The formats in which data sets of images are published, read with nothing but the bytes trusted."""

from __future__ import annotations

import gzip
import io
import math
import pickle
import tarfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reluctant.theory.errors import InputError

Part = tuple[NDArray[Any], NDArray[Any]]

_IDX_OF_BYTES: Final = bytes((0, 0, 8))  # two zeros, the code of the type


def unpack(name: str, content: bytes) -> dict[str, bytes]:
    """Return the files in a file, by their names without folders: itself if it is no archive.

    Args:
        name: Name of the file; ``.tar.gz`` and ``.gz`` are unpacked.
        content: What is in it.
    """
    if name.endswith(".tar.gz"):
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            members = [(member, archive.extractfile(member)) for member in archive]
            return {m.name.rpartition("/")[2]: file.read() for m, file in members if file}
    if name.endswith(".gz"):
        return {name.removesuffix(".gz"): gzip.decompress(content)}
    return {name: content}


def read_pickles(files: Mapping[str, bytes], shape: tuple[int, ...], *, labels: str) -> Part:
    """Read the pickles in which CIFAR is published.

    Args:
        files: Contents by name; each a dictionary with the pixels, one row an image, under
            ``data`` and the classes under ``labels``.
        shape: Channels, height and width.
        labels: Key of the classes.

    Returns:
        Pixels of shape (n, channel, height, width), and n classes.

    Raises:
        InputError: If a file asks for anything but arrays, or holds something else; names it.
    """
    pixels, classes = [], []
    for name, content in files.items():
        held = _Arrays(name, content).load()
        keys = (b"data", labels.encode())
        if not isinstance(held, dict) or not all(key in held for key in keys):
            raise InputError(f"{name} holds no 'data' and {labels!r}; fetch it again")
        rows, known = held[b"data"], held[labels.encode()]
        size = (len(known), math.prod(shape))
        if not isinstance(rows, np.ndarray) or (rows.shape, rows.dtype) != (size, np.uint8):
            raise InputError(
                f"{name} holds {_kind(rows)} beside {size[0]} classes; expected bytes of shape {size}"
            )
        pixels.append(rows.reshape(-1, *shape))
        classes.append(np.asarray(known))
    return np.concatenate(pixels), np.concatenate(classes)


def read_idx(files: Mapping[str, bytes], shape: tuple[int, ...]) -> Part:
    """Read the two files, images and labels, in which a part of MNIST is published.

    Args:
        files: Contents by name, images first.
        shape: Channels, height and width.

    Returns:
        Pixels of shape (n, channel, height, width), and n classes.

    Raises:
        InputError: If a file is of another format or shape; names it.
    """
    (images, rows), (_, classes) = ((name, _idx(name, files[name])) for name in files)
    if rows.shape != (len(classes), *shape[1:]):
        raise InputError(
            f"{images} holds {_kind(rows)} beside {len(classes)} classes; expected bytes of shape"
            f" {(len(classes), *shape[1:])}"
        )
    return rows.reshape(-1, *shape), classes


class _Arrays(pickle.Unpickler):
    """Load a pickle of dictionaries, lists, numbers, bytes and arrays of bytes."""

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.name = name

    def load(self) -> Any:
        """Return what is in the pickle."""
        try:
            return super().load()
        except InputError:
            raise
        except Exception as error:  # a broken pickle may raise anything
            raise InputError(
                f"{self.name} is no pickle of arrays ({error}); fetch it again"
            ) from error

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the three things that an array is made of."""
        known = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _dtype,
            ("numpy.core.multiarray", "_reconstruct"): _empty,  # as NumPy 1 called it
            ("numpy._core.multiarray", "_reconstruct"): _empty,
        }
        if (module, name) not in known:
            raise InputError(
                f"{self.name} asks for {module}.{name}, which no data set needs; it is not loaded:"
                " remove it, and fetch it from its publisher"
            )
        return known[module, name]


def _empty(*_: Any) -> NDArray[Any]:
    """Return the array that a pickle then fills."""
    return np.empty(0, dtype=np.uint8)


def _dtype(code: bytes | str, *_: Any) -> np.dtype[Any]:
    text = code.decode() if isinstance(code, bytes) else code
    if text != "u1":
        raise InputError(f"it holds an array of {text!r}, and images are bytes")
    return np.dtype(text, copy=True)  # the pickle sets its state, and NumPy's own is shared


def _idx(name: str, content: bytes) -> NDArray[Any]:
    """Read an array: its type, the number of its axes, their lengths, the entries."""
    start = 4 + 4 * content[3] if len(content) > 3 else 0
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if content[:3] != _IDX_OF_BYTES or len(content) != start + math.prod(shape):
        raise InputError(f"{name} is no whole idx file of bytes; fetch it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"a {type(value).__name__}"
