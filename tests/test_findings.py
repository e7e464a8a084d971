"""What is found of a network: each thing on a network that has it, and on one that has not."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from conformance_specimens import X, make_module
from torch import Tensor, nn

import reluctant as rl
from reluctant.markdown import markdown
from reluctant.properties import hypotheses as needs
from reluctant.properties.catalogue import statements
from reluctant.properties.families import FAMILIES
from reluctant.properties.findings import findings
from reluctant.properties.pools import pool
from reluctant.properties.sensitivity import Sample, ray_change, shift_change, source_share
from reluctant.reports.page import render_check
from reluctant.tables import where_found
from reluctant.theory.findings import Finding, Size
from reluctant.theory.symmetry import asymmetries, shift_symmetry
from reluctant.theory.tracing import trace

IMAGES = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(0)).double()
Forward = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Hold a few layers, and put them together as it is told."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.put_together = forward
        self.first = nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular", bias=False)
        self.circular = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular", bias=False)
        self.zero = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bare = nn.Conv2d(4, 4, 3, bias=False)
        self.point = nn.Conv2d(4, 4, 1, bias=False)
        self.strided = nn.Conv2d(4, 4, 3, 2, 1, padding_mode="circular", bias=False)
        self.biased = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.flat = nn.Linear(4 * 36, 2, bias=False)
        self.last = nn.Linear(4, 2, bias=False)
        nn.init.normal_(self.norm.bias)
        self.slopes = nn.PReLU(4)
        self.slopes.weight.data = torch.tensor([0.1, 0.2, 0.3, 0.4])

    def forward(self, x: Tensor) -> Tensor:
        return self.put_together(self, x)


def make(forward: Forward) -> Net:
    return Net(forward).double().eval()


def pooled(body: Forward) -> Net:
    return make(lambda n, x: n.last(body(n, n.first(x)).mean((2, 3))))


def found(module: nn.Module, x: Tensor = IMAGES) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings(module, x)}


def whats(finding: Finding) -> list[str]:
    return [place.what for place in finding.places]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (lambda n, x: n.circular(x), "circular (2)"),
        (lambda n, x: n.zero(x), "circular (1), zero-padded (1)"),
        (lambda n, x: n.zero(F.pad(x, (1, 1, 1, 1))), "circular (1), zero-padded (1)"),
        (lambda n, x: n.bare(F.pad(x, (1, 1, 1, 1))), "circular (1), zero-padded (1)"),
        (lambda n, x: n.bare(x), "circular (1), unpadded (1)"),
        (lambda n, x: n.point(x), "circular (1), pointwise (1)"),
        (lambda n, x: n.strided(x), "circular (2)"),
        (
            lambda n, x: n.bare(F.pad(x, (2, 2, 2, 2), "circular")),
            "circular (1), circular, with positions lost or added (1)",
        ),
        (
            lambda n, x: n.bare(F.pad(x, (1, 1, 1, 1), "reflect")),
            "circular (1), otherwise padded (1)",
        ),
        (
            lambda n, x: n.bare(F.pad(x, (1, 1, 1, 1), value=0.5)),
            "circular (1), otherwise padded (1)",
        ),
        (
            lambda n, x: n.bare(F.pad(F.pad(x, (1, 1, 0, 0), "circular"), (0, 0, 1, 1))),
            "circular (1), zero-padded (1)",
        ),
        (
            lambda n, x: n.bare(
                F.pad(torch.cat([x[..., -1:], x, x[..., :1]], -1), (0, 0, 1, 1), "circular")
            ),
            "circular (2)",
        ),
    ],
)
def test_each_convolution_says_what_is_beyond_its_edges(body: Forward, answer: str) -> None:
    convolutions = found(pooled(body))["convolutions"]
    assert convolutions.answer == answer
    assert len(convolutions.places) == 2
    assert all("test_findings.py:" in place.where for place in convolutions.places)


def test_circular_convolutions_are_those_that_leave_shifts_alone() -> None:
    bodies: list[Forward] = [
        lambda n, x: n.circular(x),
        lambda n, x: n.zero(x),
        lambda n, x: n.bare(x),
        lambda n, x: n.point(x),
        lambda n, x: n.bare(F.pad(x, (1, 1, 1, 1), "reflect")),
        lambda n, x: n.bare(F.pad(x, (1, 1, 1, 1), value=0.5)),
    ]
    for body in bodies:
        seen = found(pooled(body))
        kinds = {what.split(": ")[1].split(",")[0] for what in whats(seen["convolutions"])}
        assert (kinds <= {"circular", "pointwise"}) == seen["shift invariant"].met


def test_strides_and_pools_are_named_with_the_positions_they_leave() -> None:
    strided = found(pooled(lambda n, x: F.max_pool2d(n.strided(x), 2, 1)))
    assert whats(strided["strides and pools"]) == [
        "strided: 6 × 6 positions to 3 × 3",
        "max_pool2d: 3 × 3 positions to 2 × 2",
    ]
    halved = found(pooled(lambda n, x: n.strided(x)))
    assert halved["shift invariant"].met
    every = halved["invariant under every shift"]
    assert not every.met and whats(every) == [
        "strided leaves out positions: only shifts by multiples of 2 and 2 leave the output as it is"
    ]
    assert every.sizes[0].largest > 0.01
    sliced = found(pooled(lambda n, x: x[:, :, ::2, ::2]))
    assert len(sliced["strides and pools"].places) == 2
    plain = found(pooled(lambda n, x: n.circular(x)))
    assert plain["strides and pools"].answer == "none"
    assert plain["invariant under every shift"].met


@pytest.mark.parametrize(
    ("forward", "answer"),
    [
        (lambda n, x: n.last(n.first(x).mean((2, 3))), "pooled by average"),
        (lambda n, x: n.last(F.adaptive_avg_pool2d(n.first(x), 1).flatten(1)), "pooled by average"),
        (lambda n, x: n.last(F.avg_pool2d(n.first(x), 6).flatten(1)), "pooled by average"),
        (lambda n, x: n.last(n.first(x).sum((2, 3))), "pooled by sum"),
        (lambda n, x: n.last(n.first(x).amax((2, 3))), "pooled by maximum"),
        (lambda n, x: n.last(F.max_pool2d(n.first(x), 6).flatten(1)), "pooled by maximum"),
        (lambda n, x: n.flat(n.first(x).flatten(1)), "flattened"),
        (lambda n, x: n.first(x), "the output keeps its positions"),
        (
            lambda n, x: n.last(n.first(x).mean((2, 3)) + n.first(x).amax((2, 3))),
            "pooled by average, pooled by maximum",
        ),
    ],
)
def test_the_pooling_over_all_positions_says_what_it_does(forward: Forward, answer: str) -> None:
    assert found(make(forward))["global pooling"].answer == answer


def test_every_source_is_named() -> None:
    network = pooled(lambda n, x: n.norm(n.biased(x)).clamp(-1, 1) + 2.0)
    sources = found(network)["bias-free"]
    assert not sources.met
    names = ["biased.bias is a bias", "batch_norm adds", "clamp adds", "add adds"]
    assert [any(name in what for what in whats(sources)) for name in names] == [True] * 4
    free = found(pooled(lambda n, x: n.point(x).relu()))["bias-free"]
    assert free.met and not free.places and not free.sizes


def test_parameters_in_several_places_are_named_with_each() -> None:
    def parallel(n: Net, x: Tensor) -> Tensor:
        return n.circular(x) + n.circular(x.relu())

    beside = found(pooled(parallel))
    assert beside["weights in several places"].answer == "circular.weight (1)"
    assert len(beside["weights in several places"].places) == 2
    assert beside["no weight twice on a path"].met
    behind = found(pooled(lambda n, x: n.circular(n.circular(x))))
    assert whats(behind["no weight twice on a path"]) == [
        "circular.weight can act twice on one path"
    ]
    assert behind["no weight twice on a path"].places[0].where
    once = found(pooled(lambda n, x: n.circular(x)))
    assert once["weights in several places"].answer == "none"


@pytest.mark.parametrize(
    ("body", "kind", "origin", "is_own"),
    [
        (lambda n, x: x.relu(), "ReLU", "gates from what it multiplies", True),
        (lambda n, x: F.leaky_relu(x, 0.1), "leaky ReLU of slope 0.1", "from what it", True),
        (lambda n, x: n.slopes(x), "leaky ReLU of trained slope 0.1 to 0.4", "from what it", True),
        (lambda n, x: x * (x > 0), "ReLU", "gates from what it multiplies", True),
        (lambda n, x: x * (x > 0.5), "comparison with 0.5", "made by first.weight", False),
        (lambda n, x: x * (n.zero(x) > 0), "comparison", "first.weight, zero.weight", False),
        (lambda n, x: F.max_pool2d(x, 2), "maximum, first winner", "from what it", True),
    ],
)
def test_gates_say_where_they_come_from(
    body: Forward, kind: str, origin: str, is_own: bool
) -> None:
    seen = found(pooled(body))
    (what,) = whats(seen["layers of gates"])
    assert seen["layers of gates"].answer == f"{kind} (1)"
    assert kind in what and origin in what
    assert seen["own gates"].met is is_own


def test_gates_of_another_network_are_independent() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value, self.feature = nn.Linear(3, 4, bias=False), nn.Linear(3, 4, bias=False)
            self.last = nn.Linear(4, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.value(x) * (self.feature(x) > 0))  # type: ignore[no-any-return]

    seen = found(Gated().double(), X)
    assert seen["gates independent of the value weights"].met
    assert "gates made by feature.weight" in whats(seen["layers of gates"])[0]
    assert "convolutions" not in seen and "shift invariant" not in seen


def test_skips_sums_and_concatenations_are_told_apart() -> None:
    def branches(n: Net, x: Tensor) -> Tensor:
        x = x + n.circular(x)
        x = n.point(x) + n.circular(x.relu())
        return torch.cat([x[:, :2], n.biased(x)[:, 2:]], 1) + 1.0

    assert found(pooled(branches))["skips and branches"].answer == (
        "identity skip (1), sum of branches (1), concatenation (1)"
    )
    assert found(pooled(lambda n, x: n.biased(x)))["skips and branches"].answer == "none"


def test_batch_norms_and_sizes() -> None:
    seen = found(pooled(lambda n, x: n.point(x + n.norm(n.circular(x)))))
    assert seen["batch norms"].answer == "read as constants (1)"
    assert "3 to 4 layers of weights on a path" in seen["size"].answer
    weights = 4 * 2 * 9 + 4 * 4 * 9 + 4 * 4 + 2 * 4
    assert f"{weights} weights in 4 tensors" in seen["size"].answer
    net = make_module()
    assert (
        f"{rl.count_paths(net, X)} paths from the data; 2 outputs" in found(net, X)["size"].answer
    )


def test_unequal_widths_name_every_layer_that_differs() -> None:
    widths = (3, 4, 5, 4, 6, 1)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b, bias=False), nn.ReLU()]
    unequal = found(nn.Sequential(*layers[:-1]).double(), X)["equal widths"]
    assert [what.split(", ")[0] for what in whats(unequal)] == [
        "linear_1 has 5 units",
        "linear_3 has 6 units",
    ]
    assert found(make_module(), X)["equal widths"].met


def test_a_finding_is_its_hypothesis() -> None:
    """On every family, each answer is that of the hypothesis, and every place has a name."""
    everything = {h.name: h for statement in statements() for h in statement.hypotheses}
    for family in FAMILIES:
        trial = next(pool(family, 0).head(1, 3))
        net = trial.net
        for finding in findings(trial.module, trial.x):
            hypothesis = everything.get(finding.name)
            if hypothesis is not None:
                assert finding.met == (hypothesis(net) is None)
        for hypothesis in everything.values():
            assert all(unmet.where for unmet in hypothesis.places(net)), hypothesis.name


def test_all_operations_that_break_a_symmetry_are_named() -> None:
    def two(n: Net, x: Tensor) -> Tensor:
        return n.zero(x) + n.bare(x).mean((2, 3), keepdim=True) + n.zero(x.relu())

    net = trace(pooled(two), IMAGES)
    named = asymmetries(net)
    assert len(named) > 1
    assert named[0] == shift_symmetry(net)
    assert asymmetries(trace(pooled(lambda n, x: n.circular(x)), IMAGES)) == ()


def test_sizes_are_what_they_say() -> None:
    network = pooled(lambda n, x: n.biased(n.zero(x)).relu())
    net, sample = trace(network, IMAGES), Sample(IMAGES, "the example")
    f = network(IMAGES).detach()

    twice = network(2 * IMAGES).detach()
    ratios = (twice - 2 * f).norm(dim=1) / (2 * f).norm(dim=1)
    ray = ray_change(network, sample)
    assert ray is not None and ray.on == "3 inputs of the example"
    assert (ray.largest, ray.mean) == pytest.approx((float(ratios.max()), float(ratios.mean())))

    moved = [
        (network(IMAGES.roll((a, b), (2, 3))).detach() - f).norm(dim=1) / f.norm(dim=1)
        for a in range(6)
        for b in range(6)
        if a or b
    ]
    shifts = torch.stack(moved)
    change = shift_change(net, sample)
    assert change is not None and change.on.endswith("all 35 cyclic shifts")
    assert (change.largest, change.mean) == pytest.approx(
        (float(shifts.max()), float(shifts.mean()))
    )

    linear = nn.Linear(3, 2).double()
    share = source_share(trace(linear, X), Sample(X, "the data"))
    bias = linear.bias.detach().norm().expand(2)
    carried = bias / (bias + (X @ linear.weight.detach().T).norm(dim=1))
    assert share is not None
    assert (share.largest, share.mean) == pytest.approx(
        (float(carried.max()), float(carried.mean()))
    )


def test_a_size_leaves_out_inputs_without_output_and_may_be_missing() -> None:
    network = nn.Linear(3, 2, bias=False).double()
    sample = Sample(torch.stack([X[0], 0 * X[0]]), "the data")
    ray = ray_change(network, sample)
    assert ray is not None and ray.on == "2 inputs of the data (1 left out, where f(x) = 0)"
    assert ray_change(network, Sample(0 * X, "the data")) is None


def test_many_shifts_are_drawn_by_the_seed() -> None:
    images = torch.randn(2, 2, 9, 9).double()
    net, sample = trace(pooled(lambda n, x: n.zero(x)), images), Sample(images, "the data")
    change = shift_change(net, sample, 3)
    assert change is not None and change.on.endswith("63 of the 80 cyclic shifts")
    assert change == shift_change(net, sample, 3) != shift_change(net, sample, 4)


def test_a_report_shows_what_was_found_everywhere() -> None:
    network = pooled(lambda n, x: n.biased(n.zero(x)).relu())
    report = rl.check(network, IMAGES, "dual.inner-product", data=torch.cat([IMAGES] * 3))
    assert report.findings[-1] == findings(network, IMAGES)[-1]
    by_name = {finding.name: finding for finding in report.findings}
    assert "on 8 inputs of the data" in by_name["bias-free"].sizes[0].words
    for text in (render_check(report), markdown(report, by_statement=False)):
        for finding in report.findings:
            assert finding.name in text
        assert "zero: zero-padded" in text and "at most" in text
    many = dataclasses.replace(by_name["bias-free"], places=by_name["bias-free"].places * 9)
    shown = list(where_found(many, 4))
    assert len(shown) == 6 and shown[4].startswith("and 5 more")
    assert rl.Report.from_json(report.to_json()).findings == report.findings


def test_a_network_that_cannot_be_read_has_no_findings() -> None:
    report = rl.check(nn.Sequential(make_module(), nn.GELU()), X, "dual.psd")
    assert report.findings == ()
    with pytest.raises(rl.UnsupportedOperation):
        findings(nn.Sequential(make_module(), nn.GELU()), X)


def test_a_hypothesis_of_the_former_form_has_one_place() -> None:
    one = rl.Hypothesis("one output", "There is one.", lambda net: rl.Unmet("one output", "no"))
    net = trace(make_module(), X)
    assert list(one.places(net)) == [rl.Unmet("one output", "no")]
    assert len(list(needs.BIAS_FREE.places(trace(make_module(bias=True), X)))) == 2
    assert Size("a", "b", 1.0, 0.5).words == "a: 1 at most, 0.5 on average, on b"
