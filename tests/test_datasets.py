"""A folder of images, as inputs of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reluctant.datasets import Preparation, load_data, read_numbers
from reluctant.images import KINDS, MOST
from reluctant.theory.errors import InputError

PLAIN = Preparation()


def save(path: Path, height: int = 4, width: int = 6, mode: str = "RGB", seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    Image.fromarray(pixels.squeeze()).save(path)
    return path


def test_images_come_in_the_order_of_their_names_from_folders_in_folders(tmp_path: Path) -> None:
    names = ["b/2.png", "a/10.PNG", "c.bmp", "a/9.webp"]
    for seed, name in enumerate(names):
        save(tmp_path / name, seed=seed)
    (tmp_path / "notes.txt").write_text("no image")
    save(tmp_path / ".cache/x.png")
    save(tmp_path / "._c.png")
    (inputs,), notes = load_data(tmp_path, [(3, 4, 6)], PLAIN)
    assert inputs.shape == (4, 3, 4, 6) and inputs.dtype == torch.float32 and notes == ()
    for place, name in ((0, "a/10.PNG"), (2, "b/2.png"), (3, "c.bmp")):
        pixels = np.asarray(Image.open(tmp_path / name), dtype=np.float32) / np.float32(255)
        assert np.array_equal(inputs[place].movedim(0, -1).numpy(), pixels)
    assert 0 <= float(inputs.min()) and float(inputs.max()) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_read(tmp_path: Path, kind: str) -> None:
    save(tmp_path / f"one{kind}")
    assert load_data(tmp_path, [], PLAIN)[0][0].shape == (1, 3, 4, 6)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3)])
def test_the_channels_are_those_of_the_input(tmp_path: Path, mode: str, channels: int) -> None:
    save(tmp_path / "a.png", mode=mode)
    assert load_data(tmp_path, [], PLAIN)[0][0].shape == (1, channels, 4, 6)
    for wanted in (1, 3):
        assert load_data(tmp_path, [(wanted, 4, 6)], PLAIN)[0][0].shape == (1, wanted, 4, 6)


def test_another_size_is_resized_where_that_is_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    large = save(tmp_path / "b.png", 8, 12)
    with pytest.raises(InputError, match=r"b\.png is 8 x 12, and an input is 4 x 6; give --resize"):
        load_data(tmp_path, [(3, 4, 6)], PLAIN)
    (inputs,), notes = load_data(tmp_path, [(3, 4, 6)], Preparation(resize=True))
    assert notes == ("1 of 2 images are resized to 4 x 6, bilinearly",)
    small = Image.open(large).resize((6, 4), Image.Resampling.BILINEAR)
    assert np.array_equal(inputs[1].movedim(0, -1).numpy(), np.asarray(small, np.float32) / 255)


def test_values_are_normalised(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    plain = load_data(tmp_path, [], PLAIN)[0][0]
    mean, std = (0.1, 0.2, 0.3), (0.5,)
    normal = load_data(tmp_path, [], Preparation(mean=mean, std=std))[0][0]
    expected = (plain - torch.tensor(mean)[:, None, None]) / 0.5
    assert torch.equal(normal, expected)
    with pytest.raises(InputError, match="--std has 2 numbers, and an image has 3 channels"):
        load_data(tmp_path, [], Preparation(std=(1.0, 2.0)))


def test_of_many_images_some_are_taken_at_equal_distances(tmp_path: Path) -> None:
    for k in range(10):
        Image.new("L", (1, 1), k).save(tmp_path / f"{k}.png")
    (inputs,), notes = load_data(tmp_path, [], Preparation(limit=4))
    assert (inputs.flatten() * 255).round().tolist() == [0, 2, 5, 7]
    assert notes == (f"4 of the 10 images in {tmp_path} are taken (--limit)",)
    for k in range(10, MOST + 9):
        Image.new("L", (1, 1), 0).save(tmp_path / f"{k}.png")
    assert len(load_data(tmp_path, [], PLAIN)[0][0]) == MOST


def test_rows_of_a_file_are_limited_too(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(20.0).reshape(10, 2))
    assert load_data(tmp_path / "x.npy", [], Preparation(limit=2))[0][0].tolist() == [
        [0.0, 1.0],
        [10.0, 11.0],
    ]
    assert len(load_data(tmp_path / "x.npy", [], PLAIN)[0][0]) == 10


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.png", 40, 40).read_bytes()
    for name, content in (("cut.png", whole[:900]), ("text.jpg", b"hello"), ("empty.bmp", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read as an image") as caught:
            load_data(tmp_path, [(3, 40, 40)], PLAIN)
        assert "\n" not in str(caught.value)
        (tmp_path / name).unlink()


def test_an_image_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(InputError, match=r"a\.png cannot be read as an image: .*exceeds limit"):
        load_data(tmp_path, [], PLAIN)


@pytest.mark.parametrize(
    ("shapes", "how", "message"),
    [
        ([(4, 4, 6)], PLAIN, r"an input of shape 4,4,6 is none; --input takes channels \(1 or 3\)"),
        ([(24,)], PLAIN, "an input of shape 24 is none"),
        ([(3, 4, 6), (2,)], PLAIN, "--input names 2 inputs, and the folder .* for one"),
    ],
)
def test_other_inputs_are_no_images(
    tmp_path: Path, shapes: list[tuple[int, ...]], how: Preparation, message: str
) -> None:
    save(tmp_path / "a.png")
    with pytest.raises(InputError, match=message):
        load_data(tmp_path, shapes, how)


def test_an_empty_folder_and_wide_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no image; those that end in \.bmp, \.jpeg"):
        load_data(tmp_path, [], PLAIN)
    Image.fromarray(np.full((4, 6), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png has more than 8 bits a channel"):
        load_data(tmp_path, [], PLAIN)


@pytest.mark.parametrize("how", [Preparation(resize=True), Preparation(mean=(0.5,))])
def test_what_is_done_to_images_is_not_done_to_arrays(tmp_path: Path, how: Preparation) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    with pytest.raises(InputError, match=r"are for a folder of images, and .* is a file"):
        load_data(tmp_path / "x.npy", [], how)


@pytest.mark.parametrize("text", ["", "a", "1,,2", "nan", "inf", "0.5,-1", "0"])
def test_numbers_are_numbers(text: str) -> None:
    with pytest.raises(InputError, match=r"--std takes positive numbers such as 0\.5 or"):
        read_numbers("--std", text, positive=True)
    assert read_numbers("--mean", "0.5,-1") == (0.5, -1.0)
    assert read_numbers("--mean", None) == ()
