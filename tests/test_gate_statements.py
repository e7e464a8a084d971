"""Repeated, random and wide gates; concatenated features; linear gates and their regions."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from reluctant.models import (
    HARD,
    Regime,
    Soft,
    ValueInput,
    make_conv,
    make_dgn,
    make_dlgn,
    make_dlgn_sf,
    make_fc,
)
from reluctant.properties.concatenation import DENSE_CONCAT, branch, concatenation
from reluctant.properties.gate_regions import REGIONS
from reluctant.properties.judging import judge
from reluctant.properties.linear_gates import CONSTANT_INPUT, SHALLOW_CONTAINED
from reluctant.properties.random_gates import BERNOULLI_GATES, GATE_REPEAT
from reluctant.properties.wide_gates import (
    INFINITE_GATES,
    drawn_gates,
    gates_follow_the_arc_cosine,
    limit_law,
    order_one,
    order_zero,
)
from reluctant.theory.arrangements import most_regions, region_count
from reluctant.theory.kernels import npk
from reluctant.theory.rounding import gamma
from reluctant.theory.statements import CannotTry, Statement, Trial
from reluctant.theory.verdicts import EvidenceKind, Outcome

POINTS = torch.tensor([[1.0, 2.0], [2.0, -1.0], [-1.0, 1.0]]).double()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trial(module: nn.Module, x: Tensor = POINTS) -> Trial:
    return Trial(module.double(), x, seeded())


def dlgn(ones: bool = False, soft: bool = False, seed: int = 0) -> nn.Module:
    g = seeded(seed)
    return make_dlgn(
        make_fc(2, [3, 3], generator=g),
        Regime.DLNPF if soft else Regime.FRNPF_II,
        generator=g,
        gate=Soft(10.0) if soft else HARD,
        value_input=ValueInput.ONES if ones else ValueInput.X,
    )


@pytest.mark.parametrize("statement", [GATE_REPEAT, BERNOULLI_GATES], ids=lambda s: s.id)
@pytest.mark.parametrize("ones", [False, True])
def test_gates_by_number(statement: Statement, ones: bool) -> None:
    judgement = judge(statement, trial(dlgn(ones)))
    assert judgement.outcome is Outcome.HOLDS, judgement


def test_bernoulli_gates_by_hand() -> None:
    # Two units, d = 2: E Λ(s, s) = 2 μ and E Λ(s, s') = 2 μ²; E[K]/d has the eigenvalues 1 ± μ.
    net = make_fc(1, [2], generator=seeded())
    found = judge(BERNOULLI_GATES, trial(net, torch.ones(2, 1).double()))
    overlap, _, spectrum = found.comparisons
    mu = float(overlap.left[0]) / 2
    assert mu in (0.25, 0.5, 0.75)
    assert float(overlap.left[1]) == 2 * mu**2
    assert overlap.kind is EvidenceKind.EXACT
    assert spectrum.right.tolist() == [1 - mu, 1 + mu]
    assert spectrum.holds


def test_too_many_patterns_of_gates_are_named() -> None:
    found = judge(BERNOULLI_GATES, trial(make_fc(2, [8, 8], generator=seeded())))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "2^16 patterns of gates are too many" in found.reason


def test_arc_cosines_by_hand() -> None:
    zero, one = torch.zeros(()).double(), torch.ones(()).double()
    assert float(order_zero(zero)) == 0.5
    assert float(order_one(zero)) == 1 / math.pi
    assert (float(order_zero(one)), float(order_one(one))) == (1.0, 1.0)
    half = torch.tensor(0.5).double()
    # An arc cosine good to its last place counts as two roundings; π, the quotient, the difference
    # and 2/3 are one each. What is subtracted is less than what is left, so none is enlarged.
    assert abs(float(order_zero(half)) - 2 / 3) <= gamma(6) * 2 / 3
    after = math.acos(float(order_one(half)))
    expected = 2 / 3 * (1 - after / math.pi)
    # Those six; on both sides a second factor, of the same π, with four; two products.
    assert abs(float(limit_law(half, 2)) - expected) <= gamma(16) * expected


def test_pairs_of_pre_activations_are_those_of_random_matrices() -> None:
    """Draw whole matrices, slowly, and compare the mean products of both ways."""
    rho, width, networks = torch.tensor(0.3).double(), 8, 3000
    x = torch.tensor([[1.0, 0.0], [0.3, math.sqrt(1 - 0.09)]]).double().T
    sizes = [2, width, width]
    g = seeded(1)
    z = x.expand(networks, 2, 2)
    product = torch.ones(networks).double()
    for a, b in pairwise(sizes):
        z = torch.randn(networks, b, a, generator=g, dtype=torch.float64) @ z
        product = product * 2 * (z > 0).all(2).double().mean(1)
        z = z.clamp(min=0)
    drawn = drawn_gates(rho, 2, width, networks, seeded(2), order_zero).products
    off = 5 * math.sqrt(float(product.var() + drawn.var()) / networks)
    assert off < 0.05
    assert abs(float(product.mean() - drawn.mean())) < off


def test_the_limit_holds_and_order_one_is_excluded() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, -1.0]]).double()
    of = trial(make_fc(2, [3, 3], generator=seeded()), x)
    judgement = judge(INFINITE_GATES, of)
    assert judgement.outcome is Outcome.HOLDS
    assert sum(c.error_probability or 0 for c in judgement.comparisons) <= 1e-6
    assert not judgement.comparisons[0].is_blind
    for mutant in INFINITE_GATES.mutants:
        assert judge(INFINITE_GATES, of, dict(mutant.ingredients)).outcome is Outcome.REFUTED


def test_few_networks_cannot_tell_and_say_how_many_would() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
    of = trial(make_fc(2, [3, 3], generator=seeded()), x)
    with pytest.raises(CannotTry, match=r"about \d+ would"):
        gates_follow_the_arc_cosine(of, networks=4)
    parallel = judge(
        INFINITE_GATES, trial(of.module, torch.tensor([[1.0, 0.0], [2.0, 0.0]]).double())
    )
    assert parallel.outcome is Outcome.INCONCLUSIVE
    assert "agree" in parallel.reason


class Joined(nn.Module):
    """Put two branches of one module side by side, or add them, or join them along positions."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.shared = nn.Linear(2, 2, bias=False)
        self.last = nn.Linear(4 if how == "cat" else 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.relu(self.shared(x)), torch.relu(self.shared(-x))
        if self.how == "positions":
            joined: Tensor = self.last(torch.stack([a, b], 1)).sum(1)
            return joined
        output: Tensor = self.last(torch.cat([a, b], 1) if self.how == "cat" else a + b)
        return output


def test_branches_of_one_module_add_where_they_are_concatenated() -> None:
    of = trial(Joined("cat"))
    assert judge(DENSE_CONCAT, of).outcome is Outcome.HOLDS
    joined = concatenation(of.net)
    assert joined is not None
    parts = [npk(branch(of.net, joined, k), of.x, gates=(of.gates, of.gates)) for k in (0, 1)]
    assert bool(parts[0].any()) and bool(parts[1].any())


@pytest.mark.parametrize("how", ["sum", "positions"])
def test_sums_and_positions_are_no_concatenation(how: str) -> None:
    judgement = judge(DENSE_CONCAT, trial(Joined(how)))
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert judgement.unmet[0].hypothesis == "concatenated features"


def test_a_concatenated_kernel_by_hand() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(1, 1, bias=False)
            self.last = nn.Linear(2, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.last(torch.cat([x, torch.relu(self.hidden(x))], 1))
            return output

    net = Skip().double()
    with torch.no_grad():
        net.hidden.weight.fill_(1.0)
    x = torch.tensor([[2.0], [3.0], [-1.0]]).double()
    expected = x @ x.T + x.clamp(min=0) @ x.clamp(min=0).T
    assert torch.equal(npk(net, x), expected)
    assert judge(DENSE_CONCAT, trial(net, x)).outcome is Outcome.HOLDS


@pytest.mark.parametrize("ones", [False, True])
def test_linear_gates_hold(ones: bool) -> None:
    for statement in (CONSTANT_INPUT, SHALLOW_CONTAINED, REGIONS):
        judgement = judge(statement, trial(dlgn(ones)))
        assert judgement.outcome is Outcome.HOLDS, (statement.id, judgement)


def test_soft_gates_are_not_piecewise_constant() -> None:
    judgement = judge(CONSTANT_INPUT, trial(dlgn(True, soft=True)))
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert not all(c.holds for c in judgement.comparisons)
    assert judge(SHALLOW_CONTAINED, trial(dlgn(True, soft=True))).outcome is Outcome.HOLDS


def test_the_shallow_twin_has_the_same_gates_and_output() -> None:
    deep = dlgn(True).double()
    value, hidden = deep.value, deep.gates.network.hidden  # type: ignore[union-attr]
    shallow = make_dlgn_sf(
        value,  # type: ignore[arg-type]
        generator=seeded(), gate=HARD, frozen=True, value_input=ValueInput.ONES,
    ).double()  # fmt: skip
    total = torch.eye(2).double()
    with torch.no_grad():
        for layer, shallow_map in zip(hidden, shallow.gates.maps, strict=True):  # type: ignore[union-attr, arg-type]
            total = layer.weight @ total
            shallow_map.weight.copy_(total)
    assert torch.equal(deep(POINTS), shallow(POINTS))


def test_a_convolution_is_not_contained() -> None:
    net = make_dlgn(make_conv((1, 5), [2, 2], generator=seeded(), window=2), Regime.FRNPF_II,
                    generator=seeded())  # fmt: skip
    x = torch.randn(2, 1, 5, generator=seeded(), dtype=torch.float64)
    judgement = judge(SHALLOW_CONTAINED, trial(net, x))
    assert judgement.outcome is Outcome.NOT_IMPLIED
    assert "fully connected" in {u.hypothesis for u in judgement.unmet}


def test_features_with_relus_are_excluded() -> None:
    net = make_dgn(make_fc(2, [3, 3], generator=seeded()), Regime.FRNPF_II, generator=seeded())
    assert judge(REGIONS, trial(net)).outcome is Outcome.NOT_IMPLIED
    assert judge(SHALLOW_CONTAINED, trial(net)).outcome is Outcome.NOT_IMPLIED


def planes(*rows: tuple[int, ...]) -> list[tuple[Fraction, ...]]:
    return [tuple(Fraction(a) for a in row) for row in rows]


def test_regions_by_hand() -> None:
    assert region_count([]) == 1
    assert region_count(planes((0, 0, 5))) == 1
    assert region_count(planes((1, 0), (-1, 0))) == 2  # one point, twice
    assert region_count(planes((1, 0), (1, 1), (2, 2))) == 3
    assert region_count(planes((1, 0, 0), (0, 1, 0), (1, 1, 0))) == 6
    assert region_count(planes((1, 0, 0), (0, 1, 0), (1, 1, 1))) == 7
    assert region_count(planes((1, 0, 0), (1, 0, 1), (0, 1, 0))) == 6  # two are parallel


@pytest.mark.parametrize(("count", "inputs"), [(3, 1), (4, 2), (5, 3), (2, 3)])
@pytest.mark.parametrize("central", [True, False])
def test_hyperplanes_in_general_position_attain_the_bound(
    count: int, inputs: int, central: bool
) -> None:
    # On the moment curve every n of the rows (and all n + 1 with the offset) are independent.
    rows = [tuple((k + 1) ** p for p in range(inputs)) for k in range(count)]
    with_offsets = [(*row, 0 if central else (k + 1) ** inputs) for k, row in enumerate(rows)]
    assert region_count(planes(*with_offsets)) == most_regions(count, inputs, central)


def test_patterns_at_ties_exceed_the_regions() -> None:
    net = make_dlgn(make_fc(1, [2], generator=seeded()), Regime.FRNPF_II, generator=seeded())
    net = net.double()
    with torch.no_grad():
        dict(net.named_parameters())["gates.network.hidden.0.weight"].copy_(
            torch.tensor([[1.0], [-1.0]])
        )
    of = trial(net, torch.tensor([[1.0], [-1.0]]).double())
    assert judge(REGIONS, of).outcome is Outcome.HOLDS
    at_ties = judge(REGIONS, of, dict(REGIONS.mutants[0].ingredients))
    met, regions = at_ties.comparisons[0].left, at_ties.comparisons[0].right
    assert (float(met), float(regions)) == (3.0, 2.0)
    assert at_ties.outcome is Outcome.REFUTED
