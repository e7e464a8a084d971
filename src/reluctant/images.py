"""Inputs from a folder of images."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reluctant.datasets import Preparation, spread
from reluctant.theory.errors import InputError

KINDS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
MOST = 256  # images that are taken where no limit is given
_MODES = {1: "L", 3: "RGB"}
_WIDE = ("I", "F")  # what modes of more than 8 bits a channel begin with


def load_images(
    folder: Path, shape: Sequence[int] | None, how: Preparation
) -> tuple[Tensor, tuple[str, ...]]:
    r"""Read the images of a folder and of the folders in it, in the order of their names.

    Args:
        folder: Folder; what is hidden, and what does not end in one of :data:`KINDS`, is passed over.
        shape: Channels, height and width of one input: 1 or 3 channels. Those of the first image
            if None.
        how: What is done to them; the limit is :data:`MOST` if there is none.

    Returns:
        Inputs, shape (n, channel, height, width), and what a reader must know of them.

    Raises:
        InputError: If there is no image, or one cannot be read, or is of another size.

    Cost:
        Every image that is taken is decoded once.
    """
    files = sorted(_images_in(folder))
    if not files:
        raise InputError(f"{folder} has no image; those that end in {', '.join(KINDS)} are read")
    chosen = [files[k] for k in spread(len(files), how.limit or MOST)]
    channels, *size = _shape_of(chosen[0]) if shape is None else shape
    if len(size) != 2 or channels not in _MODES:
        raise InputError(
            f"{folder} holds images, and an input of shape {','.join(map(str, (channels, *size)))}"
            " is none; --input takes channels (1 or 3), height, width"
        )
    height, width = size
    pixels = [_pixels(file, _MODES[channels], (width, height), how) for file in chosen]
    inputs = torch.from_numpy(np.stack([values for values, _ in pixels])).movedim(-1, 1)
    notes = []
    if len(chosen) < len(files):
        notes.append(f"{len(chosen)} of the {len(files)} images in {folder} are taken (--limit)")
    resized = sum(changed for _, changed in pixels)
    if resized:
        notes.append(
            f"{resized} of {len(chosen)} images are resized to {height} x {width}, bilinearly"
        )
    return _normalised(inputs.contiguous(), how), tuple(notes)


def _images_in(folder: Path) -> Iterable[Path]:
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts
        if path.suffix.lower() in KINDS and not any(part.startswith(".") for part in inside):
            if path.is_file():
                yield path


def _shape_of(file: Path) -> tuple[int, int, int]:
    image = _opened(file)
    return (1 if image.mode in ("1", "L", "LA") else 3, image.height, image.width)


def _opened(file: Path) -> Image.Image:
    """Decode an image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                image.load()
                return image.copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{file} cannot be read as an image: {said}; mend or remove it") from error


def _pixels(
    file: Path, mode: str, size: tuple[int, int], how: Preparation
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], bool]:
    """Return one image with values in [0, 1], shape (height, width, channel), and if it was resized."""
    image = _opened(file)
    if image.mode.startswith(_WIDE):
        raise InputError(f"{file} has more than 8 bits a channel; save it with 8")
    image = image.convert(mode)
    differs = image.size != size
    if differs and not how.resize:
        raise InputError(
            f"{file} is {image.height} x {image.width}, and an input is {size[1]} x {size[0]};"
            " give --resize to bring all images to that size"
        )
    if differs:
        image = image.resize(size, Image.Resampling.BILINEAR)
    values = np.asarray(image, dtype=np.float32) / np.float32(255.0)
    return values.reshape(size[1], size[0], -1), differs


def _normalised(inputs: Tensor, how: Preparation) -> Tensor:
    channels = inputs.shape[1]
    for name, numbers in (("--mean", how.mean), ("--std", how.std)):
        if len(numbers) not in (0, 1, channels):
            raise InputError(
                f"{name} has {len(numbers)} numbers, and an image has {channels} channels; give"
                " one, or one a channel"
            )
    mean, std = (
        torch.tensor(numbers or default).reshape(-1, 1, 1)
        for numbers, default in ((how.mean, (0.0,)), (how.std, (1.0,)))
    )
    return (inputs - mean) / std
