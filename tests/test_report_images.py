"""Labelled images as bytes: normalised, moved and mirrored on the device, and the same every time."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reluctant.reports.data import Images, digits, make_parts
from reluctant.theory.errors import InputError
from reluctant.theory.rounding import gamma


def images(mirrors: bool = True, count: int = 12, side: int = 16) -> Images:
    """Return random images, whose second channel is darker than the first."""
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (count, 2, side, side), generator=draws)
    pixels[:, 1] = (pixels[:, 1] + 1) // 2
    part = (pixels.to(torch.uint8), torch.arange(count) % 3)
    return make_parts(part, part, mirrors=mirrors)[0]


def test_a_batch_is_normalised_by_the_images_to_train_on() -> None:
    part = images()
    inputs, labels = part.batch(torch.arange(len(part)))
    values = part.pixels.double()
    mean, deviation = values.mean((0, 2, 3)), values.std((0, 2, 3), correction=0)
    wanted = (values - mean[:, None, None]) / deviation[:, None, None]
    assert (inputs.dtype, inputs.shape) == (torch.float32, part.pixels.shape)
    assert torch.equal(labels, part.labels)
    # Mean and deviation are rounded, then the difference and the quotient are. A rounding of the
    # mean is u * mean, and it is divided by the deviation.
    size = wanted.abs() + (mean / deviation)[:, None, None]
    assert bool(((inputs.double() - wanted).abs() <= gamma(4, torch.float32) * size).all())


def test_the_parts_share_the_moments_of_the_first() -> None:
    data = digits()
    assert data.train.pixels.dtype == data.test.pixels.dtype == torch.uint8
    assert torch.equal(data.train.mean, data.test.mean)
    assert float(data.train.mean) == pytest.approx(float(data.train.pixels.double().mean()))


def _all_moves(image: Tensor, far: int, mirrors: bool) -> dict[bytes, tuple[int, ...]]:
    """Cut every window out of the padded image, the slow way."""
    _, height, width = image.shape
    padded = F.pad(image, (far,) * 4)
    found = {}
    for top, left, flip in product(range(2 * far + 1), range(2 * far + 1), range(1 + mirrors)):
        window = padded[:, top : top + height, left : left + width]
        found[(window.flip(2) if flip else window).numpy().tobytes()] = (top, left, flip)
    return found


@pytest.mark.parametrize("mirrors", [False, True])
def test_an_augmented_image_is_one_of_its_moves_and_every_move_comes(mirrors: bool) -> None:
    part = images(mirrors)
    draws = torch.Generator().manual_seed(1)
    moves = [_all_moves(image, 2, mirrors) for image in part.pixels]
    seen = set()
    for _ in range(60):
        inputs, _ = part.batch(torch.arange(len(part)), draws, augment=True)
        scaled = inputs * part.deviation[:, None, None] + part.mean[:, None, None]
        for number, image in enumerate(scaled.round().to(torch.uint8)):
            seen.add(moves[number][image.numpy().tobytes()])
    # 720 draws of 25 or 50 moves: one is missed with a chance below 50 (1 - 1/50)^720 < 3e-5.
    assert len(seen) == 25 * (1 + mirrors)


def test_augmentation_is_drawn_from_its_generator_alone() -> None:
    part = images()
    index = torch.tensor([3, 1, 1, 7])
    again = [
        part.batch(index, torch.Generator().manual_seed(seed), augment=True)[0]
        for seed in (5, 5, 6)
    ]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])
    assert not torch.equal(again[0][1], again[0][2])  # one image twice, two draws
    with pytest.raises(InputError, match=r"give batch a torch.Generator\('cpu'\)"):
        part.batch(index, augment=True)


def test_what_stands_on_a_device_stays_there() -> None:
    part = images().to("meta")
    draws = torch.Generator().manual_seed(0)
    assert part.batch(torch.arange(3, device="meta"))[0].device.type == "meta"
    with pytest.raises(InputError, match="'meta'"):
        part.batch(torch.arange(3, device="meta"), draws, augment=True)
