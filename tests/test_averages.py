from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reluctant.models import Regime, make_conv, make_dgn, make_fc, make_residual
from reluctant.properties.averages import bernstein, output_average, tangent_average
from reluctant.properties.thinning import thinned
from reluctant.properties.weights import weight_entries
from reluctant.theory.errors import InputError
from reluctant.theory.kernels import kernel_magnitude, nngp_law, ntk_law
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import CannotTry, Trial
from reluctant.theory.verdicts import EvidenceKind


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Branches(nn.Module):
    """Add t + relu(t), and use one module in two parallel branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.shared = nn.Linear(2, 2)
        self.last = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        t = self.first(x)
        h = torch.relu(self.shared(t + torch.relu(t))) + self.shared(-t)
        return self.last(h)


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 2, 2, groups=2),
        nn.ReLU(),
        nn.Conv1d(2, 2, 1),
        nn.ReLU(),
        nn.AvgPool1d(2),
        nn.Flatten(),
        nn.Linear(2, 2),
    )


def make_case(name: str) -> tuple[nn.Module, Tensor]:
    g = seeded(6)
    vectors = torch.randn(3, 2, generator=g, dtype=torch.float64)
    signals = torch.randn(3, 2, 4, generator=g, dtype=torch.float64)
    torch.manual_seed(5)
    cases = {
        "fc": lambda: (make_fc(2, [3, 2], 2, generator=g), vectors),
        "biases": lambda: (make_fc(2, [2, 2], generator=g, bias=True), vectors),
        "dgn": lambda: (
            make_dgn(make_fc(2, [3, 2], generator=g), Regime.FRNPF_II, generator=g),
            vectors,
        ),
        "skips": lambda: (make_residual(2, 2, generator=g, skips=2), vectors),
        "pooled": lambda: (make_conv((2, 4), [2], 1, generator=g, window=2), signals),
        "max pooled": lambda: (
            make_conv((2, 4), [2], generator=g, window=2, pool="max"),
            signals,
        ),
        "branches": lambda: (Branches(), vectors),
        "depthwise": lambda: (depthwise(), signals[..., :3]),
    }
    module, x = cases[name]()
    return module.double().eval(), x


CASES = ("fc", "biases", "dgn", "skips", "pooled", "max pooled", "branches", "depthwise")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("sigma", [1.0, 0.6])
def test_every_sign_pattern_gives_the_propagated_laws(name: str, sigma: float) -> None:
    module, x = make_case(name)
    trial = Trial(module, x, seeded(), patterns=2**16)
    average = tangent_average(trial, sigma)
    law = ntk_law(trial.net, x, variance=sigma**2)
    size = kernel_magnitude(trial.net, x, trial.gates, variance=sigma**2, tangent=True)
    slack = average.half_width + gamma(4 * roundings(trial.net) + 8) * size
    assert average.kind is EvidenceKind.ROUNDING
    assert bool(law.any())
    assert bool(((average.mean - law).abs() <= slack).all())
    outputs = output_average(trial, sigma)
    expected = nngp_law(trial.net, x, variance=sigma**2)
    expected = expected if expected.ndim == 3 else expected[..., None].expand(outputs.mean.shape)
    magnitude = kernel_magnitude(trial.net, x, trial.gates, variance=sigma**2)
    magnitude = magnitude if magnitude.ndim == 3 else magnitude[..., None]
    slack = outputs.half_width + gamma(4 * roundings(trial.net) + 8) * magnitude
    assert bool(((outputs.mean - expected).abs() <= slack).all())


def test_small_integers_leave_no_error_at_all() -> None:
    module, _ = make_case("skips")
    x = torch.tensor([[1.0, -2.0], [3.0, 1.0], [-1.0, 2.0]], dtype=torch.float64)
    trial = Trial(module, x, seeded(), patterns=2**16)
    average = tangent_average(trial, 1.0)
    assert average.kind is EvidenceKind.EXACT
    assert not bool(average.half_width.any())
    assert torch.equal(average.mean, ntk_law(trial.net, x))


def test_biases_of_variance_zero_still_have_a_derivative() -> None:
    module, x = make_case("biases")
    trial = Trial(module, x, seeded(), patterns=2**16)
    sigma = {name: 0.0 if "bias" in name else 0.8 for name, _ in module.named_parameters()}
    average = tangent_average(trial, sigma)
    law = ntk_law(trial.net, x, variance={name: s * s for name, s in sigma.items()})
    without = ntk_law(trial.net, x, variance=0.64, sources=False)
    assert bool(((average.mean - law).abs() <= 2 * average.half_width).all())
    assert bool(((average.mean - without).abs() > 2 * average.half_width).all())


def test_a_missing_sigma_is_named() -> None:
    module, x = make_case("biases")
    with pytest.raises(InputError, match=r"no σ is given for .*bias"):
        tangent_average(Trial(module, x, seeded()), {"hidden.0.weight": 1.0})


def test_entries_behind_closed_gates_are_left_out() -> None:
    module, x = make_case("fc")
    trial = Trial(module, x, seeded())
    open_, shut = ([torch.full_like(g, value) for g in trial.gates] for value in (1.0, 0.0))
    assert len(weight_entries(trial, 1.0, gates=open_).signed) == 16
    assert len(weight_entries(trial, 1.0, gates=shut).signed) == 0
    assert not bool(tangent_average(trial, 1.0, gates=shut).mean.any())


@pytest.mark.parametrize("name", CASES)
def test_a_sample_contains_the_law_in_its_interval(name: str) -> None:
    module, x = make_case(name)
    trial = Trial(module, x, seeded(), patterns=1, samples=400)
    average, outputs = tangent_average(trial, 0.7), output_average(trial, 0.7)
    law = ntk_law(trial.net, x, variance=0.49)
    assert average.kind is EvidenceKind.STATISTICAL
    assert average.error_probability == 1e-6
    assert bool(((average.mean - law).abs() <= average.half_width).all())
    assert bool((average.mean - law).any())
    second = nngp_law(trial.net, x, variance=0.49)
    second = second if second.ndim == 3 else second[..., None]
    assert bool(((outputs.mean - second).abs() <= outputs.half_width).all())


def test_the_interval_shrinks_with_the_sample() -> None:
    draws = torch.randn(4000, 1, 1, generator=seeded(), dtype=torch.float64).clamp(-3, 3)
    spread = torch.tensor([[6.0]], dtype=torch.float64)
    wide, narrow = (float(bernstein(draws[:k], spread, 1e-6)) for k in (100, 4000))
    assert 10 < wide / narrow < 40
    assert float(draws.mean().abs()) < narrow


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["wide", "conv", "residual conv", "max pooled"])
def test_a_thinned_network_is_small_alive_and_obeys_the_law(name: str, seed: int) -> None:
    g = seeded(seed)
    images = torch.randn(3, 2, 4, 4, generator=g, dtype=torch.float64)
    module, x = {
        "wide": lambda: (
            make_fc(4, [20, 20, 20], 3, generator=g),
            torch.randn(3, 4, generator=g, dtype=torch.float64),
        ),
        "conv": lambda: (make_conv((2, 4, 4), [3, 3], 2, generator=g, bias=True), images),
        "residual conv": lambda: (
            make_residual((2, 4), 3, generator=g, skips=2, window=2),
            images[:, :, 0],
        ),
        "max pooled": lambda: (make_conv((2, 4, 4), [3, 3], generator=g, pool="max"), images),
    }[name]()
    trial = Trial(module.double(), x, g)
    part = thinned(trial, 0.7)
    assert part.what
    average = tangent_average(trial, 0.7, gates=part.gates, x=part.x)
    assert average.kind is EvidenceKind.ROUNDING
    law = ntk_law(trial.net, part.x, variance=0.49, gates=(part.gates, part.gates))
    assert bool(law.any())
    assert bool(((average.mean - law).abs() <= 2 * average.half_width).all())


def test_what_is_small_enough_is_left_whole() -> None:
    module, x = make_case("fc")
    part = thinned(Trial(module, x, seeded(), patterns=2**16))
    assert not part.what
    assert torch.equal(part.x, x)


def test_an_impossible_limit_is_reported() -> None:
    module, x = make_case("biases")
    with pytest.raises(CannotTry, match="allow more patterns"):
        thinned(Trial(module, x, seeded()), patterns=1)


def test_one_output_can_be_kept_of_several() -> None:
    module = make_fc(3, [6, 6], 5, generator=seeded(1)).double()
    x = torch.randn(3, 3, generator=seeded(), dtype=torch.float64)
    trial = Trial(module, x, seeded())
    part = thinned(trial, 0.7, outputs=False)
    assert part.net.output_size == 1
    average = tangent_average(trial, 0.7, gates=part.gates, x=part.x, net=part.net)
    law = ntk_law(part.net, part.x, variance=0.49, gates=(part.gates, part.gates))
    assert bool(law.any())
    assert bool(((average.mean - law).abs() <= 2 * average.half_width).all())


def test_a_deep_network_does_not_overflow_the_search_for_live_weights() -> None:
    layers = [nn.Linear(300, 300, bias=False) for _ in range(150)]
    module = nn.Sequential(*layers, nn.Linear(300, 1, bias=False)).double()
    x = torch.randn(2, 300, generator=seeded(), dtype=torch.float64)
    entries = weight_entries(Trial(module, x, seeded()), 1.0)
    assert len(entries.signed) == 150 * 300**2 + 300


def test_a_branch_whose_gates_are_all_off_hides_no_weight() -> None:
    """Found on a trained network: 0 / 0 made the weights before the branch look dead."""
    network = make_residual(2, 2, generator=seeded(3), block_layers=2, dtype=torch.float64)
    x = torch.tensor([[1.0, -2.0], [3.0, 1.0], [2.0, 5.0]], dtype=torch.float64)  # all sums exact
    trial = Trial(network, x, seeded())
    for shut in trial.net.value_gates:
        gates = [torch.zeros_like(g) if k == shut else g for k, g in enumerate(trial.gates)]
        expected = ntk_law(trial.net, x, variance=4.0, gates=(gates, gates))
        average = tangent_average(trial, 2.0, gates=gates)
        assert torch.equal(average.mean, expected)
