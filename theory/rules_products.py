r"""Rules for products of the data with weights along axes that have names: einsum, matmul, trained factors.

An axis of the data is contracted with the weights, shared with them and kept (each entry has weights
of its own, as groups of a convolution have), or is theirs not at all (a position).
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from reluctant.theory.lowered import Call, Lowered, Mask, Path, Static
from reluctant.theory.lowering import Lowering, rule
from reluctant.theory.operators import Dense, make_convolution
from reluctant.theory.rules_weights import dense, weight_of


@rule("aten.einsum.default")
def _einsum(lower: Lowering, call: Call) -> Lowered:
    operands = list(call["tensors"])
    terms, result = _written_out(call["equation"], [_rank(t) for t in operands])
    return named_product(lower, call, operands, terms, result)


@rule("aten.matmul.default", "aten.mm.default", "aten.bmm.default", "aten.mv.default")
def _matmul(lower: Lowering, call: Call) -> Lowered:
    left, right = (v for k, v in call.arguments.items() if k in ("self", "other", "mat2", "vec"))
    if isinstance(left, Path | Static) and isinstance(right, Static) and _rank(right) == 2:
        weight = weight_of(lower, call, right, "right factor")
        return dense(lower, call, left, weight.view(lambda t: t.t()), None)
    ranks = [_rank(left), _rank(right)]
    lead = string.ascii_lowercase[: max(0, *(rank - 2 for rank in ranks))]
    first, second = (lead[len(lead) - max(0, rank - 2) :] for rank in ranks)
    row, column = "X" * (ranks[0] > 1), "Z" * (ranks[1] > 1)
    terms = [first + row + "Y", second + "Y" + column]
    return named_product(lower, call, [left, right], terms, lead + row + column)


def times_weights(lower: Lowering, call: Call, path: Path, factor: Static) -> Path:
    """Append a product of entries with trained weights, broadcast as torch does."""
    names = string.ascii_lowercase[: len(path.shape) + 1]
    own = names[len(names) - _rank(factor) :]
    return named_product(lower, call, [path, factor], [names, own], names)


def named_product(
    lower: Lowering, call: Call, operands: Sequence[Any], terms: Sequence[str], result: str
) -> Path:
    """Append a product of one tensor that carries paths with one of weights, or with none.

    Args:
        lower: Network so far.
        call: Operation.
        operands: Tensors.
        terms: For each of them a letter an axis.
        result: The letters of the result; those that are missing are summed over.
    """
    if any(isinstance(operand, Mask) for operand in operands):
        raise lower.refuse(call, "it adds up gates; multiply by them entry by entry")
    paths = [(o, term) for o, term in zip(operands, terms, strict=True) if isinstance(o, Path)]
    if len(paths) != 1:
        raise lower.refuse(call, "it is a product of two data tensors")
    if len(operands) > 2:
        raise lower.refuse(call, "it multiplies by several weights; multiply by one after another")
    if any(len(set(term)) < len(term) for term in terms):
        raise lower.refuse(call, "it reads a diagonal; pick it with torch.diagonal before")
    ((path, read),) = paths
    example = read[path.batch]
    axes = read.replace(example, "")
    sizes = dict(zip(axes, path.shape, strict=True))
    weight, own = None, ""
    for operand, term in zip(operands, terms, strict=True):
        if operand is not path:
            weight = weight_of(lower, call, operand, "other factor")
            weight, own = _spread(lower, call, weight, term, example, sizes)
    if example not in result:
        raise lower.refuse(call, "it mixes the examples of a batch")
    wanted = result.replace(example, "")
    summed = [a for a in axes if a not in own + wanted]
    if summed:
        total = lower.total(call, [path], [axes.index(a) for a in summed])
        path, axes = total, "".join(a for a in axes if a not in summed)
    if weight is not None:
        if any(a not in axes + wanted for a in own):
            raise lower.refuse(call, "it adds up weights before they act; add them up first")
        sizes |= dict(zip(own, weight.value().shape, strict=True))
        path, axes = _acted_on(lower, call, path, axes, weight, own, wanted, sizes)
    arranged = _arranged(lower, call, path, [*axes], [*wanted], sizes)
    return Path(arranged.node, arranged.shape, result.index(example))


def _acted_on(
    lower: Lowering,
    call: Call,
    path: Path,
    axes: str,
    weight: Static,
    own: str,
    wanted: str,
    sizes: Mapping[str, int],
) -> tuple[Path, str]:
    """Append the weighted operation, and return its result with the letters of its axes."""
    groups = [a for a in axes if a in own and a in wanted]
    inner = [a for a in axes if a in own and a not in wanted]
    places = [a for a in axes if a not in own]
    rows = [a for a in own if a not in axes]
    order = [own.index(a) for a in (*groups, *rows, *inner)]
    count, channels, each = (math.prod(sizes[a] for a in found) for found in (groups, inner, rows))
    positions = tuple(sizes[a] for a in places)
    if groups:
        if not 1 <= len(positions) <= 3:  # the axes that a convolution may have
            positions = (math.prod(positions),)
        shape = (count * each, channels, *[1] * len(positions))
        operator: Any = make_convolution(shape, positions, [1], [0], [1], count)
        flat, given = (count * channels, *positions), [*groups, *inner, *places]
        made = [*groups, *rows, *places]
    else:
        shape, operator = (each, channels), Dense(channels, each, positions)
        flat, given, made = (*positions, channels), [*places, *inner], [*places, *rows]
    operand = _arranged(lower, call, path, [*axes], given, sizes, flat)
    weight = weight.view(lambda t: t.permute(order).reshape(shape))
    return lower.weighted(call, operator, operand, weight), "".join(made)


def _arranged(
    lower: Lowering,
    call: Call,
    path: Path,
    axes: Sequence[str],
    wanted: Sequence[str],
    sizes: Mapping[str, int],
    flat: Sequence[int] | None = None,
) -> Path:
    """Append the move of named axes into another order, then into a flatter shape if one is given."""
    shape = tuple(sizes[a] for a in wanted) if flat is None else tuple(flat)
    order = [1 + axes.index(a) for a in wanted]
    whole = [sizes[a] for a in axes]
    if axes == [*wanted] and path.shape == shape:
        return path

    def move(ts: Sequence[Tensor]) -> Tensor:
        n = ts[0].shape[0]
        return ts[0].reshape(n, *whole).permute(0, *order).reshape(n, *shape)

    return lower.reindex(call, [path], move, keeps_order=order == sorted(order))


def _spread(
    lower: Lowering,
    call: Call,
    weight: Static,
    term: str,
    example: str,
    sizes: Mapping[str, int],
) -> tuple[Static, str]:
    """Leave out the axes along which weights repeat themselves: those of examples, and of size 1."""
    for axis in reversed(range(len(term))):
        size, name = weight.value().shape[axis], term[axis]
        if name == example and not weight.repeats(axis):
            raise lower.refuse(call, "its weights have an axis that counts the examples")
        if name == example or size == 1 != sizes.get(name, 1):
            weight = weight.view(lambda t, axis=axis: t.select(axis, 0))  # type: ignore[misc]
            term = term[:axis] + term[axis + 1 :]
        elif sizes.get(name, size) != size:
            raise lower.refuse(
                call, "the data have one entry where the weights have more; expand them"
            )
    return weight, term


def _written_out(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return the letters of every operand and of the result, dots and an absent result written out."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    free = [c for c in string.ascii_letters if c not in equation]
    counts = [rank - len(term.replace("...", "")) for rank, term in zip(ranks, terms, strict=True)]
    dots = "".join(free[: max(counts)])
    terms = [t.replace("...", dots[len(dots) - n :]) for t, n in zip(terms, counts, strict=True)]
    if not arrow:
        once = sorted(c for c in left if c.isalpha() and left.count(c) == 1)
        result = "..." * ("..." in left) + "".join(once)
    return terms, result.replace("...", dots)


def _rank(operand: Any) -> int:
    if isinstance(operand, Path):
        return len(operand.shape) + 1
    return operand.value().ndim if isinstance(operand, Static) else 0
