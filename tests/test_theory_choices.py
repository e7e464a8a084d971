"""Slopes, steps and choices: read as gates exactly, whatever their spelling."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from model_specimens import F64, integer_weights, seeded
from torch import Tensor, nn

import reluctant as rl
from reluctant.models.converters import to_dgn
from reluctant.models.gates import HARD
from reluctant.properties import hypotheses as needs
from reluctant.properties.exact import FieldTrials, record
from reluctant.properties.own_gates import following_gates
from reluctant.properties.variances import AT_MOST_ONE
from reluctant.theory import rules_choices
from reluctant.theory.lowering import RULES
from reluctant.theory.symmetry import ShiftSymmetry, shift_symmetry

X = torch.tensor([[1.0, -2.0, 3.0], [0.0, 1.0, 2.0], [-1.0, 0.0, 1.0]], dtype=F64)
Act = Callable[[Tensor], Tensor]


class Acting(nn.Module):
    """Two layers of integers, which may have zeros between, and an activation."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)
        self.shift = nn.Parameter(torch.zeros(4))
        self.double()
        integer_weights(self, seeded(4))
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.first(x)))  # type: ignore[no-any-return]


def _put(t: Tensor) -> Tensor:
    t[t < 0] = 0
    return t


def _put_a_number(t: Tensor) -> Tensor:
    t[~(t >= 1)] = 3.0
    return t


def _put_many(t: Tensor) -> Tensor:
    t[t < 0] = 0.5
    t[t > 4] = 4.0
    return t


SLOPES = torch.tensor([0.5, -2.0, 1.0, 0.0], dtype=F64)
LEAKY: dict[str, Act] = {
    "PReLU": nn.PReLU(init=0.25).double(),
    "PReLU by channel": nn.PReLU(4, init=0.25).double(),
    "slopes held": lambda t: F.prelu(t, SLOPES),
    "RReLU": nn.RReLU(0.25, 0.75).eval(),
    "slope 2": nn.LeakyReLU(2.0),
    "absolute": torch.abs,
    "half of q and |q|": lambda t: (t + t.abs()) / 2,
    "where": lambda t: torch.where(t > 0, t, 0.5 * t),
    "where, ties above": lambda t: torch.where(t >= 0, t, 0.5 * t),
    "where it is negative": lambda t: torch.where(t < 0, 0.5 * t, t),
    "where it is not positive": lambda t: torch.where(t <= 0, -t, t),
}
CHOICES: dict[str, Act] = {
    "where, bent above": lambda t: torch.where(t > 0, 0.5 * t, t),
    "two affine pieces": lambda t: torch.where(t > 1, 2 * t - 1, 4.0),
    "where two signs differ": lambda t: torch.where(t * 2 > t.flip(1), t, -t.flip(1)),
    "threshold": lambda t: F.threshold(t, 1.0, -2.0),
    "in-place threshold": lambda t: torch.threshold_(t, 1.0, -2.0),
    "threshold with a shift": lambda t: F.threshold(t, 0.0, 0.5),
    "fill": lambda t: t.masked_fill(t < 0, 1.0),
    "put a number": _put_a_number,
    "put twice": _put_many,
    "step": lambda t: t * torch.heaviside(t - 1, torch.ones((), dtype=F64)),
    "steps, ties by channel": lambda t: t.flip(1) * torch.heaviside(t, torch.tensor([0.0, 1, 0, 1]).to(t)),
    "step times a number": lambda t: t * ((t > 0) * 0.5),
    "two numbers": lambda t: t * torch.where(t > 0, 1.0, 0.25),
    "signs": lambda t: t * (2.0 * (t > 0) - 1.0),
    "not zero": lambda t: t.flip(1) * t.bool(),
}  # fmt: skip


@pytest.mark.parametrize("act", [*LEAKY.values(), *CHOICES.values()], ids=[*LEAKY, *CHOICES])
def test_three_routes_agree_exactly(act: Act) -> None:
    module = Acting(act)
    net = rl.trace(module, X)
    other = torch.randint(-3, 4, X.shape, generator=seeded(1)).double()
    for x in (X, other, X / 2):
        assert torch.equal(net.forward(x, net.gates(x), net.weight_values()), module(x))
    listed = rl.paths(net, X)
    assert torch.equal(listed.output(), module(X))
    for output in range(2):
        assert torch.equal(rl.npk(net, X, output=output), listed.kernel(output))
    tried = FieldTrials(record(net), 0)[0]
    assert torch.equal(*map(tried.over.canonical, (tried.graph_output, tried.output)))


