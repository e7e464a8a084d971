"""A theorist's own claims: what they may say, what refutes them, and how the command ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

import reluctant as rl
from reluctant.cli import app
from reluctant.properties import conjectures
from reluctant.properties import hypotheses as needs
from reluctant.properties.controls import CONTROLS
from reluctant.properties.families import FAMILIES
from reluctant.properties.specimens import Family
from reluctant.theory.statements import Statement, Trial

BY_NAME = {family.name: family for family in (*FAMILIES, *CONTROLS)}
FC, CONV = BY_NAME["FC"], BY_NAME["conv 1-D, circular, average pool"]
RAY = ("own ReLU gates", "bias-free")
REPAIRED = (*RAY, "fully connected", "gated")


def opposite_inputs(trial: Trial) -> Tensor:
    return rl.npk(trial.net, trial.x, -trial.x).diagonal()


def claim(returned: Callable[[Trial], Any], *names: str) -> Statement:
    def own(trial: Trial) -> Any:
        return returned(trial)

    return rl.conjecture("my claim", needs=names)(own)


def tried(statement: Statement, *families: Family, shrinking: bool = False) -> Sequence[rl.Verdict]:
    return rl.refute([statement], "quick", families=families, shrinking=shrinking).verdicts


def test_a_conjecture_is_a_statement() -> None:
    made = rl.conjecture("H(x, -x) = 0", needs=RAY)(opposite_inputs)
    assert (made.id, made.title, made.latex) == (
        "conjecture.opposite-inputs",
        *["H(x, -x) = 0"] * 2,
    )
    assert [h.name for h in made.hypotheses] == list(RAY)
    assert made.expected is rl.Outcome.HOLDS


def test_own_words_and_own_hypotheses_are_taken() -> None:
    one = rl.Hypothesis("one output", "There is one.", lambda net: rl.Unmet("one output", "no"))
    made = rl.conjecture("odd", needs=[one, "bias-free"], latex="f(-x)")(opposite_inputs)
    assert made.hypotheses == (one, needs.BIAS_FREE)
    assert made.latex == "f(-x)"
    (verdict,) = tried(made, FC)
    assert verdict.outcome is rl.Outcome.NOT_IMPLIED
    assert verdict.unmet[0].hypothesis == "one output"


def test_an_unknown_hypothesis_is_answered_with_close_names() -> None:
    with pytest.raises(rl.InputError, match=r"no hypothesis is called 'bias free'.*bias-free"):
        rl.conjecture("odd", needs=["bias free"])


def test_every_hypothesis_of_the_registry_can_be_named() -> None:
    for statement in rl.statements():
        made = rl.conjecture("all", needs=[h.name for h in statement.hypotheses])(opposite_inputs)
        assert made.hypotheses == statement.hypotheses


@pytest.mark.parametrize(
    ("returned", "name"),
    [
        (None, "NoneType"),
        (0.0, "float"),
        ("equal", "str"),
        ((), "tuple"),
        ((torch.zeros(1),), "tuple"),
        ((torch.zeros(1),) * 3, "tuple"),
        ([rl.Comparison(torch.zeros(1), torch.zeros(1), 0.0, rl.EvidenceKind.EXACT), None], "list"),
    ],
)
def test_what_cannot_be_compared_is_refused(returned: object, name: str) -> None:
    with pytest.raises(rl.InputError, match=f"“my claim” returned {name}; return a tensor"):
        tried(claim(lambda trial: returned), FC)


def test_sides_of_unequal_shapes_are_refused() -> None:
    sides = torch.zeros(3, 1), torch.zeros(3)
    with pytest.raises(rl.InputError, match=r"shapes \(3, 1\) and \(3,\); give both the same"):
        tried(claim(lambda trial: sides), FC)


def test_an_error_of_the_user_names_the_line() -> None:
    with pytest.raises(rl.InputError, match=r"raised ZeroDivisionError: .*\(test_conj\w+.py:\d+\)"):
        tried(claim(lambda trial: 1 / 0), FC)


def test_an_error_where_a_hypothesis_is_not_met_is_no_error() -> None:
    (verdict,) = tried(claim(lambda trial: 1 / 0, "bias-free"), BY_NAME["FC, biases"])
    assert verdict.outcome is rl.Outcome.NOT_IMPLIED


def test_the_walk_through_is_refuted_by_its_example() -> None:
    """The smallest example is the one that docs/conjectures.md goes through by hand."""
    made = rl.conjecture("opposite", needs=RAY)(opposite_inputs)
    pooled, flat = tried(made, CONV, BY_NAME["conv, zero padding"], shrinking=True)
    assert pooled.outcome is flat.outcome is rl.Outcome.REFUTED
    example = pooled.counterexample
    assert example is not None
    assert example.summary == "opposite: 0.0625 = 0 is false"
    assert sorted(map(abs, example.numbers["weights"]["convolutions.0.1.weight"][0][0])) == [0, 1]
    assert max(example.numbers["left"]) == 1 / 16
    assert not any(example.numbers["right"])
    assert flat.counterexample is None  # one smallest example a conjecture


def test_the_repair_holds_where_it_speaks() -> None:
    made = rl.conjecture("opposite", needs=REPAIRED)(opposite_inputs)
    dense, pooled = tried(made, FC, CONV)
    assert dense.outcome is rl.Outcome.HOLDS
    assert dense.evidence is not None
    assert dense.evidence.kind is rl.EvidenceKind.EXACT
    assert pooled.outcome is rl.Outcome.NOT_IMPLIED
    assert [u.hypothesis for u in pooled.unmet] == ["fully connected"]


@pytest.mark.parametrize(
    ("dropped", "family"),
    [
        ("bias-free", "FC, biases"),
        ("fully connected", "concatenated FC"),
        ("gated", "no gate at all"),
    ],
)
def test_the_repair_needs_what_it_adds(dropped: str, family: str) -> None:
    kept = [name for name in REPAIRED if name != dropped]
    (verdict,) = tried(rl.conjecture("opposite", needs=kept)(opposite_inputs), BY_NAME[family])
    assert verdict.outcome is rl.Outcome.REFUTED


@pytest.mark.parametrize("factor", [3.0, -1.0])
def test_a_wrong_factor_is_refuted(factor: float) -> None:
    made = claim(lambda trial: (trial.module(2 * trial.x), factor * trial.output), *RAY)
    assert tried(made, FC)[0].outcome is rl.Outcome.REFUTED
    right = claim(lambda trial: (trial.module(2 * trial.x), 2 * trial.output), *RAY)
    assert tried(right, FC)[0].outcome is rl.Outcome.HOLDS


def test_what_rounds_is_not_judged_and_is_named() -> None:
    (verdict,) = tried(
        claim(lambda trial: (trial.module(trial.x / 10), trial.output / 10), *RAY), FC
    )
    assert verdict.outcome is rl.Outcome.INCONCLUSIVE
    assert "rounds in div" in verdict.reason
    (verdict,) = tried(claim(lambda trial: trial.output.exp() + 1), FC)
    assert verdict.outcome is rl.Outcome.INCONCLUSIVE
    assert "rounds in exp" in verdict.reason


def test_a_comparison_brings_its_own_bound() -> None:
    def between(trial: Trial) -> list[rl.Comparison]:
        size, kind = trial.output.abs(), rl.EvidenceKind.ROUNDING
        below = rl.Comparison(trial.output, size, 0.0, kind, "at most", what="below")
        above = rl.Comparison(-trial.output, size, 0.0, kind, "at most", what="above")
        return [below, above]

    (verdict,) = tried(claim(between), FC)
    assert (verdict.outcome, verdict.evidence is not None) == (rl.Outcome.HOLDS, True)
    assert verdict.evidence is not None
    assert verdict.evidence.kind is rl.EvidenceKind.ROUNDING
    assert "below; above" in verdict.evidence.detail
    (verdict,) = tried(claim(lambda trial: between(trial)[0]), FC)
    assert verdict.outcome is rl.Outcome.HOLDS

    def wrong(trial: Trial) -> rl.Comparison:
        kind = rl.EvidenceKind.ROUNDING
        return rl.Comparison(trial.output.abs(), trial.output, 0.0, kind, "at most")

    assert tried(claim(wrong), FC)[0].outcome is rl.Outcome.REFUTED


def test_two_sides_that_always_vanish_say_nothing() -> None:
    zero = claim(lambda trial: (trial.output.new_zeros(3), trial.output.new_zeros(3)))
    (verdict,) = tried(zero, FC)
    assert verdict.outcome is rl.Outcome.INCONCLUSIVE
    assert "both sides vanish" in verdict.reason


def test_a_residual_counts_on_networks_with_an_output_only() -> None:
    (verdict,) = tried(claim(lambda trial: trial.output * 0), FC)
    assert verdict.outcome is rl.Outcome.HOLDS
    assert verdict.evidence is not None
    assert verdict.evidence.vacuous > 0


def test_names_and_efforts_are_checked_first() -> None:
    one = claim(opposite_inputs)
    with pytest.raises(rl.InputError, match=r"two conjectures are called conjecture.own; rename"):
        rl.refute([one, claim(opposite_inputs)])
    with pytest.raises(rl.InputError, match="quick, default, thorough, not 'heroic'"):
        rl.refute([one], "heroic")


def test_an_interruption_keeps_what_was_found() -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        assert total == 2
        if done == 1:
            raise KeyboardInterrupt

    report = rl.refute([claim(lambda t: t.output * 0)], "quick", interrupt, families=(FC, CONV))
    assert [v.subject for v in report] == ["FC"]
    assert "interrupted" in report.notes[0]


FILE = """
import reluctant as rl

