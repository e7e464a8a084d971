"""Numbers that sum up a kernel: agreement with labels, difficulty of targets, how many directions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reluctant.theory.errors import InputError
from reluctant.theory.rounding import gamma

_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, slots=True)
class Nu:
    """Be yᵀ H⁻¹ y, with what rounding can do to it.

    Attributes:
        value: The number; a sum over the columns of y.
        error: Bound on how far rounding has moved it.
        condition: Condition number of H scaled to a diagonal of ones, which the bound follows.
        jitter: What was added to the diagonal, in units of its mean.
    """

    value: float
    error: float
    condition: float
    jitter: float


def alignment(kernel: Float[Tensor, "n n"], labels: Tensor, *, centred: bool = True) -> float:
    r"""Return the agreement of a kernel with the labels.

    .. math:: \frac{\langle CKC, CYY^TC \rangle}{\|CKC\| \|CYY^TC\|}, \qquad C = I - 11^T/n

    Args:
        kernel: (n, n), symmetric.
        labels: Classes, integers of shape (n,); or targets Y, floating point of shape (n,) or
            (n, k).
        centred: False leaves C out.

    Returns:
        A number between -1 and 1, and not below 0 for a positive semi-definite kernel; 1 if the
        kernel says which labels are equal and nothing else. In float64 it is off by
        2 (ρ + ρ') + γ_{2n²} at most, where centring loses digits of what is nearly constant:
        ρ = n γ_{n²+2n+4} max|K| / ‖CKC‖, and ρ' the same of YYᵀ.

    Raises:
        InputError: If kernel and labels do not fit, or one of them is constant.

    Source:
        Cortes, Mohri and Rostamizadeh, Algorithms for learning kernels, JMLR 2012, definition 4;
        without C: Cristianini et al., On kernel-target alignment, NIPS 2001, definition 1.
    """
    ours = _square(kernel)
    y = _fitting(labels, ours)
    if labels.is_floating_point():
        theirs = y @ y.T
    else:
        theirs = (labels[:, None] == labels[None, :]).double()
    if centred:
        ours, theirs = _centred(ours), _centred(theirs)
    return float((ours * theirs).sum() / (_norm(ours, "the kernel") * _norm(theirs, "Y Yᵀ")))


def nu(kernel: Float[Tensor, "n n"], targets: Tensor, *, jitter: float = 0.0) -> Nu:
    r"""Return how hard targets are for a kernel.

    .. math:: \nu = y^T H^{-1} y = \|w\|^2, \qquad R^T R = H, \quad R^T w = y

    It is the squared norm of the smallest function with these values in the kernel's space. With
    H / trace H in place of H it compares networks ("trace" of :func:`~reluctant.theory.kernels.npk`).

    Args:
        kernel: H, shape (n, n), symmetric.
        targets: y, shape (n,) or (n, k).
        jitter: ε ≥ 0: H + ε (trace H / n) I stands in place of H. Nothing is added unasked.

    Raises:
        InputError: If H is singular to within rounding, or shapes do not fit.

    Cost:
        A Cholesky factorisation and the eigenvalues of an n by n matrix.

    Source:
        npf, where it is ν_t. The bound: Cholesky and one triangular solve give the ν of H + Δ with
        ‖D^{-1/2} Δ D^{-1/2}‖ ≤ n γ_{3n+1} / (1 − γ_{n+1}), D the diagonal of H (Higham, *Accuracy
        and Stability*, theorems 10.3 to 10.5); so ν is off by e/(1 − e) of itself, where e is that
        over the smallest eigenvalue of D^{-1/2} H D^{-1/2}.
    """
    h = _square(kernel)
    y = _fitting(targets, h).double()
    n = len(h)
    if not (_is_number(jitter) and 0.0 <= jitter < float("inf")):
        raise InputError(f"jitter must be a finite number of at least 0, got {jitter!r}")
    h = h + jitter * h.diagonal().mean() * torch.eye(n, dtype=h.dtype, device=h.device)
    remedy = "remove examples that the kernel cannot tell apart, or pass jitter=1e-8 or more"
    if not bool((h.diagonal() > 0).all()):
        row = int((h.diagonal() > 0).to(torch.uint8).argmin())
        raise InputError(
            f"the kernel of example {row} with itself is not positive, so that H is singular; {remedy}"
        )
    scale = h.diagonal().rsqrt()
    values = torch.linalg.eigvalsh(h * torch.outer(scale, scale))
    smallest = float(values[0]) - n * _EPS * float(values[-1])
    e = n * gamma(3 * n + 1) / (1.0 - gamma(n + 1)) / smallest if smallest > 0.0 else float("inf")
    if e > 0.5:
        raise InputError(
            f"H is singular to within rounding: its smallest eigenvalue, at a diagonal of ones, is "
            f"{float(values[0]):.1e}; {remedy}"
        )
    root = torch.linalg.cholesky(h)
    w = torch.linalg.solve_triangular(root, y, upper=False)
    value = float(w.square().sum())
    error = value * (e / (1.0 - e) + gamma(w.numel() + 1))
    return Nu(value, error, float(values[-1]) / smallest, jitter)


def spectrum(kernel: Float[Tensor, "n n"]) -> Float[Tensor, " n"]:
    """Return the eigenvalues over their sum, the largest first, those below rounding as 0.

    The solvers are backward stable: each eigenvalue is off by a small multiple of n u times the
    largest one, whatever the condition number.
    """
    values = _eigenvalues(kernel)
    return values / values.sum()


def effective_rank(kernel: Float[Tensor, "n n"]) -> float:
    """Return the exponential of the entropy of the normalised spectrum, from 1 to n.

    Source:
        Roy and Vetterli, The effective rank, EUSIPCO 2007, definition 1.
    """
    shares = spectrum(kernel)
    return float(torch.special.entr(shares).sum().exp())


def effective_dimension(kernel: Float[Tensor, "n n"], ridge: float) -> float:
    r"""Return the degrees of freedom that kernel ridge regression leaves.

    .. math:: \mathrm{tr}\, H (H + \lambda I)^{-1} = \sum_i \frac{\lambda_i}{\lambda_i + \lambda}

    Args:
        kernel: H, shape (n, n), symmetric.
        ridge: λ > 0, in the units of H.

    Returns:
        A number between 0 and the rank. An eigenvalue that is off by δ moves it by δ/4λ at most.

    Raises:
        InputError: If the ridge is not positive.

    Source:
        Zhang, Learning bounds for kernel regression using effective data dimensionality, 2005.
    """
    if not (_is_number(ridge) and 0.0 < ridge < float("inf")):
        raise InputError(
            f"ridge must be a positive number, got {ridge!r}; for ridge 0 take the rank, the number "
            "of entries of the spectrum that are not 0"
        )
    values = _eigenvalues(kernel)
    return float((values / (values + ridge)).sum())


def _eigenvalues(kernel: Tensor) -> Tensor:
    """Return the eigenvalues, the largest first, those below rounding as 0."""
    values = torch.linalg.eigvalsh(_square(kernel)).flip(0)
    rounding = len(values) * _EPS * values[0]
    if not float(values[0]) > 0.0:
        raise InputError("the kernel has no positive eigenvalue; its spectrum needs one at least")
    return torch.where(values > rounding, values, 0.0)


def _square(kernel: Tensor) -> Tensor:
    _require_tensor(kernel, "the kernel")
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not len(kernel):
        raise InputError(
            f"the kernel must be that of examples with themselves, shape (n, n), got "
            f"{tuple(kernel.shape)}; of several outputs choose one"
        )
    bad = ~torch.isfinite(kernel).all(1)
    if bool(bad.any()):
        row = int(bad.to(torch.uint8).argmax())
        raise InputError(f"the kernel holds NaN or infinite values, first in row {row}")
    # two halves that were rounded apart, in float32 at worst; what differs by more is no kernel
    apart = float((kernel - kernel.T).abs().max())
    if apart > len(kernel) * torch.finfo(torch.float32).eps * float(kernel.abs().max()):
        raise InputError(
            f"the kernel is not symmetric: entries differ from their mirror images by {apart:.3g}; give that "
            "of examples with themselves"
        )
    return kernel.double()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _require_tensor(value: object, what: str) -> None:
    if not isinstance(value, Tensor):
        raise InputError(
            f"{what} must be a torch.Tensor, got {type(value).__name__}; make one with torch.tensor"
        )


def _fitting(labels: Tensor, kernel: Tensor) -> Tensor:
    """Return labels as columns, which have to fit the kernel."""
    _require_tensor(labels, "labels and targets")
    if not (labels.ndim in (1, 2) and len(labels) == len(kernel)):
        raise InputError(
            f"the kernel is that of {len(kernel)} examples, but the labels have shape "
            f"{tuple(labels.shape)}; give one row an example"
        )
    if labels.ndim == 2 and not labels.is_floating_point():
        raise InputError(
            "integer labels are classes, one an example; of several columns make targets with .double()"
        )
    if not bool(torch.isfinite(labels).all()):
        raise InputError("the labels hold NaN or infinite values; remove those examples")
    columns = labels.reshape(len(labels), -1)
    return columns.double() if labels.is_floating_point() else columns


def _centred(kernel: Tensor) -> Tensor:
    # Means of n and of n² entries and three sums: what is below their rounding is a constant.
    n = len(kernel)
    rounding = gamma(n * n + 2 * n + 4) * kernel.abs().max()
    centred = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    return centred if float(centred.norm()) > n * float(rounding) else torch.zeros_like(centred)


def _norm(matrix: Tensor, what: str) -> float:
    norm = float(matrix.norm())
    if norm == 0.0:
        raise InputError(
            f"{what} is constant, and has no alignment: give two classes at least, and examples that the "
            "kernel tells apart; or pass centred=False"
        )
    return norm
