r"""Labels: which entries of a tensor are one function of the shifted data.

Let S be the cyclic shift of the data's positions. Every entry e of a tensor is labelled so that

.. math:: t_e(x) = F_{k(e)}(S^{m(e)} x), \qquad F_k(S^{P_k} x) = F_k(x)

with a *kind* k, an *offset* m and a *period* P, one offset and one period for each spatial axis.
Entries of one kind are one function of the data, seen from different positions; an entry of period
1 is invariant. Kinds are 64-bit fingerprints of how an entry is made, so that two different ones
are taken for one with a chance of about (number of entries)² / 2⁶⁴.

Labels are held as one integer tensor whose leading axis counts fields in place of examples: kind,
then the offsets, then the periods less one. So they can be sent through any move of entries, and
an entry that comes from nowhere, all zeros, is right for the constant 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_ODD = (-7046029254386353131, -4417276706812531889, -7723592293110705685)
_CANDIDATES = 64
_FEW = 3  # entries that are looked up before all are compared


def mixed(*parts: Tensor | int) -> Tensor:
    """Mix integers to one fingerprint, entry by entry; 0 is kept for the constant 0."""
    total = torch.zeros((), dtype=torch.long)
    for part in parts:
        total = (total ^ part).mul_(_ODD[0])
        total.bitwise_xor_(total >> 29).mul_(_ODD[1])
        total.bitwise_xor_(total >> 32).mul_(_ODD[2])
    return total.masked_fill_(total == 0, 1)


def bits(value: Tensor) -> Tensor:
    """Return numbers as integers that are equal where they are; 0 for 0."""
    return (value.detach().cpu().double() + 0.0).view(torch.long)


def divisors(n: int) -> list[int]:
    """Return the divisors of n, smallest first."""
    return [d for d in range(1, n + 1) if n % d == 0]


def primes(n: int) -> list[int]:
    """Return the primes that divide n."""
    return [q for q in divisors(n)[1:] if len(divisors(q)) == 2]


def axes_of(labels: Tensor) -> int:
    """Return the number of spatial axes."""
    return (labels.shape[0] - 1) // 2


def offsets_of(labels: Tensor) -> Tensor:
    r"""Return the offsets, shape (axes, \*shape)."""
    return labels[1 : 1 + axes_of(labels)]


def periods_of(labels: Tensor) -> Tensor:
    r"""Return the periods, shape (axes, \*shape)."""
    return labels[1 + axes_of(labels) :] + 1


def _made(kind: Tensor, offsets: Tensor, periods: Tensor) -> Tensor:
    dead = kind == 0
    offsets = torch.where(dead, 0, offsets % periods)
    return torch.cat([kind[None], offsets, torch.where(dead, 0, periods - 1)])


def of_data(shape: Sequence[int]) -> Tensor:
    """Label the data: a kind for each channel, the position as offset.

    Args:
        shape: Channel and then the spatial sizes.
    """
    sizes = list(shape[1:])
    offsets = torch.meshgrid(*(torch.arange(n) for n in sizes), indexing="ij")
    spread = torch.stack([m.expand(*shape) for m in offsets])
    kind = mixed(1, torch.arange(shape[0]).reshape(-1, *[1] * len(sizes))).expand(*shape)
    return _made(kind, spread, torch.tensor(sizes).reshape(-1, *[1] * len(shape)).expand_as(spread))


def of_constants(value: Tensor, axes: int) -> Tensor:
    """Label values that do not depend on the data: equal values are of one kind."""
    kind = torch.where(value.cpu() == 0, 0, mixed(2, bits(value)))
    return torch.cat([kind[None], kind.new_zeros(2 * axes, *kind.shape)])


def tagged(labels: Tensor, *tags: Tensor | int) -> Tensor:
    """Label a function of one entry that vanishes at 0: the same offsets, another kind."""
    kind = torch.where(labels[:1] == 0, 0, mixed(3, *tags, labels[:1]))
    return torch.cat([kind, labels[1:]])


def scaled(labels: Tensor, factor: Tensor) -> Tensor:
    """Label entries multiplied by constants, which broadcast to their shape."""
    factor = factor.detach().cpu().double().expand(labels.shape[1:])
    return torch.where(factor == 1, labels, tagged(labels, 4, bits(factor)))


def _fingerprints(elements: Tensor, shift: Tensor, salts: Tensor | int) -> Tensor:
    """Return one fingerprint an element, offsets less a shift, shape of the elements."""
    shifted = (offsets_of(elements) - shift) % periods_of(elements)
    return torch.where(elements[0] == 0, 0, mixed(5, salts, elements[0], *shifted))


def in_order(elements: Tensor, tag: int = 6, *, vanishes: bool = True) -> Tensor:
    r"""Label a function of a list of entries that tells its arguments apart.

    Args:
        elements: Labels, shape (fields, elements, \*shape).
        tag: Fingerprint of the function.
        vanishes: Whether it is 0 where all entries are.

    Returns:
        Labels, shape (fields, \*shape).
    """
    periods, count = periods_of(elements), elements.shape[1]
    place = torch.arange(count).reshape(-1, *[1] * (elements.ndim - 2))
    if all(bool(along.min() == along.max()) for along in periods):  # as in most layers
        shift, whole = offsets_of(elements)[:, :1], periods[:, 0]
    else:
        first = (periods * (count + 1) - place).argmax(1, keepdim=True)  # longest, then first
        shift, whole = offsets_of(elements).gather(1, first), _common(periods)
    total = _fingerprints(elements, shift, mixed(place)).sum(0)
    return _made(_kind(elements, total, tag, vanishes), shift[:, 0], whole)


def _common(periods: Tensor) -> Tensor:
    """Return the least common multiples of periods, shape (axes, elements, ...), over elements."""
    return functools.reduce(torch.lcm, periods.unbind(1))


def in_any_order(
    elements: Tensor, sizes: Sequence[int], tag: int = 7, *, vanishes: bool = True
) -> Tensor:
    r"""Label a function of a list of entries whose order does not matter, such as their sum.

    It is invariant under a shift that only permutes its arguments: so pooling shortens periods.

    Args:
        elements: Labels, shape (fields, elements, \*shape).
        sizes: Spatial sizes of the data.
        tag: Fingerprint of the function.
        vanishes: Whether it is 0 where all entries are.

    Returns:
        Labels, shape (fields, \*shape).
    """
    none = torch.zeros((), dtype=torch.long)
    total = _fingerprints(elements, none, 0).sum(0)

    def is_closed(a: int, d: Tensor) -> Tensor:
        along = torch.zeros(len(sizes), 1, *d.shape, dtype=torch.long)
        along[a] = d
        return _fingerprints(elements, along, 0).sum(0) == total

    periods = _least(sizes, elements.shape[2:], is_closed)
    shift, total = _canonical(elements, periods, total)
    return _made(_kind(elements, total, tag, vanishes), shift, periods)


def _least(
    sizes: Sequence[int], shape: Sequence[int], is_closed: Callable[[int, Tensor], Tensor]
) -> Tensor:
    r"""Return the least shifts that leave something as it is, one for each axis.

    Those that do are the multiples of one of them, which divides the size: prime after prime is
    taken out of the size as long as what is left does.

    Args:
        sizes: Spatial sizes of the data.
        shape: Shape of the entries.
        is_closed: Tells for an axis and a shift of each entry where it does.

    Returns:
        Periods, shape (axes, \*shape).
    """
    least = torch.tensor(sizes).reshape(-1, *[1] * len(shape)).repeat(1, *shape)
    for a, n in enumerate(sizes):
        for q in primes(n):
            divisible = least[a] % q == 0
            while bool(divisible.any()):
                divisible &= is_closed(a, least[a] // q)
                least[a] = torch.where(divisible, least[a] // q, least[a])
                divisible &= least[a] % q == 0
    return least


def _kind(elements: Tensor, total: Tensor, tag: int, vanishes: bool) -> Tensor:
    kind = mixed(tag, total)
    return torch.where((elements[0] == 0).all(0), 0, kind) if vanishes else kind


def _canonical(elements: Tensor, periods: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Return the offset of a multiset and its fingerprint when it is moved there.

    The offset is that of one of the elements of longest period: the one that gives the least
    fingerprint, so that it does not depend on the order.
    """
    shift = torch.zeros_like(periods)
    if bool((periods == 1).all()):
        return shift, total
    longest = periods_of(elements).amax(1)
    best = torch.full_like(total, torch.iinfo(torch.long).max)
    for k in range(min(elements.shape[1], _CANDIDATES)):
        here = offsets_of(elements)[:, k]
        found = _fingerprints(elements, here[:, None], 0).sum(0)
        usable = (periods_of(elements)[:, k] == longest).all(0) & (elements[0, k] != 0)
        better = usable & (found < best)
        best = torch.where(better, found, best)
        shift = torch.where(better, here, shift)
    unmoved = best == torch.iinfo(torch.long).max
    return torch.where(unmoved, 0, shift), torch.where(unmoved, total, best)


