"""Counterexamples on the terminal, on the page, and given again by their line."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_specimens import run
from safetensors.torch import save_file

from reluctant import targets
from reluctant.properties import catalogue, conjectures
from reluctant.properties.families import FAMILIES
from reluctant.theory.example_lines import array_line, example_lines
from reluctant.theory.verdicts import Counterexample, Report

pytestmark = pytest.mark.usefixtures("here")


FALSE = """
from reluctant.properties import catalogue, hypotheses
from reluctant.theory.statements import Comparison, Kind, Statement
from reluctant.theory.verdicts import EvidenceKind

def claim(trial):
    return [Comparison(trial.output, 0 * trial.output, 0.0, EvidenceKind.EXACT, "at most", "f")]

STATEMENT = Statement(
    "test.false", "False", Kind.EXACT, "f", (), (hypotheses.BIAS_FREE,), claim, ()
)
"""


@pytest.fixture
def false(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scope: dict[str, Any] = {}
    exec(FALSE, scope)
    monkeypatch.setattr(catalogue, "statements", lambda: (scope["STATEMENT"],))


@pytest.mark.usefixtures("false")
def test_a_refuted_statement_shows_a_small_example_and_a_line_that_gives_it_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"fc1.weight": torch.randn(4, 3), "fc2.weight": torch.ones(2, 4)}
    save_file(weights, here / "my weights.safetensors")
    np.savez(here / "data.npz", x=np.random.default_rng(0).normal(size=(6, 3)))
    files = ("--weights", "my weights.safetensors", "--data", "data.npz", "--seed", "5")
    monkeypatch.setenv("COLUMNS", "80")  # less than the line that gives the example again
    result = run("check", "my_net:Net", *files, "--effort", "quick", "--json", "a.json")
    assert result.exit_code == 1, result.output
    (found,) = Report.load(here / "a.json")
    assert found.counterexample is not None
    example = found.counterexample
    assert example.numbers["place"] == "my_net.py:12"
    assert set(example.numbers["weights"]) == {"fc1.weight", "fc2.weight"}
    shown = " ".join(result.stdout.split())
    assert f"smallest example found: {example.summary}" in shown
    for part in ("REFUTED", "(unexpected)", "relative violation", "x = [[", "fc2.weight = [["):
        assert part in shown, shown
    assert f"test.false again: {example.reproduce}" in result.stdout.splitlines()
    command, *args = shlex.split(example.reproduce)
    assert command == "reluctant" and "my weights.safetensors" in args
    again = run(*args, "--json", "b.json")
    assert again.exit_code == 1, again.output
    assert Report.load(here / "b.json")["test.false"].counterexample == example


@pytest.mark.usefixtures("false")
def test_the_page_shows_the_example(here: Path) -> None:
    files = ("--html", "out.html", "--markdown", "out.md")
    assert run("check", "my_net:Net", "--input", "3", *files).exit_code == 1
    page = (here / "out.html").read_text(encoding="utf-8")
    text = (here / "out.md").read_text(encoding="utf-8")
    assert "## Counterexamples" in text and "--statements test.false" in text
    for part in ("fc1.weight", "my_net.py:12", "--statements test.false", "violated by"):
        assert part in page, part


def test_tensors_that_are_zero_are_only_named() -> None:
    numbers = {"x": [[0.0, 0.0]], "weights": {"a": [0.0], "b": [1.0, -2.0]}}
    found = Counterexample("1 = 0 is false", numbers, "again")
    lines = list(example_lines(found))
    assert lines == ["smallest example found: 1 = 0 is false", "b = [1, -2]", "all zeros: x, a"]


def test_weights_may_be_words() -> None:
    found = Counterexample("416/125 ≤ 16/5 is false", {"weights": "±σ", "x": [[1.0]]}, "again")
    lines = list(example_lines(found))
    assert lines[1:] == ["x = [[1]]", "weights = ±σ"]


def test_many_numbers_are_described_by_those_that_are_not_zero() -> None:
    zeros = [[0.0] * 10 for _ in range(4)]
    assert array_line([[1.0, -0.5], [0.0, 1e-9]]) == "[[1, -0.5], [0, 1e-09]]"
    assert array_line(zeros) == "4 x 10 zeros but for none"
    zeros[2][3] = 7.0
    assert array_line(zeros) == "4 x 10 zeros but for [2, 3]: 7"
    assert array_line([[1.0] * 10] * 4) == "4 x 10 numbers; --json lists them"
    assert array_line("9 x 9 numbers, too many to list") == "9 x 9 numbers, too many to list"


KEPT = ".reluctant/counterexamples"


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELUCTANT_COUNTEREXAMPLES")


def reproduced(line: str) -> tuple[int, Report]:
    command, *args = shlex.split(line)
    assert command == "reluctant"
    result = run(*args, "--json", "again.json")
    assert "both sides are the saved ones, bit for bit" in result.stdout, result.output
    return result.exit_code, Report.load("again.json")


@pytest.mark.usefixtures("false", "usual")
def test_what_a_check_found_is_kept_listed_and_shown_again(here: Path) -> None:
    quick = ("--effort", "quick", "--json", "a.json")
    found = run("check", "my_net:Net", "--input", "3", "--seed", "7", *quick)
    assert found.exit_code == 1, found.output
    (verdict,) = Report.load(here / "a.json")
    assert verdict.counterexample is not None
    line = verdict.counterexample.reproduce
    (file,) = (here / KEPT).glob("*.json")
    assert line == f"reluctant replay {KEPT}/{file.name} my_net:Net"
    code, report = reproduced(line)
    assert (code, report["test.false"].counterexample) == (1, verdict.counterexample)
    listed = run("counterexamples").stdout.splitlines()
    assert listed[0].startswith("test.false on my_net:Net: f: ") and listed[1].strip() == line
    assert listed[2] == f"1 counterexamples in {KEPT}"
    (here / KEPT / "other.json").write_text("{")
    assert "note: " in run("counterexamples", KEPT).stderr
    for args, words in (
        (
            (str(file),),
            "this counterexample is of my_net.Net; name the network as well: my_net:Net",
        ),
        ((str(file), "my_net:biased"), "has parameters/fc1.bias"),
        ((str(file), "my_net:Other"), "my_net has no 'Other'"),
        (("none.json",), "none.json: No such file or directory; reluctant counterexamples lists"),
        ((KEPT + "/other.json",), "other.json is damaged: it is no JSON; delete it"),
    ):
        result = run("replay", *args)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert words in result.stderr, result.stderr


@pytest.mark.usefixtures("false", "usual")
def test_nothing_is_kept_where_nobody_wants_it(here: Path) -> None:
    args = ("check", "my_net:Net", "--input", "3", "--effort", "quick")
    result = run(*args, "--counterexamples", "")
    assert result.exit_code == 1 and "again: reluctant check" in result.stdout
    assert not (here / ".reluctant").exists()
    assert run("counterexamples").stdout == f"0 counterexamples in {KEPT}\n"
    result = run(*args, "--counterexamples", "my_net.py")
    assert result.exit_code == 2
    assert "my_net.py is a file; counterexamples are kept in a folder" in result.stderr


@pytest.mark.usefixtures("false", "usual")
@pytest.mark.parametrize(
    "args",
    [
        ("my_net:Both", "--input", "3", "--input", "2", "--output", "sum"),
        ("my_net:lazy", "--input", "3"),
        ("my_net:Gelu", "--input", "3", "--until", "fc1"),
    ],
    ids=["several inputs", "lazily built", "a part"],
)
def test_a_network_is_made_again_as_the_check_made_it(here: Path, args: tuple[str, ...]) -> None:
    assert run("check", *args, "--effort", "quick", "--json", "a.json").exit_code == 1
    (verdict,) = Report.load(here / "a.json")
    assert verdict.counterexample is not None
    _, report = reproduced(verdict.counterexample.reproduce)
    assert report["test.false"].counterexample == verdict.counterexample


CLAIMS = """
import reluctant as rl

