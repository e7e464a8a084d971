"""Sketches: every sign pattern gives the kernel, bars hold as often as they say, faults are seen."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import reluctant as rl
from reluctant.theory import sketches
from reluctant.theory.kernels import kernel_magnitude
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.sketches import RandomValues, sketch
from reluctant.theory.tails import Mean, Terms


class Branches(nn.Module):
    """Use one layer in two parallel branches, with skips and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.shared = nn.Linear(2, 2)
        self.last = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        t = self.first(x)
        return self.last(torch.relu(self.shared(t + torch.relu(t))) + self.shared(-t))


class TwoEnds(nn.Module):
    """End in two layers, of which one is read at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two = nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.one(h.relu()) + self.one(-h) + self.two(x)


class Upstream(nn.Module):
    """End in a layer that also acts before another one, on other paths."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.two(self.one(-x).relu())


def by_position() -> nn.Module:
    """Make a network whose outputs have kernels of their own."""
    return nn.Sequential(nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Conv1d(2, 1, 2, bias=False))


def pooled() -> nn.Module:
    parts = [nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Conv1d(2, 2, 2, bias=False), nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 2))


NETWORKS = {
    "skips": (Branches, (2,)),
    "two ends": (TwoEnds, (2,)),
    "last layer upstream": (Upstream, (2,)),
    "outputs by position": (by_position, (1, 4)),
    "pooled": (pooled, (1, 4)),
}


def made(name: str, n: int = 3) -> tuple[nn.Module, Tensor]:
    make, shape = NETWORKS[name]
    torch.manual_seed(1)
    return make().double(), torch.randn(n, *shape, dtype=torch.float64)


class AllPatterns(RandomValues):
    """Draw every sign pattern, once."""

    def patterns(self) -> int:
        numbers = {
            self.net.weights[k].parameter: self.net.weights[k].entries.total for k in self._drawn
        }
        self.places = {p: sum(list(numbers.values())[:i]) for i, p in enumerate(numbers)}
        return int(2 ** sum(numbers.values()))

    def _draw(self, networks: int) -> dict[int, Tensor]:
        assert networks == self.patterns()
        bits = len(bin(networks)) - 3
        signs = torch.tensor([*itertools.product([1.0, -1.0], repeat=bits)], dtype=torch.float64)
        found = super()._draw(networks)
        for k in self._drawn:
            weight = self.net.weights[k]
            places = self.places[weight.parameter] + weight.entries.listed().flatten()
            found[k] = self._sigma[k] * signs[:, places].reshape(networks, *weight.shape)
        return found


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sources", [True, False])
def test_the_mean_over_all_signs_is_the_kernel(name: str, sources: bool) -> None:
    module, x = made(name)
    net = rl.trace(module, x)
    variance = {w.name: 0.25 * (1 + k) for k, w in enumerate(net.weights)}
    drawn = AllPatterns(net, x, None, variance, sources, None, None, 0)
    drawn._together = drawn.patterns()
    (found,) = drawn.products(1, drawn.patterns())
    law = rl.nngp_law(net, x, variance=variance, sources=sources)
    rounding = drawn.rounding(drawn.patterns())
    if law.ndim == 2:
        found, rounding = found[..., 0], rounding[..., 0]
    size = kernel_magnitude(net, x, net.gates(x), variance=variance, sources=sources)
    bound = gamma(4 * roundings(net) + 8) * size + rounding
    assert bool(((found[0] - law).abs() <= bound).all())
    assert float(bound.max()) <= 1e-10 * float(law.abs().max())


def test_the_last_layers_are_drawn_only_where_they_have_to_be() -> None:
    def ends(name: str) -> list[str]:
        net = rl.trace(*made(name))
        return sorted({net.weights[n.weight].name for n in sketches._ends(net)})

    assert ends("skips") == ["last.bias", "last.weight"]
    assert ends("two ends") == ["one.bias", "one.weight", "two.bias", "two.weight"]
    assert ends("last layer upstream") == []
    net = rl.trace(Arrangements().double(), torch.randn(2, 3, dtype=torch.float64))
    assert sorted(net.weights[n.weight].name for n in sketches._ends(net)) == [
        "last.bias",
        "last.weight",
    ]
    assert ends("outputs by position") == []


