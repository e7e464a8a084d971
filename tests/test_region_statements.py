from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from model_specimens import integer_weights, seeded
from torch import Tensor, nn

from reluctant.models import Regime, Soft, make_conv, make_dgn, make_dlgn, make_fc
from reluctant.properties import activation_regions, affine_pieces
from reluctant.properties.activation_regions import POLYHEDRON, REGION_COUNT, undecided
from reluctant.properties.affine_pieces import CONTINUOUS, SAME_IMPORTANCE
from reluctant.properties.judging import judge
from reluctant.theory.affine_forms import ExactNetwork
from reluctant.theory.slices import segment_pieces
from reluctant.theory.statements import Statement, Trial
from reluctant.theory.verdicts import EvidenceKind, Outcome

STATEMENTS = (*affine_pieces.STATEMENTS, *activation_regions.STATEMENTS)
FAULTS = [(s, m.name) for s in STATEMENTS for m in s.mutants]
NETWORKS = {
    "biases": lambda g: make_fc(2, [3, 3], 2, generator=g, bias=True),
    "none": lambda g: make_fc(3, [4], generator=g),
    "pooled": lambda g: make_conv((1, 5), [2], generator=g, window=2, pool="max"),
    "linearly gated": lambda g: make_dlgn(
        make_fc(2, [3, 3], generator=g), Regime.FRNPF_II, generator=g
    ),
    "soft": lambda g: make_dgn(make_fc(2, [3], generator=g), generator=g, gate=Soft(4.0)),
}


def integers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-3, 4, shape, generator=seeded(seed)).double()


def trial_of(name: str, seed: int = 0) -> Trial:
    module = integer_weights(NETWORKS[name](seeded(seed)), seeded(seed)).double().eval()
    shape = (1, 5) if name == "pooled" else (3,) if name == "none" else (2,)
    return Trial(module, integers(4, *shape, seed=seed), seeded(100 + seed))


@pytest.mark.parametrize("name", ["biases", "none", "pooled", "linearly gated"])
@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: s.id)
def test_holds_wherever_it_is_implied(statement: Statement, name: str) -> None:
    found = [judge(statement, trial_of(name, seed)) for seed in range(6)]
    if found[0].unmet:
        assert (statement.id, name) in {
            ("clu.continuous", "linearly gated"),
            ("clu.region-count", "pooled"),
        }
        return
    outcomes = {j.outcome for j in found}
    assert outcomes <= {Outcome.HOLDS, Outcome.INCONCLUSIVE, None}, [j.reason for j in found]
    assert Outcome.HOLDS in outcomes


@pytest.mark.parametrize(("statement", "mutant"), FAULTS, ids=[f"{s.id}-{m}" for s, m in FAULTS])
def test_mutants_are_refuted(statement: Statement, mutant: str) -> None:
    (fault,) = (m for m in statement.mutants if m.name == mutant)
    names = (
        ("biases", "none")
        if statement is not REGION_COUNT
        else ("biases", "none", "linearly gated")
    )
    judgements = [
        judge(statement, trial_of(name, seed), dict(fault.ingredients))
        for name in names
        for seed in range(8)
    ]
    assert any(j.outcome is Outcome.REFUTED for j in judgements)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: s.id)
def test_soft_gates_are_not_implied(statement: Statement) -> None:
    judgement = judge(statement, trial_of("soft"))
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert any("move with their pre-activation" in u.reason for u in judgement.unmet)


def test_pieces_are_compared_with_no_tolerance() -> None:
    found = judge(CONTINUOUS, trial_of("biases", 1))
    assert {c.kind for c in found.comparisons} == {EvidenceKind.EXACT}
    assert all(c.bound == 0.0 for c in found.comparisons)


def test_hard_gates_from_elsewhere_jump() -> None:
    """Be the control: pieces of a linearly gated network do not agree."""
    for seed in range(6):
        trial = trial_of("linearly gated", seed)
        pieces = segment_pieces(ExactNetwork(trial.net), trial.x[0], trial.x[1], 100)
        if any(
            a.output.at((a.cell.high,)) != b.output.at((b.cell.low,)) for a, b in pairwise(pieces)
        ):
            return
    raise AssertionError("no pair of pieces jumped")


def test_clusters_by_the_last_layer_share_no_importance() -> None:
    (fault,) = (m for m in SAME_IMPORTANCE.mutants if "last layer" in m.name)
    found = [
        judge(SAME_IMPORTANCE, trial_of("biases", s), dict(fault.ingredients)) for s in range(4)
    ]
    assert any(j.outcome is Outcome.REFUTED for j in found)


def test_masks_of_an_unknown_sign_are_not_implied_and_named() -> None:
    class Below(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(x) * (self.one(x) < 0)

    trial = Trial(Below().double(), integers(3, 2), seeded())
    (unmet,) = judge(POLYHEDRON, trial).unmet
    assert "cannot be read as signs of a pre-activation" in unmet.reason


def test_an_input_at_which_everything_vanishes_is_on_a_boundary() -> None:
    module = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        module.state_dict()["0.weight"].copy_(torch.tensor([[2.0], [0.0]]))
    x = torch.tensor([[0.0], [1.0], [-1.0]]).double()
    net = Trial(module, x, seeded()).net
    assert undecided(net, x, net.gates(x)).tolist() == [True, False, False]
