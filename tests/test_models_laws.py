from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from model_specimens import ARCHITECTURES, F64, seeded

from reluctant.models import (
    FeatureNetwork,
    Law,
    Regime,
    copy_fresh,
    gaussian,
    he,
    initialise,
    make_conv,
    make_dgn,
    make_dlgn,
    make_fc,
    make_features,
    scaled,
    signs,
)
from reluctant.theory.errors import InputError


def test_signs_have_exactly_the_stated_size() -> None:
    net = make_fc(5, [6], law=signs((0.5, 2.0)), generator=seeded(), dtype=F64)
    assert {abs(w) for w in net.get_parameter("hidden.0.weight").flatten().tolist()} == {0.5}
    assert {abs(w) for w in net.get_parameter("output.weight").flatten().tolist()} == {2.0}
    assert (
        net.get_parameter("hidden.0.weight").min() < 0 < net.get_parameter("hidden.0.weight").max()
    )


@pytest.mark.parametrize("law", [gaussian(0.5), signs(0.5)], ids=["gaussian", "signs"])
def test_mean_and_variance_are_those_of_the_law(law: Law) -> None:
    weight = make_fc(200, [200], law=law, generator=seeded(), dtype=F64).get_parameter(
        "hidden.0.weight"
    )
    weight = weight.detach()
    n = weight.numel()
    # Five standard errors of the mean and of the variance of a Gaussian (signs have less).
    assert abs(float(weight.mean())) < 5.0 * 0.5 / math.sqrt(n)
    assert abs(float(weight.square().mean()) / 0.25 - 1.0) < 5.0 * math.sqrt(2.0 / n)


def test_scales_follow_the_fan_in() -> None:
    net = make_conv((2, 5, 5), [7], 3, window=3, dense=[4], generator=seeded())
    fan_ins = (2 * 9, 7, 4)
    assert he().sigmas(net) == tuple(math.sqrt(2.0) / math.sqrt(f) for f in fan_ins)
    assert scaled(0.5).sigmas(net) == tuple(0.5 / math.sqrt(f) for f in fan_ins)
    assert signs(0.1).sigmas(net) == (0.1, 0.1, 0.1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_global_generator_is_touched(name: str) -> None:
    before = torch.random.get_rng_state()
    net = ARCHITECTURES[name](seeded())
    make_dlgn(net, generator=seeded())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_single_precision_starts_where_double_does() -> None:
    single = make_fc(3, [4], generator=seeded(), dtype=torch.float32)
    double = make_fc(3, [4], generator=seeded(), dtype=F64)
    for ours, theirs in zip(single.parameters(), double.parameters(), strict=True):
        assert torch.equal(ours, theirs.float())


def test_zero_biases_move_no_weight_and_drawn_ones_are_drawn() -> None:
    plain, zero, drawn = (
        make_fc(3, [4], law=law, bias=bias, generator=seeded(), dtype=F64)
        for law, bias in ((he(), False), (he(), True), (he(bias=1.0), True))
    )
    assert torch.equal(plain.get_parameter("output.weight"), zero.get_parameter("output.weight"))
    assert not zero.get_parameter("hidden.0.bias").any()
    assert drawn.get_parameter("hidden.0.bias").all()


def test_batch_norms_start_as_the_identity() -> None:
    net = make_fc(3, [4], batch_norm=True, generator=seeded(), dtype=F64)
    scale, mean = net.get_parameter("hidden.0.1.weight"), net.get_buffer("hidden.0.1.running_mean")
    scale.data.fill_(3.0)
    mean.fill_(3.0)
    initialise(net, he(), seeded())
    assert scale.unique().tolist() == [1.0]
    assert not mean.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: signs(-1.0), "finite and >= 0, but got -1.0"),
        (lambda: gaussian(math.nan), "finite and >= 0, but got nan"),
        (
            lambda: make_fc(3, [4], law=signs((1.0,)), generator=seeded()),
            "has 1 standard deviations, but the module has 2 weighted layers",
        ),
        (
            lambda: initialise(torch.nn.LSTM(2, 2), he(), seeded()),
            "the module is a LSTM with parameters of its own; draw those yourself",
        ),
    ],
)
def test_bad_laws_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p for name, p in module.named_parameters() if "hidden" in name]


def test_regimes_start_and_train_as_they_say() -> None:
    value = make_fc(3, [4, 4], generator=seeded(), dtype=F64)
    trained = copy_fresh(value, he(), seeded(9))
    for regime in Regime:
        learnt = trained if regime is Regime.FLNPF else None
        network = make_dgn(value, regime, learnt=learnt, generator=seeded(1))
        assert isinstance(network.gates, FeatureNetwork)
        features = weights(network.gates)
        copied = [torch.equal(a, b) for a, b in zip(features, weights(value), strict=True)]
        assert copied == [regime is Regime.FRNPF_DI] * 2
        from_trained = [torch.equal(a, b) for a, b in zip(features, weights(trained), strict=True)]
        assert from_trained == [regime is Regime.FLNPF] * 2
        assert all(p.requires_grad is not regime.is_frozen for p in features)
        assert all(p.requires_grad for p in value.parameters())


def test_dependent_features_copy_values_and_share_nothing() -> None:
    value = make_fc(3, [4, 4], generator=seeded(), dtype=F64)
    network = make_dgn(value, "DLNPF", dependent=True, generator=seeded(1))
    assert network.gates is not None
    for ours, theirs in zip(weights(value), weights(network.gates), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()
    with torch.no_grad():
        value.get_parameter("hidden.0.weight").add_(1.0)
    assert not torch.equal(weights(value)[0], weights(network.gates)[0])


def test_building_leaves_the_given_networks_alone() -> None:
    value = make_fc(3, [4], generator=seeded(), dtype=F64)
    before = [p.clone() for p in value.parameters()]
    make_dgn(value, "FLNPF", learnt=value, generator=seeded(1))
    copy_fresh(value, he(), seeded(2))
    assert all(torch.equal(a, b) for a, b in zip(before, value.parameters(), strict=True))
    assert all(p.requires_grad for p in value.parameters())


@pytest.mark.wrong_types
def test_contradictions_are_refused() -> None:
    value = make_fc(3, [4], generator=seeded())
    with pytest.raises(InputError, match="FLNPF got none"):
        make_features(value, "FLNPF", generator=seeded(), law=he())
    with pytest.raises(InputError, match="DLNPF got FullyConnected"):
        make_features(value, "DLNPF", learnt=value, generator=seeded(), law=he())
    with pytest.raises(InputError, match=r"take FRNPF\(DI\) for frozen copied features"):
        make_features(value, "FRNPF(II)", dependent=True, generator=seeded(), law=he())
