"""Checking one's own network from Python: verdicts, small counterexamples, nothing left changed."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance_specimens import X, make_module, make_statement
from torch import Tensor, nn

import reluctant as rl
from reluctant.properties import catalogue
from reluctant.theory.statements import CannotTry, Comparison, Statement, Trial
from reluctant.theory.verdicts import EvidenceKind, Outcome, Report


@pytest.fixture
def false(monkeypatch: pytest.MonkeyPatch) -> Statement:
    statement = make_statement()
    monkeypatch.setattr(catalogue, "statements", lambda: (statement,))
    return statement


def test_a_refuted_verdict_shows_both_sides_the_place_and_the_example(
    false: Statement, tmp_path: Path
) -> None:
    module, data = make_module(), 9 * X
    report = rl.check(module, X, data=data, effort="quick", seed=3)
    (verdict,) = report
    assert verdict.outcome is Outcome.REFUTED and report.failures == (verdict,)
    assert verdict.measured is not None and verdict.measured > 0
    found = verdict.counterexample
    assert found is not None
    numbers = found.numbers
    row, column = numbers["entry"]
    assert numbers["left"][row][column] > numbers["right"][row][column] == 2
    assert numbers["place"] == "2 (Linear)"
    twin = make_module()
    twin.load_state_dict({k: torch.tensor(v) for k, v in numbers["weights"].items()})
    assert twin(torch.tensor(numbers["x"]).double()).tolist() == numbers["left"]
    saved = json.loads(report.save(tmp_path / "r.json").read_text())
    assert saved["verdicts"][0]["counterexample"]["numbers"]["weights"] == numbers["weights"]


def test_the_line_of_a_counterexample_gives_it_again(false: Statement) -> None:
    scope = {"reluctant": rl, "module": make_module(), "example": X, "data": 4 * X}
    found = rl.check(make_module(), X, data=4 * X, effort="quick", seed=3)["test.false"]
    assert found.counterexample is not None
    line = found.counterexample.reproduce
    assert line == (
        'reluctant.check(module, example, ["test.false"], data=data, effort="quick", seed=3)'
    )
    again = eval(line, scope)["test.false"]
    assert again.counterexample == found.counterexample


def test_large_weights_are_described_not_listed(false: Statement) -> None:
    module = nn.Sequential(
        nn.Linear(3, 2000, bias=False), nn.ReLU(), nn.Linear(2000, 2, bias=False)
    )
    with torch.no_grad():
        module.get_parameter("2.weight").fill_(1.0)
    (verdict,) = rl.check(module.double(), 9 * X, effort="quick")
    assert verdict.counterexample is not None
    weights = verdict.counterexample.numbers["weights"]
    assert weights["0.weight"] == "2000 x 3 numbers, too many to list"
    assert isinstance(weights["2.weight"], list)


def test_numbers_that_are_not_finite_are_json_and_come_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def undefined(trial: Trial) -> Sequence[Comparison]:
        return [Comparison(trial.output / 0, trial.output, 0.0, EvidenceKind.EXACT, what="f")]

    monkeypatch.setattr(catalogue, "statements", lambda: (make_statement(undefined),))
    report = rl.check(make_module(), X, effort="quick")
    evidence, measured = report["test.false"].evidence, report["test.false"].measured
    assert evidence is not None and evidence.residual == math.inf
    assert measured is not None and math.isnan(measured)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = report.save(tmp_path / "r.json").read_text()
    json.loads(text, parse_constant=refuse)
    again = Report.load(tmp_path / "r.json")["test.false"]
    assert again.evidence == evidence
    assert again.measured is not None and math.isnan(again.measured)


def test_what_is_not_implied_says_what_became_of_the_conclusion() -> None:
    def raising(trial: Trial) -> Sequence[Comparison]:
        raise ValueError("no kernel here")

    def silently_raising(trial: Trial) -> Sequence[Comparison]:
        raise AssertionError

    def check(claim: Any, monkeypatch: pytest.MonkeyPatch) -> rl.Verdict:
        monkeypatch.setattr(catalogue, "statements", lambda: (make_statement(claim),))
        (verdict,) = rl.check(make_module(bias=True), X, effort="quick")
        assert verdict.outcome is verdict.expected is Outcome.NOT_IMPLIED
        return verdict

    with pytest.MonkeyPatch.context() as patch:
        broken = check(
            lambda t: [Comparison(t.output, t.output + 1, 0.0, EvidenceKind.EXACT)], patch
        )
        assert broken.measured and not broken.remark
        fine = check(lambda t: [Comparison(t.output, t.output, 0.0, EvidenceKind.EXACT)], patch)
        assert fine.measured == 0 and "not violated beyond its error bound" in fine.remark
        failed = check(raising, patch)
        assert failed.measured is None
        assert failed.remark == "not measured: no kernel here"
        silent = check(silently_raising, patch)
        assert silent.remark == "not measured: what it claims is not defined"


def test_one_statement_that_cannot_be_tried_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unusable(trial: Trial) -> Sequence[Comparison]:
        raise rl.InputError("the drawn weights overflow")

    def unreadable(trial: Trial) -> Sequence[Comparison]:
        raise rl.UnsupportedOperation("aten.x at n = 1", operation="aten.x", where="net.py:1")

    statements = [make_statement(c, id=f"t.{c.__name__}") for c in (unusable, unreadable)]
    held = make_statement(lambda t: [Comparison(t.output, t.output, 0.0, EvidenceKind.EXACT)])
    monkeypatch.setattr(catalogue, "statements", lambda: (*statements, held))
    report = rl.check(make_module(), X)
    assert [str(v.outcome) for v in report] == ["INCONCLUSIVE", "UNSUPPORTED", "HOLDS"]
    assert "cannot be tried: the drawn weights overflow" in report["t.unusable"].reason
    assert report["t.unreadable"].unmet[0].where == "net.py:1"


def test_examples_in_which_both_sides_vanish_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[bool] = []

    def claim(trial: Trial) -> Sequence[Comparison]:
        side = trial.output * alive[seen.append(1) or len(seen) - 1]  # type: ignore[func-returns-value]
        return [Comparison(side, side, 0.0, EvidenceKind.EXACT)]

    monkeypatch.setattr(catalogue, "statements", lambda: (make_statement(claim),))
    for effort, lives, outcome, trials, vacuous in (
        ("quick", [True], Outcome.HOLDS, 1, 0),
        ("quick", [False, True, True], Outcome.HOLDS, 2, 1),
        ("quick", [False] * 3, Outcome.INCONCLUSIVE, 0, 3),
        ("default", [True, False, False, True, True], Outcome.HOLDS, 3, 2),
    ):
        seen: list[int] = []
        alive[:] = lives
        (verdict,) = rl.check(make_module(), X, effort=effort)  # type: ignore[arg-type]
        assert (len(seen), verdict.outcome) == (len(lives), outcome)
        if verdict.evidence is not None:
            assert (verdict.evidence.trials, verdict.evidence.vacuous) == (trials, vacuous)


def test_a_fault_names_the_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(trial: Trial) -> Sequence[Comparison]:
        raise ZeroDivisionError("unthinkable")

    monkeypatch.setattr(catalogue, "statements", lambda: (make_statement(faulty),))
    with pytest.raises(ZeroDivisionError) as caught:
        rl.check(make_module(), X)
    assert caught.value.__notes__ == ["while test.false was tried on Sequential"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statements": []}, "no statement is named"),
        ({"statements": ["dual.homogenous"]}, "did you mean dual.homogeneous"),
        ({"statements": [3]}, "identifiers or prefixes, got 3"),
        ({"statements": 3}, "identifiers or prefixes, got 3"),
        ({"statements": [catalogue.select(["dual.psd"])[0]]}, r"got one itself; pass 'dual\.psd'"),
        ({"statements": catalogue.select(["dual.psd"])[0]}, r"got one itself; pass 'dual\.psd'"),
        ({"effort": "heroic"}, "effort must be one of quick, default, thorough, got 'heroic'"),
        ({"seed": -1}, r"the seed must lie in 0 \.\.\. 2\*\*63 - 1, got -1"),
        ({"seed": 2**63}, "the seed must lie in"),
        ({"data": X[:, :2]}, r"data tensor has shape \(2, 2\).*but the example has \(3,\)"),
    ],
)
def test_misuse_is_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(rl.InputError, match=message):
        rl.check(make_module(), X, **options)


def test_data_too_large_for_the_example_s_type_are_refused() -> None:
    with pytest.raises(
        rl.InputError, match=r"data tensor, as torch.float32, holds NaN or infinite"
    ):
        rl.check(make_module().float(), X.float(), data=X * 1e300)


def test_inputs_whose_products_leave_float64_are_refused() -> None:
    for example, data in ((X * 1e160, None), (X, X * 1e160)):
        with pytest.raises(rl.InputError, match=r"reaches 3e\+160, and products of four.*scale it"):
            rl.check(make_module(), example, data=data)


def test_one_identifier_may_stand_alone() -> None:
    assert [v.statement for v in rl.check(make_module(), X, "dual.psd")] == ["dual.psd"]


def test_trials_take_different_rows_of_the_data() -> None:
    seen: list[Tensor] = []

    def spy(trial: Trial) -> Sequence[Comparison]:
        seen.append(trial.x)
        return [Comparison(trial.x, trial.x, 0.0, EvidenceKind.EXACT)]

    data = torch.from_numpy(np.arange(18.0).reshape(6, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "statements", lambda: (make_statement(spy),))
        rl.check(make_module(), X, data=data)
        assert [len({tuple(row) for row in x.tolist()}) for x in seen] == [4, 4, 4]
        assert all(row in data.tolist() for x in seen for row in x.tolist())
        seen.clear()
        rl.check(make_module(), X, data=data[:1])
        assert [x.tolist() for x in seen] == [data[:1].tolist() * 4] * 3


@pytest.mark.parametrize(
    ("rows", "effort", "expected"),
    [
        (None, "default", "inputs: 2 example, 10 drawn"),
        (6, "quick", "inputs: 4 of 6 data"),
        (30, "default", "inputs: 12 of 30 data"),
        (30, "thorough", "inputs: 30 of 30 data"),
        (50, "thorough", "inputs: 40 of 50 data"),
    ],
)
def test_a_verdict_says_on_how_many_inputs_it_was_reached(
    monkeypatch: pytest.MonkeyPatch, rows: int | None, effort: str, expected: str
) -> None:
    seen: list[list[float]] = []

    def spy(trial: Trial) -> Sequence[Comparison]:
        seen.extend(trial.x.tolist())
        return [Comparison(trial.x, trial.x, 0.0, EvidenceKind.EXACT)]

    monkeypatch.setattr(catalogue, "statements", lambda: (make_statement(spy),))
    data = None if rows is None else torch.arange(1.0, 3 * rows + 1).double().reshape(-1, 3)
    report = rl.check(make_module(), X, data=data, effort=effort)  # type: ignore[arg-type]
    (verdict,) = report
    assert verdict.evidence is not None and verdict.evidence.inputs is not None
    tried = verdict.evidence.inputs
    assert tried.words == expected
    assert len({tuple(row) for row in seen}) == tried.data + tried.example + tried.drawn
    assert Report.from_json(report.to_json()).verdicts == (verdict,)


def test_equal_rows_of_the_data_count_once() -> None:
    data = X[:1].repeat(7, 1)
    (verdict,) = rl.check(make_module(), X, "dual.inner-product", data=data)
    assert verdict.evidence is not None and verdict.evidence.inputs is not None
    assert verdict.evidence.inputs.words == "inputs: 1 of 7 data"


def test_a_statement_on_networks_of_its_own_says_so() -> None:
    (verdict,) = rl.check(make_module(), X, "ntk.infinite-gates", effort="quick")
    assert verdict.evidence is not None and verdict.evidence.inputs is not None
    assert verdict.evidence.inputs.words == "networks of its own"


@pytest.mark.parametrize(("rows", "expected"), [(None, "2 example, 2 drawn"), (6, "4 of 6 data")])
def test_what_is_measured_where_nothing_is_implied_says_on_how_many_inputs(
    rows: int | None, expected: str
) -> None:
    data = None if rows is None else torch.arange(1.0, 3 * rows + 1).double().reshape(-1, 3)
    (verdict,) = rl.check(make_module(bias=True), X, "dual.homogeneous", data=data)
    assert verdict.outcome is rl.Outcome.NOT_IMPLIED and verdict.measured
    assert verdict.evidence is not None and verdict.evidence.inputs is not None
    assert verdict.evidence.inputs.words == f"inputs: {expected}"
    assert (verdict.evidence.trials, verdict.evidence.vacuous) == (1, 0)


def test_where_both_sides_vanish_and_nothing_is_implied_no_trial_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(trial: Trial) -> Sequence[Comparison]:
        return [Comparison(0.0 * trial.x, 0.0 * trial.x, 0.0, EvidenceKind.EXACT)]

    monkeypatch.setattr(catalogue, "statements", lambda: (make_statement(nothing),))
    (verdict,) = rl.check(make_module(bias=True), X)
    assert verdict.evidence is not None
    assert (verdict.evidence.trials, verdict.evidence.vacuous) == (0, 1)


def test_what_cannot_be_measured_where_nothing_is_implied_has_no_evidence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def impossible(trial: Trial) -> Sequence[Comparison]:
        raise CannotTry("there is nothing to compare")

    monkeypatch.setattr(catalogue, "statements", lambda: (make_statement(impossible),))
    (verdict,) = rl.check(make_module(bias=True), X)
    assert (verdict.outcome, verdict.evidence) == (rl.Outcome.NOT_IMPLIED, None)


def test_a_large_network_says_at_how_many_inputs_gates_were_recorded() -> None:
    wide = nn.Sequential(nn.Linear(3, 3500), nn.ReLU(), nn.Linear(3500, 3500), nn.Linear(3500, 1))
    for data, expected in ((None, "inputs: 1 example"), (torch.randn(9, 3), "inputs: 2 of 9 data")):
        (verdict,) = rl.check(wide, torch.randn(1, 3), "dual.inner-product", data=data)
        assert verdict.evidence is not None and verdict.evidence.inputs is not None
        assert verdict.evidence.inputs.words == expected


def test_a_check_leaves_the_module_and_the_world_as_they_were() -> None:
    module = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)
    ).double()
    module.eval()
    module[0].weight.requires_grad_(False)
    calls: list[int] = []
    module[0].register_forward_hook(lambda *_: calls.append(1))
    before, hooks = copy.deepcopy(module.state_dict()), dict(module[0]._forward_hooks)
    random, x = torch.random.get_rng_state(), X.clone()
    rl.check(module, x, effort="quick")
    assert torch.equal(random, torch.random.get_rng_state())
    assert torch.equal(x, X)
    assert not module.training and module[0]._forward_hooks == hooks
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert [p.requires_grad for p in module.parameters()] == [False, *[True] * 5]
    assert all(p.grad is None for p in module.parameters())


class Flattened(nn.Module):
    """Have one number as the output of every example."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)[:, 0]


class Shifted(nn.Module):
    """Add one trained number to all outputs, so that their kernels differ."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.shift = make_module(), nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.body(x) + self.shift
        return output


@pytest.mark.parametrize(
    "module",
    [
        nn.Identity(),
        nn.ReLU(),
        Flattened().double(),
        Shifted(),
        nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 1)
        ).double(),
        make_module().requires_grad_(False),
    ],
    ids=["identity", "relu", "scalar outputs", "shared shift", "weight norm", "frozen"],
)
def test_odd_modules_get_a_verdict_on_every_statement(module: nn.Module) -> None:
    report = rl.check(module, X, effort="quick")
    assert len(report.verdicts) == len(rl.statements())
    assert not report.failures
    assert report["dual.inner-product"].outcome is Outcome.HOLDS


def test_an_example_that_wants_gradients_is_fine() -> None:
    report = rl.check(make_module(), X.clone().requires_grad_(), ["dual.psd"])
    assert report["dual.psd"].outcome is Outcome.HOLDS
