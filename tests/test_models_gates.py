from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_specimens import (
    ARCHITECTURES,
    F64,
    assert_different,
    assert_same,
    inputs,
    integer_inputs,
    integer_weights,
    make_specimen,
    seeded,
)

from reluctant.models import (
    HARD,
    Architecture,
    FeatureNetwork,
    GatedNetwork,
    RecordedMasks,
    Recorder,
    ShallowMaps,
    Soft,
    Ties,
    make_conv,
    make_dgn,
    make_dlgn,
    make_dlgn_sf,
    make_fc,
    record_masks,
    winners,
)
from reluctant.theory.errors import InputError
from reluctant.theory.rounding import gamma


def make_value(name: str) -> Architecture:
    value = make_specimen(name)
    assert isinstance(value, Architecture)
    return value


def pre_activations(network: GatedNetwork, x: torch.Tensor) -> list[torch.Tensor]:
    assert isinstance(network.gates, FeatureNetwork)
    recorder = Recorder(network.gates.kind, network.gate)
    network.gates.network.features(x, recorder)
    return recorder.pre_activations


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_hard_dgn_that_shares_weights_is_the_relu_network(name: str) -> None:
    value = make_value(name)
    x = inputs(value)
    shared = GatedNetwork(value, FeatureNetwork(value), HARD)
    assert_same(shared(x), value(x), value, x)


def test_a_soft_dgn_that_shares_weights_is_not() -> None:
    value = make_value("fc")
    x = inputs(value)
    shared = GatedNetwork(value, FeatureNetwork(value), Soft(4.0))
    assert_different(shared(x), value(x), shared, x)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gating_pre_activations_of_a_dlgn_are_affine(name: str) -> None:
    network = make_dlgn(make_value(name), generator=seeded(1)).eval()
    integer_weights(network, seeded(1), multiple=240)  # averages over 5, 6, 16, 20 or 30 positions
    x, y = (integer_inputs(network.value, seed=k, multiple=960) for k in (1, 2))
    parts = zip(*(pre_activations(network, t) for t in (x, y, 0.25 * x + 0.75 * y)), strict=True)
    for at_x, at_y, between in parts:
        assert at_x.abs().max() > 0
        assert torch.equal(between, 0.25 * at_x + 0.75 * at_y)


@pytest.mark.parametrize("name", ["fc", "residual-fc", "conv1d-max"])
def test_those_of_a_dgn_are_not(name: str) -> None:
    network = make_dgn(make_value(name), generator=seeded(1)).eval()
    integer_weights(network, seeded(1))
    x = integer_inputs(network.value)
    at_x, opposite, at_zero = (pre_activations(network, t)[-1] for t in (x, -x, 0 * x))
    assert not torch.equal(at_x + opposite, 2 * at_zero)


@pytest.mark.parametrize("make", [make_dgn, make_dlgn, make_dlgn_sf])
def test_a_permutation_of_gate_layers_is_the_one_given_and_changes_the_output(
    make: Callable[..., GatedNetwork],
) -> None:
    value = make_fc(3, [4, 4, 4], 2, generator=seeded(), dtype=F64)
    x = inputs(value)
    plain = make(value, generator=seeded(1), gate=HARD)
    ordered = make(value, generator=seeded(1), gate=HARD, order=(2, 0, 1))
    assert_different(plain(x), ordered(x), plain, x)
    masks = [record_masks(plain, x).get_buffer(f"mask{i}") for i in (2, 0, 1)]
    assert torch.equal(GatedNetwork(value, RecordedMasks(masks))(x), ordered(x))


def test_the_identity_order_changes_nothing() -> None:
    value = make_fc(3, [4, 4], 2, generator=seeded(), dtype=F64)
    x = inputs(value)
    plain, ordered = (make_dgn(value, generator=seeded(1), order=o) for o in (None, (0, 1)))
    assert torch.equal(plain(x), ordered(x))


@pytest.mark.parametrize("name", ["fc", "conv1d-average", "conv1d-max", "residual-conv"])
def test_given_the_gates_an_input_of_ones_ignores_the_values_of_x(name: str) -> None:
    value = make_value(name)
    x = inputs(value)
    masks = record_masks(value, x)
    ones = GatedNetwork(value, masks, value_input="ones")
    assert torch.equal(ones(x), ones(17.0 * x + 1.0))
    fed = GatedNetwork(value, masks)
    assert torch.equal(fed(torch.ones_like(x)), ones(x))
    assert not torch.equal(fed(x), fed(17.0 * x + 1.0))


