"""What a claim takes is known beforehand, is not far from what it takes, and is not exceeded."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from conformance_specimens import make_statement
from model_specimens import seeded
from torch import Tensor, nn

import reluctant as rl
from reluctant.properties import catalogue, conformance, trials
from reluctant.properties.exact import FieldTrials, record, try_statement
from reluctant.properties.judging import judge
from reluctant.theory import costs
from reluctant.theory.costs import Cost, gradient_cost, kernel_cost, pass_cost
from reluctant.theory.kernels import ntk_law
from reluctant.theory.meter import Meter
from reluctant.theory.statements import LIMIT, CannotTry, Statement, Trial
from reluctant.theory.tasks import single_thread
from reluctant.theory.tracing import trace
from reluctant.theory.verdicts import Outcome

PSD = catalogue.select(["dual.psd"])[0]


def convolutions(
    width: int, *, stride: int = 1, mode: Literal["zeros", "circular"] = "zeros", pools: bool = True
) -> nn.Module:
    layers: list[nn.Module] = []
    for before in (2, width, width):
        step = stride if before > 2 else 1
        one = nn.Conv2d(before, width, 3, step, 1, padding_mode=mode, bias=False)
        layers += [one, nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1)] if pools else []
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))


def poolings(width: int) -> nn.Module:
    first = [nn.Conv2d(2, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
    third = [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*first, *second, *third, nn.Flatten(), nn.Linear(width, 3))


def maxima(width: int) -> nn.Module:
    first = [nn.Conv2d(2, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.LazyLinear(3))


def grouped(width: int) -> nn.Module:
    first = [nn.Conv2d(2, width, 3, padding=1, bias=False), nn.ReLU()]
    second = [nn.Conv2d(width, width, 3, padding=1, groups=4, bias=False), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.start = nn.Conv2d(2, width, 3, padding=1)
        self.one, self.two = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.end = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.start(x))
        x = torch.relu(x + self.two(torch.relu(self.one(x))))
        mean: Tensor = self.end(x.mean((2, 3)))
        return mean


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "pooled": (lambda: convolutions(4), (2, 12, 12)),
    "circular": (lambda: convolutions(4, mode="circular"), (2, 12, 12)),
    "strides": (lambda: convolutions(4, stride=2), (2, 16, 16)),
    "flat": (lambda: convolutions(4, pools=False), (2, 16, 16)),
    "poolings": (lambda: poolings(4), (2, 8, 8)),
    "residual": (lambda: Residual(4), (2, 10, 10)),
    "maxima": (lambda: maxima(8), (2, 16, 16)),
    "wide": (lambda: convolutions(32), (2, 10, 10)),
    "grouped": (lambda: grouped(16), (2, 10, 10)),
    "dense": (
        lambda: nn.Sequential(
            nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 3)
        ),
        (64,),
    ),
}


def make(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    builder, shape = NETWORKS[name]
    module, x = builder().eval(), torch.randn(4, *shape)
    module(x)
    return module, x


def small(kernels: float = 5e8, passes: float = 2e11, size: float = 2.0**31) -> Cost:
    return Cost(kernels, passes, size)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_work_and_the_bytes_of_a_kernel_are_foreseen(name: str) -> None:
    module, x = make(name)
    net = trace(module, x)
    gates = net.gates(x)
    foreseen = kernel_cost(net, len(x))
    with single_thread(), Meter() as meter:  # which does not see other threads
        ntk_law(net, x, gates=(gates, gates))
    assert meter.peak <= foreseen.bytes <= 4 * meter.peak
    assert meter.products <= foreseen.kernels <= 4 * meter.products


@pytest.mark.parametrize("name", NETWORKS)
def test_the_bytes_of_passes_are_foreseen(name: str) -> None:
    module, x = make(name)
    net = trace(module, x)
    gates, weights = net.gates(x), net.weight_values()
    foreseen = pass_cost(net, len(x))
    with Meter() as meter:
        net.forward(x.double(), gates, weights)
    assert meter.peak <= foreseen.bytes
    assert meter.products <= foreseen.passes <= 1.1 * meter.products


@pytest.mark.parametrize("name", ["residual", "dense"])
def test_the_bytes_of_gradients_are_foreseen(name: str) -> None:
    module, x = make(name)
    split = catalogue.select(["dual.dgn-ntk-split"])[0]
    trial = Trial(module.double(), x.double(), seeded())
    foreseen = gradient_cost(trial.net, len(x))
    _ = trial.gates, trial.weights
    with Meter() as meter:
        split.claim(trial)
    assert meter.peak <= foreseen.bytes <= 4 * meter.peak
    assert meter.products / 4 <= foreseen.passes <= 4 * meter.products


MEASURED = """
from pathlib import Path
import torch
torch.set_num_threads(1)
from reluctant.theory.meter import Meter
from reluctant.theory.tracing import trace
from torch import nn

