"""Networks over prime fields: fractions, path propagation and the module's own graph agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from model_specimens import Part
from torch import Tensor, nn

from reluctant.properties.exact import FieldTrials, record
from reluctant.properties.families import FAMILIES
from reluctant.properties.pools import pool
from reluctant.properties.specimens import Family
from reluctant.theory.errors import InputError, UnsupportedOperation
from reluctant.theory.fields import PrimeField
from reluctant.theory.modular import FieldTrial, Recording
from reluctant.theory.rationals import rational_output
from reluctant.theory.residues import most_terms
from reluctant.theory.statements import Trial
from reluctant.theory.tracing import trace

SPECIMENS = 4
families = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)


def field_trial(trial: Trial, formal: bool = False, k: int = 0) -> FieldTrial:
    return FieldTrials(Recording(trial.net, trial.x, formal), 0)[k]


@families
def test_propagation_is_that_of_fractions(family: Family) -> None:
    for trial in pool(family).head(SPECIMENS):
        tried = field_trial(trial)
        p, weights = tried.over.prime, [torch.round(w.sign() * 3 + w) for w in trial.weights]
        x = torch.round(2 * trial.x.double())
        found = tried.over.canonical(
            tried.network.output(tried.over.reduce(x), tried.gates, weights).flatten(1)
        )
        for row in range(len(x)):
            gates = [g[row : row + 1] if len(g) > 1 else g for g in tried.recording.gates]
            exact = rational_output(trial.net, x[row : row + 1], gates, weights)
            assert found[row].long().tolist() == [
                v.numerator * pow(v.denominator, -1, p) % p for v in exact
            ]


@families
@pytest.mark.parametrize("formal", [False, True], ids=["recorded", "formal"])
def test_graph_and_propagation_agree(family: Family, formal: bool) -> None:
    for trial in pool(family).head(SPECIMENS):
        tried = field_trial(trial, formal)
        sides = [tried.over.canonical(t) for t in (tried.graph_output, tried.output)]
        assert torch.equal(*sides), trial.module


@families
def test_the_sweep_back_is_the_slope_of_a_change(family: Family) -> None:
    """At most affine in x, so f(x + d) − f(x) is ⟨d, ∂f/∂x⟩ exactly."""
    for trial in pool(family).head(SPECIMENS):
        tried = field_trial(trial)
        network, over = tried.network, tried.over
        along = tried.draw(
            *tried.values[tried.net.output]
            .expand(len(tried.x), *tried.net.nodes[tried.net.output].shape)
            .shape
        )
        slope, _, _ = network.slopes(tried.x, tried.gates, tried.weights, along)
        step = tried.draw(*tried.x.shape)
        moved = network.output(over.reduce(tried.x + step), tried.gates, tried.weights)
        left = tried.inner(along, over.reduce(moved.flatten(1) - tried.output).reshape(along.shape))
        assert torch.equal(over.canonical(left), over.canonical(tried.inner(step, slope)))


def test_evaluating_again_after_a_change_is_evaluating() -> None:
    module = nn.Sequential(
        nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)
    ).double()
    tried = FieldTrials(record(trace(module, torch.randn(2, 3, dtype=torch.float64))), 0)[0]
    for k, weight in enumerate(tried.net.weights):
        new = tried.draw(*tried.parameters[weight.parameter].shape)
        parameters = {**tried.parameters, weight.parameter: new}
        whole = tried.network.output(tried.x, tried.gates, tried.weights_of(parameters))
        again = tried.graph.changed(
            tried.graph_values, tried.x, tried.gates, parameters, [weight.parameter]
        )
        canonical = tried.over.canonical
        assert torch.equal(canonical(again), canonical(whole)), k
        assert not torch.equal(canonical(again), canonical(tried.graph_output))


def test_the_rational_route_refuses_what_is_too_large() -> None:
    net = trace(nn.Linear(5000, 1).double(), torch.zeros(2, 5000, dtype=torch.float64))
    x = torch.zeros(1, 5000, dtype=torch.float64)
    with pytest.raises(InputError, match="5000 entries, more than 4096"):
        rational_output(net, x, [], net.weight_values())
    with pytest.raises(InputError, match="one input at a time, got 2"):
        rational_output(net, torch.zeros(2, 5000), [], net.weight_values())


LINEAR: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "average": (1, nn.AvgPool1d(2)),
    "average, padding counted": (1, nn.AvgPool1d(3, 2, 1)),
    "average, padding not counted": (2, nn.AvgPool2d((3, 2), 1, 1, count_include_pad=False)),
    "average, another divisor": (2, nn.AvgPool2d(3, 2, 1, divisor_override=5)),
    "average of volumes": (3, nn.AvgPool3d(2, 2)),
    "adaptive average": (2, nn.AdaptiveAvgPool2d((2, 3))),
    "mean": (2, lambda z: z.mean((1, 3), keepdim=True)),
    "sum, examples second": (1, lambda z: z.transpose(0, 1).sum(0)),
    "sum": (2, lambda z: z.sum(-1)),
    "mean added to each": (2, lambda z: z + z.mean((2, 3), keepdim=True)),
    "multiples added": (1, lambda z: torch.add(z, z.flip(2), alpha=3)),
    "multiples subtracted": (1, lambda z: torch.sub(z, z.flip(2), alpha=3)),
    "subtracted from a constant": (1, lambda z: 2.0 - z),
    "divided": (1, lambda z: z / 3),
}


@pytest.mark.parametrize("name", LINEAR)
def test_what_adds_and_averages_is_the_same_in_graph_and_propagation(name: str) -> None:
    rank, part = LINEAR[name]
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](1, 2, 1)
    module = nn.Sequential(convolution, Part(part)).double()
    net = trace(module, torch.randn(2, 1, *(5, 4, 4)[:rank], dtype=torch.float64))
    tried = FieldTrials(record(net), 0)[0]
    sides = [tried.over.canonical(t) for t in (tried.graph_output, tried.output)]
    assert bool(sides[0].any())
    assert torch.equal(*sides)


class Sliced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight[:2])


def test_a_parameter_of_which_a_part_is_read_is_drawn_whole() -> None:
    net = trace(Sliced(), torch.zeros(2, 3, dtype=torch.float64))
    tried = FieldTrials(record(net), 0)[0]
    assert [t.numel() for t in tried.parameters.values()] == [12]
    sides = [tried.over.canonical(t) for t in (tried.graph_output, tried.output)]
    assert bool(sides[0].any())
    assert torch.equal(*sides)


def rounded_up(x: Tensor) -> Tensor:
    return nn.functional.avg_pool1d(x, 2, ceil_mode=True)


def test_the_graph_names_what_it_cannot_evaluate() -> None:
    x = torch.randn(1, 1, 5, dtype=torch.float64)
    net = trace(nn.Sequential(nn.Conv1d(1, 1, 1), Part(rounded_up)).double(), x)
    tried = FieldTrials(record(net), 0)[0]
    with pytest.raises(UnsupportedOperation, match=r"avg_pool1d.* windows beyond the edge"):
        _ = tried.graph_output


def test_the_most_terms_of_a_sum_are_counted_layer_by_layer() -> None:
    module = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    net = trace(module, torch.zeros(2, 3, dtype=torch.float64))
    assert most_terms(net) == 6 + 1  # what the last layer adds, and its bias
    assert most_terms(net, 5, backward=True) == 6 + 1
    # an entry of a weight's derivative adds over 9 examples, and is added to what is there
    assert most_terms(net, 9, backward=True) == 9 + 1
    # an entry of the data's derivative adds over the rows, which are 6 in the first layer of this
    wide = trace(nn.Linear(3, 6).double(), torch.zeros(2, 3, dtype=torch.float64))
    assert most_terms(wide) == 3 + 1
    assert most_terms(wide, 2, backward=True) == 6 + 1


def test_a_field_too_large_for_the_network_is_refused() -> None:
    module = nn.Sequential(nn.Linear(4096, 2, bias=False)).double()
    net = trace(module, torch.randn(1, 4096, dtype=torch.float64))
    with pytest.raises(InputError, match=r"exceed 2\^53"):
        _ = FieldTrial(record(net), PrimeField(8_388_593), 0, torch.Generator()).network
