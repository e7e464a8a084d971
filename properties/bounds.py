"""How far apart the two sides of an identity may be: nothing at all, or rounding."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from reluctant.theory.kernels import kernel_magnitude
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gates, Scale
from reluctant.theory.rounding import absolute_output, gamma, roundings
from reluctant.theory.verdicts import EvidenceKind

_EXACT_BELOW = 2.0**53
# What gradual underflow can add: 2^-1074 a product, with room for 2^52 such products and what
# multiplies them. Soft gates far from 0 make factors as small as that.
UNDERFLOW = torch.finfo(torch.float64).tiny


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
    return passes * gamma(roundings(net), x.dtype) * size + UNDERFLOW, EvidenceKind.ROUNDING


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
    path, and as many again where the pairs are added, so 4 N + 8 is an upper bound.

    Args:
        net: Network.
        x: Inputs, shape (n, \*input).
        gates: Gates.
        variance: Variance of the weights, for a law.
        tangent: True for the tangent law.
        sources: False leaves out the paths from sources.
        output: Output coordinate; None for all.
        passes: Number of evaluations that contribute rounding.
    """
    size = kernel_magnitude(
        net, x, gates, variance=variance, tangent=tangent, sources=sources, output=output
    )
    integral = is_integral(net, x, gates, []) and float(variance).is_integer()
    if integral and size.numel() and float(size.max()) < _EXACT_BELOW:
        return 0.0, EvidenceKind.EXACT
    return passes * gamma(4 * roundings(net) + 8) * size + UNDERFLOW, EvidenceKind.ROUNDING


def spectral_tolerance(matrix: Tensor) -> float:
    """Bound the error of a computed eigenvalue of a symmetric matrix.

    The eigenvalue solvers are backward stable: |λ̂ − λ| ≤ p(n) u ‖A‖₂ with p(n) = n² being generous
    (LAPACK Users' Guide, section 4.7), and the entries carry as much again.
    """
    n = matrix.shape[-1]
    return 2.0 * n * n * torch.finfo(torch.float64).eps * float(torch.linalg.matrix_norm(matrix, 2))
