r"""What gradual underflow can add to a sum over paths.

In round-to-nearest the standard model with gradual underflow is

.. math:: fl(a \circ b) = (a \circ b)(1 + \delta) + \eta, \quad |\delta| \le u, \; |\eta| \le \lambda / 2,
    \; \delta \eta = 0,

with :math:`\lambda` the smallest subnormal number (2⁻¹⁰⁷⁴ in float64). Only products and quotients
have an :math:`\eta`: a sum that is subnormal is exact (Higham, *Accuracy and Stability of Numerical
Algorithms*, section 2.8 and problem 2.19). The :math:`\delta` are what :mod:`reluctant.theory.rounding`
bounds, relative to the absolute contributions. An :math:`\eta` is absolute: it counts in full even
where the contribution itself has vanished, and it is multiplied by whatever multiplies it later.
Both bounds here are in units of :math:`\lambda`, not :math:`\lambda / 2`; the factor 2 pays for
later roundings, at most :math:`(1 + u)^{2N} \le 2`, as long as N u ≤ 1/4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Gates, Input, Node, Reindex, Scale, Sum, Weighted

_STEPS = 8  # a scale or a constant may be computed in so many steps, as rounding.roundings counts


def smallest(dtype: torch.dtype = torch.float64) -> float:
    """Return λ, the smallest subnormal number of a floating type."""
    return torch.finfo(dtype).tiny * torch.finfo(dtype).eps


def forward_underflow(
    net: PathNetwork,
    x: Tensor,
    gates: Gates,
    weights: Sequence[Tensor] | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    output: int | None = None,
) -> Tensor:
    r"""Bound what underflow adds to one evaluation of a network, operation by operation.

    Let A be the absolute contributions at a node and R λ a bound on the part of its error that
    comes from underflow. The node's own products add at most one λ each: n for a weighted operation
    of fan-in n, two for a gate and eight for a scale, whose factors are themselves computed to
    within λ and multiply an operand of size A. So

    .. math:: R = |W| R_{in} + n, \quad R = g R_{in} + 2 (1 + A_{in}), \quad
        R = |c| R_{in} + 8 (1 + A_{in}), \quad R = \textstyle\sum R_{in}

    for weights, gates, constants and sums; R is 0 at the data and at biases.

    Args:
        net: Network.
        x: Data, shape (n, \*input).
        gates: Gates of x.
        weights: Weights in place of the network's own.
        dtype: Less precise of the floating types used.
        output: Node to bound; the network's output if None.

    Returns:
        R λ, shape (n, \*output). Infinite where R exceeds the largest float64.

    Cost:
        Two forward passes.
    """
    x, n = x.detach().double().abs(), x.shape[0]
    target = net.output if output is None else output
    sizes: dict[int, Tensor] = {}
    reach: dict[int, Tensor] = {}
    order = sorted(net.ancestors([target]))
    last_use = {k: i for i in order for k in net.nodes[i].operands}
    for i in order:
        node = net.nodes[i]
        a, r = [sizes[k] for k in node.operands], [reach[k] for k in node.operands]
        if isinstance(node, Input):
            a_out, r_out = x, torch.zeros_like(x)
        elif isinstance(node, Constant):
            a_out = node.magnitude.abs().to(x).expand(n, *node.shape)
            r_out = torch.full_like(a_out, _STEPS)
        elif isinstance(node, Weighted):
            k, products = node.weight, node.operator.fan_in
            given = None if weights is None else weights[k].detach().double().abs()
            weight = net.weights[k].absolute() if given is None else given
            a_out = node.operator.apply(a[0] if a else None, weight)
            a_out = a_out.expand(n, *a_out.shape[1:])
            r_out = node.operator.apply(r[0], weight) + products if r else torch.zeros_like(a_out)
        elif isinstance(node, Reindex):
            a_out, r_out = node.move(a), node.move(r)
        elif isinstance(node, Scale | Gate):
            factor = node.factor if isinstance(node, Scale) else gates[node.gate]
            steps = _STEPS if isinstance(node, Scale) else 2
            factor = factor.detach().to(x).abs()
            a_out, r_out = a[0] * factor, r[0] * factor + steps * (1.0 + a[0])
        else:
            dims = [axis + 1 for axis in node.axes]  # type: ignore[attr-defined]
            a_out, r_out = (torch.stack(list(parts)).sum(0) for parts in (a, r))
            a_out, r_out = (t.sum(dims) if dims else t for t in (a_out, r_out))
        sizes[i], reach[i] = a_out, r_out
        for k in set(node.operands):
            if last_use[k] == i:
                del sizes[k], reach[k]
    return _finite_or_infinite(reach[target]) * smallest(dtype)


def any_order_underflow(
    net: PathNetwork, x: Tensor, gates: Gates, weights: Sequence[Tensor] | None = None
) -> Tensor:
    r"""Bound, per rounding, what underflow adds to a sum of path contributions in any order.

    A contribution is a product of factors. In whichever order they are multiplied, an η made on the
    way is multiplied by those factors that are still to come, hence by at most
    :math:`\prod_i \max(1, |c_i|)`; a factor 0 makes the product exactly 0 and adds none. With N
    roundings a contribution, the sum over the paths p is off by at most

    .. math:: N \lambda \hat A, \qquad \hat A = \sum_p \prod_{i \in p} \max(1, |c_i|) 1\{c_i \neq 0\}.

    A sum over pairs of paths is off by at most :math:`N \lambda \hat A \hat A^\top` with N the
    roundings of a pair, and a kernel, whose pairs have their weights in common, by at most N λ times
    the kernel of :func:`enlarged_network` at :func:`enlarged` data and gates.

    Args:
        net: Network.
        x: Data, shape (n, \*input).
        gates: Gates of x.
        weights: Weights in place of the network's own.

    Returns:
        Â, shape (n, \*output), as large as the number of paths.
    """
    values = net.weight_values() if weights is None else weights
    large = [enlarged(w.detach().double()) for w in values]
    held = [enlarged(g.detach().double()) for g in gates]
    found = net.forward(
        enlarged(x.detach().double()), held, large, constant=enlarged, magnitudes=True
    )
    return _finite_or_infinite(found)


def is_free_of_underflow(
    net: PathNetwork,
    x: Tensor,
    gates: Gates,
    weights: Sequence[Tensor] | None = None,
    *,
    dtype: torch.dtype = torch.float64,
) -> bool:
    r"""Tell whether no product of an evaluation can be subnormal without being 0.

    Let m be the smallest absolute value of a tensor's entries other than 0. Products of entries of
    two tensors are at least m m', or 0. Numbers of at least m are whole multiples of the last place
    of m, which is more than u m, and so are their sums however they are rounded: a sum that is not
    0 is more than u m. A scale counts as one product. Where nothing underflows, data times a power
    of two give the same output times that power, bit for bit.

    Args:
        net: Network.
        x: Data, shape (n, \*input).
        gates: Gates of x.
        weights: Weights in place of the network's own.
        dtype: Floating type that is computed in.

    Returns:
        True only if nothing underflows; False says nothing, as for very deep networks.
    """
    kind = torch.finfo(dtype)
    held = [_least(w) for w in (net.weight_values() if weights is None else weights)]
    least: dict[int, float] = {}
    for i in net.value_nodes:
        node = net.nodes[i]
        m = min((least[k] for k in node.operands), default=math.inf)
        if isinstance(node, Input):
            m = _least(x)
        elif isinstance(node, Constant):
            m = _least(node.value)
        elif isinstance(node, Weighted):
            m = m * held[node.weight] if node.operands else held[node.weight]
        elif isinstance(node, Scale | Gate):
            m *= _least(node.factor if isinstance(node, Scale) else gates[node.gate])
        if m < kind.tiny:
            return False
        least[i] = m * kind.eps / 2 if isinstance(node, Weighted | Sum) else m
    return True


def _least(t: Tensor) -> float:
    """Return the smallest absolute value of entries other than 0, infinite if there are none."""
    sizes = t.detach().double().abs().flatten()
    return float(sizes[sizes > 0].min()) if bool(sizes.any()) else math.inf


def enlarged_network(net: PathNetwork) -> PathNetwork:
    """Return a network whose constants are 0, or at least 1 in absolute value."""
    nodes: list[Node] = []
    for node in net.nodes:
        if isinstance(node, Scale):
            node = replace(node, factor=enlarged(node.factor))
        elif isinstance(node, Constant):
            large = enlarged(node.magnitude)
            node = replace(node, value=large, magnitude=large)
        nodes.append(node)
    return replace(net, nodes=tuple(nodes))


def enlarged(t: Tensor) -> Tensor:
    """Return max(1, |t|), and 0 where t is 0."""
    return torch.where(t == 0, 0.0, t.abs().clamp(min=1.0))


def _finite_or_infinite(t: Tensor) -> Tensor:
    return torch.nan_to_num(t, nan=torch.inf, posinf=torch.inf)
