"""Data sets from the publishers' files: found in any layout, fetched, and refused when damaged."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from data_specimens import Specimen, cifar, mnist, python2

from reluctant.reports import loading
from reluctant.reports.data import DataSet, Images
from reluctant.reports.loading import VARIABLE, data_folder, fetch, load, using
from reluctant.theory.errors import InputError

KINDS: dict[str, Callable[..., Specimen]] = {"cifar": cifar, "mnist": mnist}


def loaded(specimen: Specimen, folder: Path) -> DataSet[Images]:
    return loading._load(specimen.publication, folder)


@contextmanager
def server(files: dict[str, bytes], *, cut: int = 0) -> Iterator[str]:
    """Serve files, without their last bytes; the length that is announced counts them."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path.strip("/"))
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write((content or b"")[: len(content or b"") - cut])

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as host:
        thread = Thread(target=host.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_port}/"
        finally:
            host.shutdown()
            thread.join()


def published(kind: str, url: str) -> tuple[Specimen, dict[str, bytes]]:
    specimen = KINDS[kind](url)
    return specimen, {Path(name).name: content for name, content in specimen.packed.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_every_layout_gives_the_same_images(
    tmp_path: Path, kind: str, packed: bool, flat: bool, within: bool
) -> None:
    specimen = KINDS[kind]()
    place = tmp_path / specimen.publication.name if within else tmp_path
    specimen.write(place, packed=packed, flat=flat)
    data = loaded(specimen, tmp_path)
    for part, pixels, labels in zip(
        (data.train, data.test), specimen.pixels, specimen.labels, strict=True
    ):
        assert part.pixels.dtype == torch.uint8
        assert np.array_equal(part.pixels.numpy(), pixels)
        assert part.labels.tolist() == labels.tolist()
        assert part.mirrors == (kind == "cifar")


def test_the_checksum_is_of_the_images_and_not_of_their_files(tmp_path: Path) -> None:
    specimen = cifar()
    for name, packed in (("a", True), ("b", False)):
        specimen.write(tmp_path / name, packed=packed)
    first, second = (loaded(specimen, tmp_path / name) for name in "ab")
    assert first.checksum == second.checksum
    for changed in (
        replace(first, train=first.test, test=first.train),
        replace(first, test=replace(first.test, labels=first.test.labels.flip(0))),
        replace(first, test=replace(first.test, pixels=255 - first.test.pixels)),
    ):
        assert changed.checksum != first.checksum


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_damaged_file_is_named(tmp_path: Path, kind: str, packed: bool, damage: str) -> None:
    specimen = KINDS[kind]()
    path = specimen.write(tmp_path, packed=packed)[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(
        {"truncated": bytes(content[:-1]), "changed": bytes(content), "empty": b""}[damage]
    )
    with pytest.raises(InputError, match="damaged or incomplete: its MD5") as caught:
        loaded(specimen, tmp_path)
    assert str(path) in str(caught.value) and "data fetch" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named(tmp_path: Path, kind: str) -> None:
    specimen = KINDS[kind]()
    path = specimen.write(tmp_path, packed=False)[1]
    path.unlink()
    with pytest.raises(InputError, match=f"{path} is missing beside other files"):
        loaded(specimen, tmp_path)


def test_an_archive_without_a_file_is_named(tmp_path: Path) -> None:
    specimen = cifar()
    specimen.write(tmp_path, packed=True)
    more = replace(specimen.publication, test={"tiny-py/other_batch": "0"})
    with pytest.raises(InputError, match="other_batch is missing from the archive"):
        loading._load(more, tmp_path)


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch evil",)


ROWS = np.zeros((3, 48), dtype=np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({b"data": Evil()}), r"test_batch asks for posix\.system"),
        (pickle.dumps({b"data": b"x"}, 2), r"test_batch asks for _codecs\.encode"),
        (pickle.dumps([1]), "holds no 'data' and 'labels'"),
        (pickle.dumps({b"data": ROWS}, 3), "holds no 'data' and 'labels'"),
        (python2(ROWS, [0, 1]), r"holds uint8 of shape \(3, 48\) beside 2 classes; expected"),
        (python2(ROWS[:, :47], [0, 1, 2]), r"expected bytes of shape \(3, 48\)"),
        (pickle.dumps({b"data": [1], b"labels": [1]}, 3), "holds a list beside 1 classes"),
        (pickle.dumps({b"data": ROWS.astype(float), b"labels": [0]}, 3), "array of 'f8'"),
        (python2(ROWS, [0, 1, 3]), "3 images of classes up to 3; expected 3 of 3 classes"),
        (python2(ROWS[:2], [0, 1]), "2 images of classes up to 1; expected 3 of 3 classes"),
        (b"no pickle", "test_batch is no pickle of arrays"),
        (python2(ROWS, [0, 1, 2])[:-60], "test_batch is no pickle of arrays"),
    ],
)
def test_a_pickle_of_anything_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    specimen = cifar(spoilt={"tiny-py/test_batch": content})
    specimen.write(tmp_path, packed=False)
    with pytest.raises(InputError, match=message) as caught:
        loaded(specimen, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t10k-labels", b"", "t10k-labels is no whole idx file of bytes"),
        ("t10k-labels", b"\0\0\x08", "t10k-labels is no whole idx file"),
        ("t10k-labels", b"\0\0\x08\x01\0\0\0\x03ab", "t10k-labels is no whole idx file"),
        ("t10k-labels", b"\0\0\x0d\x01\0\0\0\x01abcd", "t10k-labels is no whole idx file"),
        ("t10k-images", b"\0\0\x08\xff" + b"\xff" * 99, "t10k-images is no whole idx file"),
        ("t10k-labels", b"\0\0\x08\x01\0\0\0\x02\0\1", "t10k-images holds uint8 .* beside 2"),
    ],
)
def test_an_idx_file_of_anything_else_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    specimen = mnist(spoilt={f"raw/{name}": content})
    specimen.write(tmp_path, packed=True)
    with pytest.raises(InputError, match=message):
        loaded(specimen, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_is_fetched_once(tmp_path: Path, kind: str) -> None:
    heard: list[tuple[str, int, int]] = []
    files: dict[str, bytes] = {}
    with server(files) as url:
        specimen, served = published(kind, url)
        files |= served
        paths = fetch(specimen.publication, tmp_path, lambda *said: heard.append(said))
    assert [path.read_bytes() for path in paths] == list(specimen.packed.values())
    assert len(heard) >= len(files)
    assert {what for what, done, total in heard if done == total} == {
        f"fetching {name}" for name in files
    }
    assert fetch(specimen.publication, tmp_path) == paths  # nobody serves it now
    assert len(loaded(specimen, tmp_path).train) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_fetch_leaves_nothing_and_can_be_repeated(tmp_path: Path, kind: str) -> None:
    files: dict[str, bytes] = {}
    with server(files, cut=3) as url:
        specimen, served = published(kind, url)
        files |= served
        with pytest.raises(InputError, match=f"{url}.* could not be fetched into {tmp_path}"):
            fetch(specimen.publication, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with server(files) as url:
        again = replace(specimen.publication, url=url)
        assert len(fetch(again, tmp_path)) == len(files)


def test_only_what_is_missing_is_fetched(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    with server(files) as url:
        specimen, served = published("mnist", url)
        kept = specimen.write(tmp_path, packed=True)
        kept[2].unlink()
        files[kept[2].name] = served[kept[2].name]  # the others would be refused with 404
        assert fetch(specimen.publication, tmp_path) == tuple(kept)


def test_what_is_not_what_was_published_is_not_kept(tmp_path: Path) -> None:
    with server({"tiny-python.tar.gz": b"something else"}) as url:
        specimen = cifar(url)
        with pytest.raises(InputError, match="could not be fetched"):
            loaded(specimen, tmp_path)
    assert not list(tmp_path.rglob("*.gz"))


def test_a_publisher_who_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"http://localhost:9/tiny-python.tar.gz could not") as e:
        loaded(cifar(), tmp_path)
    assert "\n" not in str(e.value)


def test_a_folder_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "raw"
    blocked.write_text("a file where the folder would be")
    with pytest.raises(InputError, match="could not be fetched into"):
        loaded(mnist(), tmp_path)


def test_the_folder_is_given_or_in_the_variable_or_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert data_folder().name == "reluctant"
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert data_folder() == tmp_path
    (tmp_path / "more").mkdir()
    assert data_folder(tmp_path / "more") == tmp_path / "more"
    with pytest.raises(InputError, match=r"--data names .*nowhere, which is no folder; make it"):
        data_folder(tmp_path / "nowhere")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"\$RELUCTANT_DATA names .*nowhere"):
        data_folder()


def test_a_run_looks_into_its_folder_and_knows_what_it_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen = cifar()
    specimen.write(tmp_path, packed=True)
    monkeypatch.setattr(loading, "PUBLICATIONS", {"tiny": specimen.publication})
    with using(tmp_path) as seen:
        tiny, digits = load("tiny"), load("digits")
    assert seen == {"tiny": tiny.checksum, "digits": digits.checksum}
    assert load("tiny", tmp_path) is tiny
    with pytest.raises(InputError, match="no data set is published as 'imagenet'; there are tiny"):
        load("imagenet", tmp_path)


# Mean and deviation of each channel as they stand in everybody's code, to their last digit.
MOMENTS = {
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"${VARIABLE} names no folder")
def test_the_publishers_own_files(name: str) -> None:
    if not loading.find(loading.PUBLICATIONS[name], data_folder()):
        pytest.skip(f"{name} is not in ${VARIABLE}")
    data = load(name)
    for tensor, wanted in zip((data.train.mean, data.train.deviation), MOMENTS[name], strict=True):
        assert [round(value / 255, 4) for value in tensor.tolist()] == list(wanted)
    assert data.train.labels.bincount(minlength=data.classes).min() > 0
