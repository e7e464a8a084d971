"""Numbers that sum up a kernel: how far it agrees with labels, and how many directions it has."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def centred_alignment(kernel: Float[Tensor, "n n"], labels: Int[Tensor, " n"]) -> float:
    r"""Return the agreement of a kernel with the labels.

    .. math:: \frac{\langle CKC, CYY^TC \rangle}{\|CKC\| \|CYY^TC\|}, \qquad C = I - 11^T/n

    Args:
        kernel: (n, n), symmetric.
        labels: (n,), integers from 0.

    Returns:
        A number between -1 and 1, and not below 0 for a positive semi-definite kernel; 1 if the
        kernel says which labels are equal and nothing else.

    Source:
        Cortes, Mohri and Rostamizadeh, Algorithms for learning kernels, JMLR 2012, definition 4.
    """
    equal = (labels[:, None] == labels[None, :]).double()
    ours, theirs = _centred(kernel.double()), _centred(equal)
    return float((ours * theirs).sum() / (ours.norm() * theirs.norm()))


def spectrum(kernel: Float[Tensor, "n n"]) -> Float[Tensor, " n"]:
    """Return the eigenvalues over their sum, the largest first, those below rounding as 0."""
    values = torch.linalg.eigvalsh(kernel.double()).flip(0)
    rounding = len(values) * torch.finfo(torch.float64).eps * values[0]
    values = torch.where(values > rounding, values, 0.0)
    return values / values.sum()


def effective_rank(kernel: Float[Tensor, "n n"]) -> float:
    """Return the exponential of the entropy of the normalised spectrum, from 1 to n."""
    shares = spectrum(kernel)
    return float(torch.special.entr(shares).sum().exp())


def _centred(kernel: Tensor) -> Tensor:
    return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