@pytest.mark.parametrize("name", LEAKY)
def test_slopes_are_one_layer_of_own_gates(name: str) -> None:
    net = rl.trace(Acting(LEAKY[name]), X)
    (layer,) = net.gate_layers
    assert (layer.kind, layer.own, layer.hard, layer.is_stepped) == ("leaky", True, False, True)
    again = following_gates(
        net, X, [torch.zeros_like(g) for g in net.gates(X)], net.weight_values()
    )
    assert torch.equal(again[0], net.gates(X)[0])
    assert needs.HARD_GATES(net) is not None and needs.OWN_GATES(net) is None
    low = layer.low()
    assert (AT_MOST_ONE(net) is None) == bool(((low >= 0) & (low <= 1)).all())


@pytest.mark.parametrize("name", LEAKY)
def test_the_derivative_at_ties_is_torch_s(name: str) -> None:
    q = torch.zeros(2, 4, dtype=F64, requires_grad=True)
    LEAKY[name](q).sum().backward()
    (layer,) = rl.trace(Acting(LEAKY[name]), X).gate_layers
    low = layer.low().detach()
    word = {"zero": low, "one": torch.ones(()), "half": (1 + low) / 2}[layer.ties]
    if name == "half of q and |q|":
        word = (1 + word) / 2
    assert q.grad is not None and bool((q.grad == word).all())


def test_a_trained_slope_makes_gates_and_no_weight() -> None:
    net = rl.trace(Acting(nn.PReLU(4).double()), X)
    assert [w.name for w in net.weights] == ["first.weight", "last.weight"]
    (note,) = net.notes
    assert "act.weight is the slope of a PReLU" in note and "no weight on a path" in note
    names = [w.name for w in net.weights]
    assert not torch.equal(rl.ntk(net, X), rl.ntk(net, X, parameters=names))
    report = rl.check(Acting(nn.PReLU(4).double()), X, ["dual.", "ntk."], effort="quick")
    assert not report.failures
    assert report["dual.ntk-factor"].outcome is rl.Outcome.HOLDS
    assert report["dual.npk-overlap"].outcome is rl.Outcome.NOT_IMPLIED


def test_a_slope_that_lies_on_a_path_too_is_refused() -> None:
    class Both(Acting):
        def forward(self, x: Tensor) -> Tensor:
            return F.prelu(self.first(x), self.shift) + self.shift

    class Made(Acting):
        def forward(self, x: Tensor) -> Tensor:
            return F.prelu(self.first(x), self.shift.exp())

    with pytest.raises(
        rl.UnsupportedOperation, match=r"shift makes gates, .* a weight on paths too"
    ):
        rl.trace(Both(F.relu), X)
    with pytest.raises(rl.UnsupportedOperation, match=r"choices.py:\d+: aten.prelu.* are computed"):
        rl.trace(Made(F.relu), X)


@pytest.mark.parametrize(
    "name", ["step times a number", "two numbers", "signs", "steps, ties by channel"]
)
def test_gates_are_hard_only_if_all_that_made_them_is_0_or_1(name: str) -> None:
    net = rl.trace(Acting(CHOICES[name]), X)
    is_bits = all(bool(((g == 0) | (g == 1)).all()) for g in net.gates(X))
    assert (needs.HARD_GATES(net) is None) == is_bits
    assert needs.STEPPED_GATES(net) is None


@pytest.mark.parametrize(
    "act",
    [_put, lambda q: q * (q > 0), lambda q: torch.where(q <= 0, 0, q)],
    ids=["put", "product", "where"],
)
def test_a_relu_written_with_a_comparison_has_a_gated_twin(act: Act) -> None:
    module = Acting(act)
    net = rl.trace(module, X)
    assert [layer.kind for layer in net.gate_layers] == ["relu"]
    assert torch.equal(to_dgn(module, X, shared=True, gate=HARD)(X), module(X))


def test_sides_that_are_exchanged_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = rules_choices._choice

    def exchanged(lower, call, mask, chosen, other):  # type: ignore[no-untyped-def]
        return right(lower, call, mask, other, chosen)

    monkeypatch.setattr(rules_choices, "_choice", exchanged)
    assert RULES["aten.where.self"] is rules_choices._where
    for name in ("where", "where, bent above", "two affine pieces"):
        with pytest.raises(rl.UnsupportedOperation, match="the reading of Acting gives"):
            rl.trace(Acting((LEAKY | CHOICES)[name]), X)


