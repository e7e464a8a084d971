r"""How far apart the two sides of an identity may be: nothing at all, or rounding.

Every rounding bound here has two terms. With :math:`fl(a \circ b) = (a \circ b)(1 + \delta) + \eta`,
|δ| ≤ u and |η| ≤ λ/2 for products only, a sum of products that meets N roundings differs from the
exact one by at most γ_N times the sum of absolute contributions (Higham, lemma 3.1), and by the η,
each multiplied by what multiplies it later (:mod:`reluctant.theory.underflow`). For an inner product
of n terms this is :math:`\gamma_n |a|^\top |b| + n \lambda`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from reluctant.theory.kernels import kernel_magnitude
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gates, Scale
from reluctant.theory.rounding import absolute_output, gamma, roundings
from reluctant.theory.statements import CannotTry
from reluctant.theory.underflow import (
    any_order_underflow,
    enlarged,
    enlarged_network,
    forward_underflow,
    smallest,
)
from reluctant.theory.verdicts import EvidenceKind

_EXACT_BELOW = 2.0**53


def are_integers(tensors: Iterable[Tensor]) -> bool:
    """Tell whether all entries of all tensors are integers."""
    return all(bool((t == torch.round(t)).all()) for t in tensors)


def is_integral(net: PathNetwork, x: Tensor, gates: Gates, weights: Iterable[Tensor]) -> bool:
    """Tell whether a network computes with integers only."""
    constants = []
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Scale):
            constants.append(node.factor)
        elif isinstance(node, Constant):
            constants.append(node.value)
    used = [gates[g] for g in net.value_gates]
    return x.dtype is torch.float64 and are_integers([x, *used, *weights, *constants])


def output_tolerance(
    net: PathNetwork, x: Tensor, gates: Gates, *, passes: int = 2
) -> tuple[Tensor | float, EvidenceKind]:
    r"""Return how far apart two evaluations of an output may be, and how that is known.

    Args:
        net: Network.
        x: Inputs, shape (n, \*input).
        gates: Gates.
        passes: Number of evaluations that contribute rounding.

    Returns:
        0 and "exact" where every number is an integer below 2^53; else the a-priori bound,
        shape (n, outputs), and "rounding".
    """
    size = absolute_output(net, x, gates).reshape(x.shape[0], -1)
    if is_integral(net, x, gates, net.weight_values()) and float(size.max()) < _EXACT_BELOW:
        return 0.0, EvidenceKind.EXACT
    return path_sum_bound(net, x, gates, passes=passes), EvidenceKind.ROUNDING


def path_sum_bound(
    net: PathNetwork,
    x: Tensor,
    gates: Gates,
    *,
    weights: Sequence[Tensor] | None = None,
    passes: int = 2,
    extra: int = 0,
) -> Tensor:
    r"""Return passes · (γ_{N + extra} A + R λ), which bounds evaluations of a sum over paths.

    Args:
        net: Network.
        x: Inputs, shape (n, \*input), of the type that is computed in.
        gates: Gates.
        weights: Weights in place of the network's own.
        passes: Number of evaluations that contribute rounding.
        extra: Roundings that a contribution meets besides those of the network.

    Returns:
        Bound, shape (n, outputs).
    """
    weights = net.weight_values() if weights is None else weights
    size = net.forward(
        x.double().abs(),
        [g.double().abs() for g in gates],
        [w.double().abs() for w in weights],
        constant=torch.abs,
        magnitudes=True,
    )
    added = forward_underflow(net, x, gates, weights, dtype=x.dtype)
    bound = gamma(roundings(net) + extra, x.dtype) * size + added
    return passes * bound.reshape(x.shape[0], -1)


def pair_underflow(
    net: PathNetwork,
    x: Tensor,
    gates: Gates,
    weights: Sequence[Tensor] | None = None,
    *,
    extra: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Return what underflow can add to a sum over pairs of path contributions, all outputs together.

    A pair meets at most 4 N + 8 + extra roundings, and an η made at one of them is multiplied by at
    most Â Âᵀ later (:func:`reluctant.theory.underflow.any_order_underflow`).

    Args:
        net: Network.
        x: Inputs, shape (n, \*input).
        gates: Gates.
        weights: Weights in place of the network's own.
        extra: Roundings besides.
        dtype: Less precise of the floating types used.

    Returns:
        Bound, shape (n, n).

    Raises:
        CannotTry: If there are more than 1e154 paths.
    """
    reach = any_order_underflow(net, x, gates, weights).reshape(len(x), -1).sum(1)
    return (4 * roundings(net) + 8 + extra) * smallest(dtype) * _finite(torch.outer(reach, reach))


