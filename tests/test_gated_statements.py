from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import reluctant as rl
from reluctant.models import (
    HARD,
    Regime,
    Soft,
    make_conv,
    make_dgn,
    make_dlgn,
    make_dlgn_sf,
    make_fc,
    make_residual,
)
from reluctant.properties import gated
from reluctant.properties.judging import judge
from reluctant.properties.orders import commuting_layers
from reluctant.theory.gating import gate
from reluctant.theory.statements import Statement, Trial
from reluctant.theory.tracing import trace
from reluctant.theory.verdicts import EvidenceKind, Outcome

MUTANTS = [(s, m.name) for s in gated.STATEMENTS for m in s.mutants]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_integers(module: nn.Module, seed: int = 0) -> nn.Module:
    g = seeded(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape, generator=g))
    return module.double().eval()


def integers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-3, 4, shape, generator=seeded(seed)).double()


class Affine(nn.Module):
    """Gate a value network by affine features, in a user's own words."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleList([nn.Linear(2, 3), nn.Linear(3, 3)])
        self.values = nn.ModuleList([nn.Linear(2, 3), nn.Linear(3, 3)])
        self.last = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, z = x, x
        for feature, value in zip(self.features, self.values, strict=True):
            q = feature(q)
            z = value(z) * gate(q)
        return self.last(z)


def make(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    g = seeded(seed)
    dense = make_fc(2, [3, 3, 3], 2, generator=g)
    signals = integers(3, 1, 5, seed=seed)
    conv = make_conv((1, 5), [2, 2], generator=g, window=2)
    narrow = make_conv((1, 5), [2, 2, 2], generator=g, window=1)
    frozen = Regime.FRNPF_II
    made = {
        "dlgn": lambda: (make_dlgn(dense, frozen, generator=g), integers(3, 2, seed=seed)),
        "soft": lambda: (
            make_dlgn(dense, Regime.DLNPF, generator=g, gate=Soft(4.0)),
            integers(3, 2, seed=seed),
        ),
        "dgn": lambda: (make_dgn(dense, frozen, generator=g), integers(3, 2, seed=seed)),
        "shallow": lambda: (
            make_dlgn_sf(dense, generator=g, frozen=True, gate=HARD, bias=True),
            integers(3, 2, seed=seed),
        ),
        "affine": lambda: (Affine(), integers(3, 2, seed=seed)),
        "conv": lambda: (make_dlgn(conv, frozen, generator=g), signals),
        "window 1": lambda: (make_dlgn(narrow, frozen, generator=g), signals),
        "relu": lambda: (dense, integers(3, 2, seed=seed)),
        "unequal": lambda: (
            make_dlgn(make_fc(2, [3, 2], generator=g), frozen, generator=g),
            integers(3, 2, seed=seed),
        ),
        "residual": lambda: (
            make_dlgn(make_residual(2, 2, skips=1, generator=g), frozen, generator=g),
            integers(3, 2, seed=seed),
        ),
    }
    module, x = made[name]()
    return with_integers(module, seed), x


def trial_of(name: str, seed: int = 0) -> Trial:
    module, x = make(name, seed)
    return Trial(module, x, seeded(100 + seed))


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        (gated.PRIMAL_LINEAR, "dlgn"),
        (gated.PRIMAL_LINEAR, "shallow"),
        (gated.PRIMAL_LINEAR, "affine"),
        (gated.PRIMAL_LINEAR, "conv"),
        (gated.PRIMAL_LINEAR, "residual"),
        (gated.DUAL_LINEAR, "dlgn"),
        (gated.DUAL_LINEAR, "dgn"),
        (gated.DUAL_LINEAR, "affine"),
        (gated.DUAL_LINEAR, "conv"),
        (gated.DUAL_LINEAR, "soft"),
        (gated.PERMUTE_LAYERS, "dlgn"),
        (gated.PERMUTE_LAYERS, "soft"),
        (gated.PERMUTE_LAYERS, "relu"),
        (gated.PERMUTE_LAYERS_CONV, "window 1"),
        (gated.PERMUTE_LAYERS_CONV, "dgn"),
    ],
    ids=lambda v: v.id if isinstance(v, Statement) else v,
)
def test_holds(statement: Statement, name: str) -> None:
    outcomes = [judge(statement, trial_of(name, seed)) for seed in range(4)]
    assert {j.outcome for j in outcomes} <= {Outcome.HOLDS, None}, outcomes
    assert any(j.outcome is Outcome.HOLDS for j in outcomes)


def test_half_spaces_are_exact_on_integers_and_rounded_elsewhere() -> None:
    exact = judge(gated.PRIMAL_LINEAR, trial_of("affine"))
    assert {c.kind for c in exact.comparisons} == {EvidenceKind.EXACT}
    module, x = make("affine")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.37)
    rounded = judge(gated.PRIMAL_LINEAR, Trial(module, x, seeded()))
    assert {c.kind for c in rounded.comparisons} == {EvidenceKind.ROUNDING}
    assert rounded.outcome is Outcome.HOLDS


@pytest.mark.parametrize(("statement", "mutant"), MUTANTS, ids=[f"{s.id}-{m}" for s, m in MUTANTS])
def test_mutants_are_refuted(statement: Statement, mutant: str) -> None:
    fault = next(m for m in statement.mutants if m.name == mutant)
    name = "window 1" if statement is gated.PERMUTE_LAYERS_CONV else "dlgn"
    judgements = [judge(statement, trial_of(name, s), dict(fault.ingredients)) for s in range(8)]
    refuted = [j for j in judgements if j.outcome is Outcome.REFUTED]
    assert refuted
    assert all(j.reason.endswith("is false") for j in refuted)


@pytest.mark.parametrize(
    ("statement", "name", "reason", "place"),
    [
        (gated.PRIMAL_LINEAR, "dgn", "gates the pre-activations of other gates", "sources.py"),
        (gated.PRIMAL_LINEAR, "soft", "take other values than 0 and 1", "architectures.py"),
        (gated.PRIMAL_LINEAR, "relu", "not made by a readable feature network", "architectures"),
        (gated.DUAL_LINEAR, "relu", "makes its gates from the weights on the paths", "archite"),
        (
            gated.PERMUTE_LAYERS,
            "unequal",
            "has 2 units, the first hidden layer 3",
            "architectures.py",
        ),
        (gated.PERMUTE_LAYERS, "affine", "is a bias", "test_gated_statements.py"),
        (gated.PERMUTE_LAYERS_CONV, "conv", "has windows of size 2", "architectures.py"),
        (gated.PERMUTE_LAYERS_CONV, "residual", "joins branches", "architectures.py"),
    ],
    ids=lambda v: v.id if isinstance(v, Statement) else v,
)
def test_unmet_hypotheses_name_the_place(
    statement: Statement, name: str, reason: str, place: str
) -> None:
    judgement = judge(statement, trial_of(name))
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert any(reason in u.reason and place in u.where for u in judgement.unmet), judgement.unmet


def test_values_of_own_gates_move_the_features() -> None:
    judgement = judge(gated.DUAL_LINEAR, trial_of("relu", 1))
    assert not all(c.holds for c in judgement.comparisons)


def test_permuting_the_layers_of_a_convolution_changes_its_kernel() -> None:
    found = [judge(gated.PERMUTE_LAYERS_CONV, trial_of("conv", s)) for s in range(4)]
    assert not all(c.holds for judgement in found for c in judgement.comparisons)


def test_layers_commute_within_one_shape_and_up_to_a_pooling() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv1d(1, 2, 1), nn.Conv1d(2, 2, 1)
            self.three, self.four = nn.Conv1d(2, 2, 1), nn.Conv1d(2, 2, 1)
            self.five, self.six = nn.Linear(2, 3), nn.Linear(3, 3)
            self.last = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            z = torch.relu(self.two(torch.relu(self.one(x))))
            z = nn.functional.avg_pool1d(z, 2)
            z = torch.relu(self.four(torch.relu(self.three(z)))).mean(2)
            z = torch.relu(self.six(torch.relu(self.five(z))))
            return self.last(torch.relu(z))

    net = trace(Mixed().double(), integers(3, 1, 4))
    assert [len(layers) for layers in commuting_layers(net)] == [2, 2, 1]


def test_a_single_layer_of_gates_has_no_other_order() -> None:
    module = make_dlgn(make_fc(2, [3], generator=seeded()), Regime.FRNPF_II, generator=seeded())
    trial = Trial(with_integers(module), integers(3, 2), seeded())
    judgement = judge(gated.PERMUTE_LAYERS, trial)
    assert judgement.outcome is Outcome.INCONCLUSIVE
    assert "not two layers of gates" in judgement.reason


class Moved(nn.Module):
    """Gate three rows of values by one row of features, moved in some way."""

    def __init__(self, move: Callable[[Tensor], Tensor], features: int) -> None:
        super().__init__()
        self.features = nn.Linear(2, features, bias=False)
        self.values = nn.Linear(2, 9, bias=False)
        self.last = nn.Linear(9, 1, bias=False)
        self.move = move

    def forward(self, x: Tensor) -> Tensor:
        gates = self.move(gate(self.features(x)))
        return self.last((self.values(x).unflatten(1, (3, 3)) * gates).flatten(1))


@pytest.mark.parametrize(
    ("move", "features", "outcome", "reason"),
    [
        (lambda gates: gates.unsqueeze(1), 3, Outcome.HOLDS, ""),
        (lambda gates: gates.flip(1).unsqueeze(1), 3, Outcome.INCONCLUSIVE, "place by place"),
        (lambda gates: gates.unsqueeze(2), 3, Outcome.INCONCLUSIVE, "place by place"),
        (lambda gates: gates[:, None, :3], 6, Outcome.INCONCLUSIVE, "which belongs to which"),
    ],
)
def test_gates_are_compared_with_their_own_pre_activations_or_not_at_all(
    move: Callable[[Tensor], Tensor], features: int, outcome: Outcome, reason: str
) -> None:
    network = with_integers(Moved(move, features), seed=1)
    verdict = rl.check(network, integers(3, 2, seed=3), "dlgn.primal-linear").verdicts[0]
    assert verdict.outcome is outcome
    assert reason in verdict.reason


def test_soft_gates_are_not_implied_and_measured() -> None:
    network = with_integers(make("soft")[0])
    verdict = rl.check(network, integers(3, 2), "dlgn.primal-linear").verdicts[0]
    assert verdict.outcome is Outcome.NOT_IMPLIED
    assert verdict.measured is not None
