r"""Kernel propagation: H of any path network in polynomial time.

With t = Σ_k L_k(x) o_k the kernel of a tensor is K = Σ_k L_k(x) K_k L_k(x')ᵀ, and that of the
output
of a weight tensor is *fresh*: rows share no bundle, so K = δ_{oo'} U[p, p'] with

.. math:: U[p, p'] = \sum_c \sum_j K_{in}[(c, p + j), (c, p' + j)]

One variable z_k a weight tensor turns the same propagation into H(z).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reluctant.theory.images import Image, Origin
from reluctant.theory.network import PathNetwork, Weighted
from reluctant.theory.operators import Bias, fold, fold_diagonal


@dataclass(frozen=True, slots=True, eq=False)
class Fresh:
    """Be the kernel U of one origin.

    Attributes:
        u: Shape (group, n, position, m, position'), or (group, n, m, position) if only p = p' is
            kept.
        row_group: Group of each row.
        diagonal: True if only p = p' is kept.
    """

    u: Tensor
    row_group: Tensor
    diagonal: bool

    def pick(self, group: int, left: Tensor, right: Tensor) -> Tensor:
        """Return U at pairs of positions, shape (pairs, n, m)."""
        if self.diagonal:
            return self.u[group][:, :, left].movedim(-1, 0)
        return self.u[group][:, left, :, right]


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
        return flat[:, outputs][
            :, :, None, None
        ]  # outputs as groups of one channel at one position

    sides = [_side(images[last], arrange, plan.origins) for images in (left, right)]
    return _diagonal(sides[0], sides[1], fresh, plan.origins)[..., 0]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Be a term read by an operator: arrays over (group, channel, position)."""

    factor: Tensor  # (n, slot, group, channel, position)
    index: Tensor  # (slot, group, channel, position)
    row: Tensor | None  # (group, channel), when each channel reads one row everywhere
    position: Tensor | None  # (slot, position), when all channels read the same positions


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    data: Tensor | None  # (n, group, channel, position)
    parts: dict[int, _Part]
    shape: tuple[int, ...] = ()


def _operand(plan: Plan, site: int, images: Mapping[int, Image]) -> _Side:
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
            torch.zeros(_examples(images), *plan.net.nodes[operand].shape, dtype=torch.float64)
        )
    side = _side(image, arrange, plan.origins)
    return _Side(side.data, side.parts, tuple(shape))


def _side(
    image: Image, arrange: Callable[[Tensor], Tensor], origins: Mapping[int, Origin]
) -> _Side:
    data = None if image.data is None else arrange(image.data)
    parts = {}
    for k, term in image.terms.items():
        index = arrange(term.index)
        n, slots = term.factor.shape[:2]
        factor = arrange(term.factor.flatten(0, 1)).unflatten(0, (n, slots))
        row, position = _alignment(index, origins[k].positions)
        parts[k] = _Part(factor, index, row, position)
    return _Side(data, parts)