class Arrangements(nn.Module):
    """Use one parameter in two arrangements, which no propagation follows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3, bias=False), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((self.first(x) + x @ self.first.weight).relu())


def test_arrangements_of_one_parameter_share_its_signs() -> None:
    module, x = Arrangements().double(), torch.randn(2, 3, dtype=torch.float64)
    with pytest.raises(rl.NotIdentified):
        rl.npk(module, x)
    values = RandomValues(module, x, None, 1.0, True, None, None, 0)
    drawn = values._draw(5)
    names = {k: values.net.weights[k].name for k in values._drawn}
    one, two = (drawn[k] for k, name in names.items() if name == "first.weight")
    assert torch.equal(one, two) != torch.equal(one, two.mT)


def narrow() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)]
    return (
        nn.Sequential(*layers).double(),
        torch.randn(6, 4, dtype=torch.float64),
        torch.randn(3, 4, dtype=torch.float64),
    )


def test_bars_hold_at_least_as_often_as_they_say() -> None:
    module, x, y = narrow()
    net = rl.trace(module, x)
    exact = rl.npk(net, x, y)
    confidence, misses, seeds = 0.8, torch.zeros_like(exact), 40
    for seed in range(seeds):
        found = sketch(net, x, y, within=10.0, confidence=confidence, seed=seed)
        misses += (found.estimate - exact).abs() > found.error
    # each entry misses with probability 0.2 at most: 40 seeds, 18 entries, one run in a million
    allowed = stats.binom.isf(1e-6 / exact.numel(), seeds, 1 - confidence)
    assert float(misses.max()) <= allowed


def test_it_stops_when_the_bars_are_small_enough() -> None:
    module, x, y = narrow()
    exact = rl.npk(module, x, y)
    size = torch.outer(rl.npk(module, x).diagonal(), rl.npk(module, y).diagonal()).sqrt()
    found = sketch(module, x, y, within=0.1)
    assert found.estimate.shape == found.error.shape == (6, 3)
    assert bool(((found.estimate - exact).abs() <= found.error).all())
    # the scale is an estimate too, to 10 % at least as surely as any entry
    assert bool((found.error <= 0.1 * 1.1 * size).all())
    coarse = sketch(module, x, y, within=0.5)
    assert coarse.draws < found.draws <= 1 << 17
    assert torch.equal(found.estimate, sketch(module, x, y, within=0.1).estimate)
    assert not torch.equal(found.estimate, sketch(module, x, y, within=0.1, seed=1).estimate)


def tied_gates(net: Any, x: Tensor) -> dict[str, Any]:
    one = [g[:1].expand_as(g) for g in net.gates(x)]
    return {"gates": (one, one)}


@pytest.mark.parametrize("fault", ["tied gates", "scale", "tied weights"])
def test_a_wrong_sketch_misses_the_kernel(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x, _ = narrow()
    net = rl.trace(module, x)
    options = tied_gates(net, x) if fault == "tied gates" else {}
    draw = RandomValues._draw
    if fault == "scale":
        monkeypatch.setattr(
            RandomValues, "_draw", lambda self, n: {k: 1.1 * w for k, w in draw(self, n).items()}
        )
    if fault == "tied weights":  # the two sides of a layer with one sign
        monkeypatch.setattr(
            RandomValues,
            "_draw",
            lambda self, n: {k: w[..., :1].expand_as(w) for k, w in draw(self, n).items()},
        )
    found = sketch(net, x, within=0.1, kurtosis=100.0, **options)
    assert bool(((found.estimate - rl.npk(net, x)).abs() > found.error).any())


def test_a_network_without_weights_to_draw_is_exact() -> None:
    module, x = nn.Linear(4, 2).double(), torch.randn(3, 4, dtype=torch.float64)
    found = sketch(module, x, within=1e-9)
    assert bool(((found.estimate - rl.npk(module, x)).abs() <= found.error).all())
    assert float(found.error.max()) <= 1e-9


def test_outputs_are_chosen_and_counted_as_the_kernel_does() -> None:
    module, x = made("outputs by position", 4)
    exact = rl.npk(module, x)
    found = sketch(module, x, within=0.5)
    assert found.estimate.shape == exact.shape
    assert bool(((found.estimate - exact).abs() <= found.error).all())
    one = sketch(module, x, within=0.5, output=1)
    assert bool(((one.estimate - exact[..., 1]).abs() <= one.error).all())


def test_blocks_of_examples_and_networks_change_no_law(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x, y = narrow()
    monkeypatch.setattr(sketches, "_NUMBERS", 200)
    found = sketch(module, x, y, within=0.5)
    assert bool(((found.estimate - rl.npk(module, x, y)).abs() <= found.error).all())


class Twice(nn.Module):
    """Let one layer act twice on a path."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).relu())


