"""A false statement, and small networks that refute it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from reluctant.properties import hypotheses as needs
from reluctant.properties.judging import judge
from reluctant.theory.statements import Comparison, Kind, Statement, Trial
from reluctant.theory.verdicts import EvidenceKind, Outcome

X = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]], dtype=torch.float64)


def make_module(*, bias: bool = False) -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4, bias=bias), nn.ReLU(), nn.Linear(4, 2, bias=bias))
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return module.double()


def output_is_at_most_two(trial: Trial) -> Sequence[Comparison]:
    most = torch.full_like(trial.output, 2.0)
    return [Comparison(trial.output, most, 0.0, EvidenceKind.EXACT, "at most", "f")]


def make_statement(claim: Any = output_is_at_most_two, **changes: Any) -> Statement:
    statement = Statement(
        "test.false", "False", Kind.EXACT, "f \\le 2", (), (needs.BIAS_FREE,), claim, ()
    )
    return replace(statement, **changes)


def refuted(module: nn.Module, statement: Statement) -> tuple[Trial, Any]:
    for seed in range(20):
        x = 4 * torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)).double()
        trial = Trial(module, x, torch.Generator().manual_seed(seed))
        judgement = judge(statement, trial)
        if judgement.outcome is Outcome.REFUTED:
            return trial, judgement
    raise AssertionError("the specimen is not refuted")
