"""Counterexamples on disk: whole or not at all, read only if sound, the smallest kept."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conformance_specimens import make_module, make_statement, refuted
from safetensors.torch import load_file, save_file
from torch import nn

from reluctant.properties import saved
from reluctant.properties.judging import Judgement, judge
from reluctant.theory.errors import InputError
from reluctant.theory.parts import Until
from reluctant.theory.single import OneTensor
from reluctant.theory.statements import Trial

FALSE = make_statement()


@pytest.fixture(scope="module")
def found() -> tuple[Trial, Judgement]:
    return refuted(make_module(), FALSE)


def write(
    folder: Path, found: tuple[Trial, Judgement], subject: str = "net", factor: float = 1.0
) -> saved.Saved:
    trial, judgement = found
    if factor != 1.0:
        trial = replace(trial, x=factor * trial.x)
        judgement = judge(FALSE, trial)
    network = saved.module_of(trial.module)
    return saved.write(folder, FALSE.id, subject, trial, judgement, network)


def listed(folder: Path) -> tuple[list[saved.Saved], list[str]]:
    notes: list[str] = []
    return list(saved.read_all(folder, notes.append)), notes


def test_what_is_written_is_read_again(tmp_path: Path, found: tuple[Trial, Judgement]) -> None:
    trial, judgement = found
    mine = write(tmp_path / "new" / "folder", found)
    ((known,), notes) = listed(mine.path.parent)
    assert known == mine and notes == []
    again = known.trial(
        nn.Sequential(nn.Linear(3, 4, False), nn.ReLU(), nn.Linear(4, 2, False)).double()
    )
    assert torch.equal(again.x, trial.x)
    assert again.generator.initial_seed() == trial.generator.initial_seed()
    assert again.limit == trial.limit
    said = judge(FALSE, again)
    (one,), (other,) = said.comparisons, judgement.comparisons
    assert torch.equal(one.left, other.left) and torch.equal(one.right, other.right)
    tensors = load_file(known.path.with_suffix(".safetensors"))
    assert torch.equal(tensors["left"], other.left)
    assert torch.equal(tensors["gates/relu"].double(), trial.gates[0])
    assert tensors["gates/relu"].dtype is torch.bool
    numbers = torch.cat([trial.x.flatten(), *(p.flatten() for p in trial.module.parameters())])
    assert known.record.size[:2] == (len(numbers), int(numbers.count_nonzero()))
    row, column = known.record.entry
    assert float(other.excess[row, column]) == float(other.excess.max()) > 0


def test_the_same_counterexample_is_written_once(
    tmp_path: Path, found: tuple[Trial, Judgement]
) -> None:
    first = write(tmp_path, found)
    stamp = first.path.stat().st_mtime_ns
    assert write(tmp_path, found) == first and first.path.stat().st_mtime_ns == stamp
    assert len(list(tmp_path.iterdir())) == 2
    first.path.with_suffix(".safetensors").write_bytes(b"")
    assert write(tmp_path, found).tensors.keys() == first.record.shapes.keys()
    assert write(tmp_path, found, "other").path != first.path
    assert write(tmp_path, found, factor=2.0).path != first.path


def test_gates_that_are_not_hard_are_numbers() -> None:
    soft = torch.tensor([0.0, 0.5, 1.0])
    assert torch.equal(saved._hard_as_bits(soft), soft)
    assert saved._hard_as_bits(soft.round()).dtype is torch.bool


def test_smaller_is_fewer_numbers_then_more_zeros_then_more_integers(
    tmp_path: Path, found: tuple[Trial, Judgement]
) -> None:
    x, weight = torch.tensor([[1.0, 0.5]]), torch.tensor([0.0, 2.0])
    assert saved._size([x, weight]) == (4, 3, 1)
    record = write(tmp_path, found).record
    for larger, smaller in (((4, 4, 0), (4, 3, 1)), ((4, 3, 1), (4, 3, 0)), ((4, 3, 0), (3, 3, 3))):
        one = saved.Saved(tmp_path / "a.json", replace(record, size=larger))
        other = saved.Saved(tmp_path / "b.json", replace(record, size=smaller))
        assert min(one, other, key=lambda each: each.order) is other


def test_a_file_that_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, found: tuple[Trial, Judgement]
) -> None:
    good = write(tmp_path, found)
    said = json.loads(good.path.read_text())
    without = {k: v for k, v in said.items() if k != "trial"}
    family = {**said, "network": {"family": "FC"}}
    for name, content, words in (
        ("cut", good.path.read_text()[:100], "is damaged: it is no JSON"),
        ("list", "[]", "is no counterexample of reluctant"),
        ("foreign", '{"name": "package"}', "is no counterexample of reluctant"),
        ("newer", json.dumps({**said, "version": 2}), "has version 2 of its format"),
        ("without", json.dumps(without), "is damaged: 'trial' is missing or wrong"),
        ("wrong", json.dumps({**said, "size": "many"}), "is damaged"),
        ("words", json.dumps({**said, "trial": {**said["trial"], "seed": "x"}}), "is damaged"),
        ("choices", json.dumps(family), "is damaged: choices"),
    ):
        path = tmp_path / f"{name}.json"
        path.write_text(content)
        with pytest.raises(InputError, match=words) as error:
            saved.read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    (known, notes) = listed(tmp_path)
    assert known == [good] and len(notes) == 8
    with pytest.raises(InputError, match=r"none\.json: No such file"):
        saved.read(tmp_path / "none.json")


def test_tensors_that_are_not_those_of_the_record_are_refused(
    tmp_path: Path, found: tuple[Trial, Judgement]
) -> None:
    known = write(tmp_path, found)
    beside = known.path.with_suffix(".safetensors")
    content = beside.read_bytes()
    beside.write_bytes(content[:-1])
    with pytest.raises(InputError, match="is damaged: its hash is not that"):
        _ = known.tensors
    beside.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="is damaged: its hash is not that"):
        _ = known.tensors
    beside.unlink()
    with pytest.raises(InputError, match=r"safetensors: No such file or directory; delete"):
        _ = known.tensors


def test_a_hash_does_not_make_other_content_fit(
    tmp_path: Path, found: tuple[Trial, Judgement]
) -> None:
    known = write(tmp_path, found)
    beside = known.path.with_suffix(".safetensors")

    def as_it_is() -> saved.Saved:
        digest = saved.hashlib.sha256(beside.read_bytes()).hexdigest()
        return saved.Saved(known.path, replace(known.record, sha256=digest))

    beside.write_bytes(b"not tensors at all")
    with pytest.raises(InputError, match="holds no tensors"):
        _ = as_it_is().tensors
    save_file({"x": torch.zeros(2)}, beside)
    with pytest.raises(InputError, match="holds other tensors than"):
        _ = as_it_is().tensors


def test_a_module_of_other_shapes_is_refused_by_name(
    tmp_path: Path, found: tuple[Trial, Judgement]
) -> None:
    known = write(tmp_path, found)
    wider = nn.Sequential(nn.Linear(3, 5, False), nn.ReLU(), nn.Linear(5, 2, False)).double()
    with pytest.raises(
        InputError, match=r"parameters/0.weight float64 \[4, 3\], the network float64 \[5, 3\]"
    ):
        known.trial(wider)
    assert saved.fits(known.record, make_module(), torch.zeros(7, 3).double())
    assert not saved.fits(known.record, make_module(), torch.zeros(7, 3))  # float32
    assert not saved.fits(known.record, make_module(), torch.zeros(7, 4).double())
    assert not saved.fits(
        known.record, OneTensor(make_module(), None, 0), torch.zeros(7, 3).double()
    )
    assert not saved.fits(known.record, wider, torch.zeros(7, 3).double())


def test_a_module_of_several_inputs_says_which(found: tuple[Trial, Judgement]) -> None:
    module = Until(OneTensor(nn.Bilinear(2, 3, 1), {"a": (2,), "b": (3,)}, "score"), "%a").eval()
    facts = saved.module_of(module)
    assert facts == {
        "class": "torch.nn.modules.linear.Bilinear",
        "inputs": {"a": [2], "b": [3]},
        "output": "score",
        "until": "%a",
        "training": False,
    }


def test_buffers_are_kept_and_put_back(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return (
            nn.Sequential(nn.Linear(3, 2, False), nn.BatchNorm1d(2, affine=False)).double().eval()
        )

    statement = make_statement(hypotheses=())
    module = make()
    module[1].running_mean.fill_(-9.0)  # type: ignore[index, union-attr]
    found = refuted(module, statement)
    known = write(tmp_path, found)
    again = known.trial(make())
    assert again.module[1].running_mean.tolist() == [-9.0, -9.0]  # type: ignore[index, union-attr]


KILLED = """
import os, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_saved import FALSE, make_module, refuted, saved, write

