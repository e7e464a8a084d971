"""Shrinking a counterexample: fewer inputs, rounder weights, within a budget, nothing changed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from conformance_specimens import make_module, make_statement, output_is_at_most_two, refuted
from torch import nn

import reluctant as rl
from reluctant.properties import hypotheses as needs
from reluctant.properties.judging import judge
from reluctant.properties.shrinking import Budget, shrunk
from reluctant.theory.statements import Comparison, Trial
from reluctant.theory.verdicts import Outcome


def test_a_counterexample_has_few_inputs_and_small_whole_numbers() -> None:
    statement = make_statement()
    trial, judgement = refuted(make_module(), statement)
    small, found = shrunk(statement, trial, judgement)
    assert found.outcome is Outcome.REFUTED
    assert judge(statement, small).outcome is Outcome.REFUTED
    assert len(small.x) == 2
    tensors = [small.x, *small.module.parameters()]
    assert all(torch.equal(t, t.round()) for t in tensors), tensors
    before = sum(int(t.count_nonzero()) for t in (trial.x, *trial.module.parameters()))
    after = sum(int(t.count_nonzero()) for t in tensors)
    # f > 2 needs one path, or three of ±1; the search is greedy, so leave it the larger one.
    assert (before, after <= 9) == (32, True), tensors


def test_shrinking_leaves_the_module_as_it_is() -> None:
    statement, module = make_statement(), make_module()
    before = copy.deepcopy(module.state_dict())
    trial, judgement = refuted(module, statement)
    small, _ = shrunk(statement, trial, judgement)
    assert small.module is not module
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


def test_shrinking_stays_within_its_budget() -> None:
    calls = 0

    def counted(trial: Trial) -> Sequence[Comparison]:
        nonlocal calls
        calls += 1
        return output_is_at_most_two(trial)

    statement = make_statement(counted)
    trial, judgement = refuted(make_module(), statement)
    for judgements in (0, 1, 7):
        calls = 0
        shrunk(statement, trial, judgement, Budget(judgements))
        assert calls == judgements
    calls, ticks = 0, iter(range(1000))
    shrunk(statement, trial, judgement, Budget(seconds=3, clock=lambda: float(next(ticks))))
    assert calls == 2


def test_a_smaller_example_still_meets_the_hypotheses() -> None:
    def positive(net: Any) -> rl.Unmet | None:
        weight = net.weights[0].value()
        return None if bool((weight != 0).all()) else rl.Unmet("dense", "has zeros", "")

    dense = replace(needs.BIAS_FREE, name="dense", test=positive)
    statement = make_statement(hypotheses=(dense,))
    trial, judgement = refuted(make_module(), statement)
    small, _ = shrunk(statement, trial, judgement)
    first = next(small.module.parameters())
    assert bool((first != 0).all())
    assert torch.equal(first, first.round())


def test_a_module_that_refuses_to_be_copied_is_copied_by_its_parts() -> None:
    class Uncopied(nn.Sequential):
        def __deepcopy__(self, memo: object) -> nn.Module:
            raise RuntimeError("no copies")

    statement, module = make_statement(), Uncopied(*make_module())
    before = [p.detach().clone() for p in module.parameters()]
    trial, judgement = refuted(module, statement)
    small, found = shrunk(statement, trial, judgement)
    assert isinstance(small.module, Uncopied) and small.module is not module
    assert found.outcome is Outcome.REFUTED
    assert all(torch.equal(p, was) for p, was in zip(module.parameters(), before, strict=True))
    assert all(torch.equal(p, p.round()) for p in small.module.parameters())
