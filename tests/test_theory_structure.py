"""What a network looks like, and how much rounding may do to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from model_specimens import Part, integer_weights, seeded
from torch import Tensor, nn
from torch.nn import functional as F

import reluctant as rl
from reluctant.properties.path_sums import paths_by_formula
from reluctant.theory.rounding import (
    absolute_output,
    gamma,
    output_bound,
    roundings,
    undecided_gates,
)
from reluctant.theory.structure import counted_shape, dense_chain, depths, identity_skips
from reluctant.theory.tangents import value_kernel
from reluctant.theory.tracing import trace
from reluctant.theory.units import hidden_layers, permuted, rescaled


class Residual(nn.Module):
    def __init__(self, projection: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3, bias=False)
        self.block = nn.Linear(3, 3, bias=False)
        self.around = nn.Linear(3, 3, bias=False) if projection else nn.Identity()
        self.last: nn.Module = nn.Linear(3, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.last(torch.relu(self.block(h)) + self.around(h))


def chain(*widths: int, bias: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def weight(module: nn.Sequential, k: int) -> Tensor:
    return dict(module.named_parameters())[f"{k}.weight"]


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_a_chain_is_seen_with_its_widths_and_gates() -> None:
    found = dense_chain(trace(chain(3, 4, 5, 2, bias=True), draw(2, 3)))
    assert found is not None
    assert found.widths == (3, 4, 5, 2)
    assert found.gate_of == (0, 1)
    assert found.hidden == (4, 5)


def test_a_missing_activation_leaves_a_layer_without_gates() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    found = dense_chain(trace(module, draw(2, 3)))
    assert found is not None
    assert found.gate_of == (None, 0)


@pytest.mark.parametrize(
    ("part", "is_chain"),
    [(lambda z: z.reshape(-1, 2, 2).flatten(1), True), (lambda z: z.flip(1), False)],
    ids=["reshaped", "moved"],
)
def test_entries_of_a_chain_may_be_reshaped_but_not_moved(
    part: Callable[[Tensor], Tensor], is_chain: bool
) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Part(part), nn.Linear(4, 2)).double()
    assert (dense_chain(trace(module, draw(2, 3))) is not None) is is_chain


def test_identity_skips_are_told_from_projections() -> None:
    assert len(identity_skips(trace(Residual().double(), draw(2, 2)))) == 1
    assert identity_skips(trace(Residual(projection=True).double(), draw(2, 2))) == ()


def test_a_branch_without_weights_makes_no_skip() -> None:
    module = Residual().double()
    module.last = nn.Sequential(Part(lambda z: z + torch.relu(z)), nn.Linear(3, 1)).double()
    assert len(identity_skips(trace(module, draw(2, 2)))) == 1  # the block's own


def test_depths_count_weight_layers_on_paths() -> None:
    net = trace(Residual().double(), draw(2, 2))
    assert depths(net)[net.output] == {2, 3}


class Pooled(nn.Module):
    """Convolve circularly, do something, then mix."""

    def __init__(self, filters: int, pool: Callable[[Tensor], Tensor], read: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular", bias=False)
        self.second = nn.Conv1d(3, filters, 3, padding=1, padding_mode="circular", bias=False)
        self.pool = pool
        self.last = nn.Linear(read, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.relu(self.second(torch.relu(self.first(x))))
        return self.last(self.pool(z).flatten(1))


POOLS: dict[str, tuple[int, int, Callable[[Tensor], Tensor], bool]] = {
    "mean": (4, 4, lambda z: z.mean(2), True),
    "mean, one filter": (1, 1, lambda z: z.mean(2), True),
    "adaptive, one filter": (1, 1, lambda z: F.adaptive_avg_pool1d(z, 1), True),
    "sum over what was permuted": (4, 4, lambda z: z.transpose(1, 2).sum(1), True),
    "mean of half": (4, 4, lambda z: z[:, :, :2].mean(2), False),
    "some filters": (4, 3, lambda z: z[:, :3].mean(2), False),
    "padded mean": (4, 4, lambda z: F.pad(z[:, :, :2], (0, 3)).mean(2), False),
    "maximum": (4, 4, lambda z: z.amax(2), False),
}


@pytest.mark.parametrize("name", POOLS)
def test_a_formula_for_pooled_paths_counts_them(name: str) -> None:
    filters, read, pool, has_formula = POOLS[name]
    x = draw(2, 2, 5)
    net = trace(Pooled(filters, pool, read).double(), x)
    found = counted_shape(net)
    assert (found is not None) is has_formula
    if found is not None:
        assert rl.count_paths(net, x, output=0) == paths_by_formula(found)


@pytest.mark.parametrize("part", [lambda z: z, lambda z: z[:, :2], lambda z: F.pad(z, (0, 1))])
def test_a_formula_for_residual_paths_counts_them(part: Callable[[Tensor], Tensor]) -> None:
    module = Residual().double()
    width = part(torch.zeros(1, 3)).shape[1]
    module.last = nn.Sequential(Part(part), nn.Linear(width, 1, bias=False)).double()
    net = trace(module, draw(2, 2))
    found = counted_shape(net)
    assert (found is not None) is (width == 3)
    if found is not None:
        assert rl.count_paths(net, draw(2, 2), output=0) == paths_by_formula(found)


def test_a_stream_added_to_itself_has_no_formula_for_its_paths() -> None:
    module = Residual().double()
    module.last = nn.Sequential(Part(lambda z: z + z), nn.Linear(3, 1, bias=False)).double()
    net = trace(module, draw(2, 2))
    assert counted_shape(net) is None
    assert rl.count_paths(net, draw(2, 2)) == 2 * (2 * 3 * 3 + 2 * 3)


def test_pooled_positions_without_a_dense_layer_have_no_formula() -> None:
    module = nn.Sequential(
        nn.Conv1d(1, 2, 3, padding=1, padding_mode="circular", bias=False), nn.AdaptiveAvgPool1d(1)
    )
    assert counted_shape(trace(module.double(), draw(2, 1, 5))) is None


def test_zero_padding_has_no_formula_for_its_paths() -> None:
    def network(mode: Literal["circular", "zeros"]) -> nn.Module:
        conv = nn.Conv1d(1, 2, 3, padding=1, padding_mode=mode, bias=False)
        return nn.Sequential(
            conv, nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 1)
        ).double()

    circular = trace(network("circular"), draw(2, 1, 5))
    assert counted_shape(circular) is not None
    assert rl.count_paths(circular, draw(1, 1, 5)) == 5 * 3 * 2
    zero = trace(network("zeros"), draw(2, 1, 5))
    assert counted_shape(zero) is None
    assert rl.count_paths(zero, draw(1, 1, 5)) == (5 * 3 - 2) * 2


def test_rounding_stays_within_its_bound_and_the_bound_is_not_idle() -> None:
    module = chain(20, 30, 30, 4)
    x = draw(5, 20)
    net = trace(module, x)
    gates = net.gates(x)
    single = net.forward(x.float(), gates, [w.float() for w in net.weight_values()])
    error = (single.double() - net.forward(x, gates, net.weight_values())).abs()
    bound = output_bound(net, x, gates, dtype=torch.float32)
    assert bool((error <= bound).all())
    assert bool((error > output_bound(net, x, gates)).any())  # that of float64 does not hold here
    assert roundings(net) == 21 + 31 + 31 + 2 * 2
    # u / (1 - u) = u (1 + u + ...), and computing it rounds twice
    assert 2.0**-53 <= gamma(1) <= 2.0**-53 * (1 + 2.0**-51)


def test_what_cancels_in_a_constant_is_counted_in_its_bound() -> None:
    norm = nn.BatchNorm1d(1, eps=0.0)
    module = nn.Sequential(nn.Linear(1, 1, bias=False), norm).double().eval()
    with torch.no_grad():
        norm.get_parameter("bias").fill_(1.0)
        norm.get_buffer("running_mean").fill_(1.0)
    x = torch.zeros(1, 1, dtype=torch.float64)
    net = trace(module, x)
    assert module(x) == 0.0
    assert absolute_output(net, x, []) == 2.0  # |1| + |−1|
    assert roundings(net) == 2 + 8 + 2  # a layer of fan-in 1, a scale, a sum of two


def test_a_pre_activation_that_cancels_up_to_rounding_is_undecided() -> None:
    module = chain(2, 1, 1)
    with torch.no_grad():
        weight(module, 0).copy_(torch.tensor([[0.1, -0.3]], dtype=torch.float64))
    inputs = torch.tensor([[3.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    net = trace(module, inputs)
    assert undecided_gates(net, inputs, net.gates(inputs)) == 1


def test_a_maximum_that_is_tied_up_to_rounding_is_undecided() -> None:
    module = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.MaxPool1d(2)).double()
    inputs = torch.tensor([[[3.0, 3.0, 1.0, 2.0]]], dtype=torch.float64)
    net = trace(module, inputs)
    for weight, undecided in ((0.1, 1), (1.0, 0)):  # integers are compared exactly
        with torch.no_grad():
            module[0].weight.fill_(weight)  # type: ignore[operator, union-attr]
        assert undecided_gates(net, inputs, net.gates(inputs)) == undecided


def test_integers_are_never_undecided() -> None:
    module = chain(2, 1, 1)
    with torch.no_grad():
        weight(module, 0).copy_(torch.tensor([[1.0, -3.0]]))
        weight(module, 2).fill_(1.0)
    inputs = torch.tensor([[3.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    net = trace(module, inputs)
    assert undecided_gates(net, inputs, net.gates(inputs)) == 0


def test_units_on_the_residual_stream_are_not_free() -> None:
    module = Residual().double()
    assert hidden_layers(trace(module, draw(2, 2))) == []


def test_units_that_read_their_inputs_in_groups_are_not_free() -> None:
    depthwise = nn.Conv1d(2, 4, 2, groups=2)
    module = nn.Sequential(depthwise, nn.ReLU(), nn.Conv1d(4, 1, 1)).double()
    x, order = draw(2, 2, 5), [2, 3, 0, 1]
    before = module(x)
    assert hidden_layers(trace(module, x)) == []
    with torch.no_grad():  # since this is another function
        for weight in (depthwise.weight, depthwise.bias):
            assert weight is not None
            weight.copy_(weight[order])
        module.get_parameter("2.weight").copy_(module.get_parameter("2.weight")[:, order])
    assert float((module(x) - before).detach().abs().max()) > 0.01


def test_moving_and_scaling_units_changes_weights_but_not_the_output() -> None:
    module = nn.Sequential(
        nn.Conv1d(1, 3, 2), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(6, 2)
    ).double()
    x = draw(3, 1, 6)
    net = trace(module, x)
    (layer,) = hidden_layers(net)
    assert layer.units == 3
    moved = permuted(net, layer, torch.tensor([2, 0, 1]))
    assert not torch.equal(moved[0].weight, module[0].weight)  # type: ignore[index, union-attr]
    assert bool(((moved(x) - module(x)).abs() <= output_bound(net, x, net.gates(x))).all())
    grown = rescaled(net, layer, 1, 4.0)
    assert torch.equal(grown(x), module(x))


def test_the_tangent_kernel_with_held_gates_is_that_of_autograd_for_hard_gates() -> None:
    module, x = chain(3, 4, 2), draw(3, 3).round()
    integer_weights(module, seeded())
    net = trace(module, x)
    held = value_kernel(net, x, net.gates(x), net.weight_values())
    assert held.abs().max() > 0
    assert torch.equal(held, rl.ntk(module, x))
    with pytest.raises(rl.InputError, match="no parameter is named nobody"):
        rl.ntk(module, x, parameters=["nobody"])
