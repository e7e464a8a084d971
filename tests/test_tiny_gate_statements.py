"""Statements of gates where products underflow: none that is true is refuted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reluctant.models import HARD, Regime, Soft, ValueInput, make_dlgn, make_fc
from reluctant.properties import bounds, linear_gates, soft_gates
from reluctant.properties.gate_regions import REGIONS
from reluctant.properties.judging import judge
from reluctant.properties.linear_gates import CONSTANT_INPUT, SHALLOW_CONTAINED
from reluctant.properties.random_gates import BERNOULLI_GATES
from reluctant.properties.soft_gates import SOFT_GATES
from reluctant.theory import underflow
from reluctant.theory.statements import Statement, Trial
from reluctant.theory.tracing import trace
from reluctant.theory.underflow import is_free_of_underflow
from reluctant.theory.verdicts import EvidenceKind, Outcome

POINTS = torch.tensor([[1.0, 2.0], [2.0, -1.0], [-1.0, 1.0]]).double()
Make = Callable[[int], Trial]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dlgn(
    seed: int, *, features: float = 1.0, values: float = 1.0, size: float = 1.0, **options: Any
) -> Trial:
    """Return a linearly gated network, its weights scaled, at inputs of a size."""
    generator = seeded(seed)
    module = make_dlgn(make_fc(2, [3, 3], generator=generator), generator=generator,
                       **{"regime": Regime.FRNPF_II, "gate": HARD, **options}).double()  # fmt: skip
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.mul_(features if name.startswith("gates") else values)
    return Trial(module, size * POINTS, seeded(seed))


ONES = {"value_input": ValueInput.ONES}
SOFT = {"regime": Regime.DLNPF, "gate": Soft(10.0)}


def outcomes(statement: Statement, make: Make) -> set[Outcome | None]:
    return {judge(statement, make(seed)).outcome for seed in range(6)}


def without_what_underflow_adds(statement: Statement, make: Make) -> set[Outcome | None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (underflow, bounds, linear_gates, soft_gates):
            patch.setattr(module, "smallest", lambda *_: 0.0)
        return outcomes(statement, make)


@pytest.mark.parametrize(
    "options",
    [
        {"features": 1e-160},
        {"features": 1e-160, **ONES},
        {"size": 1e-310},
        {"features": 1e-160, "size": 1e150},
    ],
    ids=str,
)
def test_one_map_a_layer(options: dict[str, Any]) -> None:
    def make(seed: int) -> Trial:
        return dlgn(seed, **options)

    assert outcomes(SHALLOW_CONTAINED, make) == {Outcome.HOLDS}
    assert Outcome.REFUTED in without_what_underflow_adds(SHALLOW_CONTAINED, make)


@pytest.mark.parametrize("options", [{"values": 1e-108}, {"size": 1e-310}], ids=str)
def test_a_power_of_two_is_exact_only_where_nothing_underflows(options: dict[str, Any]) -> None:
    def make(seed: int) -> Trial:
        return dlgn(seed, **options)

    assert outcomes(CONSTANT_INPUT, make) <= {Outcome.HOLDS, None}
    assert Outcome.REFUTED in without_what_underflow_adds(CONSTANT_INPUT, make)
    kinds = {c.kind for c in judge(CONSTANT_INPUT, make(0)).comparisons}
    assert kinds == {EvidenceKind.ROUNDING}
    plain = judge(CONSTANT_INPUT, dlgn(0, size=0.3)).comparisons
    assert [(c.kind, c.bound) for c in plain] == [(EvidenceKind.EXACT, 0.0)]


@pytest.mark.parametrize("options", [{}, ONES], ids=str)
def test_gates_that_underflow_are_named(options: dict[str, Any]) -> None:
    def make(seed: int) -> Trial:
        return dlgn(seed, features=0.7e-162, **options)

    assert outcomes(CONSTANT_INPUT, make) == {Outcome.INCONCLUSIVE, None}
    reason = judge(CONSTANT_INPUT, make(0)).reason
    assert "underflow; scale inputs or weights up" in reason


def test_what_is_free_of_underflow() -> None:
    net = trace(make_fc(2, [2, 2], generator=seeded()).double(), POINTS)
    ones = [torch.ones(w.shape).double() for w in net.weights]
    least, on, shut = 2.0**-1022, torch.ones(3, 2).double(), torch.zeros(3, 2).double()

    def is_free(size: float, first: Tensor = on, scale: float = 1.0, **options: Any) -> bool:
        weights = [scale * w for w in ones]
        return is_free_of_underflow(net, size * POINTS, [first, on], weights, **options)

    # The first sum may be as small as 2^(−53) of the least product, the second as that again.
    assert is_free(1.0) and is_free(least * 2.0**106) and not is_free(least * 2.0**105)
    assert is_free(0.0) and is_free(least, shut)
    assert is_free(1.0, scale=1e-20) and not is_free(1.0, scale=1e-20, dtype=torch.float32)


def test_planes_that_underflow_leave_no_region_out() -> None:
    """Products of some 1e-324 are 0 at the unit vectors, and not at points of size 50."""

    def make(seed: int) -> Trial:
        return dlgn(seed, features=0.7e-162)

    assert outcomes(REGIONS, make) <= {Outcome.HOLDS, Outcome.INCONCLUSIVE}
    for seed in range(3):  # and what is counted does not depend on the scale
        small, plain = (judge(REGIONS, dlgn(seed, features=f)) for f in (2.0**-500, 1.0))
        for a, b in zip(small.comparisons, plain.comparisons, strict=True):
            assert torch.equal(a.left, b.left) and torch.equal(a.right, b.right)


@pytest.mark.parametrize("options", [{"size": 1e-80}, {"size": 1e-160, **ONES}], ids=str)
def test_two_kernels_of_soft_gates(options: dict[str, Any]) -> None:
    def make(seed: int) -> Trial:
        return dlgn(seed, **options, **SOFT)

    assert outcomes(SOFT_GATES, make) == {Outcome.HOLDS}
    assert Outcome.REFUTED in without_what_underflow_adds(SOFT_GATES, make)


class Fed(nn.Module):
    """Feed a constant to the paths, and gate them by the data."""

    def __init__(self, constant: float) -> None:
        super().__init__()
        self.constant = constant
        self.gate, self.hidden, self.last = (
            nn.Linear(a, b, bias=False) for a, b in ((2, 2), (2, 2), (2, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        fed = torch.full((len(x), 2), self.constant, dtype=x.dtype)
        output: Tensor = self.last(self.hidden(fed) * (self.gate(x) > 0))
        return output


@pytest.mark.parametrize("constant", [0.3, 1e-155, 1e-160, 1e-200])
def test_random_gates_at_what_is_fed_to_the_paths(constant: float) -> None:
    for seed in range(6):
        found = judge(BERNOULLI_GATES, Trial(Fed(constant).double(), POINTS, seeded(seed)))
        # The square of 1e-200 is 0, so that both sides vanish.
        assert found.outcome is (None if constant == 1e-200 else Outcome.HOLDS), found
        assert {c.kind for c in found.comparisons} == {EvidenceKind.ROUNDING}


def test_random_gates_at_whole_numbers_are_exact() -> None:
    found = judge(BERNOULLI_GATES, Trial(Fed(2.0).double(), POINTS, seeded()))
    assert found.outcome is Outcome.HOLDS
    assert found.comparisons[0].kind is EvidenceKind.EXACT
    assert not torch.as_tensor(found.comparisons[0].bound).any()