@rl.conjecture("the output is even", needs=["bias-free"])
def even(trial):
    return trial.module(-trial.x), trial.output
"""


@pytest.mark.usefixtures("usual")
def test_what_refutes_a_conjecture_is_shown_again_on_the_network_built_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "claims.py").write_text(CLAIMS)
    few = partial(conjectures.refute, families=FAMILIES[:1])
    monkeypatch.setattr(conjectures, "refute", few)
    result = run("refute", "claims.py", "--effort", "quick", "--json", "a.json")
    assert result.exit_code == 1, result.output
    (verdict,) = Report.load(here / "a.json")
    assert verdict.counterexample is not None
    line = verdict.counterexample.reproduce
    assert line.startswith(f"reluctant replay {KEPT}/conjecture.even-FC-")
    code, report = reproduced(line)
    assert (code, report["conjecture.even"].counterexample) == (1, verdict.counterexample)
    action, file = shlex.split(line)[1:3]
    result = run(action, file)
    assert result.exit_code == 2 and "name the file of its conjecture" in result.stderr
    result = run(action, file, "claims.py", "--device", "cuda")
    assert result.exit_code == 2 and "on the cpu; leave out --device cuda" in result.stderr
    claims = targets.load_conjectures("claims.py")
    monkeypatch.setattr(catalogue, "statements", lambda: claims)
    result = run(action, file, "claims.py")
    assert result.exit_code == 2 and "is built from the file" in result.stderr
