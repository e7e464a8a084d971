from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reluctant.models import make_conv, make_fc, make_residual
from reluctant.properties import skips
from reluctant.properties.judging import judge
from reluctant.theory.kernels import npk
from reluctant.theory.statements import Statement, Trial
from reluctant.theory.structure import identity_skips
from reluctant.theory.subnetworks import depth_of, subnetwork, subsets
from reluctant.theory.tracing import trace
from reluctant.theory.verdicts import EvidenceKind, Outcome

STATEMENTS = {s.id: s for s in skips.STATEMENTS}
MUTANTS = [(s, m.name) for s in skips.STATEMENTS for m in s.mutants]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_integers(module: nn.Module, seed: int = 0) -> nn.Module:
    g = seeded(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randint(-2, 4, parameter.shape, generator=g))
    return module.double().eval()


def integers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-3, 4, shape, generator=seeded(seed)).double()


class Blocks(nn.Module):
    """Add after the ReLU, before the ReLU, and through a view: spellings of an identity skip."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.one = nn.Linear(2, 2, bias=False)
        self.two = nn.Linear(2, 2, bias=bias)
        self.last = nn.Linear(2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        t = self.first(x).relu()
        t = t + self.one(t).relu()
        t = (self.two(t) + t.view(t.shape)).relu_()
        return self.last(t)


class SharedBlock(nn.Module):
    """Go through one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(2, 2, bias=False)
        self.last = nn.Linear(2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        t = x + self.shared(x).relu()
        t = t + self.shared(t).relu()
        return self.last(t)


class Parallel(nn.Module):
    """Put the skips in two streams side by side, so that no path meets both."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2, bias=False)
        self.two = nn.Linear(2, 2, bias=False)
        self.last = nn.Linear(4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        left = x + self.one(x).relu()
        right = 2 * x + self.two(2 * x).relu()
        return self.last(torch.cat([left, right], 1))


class ReadTwice(nn.Module):
    """Read the inside of a branch from outside it too."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2, bias=False)
        self.last = nn.Linear(2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        t = self.one(x)
        return self.last((x + t.relu()) + 3 * t)


class Uneven(nn.Module):
    """Have a branch of one layer beside one of two, inside one branch of a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2, bias=False)
        self.two = nn.Linear(2, 2, bias=False)
        self.three = nn.Linear(2, 2, bias=False)
        self.last = nn.Linear(2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.one(x).relu() + self.three(self.two(x).relu())
        return self.last(x + inside)


def residual(kind: str) -> tuple[nn.Module, Tensor]:
    g = seeded(1)
    if kind == "conv":
        module: nn.Module = make_residual((1, 4), 2, 2, skips=2, window=2, generator=g)
        return module.double(), integers(3, 1, 4)
    if kind == "scaled":
        module = make_residual(2, 2, skips=2, pre_scale=0.5, post_scale=2.0, generator=g)
        return with_integers(module), integers(3, 2)
    if kind == "deep blocks":
        return make_residual(2, 2, skips=1, block_layers=2, generator=seeded(3)).double(), integers(
            3, 2
        )
    return with_integers(Blocks()), integers(3, 2)


@pytest.mark.parametrize("kind", ["blocks", "conv", "scaled", "deep blocks"])
@pytest.mark.parametrize("name", ["skip.output-ensemble", "skip.npk-ensemble", "skip.ntk"])
def test_holds_on_residual_networks(name: str, kind: str) -> None:
    module, x = residual(kind)
    judgement = judge(STATEMENTS[name], Trial(module, x, seeded()))
    assert judgement.outcome is Outcome.HOLDS, judgement
    if kind in ("blocks", "scaled") and name != "skip.output-ensemble":
        assert {c.kind for c in judgement.comparisons} <= {
            EvidenceKind.EXACT,
            EvidenceKind.ROUNDING,
        }


def test_integers_leave_no_tolerance() -> None:
    module, x = residual("blocks")
    for name in ("skip.output-ensemble", "skip.npk-ensemble", "skip.ntk"):
        judgement = judge(STATEMENTS[name], Trial(module, x, seeded()))
        assert {c.kind for c in judgement.comparisons} == {EvidenceKind.EXACT}


@pytest.mark.parametrize("skip_count", [1, 2, 3])
def test_all_gates_on_count_the_subnetworks(skip_count: int) -> None:
    module = make_residual(3, 4, 2, skips=skip_count, generator=seeded()).double()
    x = torch.randn(3, 3, generator=seeded(), dtype=torch.float64)
    judgement = judge(skips.LINEAR_COUNT, Trial(module, x, seeded()))
    assert judgement.outcome is Outcome.HOLDS
    assert len(judgement.comparisons) == 2


@pytest.mark.parametrize(("statement", "mutant"), MUTANTS, ids=[f"{s.id}-{m}" for s, m in MUTANTS])
def test_mutants_are_refuted(statement: Statement, mutant: str) -> None:
    fault = next(m for m in statement.mutants if m.name == mutant)
    outcomes = set()
    for seed in range(6):
        module = with_integers(make_residual(2, 2, skips=2, generator=seeded()), seed)
        trial = Trial(module, integers(3, 2, seed=seed), seeded())
        judgement = judge(statement, trial, dict(fault.ingredients))
        outcomes.add(judgement.outcome)
        if judgement.outcome is Outcome.REFUTED:
            assert judgement.reason.endswith("is false")
    assert Outcome.REFUTED in outcomes


@pytest.mark.parametrize(
    ("module", "reason", "place"),
    [
        (Blocks(bias=True), "two.bias is a bias", "test_skip_statements.py"),
        (SharedBlock(), "shared.weight acts inside a branch and elsewhere", "test_skip"),
        (Parallel(), "some path never meets", "test_skip_statements.py"),
        (ReadTwice(), "some path never meets", "test_skip_statements.py"),
        (make_fc(2, [2], generator=seeded()), "no branch is added", "architectures.py"),
    ],
    ids=["bias", "shared block", "parallel", "read twice", "no skip"],
)
def test_unmet_hypotheses_name_the_place(module: nn.Module, reason: str, place: str) -> None:
    module = with_integers(module, 3)
    judgement = judge(skips.NPK_ENSEMBLE, Trial(module, integers(3, 2), seeded()))
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert any(reason in u.reason and place in u.where for u in judgement.unmet), judgement.unmet


def test_skips_side_by_side_are_no_ensemble() -> None:
    trial = Trial(with_integers(Parallel(), 1), integers(3, 2), seeded())
    judgement = judge(skips.OUTPUT_ENSEMBLE, trial)
    assert not all(c.holds for c in judgement.comparisons)


def test_paths_of_uneven_depth_have_no_common_factor() -> None:
    trial = Trial(with_integers(Uneven(), 2), integers(3, 2), seeded())
    assert judge(skips.NPK_ENSEMBLE, trial).outcome is Outcome.HOLDS
    judgement = judge(skips.SKIP_NTK, trial)
    assert [u.hypothesis for u in judgement.unmet] == ["even depth"]
    assert "joins paths across 1 or 2 layers" in judgement.unmet[0].reason


def test_too_many_subnetworks_are_counted_and_refused() -> None:
    module = make_residual(2, 1, skips=11, generator=seeded()).double()
    judgement = judge(skips.NPK_ENSEMBLE, Trial(module, integers(3, 2), seeded()))
    assert judgement.outcome is Outcome.INCONCLUSIVE
    assert judgement.reason == "2^11 = 2048 sub-networks are too many (at most 1024)"


def test_subnetworks_are_those_of_the_model() -> None:
    whole = make_residual((1, 4), 2, 2, skips=2, block_layers=1, window=2, generator=seeded(2))
    with_integers(whole)  # and averages over 4 positions: nothing is rounded
    x = integers(3, 1, 4)
    net = trace(whole, x)
    opened = [torch.ones_like(g) for g in net.gates(x)]
    for kept in subsets(2):
        term = subnetwork(net, kept)
        assert depth_of(term) == {len(kept) + 2}
        theirs = trace(whole.sub_network(k + 1 for k in kept), x)
        theirs_opened = [torch.ones_like(g) for g in theirs.gates(x)]
        ours = npk(term, x, gates=(opened, opened))
        expected = npk(theirs, x, gates=(theirs_opened, theirs_opened))
        assert expected.abs().max() > 0
        assert torch.equal(ours, expected)


def test_a_skip_that_does_not_exist_is_refused() -> None:
    net = trace(Blocks().double(), integers(3, 2))
    assert len(identity_skips(net)) == 2
    with pytest.raises(IndexError, match="numbered from 0 to 1"):
        subnetwork(net, frozenset({2}))


def test_convolutions_without_skips_have_no_subnetworks() -> None:
    module = make_conv((1, 4), [2], generator=seeded(), window=2).double()
    assert identity_skips(trace(module, integers(3, 1, 4))) == ()