def dying(path, content):
    if path.suffix == ".json":
        os._exit(9)
    return whole(path, content)

whole, saved.write_whole = saved.write_whole, dying
write(Path(sys.argv[1]), refuted(make_module(), FALSE))
"""


def test_a_kill_between_the_two_files_leaves_nothing_that_counts(
    tmp_path: Path, found: tuple[Trial, Judgement]
) -> None:
    own = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), own], check=False)
    assert done.returncode == 9
    assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]
    assert listed(tmp_path) == ([], [])
    write(tmp_path, found)
    assert len(listed(tmp_path)[0]) == 1 and len(list(tmp_path.iterdir())) == 2


TWO = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from conformance_specimens import make_module, make_statement, refuted
from reluctant.properties.saved import module_of
from reluctant.properties.shelves import Shelf
from reluctant.properties.shrinking import shrunk, Budget

statement = make_statement()
trial, judgement = refuted(make_module(), statement)
budgets = [0, 3, 6, 12, 24]
found = [shrunk(statement, trial, judgement, Budget(budget)) for budget in budgets]
for each in 6 * found[:: int(sys.argv[2])]:
    Shelf(Path(sys.argv[1])).keep(statement, "net", *each, module_of(trial.module))
"""


def test_two_processes_agree_on_the_smallest(tmp_path: Path) -> None:
    own = str(Path(__file__).parent)
    together = [
        subprocess.Popen([sys.executable, "-c", TWO, str(tmp_path), way, own])
        for way in ("1", "-1")
    ]
    assert [process.wait() for process in together] == [0, 0]
    ((known,), notes) = listed(tmp_path)
    assert notes == [] and len(list(tmp_path.iterdir())) == 2
    alone = tmp_path / "alone"
    subprocess.run([sys.executable, "-c", TWO, str(alone), "1", own], check=True)
    ((other,), _) = listed(alone)
    assert (known.record, known.path.name) == (other.record, other.path.name)
