"""``reluctant data``, and the data sets that an experiment loads, as a user meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_specimens import run as command
from data_specimens import Specimen, cifar

from reluctant.reports import loading
from reluctant.reports.data import digits
from reluctant.reports.exhibits import Exhibit
from reluctant.reports.experiment import Experiment, Profile
from reluctant.reports.loading import load
from reluctant.reports.records import Record, Store, read
from reluctant.reports.runner import run
from reluctant.theory.errors import InputError


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Specimen:
    specimen = cifar()
    monkeypatch.setattr(loading, "PUBLICATIONS", {"tiny": specimen.publication})
    return specimen


def test_what_is_there_is_listed_with_what_it_takes(tmp_path: Path, tiny: Specimen) -> None:
    lines = command("data", "--data", str(tmp_path)).stdout.splitlines()
    assert str(tmp_path) in lines[0]
    assert "1347 images to train on" in lines[1] and "inside scikit-learn" in lines[1]
    assert "not there; reluctant data fetch tiny fetches 0 MB" in lines[2]
    tiny.write(tmp_path, packed=True)
    assert (
        f"on disk in {tmp_path}, all checksums right"
        in command("data", "--data", str(tmp_path)).stdout
    )


def test_a_damaged_file_is_listed_as_such(tmp_path: Path, tiny: Specimen) -> None:
    (path,) = tiny.write(tmp_path, packed=True)
    path.write_bytes(b"")
    result = command("data", "--data", str(tmp_path))
    assert result.exit_code == 0
    assert f"{path} is damaged or incomplete" in result.stdout


def test_fetching_what_is_there_says_so(tmp_path: Path, tiny: Specimen) -> None:
    tiny.write(tmp_path, packed=False)
    for words in (
        ("data", "fetch", "tiny", "--data", str(tmp_path)),
        ("data", "--data", str(tmp_path), "fetch", "tiny"),
    ):
        result = command(*words)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("tiny: 6 images to train on, 3 to test on")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data", "fetch", "imagenet"), "no data set is published as 'imagenet'; there are tiny"),
        (("data", "fetch", "tiny"), "tiny-python.tar.gz could not be fetched into"),
        (("data", "--data", "nowhere"), "--data names"),
        (("run", "accuracy", "--data", "nowhere"), "--data names"),
        (("report", "--data", "nowhere"), "--data names"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny: Specimen,
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(loading.VARIABLE, str(tmp_path))
    result = command(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr


@dataclass(frozen=True)
class Setting:
    source: str


class Sizes(Experiment[Setting]):
    name = "sizes"
    title = "Sizes"

    def grid(self, profile: Profile) -> tuple[Setting, ...]:
        return (Setting("digits"), Setting("tiny"))

    def data(self, config: Setting) -> tuple[str, ...]:
        return (config.source,)

    def run(self, config: Setting) -> Mapping[str, Any]:
        return {"images": len(load(config.source).train)}

    def draw(self, records: Sequence[Record]) -> tuple[Exhibit, ...]:
        return ()


def test_a_record_names_the_checksum_of_what_it_loaded(tmp_path: Path, tiny: Specimen) -> None:
    tiny.write(tmp_path, packed=True)
    store = Store(tmp_path / "out")
    results = run(Sizes(), "smoke", store, data=tmp_path)
    first, second = results.records
    assert (first["images"], second["images"]) == (1347, 6)
    assert first.data == {"digits": digits().checksum}
    assert list(second.data) == ["tiny"] and len(second.data["tiny"]) == 64
    kept = read(store.path("sizes", second.digest, second.code))
    assert kept.data == second.data


def test_without_its_data_an_experiment_has_a_gap_and_the_rest_goes_on(
    tmp_path: Path, tiny: Specimen
) -> None:
    results = run(Sizes(), "smoke", Store(tmp_path / "out"), data=tmp_path)
    assert [r.config["source"] for r in results.records] == ["digits"]
    (gap,) = results.gaps
    assert "tiny-python.tar.gz could not be fetched" in gap.reason
    tiny.write(tmp_path, packed=True)
    assert run(Sizes(), "smoke", Store(tmp_path / "out"), data=tmp_path).gaps == ()


def test_a_folder_that_is_none_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which is no folder"):
        run(Sizes(), "smoke", Store(tmp_path / "out"), data=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
