r"""Kernel propagation: H of any path network in polynomial time.

With t = Σ_k L_k(x) o_k the kernel of a tensor is K = Σ_k L_k(x) K_k L_k(x')ᵀ, and that of the
output
of a weight tensor is *fresh*: rows share no bundle, so K = δ_{oo'} U[p, p'] with

.. math:: U[p, p'] = \sum_c \sum_j K_{in}[(c, p + j), (c, p' + j)]

One variable z_k a weight tensor turns the same propagation into H(z).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reluctant.theory.contractions import Fresh, Side, contract, contract_equal, side_of
from reluctant.theory.images import Image, Origin
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Weighted
from reluctant.theory.operators import Bias, fold, fold_diagonal


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Hold what does not depend on the data: origins, their order, and what must be kept of each.

    Attributes:
        net: Network.
        origins: Weight tensors with their call sites.
        order: Origins such that each comes after those its operands are images of.
        full: Origins whose kernel is needed at p ≠ p' too.
    """

    net: PathNetwork
    origins: Mapping[int, Origin]
    order: tuple[int, ...]
    full: frozenset[int]


def make_plan(net: PathNetwork, origins: Mapping[int, Origin], images: Mapping[int, Image]) -> Plan:
    """Find the order of the origins and where only p = p' is needed.

    Where nothing sums, averages or picks among positions before the first weight that mixes them,
    the kernel is needed at equal positions only, and costs positions instead of positions squared.
    """
    depends: dict[int, set[int]] = {}
    for k, origin in origins.items():
        operands = [i for site in origin.sites for i in net.nodes[site].operands]
        depends[k] = {j for i in operands for j in images[i].terms}
    order: list[int] = []
    while len(order) < len(origins):
        order.extend(k for k in origins if k not in order and depends[k] <= set(order))
    full: set[int] = {k for k, t in images[net.output].terms.items() if t.index.shape[0] > 1}
    for k in reversed(order):
        origin = origins[k]
        for i in (i for site in origin.sites for i in net.nodes[site].operands):
            for j, term in images[i].terms.items():
                if k in full or term.index.shape[0] > 1:
                    full.add(j)
    return Plan(net, origins, tuple(order), frozenset(full))


def propagate(
    plan: Plan,
    left: Mapping[int, Image],
    right: Mapping[int, Image],
    z: Mapping[int, Tensor],
    outputs: Tensor,
) -> Tensor:
    """Return H(z) between two sets of examples.

    Args:
        plan: Plan of the network.
        left: Images of the n first examples.
        right: Images of the m second examples.
        z: One number a weight tensor.
        outputs: Output coordinates (flattened).

    Returns:
        Kernels, shape (outputs, n, m).
    """
    fresh: dict[int, Fresh] = {}
    for k in plan.order:
        u = (
            _fresh_full(plan, k, left, right, fresh)
            if k in plan.full
            else _fresh_diagonal(plan, k, left, right, fresh)
        )
        fresh[k] = Fresh(z[k] * u, plan.origins[k].row_group, k not in plan.full)
    last = plan.net.output

    def arrange(t: Tensor) -> Tensor:
        flat = t.flatten(1) if t.ndim > 1 else t[:, None]
        chosen = flat[:, outputs]  # outputs as groups of one channel at one position
        return chosen[:, :, None, None]

    sides = [side_of(images[last], arrange, plan.origins) for images in (left, right)]
    return contract_equal(sides[0], sides[1], fresh, plan.origins)[..., 0]


def _operand(plan: Plan, site: int, images: Mapping[int, Image]) -> Side:
    node = plan.net.nodes[site]
    assert isinstance(node, Weighted)
    operator, operand = node.operator, node.operands[0]

    def arrange(t: Tensor) -> Tensor:
        return (
            operator.split(t).flatten(3)
            if len(operator.positions)
            else operator.split(t).unsqueeze(-1)
        )

    shape = operator.split(torch.empty(1, *plan.net.nodes[operand].shape, device="meta")).shape[3:]
    image = images[operand]
    if image.data is None and not image.terms:  # only sources, and they are left out
        image = Image(
            torch.zeros(
                _examples(images),
                *plan.net.nodes[operand].shape,
                dtype=torch.float64,
                device=plan.net.program.device,
            )
        )
    side = side_of(image, arrange, plan.origins)
    return Side(side.data, side.parts, tuple(shape))


def _fresh_full(
    plan: Plan,
    k: int,
    left: Mapping[int, Image],
    right: Mapping[int, Image],
    fresh: Mapping[int, Fresh],
) -> Tensor:
    origin, net = plan.origins[k], plan.net
    n, m = _examples(left), _examples(right)
    like = next(iter(left.values()))
    blocks = []
    for a, site in enumerate(origin.sites):
        row = []
        for b, other in enumerate(origin.sites):
            first, second = origin.operator(net, a), origin.operator(net, b)
            sizes = [int(torch.Size(o.positions).numel()) for o in (first, second)]
            if isinstance(first, Bias):
                row.append(_ones(like, 1, n, sizes[0], m, sizes[1]))
                continue
            one, two = _operand(plan, site, left), _operand(plan, other, right)
            kernel = contract(one, two, fresh, plan.origins)  # (group, n, position, m, position')
            folded = [fold(g.reshape(n, *one.shape, m, *two.shape), first, second) for g in kernel]
            row.append(torch.stack(folded))
        blocks.append(torch.cat(row, dim=4))
    return torch.cat(blocks, dim=2)


def _fresh_diagonal(
    plan: Plan,
    k: int,
    left: Mapping[int, Image],
    right: Mapping[int, Image],
    fresh: Mapping[int, Fresh],
) -> Tensor:
    origin, net = plan.origins[k], plan.net
    n, m = _examples(left), _examples(right)
    blocks = []
    for a, site in enumerate(origin.sites):
        operator = origin.operator(net, a)
        if isinstance(operator, Bias):
            count = int(torch.Size(operator.positions).numel())
            blocks.append(_ones(next(iter(left.values())), 1, n, m, count))
            continue
        one, two = _operand(plan, site, left), _operand(plan, site, right)
        kernel = contract_equal(one, two, fresh, plan.origins)  # (group, n, m, position)
        folded = [fold_diagonal(g.reshape(n, m, *one.shape), operator) for g in kernel]
        blocks.append(torch.stack(folded))
    return torch.cat(blocks, dim=3)


def _examples(images: Mapping[int, Image]) -> int:
    sizes = [image.data.shape[0] for image in images.values() if image.data is not None]
    sizes += [t.factor.shape[0] for image in images.values() for t in image.terms.values()]
    return max(sizes)


def _ones(like: Image, *shape: int) -> Tensor:
    sample = like.data if like.data is not None else next(iter(like.terms.values())).factor
    return sample.new_ones(shape)