def size_of(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

x = torch.randn(16384, 64)
module = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512))
net = trace(module, x)
gates, weights = net.gates(x), net.weight_values()
net.forward(x[:1].double(), [g[:1] for g in gates], weights)
Path("/proc/self/clear_refs").write_text("5")  # forgets the largest size so far
before = size_of("VmRSS")
with Meter() as meter:
    net.forward(x.double(), gates, weights)
print(size_of("VmHWM") - before, meter.peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_meter_measures_what_the_process_takes() -> None:
    env = {"PYTHONPATH": str(Path(rl.__file__).parents[1]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], env=env, capture_output=True, text=True, check=True
    )
    taken, metered = map(float, done.stdout.split())
    assert metered > 2**26
    assert 0.5 * metered < taken < 1.5 * metered


def test_the_meter_counts_what_is_held() -> None:
    held = torch.zeros(1000, dtype=torch.float64)
    with Meter() as meter:
        views = held.view(10, 100), held[:5]
        assert meter.held == 0 and len(views) == 2
        made = held + 1
        assert meter.held == 8000
        part = made[:10]
        del made
        assert meter.held == 8000
        del part
        gc.collect()
        assert meter.held == 0
        _ = torch.ones(3, 4) @ torch.ones(4, 5)
    assert (meter.peak, meter.products) == (8000, 60)


@pytest.mark.parametrize(
    "huge",
    [
        lambda x: torch.zeros(10**6, 10**6),
        lambda x: x[:, None] * x,
        lambda x: torch.einsum("i,j->ij", x, x),
        lambda x: x.repeat(10**9),
        lambda x: torch.cat([x.expand(10**6, -1), x.expand(10**6, -1)]),
    ],
)
def test_the_meter_stops_before_the_memory_is_taken(huge: Callable[[Tensor], Tensor]) -> None:
    x = torch.ones(10**6)
    with pytest.raises(CannotTry, match=r"stopped at .* GiB, more than 64.0 MiB at this effort"):
        with Meter(small(size=2.0**26)):
            huge(x)


def test_the_meter_stops_after_too_many_products() -> None:
    with pytest.raises(CannotTry, match=r"stopped at 1.0e\+03 multiply-adds, more than 1e\+03"):
        with Meter(small(passes=1000)):
            for _ in range(3):
                torch.mm(torch.ones(8, 8), torch.ones(8, 8))


def test_what_depends_on_the_numbers_is_not_foreseen() -> None:
    x = torch.ones(1000)
    with Meter(small(size=20000)):
        assert len(x[x > 2]) == 0
        assert len(x.nonzero()) == 1000


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (small(kernels=1e5), r"4 examples take .*e\+0. multiply-adds, more than 1e\+05 at this"),
        (
            small(size=2.0**20),
            r"4 examples take .* MiB, more than 1.0 MiB at this effort; --effort",
        ),
    ],
)
def test_what_is_too_dear_is_not_begun(limit: Cost, said: str) -> None:
    def begun(trial: Trial) -> list[object]:
        raise AssertionError

    module, x = make("pooled")
    trial = Trial(module.double(), x.double(), seeded(), limit=limit)
    found = judge(replace(PSD, claim=begun), trial)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert re.match(said, found.reason)
    assert judge(PSD, replace(trial, limit=LIMIT)).outcome is Outcome.HOLDS


