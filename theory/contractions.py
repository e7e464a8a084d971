"""Channels of two operands contracted with the kernels of what they are images of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reluctant.theory.images import Image, Origin


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
class Part:
    """Be a term read by an operator: arrays over (group, channel, position)."""

    factor: Tensor  # (n, slot, group, channel, position)
    index: Tensor  # (slot, group, channel, position)
    row: Tensor | None  # (group, channel), when each channel reads one row everywhere
    position: Tensor | None  # (slot, position), when all channels read the same positions


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Be an operand as an operator reads it.

    Attributes:
        data: Its part that is an image of the data, None if there is none.
        parts: Its parts by origin.
        shape: Positions of the operand, as the operator sees them.
    """

    data: Tensor | None  # (n, group, channel, position)
    parts: dict[int, Part]
    shape: tuple[int, ...] = ()


def side_of(
    image: Image, arrange: Callable[[Tensor], Tensor], origins: Mapping[int, Origin]
) -> Side:
    """Return an image in the arrangement in which it is read: (group, channel, position)."""
    data = None if image.data is None else arrange(image.data)
    parts = {}
    for k, term in image.terms.items():
        index = arrange(term.index)
        n, slots = term.factor.shape[:2]
        factor = arrange(term.factor.flatten(0, 1)).unflatten(0, (n, slots))
        row, position = _alignment(index, origins[k].positions)
        parts[k] = Part(factor, index, row, position)
    return Side(data, parts)


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


def contract(
    one: Side, two: Side, fresh: Mapping[int, Fresh], origins: Mapping[int, Origin]
) -> Tensor:
    """Contract the channels of two operands at all pairs of positions.

    Returns:
        Kernels, shape (group, n, position, m, position').

    Cost:
        Positions squared times channels for a pair of examples and an origin that both share.
    """
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


def _full_aligned(a: Part, b: Part, u: Fresh) -> Tensor:
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


def _full_listed(a: Part, b: Part, u: Fresh, positions: int) -> Tensor:
    """Do the same entry by entry, whatever the routing mixed."""
    _, groups, _, places = a.index.shape
    others = b.index.shape[3]
    rows = []
    for g in range(groups):
        grid = [
            torch.stack([_entry(a, b, u, positions, g, p, q) for q in range(others)], dim=2)
            for p in range(places)
        ]  # (n, m, position') each
        rows.append(torch.stack(grid, dim=1))  # (n, position, m, position')
    return torch.stack(rows)


def _entry(a: Part, b: Part, u: Fresh, positions: int, group: int, p: int, q: int) -> Tensor:
    """Contract the channels of one group at one pair of positions, shape (n, m)."""
    total = a.factor.new_zeros(a.factor.shape[0], b.factor.shape[0])
    for s in range(a.index.shape[0]):
        for t in range(b.index.shape[0]):
            total = total + _paired(
                a.factor[:, s, group, :, p],
                b.factor[:, t, group, :, q],
                a.index[s, group, :, p],
                b.index[t, group, :, q],
                u,
                positions,
            )
    return total


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


def contract_equal(
    one: Side, two: Side, fresh: Mapping[int, Fresh], origins: Mapping[int, Origin]
) -> Tensor:
    """Contract the channels of two operands at equal positions.

    Returns:
        Kernels, shape (group, n, m, position).

    Cost:
        Positions times channels for a pair of examples and an origin that both share.
    """
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
            part = _equal_listed(a, b, u, origins[k].positions)
        total = part if total is None else total + part
    assert total is not None
    return total


def _equal_listed(a: Part, b: Part, u: Fresh, positions: int) -> Tensor:
    _, groups, _, places = a.index.shape
    rows = [
        torch.stack([_entry(a, b, u, positions, g, p, p) for p in range(places)], dim=-1)
        for g in range(groups)
    ]
    return torch.stack(rows)
