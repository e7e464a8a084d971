"""Exact evidence: where it holds, what must differ, and that every mutant is killed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from reluctant.properties.catalogue import select
from reluctant.properties.conformance import check
from reluctant.properties.exact import ERROR, FieldTrials, exact_evidence, record, try_statement
from reluctant.properties.families import FAMILIES
from reluctant.properties.modular import CLAIMS
from reluctant.properties.pools import pool
from reluctant.properties.specimens import Family
from reluctant.theory.errors import InputError
from reluctant.theory.modular import Recording
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, Scale, Sum
from reluctant.theory.statements import CannotTry, Mutant, Statement
from reluctant.theory.tracing import trace
from reluctant.theory.verdicts import EvidenceKind, Outcome

STATEMENTS = tuple(s for s in select() if s.modular is not None)
SPECIMENS = 3
MUTANTS = [(s, m) for s in STATEMENTS if s.modular for m in s.modular.mutants]


def specimens(family: Family, count: int = SPECIMENS) -> Iterator[FieldTrials]:
    for trial in pool(family).head(count):
        yield FieldTrials(Recording(trial.net, trial.x), 0)


def test_every_claim_belongs_to_a_statement() -> None:
    assert {s.id for s in STATEMENTS} == set(CLAIMS)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_theory_holds_on_drawn_networks(family: Family) -> None:
    """On one specimen at least each statement comes to a verdict, and never to the wrong one."""
    for trials in specimens(family):
        for statement in STATEMENTS:
            verdict = try_statement(statement, trials)
            assert verdict.is_as_expected, (statement.id, verdict.reason)
            if verdict.outcome is Outcome.HOLDS:
                assert verdict.evidence is not None
                assert verdict.evidence.kind is EvidenceKind.EXACT
                assert verdict.evidence.soundness_error is not None
                assert verdict.evidence.soundness_error <= ERROR


# Statements of which no drawn network measures a violation, and why.
UNMEASURED = {
    "dual.inner-product": "it needs nothing",
    "dual.path-count": "there is no formula to compare with",
    "dual.relu-is-dgn": "a twin that can be made is the network, whatever its gates",
    "dual.permute-units": "there are no units to move",
    "dual.rescale": "there are no units to rescale",
    "dual.frozen-gates-linear": "no family ties weights; a test of its own does",
}


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: s.id)
def test_it_holds_somewhere_and_differs_where_a_hypothesis_fails(statement: Statement) -> None:
    seen = {Outcome.HOLDS: False, Outcome.NOT_IMPLIED: statement.id in UNMEASURED}
    for family in FAMILIES:
        for trials in specimens(family, 8):
            verdict = try_statement(statement, trials)
            if verdict.outcome is Outcome.HOLDS:
                seen[Outcome.HOLDS] = True
            elif verdict.measured:
                seen[Outcome.NOT_IMPLIED] = True
        if all(seen.values()):
            return
    raise AssertionError(f"not seen: {', '.join(o for o, found in seen.items() if not found)}")


@pytest.mark.parametrize(
    ("statement", "mutant"), MUTANTS, ids=[f"{s.id}: {m.name}" for s, m in MUTANTS]
)
def test_every_mutant_is_killed(statement: Statement, mutant: Mutant) -> None:
    assert statement.modular is not None
    for family in FAMILIES:
        for trials in specimens(family):
            if trials.unmet(statement):
                continue
            try:
                right = trials.identities(statement.modular, 0)
                wrong = trials.identities(statement.modular, 0, dict(mutant.ingredients))
            except CannotTry:
                continue
            assert all(i.holds for i in right)
            if not all(i.holds for i in wrong):
                return
    pytest.fail(f"{mutant.name} survives")


class Residual(nn.Module):
    """Be a small residual network with batch norm, pooling and a strided shortcut."""

    def __init__(self, padding_mode: str = "zeros") -> None:
        super().__init__()
        same = {"padding": 1, "bias": False, "padding_mode": padding_mode}
        self.first = nn.Conv2d(2, 4, 3, **same)  # type: ignore[arg-type]
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 4, 3, **same)  # type: ignore[arg-type]
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.first(x)))
        h = torch.relu(h + self.inner(h))
        output: Tensor = self.last(h.mean((2, 3)))
        return output


@pytest.fixture
def net() -> PathNetwork:
    torch.manual_seed(0)
    module = Residual().double()
    for buffer in (module.norm.running_mean, module.norm.running_var):
        assert buffer is not None
        buffer.uniform_(0.5, 1.5)
    return trace(module.eval(), torch.randn(1, 2, 6, 6, dtype=torch.float64))


def other_constant(net: PathNetwork) -> PathNetwork:
    nodes = list(net.nodes)
    at = next(i for i in reversed(net.value_nodes) if isinstance(nodes[i], Scale))
    scale = nodes[at]
    assert isinstance(scale, Scale)
    nodes[at] = replace(scale, factor=scale.factor * (1 + 2.0**-52))
    return replace(net, nodes=tuple(nodes))


def other_branch(net: PathNetwork) -> PathNetwork:
    nodes = list(net.nodes)
    at = next(
        i
        for i in net.value_nodes
        if isinstance(nodes[i], Sum)
        and len(nodes[i].operands) == 2
        and any(isinstance(nodes[k], Gate) for k in nodes[i].operands)
    )
    nodes[at] = replace(nodes[at], operands=nodes[at].operands[1:])
    return replace(net, nodes=tuple(nodes))


def other_layer_of_gates(net: PathNetwork) -> PathNetwork:
    nodes = list(net.nodes)
    first, last = (i for i in net.value_nodes if isinstance(nodes[i], Gate))
    nodes[last] = replace(nodes[last], gate=nodes[first].gate)  # type: ignore[call-arg, attr-defined]
    return replace(net, nodes=tuple(nodes))


def other_weight(net: PathNetwork) -> PathNetwork:
    weights = list(net.weights)
    entries = weights[0].entries.moved(lambda t: t.flip(0))
    weights[0] = replace(weights[0], entries=entries)
    return replace(net, weights=tuple(weights))


@pytest.mark.parametrize(
    "fault",
    [other_constant, other_branch, other_layer_of_gates, other_weight],
    ids=lambda f: f.__name__,
)
def test_a_fault_in_the_reading_is_refuted(
    net: PathNetwork, fault: Callable[[PathNetwork], PathNetwork]
) -> None:
    (right,) = exact_evidence(net, ["dual.inner-product"])
    (wrong,) = exact_evidence(fault(net), ["dual.inner-product"])
    assert right.outcome is Outcome.HOLDS, right.reason
    assert wrong.outcome is Outcome.REFUTED
    assert wrong.counterexample is not None
    assert "is false modulo" in wrong.counterexample.summary
    assert wrong.counterexample.numbers["prime"] > 2**20


def test_padding_decides_whether_features_are_shift_invariant() -> None:
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    for mode, outcome in (("circular", Outcome.HOLDS), ("zeros", Outcome.NOT_IMPLIED)):
        found = exact_evidence(trace(Residual(mode).double().eval(), x), ["conv"])
        assert len(found) == 3
        assert {v.outcome for v in found} == {outcome}
        assert all((v.measured or 0.0) > 0.0 for v in found) == (mode == "zeros")


def test_formal_gates_try_every_gate_at_once(net: PathNetwork) -> None:
    (recorded,) = exact_evidence(net, ["dual.inner-product"])
    (formal,) = exact_evidence(net, ["dual.inner-product"], formal=True)
    assert recorded.outcome is formal.outcome is Outcome.HOLDS
    (wrong,) = exact_evidence(other_layer_of_gates(net), ["dual.inner-product"], formal=True)
    assert wrong.outcome is Outcome.REFUTED


def test_a_smaller_error_takes_more_primes(net: PathNetwork) -> None:
    (some,) = exact_evidence(net, ["dual.inner-product"], error=2.0**-20)
    (more,) = exact_evidence(net, ["dual.inner-product"], error=2.0**-100)
    assert some.evidence is not None
    assert more.evidence is not None
    assert some.evidence.trials < more.evidence.trials
    assert (more.evidence.soundness_error or 1.0) <= 2.0**-100


def test_the_same_seed_gives_the_same_verdicts(net: PathNetwork) -> None:
    def without_time(seed: int) -> list[object]:
        return [replace(v, seconds=0.0) for v in exact_evidence(net, seed=seed)]

    assert without_time(3) == without_time(3)


def test_what_cannot_be_asked_is_refused(net: PathNetwork) -> None:
    with pytest.raises(InputError, match="error must lie between 0 and 1, got 2"):
        exact_evidence(net, error=2.0)
    with pytest.raises(InputError, match=r"shape \(2, 5, 5\), but the network reads \(2, 6, 6\)"):
        exact_evidence(net, data=torch.randn(1, 2, 5, 5, dtype=torch.float64))
    plain = next(s for s in select() if s.modular is None)
    with pytest.raises(InputError, match="has no polynomial form"):
        try_statement(plain, FieldTrials(record(net)))


def test_tied_weights_break_linearity_in_a_layer() -> None:
    layer = nn.Linear(3, 3, bias=False)
    module = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(3, 1)).double()
    net = trace(module, torch.randn(1, 3, dtype=torch.float64))
    data = torch.ones(1, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.fill_(0.5)
    (verdict,) = exact_evidence(net, ["dual.frozen-gates-linear"], data=data)
    assert verdict.outcome is Outcome.NOT_IMPLIED
    assert verdict.measured == 1.0


def test_a_dead_network_is_inconclusive() -> None:
    module = nn.Sequential(
        nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)
    ).double()
    with torch.no_grad():
        module[0].weight.fill_(-1.0)  # type: ignore[operator, union-attr]
    x = torch.ones(1, 2, dtype=torch.float64)
    (verdict,) = exact_evidence(trace(module, x), ["dual.inner-product"], data=x)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "both sides vanish" in verdict.reason


def test_a_residual_network_of_two_to_the_hundred_subnetworks() -> None:
    """Twice as many blocks as ResNet-110 has, and a false ensemble is still found out."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 4, bias=False)
            self.blocks = nn.ModuleList([nn.Linear(4, 4, bias=False) for _ in range(100)])
            self.last = nn.Linear(4, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.first(x))
            for block in self.blocks:
                h = h + 0.5 * torch.relu(block(h))
            output: Tensor = self.last(h)
            return output

    torch.manual_seed(0)
    net = trace(Chain().double(), torch.randn(1, 3, dtype=torch.float64))
    (verdict,) = exact_evidence(
        net, ["skip.output-ensemble"], data=torch.ones(1, 3, dtype=torch.float64)
    )
    assert verdict.outcome is Outcome.HOLDS, verdict.reason
    assert verdict.evidence is not None
    assert "2^100 sub-networks" in verdict.evidence.detail
    assert math.log2(verdict.evidence.soundness_error or 1.0) <= -60


def test_check_tries_a_large_network_modulo_primes_and_a_small_one_not() -> None:
    torch.manual_seed(0)
    for width, large in ((4000, True), (3, False)):
        layers = [
            nn.Linear(2, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 1),
        ]
        module = nn.Sequential(*layers, nn.Identity())
        report = check(
            module, torch.randn(1, 2), ["dual.inner-product", "dual.homogeneous"], effort="quick"
        )
        holds, unmet = report
        assert holds.outcome is Outcome.HOLDS, holds.reason
        assert unmet.outcome is unmet.expected is Outcome.NOT_IMPLIED
        assert holds.evidence is not None
        assert (holds.evidence.soundness_error is not None) == large
        assert not large or (holds.evidence.soundness_error or 1.0) <= ERROR
