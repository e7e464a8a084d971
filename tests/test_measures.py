"""Measures of kernels, beside the definitions and matrices known by heart."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

import reluctant as rl
from reluctant.models import make_fc
from reluctant.theory.measures import (
    alignment,
    effective_dimension,
    effective_rank,
    nu,
    spectrum,
)
from reluctant.theory.rounding import gamma


def kernel(n: int = 12) -> Tensor:
    net = make_fc(5, [16, 16], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return rl.npk(net, torch.randn(n, 5, dtype=torch.float64))


def test_alignment_is_the_cosine_of_its_definition() -> None:
    k, labels = kernel(), torch.arange(12) % 3
    one_hot = torch.nn.functional.one_hot(labels).double()
    c = torch.eye(12, dtype=torch.float64) - 1 / 12
    for centred, left in [(True, c), (False, torch.eye(12, dtype=torch.float64))]:
        ours, theirs = left @ k @ left, left @ one_hot @ one_hot.T @ left
        expected = float((ours * theirs).sum() / (ours.norm() * theirs.norm()))
        rho = sum(
            12 * gamma(12 * 12 + 28) * float(before.abs().max() / after.norm())
            for before, after in [(k, ours), (one_hot @ one_hot.T, theirs)]
        )
        off = 2 * (2 * rho + gamma(2 * 144))  # both sides are rounded
        assert abs(alignment(k, labels, centred=centred) - expected) <= off
        assert abs(alignment(k, one_hot, centred=centred) - expected) <= off
    assert alignment(k, labels) != alignment(k, labels, centred=False)


@pytest.mark.parametrize("jitter", [0.0, 0.25])
def test_nu_is_within_its_bound_of_the_rational_number(jitter: float) -> None:
    n = 6
    rows = torch.randint(-3, 4, (n, n + 2)).double()
    h, y = rows @ rows.T, torch.randint(-3, 4, (n, 2)).double()
    found = nu(h, y, jitter=jitter)
    exact = sum(rational_nu(h, y[:, k], Fraction(jitter)) for k in range(2))
    assert abs(Fraction(found.value) - exact) <= Fraction(found.error)
    assert found.error <= 1e-9 * found.value  # a bound that says something
    assert found.jitter == jitter


def rational_nu(h: Tensor, y: Tensor, jitter: Fraction) -> Fraction:
    """Solve by elimination, without rounding."""
    n = len(h)
    rows = [[Fraction(float(v)) for v in [*h[i], y[i]]] for i in range(n)]
    added = jitter * sum((rows[i][i] for i in range(n)), Fraction(0)) / n
    for i in range(n):
        rows[i][i] += added
    for i in range(n):
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for k in range(n):
            if k != i:
                rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return sum((Fraction(float(y[i])) * rows[i][n] for i in range(n)), Fraction(0))


def test_a_singular_kernel_is_refused_and_never_regularised_in_silence() -> None:
    h = kernel()
    again = torch.cat([torch.arange(12), torch.tensor([3])])
    twice = h[again][:, again]
    y = torch.randn(13)
    with pytest.raises(rl.InputError, match=r"singular to within rounding.*pass jitter=1e-8"):
        nu(twice, y)
    assert nu(twice, y, jitter=1e-8).condition < 1e11
    h[2] = h[:, 2] = 0
    with pytest.raises(rl.InputError, match=r"example 2 with itself is not positive"):
        nu(h, y[:12])


def test_the_effective_dimension_is_a_trace() -> None:
    h = kernel()
    for ridge in (1e-3, 1.0, 1e4):
        expected = float(torch.linalg.solve(h + ridge * torch.eye(12), h).trace())
        found = effective_dimension(h, ridge)
        # eigenvalues off by n u λ₁ on one side, a solve at condition λ₁/λ + 1 on the other
        top = float(torch.linalg.eigvalsh(h)[-1])
        assert abs(found - expected) <= 12 * gamma(12 * 12) * (1 + top / ridge)
    assert effective_dimension(torch.eye(4), 1.0) == 2.0


def test_measures_of_a_kernel_of_rank_one() -> None:
    h = torch.ones(8, 8)
    assert spectrum(h).tolist() == [1.0] + [0.0] * 7
    assert effective_rank(h) == 1.0
    assert effective_dimension(h, 8.0) == 0.5


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h: alignment(h, torch.zeros(12, dtype=torch.long)), r"Y Yᵀ is constant"),
        (lambda h: alignment(0 * h + 0.1, torch.arange(12)), r"the kernel is constant"),
        (
            lambda h: alignment(h, torch.arange(11)),
            r"12 examples, but the labels have shape \(11,\)",
        ),
        (lambda h: alignment(h, torch.ones(12, 2, dtype=torch.long)), r"with \.double\(\)"),
        (lambda h: alignment(h[:, :3], torch.arange(12)), r"shape \(n, n\), got \(12, 3\)"),
        (lambda h: nu(h, torch.full((12,), torch.nan)), r"labels hold NaN"),
        (lambda h: nu(h.index_fill(0, torch.tensor([4]), torch.nan), torch.ones(12)), r"in row 4"),
        (lambda h: nu(h, torch.ones(12), jitter=-1.0), r"jitter must be"),
        (lambda h: effective_dimension(h, 0.0), r"ridge must be a positive number"),
        (lambda h: nu(h.numpy(), torch.ones(12)), r"torch\.Tensor, got ndarray"),
        (
            lambda h: alignment(h, [0, 1] * 6),  # type: ignore[arg-type]
            r"labels and targets must be a torch\.Tensor, got list",
        ),
        (lambda h: spectrum(h.triu()), r"not symmetric: entries differ"),
        (lambda h: nu(h, torch.ones(12), jitter="a"), r"jitter must be"),  # type: ignore[arg-type]
        (lambda h: spectrum(-h), r"no positive eigenvalue"),
    ],
)
def test_what_has_no_measure_is_refused(call: object, message: str) -> None:
    with pytest.raises(rl.InputError, match=message):
        call(kernel())  # type: ignore[operator]