def test_frozen_features_get_no_gradient_and_learnt_ones_do() -> None:
    for regime, has_gradient in (("FRNPF(II)", False), ("FRNPF(DI)", False), ("DLNPF", True)):
        network = make_dgn(make_value("fc"), regime, generator=seeded(1), gate=Soft(4.0))
        network(inputs(network.value)).square().sum().backward()
        assert network.gates is not None
        gradients = [p.grad is not None for p in network.gates.parameters()]
        assert gradients == [has_gradient] * len(gradients)
        assert all(p.grad is not None for p in network.value.parameters())


def test_hard_gates_let_no_gradient_through() -> None:
    network = make_dgn(make_value("fc"), "DLNPF", generator=seeded(1), gate=HARD)
    network(inputs(network.value)).sum().backward()
    assert network.gates is not None
    assert all(p.grad is None or not p.grad.any() for p in network.gates.parameters())


def test_frozen_features_hold_their_batch_statistics_in_training_mode() -> None:
    network = make_dgn(make_value("fc-bias-norm"), "FRNPF(II)", generator=seeded(1)).train()
    assert network.gates is not None
    before = {k: v.clone() for k, v in network.gates.state_dict().items()}
    network(inputs(network.value))
    after = network.gates.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("name", ["fc", "conv1d-max", "residual-conv"])
def test_training_lowers_the_loss_of_values_and_features(name: str) -> None:
    network = make_dlgn(make_value(name), generator=seeded(1)).eval()
    x = inputs(network.value)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        optimiser.zero_grad()
        loss = network(x).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_soft_gates_are_the_written_sigmoid() -> None:
    value = make_fc(3, [4], 1, generator=seeded(), dtype=F64)
    x = inputs(value)
    q = x @ value.get_parameter("hidden.0.weight").T
    expected = (q * 1.1 * torch.sigmoid(4.0 * q)) @ value.get_parameter("output.weight").T
    network = GatedNetwork(value, None, Soft(4.0, 0.1))
    assert_same(network(x), expected, network, x)


def test_a_soft_dgn_is_the_written_product() -> None:
    value = make_fc(3, [4], 1, generator=seeded(), dtype=F64)
    network = make_dgn(value, generator=seeded(1), gate=Soft(4.0, 0.1))
    x = inputs(value)
    (q,) = pre_activations(network, x)
    z = (x @ value.get_parameter("hidden.0.weight").T) * 1.1 * torch.sigmoid(4.0 * q)
    f = z @ value.get_parameter("output.weight").T
    assert_same(network(x), f, network, x)


def test_winners_by_both_conventions() -> None:
    t = torch.tensor([[[1.0, 3.0, 3.0, 0.0]], [[2.0, 2.0, 2.0, 2.0]]])
    assert winners(t, Ties.FIRST).tolist() == [[[0, 1, 0, 0]], [[1, 0, 0, 0]]]
    assert winners(t).tolist() == [[[0, 0.5, 0.5, 0]], [[0.25] * 4]]


@pytest.mark.parametrize("ties", Ties)
def test_winners_are_the_derivative_of_the_networks_own_pooling(ties: Ties) -> None:
    network = make_conv((1, 6), [2], pool="max", ties=ties, generator=seeded(), dtype=F64)
    t = torch.tensor([[[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0]]], requires_grad=True)
    Recorder().pool(t, network.ties).sum().backward()
    assert t.grad is not None
    assert torch.equal(t.grad, winners(t.detach(), ties))


@pytest.mark.parametrize("name", ["conv1d-max", "conv2d-max-first", "residual-conv"])
def test_max_pooling_takes_the_winners_of_the_features(name: str) -> None:
    value = make_value(name)
    network = make_dgn(value, "FRNPF(II)", generator=seeded(1))
    x = inputs(value)
    given = record_masks(network, x)
    sums = given.get_buffer("winner_mask").flatten(2).sum(2)
    counts = (given.get_buffer("winner_mask") > 0).flatten(2).sum(2, keepdim=True)
    assert bool((sums[..., None] - 1.0).abs().le(gamma(2) * counts).all())  # 1/k, then k additions
    other = winners(torch.rand(given.get_buffer("winner_mask").shape, dtype=F64))
    layers = [given.get_buffer(f"mask{i}") for i in range(len(given.gate_shapes))]
    assert_different(GatedNetwork(value, RecordedMasks(layers, other))(x), network(x), network, x)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_recorded_masks_reproduce_the_network_also_from_a_file(name: str, tmp_path: Path) -> None:
    value = make_value(name)
    x = inputs(value)
    for network in (value, make_dgn(value, generator=seeded(1)).eval()):
        masks = record_masks(network, x)
        masks.save(tmp_path / "masks.safetensors")
        again = RecordedMasks.load(tmp_path / "masks.safetensors")
        for source in (masks, again):
            assert_same(GatedNetwork(value, source)(x), network(x), network, x)