def test_a_check_says_what_it_cannot_afford(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = make("pooled")
    monkeypatch.setitem(trials.LIMITS, "quick", small(kernels=1e5))
    psd, inner = rl.check(module, x, ["dual.psd", "dual.inner-product"], effort="quick")
    assert psd.outcome is Outcome.INCONCLUSIVE
    assert "--effort thorough allows more, and smaller inputs take less" in psd.reason
    assert inner.outcome is Outcome.HOLDS


def test_a_large_network_stops_what_was_not_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = make("pooled")
    secret = replace(PSD, cost=lambda trial: Cost())
    trial = Trial(module.double(), x.double(), seeded(), limit=small(size=2.0**20))
    assert judge(secret, trial).outcome is Outcome.HOLDS
    monkeypatch.setattr(costs, "LARGE", 1e3)
    found = judge(secret, trial)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.reason.startswith("stopped at ")


def test_a_large_network_is_tried_on_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = make("dense")
    one = ["dual.inner-product"]
    for large, inputs in ((1e7, 4), (1e3, 2)):
        monkeypatch.setattr(costs, "LARGE", large)
        monkeypatch.setattr(conformance, "at_full_size", lambda *_: None)
        (verdict,) = rl.check(module, x, one, effort="quick")
        assert verdict.evidence is not None and verdict.evidence.inputs is not None
        assert verdict.evidence.inputs.example == inputs


def test_trials_that_are_not_kept_are_drawn_again() -> None:
    module, x = make("residual")
    net = trace(module, x)
    whole, least = (trials.Trials(net, x, None, "default", 3) for _ in range(2))
    least.room = 1
    for _ in range(2):
        for one, other in zip(whole, least, strict=True):
            assert torch.equal(one.x, other.x)
            pairs = zip(one.module.parameters(), other.module.parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
    assert list(least.kept) == [0] and len(whole.kept) == 9
    assert whole.tried(9) == least.tried(9)


def test_prime_fields_that_are_not_kept_are_drawn_again() -> None:
    module, x = make("pooled")
    recording = record(trace(module, x[:2]))
    statement = catalogue.select(["dual.inner-product"])[0]
    whole, least = FieldTrials(recording), FieldTrials(recording, limit=small(size=1e5))
    assert torch.equal(whole[3].output, least[3].output)
    assert list(whole._known) == [3]
    assert not least._known
    assert try_statement(statement, whole).outcome is Outcome.HOLDS


def test_primes_that_are_too_dear_are_refused_after_the_first() -> None:
    module, x = make("pooled")
    statement = catalogue.select(["dual.inner-product"])[0]
    recording = record(trace(module, x[:2]))
    with Meter() as meter:
        full = try_statement(statement, FieldTrials(recording))
    assert full.outcome is Outcome.HOLDS and full.evidence is not None
    count = full.evidence.trials
    limit = small(passes=0.5 * meter.products)
    with Meter() as first:
        found = try_statement(statement, FieldTrials(recording, limit=limit))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.reason.startswith(f"{count} random primes take ")
    assert first.products < 1.5 * meter.products / count


def test_a_cost_of_a_user_is_asked_for() -> None:
    module, x = make("pooled")
    own: Statement = replace(make_statement(), cost=lambda trial: Cost(passes=1e99))
    found = judge(own, Trial(module.double(), x.double(), seeded()))
    assert found.reason.startswith("4 examples take 1.0e+99 multiply-adds, more than 2e+11")