@pytest.mark.wrong_types
def test_what_cannot_be_sketched_says_so() -> None:
    module, x, y = narrow()
    with pytest.raises(rl.NotIdentified, match=r"layer\.weight acts twice on a path"):
        sketch(Twice().double(), x[:, :3])
    with pytest.raises(rl.InputError, match=r"no weights to draw"):
        sketch(nn.ReLU(), x)
    with pytest.raises(rl.InputError, match=r"exceed the largest float64"):
        sketch(module, x, variance=1e200)
    with pytest.raises(rl.InputError, match=r"take about \d{5,} networks, more than draws=2000"):
        sketch(module, x, draws=2000, within=0.01)
    with pytest.raises(rl.InputError, match=r"pass a larger kurtosis"):
        sketch(module, x, within=10.0, kurtosis=1.0)
    for options, message in [
        ({"within": 0.0}, "within must be positive"),
        ({"within": "2%"}, "within must be a number, got '2%'"),
        ({"draws": 2e4}, "draws must be an integer, got 20000.0"),
        ({"seed": "k"}, "seed must be an integer, got 'k'"),
        ({"gates": ([x[:2]] * 2, [x] * 2)}, "gate layer 0 is that of 2 inputs, got 6"),
        ({"confidence": 1.0}, "confidence must lie between"),
        ({"kurtosis": 0.5}, "finite number of at least 1"),
        ({"draws": 10}, "draws must be 1088 at least"),
        ({"output": 7}, "output 7 does not exist"),
    ]:
        with pytest.raises(rl.InputError, match=message):
            sketch(module, x, **options)  # type: ignore[arg-type]
    with pytest.raises(rl.InputError, match=r"reads examples of shape \(4,\)"):
        sketch(module, x, y[:, :2])


@pytest.mark.parametrize("name", ["exponential", "chi-squared", "rare"])
def test_means_of_long_tails_stay_within_their_bars(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    entries, count = 4000, 1024
    if name == "exponential":
        draws = torch.empty(count, entries, dtype=torch.float64).exponential_(generator=generator)
        mean, kurtosis = 1.0, 9.0
    elif name == "chi-squared":
        draws = torch.randn(count, entries, dtype=torch.float64, generator=generator).square()
        mean, kurtosis = 1.0, 15.0
    else:  # 1 with probability p: kurtosis 1/p(1 − p) − 3
        p = 1 / 16
        draws = (torch.rand(count, entries, generator=generator) < p).double()
        mean, kurtosis = p, 1 / (p * (1 - p)) - 3
    found = Mean(
        torch.full((entries,), 0.8, dtype=torch.float64),
        torch.full((entries,), 0.7, dtype=torch.float64),
        # the fourth moments of what is drawn scatter themselves: allow for four times as much
        Terms(count, 4 * kurtosis, 0.1),
    )
    found.add(draws)
    misses = int(((found.estimate - mean).abs() > found.bar).sum())
    assert misses <= 0.1 * entries


def test_a_bar_is_its_formula() -> None:
    terms = Terms(1024, 9.0, 3.0 / math.e**2)  # log(1/ε) = 2
    assert abs(terms.exponent - 2.0) <= gamma(8)
    assert terms.ratio == 16.0
    assert abs(terms.known - 0.75) <= gamma(16)  # 1 − √(2 · 16 · 2 / 1024)
    one = torch.ones(1, dtype=torch.float64)
    found = Mean(0 * one, 4 * one / 1024, terms)  # α = 1
    found.add(torch.tensor([3.0, -3.0]).repeat(512)[:, None].double())
    assert abs(float(found.estimate)) <= gamma(1024)
    assert abs(float(found.bar) - (9.0 / 0.75 / 2 + 2 / 1024)) <= gamma(64) * 7
    up = Mean(one, 4 * one / 1024, terms)
    up.add(2 * one.expand(1024, 1))
    assert abs(float(up.estimate) - 1.0 - math.log(2.5)) <= gamma(1100)
    assert Terms(8, 9.0, 0.01).known == 0.0  # too few draws bound nothing
