"""Bounds at the bottom of float64: what underflow adds is reached, and no more is added."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import prod

import pytest
import torch
from model_specimens import F64, seeded
from torch import Tensor, nn

import reluctant as rl
from reluctant.properties.bounds import (
    inner_product_bound,
    kernel_tolerance,
    output_tolerance,
    pair_underflow,
)
from reluctant.theory.rounding import gamma, output_bound, roundings
from reluctant.theory.underflow import any_order_underflow, forward_underflow, smallest


def small(scales: tuple[float, ...], seed: int = 0) -> nn.Sequential:
    generator, layers = seeded(seed), list[nn.Module]()
    for k, scale in enumerate(scales):
        layer = nn.Linear(3, 3, bias=False).double()
        with torch.no_grad():
            drawn = torch.randn(3, 3, generator=generator, dtype=F64)
            layer.weight.copy_(scale * drawn.abs())
        layers += [layer, nn.ReLU()] if k + 1 < len(scales) else [layer]
    return nn.Sequential(*layers)


def exact_output(module: nn.Sequential, x: Tensor) -> list[list[Fraction]]:
    """Go through the layers in rational arithmetic; all entries are positive, so gates are on."""
    rows = [[Fraction(v) for v in row] for row in x.tolist()]
    for layer in module:
        if isinstance(layer, nn.Linear):
            weight = [[Fraction(v) for v in row] for row in layer.weight.tolist()]
            rows = [
                [sum((a * b for a, b in zip(w, row, strict=True)), Fraction()) for w in weight]
                for row in rows
            ]
    return rows


def errors(module: nn.Sequential, x: Tensor) -> list[Fraction]:
    with torch.no_grad():
        computed = module(x).tolist()
    pairs = zip(computed, exact_output(module, x), strict=True)
    return [abs(Fraction(a) - b) for c, e in pairs for a, b in zip(c, e, strict=True)]


X = torch.rand(4, 3, generator=seeded(5), dtype=F64) + 0.5
TINY = (1e-160, 1e-160, 1.0)  # products near 1e-320 keep three digits
AMPLIFIED = (1e-160, 1e-160, 1e150)  # and what they lost is multiplied by 1e150


@pytest.mark.parametrize("scales", [TINY, AMPLIFIED, (1e-170, 1e-170, 1e170), (1e-108,) * 3])
def test_the_bound_holds_where_underflow_is_all_there_is(scales: tuple[float, ...]) -> None:
    for seed in range(5):
        module = small(scales, seed)
        net = rl.trace(module, X)
        gates = [torch.ones_like(g) for g in net.gates(X)]
        bound = [Fraction(v) for v in output_bound(net, X, gates).flatten().tolist()]
        assert all(e <= b for e, b in zip(errors(module, X), bound, strict=True))


def test_the_relative_bound_alone_is_broken_where_products_are_subnormal() -> None:
    """The control: without the second term the error exceeds what is allowed, and by far."""
    module = small(AMPLIFIED)
    net = rl.trace(module, X)
    exact = [v for row in exact_output(module, X) for v in row]
    allowed = [Fraction(gamma(roundings(net))) * v for v in exact]
    ratio = [e / a for e, a in zip(errors(module, X), allowed, strict=True)]
    assert max(ratio) > 1
    added = forward_underflow(net, X, [torch.ones(4, 3, dtype=F64)] * 2).flatten()
    worst = max(errors(module, X))
    assert worst > Fraction(float(torch.finfo(F64).tiny))  # no constant 2^-1022 would do
    assert worst <= Fraction(float(added.max()))


def test_the_bound_is_reached_within_its_counts() -> None:
    """One product that underflows to 0, then a weight c: the error is the product of both."""
    module = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(2))).double()
    with torch.no_grad():
        module.get_parameter("0.weight").fill_(0.99 * 2.0**-540)
        module.get_parameter("1.weight").fill_(2.0**500)
    x = torch.full((1, 1), 2.0**-535, dtype=F64)
    net = rl.trace(module, x)
    (error,) = errors(module, x)
    bound = Fraction(float(forward_underflow(net, x, [])))
    assert bound / 3 < error <= bound
    assert bound == Fraction(2) ** 500 * Fraction(smallest())  # and one product more, rounded off


class Multiplied(nn.Module):
    def __init__(self, weight: float, multiply: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(1, 1, bias=False).double()
        self.multiply = multiply
        with torch.no_grad():
            self.first.weight.fill_(weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(self.first(x))


@pytest.mark.parametrize(
    ("multiply", "factor", "steps"), [(torch.relu, 1.0, 2), (lambda z: 0.25 * z, 0.25, 8)]
)
def test_what_a_factor_lost_is_multiplied_by_what_it_multiplies(
    multiply: Callable[[Tensor], Tensor], factor: float, steps: int
) -> None:
    x = torch.ones(1, 1, dtype=F64)
    net = rl.trace(Multiplied(4096.0, multiply), x)
    # one product of the layer, times the factor; then steps, each on an operand of 0 and of 4096
    units = factor * 1 + steps * (1 + 4096)
    assert float(forward_underflow(net, x, net.gates(x))) == units * smallest()


def test_underflow_adds_next_to_nothing_at_ordinary_sizes() -> None:
    module = small((1.0, 1.0, 1.0))
    net = rl.trace(module, X)
    gates = net.gates(X)
    assert float(forward_underflow(net, X, gates).max()) < 2.0**-1060
    assert float(any_order_underflow(net, X, gates).max()) < 2.0**30


def test_a_zero_factor_adds_no_underflow_afterwards() -> None:
    module = small(AMPLIFIED)
    net = rl.trace(module, X)
    off = [torch.zeros_like(g) for g in net.gates(X)]
    assert not any_order_underflow(net, X, off).any()
    # the last layer's own products are those of zeros, and are counted all the same
    assert float(forward_underflow(net, X, off).max()) < 2.0**520


@pytest.mark.parametrize("scale", [1e-160, 1e-80, 1.0])
def test_kernels_and_outputs_of_tiny_data_are_judged_within_both_terms(scale: float) -> None:
    module, x = small((1.0, 1.0)), scale * X
    net = rl.trace(module, x)
    gates = [torch.ones_like(g) for g in net.gates(x)]
    rows = [[Fraction(v) for v in row] for row in x.tolist()]
    grams = [
        [sum((a * b for a, b in zip(r, s, strict=True)), Fraction()) for s in rows] for r in rows
    ]
    bound, _ = kernel_tolerance(net, x, gates, output=0, passes=1)
    kernel = rl.npk(net, x, output=0)
    for i, row in enumerate(grams):
        for j, gram in enumerate(row):  # three units, all on: H = 3 <x, x'>
            error = abs(Fraction(float(kernel[i, j])) - 3 * gram)
            assert error <= Fraction(float(torch.as_tensor(bound)[i, j]))
    assert torch.as_tensor(output_tolerance(net, x, gates)[0]).shape == (4, 3)


def test_an_inner_product_of_subnormals_is_within_its_bound_and_not_within_the_first_term() -> None:
    generator = seeded(1)
    a, b = (1e-161 * torch.rand(50, 20, generator=generator, dtype=F64) for _ in range(2))
    computed, size = (a * b).sum(1), (a.abs() * b.abs()).sum(1)
    bound = inner_product_bound(20, size)
    exact = [
        sum((Fraction(u) * Fraction(v) for u, v in zip(r, s, strict=True)), Fraction())
        for r, s in zip(a.tolist(), b.tolist(), strict=True)
    ]
    gaps = [abs(Fraction(c) - e) for c, e in zip(computed.tolist(), exact, strict=True)]
    assert all(g <= Fraction(v) for g, v in zip(gaps, bound.tolist(), strict=True))
    assert any(g > Fraction(gamma(20)) * e for g, e in zip(gaps, exact, strict=True))


def test_a_network_with_one_number_an_example_has_bounds_too() -> None:
    module = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Flatten(0)).double()
    net = rl.trace(module, X)
    assert forward_underflow(net, X, []).shape == (4,)
    assert pair_underflow(net, X, []).shape == (4, 4)


def test_gates_of_truth_values_are_numbers() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3, bias=False).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x) * (x > 1.0)

    net = rl.trace(Masked(), X)
    gates = net.gates(X)
    assert gates[0].dtype is X.dtype
    for bound in (output_tolerance(net, X, gates)[0], kernel_tolerance(net, X, gates, output=0)[0]):
        assert bool((torch.as_tensor(bound) >= 0).all())
    assert not any_order_underflow(net, X, gates)[gates[0] == 0].any()


def test_the_smallest_number_is_that_of_the_type() -> None:
    for dtype, exponent in ((torch.float64, -1074), (torch.float32, -149)):
        assert smallest(dtype) == 2.0**exponent
        assert torch.tensor(smallest(dtype), dtype=dtype) > 0
    assert prod([smallest(), 0.5]) == 0.0