@rl.conjecture("output is twice its half")
def true(trial):
    return trial.output, 2 * (trial.output / 2)

"""
FALSE = """
@rl.conjecture("output vanishes")
def false(trial):
    return trial.output
"""
ROUNDS = """
@rl.conjecture("output is three times its third")
def rounds(trial):
    return trial.output, 3 * (trial.output / 3)
"""


@pytest.fixture
def refute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run the command on a file of this text, on fully connected networks only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conjectures, "refute", partial(conjectures.refute, families=(FC,)))

    def run(text: str, *options: str) -> Result:
        Path("own_claims.py").write_text(text, encoding="utf-8")
        return CliRunner().invoke(app, ["refute", "own_claims.py", "--effort", "quick", *options])

    return run


def test_command_ends_with_0_where_nothing_is_refuted(refute: Callable[..., Result]) -> None:
    done = refute(FILE)
    assert done.exit_code == 0, done.output
    assert "conjecture.true" in done.output
    assert "1 HOLDS, 0 unexpected" in done.output


def test_command_ends_with_1_and_shows_the_example(refute: Callable[..., Result]) -> None:
    done = refute(FILE + FALSE, "--seed", "3", "--json", "out.json")
    assert done.exit_code == 1, done.output
    assert "1 HOLDS, 1 REFUTED, 1 unexpected" in done.output
    assert "smallest example found: output vanishes: " in done.output
    again = "conjecture.false again: reluctant refute own_claims.py --effort quick --seed 3"
    assert again in done.output
    verdicts = json.loads(Path("out.json").read_text(encoding="utf-8"))["verdicts"]
    assert [v["outcome"] for v in verdicts] == ["HOLDS", "REFUTED"]
    assert verdicts[1]["counterexample"]["numbers"]["x"]


def test_command_counts_rounding_if_strict(refute: Callable[..., Result]) -> None:
    assert refute(FILE + ROUNDS).exit_code == 0
    done = refute(FILE + ROUNDS, "--strict")
    assert done.exit_code == 1
    assert "INCONCLUSIVE" in done.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import reluctant as rl\n", "has no conjecture; put @rl.conjecture"),
        ("from reluctant.properties.path_sums import *\n", "has no conjecture"),
        (FILE.replace('half"', 'half", needs=["bias"]'), "did you mean bias-free"),
        (FILE.replace("return trial", "return 2, trial"), "returned tuple; return a tensor"),
        (FILE.replace("trial.output,", "trial.outputs,"), "(own_claims.py:6); mend it"),
        (FILE + "1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_command_ends_with_2_on_misuse(refute: Callable[..., Result], text: str, said: str) -> None:
    done = refute(text)
    assert done.exit_code == 2, done.output
    assert said in done.output


def test_command_names_a_file_that_is_missing() -> None:
    done = CliRunner().invoke(app, ["refute", "nowhere.py"])
    assert done.exit_code == 2
    assert "there is no file nowhere.py" in done.output