def test_masks_for_one_serve_all_and_masks_for_three_only_three() -> None:
    value = make_fc(3, [4], generator=seeded(), dtype=F64)
    x = inputs(value)
    assert GatedNetwork(value, RecordedMasks([torch.ones(1, 4, dtype=F64)]))(x).shape == (3, 1)
    with pytest.raises(InputError, match="recorded for 3 inputs, but 2 came"):
        GatedNetwork(value, record_masks(value, x))(x[:2])


def test_shallow_maps_are_linear_maps_of_the_input() -> None:
    value = make_value("conv2d-max-first")
    network = make_dlgn_sf(value, generator=seeded(1))
    assert isinstance(network.gates, ShallowMaps)
    integer_weights(network, seeded(1))
    x = integer_inputs(value, multiple=20)  # their mean over 4 by 5 positions is an integer
    for weighted in network.gates.maps:
        assert weighted(x).any()
        assert torch.equal(weighted(3.0 * x), 3.0 * weighted(x))


def test_pooled_shallow_features_are_shift_invariant() -> None:
    value = make_conv((2, 6), [3, 3], 2, dense=[4], generator=seeded(), dtype=F64)
    network = make_dlgn_sf(value, generator=seeded(1))
    x = inputs(value)
    assert_same(network(torch.roll(x, 2, 2)), network(x), network, x)
    assert_different(network(torch.flip(x, (2,))), network(x), network, x)


def test_the_same_generator_makes_the_same_network() -> None:
    one, two, three = (
        make_dgn(make_fc(3, [4], generator=g, dtype=F64), generator=g)
        for g in (seeded(3), seeded(3), seeded(4))
    )
    x = inputs(one.value)
    assert torch.equal(one(x), two(x))
    assert not torch.equal(one(x), three(x))


def fc(*widths: int) -> Architecture:
    return make_fc(3, widths, generator=seeded(), dtype=F64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_dgn(fc(4, 5), generator=seeded(), order=(1, 0)),
            "layer 0 of the value network has shape .4,., but layer 1 of the gates has .5,.",
        ),
        (
            lambda: make_dgn(fc(4, 4), generator=seeded(), order=(0, 0)),
            "order needs a permutation of 0, …, 1, but got",
        ),
        (lambda: GatedNetwork(fc(4), FeatureNetwork(fc(4, 4))), "has 1 gate layers, but the gates"),
        (lambda: GatedNetwork(fc(4, 4), order=(1, 0)), "own gates have no other order"),
        (lambda: GatedNetwork(fc(4), value_input="ones"), "would never see x"),
        (lambda: Soft(0.0), "slope β > 0, but got 0.0; use HARD"),
        (lambda: Soft(1.0, -0.5), "excess ε >= 0, but got -0.5"),
        (lambda: RecordedMasks([]), "at least one tensor"),
        (lambda: RecordedMasks([-torch.ones(1, 4)]), "finite entries of at least 0"),
        (lambda: RecordedMasks([torch.ones(2, 4), torch.ones(3, 4)]), "mask 0 has 2 where"),
        (lambda: RecordedMasks([torch.ones(1, 4).long()]), "needs a floating tensor"),
        (lambda: RecordedMasks.load("/nowhere/masks"), "cannot read masks from /nowhere/masks"),
        (
            lambda: GatedNetwork(
                make_conv((1, 5), [2], pool="max", generator=seeded(), dtype=F64),
                RecordedMasks([torch.ones(1, 2, 5, dtype=F64)]),
            ),
            "the gates bring no winners",
        ),
        (lambda: record_masks(torch.nn.ReLU(), torch.ones(1, 3)), "but got ReLU; use to_dgn"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_frozen_source_may_not_share_with_the_values() -> None:
    value = make_fc(3, [4], generator=seeded())
    with pytest.raises(InputError, match=r"shares hidden\.0\.weight with the value network"):
        GatedNetwork(value, FeatureNetwork(value, frozen=True))


def test_a_file_of_other_tensors_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weights": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="but holds weights"):
        RecordedMasks.load(tmp_path / "other.safetensors")


def test_choices_are_made_by_member_value_or_name_and_refused_in_one_line() -> None:
    from reluctant.models import Regime
    from reluctant.models.choices import one_of

    assert one_of(Regime, "frnpf_ii") is one_of(Regime, "FRNPF(II)") is Regime.FRNPF_II
    with pytest.raises(InputError, match=r"there is no regime 'foo'; choose one of 'FRNPF\(II\)'"):
        one_of(Regime, "foo")
