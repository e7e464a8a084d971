"""Two routes to everything: listed paths against propagation, on drawn networks."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_specimens import integer_weights, seeded
from torch import Tensor, nn

import reluctant as rl
from reluctant.properties.bounds import kernel_tolerance
from reluctant.properties.families import FAMILIES
from reluctant.properties.specimens import Specimen
from reluctant.theory.kernels import kernel_magnitude
from reluctant.theory.network import PathNetwork
from reluctant.theory.paths import Paths
from reluctant.theory.structure import depths
from reluctant.theory.tracing import trace

EXAMPLES = 12
BY_FAMILY = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)


def listed_law(listed: Paths, outputs: int, variance: float, *, tangent: bool) -> Tensor:
    """Add Π z_l φ_b φ_b', or its derivative along all z, over the bundles of each output."""
    n = len(listed.x)
    kernels = torch.zeros(n, n, outputs, dtype=torch.float64)
    for (end, word), phi in zip(listed.bundles, listed.bundle_features.T, strict=True):
        d = len(word)
        power = d * variance ** max(d - 1, 0) if tangent else variance**d
        kernels[:, :, end] += power * torch.outer(phi, phi)
    return kernels


def within(
    net: PathNetwork,
    x: Tensor,
    left: Tensor,
    right: Tensor,
    variance: float = 1.0,
    *,
    tangent: bool = False,
) -> bool:
    gates = net.gates(x)
    bound, _ = kernel_tolerance(net, x, gates, variance=variance, tangent=tangent, passes=4)
    longest = max((max(d, default=0) for d in depths(net, sources=True).values()), default=1)
    return bool(((left - right).abs() <= torch.as_tensor(bound) * (1 + longest)).all())


@BY_FAMILY
def test_propagated_kernels_are_sums_over_listed_bundles(family: object) -> None:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(specimen=family.specimens, variance=st.sampled_from([1.0, 0.25, 2.0]))  # type: ignore[attr-defined]
    def holds(specimen: Specimen, variance: float) -> None:
        net, x = trace(specimen.module, specimen.x), specimen.x
        listed, outputs = rl.paths(net, x), net.output_size
        one_by_one = listed_law(listed, outputs, 1.0, tangent=False)
        kernel = rl.npk(net, x)
        shared = kernel.ndim == 2
        assert within(net, x, kernel, one_by_one[..., 0] if shared else one_by_one)
        law = rl.nngp_law(net, x, variance=variance)
        expected = listed_law(listed, outputs, variance, tangent=False)
        assert within(net, x, law, expected[..., 0] if shared else expected, variance)
        tangent = rl.ntk_law(net, x, variance=variance)
        assert within(
            net,
            x,
            tangent,
            listed_law(listed, outputs, variance, tangent=True).sum(2),
            variance,
            tangent=True,
        )
        assert rl.count_paths(net, x, sources=True) == len(listed)
        assert rl.count_paths(net, x) == int((listed.starts >= 0).sum())

    holds()


@BY_FAMILY
def test_rectangular_kernels_and_chosen_outputs_are_parts_of_the_square_one(family: object) -> None:
    @settings(max_examples=6, deadline=None)
    @given(specimen=family.specimens)  # type: ignore[attr-defined]
    def holds(specimen: Specimen) -> None:
        net, x = trace(specimen.module, specimen.x), specimen.x
        whole = rl.npk(net, x)
        first = whole if whole.ndim == 2 else whole[..., 0]
        assert within(net, x, rl.npk(net, x, output=0), first)
        gates = net.gates(x)
        part = rl.npk(net, x, x.flip(0), gates=(gates, [g.flip(0) for g in gates]))
        assert within(net, x, part.flip(1), whole)

    holds()


@given(specimen=next(f for f in FAMILIES if f.name == "FC, biases").specimens)
@settings(max_examples=10, deadline=None)
def test_without_sources_the_bias_paths_are_left_out(specimen: Specimen) -> None:
    net, x = trace(specimen.module, specimen.x), specimen.x
    listed = rl.paths(net, x)
    from_data = listed.features[:, (listed.starts >= 0) & (listed.ends == 0)]
    assert within(net, x, rl.npk(net, x, sources=False, output=0), from_data @ from_data.T)


def test_counts_are_exact_beyond_float64() -> None:
    layers = [nn.Linear(1001, 1001, bias=False) for _ in range(9)]
    module = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())])
    assert rl.count_paths(module, torch.zeros(1, 1001)) == 1001**10


def test_a_network_with_too_many_paths_is_refused_with_the_count() -> None:
    module = nn.Sequential(
        nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 2)
    ).double()
    count = 2 * (50**3 + 50**2 + 50 + 1)
    with pytest.raises(
        rl.TooManyPaths, match=f"has {count} paths, more than limit=50000"
    ) as caught:
        rl.paths(module, torch.randn(2, 50, dtype=torch.float64))
    assert caught.value.count == count


