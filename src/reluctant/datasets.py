"""Inputs that a user names on the command line: arrays in a file, or a folder of images."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from reluctant.theory.errors import InputError


@dataclass(frozen=True, slots=True)
class Preparation:
    """Say how images become inputs.

    Attributes:
        resize: Whether images of another size are brought to that of the example.
        mean: What is taken off, one number or one a channel; values lie in [0, 1] before.
        std: What is divided by then, likewise.
        limit: Largest number of examples, taken at equal distances; None for the usual one.
    """

    resize: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    limit: int | None = None


def load_data(
    path: Path, shapes: Sequence[Sequence[int]], how: Preparation
) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    r"""Read inputs from an ``.npz`` or ``.npy`` file, or from a folder of images.

    Args:
        path: File, as for :func:`load_inputs`, or folder.
        shapes: Shape of one example of each input; none to take that of the data.
        how: How images become inputs.

    Returns:
        One tensor of shape (n, \*input) for each input, and what a reader must know of them.

    Raises:
        InputError: If they cannot be read, or not in this way.
        OSError: If the file cannot be read.
    """
    if not path.is_dir():
        if how.resize or how.mean or how.std:
            raise InputError(
                f"--resize, --mean and --std are for a folder of images, and {path} is a file;"
                " prepare its arrays before they are saved"
            )
        arrays = load_inputs(path, max(1, len(shapes)))
        return tuple(a[spread(len(a), how.limit or len(a))] for a in arrays), ()
    if len(shapes) > 1:
        raise InputError(
            f"--input names {len(shapes)} inputs, and the folder {path} holds images for one; save"
            " arrays for all of them in an .npz file"
        )
    from reluctant.images import load_images

    images, notes = load_images(path, shapes[0] if shapes else None, how)
    return (images,), notes


def spread(count: int, most: int) -> list[int]:
    """Return the places of all things, or of as many as wanted at equal distances.

    >>> spread(3, 5), spread(10, 4)
    ([0, 1, 2], [0, 2, 5, 7])
    """
    most = min(count, most)
    return [k * count // most for k in range(most)]


def load_inputs(path: Path, count: int = 1) -> tuple[Tensor, ...]:
    """Read inputs from an ``.npz`` file, its array ``x`` or the only one, or from an ``.npy`` file.

    Args:
        path: File with arrays of shape (n, ...), n ≥ 1, of finite floating-point numbers.
        count: Number of inputs; of several, the arrays are taken in the file's order.

    Returns:
        The arrays, of their own types; more than double precision becomes double.

    Raises:
        InputError: If there is no such array.
        OSError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            arrays = _arrays(np.load(file, allow_pickle=False), path, count)
    except (ValueError, EOFError, BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is no .npz or .npy file of plain arrays; save one with numpy.savez(file, x=x)"
        ) from error
    return tuple(_inputs(array, path) for array in arrays)


def _inputs(array: np.ndarray[Any, Any], path: Path) -> Tensor:
    if array.ndim < 2 or len(array) == 0:
        raise InputError(f"{path} has inputs of shape {array.shape}; expected (n, ...) with n >= 1")
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"{path} has inputs of type {array.dtype}; networks take floating point: scale them"
            " the way the network was trained, then save"
        )
    finite = np.isfinite(array).reshape(len(array), -1).all(1)
    if not finite.all():
        raise InputError(
            f"{path} holds NaN or infinite values, first in row {int(finite.argmin())}; remove or"
            " replace them, then save"
        )
    kind = np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind))


def _arrays(loaded: Any, path: Path, count: int) -> list[np.ndarray[Any, Any]]:
    if isinstance(loaded, np.ndarray):
        loaded = {"x": loaded}
    names = list(loaded)
    if count > 1:
        if len(names) != count:
            raise InputError(
                f"{path} holds {', '.join(names) or 'nothing'}, but --input names {count} inputs;"
                " save one array for each, in their order"
            )
        return [loaded[name] for name in names]
    if "x" not in names and len(names) != 1:
        raise InputError(
            f"{path} holds {', '.join(names) or 'nothing'}; call the inputs 'x', or give --input"
            " once for each of several"
        )
    return [loaded["x" if "x" in names else names[0]]]


def read_numbers(name: str, text: str | None, *, positive: bool = False) -> tuple[float, ...]:
    """Read numbers between commas, none of nothing.

    Args:
        name: Name of the option, for the message.
        text: Such as ``0.485,0.456,0.406``.
        positive: Whether they have to be above 0.

    Raises:
        InputError: If they are no finite numbers, or not positive where they have to be.
    """
    try:
        numbers = tuple(float(number) for number in text.split(",")) if text is not None else ()
    except ValueError:
        numbers = (math.nan,)
    if not all(math.isfinite(n) and (n > 0 or not positive) for n in numbers):
        what = "positive numbers" if positive else "numbers"
        raise InputError(f"{name} takes {what} such as 0.5 or 0.485,0.456,0.406; got {text!r}")
    return numbers
