"""The marked gate: a factor that the traced graph shows for what it is."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op(
    "reluctant::gate",
    mutates_args=(),
    schema="(Tensor q, float slope=0.0, float excess=0.0) -> Tensor",
)
def gate(q: Tensor, slope: float = 0.0, excess: float = 0.0) -> Tensor:
    r"""Turn gating pre-activations into gates.

    .. math:: G(q) = 1\{q > 0\} \quad\text{or}\quad (1 + \varepsilon)\,\sigma(\beta q)

    A product ``value * gate(q)`` is read by :func:`reluctant.trace` as gates from outside. (The
    same product with ``torch.sigmoid`` could as well be a squeeze-and-excitation, so it is
    refused.)

    Args:
        q: Pre-activations, any shape.
        slope: β > 0 for a soft gate; 0 for a hard one.
        excess: ε of the soft gate; ignored for a hard one.

    Returns:
        Gates, shape and type of q. A hard gate is 0 at q = 0 and has no derivative.

    Source:
        npf, section 5 (β = 4, ε = 0.1); dlgn, section 6 (β = 10, ε = 0).
    """
    if slope == 0.0:
        return (q > 0).to(q.dtype)
    return (1.0 + excess) * torch.sigmoid(slope * q)


@gate.register_fake
def _(q: Tensor, slope: float = 0.0, excess: float = 0.0) -> Tensor:
    return torch.empty_like(q)


def _remember(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: Tensor
) -> None:
    _, ctx.slope, ctx.excess = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(output)


def _derivative(
    ctx: torch.autograd.function.FunctionCtx, grad: Tensor
) -> tuple[Tensor | None, None, None]:
    slope, excess = ctx.slope, ctx.excess  # type: ignore[attr-defined]
    if slope == 0.0:
        return torch.zeros_like(grad), None, None
    (output,) = ctx.saved_tensors  # type: ignore[attr-defined]
    return grad * slope * output * (1.0 - output / (1.0 + excess)), None, None


gate.register_autograd(_derivative, setup_context=_remember)


@gate.register_vmap
def _(
    info: object,
    in_dims: tuple[int | None, ...],
    q: Tensor,
    slope: float = 0.0,
    excess: float = 0.0,
) -> tuple[Tensor, int | None]:
    return gate(q, slope, excess), in_dims[0]