@pytest.mark.wrong_types
def test_the_four_normalisations() -> None:
    widths = (4, 8)  # powers of 2 divide without rounding
    module = nn.Sequential(
        nn.Linear(3, 4, bias=False),
        nn.ReLU(),
        nn.Linear(4, 8, bias=False),
        nn.ReLU(),
        nn.Linear(8, 1, bias=False),
    ).double()
    integer_weights(module, seeded())
    x = torch.randint(-3, 4, (5, 3), generator=seeded()).double()
    plain = rl.npk(module, x)
    assert plain.trace() > 0
    assert torch.equal(rl.npk(module, x, normalise="trace"), plain / plain.trace())
    assert torch.equal(rl.npk(module, x, normalise="width"), plain / (widths[0] * widths[1]))
    gates = [g.double() for g in rl.gates(module, x).values()]
    overlap = (gates[0] @ gates[0].T / 4) * (gates[1] @ gates[1].T / 8)
    assert torch.equal(rl.npk(module, x, normalise="gates"), overlap)
    with pytest.raises(rl.InputError, match="needs the square kernel"):
        rl.npk(module, x, x, normalise="trace")
    with pytest.raises(rl.InputError, match="normalise must be"):
        rl.npk(module, x, normalise="nonsense")  # type: ignore[arg-type]


def integers(*widths: int) -> tuple[nn.Module, Tensor]:
    """Make a chain with weights of −2 to 2, and inputs of −3 to 3."""
    layers = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)]
    parts = [part for layer in layers for part in (layer, nn.ReLU())]
    module = integer_weights(nn.Sequential(*parts[:-1]).double(), seeded())
    return module, torch.randint(-3, 4, (5, widths[0]), generator=seeded()).double()


def test_gates_given_for_two_inputs_are_those_of_each() -> None:
    module, x = integers(3, 4, 8, 1)
    net = trace(module, x)
    mine, theirs = net.gates(x), net.gates(-x)
    found = rl.npk(net, x, -x, normalise="gates", gates=(mine, theirs))
    a, b = ([g.double() for g in gates] for gates in (mine, theirs))
    assert torch.equal(found, (a[0] @ b[0].T / 4) * (a[1] @ b[1].T / 8))
    assert not torch.equal(found, (a[0] @ a[0].T / 4) * (a[1] @ a[1].T / 8))


def test_a_kernel_of_absolute_values_is_the_kernel_where_nothing_is_negative() -> None:
    module, x = integers(3, 4, 8, 2)
    net = trace(module, x.abs())
    gates = net.gates(x)
    pair = (gates, gates)
    assert torch.equal(kernel_magnitude(net, x, gates), rl.npk(net, x.abs(), gates=pair))
    tangent = kernel_magnitude(net, x, gates, tangent=True)
    assert torch.equal(tangent, rl.ntk_law(net, x.abs(), gates=pair))
    assert bool((kernel_magnitude(net, x, gates) > rl.npk(net, x, gates=pair)).any())


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
def test_windows_padded_on_one_side_have_the_listed_paths() -> None:
    module = nn.Conv1d(1, 2, 2, padding="same", bias=False).double()
    integer_weights(module, seeded())
    x = torch.randint(-3, 4, (3, 1, 5), generator=seeded()).double()
    net = trace(module, x)
    listed = rl.paths(net, x)
    assert torch.equal(listed.output(), module(x).flatten(1))
    assert len(listed) == rl.count_paths(net, x) == 2 * (4 * 2 + 1)
    assert torch.equal(rl.npk(net, x, output=4), listed.kernel(4))


def test_one_kernel_stands_for_all_outputs_of_a_dense_layer_and_of_no_other() -> None:
    module, x = integers(3, 4, 2)
    assert rl.npk(module, x).shape == (5, 5)
    convolution = nn.Conv1d(1, 2, 2, bias=False).double()
    assert rl.npk(convolution, x[:, None]).shape == (5, 5, 4)


def test_variances_by_name_must_cover_every_parameter_on_a_path() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1, bias=False)).double()
    x = torch.randn(2, 3, dtype=torch.float64)
    with pytest.raises(rl.InputError, match=r"no variance is given for 0\.bias"):
        rl.nngp_law(module, x, variance={"0.weight": 1.0, "2.weight": 1.0})
    given_all = {"0.weight": 0.5, "0.bias": 0.0, "2.weight": 2.0}
    assert rl.ntk_law(module, x, variance=given_all).shape == (2, 2)
    with pytest.raises(rl.InputError, match="finite and at least 0"):
        rl.ntk_law(module, x, variance=-1.0)


def test_a_path_network_refuses_other_shapes() -> None:
    module = nn.Sequential(nn.Linear(3, 1)).double()
    net = trace(module, torch.randn(2, 3, dtype=torch.float64))
    with pytest.raises(rl.InputError, match=r"reads examples of shape \(3,\), got \(2, 4\)"):
        rl.npk(net, torch.randn(2, 4, dtype=torch.float64))
    with pytest.raises(rl.InputError, match="output 5 does not exist"):
        rl.npk(net, torch.randn(2, 3, dtype=torch.float64), output=5)
