"""What papers print and is false, by hand; and that the corrected forms are not refuted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reluctant.models import Regime, Soft, make_dgn, make_dlgn, make_fc
from reluctant.properties.catalogue import select, statements
from reluctant.properties.families import FAMILIES
from reluctant.properties.judging import Judgement, judge
from reluctant.properties.printed import CONSTANT_PRINTED, SIGNAL_VS_WIRE, SOFT_GATES_PRINTED
from reluctant.properties.soft_gates import SOFT_GATES, path_activities
from reluctant.properties.verification import hunt, verify_family
from reluctant.theory.statements import Kind, Mutant, Statement, Trial
from reluctant.theory.tangents import ntk
from reluctant.theory.verdicts import EvidenceKind, Outcome

FALSE = [s for s in statements() if s.kind is Kind.FALSE_AS_PRINTED]
BY_NAME = {family.name: family for family in FAMILIES}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weighed(module: nn.Module, **values: list[list[float]]) -> nn.Module:
    """Set parameters, named with two underscores for a dot."""
    module = module.double()
    with torch.no_grad():
        for name, value in values.items():
            dict(module.named_parameters())[name.replace("__", ".")].copy_(torch.tensor(value))
    return module


def judged(statement: Statement, module: nn.Module, x: Tensor, **changed: object) -> Judgement:
    return judge(statement, Trial(module, x.double(), seeded()), changed)


@pytest.mark.parametrize("statement", FALSE, ids=lambda s: s.id)
def test_what_is_false_as_printed_names_a_statement_that_holds(statement: Statement) -> None:
    (corrected,) = select([statement.corrected])
    assert corrected.id == statement.corrected
    assert corrected.kind is not Kind.FALSE_AS_PRINTED
    assert statement.expected is Outcome.REFUTED


def test_only_what_is_false_as_printed_is_corrected() -> None:
    assert [s.id for s in statements() if s.corrected and s not in FALSE] == []


def test_pairs_of_paths_by_hand() -> None:
    # f = v relu(x₁ + x₂), v = 0: K = (x₁ + x₂)² = 4 at (1, 1), of which pairs from one input are 2.
    net = weighed(make_fc(2, [1], generator=seeded()), hidden__0__weight=[[1.0, 1.0]],
                  output__weight=[[0.0]])  # fmt: skip
    (found,) = judged(SIGNAL_VS_WIRE, net, torch.tensor([[1.0, 1.0], [0.0, 0.0]])).comparisons
    assert (found.left[0, 0], found.right[0, 0]) == (4.0, 2.0)
    assert found.kind is EvidenceKind.EXACT


def test_one_input_coordinate_cannot_tell_signal_from_wire() -> None:
    net = make_fc(1, [3, 2], 2, generator=seeded()).double()
    judgement = judged(SIGNAL_VS_WIRE, net, torch.tensor([[1.0], [-2.0]]))
    assert judgement.outcome is Outcome.INCONCLUSIVE
    assert "does not show it" in judgement.reason


def test_the_drafts_constant_by_hand() -> None:
    # d = 2, w = 1, c = 2, x = 1, gate on: K = u² + v² = 8 for u, v = ±2; printed 2 · 2 = 4.
    net = weighed(make_fc(1, [1], generator=seeded()), hidden__0__weight=[[1.0]])
    judgement = judged(CONSTANT_PRINTED, net, torch.tensor([[1.0], [0.0]]))
    (found,) = judgement.comparisons
    assert judgement.outcome is Outcome.REFUTED
    assert (found.left[0, 0], found.right[0, 0]) == (8.0, 4.0)
    assert found.numbers["sigma"] == 2.0
    assert (
        judged(CONSTANT_PRINTED, net, torch.tensor([[1.0], [0.0]]), gain=1.0).outcome
        is Outcome.INCONCLUSIVE
    )
    assert "draft" in CONSTANT_PRINTED.sources[0]


def small_soft(slope: float = 10.0) -> nn.Module:
    value = make_fc(1, [1], generator=seeded())
    net = make_dlgn(value, Regime.DLNPF, generator=seeded(), gate=Soft(slope))
    return weighed(net, gates__network__hidden__0__weight=[[0.0]])


def test_soft_gates_by_hand() -> None:
    # One gate ½ at x = 1, σ = 2: E K_v = 2 · 4 · ¼ = 2 and the print says 1. The gate moves by
    # β ½ ½ x = 5/2 with its weight, so E K_f = σ⁴ · 25/4 = 100.
    x = torch.tensor([[1.0], [0.0]])
    (printed,) = judged(SOFT_GATES_PRINTED, small_soft(), x).comparisons
    assert (printed.left[0, 0], printed.right[0, 0]) == (2.0, 1.0)
    values, features = judged(SOFT_GATES, small_soft(), x).comparisons
    assert (values.left[0, 0], values.right[0, 0]) == (2.0, 2.0)
    assert (features.left[0, 0], features.right[0, 0]) == (100.0, 100.0)


def test_derivatives_of_activities_by_hand() -> None:
    from reluctant.properties.soft_gates import _Moving

    gates = [torch.tensor([[0.5, 1.0]]), torch.tensor([[0.25, 2.0]])]
    slopes = [torch.tensor([[[3.0], [0.0]]]), torch.tensor([[[0.0], [5.0]]])]
    moving = _Moving([g.double() for g in gates], [s.double() for s in slopes])
    activity, slope = path_activities(moving)
    assert activity.tolist() == [[0.125, 1.0, 0.25, 2.0]]
    # d(g₁ g₂) = g₂ dg₁ + g₁ dg₂
    assert slope[0, :, 0].tolist() == [0.75, 6.0 + 2.5, 0.0, 5.0]


def test_the_gates_kernel_is_that_of_automatic_differentiation() -> None:
    # One path from one input: K_f = v² x² (dA/dθ)² whatever the signs, so every pattern gives E K_f.
    value = make_fc(1, [1, 1], generator=seeded(1))
    net = make_dgn(value, Regime.DLNPF, generator=seeded(2), gate=Soft(4.0, 0.1)).double()
    with torch.no_grad():
        for parameter in net.value.parameters():
            parameter.fill_(2.0)
    x = torch.tensor([[1.0], [-0.5]]).double()
    names = [name for name, _ in net.named_parameters() if name.startswith("gates.")]
    expected = ntk(net, x, parameters=names)
    _, features = judge(SOFT_GATES, Trial(net, x, seeded())).comparisons
    # All three take 1 − G/(1 + ε) from the same gates by the same operations; what is left are
    # products and sums that meet no more roundings than the bound grants two evaluations.
    assert bool(((features.left - expected).abs() <= features.bound).all())
    assert bool(((features.right - expected).abs() <= features.bound).all())


def test_hard_or_shared_gates_are_excluded() -> None:
    value = make_fc(2, [2], generator=seeded()).double()
    hard = make_dgn(value, Regime.FRNPF_II, generator=seeded()).double()
    judgement = judged(SOFT_GATES, hard, torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert "are not (1 + ε) σ(βq)" in judgement.unmet[0].reason


def test_a_counterexample_has_the_smallest_shape() -> None:
    verdict = verify_family(SIGNAL_VS_WIRE, BY_NAME["FC"], examples=2)
    assert verdict.counterexample is not None
    numbers = verdict.counterexample.numbers
    assert {"weights", "gates", "x", "left", "right"} <= set(numbers)
    sizes = [torch.tensor(w).shape for w in numbers["weights"].values()]
    assert sizes == [(1, 2), (1, 1)]
    entries = torch.cat([torch.tensor(w).flatten() for w in numbers["weights"].values()])
    assert set(entries.tolist()) <= {0.0, 1.0}


def test_a_fault_of_a_false_statement_is_one_that_still_refutes() -> None:
    some = [BY_NAME["FC"], BY_NAME["DLGN, soft"]]
    idle = Mutant("nothing changed", {})
    assert not hunt(SIGNAL_VS_WIRE, idle, families=some, examples=8).killed
    true = SIGNAL_VS_WIRE.mutants[0]
    assert hunt(SIGNAL_VS_WIRE, true, families=some, examples=8).killed
