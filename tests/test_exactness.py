"""What counts as exact never rounds, tried against rational arithmetic; what rounds is noticed."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

import reluctant as rl
from reluctant.theory.exactness import Watch

_NUMBERS = st.one_of(
    st.integers(-(2**30), 2**30).map(float),
    st.integers(-1000, 1000).map(lambda k: k / 64),
    st.floats(-1e3, 1e3),
)


def _arrays(*shape: int) -> st.SearchStrategy[Tensor]:
    return hnp.arrays(np.float64, shape, elements=_NUMBERS).map(torch.from_numpy)


def _product(a: list[list[Fraction]], b: list[list[Fraction]]) -> list[list[Fraction]]:
    columns = list(zip(*b, strict=True))
    return [
        [sum((x * y for x, y in zip(r, c, strict=True)), Fraction(0)) for c in columns] for r in a
    ]


@given(_arrays(2, 3), _arrays(3, 2))
def test_a_product_called_exact_is_exact(a: Tensor, b: Tensor) -> None:
    with Watch() as watch:
        found = a @ b
    exact = _product(*([[Fraction(x) for x in row] for row in t.tolist()] for t in (a, b)))
    if not watch.rounded:
        assert [[Fraction(x) for x in row] for row in found.tolist()] == exact


@given(_arrays(3), st.integers(1, 12))
def test_a_mean_called_exact_is_exact(a: Tensor, n: int) -> None:
    with Watch() as watch:
        found = (a.sum() / n, a.mean(), a / n)
    if not watch.rounded:
        whole = sum((Fraction(x) for x in a.tolist()), Fraction(0))
        assert Fraction(float(found[0])) == whole / n
        assert Fraction(float(found[1])) == whole / 3
        assert [Fraction(x) for x in found[2].tolist()] == [Fraction(x) / n for x in a.tolist()]


def _float(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("compute", "name"),
    [
        (lambda: _float(1.0) / 3, "div"),
        (lambda: _float(2.0).sqrt(), "sqrt"),
        (lambda: _float(0.1) + 0.2, "add"),
        (lambda: _float(2.0**53, 1.0).sum(), "sum"),
        (lambda: _float(2.0**30) * _float(2.0**30), "mul"),
        (lambda: _float(0.0).exp(), "exp"),
        (lambda: _float(1.5).pow(40), "pow"),
        (lambda: torch.linalg.eigvalsh(torch.eye(2, dtype=torch.float64)), "_linalg_eigh"),
        (lambda: _float(1.0).float() + 1, "add"),
    ],
)
def test_what_rounds_or_could_is_named(compute: Callable[[], Tensor], name: str) -> None:
    with Watch() as watch:
        compute()
    assert watch.rounded == name


def test_halves_of_large_integers_are_known_to_be_exact() -> None:
    with Watch() as watch:
        _ = _float(2.0**30 + 1) / 2
    assert watch.rounded == ""


def test_networks_with_integers_are_exact_through_gradients_and_kernels() -> None:
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 3, bias=False), torch.nn.ReLU(), torch.nn.Linear(3, 1, bias=False)
    ).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.arange(p.numel()).reshape(p.shape) - 2)
    x = torch.tensor([[1.0, -2.0], [3.0, 1.0]], dtype=torch.float64)
    read = rl.trace(net, x)
    with Watch() as watch:
        net(x).sum().backward()
        rl.npk(read, x)
        rl.ntk(net, x)
    assert watch.rounded == ""
    with Watch() as watch:
        rl.npk(read, x * 0.1)
    assert watch.rounded
