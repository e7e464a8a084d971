"""Expected tangent kernels with given gates: paths, laws, and gates that depend on the values."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_specimens import seeded
from torch import Tensor, nn

from reluctant.models import (
    HARD,
    Regime,
    Soft,
    ValueInput,
    make_conv,
    make_dgn,
    make_dlgn,
    make_fc,
    make_residual,
)
from reluctant.properties import tangents
from reluctant.properties.catalogue import select
from reluctant.properties.dependence import copied_parameters, redrawn_average
from reluctant.properties.judging import judge
from reluctant.theory.statements import LIMIT, Statement, Trial
from reluctant.theory.verdicts import EvidenceKind, Outcome

SMALL = (
    tangents.PATH_DECOUPLING,
    tangents.FC_EXPECTATION,
    tangents.DEPENDENT_GATES,
    tangents.CONSTANT_INPUT,
)
MUTANTS = [(s, m.name) for s in SMALL for m in s.mutants]


def vectors(inputs: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(3, inputs, generator=seeded(seed), dtype=torch.float64)


def make_gated(name: str, seed: int = 0) -> nn.Module:
    g = seeded(seed)
    value = make_fc(2, [3, 3], 2, generator=g)
    made = {
        "dgn": lambda: make_dgn(value, Regime.FRNPF_II, generator=g),
        "soft dgn": lambda: make_dgn(value, Regime.DLNPF, generator=g, gate=Soft(4.0, 0.1)),
        "copied": lambda: make_dgn(value, Regime.FRNPF_DI, generator=g),
        "copied dlgn": lambda: make_dlgn(value, Regime.FRNPF_DI, generator=g),
        "dlgn": lambda: make_dlgn(value, Regime.FRNPF_II, generator=g),
        "ones": lambda: make_dlgn(
            value,
            Regime.FRNPF_II,
            generator=g,
            gate=HARD,
            value_input=ValueInput.ONES,
        ),
    }
    return made[name]().double()


def make_own(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    g = seeded(seed)
    signals = torch.randn(3, 1, 4, generator=g, dtype=torch.float64)
    made = {
        "fc": lambda: (make_fc(2, [2], generator=g), vectors(seed=seed)),
        "biases": lambda: (make_fc(2, [2], generator=g, bias=True), vectors(seed=seed)),
        "conv": lambda: (make_conv((1, 4), [2], generator=g, window=2), signals),
        "residual": lambda: (make_residual(2, 2, skips=1, generator=g), vectors(seed=seed)),
    }
    module, x = made[name]()
    return module.double(), x


class Tied(nn.Module):
    """Use one layer twice on a path."""

    def __init__(self) -> None:
        super().__init__()
        self.tied = nn.Linear(2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(torch.relu(self.tied(x)))


@pytest.mark.parametrize("name", ["fc", "biases", "conv", "residual"])
def test_paths_decouple_on_every_network(name: str) -> None:
    module, x = make_own(name, 2)
    judgement = judge(tangents.PATH_DECOUPLING, Trial(module, x, seeded()))
    assert judgement.outcome is Outcome.HOLDS
    assert {c.kind for c in judgement.comparisons} == {EvidenceKind.EXACT}


def test_drawn_bundles_share_weights() -> None:
    module = make_fc(3, [4, 4], 2, generator=seeded()).double()
    words = tangents.drawn_words(Trial(module, vectors(3), seeded(), patterns=2**8))
    assert len(words) > 2
    assert len({e for word in words for e in word}) <= 8
    assert any(set(a) & set(b) for a in words for b in words if a != b)


def test_a_path_that_meets_a_weight_twice_is_excluded() -> None:
    trial = Trial(Tied().double(), vectors(), seeded())
    judgement = judge(tangents.PATH_DECOUPLING, trial)
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert judgement.unmet[0].reason == "tied.weight can act twice on one path"
    assert not all(c.holds for c in judgement.comparisons)


@pytest.mark.parametrize("name", ["dgn", "soft dgn", "copied", "dlgn", "ones"])
def test_the_expected_kernel_is_a_multiple_of_the_path_kernel(name: str) -> None:
    for seed in range(3):
        trial = Trial(make_gated(name, seed), vectors(seed=seed), seeded())
        judgement = judge(tangents.FC_EXPECTATION, trial)
        assert judgement.outcome is Outcome.HOLDS, judgement
        assert judgement.comparisons[0].error_probability is None


def test_a_wide_network_is_thinned_and_still_tried_by_every_pattern() -> None:
    module = make_fc(5, [40, 40], 3, generator=seeded()).double()
    judgement = judge(tangents.FC_EXPECTATION, Trial(module, vectors(5), seeded()))
    assert judgement.outcome is Outcome.HOLDS
    assert "gates thinned" in judgement.comparisons[0].what


@pytest.mark.parametrize(
    ("name", "hypothesis", "reason"),
    [
        ("biases", "bias-free", "hidden.0.bias is a bias"),
        ("conv", "fully connected", "shares its weights among positions"),
        ("residual", "fully connected", "joins or scales branches"),
    ],
)
def test_the_expected_kernel_needs_its_hypotheses(name: str, hypothesis: str, reason: str) -> None:
    module, x = make_own(name)
    judgement = judge(tangents.FC_EXPECTATION, Trial(module, x, seeded()))
    assert judgement.outcome is Outcome.NOT_IMPLIED
    found = {u.hypothesis: u for u in judgement.unmet}
    assert reason in found[hypothesis].reason
    assert "architectures.py" in found[hypothesis].where


def test_ones_replace_the_gram_matrix() -> None:
    trial = Trial(make_gated("ones"), vectors(), seeded())
    assert judge(tangents.CONSTANT_INPUT, trial).outcome is Outcome.HOLDS
    control = judge(tangents.CONSTANT_INPUT, Trial(make_gated("dlgn"), vectors(), seeded()))
    assert control.outcome is Outcome.NOT_IMPLIED
    assert control.unmet[0].reason == "the paths begin at the data, not at ones"


@pytest.mark.parametrize(("statement", "mutant"), MUTANTS, ids=[f"{s.id}-{m}" for s, m in MUTANTS])
def test_mutants_are_refuted(statement: Statement, mutant: str) -> None:
    fault = next(m for m in statement.mutants if m.name == mutant)
    outcomes = set()
    for seed in range(5):
        name = "ones" if statement is tangents.CONSTANT_INPUT else "dgn"
        trial = Trial(make_gated(name, seed), vectors(seed=seed), seeded())
        judgement = judge(statement, trial, dict(fault.ingredients))
        outcomes.add(judgement.outcome)
        assert judgement.outcome is not Outcome.REFUTED or "is false" in judgement.reason
    assert Outcome.REFUTED in outcomes


@pytest.mark.parametrize("name", ["dgn", "soft dgn", "dlgn", "ones"])
def test_independent_gates_obey_the_law(name: str) -> None:
    trial = Trial(make_gated(name), vectors(), seeded())
    assert judge(tangents.DEPENDENT_GATES, trial).outcome is Outcome.HOLDS


@pytest.mark.parametrize("name", ["fc", "biases", "conv", "residual"])
def test_own_gates_do_not_obey_the_law(name: str) -> None:
    module, x = make_own(name)
    judgement = judge(tangents.DEPENDENT_GATES, Trial(module, x, seeded()))
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert "makes its gates from the weights on the paths" in judgement.unmet[0].reason
    assert not all(c.holds for c in judgement.comparisons)


@pytest.mark.parametrize("name", ["copied", "copied dlgn"])
def test_features_that_start_as_copies_do_not_obey_the_law(name: str) -> None:
    trial = Trial(make_gated(name), vectors(), seeded())
    judgement = judge(tangents.DEPENDENT_GATES, trial)
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert "starts as a copy of value.hidden.0.weight" in judgement.unmet[0].reason
    assert not all(c.holds for c in judgement.comparisons)
    assert set(copied_parameters(trial.net)) == {
        "gates.network.hidden.0.weight",
        "gates.network.hidden.1.weight",
    }


def test_own_gates_hold_on_the_diagonal_at_depth_two_by_accident() -> None:
    module, _ = make_own("fc", 3)
    x = torch.tensor([[1.0, -2.0], [3.0, 1.0], [2.0, 3.0]], dtype=torch.float64)  # no ties
    found = redrawn_average(Trial(module, x, seeded()), 2.0)
    assert found.tangent.kind is EvidenceKind.ROUNDING
    # integers, and means over 2^6 sign patterns: nothing is rounded
    assert torch.equal(found.tangent.mean.diagonal(), found.law.diagonal())
    assert not torch.equal(found.tangent.mean, found.law)
    x = torch.tensor([[2.0, 2.0]], dtype=torch.float64)  # a tie for half of the signs of each unit
    tied = redrawn_average(Trial(module, x, seeded()), 2.0)
    assert not torch.equal(tied.tangent.mean, tied.law)


def test_redrawing_leaves_the_module_alone() -> None:
    module = make_gated("copied")
    before = {name: p.clone() for name, p in module.named_parameters()}
    redrawn_average(Trial(module, vectors(), seeded()), 2.0)
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())


def test_a_redraw_of_one_sign_pattern_is_the_modules_own_kernel() -> None:
    value = make_fc(2, [2], generator=seeded(1)).double()
    with torch.no_grad():
        for parameter in value.parameters():
            parameter.copy_(2.0 * parameter.sign())
    x = torch.tensor([[1.0, -2.0], [3.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
    total = torch.zeros(3, 3, dtype=torch.float64)
    from reluctant.theory.tangents import ntk

    weights = dict(value.named_parameters())
    first, last = weights["hidden.0.weight"], weights["output.weight"]
    for k in range(2**6):
        signs = torch.tensor([1.0 - 2.0 * (k >> j & 1) for j in range(6)]).double()
        with torch.no_grad():
            first.copy_(2 * signs[:4].reshape(2, 2))
            last.copy_(2 * signs[4:].reshape(1, 2))
        total += ntk(value, x) / 2**6
    found = redrawn_average(Trial(value, x, seeded()), 2.0)
    assert torch.equal(found.tangent.mean, total)


def test_bundles_of_a_part_are_bundles_of_the_whole() -> None:
    module = make_fc(3, [4, 4], 2, generator=seeded()).double()
    few = Trial(module, vectors(3), seeded(), paths=10)
    found = tangents.words_of_a_part(few)
    places = [{place for _, place in word} for word in found]
    shapes = [12, 28, 36]  # where the entries of each of the three layers end
    layers = [[sum(p >= end for end in shapes) for p in sorted(word)] for word in places]
    assert found
    assert all(word == [0, 1, 2] for word in layers)
    assert judge(tangents.PATH_DECOUPLING, few).outcome is Outcome.HOLDS


def test_a_large_network_is_measured_on_one_output() -> None:
    module = make_fc(4, [60, 60], 10, generator=seeded()).double()
    trial = Trial(module, vectors(4), seeded(), limit=replace(LIMIT, passes=4e9))
    found = redrawn_average(trial, 2.0)
    assert found.net.output_size == 1
    assert found.tangent.detail.startswith("drawn ")
    judgement = judge(tangents.DEPENDENT_GATES, trial)
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert not all(c.holds for c in judgement.comparisons)


@pytest.mark.parametrize("identifier", ["ntk.dependent-gates", "dlgn.permute-layers-conv"])
def test_what_is_not_implied_is_seen_to_fail(identifier: str) -> None:
    from reluctant.properties.families import FAMILIES
    from reluctant.properties.pools import pool
    from reluctant.properties.verification import PATIENCE, verify_family

    (statement,) = select([identifier])
    family = next(f for f in FAMILIES if f.name == "conv 1-D, circular, average pool")
    verdict = verify_family(statement, family, examples=3)
    assert verdict.outcome is Outcome.NOT_IMPLIED
    tried = (judge(statement, trial) for trial in pool(family, 0).head(2 * PATIENCE))
    violated = (j.measured for j in tried if not all(c.holds for c in j.comparisons))
    assert verdict.measured in violated
