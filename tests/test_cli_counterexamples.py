"""Counterexamples on the terminal, on the page, and given again by their line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_specimens import run
from safetensors.torch import save_file

from reluctant import tables
from reluctant.properties import catalogue
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
    for part in ("REFUTED (unexpected)", "relative violation", "x = [[", "fc2.weight = [["):
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
    lines = list(tables._example(found))
    assert lines == ["smallest example found: 1 = 0 is false", "b = [1, -2]", "all zeros: x, a"]


def test_weights_may_be_words() -> None:
    found = Counterexample("416/125 ≤ 16/5 is false", {"weights": "±σ", "x": [[1.0]]}, "again")
    lines = list(tables._example(found))
    assert lines[1:] == ["x = [[1]]", "weights = ±σ"]


def test_many_numbers_are_described_by_those_that_are_not_zero() -> None:
    zeros = [[0.0] * 10 for _ in range(4)]
    assert tables._array([[1.0, -0.5], [0.0, 1e-9]]) == "[[1, -0.5], [0, 1e-09]]"
    assert tables._array(zeros) == "4 x 10 zeros but for none"
    zeros[2][3] = 7.0
    assert tables._array(zeros) == "4 x 10 zeros but for [2, 3]: 7"
    assert tables._array([[1.0] * 10] * 4) == "4 x 10 numbers; --json lists them"
    assert tables._array("9 x 9 numbers, too many to list") == "9 x 9 numbers, too many to list"
