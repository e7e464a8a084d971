"""Dropping hypotheses: what is needed is found, what is superfluous is not called needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cli_specimens import run

import reluctant as rl
from reluctant.properties import hypotheses as needs
from reluctant.properties.catalogue import select
from reluctant.properties.controls import CONTROLS
from reluctant.properties.families import FAMILIES
from reluctant.properties.pools import Pool
from reluctant.properties.sharpness import sharpness
from reluctant.properties.shelves import Shelf
from reluctant.properties.verification import verify, verify_family
from reluctant.theory.verdicts import Need, Outcome, Report, Sharpness

BY_NAME = {family.name: family for family in (*FAMILIES, *CONTROLS)}
DENSE = [BY_NAME["FC"], BY_NAME["FC, biases"]]
(HADAMARD,) = select(["dual.npk-hadamard"])
(INNER,) = select(["dual.inner-product"])


def test_a_needed_hypothesis_comes_with_its_smallest_counterexample() -> None:
    found = sharpness(HADAMARD, needs.BIAS_FREE, families=DENSE)
    assert (found.need, found.subject) == (Need.NEEDED, "FC, biases")
    assert found.counterexample is not None
    weights = found.counterexample.numbers["weights"]
    assert any("bias" in name for name in weights)
    assert found.counterexample.numbers["left"] != found.counterexample.numbers["right"]


def test_a_superfluous_hypothesis_is_not_seen_to_be_needed() -> None:
    """The output is the inner product with biases too: asking for none of them is too much."""
    cautious = replace(INNER, hypotheses=(needs.BIAS_FREE,))
    found = sharpness(cautious, needs.BIAS_FREE, families=DENSE)
    assert found.need is Need.NOT_SEEN
    assert found.alone > 0
    assert found.counterexample is None


def test_a_hypothesis_that_nobody_breaks_alone_says_so() -> None:
    found = sharpness(HADAMARD, needs.BIAS_FREE, families=DENSE[:1])
    assert (found.need, found.alone) == (Need.NEVER_ALONE, 0)


def test_a_claim_that_cannot_run_without_it_is_no_counterexample() -> None:
    found = sharpness(
        HADAMARD, needs.FULLY_CONNECTED, families=[BY_NAME["conv 1-D, circular, average pool"]]
    )
    assert found.need is Need.DEFINING
    assert found.reason.startswith("conv 1-D, circular, average pool: ")


def test_only_networks_that_meet_the_others_count() -> None:
    """Biases and shared weights at once say nothing about either."""
    both = BY_NAME["conv, circular, biases"]
    assert sharpness(HADAMARD, needs.BIAS_FREE, families=[both]).need is Need.NEVER_ALONE


def test_needs_survive_json() -> None:
    found = sharpness(HADAMARD, needs.BIAS_FREE, families=DENSE)
    report = Report("suite", (), sharpness=(found,))
    again = Report.from_json(report.to_json())
    assert again.sharpness[0].need is Need.NEEDED
    assert again.to_json() == report.to_json()


def test_its_counterexample_is_kept_tried_first_and_shown_again_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "dual.npk-hadamard without bias-free"
    shelf = Shelf(tmp_path)
    found = sharpness(HADAMARD, needs.BIAS_FREE, families=DENSE, shelf=shelf)
    (known,) = Shelf(tmp_path).known
    assert found.counterexample is not None and known.record.statement == name
    line = found.counterexample.reproduce
    assert line == f"reluctant replay {known.path}"
    report = rl.replay(known.path)
    assert report[name].outcome is Outcome.REFUTED and not report.failures
    assert report[name].counterexample == found.counterexample
    assert report.notes == ("both sides are the saved ones, bit for bit",)
    shown = run(*line.split()[1:])
    assert shown.exit_code == 0 and found.counterexample.summary in " ".join(shown.stdout.split())

    with monkeypatch.context() as patch:
        patch.setattr(Pool, "head", lambda *_: pytest.fail("specimens were drawn"))
        again = sharpness(HADAMARD, needs.BIAS_FREE, families=DENSE, shelf=Shelf(tmp_path))
    assert again.counterexample == found.counterexample and again.need is Need.NEEDED
    shelf = Shelf(tmp_path)  # the statement itself knows nothing of it, and keeps it where it is
    verdict = verify_family(HADAMARD, DENSE[1], examples=2, shelf=shelf)
    assert verdict.outcome is Outcome.NOT_IMPLIED and shelf.notes == [] and known.path.exists()


def test_verify_keeps_what_it_finds_without_a_hypothesis(tmp_path: Path) -> None:
    report = verify(["dual.npk-hadamard"], "smoke", dropping=True, counterexamples=tmp_path)
    needed = {n.hypothesis: n for n in report.sharpness if n.need is Need.NEEDED}
    kept = {known.record.statement.partition(" without ")[2] for known in Shelf(tmp_path).known}
    assert kept == {*needed} and needed


def test_what_an_answer_rests_on_is_one_line() -> None:
    assert Sharpness("s", "h", Need.NOT_SEEN, 3).seen == "3 networks without a failure"
    assert Sharpness("s", "h", Need.NEVER_ALONE, 0).seen == ""
    assert Sharpness("s", "h", Need.DEFINING, 0, reason="it has no chain").seen == "it has no chain"
    found = sharpness(HADAMARD, needs.BIAS_FREE, families=DENSE)
    assert found.counterexample is not None
    assert found.seen == f"{found.subject}: {found.counterexample.summary}"


def test_every_control_is_read_and_breaks_something() -> None:
    from reluctant.properties.catalogue import statements
    from reluctant.properties.pools import pool

    for family in CONTROLS:
        trial = next(pool(family, 0).head(1, 3))
        assert any(statement.unmet(trial.net) for statement in statements()), family.name
