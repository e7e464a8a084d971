"""The statements on convolution: they hold, notice their mutants, and stop where they should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import reluctant as rl
from reluctant.models import (
    Convolutional,
    GatedNetwork,
    Hard,
    Regime,
    Soft,
    gaussian,
    make_conv,
    make_dgn,
    make_dlgn,
    make_dlgn_sf,
    make_residual,
)
from reluctant.properties import convolution, convolution_tangents
from reluctant.properties.judging import Judgement, judge
from reluctant.properties.rotations import rotation_sum
from reluctant.theory.pooled import pooled_chain
from reluctant.theory.statements import Mutant, Statement, Trial
from reluctant.theory.verdicts import EvidenceKind, Outcome

STATEMENTS = (*convolution.STATEMENTS, *convolution_tangents.STATEMENTS)
BY_ID = {statement.id: statement for statement in STATEMENTS}
SHAPES = {"1-D": (2, 5), "2-D": (1, 3, 4)}
Maker = Callable[[torch.Generator], tuple[nn.Module, tuple[int, ...]]]


class Plain(nn.Module):
    """Be what a user writes: functional ReLUs, torch's circular padding, a mean."""

    def __init__(self, pool: str = "mean", **options: object) -> None:
        super().__init__()
        chosen = {"padding": 1, "padding_mode": "circular", "bias": False, **options}
        self.first = nn.Conv1d(1, 2, 3, **chosen)  # type: ignore[arg-type]
        self.second = nn.Conv1d(2, 2, 3, **chosen)  # type: ignore[arg-type]
        self.pool = pool
        self.last = nn.LazyLinear(2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.relu(self.second(torch.relu(self.first(x))))
        if self.pool == "flatten":
            return self.last(z.flatten(1))
        return self.last(z.mean(2) if self.pool == "mean" else z.amax(2))


def convolutional(
    generator: torch.Generator, shape: str = "1-D", **options: object
) -> Convolutional:
    widths = [2, 2] if shape == "1-D" else [2]
    return make_conv(SHAPES[shape], widths, 2, generator=generator, window=2, **options)  # type: ignore[arg-type]


def own(shape: str = "1-D", **options: object) -> Maker:
    return lambda generator: (convolutional(generator, shape, **options), SHAPES[shape])


def gated(make: Callable[..., nn.Module], options: dict[str, object], **given: object) -> Maker:
    return lambda g: (make(convolutional(g, **options), generator=g, **given), SHAPES["1-D"])  # type: ignore[arg-type]


def plain(**options: object) -> Maker:
    return lambda generator: (Plain(**options), (1, 6))  # type: ignore[arg-type]


def residual(generator: torch.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    return make_residual((1, 4), 2, generator=generator, skips=2, window=2), (1, 4)


AVERAGED: dict[str, Maker] = {
    "conv 1-D": own(),
    "conv 2-D": own("2-D"),
    "conv, two dense layers": own(dense=[2]),
    "plain": plain(),
    "DGN, hard": gated(make_dgn, {}, regime=Regime.FRNPF_II, gate=Hard()),
    "DLGN, hard": gated(make_dlgn, {}, regime=Regime.FRNPF_II, gate=Hard()),
    "DLGN-SF, hard": gated(make_dlgn_sf, {}, frozen=True, gate=Hard()),
}
SOFT: dict[str, Maker] = {
    "DGN, soft": gated(make_dgn, {}, gate=Soft(4.0, 0.1)),
    "DLGN, soft": gated(make_dlgn, {"dense": [2]}, gate=Soft(10.0)),
    "DLGN, soft, ones": gated(make_dlgn, {}, gate=Soft(10.0), value_input="ones"),
}
MAXIMA: dict[str, Maker] = {
    "conv, shared maximum": own(pool="max"),
    "conv 2-D, shared maximum": own("2-D", pool="max"),
    "plain, shared maximum": plain(pool="amax"),
    "DGN, shared maximum": gated(make_dgn, {"pool": "max"}, regime=Regime.FRNPF_II, gate=Hard()),
    "DLGN, maximum, soft": gated(make_dlgn, {"pool": "max"}, gate=Soft(4.0)),
}
FIRST: dict[str, Maker] = {
    "conv, first maximum": own(pool="max", ties="first"),
    "DGN, first maximum": gated(
        make_dgn, {"pool": "max", "ties": "first"}, regime=Regime.FRNPF_II, gate=Hard()
    ),
}
OTHER: dict[str, Maker] = {
    "conv, biases": own(bias=True),
    "residual": residual,
    "stride that divides": lambda g: (
        make_conv((1, 6), [2, 2], generator=g, window=3, stride=[2, 1]),
        (1, 6),
    ),
}
INVARIANT = {**AVERAGED, **SOFT, **MAXIMA, **OTHER}
APPLIES: dict[str, dict[str, Maker]] = {
    "conv.equivariant": {**INVARIANT, **FIRST},
    "conv.npk-rotation-sum": AVERAGED,
    "conv.npk-invariant": INVARIANT,
    "conv.ntk": {**AVERAGED, **SOFT},
    "conv.constant-input": INVARIANT,
    "conv.max-pool": {**MAXIMA, **FIRST},
}
BLIND = {
    # With ones on the paths nothing but the gates can notice a shift.
    ("conv.npk-invariant", "DLGN, soft, ones"),
    # Linear features of generic weights have no ties.
    ("conv.max-pool", "DLGN, maximum, soft"),
}
PAIRS = [(statement, name) for statement, makers in APPLIES.items() for name in makers]
FAULTS = [(statement.id, mutant) for statement in STATEMENTS for mutant in statement.mutants]


def trial(make: Maker, seed: int, *, integers: bool) -> Trial:
    """Draw weights and inputs: small integers, or normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    module, shape = make(generator)
    module(torch.zeros(1, *shape))
    module = module.double().eval()
    with torch.no_grad():
        for p in module.parameters():
            if integers:
                p.copy_(torch.randint(-2, 3, p.shape, generator=generator))
            else:
                p.copy_(torch.randn(p.shape, generator=generator))
    drawn = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    return Trial(module, torch.round(2 * drawn) if integers else drawn, generator)


def judged(statement: Statement, make: Maker, tries: int, **ingredients: object) -> list[Judgement]:
    return [
        judge(statement, trial(make, seed, integers=seed % 2 == 0), ingredients)
        for seed in range(tries)
    ]


@pytest.mark.parametrize(("statement", "name"), PAIRS)
def test_holds(statement: str, name: str) -> None:
    found = judged(BY_ID[statement], APPLIES[statement][name], 4)
    outcomes = [judgement.outcome for judgement in found]
    assert Outcome.HOLDS in outcomes, [judgement.reason for judgement in found]
    assert set(outcomes) <= {Outcome.HOLDS, Outcome.INCONCLUSIVE, None}, found


@pytest.mark.parametrize(("statement", "mutant"), FAULTS, ids=[f"{s}-{m.name}" for s, m in FAULTS])
def test_mutant_is_noticed_by_every_kind_of_model(statement: str, mutant: Mutant) -> None:
    for name, make in APPLIES[statement].items():
        if (statement, name) not in BLIND:
            assert noticed(BY_ID[statement], mutant, make), name


def noticed(statement: Statement, mutant: Mutant, make: Maker) -> bool:
    return any(
        judge(
            statement, trial(make, seed, integers=seed % 2 == 0), dict(mutant.ingredients)
        ).outcome
        is Outcome.REFUTED
        for seed in range(12)
    )


CONTROLS: dict[str, tuple[Maker, str, str]] = {
    "zero padding": (own(padding="zero"), "convolutions.0.1 pads with zeros", "architectures.py"),
    "plain, zero padding": (plain(padding_mode="zeros"), "first pads with zeros", "statements.py"),
    "flatten": (own(pool="flatten"), "output mixes positions", "architectures.py"),
    "stride": (plain(stride=4), "first makes the total stride 4", "statements.py"),
}


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("statement", ["conv.equivariant", "conv.npk-invariant"])
def test_does_not_apply_and_is_violated(statement: str, control: str) -> None:
    make, reason, where = CONTROLS[control]
    found = judged(BY_ID[statement], make, 4)
    assert {judgement.outcome for judgement in found} == {Outcome.NOT_IMPLIED}
    unmet = found[0].unmet[0]
    assert unmet.reason.startswith(reason)
    assert where in unmet.where
    assert not all(c.holds for judgement in found for c in judgement.comparisons)


@pytest.mark.parametrize("name", ["conv 1-D", "conv 2-D", "DGN, hard", "DGN, first maximum"])
def test_listed_paths_and_passes_of_ones_add_up_alike(name: str) -> None:
    few = trial({**AVERAGED, **FIRST}[name], 2, integers=True)
    chain = pooled_chain(few.net)
    assert chain is not None
    listed, passed = (rotation_sum(replace(few, paths=n), chain) for n in (20_000, 0))
    assert bool(listed[0].any())
    assert torch.equal(listed[0], passed[0])
    assert not listed[1].any() and not passed[1].any()


def test_biases_violate_the_rotation_sum() -> None:
    found = judged(BY_ID["conv.npk-rotation-sum"], own(bias=True), 4)
    assert {u.hypothesis for u in found[0].unmet} == {"bias-free"}
    assert not all(c.holds for judgement in found for c in judgement.comparisons)


def test_first_winners_do_not_share_ties() -> None:
    statement = BY_ID["conv.npk-invariant"]
    for name in FIRST:
        found = judged(statement, FIRST[name], 2)
        assert [u.hypothesis for u in found[0].unmet] == ["ties are shared"], name
        assert "takes the first of several winners" in found[0].unmet[0].reason


def test_integers_are_compared_exactly() -> None:
    for statement, name in [
        ("conv.equivariant", "conv, first maximum"),
        ("conv.npk-rotation-sum", "conv 1-D"),
        ("conv.npk-invariant", "conv 1-D"),
        ("conv.constant-input", "DGN, hard"),
        ("conv.max-pool", "conv, first maximum"),
    ]:
        found = judge(BY_ID[statement], trial(APPLIES[statement][name], 0, integers=True))
        assert found.comparisons[0].kind is EvidenceKind.EXACT, statement


def test_ties_are_what_first_winners_suffer_from() -> None:
    """Every input of two values: without ties all hold, with ties some do not."""
    statement = BY_ID["conv.max-pool"]
    module = make_conv((1, 4), [1], generator=torch.Generator(), window=2, pool="max", ties="first")
    module = module.double()
    with torch.no_grad():
        for p, values in zip(module.parameters(), ([1.0, -2.0], [1.0]), strict=True):
            p.copy_(torch.tensor(values).reshape(p.shape))
    grid = torch.cartesian_prod(*[torch.arange(4.0)] * 4).double().reshape(-1, 1, 4)
    x = grid[torch.randperm(256, generator=torch.Generator().manual_seed(0))[:40]]
    found = judge(statement, Trial(module, x, torch.Generator().manual_seed(0)))
    assert found.outcome is Outcome.HOLDS
    faulty = judge(
        statement, Trial(module, x, torch.Generator()), dict(statement.mutants[0].ingredients)
    )
    assert faulty.outcome is Outcome.REFUTED


def test_soft_gates_that_rounding_may_change_by_any_factor_are_said() -> None:
    draws = torch.Generator().manual_seed(0)
    value = make_conv((1, 6), [3] * 8, 2, generator=draws, law=gaussian(50.0))
    x = torch.randn(2, 1, 6, dtype=torch.float64, generator=draws)
    verdict = rl.check(GatedNetwork(value.double(), None, Soft()), x, "conv.npk-invariant").verdicts
    assert [v.outcome for v in verdict] == [Outcome.INCONCLUSIVE]
    assert "rounding may change these soft gates by any factor" in verdict[0].reason
