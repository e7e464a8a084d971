"""An average over the weights against its law, at gates and inputs that may be thinned."""

from __future__ import annotations

from torch import Tensor

from reluctant.properties.averages import Average
from reluctant.properties.bounds import kernel_tolerance
from reluctant.properties.thinning import Thinned
from reluctant.theory.statements import Comparison
from reluctant.theory.verdicts import EvidenceKind


def averaged(
    average: Average, right: Tensor, part: Thinned, sigma: float, *, passes: int = 4, what: str = ""
) -> Comparison:
    """Compare an averaged tangent kernel with a law.

    Args:
        average: Average of K_v over weights ±σ.
        right: What the law says, shape (n, n).
        part: Inputs and gates at which both were computed.
        sigma: σ.
        passes: Number of evaluations of a kernel that contribute rounding.
        what: How the gates were made, a few words.

    Returns:
        The comparison; its evidence is the weaker of the two sides'.
    """
    bound, kind = kernel_tolerance(
        part.net, part.x, part.gates, variance=sigma**2, tangent=True, passes=passes
    )
    weakest = max(kind, average.kind, key=list(EvidenceKind).index)
    every = average.kind is not EvidenceKind.STATISTICAL
    signs = "every sign pattern" if every else "drawn signs"
    words = ", ".join(filter(None, [f"E[K_v] by {signs}", what, "gates thinned" * bool(part.what)]))
    return Comparison(
        average.mean,
        right,
        bound + average.half_width,
        weakest,
        what=words,
        error_probability=average.error_probability,
    )