def sum_of(elements: Tensor, sizes: Sequence[int]) -> Tensor:
    r"""Label a sum: of a single entry it is that entry, zeros left out.

    Args:
        elements: Labels, shape (fields, elements, \*shape).
        sizes: Spatial sizes of the data.
    """
    present = elements[0] != 0
    single = present.sum(0) <= 1
    if not bool(single.any()):
        return in_any_order(elements, sizes)
    only = elements.gather(
        1, present.long().argmax(0)[None, None].expand(len(elements), 1, *elements.shape[2:])
    )
    if bool(single.all()):
        return only[:, 0]
    return torch.where(single, only[:, 0], in_any_order(elements, sizes))


def steps_of(labels: Tensor, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the least common period of all entries, one for each spatial axis."""
    return tuple(math.lcm(*periods.unique().tolist()) for periods in periods_of(labels).flatten(1))


def closed_under(labels: Tensor, axis: int, step: int) -> bool:
    """Tell whether a shift leaves the entries, as a set of functions of the data, as they are."""
    return _is_closed(labels.flatten(1), _functions(labels.flatten(1)), axis, step)


def closing_step(labels: Tensor, axis: int, size: int) -> int:
    """Return the smallest step under which the set of entries is closed; else the size."""
    return next((d for d in divisors(size)[:-1] if closed_under(labels, axis, d)), size)


def closing_axes(labels: Tensor, sizes: Sequence[int]) -> tuple[bool, ...]:
    """Tell for each axis whether some step less than its size leaves the set of entries as it is.

    A step that does has multiples that do, and one of these is the size over a prime.
    """
    flat = labels.flatten(1)
    found = _functions(flat)
    return tuple(
        any(_is_closed(flat, found, axis, size // q) for q in primes(size))
        for axis, size in enumerate(sizes)
    )


def _functions(flat: Tensor) -> Tensor:
    """Return one fingerprint an entry, equal where the functions of the data are: a kind has a period."""
    return mixed(*flat[: 1 + axes_of(flat)])


def _is_closed(flat: Tensor, found: Tensor, axis: int, step: int) -> bool:
    few = _moved(flat[:, :: max(1, flat.shape[1] // _FEW)], axis, step)
    if not all(bool((found == one).any()) for one in few):  # most are not, and nothing is sorted
        return False
    moved = _moved(flat, axis, step)
    if int(found.sum()) == int(moved.sum()):  # a permutation, as it is in most cases
        return True
    return torch.equal(found.unique(), moved.unique())


def _moved(flat: Tensor, axis: int, step: int) -> Tensor:
    """Return the fingerprints of the functions that a shift makes of entries."""
    kind, *offsets = flat[: 1 + axes_of(flat)]
    offsets[axis] = (offsets[axis] + step) % (flat[1 + axes_of(flat) + axis] + 1)
    return mixed(kind, *offsets)