def _put_rows(t: Tensor) -> Tensor:
    t[t[:, 0] < 0] = 0
    return t


def _put_data(t: Tensor) -> Tensor:
    t[t < 0] = t[0, 0]
    return t


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (_put_rows, "only a number written where a comparison"),
        (_put_data, "mixes the examples|what it writes is no number"),
        (lambda t: torch.where(t > 0, t, (t > 1).to(t)), "it mixes gates and data"),
        (lambda t: torch.where(torch.ones(4).bool(), t, 0.0), "only a comparison of the data"),
        (lambda t: t * torch.heaviside(torch.ones(()).to(t), t), "whose value at 0 is 0 or 1"),
    ],
)
def test_a_choice_that_is_none_of_gates_is_refused_by_place(act: Act, why: str) -> None:
    with pytest.raises(rl.UnsupportedOperation, match=rf"test_theory_choices.py:\d+: .*({why})"):
        rl.trace(Acting(act), X)


@pytest.mark.parametrize(("slope", "step"), [(0.0, 1), (0.5, 2)])
def test_slopes_that_differ_from_place_to_place_break_shift_invariance(
    slope: float, step: int
) -> None:
    class Striped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 2, 1).double()

        def forward(self, x: Tensor) -> Tensor:
            h = self.conv(x)
            even, odd = F.relu(h[..., ::2]), F.leaky_relu(h[..., 1::2], slope)
            return torch.stack([even, odd], -1).flatten(-2).mean(-1)

    found = shift_symmetry(rl.trace(Striped(), torch.ones(2, 1, 4, dtype=F64)))
    assert isinstance(found, ShiftSymmetry) and found.steps == (step,)


@pytest.mark.parametrize(
    "act",
    [
        lambda t: t.flip(1) * (t > 1),
        lambda t: t.flip(1) * (t.abs() >= 1),
        lambda t: t.flip(1) * (t > SLOPES),
        lambda t: t.flip(1) * (t > t.flip(1) + 1),
        lambda t: F.hardshrink(t, 1.0),
    ],
    ids=["number", "number below", "numbers", "number added", "shrinkage"],
)
def test_gates_that_compare_with_numbers_do_not_scale_with_the_input(act: Act) -> None:
    report = rl.check(Acting(act), X, "dlgn.constant-input-piecewise", effort="quick")
    verdict = report["dlgn.constant-input-piecewise"]
    assert verdict.outcome is rl.Outcome.NOT_IMPLIED, verdict.reason
    assert verdict.unmet[0].hypothesis == "features without sources"


@pytest.mark.parametrize(
    "act",
    [
        lambda t: t.flip(1) * (t > t.flip(1)),
        lambda t: t.flip(1) * (t > torch.zeros_like(t)),
        lambda t: t * ((t.flip(1) > 0) | (t.flip(1) * 2 < 0)),
    ],
    ids=["data", "zeros", "both signs"],
)
def test_gates_that_compare_data_with_data_or_0_do(act: Act) -> None:
    report = rl.check(Acting(act), X, "dlgn.constant-input-piecewise", effort="quick")
    assert report["dlgn.constant-input-piecewise"].outcome is rl.Outcome.HOLDS


def test_a_maximum_with_zeros_in_the_shape_of_the_data_has_its_twin() -> None:
    module = Acting(lambda t: torch.maximum(torch.zeros_like(t), t))
    assert torch.equal(to_dgn(module, X, shared=True, gate=HARD)(X), module(X))


def test_gates_of_columns_are_not_taken_for_gates_of_rows_modulo_a_prime() -> None:
    """There are as many examples as units, so that shapes tell nothing."""
    module, x = Acting(lambda t: t.T.relu().T), torch.randn(4, 3, generator=seeded(2)).double()
    net = rl.trace(module, x)
    assert [layer.batch for layer in net.gate_layers] == [1]
    with pytest.raises(rl.UnsupportedOperation, match="batch axis of its operand is not the first"):
        _ = FieldTrials(record(net), 0)[0].graph_output
    report = rl.check(module, x, "dual.", effort="quick")
    assert not report.failures
