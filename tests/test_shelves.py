"""Known counterexamples are tried first, new ones are kept, and each is shown again by its line."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conformance_specimens import X, make_module, make_statement, output_is_at_most_two, refuted
from torch import Tensor, nn

import reluctant as rl
from reluctant.properties import (
    catalogue,
    conformance,
    exact,
    parametrize_with_statements,
    saved,
    shelves,
)
from reluctant.properties.controls import CONTROLS
from reluctant.properties.families import FAMILIES
from reluctant.properties.pools import pool
from reluctant.properties.shelves import Shelf, shelf_at
from reluctant.properties.shrinking import Budget, shrunk
from reluctant.properties.specimens import Family
from reluctant.properties.verification import verify_family
from reluctant.theory import ledger
from reluctant.theory.errors import InputError
from reluctant.theory.statements import Kind, Trial
from reluctant.theory.verdicts import Counterexample, Outcome, Report


class Counting:
    """Count how often a claim is judged."""

    def __init__(self, claim: Any) -> None:
        self.claim, self.calls = claim, 0

    def __call__(self, trial: Trial) -> Any:
        self.calls += 1
        return self.claim(trial)


@pytest.fixture
def false(monkeypatch: pytest.MonkeyPatch) -> Counting:
    claim = Counting(output_is_at_most_two)
    monkeypatch.setattr(catalogue, "statements", lambda: (make_statement(claim),))
    return claim


def check(folder: Path, module: nn.Module | None = None, x: Tensor = X, **options: Any) -> Report:
    module = make_module() if module is None else module
    return rl.check(module, x, data=4 * x, effort="quick", counterexamples=folder, **options)


def example_of(report: Report) -> Counterexample:
    (verdict,) = report
    assert verdict.outcome is Outcome.REFUTED and verdict.counterexample is not None
    return verdict.counterexample


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def test_a_known_counterexample_is_tried_first_and_ends_the_search(
    false: Counting, tmp_path: Path
) -> None:
    first = check(tmp_path, seed=3)
    assert false.calls > 10 and len(files(tmp_path)) == 1
    false.calls = 0
    again = check(tmp_path, seed=4)  # other trials would be drawn
    assert false.calls == 1 and again.notes == first.notes == ()
    assert example_of(again) == example_of(first)
    assert again["test.false"].evidence is not None and again["test.false"].evidence.trials == 1


def test_its_line_shows_it_again_bit_for_bit(false: Counting, tmp_path: Path) -> None:
    found = example_of(check(tmp_path))
    module = make_module()
    nn.init.zeros_(module[0].weight)  # type: ignore[arg-type]
    again = eval(found.reproduce, {"reluctant": rl, "module": module})
    assert example_of(again) == found
    assert again.notes == ("both sides are the saved ones, bit for bit",)
    assert not module[0].weight.any()  # type: ignore[union-attr, operator]
    with pytest.raises(InputError, match=r"is of torch\.nn.*Sequential; name the network as well"):
        rl.replay(files(tmp_path)[0])
    with pytest.raises(InputError, match=r"has parameters/0.weight .*; name the network"):
        rl.replay(files(tmp_path)[0], make_module().float())


def test_sides_that_changed_are_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, false: Counting
) -> None:
    check(tmp_path)
    (path,) = files(tmp_path)

    def doubled(trial: Trial) -> Any:
        (one,) = output_is_at_most_two(trial)
        return [replace(one, left=2 * one.left)]

    false.claim = doubled
    (note,) = rl.replay(path, make_module()).notes
    assert note.startswith("the sides are not quite the saved ones, f: 3 ≤ 2 is false, found with")
    false.claim = lambda trial: [replace(output_is_at_most_two(trial)[0], bound=1e9)]
    report = rl.replay(path.with_suffix(".safetensors"), make_module())
    assert report.notes == ("known counterexample no longer fails",)
    assert report["test.false"].outcome is Outcome.HOLDS
    monkeypatch.setattr(catalogue, "statements", lambda: (make_statement(id="test.falsehood"),))
    with pytest.raises(InputError, match=r"'test.false'; did it become test.falsehood"):
        rl.replay(path, make_module())


@pytest.mark.usefixtures("false")
def test_what_is_of_other_shapes_is_passed_over_and_lies_beside(tmp_path: Path) -> None:
    check(tmp_path)
    wider = nn.Sequential(nn.Linear(3, 5, False), nn.ReLU(), nn.Linear(5, 2, False)).double()
    for layer in (wider[0], wider[2]):
        nn.init.ones_(layer.weight)  # type: ignore[arg-type]
    report = check(tmp_path, wider)
    assert report.notes == () and len(files(tmp_path)) == 2
    assert any(str(path) in example_of(report).reproduce for path in files(tmp_path))


def test_a_fitting_one_of_another_subject_is_tried_and_kept_under_its_own_name(
    false: Counting, tmp_path: Path
) -> None:
    check(tmp_path)
    false.calls = 0
    found = example_of(check(tmp_path, name="other"))
    assert false.calls == 1 and len(files(tmp_path)) == 2
    assert "test.false-other-" in found.reproduce


def test_what_no_longer_fails_is_said_and_kept_until_another_is_found(
    false: Counting, tmp_path: Path
) -> None:
    check(tmp_path)
    (path,) = files(tmp_path)
    false.claim = lambda trial: [replace(output_is_at_most_two(trial)[0], bound=1e9)]
    report = check(tmp_path)
    assert report["test.false"].outcome is Outcome.HOLDS
    assert report.notes == (f"known counterexample no longer fails: {path}",)
    assert files(tmp_path) == [path]
    false.claim = lambda trial: [replace(output_is_at_most_two(trial)[0], bound=1.0)]
    report = check(tmp_path, seed=3)
    assert report.notes == (f"known counterexample no longer fails: {path}",)
    (other,) = files(tmp_path)  # larger, but it fails
    assert other != path and str(other) in example_of(report).reproduce


def test_the_smaller_one_is_kept(tmp_path: Path) -> None:
    statement = make_statement()
    large = refuted(make_module(), statement)
    small = shrunk(statement, *large, Budget(40))
    network = saved.module_of(large[0].module)
    line = Shelf(tmp_path).keep(statement, "net", *large, network)
    assert line is not None and str(files(tmp_path)[0]) in line
    line = Shelf(tmp_path).keep(statement, "net", *small, network)
    (path,) = files(tmp_path)
    assert line is not None and str(path) in line and len(list(tmp_path.iterdir())) == 2
    assert Shelf(tmp_path).keep(statement, "net", *large, network) is None
    assert files(tmp_path) == [path] and len(list(tmp_path.iterdir())) == 2
    assert Shelf(tmp_path).keep(statement, "other net", *large, network) is not None


def test_damaged_files_are_noted_and_passed_over(false: Counting, tmp_path: Path) -> None:
    found = example_of(check(tmp_path))
    (path,) = files(tmp_path)
    (tmp_path / "notes.json").write_text("{}")
    path.with_suffix(".safetensors").write_bytes(b"?")
    report = check(tmp_path)
    one, other = report.notes
    assert one == f"{tmp_path / 'notes.json'} is no counterexample of reluctant; move it elsewhere"
    assert other.startswith("known counterexample cannot be tried: ") and "is damaged" in other
    assert example_of(report) == found  # found anew, and written over what was damaged
    assert check(tmp_path).notes == (one,)


@pytest.mark.usefixtures("false")
def test_a_folder_that_takes_no_files_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(saved, "write_whole", refuse)
    report = check(tmp_path / "there")
    (note,) = report.notes
    assert note.startswith("the counterexample of test.false is not kept: ")
    assert "Permission denied" in note
    assert example_of(report).reproduce.startswith("reluctant.check(module, example, ")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file; counterexamples are kept in a folder"):
        check(tmp_path / "file")
    monkeypatch.undo()
    (tmp_path / "file" / "below").parent.touch()
    monkeypatch.setattr(catalogue, "statements", lambda: (make_statement(),))
    assert "not kept" in check(tmp_path / "file" / "below").notes[0]


def test_the_folder_is_given_or_named_or_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    false, printed = make_statement(), replace(make_statement(), kind=Kind.FALSE_AS_PRINTED)
    monkeypatch.delenv(shelves.VARIABLE)
    usual = shelf_at(None)
    assert usual.folder == Path(".reluctant/counterexamples")
    assert usual.keeps(false) and not usual.keeps(printed)
    monkeypatch.setenv(shelves.VARIABLE, "named")
    assert shelf_at(None).folder == Path("named") and shelf_at(None).keeps(printed)
    assert shelf_at("given").folder == Path("given") and shelf_at("").folder is None
    assert not shelf_at("").keeps(printed)


def family(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


def test_a_mutant_is_refuted_once_and_for_all_on_a_network_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (true,) = catalogue.select(["dual.inner-product"])
    claim = Counting(partial(true.claim, **true.mutants[0].ingredients))
    wrong, dense = replace(true, claim=claim), family("FC")
    monkeypatch.setattr(catalogue, "statements", lambda: (wrong,))
    first = verify_family(wrong, dense, examples=5, shelf=Shelf(tmp_path))
    assert first.outcome is Outcome.REFUTED and first.counterexample is not None
    claim.calls = 0
    again = verify_family(wrong, dense, examples=5, seed_=9, shelf=Shelf(tmp_path))
    assert claim.calls == 1 and again.counterexample == first.counterexample
    line = shlex.split(first.counterexample.reproduce)
    assert line == ["reluctant", "replay", str(files(tmp_path)[0])]
    report = rl.replay(line[-1])
    assert example_of(report) == first.counterexample
    assert report.notes == ("both sides are the saved ones, bit for bit",)
    with pytest.raises(InputError, match="of the family 'FC'; leave the module out"):
        rl.replay(line[-1], make_module())
    claim.calls, shelf = 0, Shelf(tmp_path)
    assert shelf.retried(wrong, "FC", shelves.of_family(family("FC, leaky"))) is None
    assert claim.calls == 0 and shelf.notes == []
    assert shelf.retried(true, "FC, leaky", shelves.of_family(dense)) is None
    assert shelf.notes == []  # another's
    assert shelf.retried(true, "FC", shelves.of_family(dense)) is None
    assert shelf.notes == [f"known counterexample no longer fails: {line[-1]}"]
    (known,) = shelf.known
    for choices, words in (([1], "does not build"), ([2, [2], 1, 7], "needs fewer choices")):
        network = {**known.record.network, "choices": choices}
        other = replace(known, record=replace(known.record, network=network))
        with pytest.raises(InputError, match=f"family “FC” {words}"):
            shelves.of_family(dense)(other)


@pytest.mark.parametrize("each", (*FAMILIES, *CONTROLS), ids=lambda family: family.name)
def test_an_architecture_is_built_again_from_its_choices(each: Family) -> None:
    for trial in pool(each).head(4):
        module = each.architecture(json.loads(json.dumps(trial.choices)))
        state = [*module.parameters(), *module.buffers()]
        saved_state = [*trial.module.parameters(), *trial.module.buffers()]
        with torch.no_grad():
            for mine, its in zip(state, saved_state, strict=True):
                mine.copy_(its)
        assert torch.equal(module(trial.x), trial.module(trial.x))


def test_a_fresh_process_shows_a_printed_falsehood_again(tmp_path: Path) -> None:
    (printed,) = catalogue.select(["ntk.signal-vs-wire"])
    shelf = Shelf(tmp_path / "kept")
    verdict = verify_family(printed, family("FC"), examples=3, shelf=shelf)
    assert verdict.counterexample is not None
    command, *args = shlex.split(verdict.counterexample.reproduce)
    out = tmp_path / "out.json"
    line = [sys.executable, "-m", command, *args, "--json", str(out)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr  # refuted, as it should be
    assert "note: both sides are the saved ones, bit for bit" in done.stdout
    assert example_of(Report.load(out)) == verdict.counterexample


@pytest.mark.usefixtures("false")
def test_a_parametrized_test_keeps_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shelves.VARIABLE, str(tmp_path / "kept"))
    mark: Any = parametrize_with_statements([make_module()], example=9 * X)

    @mark
    def marked(check: Any) -> None: ...

    (case,) = (each.values[0] for each in marked.pytestmark[0].args[1])
    monkeypatch.setattr(ledger, "_verdicts", [])
    with pytest.raises(AssertionError, match=r"again: reluctant\.replay\('.*kept/test\.false-"):
        case()
    (path,) = files(tmp_path / "kept")
    assert torch.equal(saved.read(path).tensors["right"], torch.full((2, 2), 2.0).double())


def test_what_primes_refute_is_held_in_inputs_and_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (true,) = catalogue.select(["dual.inner-product"])
    assert true.modular is not None
    fault, other = true.mutants[0], true.modular.mutants[0]
    modular = replace(true.modular, claim=partial(true.modular.claim, **other.ingredients))
    false = replace(true, claim=partial(true.claim, **fault.ingredients), modular=modular)
    monkeypatch.setattr(conformance, "chosen_statements", lambda _: (false,))
    monkeypatch.setattr(exact, "is_large", lambda _: True)
    tried: list[str] = []

    def counting(*given: Any, **named: Any) -> Any:
        tried.append("")
        return exact.try_statement(*given, **named)

    monkeypatch.setattr(conformance, "try_statement", counting)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    x = torch.randn(3, 3)
    verdict = rl.check(module, x, counterexamples=tmp_path)["dual.inner-product"]
    assert tried
    assert verdict.outcome is Outcome.REFUTED
    assert verdict.counterexample is not None
    assert len(verdict.counterexample.numbers["x"]) == 2
    (kept,) = tmp_path.glob("*.json")
    again = rl.check(module, x, counterexamples=tmp_path)["dual.inner-product"]
    assert again.counterexample is not None
    assert again.counterexample.numbers == verdict.counterexample.numbers
    assert kept.exists()
