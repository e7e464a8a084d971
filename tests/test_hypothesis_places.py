"""A hypothesis that fails at several places names them all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reluctant.properties.concatenation import CONCATENATED
from reluctant.properties.dependence import INDEPENDENT_LAW
from reluctant.properties.linear_gates import FEATURES_WITHOUT_SOURCES
from reluctant.properties.orders import LAYERS_COMMUTE
from reluctant.properties.path_sums import COUNTED
from reluctant.properties.shifts import AVERAGED, MAXIMISED, SHIFT_INVARIANT
from reluctant.properties.skips import EVEN_DEPTH, IN_A_ROW, PLAIN_RESIDUAL
from reluctant.properties.soft_gates import SOFT
from reluctant.properties.variances import AT_MOST_ONE
from reluctant.theory.statements import Hypothesis
from reluctant.theory.tracing import trace


class Twice(nn.Module):
    """Two residual blocks of two layers, whose gates 0 and 2 are made by features with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3, bias=False) for _ in range(4))
        self.features = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for k in range(2):
            gates = 2.0 * (self.features[k](x) > 0)
            x = x + self.layers[2 * k + 1](gates * self.layers[2 * k](x))
        return x


class Aside(nn.Module):
    """Two branches, each with a skip that the other's paths never meet."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        first, second, left, right = self.layers
        a, b = first(x), second(x)
        return torch.cat([a + left(a).relu(), b + right(b).relu()], 1)


def zero_padded() -> list[nn.Module]:
    """Return two convolutions that pad with zeros, and an average."""
    first, second = nn.Conv1d(1, 2, 3, padding=1), nn.Conv1d(2, 1, 3, padding=1)
    return [first, nn.ReLU(), second, nn.AdaptiveAvgPool1d(1)]


def own() -> nn.Sequential:
    """Return a chain of two layers of gates of its own, with windows at positions."""
    return nn.Sequential(
        nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Conv1d(2, 2, 3), nn.ReLU(), nn.Conv1d(2, 1, 1)
    )


class Pictures(nn.Module):
    """Zero padding twice, a stride, a pool over windows, and the maximum over all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.padded = nn.Conv1d(1, 2, 3, padding=1, bias=False)
        self.strided = nn.Conv1d(2, 2, 1, stride=2, bias=False)
        self.last = nn.Linear(2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.avg_pool1d(self.strided(self.padded(x).relu()), 2)
        return self.last(x.mean(2))


class Uneven(nn.Module):
    """Two blocks whose branches fork into paths of one layer and of two."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3, bias=False) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        for k in (0, 3):
            once, first, second = self.layers[k : k + 3]
            x = x + (once(x) + second(first(x).relu()))
        return x


class Joined(nn.Module):
    """Branches side by side along positions, which are averaged before the next weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.cat([x, x.relu()], 2).mean(2))


@pytest.mark.parametrize(
    ("hypothesis", "module", "x", "count"),
    [
        (SOFT, Twice(), torch.ones(2, 3), 3),
        (PLAIN_RESIDUAL, Twice(), torch.ones(2, 3), 2),
        (AT_MOST_ONE, Twice(), torch.ones(2, 3), 2),
        (FEATURES_WITHOUT_SOURCES, Twice(), torch.ones(2, 3), 2),
        (LAYERS_COMMUTE, Twice(), torch.ones(2, 3), 2),
        (LAYERS_COMMUTE, own(), torch.ones(2, 1, 7), 2),
        (INDEPENDENT_LAW, own(), torch.ones(2, 1, 7), 2),
        (IN_A_ROW, Aside(), torch.ones(2, 3), 2),
        (CONCATENATED, Joined(), torch.ones(2, 1, 4), 2),
        (COUNTED, Pictures(), torch.ones(2, 1, 8), 3),
        (AVERAGED, Pictures(), torch.ones(2, 1, 8), 3),
        (MAXIMISED, Pictures(), torch.ones(2, 1, 8), 3),
        (SHIFT_INVARIANT, nn.Sequential(*zero_padded()), torch.ones(2, 1, 8), 2),
        (EVEN_DEPTH, Uneven(), torch.ones(2, 3), 2),
    ],
    ids=lambda value: value.name if isinstance(value, Hypothesis) else "",
)
def test_a_hypothesis_names_every_place(
    hypothesis: Hypothesis, module: nn.Module, x: Tensor, count: int
) -> None:
    places = list(hypothesis.places(trace(module, x)))
    assert len(places) == len(set(places)) == count, places
    assert hypothesis(trace(module, x)) == places[0]
    assert all(place.hypothesis == hypothesis.name for place in places)