def inner_product_bound(
    terms: int, size: Tensor, carried: Tensor | float = 0.0, dtype: torch.dtype = torch.float64
) -> Tensor:
    r"""Return γ_n \|a\|ᵀ\|b\| + n λ + carried, which bounds a computed inner product.

    Args:
        terms: n, the roundings that a term meets.
        size: \|a\|ᵀ\|b\|.
        carried: Bound on what errors of the factors do to it.
        dtype: Type that is computed in.
    """
    return gamma(terms, dtype) * size + terms * smallest(dtype) + carried


def kernel_tolerance(
    net: PathNetwork,
    x: Tensor,
    gates: Gates,
    *,
    variance: float = 1.0,
    tangent: bool = False,
    sources: bool = True,
    output: int | None = None,
    passes: int = 2,
) -> tuple[Tensor | float, EvidenceKind]:
    r"""Return how far apart two evaluations of a kernel may be, and how that is known.

    A kernel entry is a sum over pairs of path contributions. Each meets twice the roundings of a
    path, and as many again where the pairs are added, so 4 N + 8 is an upper bound. Underflow
    adds what :func:`kernel_underflow` says.

    Args:
        net: Network.
        x: Inputs, shape (n, \*input).
        gates: Gates.
        variance: Variance of the weights, for a law.
        tangent: True for the tangent law.
        sources: False leaves out the paths from sources.
        output: Output coordinate; None for all.
        passes: Number of evaluations that contribute rounding.

    Raises:
        CannotTry: If the kernel of the number of paths exceeds the largest float64.
    """
    size = kernel_magnitude(
        net, x, gates, variance=variance, tangent=tangent, sources=sources, output=output
    )
    integral = is_integral(net, x, gates, []) and float(variance).is_integer()
    if integral and size.numel() and float(size.max()) < _EXACT_BELOW:
        return 0.0, EvidenceKind.EXACT
    bound = gamma(4 * roundings(net) + 8) * size
    added = kernel_underflow(
        net, x, gates, variance=variance, tangent=tangent, sources=sources, output=output
    )
    return passes * (bound + added), EvidenceKind.ROUNDING


def kernel_underflow(
    net: PathNetwork,
    x: Tensor,
    gates: Gates,
    *,
    variance: float = 1.0,
    tangent: bool = False,
    sources: bool = True,
    output: int | None = None,
) -> Tensor:
    r"""Return what underflow can add to one evaluation of a kernel or law, of the kernel's shape.

    A pair of paths with the same weights meets at most 4 N + 8 roundings. In whichever order its
    factors are multiplied, an η made on the way is multiplied by at most the product of max(1, c)
    over them, which summed over pairs is the kernel of the enlarged network. It carries the variance
    of each of its weights once; the tangent law adds one such kernel for each weight tensor.

    Args:
        net: Network.
        x: Inputs, shape (n, \*input).
        gates: Gates.
        variance: Variance of the weights, for a law.
        tangent: True for the tangent law.
        sources: False leaves out the paths from sources.
        output: Output coordinate; None for all.

    Raises:
        CannotTry: If the kernel of the number of paths exceeds the largest float64.
    """
    reach = kernel_magnitude(
        enlarged_network(net),
        enlarged(x.detach()),
        [enlarged(g.detach().double()) for g in gates],
        variance=max(1.0, float(variance)),
        tangent=tangent,
        sources=sources,
        output=output,
    )
    terms = len(net.weights) if tangent else 1
    return terms * (4 * roundings(net) + 8) * smallest() * _finite(reach)


def _finite(reach: Tensor) -> Tensor:
    if not bool(torch.isfinite(reach).all()):
        raise CannotTry("there are too many paths to bound what underflow adds; try fewer layers")
    return reach


def spectral_tolerance(matrix: Tensor) -> float:
    """Bound the error of a computed eigenvalue of a symmetric matrix.

    The eigenvalue solvers are backward stable: |λ̂ − λ| ≤ p(n) u ‖A‖₂ with p(n) = n² being generous
    (LAPACK Users' Guide, section 4.7), and the entries carry as much again. A matrix of tiny
    entries is scaled up and its eigenvalues down again, which loses λ/2 at most.
    """
    n = matrix.shape[-1]
    relative = 2.0 * n * n * torch.finfo(torch.float64).eps
    return relative * float(torch.linalg.matrix_norm(matrix, 2)) + n * n * smallest()
