from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from model_specimens import (
    ARCHITECTURES,
    F64,
    SOURCES,
    assert_same,
    inputs,
    integer_inputs,
    integer_weights,
    make_specimen,
    seeded,
)
from torch.nn import functional as F

from reluctant.models import (
    Architecture,
    GatedNetwork,
    Residual,
    make_conv,
    make_fc,
    make_residual,
    record_masks,
)
from reluctant.theory.errors import InputError


def value_of(network: torch.nn.Module) -> Architecture:
    value = network.value if isinstance(network, GatedNetwork) else network
    assert isinstance(value, Architecture)
    return value


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_combination_exports_to_the_same_function(architecture: str, source: str) -> None:
    network = make_specimen(architecture, source)
    x = inputs(value_of(network))
    exported = torch.export.export(network, (x,), strict=False)
    assert torch.equal(exported.module()(x), network(x))


@pytest.mark.parametrize("source", [s for s in SOURCES if s != "recorded"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_examples_do_not_mix_and_batch_size_one_works(architecture: str, source: str) -> None:
    network = make_specimen(architecture, source)
    x = inputs(value_of(network))
    with torch.no_grad():
        alone = torch.cat([network(x[i : i + 1]) for i in range(3)])
        together = network(x)
    assert_same(alone, together, network, x)
    assert together.shape == (3, 2)


def test_fully_connected_is_the_written_formula() -> None:
    net = make_fc(3, [4, 5], 2, bias=True, generator=seeded(), dtype=F64)
    integer_weights(net, seeded())
    x = integer_inputs(net)
    z = x
    for layer in ("hidden.0", "hidden.1"):
        z = F.relu(z @ net.get_parameter(f"{layer}.weight").T + net.get_parameter(f"{layer}.bias"))
    f = z @ net.get_parameter("output.weight").T + net.get_parameter("output.bias")
    assert f.abs().max() > 0
    assert torch.equal(net(x), f)


def test_circular_convolution_is_the_written_sum() -> None:
    net = make_conv((2, 6), [3], 1, window=4, pool="flatten", generator=seeded(), dtype=F64)
    integer_weights(net, seeded())
    x = integer_inputs(net)
    weight = net.get_parameter("convolutions.0.1.weight")  # (filter, channel, tap)
    q = torch.zeros(3, 3, 6, dtype=F64)
    for position in range(6):
        for tap in range(4):
            at = (position + tap - 1) % 6  # (window - 1) // 2 before, window // 2 after
            q[:, :, position] += x[:, :, at] @ weight[:, :, tap].T
    z = F.relu(q).flatten(1)
    assert z.abs().max() > 0
    assert torch.equal(net(x), z @ net.get_parameter("output.weight").T)


@pytest.mark.parametrize("pool", ["average", "max"])
@pytest.mark.parametrize("window", [2, 3])
def test_circular_and_pooled_is_shift_invariant(pool: str, window: int) -> None:
    net = make_conv(
        (1, 5, 6), [3, 3], 2, window=window, pool=pool, bias=True, generator=seeded(), dtype=F64
    )
    integer_weights(net, seeded(), multiple=30)  # averages over 30 positions
    x = integer_inputs(net, multiple=30)
    shifted = torch.roll(x, (2, 3), (2, 3))
    assert net(x).abs().max() > 0
    assert torch.equal(net(shifted), net(x))


@pytest.mark.parametrize(("padding", "pool"), [("zero", "average"), ("circular", "flatten")])
def test_zero_padding_and_flatten_are_not(padding: str, pool: str) -> None:
    net = make_conv((1, 6), [3, 3], 2, padding=padding, pool=pool, generator=seeded(), dtype=F64)
    integer_weights(net, seeded(), multiple=6)
    x = integer_inputs(net, multiple=6)
    assert not torch.equal(net(torch.roll(x, 2, 2)), net(x))


def test_a_residual_network_is_the_sum_of_its_sub_networks() -> None:
    net = make_residual(
        (2, 5), 3, 2, skips=3, block_layers=2, pre_scale=0.5, post_scale=2.0,
        generator=seeded(), dtype=F64,
    )  # fmt: skip
    integer_weights(net, seeded(), multiple=5)  # averages over 5 positions
    x = integer_inputs(net, multiple=5)
    masks = record_masks(net, x)
    subsets = [j for k in range(4) for j in combinations((1, 2, 3), k)]
    terms = [GatedNetwork(net.sub_network(j), masks)(x) for j in subsets]
    assert torch.equal(torch.stack(terms).sum(0), net(x))
    own_gates = [net.sub_network(j)(x) for j in subsets]
    assert not torch.equal(torch.stack(own_gates).sum(0), net(x))


def test_a_residual_network_has_as_many_layers_as_it_says() -> None:
    for skips in (0, 2):
        for layers in (1, 3):
            net = make_residual(3, 4, skips=skips, block_layers=layers, generator=seeded())
            assert len(list(net.parameters())) == (skips + 2) * layers
            assert len(net.gate_shapes) == (skips + 2) * layers - 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gate_shapes_are_those_of_the_masks(architecture: str) -> None:
    net = value_of(make_specimen(architecture))
    assert record_masks(net, inputs(net)).gate_shapes == net.gate_shapes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g: make_fc(3, [4, 0], generator=g), "widths needs integers of at least 1, but"),
        (lambda g: make_fc(0, [4], generator=g), "input_shape needs integers of at least 1"),
        (lambda g: make_conv((3,), [4], generator=g), "use make_fc for vectors"),
        (lambda g: make_conv((1, 4), [], generator=g), "needs a convolution, but widths is empty"),
        (lambda g: make_conv((1, 4), [2], window=5, generator=g), "a window of .5,. does not fit"),
        (
            lambda g: make_conv((1, 4, 4), [2], window=(3, 3, 3), generator=g),
            "window needs one integer or 2 of them",
        ),
        (
            lambda g: make_conv((1, 4), [2, 2], stride=[1], generator=g),
            "stride needs one integer or 2, one a layer, but got 1",
        ),
        (lambda g: make_residual(3, 4, skips=-1, generator=g), "at least 0, but got -1"),
    ],
)
def test_bad_sizes_are_refused(make: Callable[..., object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(seeded())


def test_unknown_words_are_refused_with_the_word() -> None:
    with pytest.raises(InputError, match="no padding 'reflect'; choose one of 'circular', 'zero'"):
        make_conv((1, 4), [2], padding="reflect", generator=seeded())


def test_bad_inputs_are_refused() -> None:
    net = make_fc(3, [4], generator=seeded())
    with pytest.raises(InputError, match=r"expects inputs of shape \(n, 3\), but got \(3,\)"):
        net(torch.zeros(3))
    with pytest.raises(InputError, match=r"expects floating inputs, but got torch.int64"):
        net(torch.zeros(1, 3, dtype=torch.int64))
    residual = make_residual(3, 4, skips=1, generator=seeded())
    assert isinstance(residual, Residual)
    with pytest.raises(InputError, match=r"from 1 to 1, but got \[2\]"):
        residual.sub_network([2])