def _alignment(index: Tensor, positions: int) -> tuple[Tensor | None, Tensor | None]:
    """Find whether channels read one row each, and all channels the same positions."""
    present = index > 0
    row = torch.where(present, (index - 1) // positions, -1)
    position = torch.where(present, (index - 1) % positions, -1)
    one_row = row.amax((0, 3))
    one_position = position.amax((1, 2))
    if bool(((row == one_row[None, :, :, None]) | ~present).all()) and bool(
        ((position == one_position[:, None, None, :]) | ~present).all()
    ):
        return one_row, one_position.clamp(min=0)
    return None, None


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
            kernel = _full(one, two, fresh, plan.origins)  # (group, n, position, m, position')
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
        kernel = _diagonal(one, two, fresh, plan.origins)  # (group, n, m, position)
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


def _full(
    one: _Side, two: _Side, fresh: Mapping[int, Fresh], origins: Mapping[int, Origin]
) -> Tensor:
    """Contract the channels of two operands at all pairs of positions."""
    total: Tensor | None = None
    if one.data is not None and two.data is not None:
        total = torch.einsum("ngcp,mgcq->gnpmq", one.data, two.data)
    for k in one.parts.keys() & two.parts.keys():
        a, b, u = one.parts[k], two.parts[k], fresh[k]
        aligned = a.row is not None and b.row is not None and _agree(a.row, b.row)
        part = _full_aligned(a, b, u) if aligned else _full_listed(a, b, u, origins[k].positions)
        total = part if total is None else total + part
    assert total is not None
    return total


def _agree(left: Tensor, right: Tensor) -> bool:
    return bool(((left == right) | (left < 0) | (right < 0)).all())


def _full_aligned(a: _Part, b: _Part, u: Fresh) -> Tensor:
    assert (
        a.row is not None
        and a.position is not None
        and b.row is not None
        and b.position is not None
    )
    total: Tensor | None = None
    row = torch.maximum(a.row, b.row)
    group_of = torch.where(row >= 0, u.row_group.to(row.device)[row.clamp(min=0)], -1)
    for group in range(u.u.shape[0]):
        mask = group_of == group
        if u.u.shape[0] > 1 and not bool(mask.any()):
            continue
        left = a.factor if bool(mask.all()) else a.factor * mask[:, :, None]
        product = torch.einsum("nsgcp,mtgcq->gnspmtq", left, b.factor)
        product = product * _at(u.u[group], a.position, b.position)
        part = (
            product.sum((2, 5))
            if product.shape[2] * product.shape[5] > 1
            else product[:, :, 0, :, :, 0]
        )
        total = part if total is None else total + part
    assert total is not None
    return total


def _at(u: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Pick positions of U, shape (n, slot, position, m, slot', position')."""
    n, p, m, q = u.shape
    if left.numel() != p or not torch.equal(left.flatten(), torch.arange(p, device=left.device)):
        u = u[:, left.flatten()]
    if right.numel() != q or not torch.equal(right.flatten(), torch.arange(q, device=right.device)):
        u = u[:, :, :, right.flatten()]
    return u.reshape(n, *left.shape, m, *right.shape)


def _full_listed(a: _Part, b: _Part, u: Fresh, positions: int) -> Tensor:
    """Do the same entry by entry, whatever the routing mixed."""
    slots, groups, _, places = a.index.shape
    others = b.index.shape[0], b.index.shape[3]
    n, m = a.factor.shape[0], b.factor.shape[0]
    rows = []
    for g in range(groups):
        grid = []
        for p in range(places):
            line = []
            for q in range(others[1]):
                cell = a.factor.new_zeros(n, m)
                for s in range(slots):
                    for t in range(others[0]):
                        cell = cell + _paired(
                            a.factor[:, s, g, :, p],
                            b.factor[:, t, g, :, q],
                            a.index[s, g, :, p],
                            b.index[t, g, :, q],
                            u,
                            positions,
                        )
                line.append(cell)
            grid.append(torch.stack(line, dim=2))  # (n, m, q)
        rows.append(torch.stack(grid, dim=1))  # (n, p, m, q)
    return torch.stack(rows)


def _paired(
    left: Tensor, right: Tensor, left_index: Tensor, right_index: Tensor, u: Fresh, positions: int
) -> Tensor:
    """Contract channels, where each reads an entry of its own; factors (n, channel), (m, channel)."""
    row, other = (left_index - 1) // positions, (right_index - 1) // positions
    kept = (left_index > 0) & (right_index > 0) & (row == other)
    group = u.row_group.to(row.device)[row.clamp(min=0)]
    code = (group * positions + (left_index - 1) % positions) * positions + (
        right_index - 1
    ) % positions
    code = torch.where(kept, code, -1)
    order = torch.argsort(code, stable=True)
    order = order[code[order] >= 0]
    n, m = left.shape[0], right.shape[0]
    if order.numel() == 0:
        return left.new_zeros(n, m)
    codes, counts = torch.unique_consecutive(code[order], return_counts=True)
    width = int(counts.max())
    slot = torch.arange(order.numel(), device=order.device) - torch.repeat_interleave(
        counts.cumsum(0) - counts, counts
    )
    table = torch.full((codes.numel(), width), left.shape[1], dtype=torch.long, device=order.device)
    table[
        torch.repeat_interleave(torch.arange(codes.numel(), device=order.device), counts), slot
    ] = order
    padded = [torch.cat([t, t.new_zeros(t.shape[0], 1)], dim=1)[:, table] for t in (left, right)]
    product = torch.einsum("nkw,mkw->knm", padded[0], padded[1])
    total: Tensor | None = None
    for g in torch.unique(codes // (positions * positions)).tolist():
        mine = codes // (positions * positions) == g
        pairs = codes[mine] % (positions * positions)
        part = (product[mine] * u.pick(int(g), pairs // positions, pairs % positions)).sum(0)
        total = part if total is None else total + part
    assert total is not None
    return total


def _diagonal(
    one: _Side, two: _Side, fresh: Mapping[int, Fresh], origins: Mapping[int, Origin]
) -> Tensor:
    """Contract the channels of two operands at equal positions, shape (group, n, m, position)."""
    total: Tensor | None = None
    if one.data is not None and two.data is not None:
        total = torch.einsum("ngcp,mgcp->gnmp", one.data, two.data)
    for k in one.parts.keys() & two.parts.keys():
        a, b, u = one.parts[k], two.parts[k], fresh[k]
        aligned = a.row is not None and b.row is not None
        if aligned and a.index.shape[0] == b.index.shape[0] == 1 and u.u.shape[0] == 1:
            assert a.position is not None
            product = torch.einsum("ngcp,mgcp->gnmp", a.factor[:, 0], b.factor[:, 0])
            where = a.position[0]
            part = product * (
                u.u[0][:, :, where] if u.diagonal else u.pick(0, where, where).movedim(0, -1)
            )
        elif aligned and a.index.shape[3] == 1 and not u.diagonal:
            part = _full_aligned(a, b, u)[:, :, 0, :, :]
        else:
            part = _diagonal_listed(a, b, u, origins[k].positions)
        total = part if total is None else total + part
    assert total is not None
    return total


def _diagonal_listed(a: _Part, b: _Part, u: Fresh, positions: int) -> Tensor:
    slots, groups, _, places = a.index.shape
    rows = []
    for g in range(groups):
        line = []
        for p in range(places):
            parts = [
                _paired(
                    a.factor[:, s, g, :, p],
                    b.factor[:, t, g, :, p],
                    a.index[s, g, :, p],
                    b.index[t, g, :, p],
                    u,
                    positions,
                )
                for s in range(slots)
                for t in range(b.index.shape[0])
            ]
            line.append(torch.stack(parts).sum(0))
        rows.append(torch.stack(line, dim=-1))
    return torch.stack(rows)
