"""A counterexample in a few lines that fit into a table and on a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reluctant.theory.verdicts import Counterexample

_FEW = 24  # numbers that one line can hold


def example_lines(found: Counterexample) -> Iterator[str]:
    """Yield the lines that show an example: the two sides, and the tensors that are not all 0."""
    numbers = found.numbers
    place = f" ({numbers['place']})" if numbers.get("place") else ""
    entry = f" at entry {numbers['entry']}" if numbers.get("entry") else ""
    yield f"smallest example found: {found.summary}{entry}{place}"
    tensors = {"x": numbers["x"]} if "x" in numbers else {}
    weights = numbers.get("weights", {})
    tensors |= weights if isinstance(weights, Mapping) else {"weights": weights}
    zeros = [name for name, values in tensors.items() if not any(_entries(values)[1].values())]
    for name, values in tensors.items():
        if name not in zeros:
            yield f"{name} = {array_line(values)}"
    if zeros:
        yield f"all zeros: {', '.join(zeros)}"


def array_line(values: Any) -> str:
    """Write nested lists of numbers on one line; of many numbers those that are not 0."""
    shape, entries = _entries(values)
    if len(entries) <= _FEW:
        return _nested(values)
    present = {index: value for index, value in entries.items() if value != 0}
    if len(present) > _FEW:
        return f"{' x '.join(map(str, shape))} numbers; --json lists them"
    known = ", ".join(f"{list(index)}: {value:g}" for index, value in present.items())
    return f"{' x '.join(map(str, shape))} zeros but for {known or 'none'}"


def _nested(values: Any) -> str:
    if isinstance(values, list):
        return f"[{', '.join(map(_nested, values))}]"
    return f"{values:.6g}" if isinstance(values, float) else str(values)


def _entries(values: Any) -> tuple[tuple[int, ...], dict[tuple[int, ...], float]]:
    """Return the shape of nested lists, and every number by its index."""
    if not isinstance(values, list):
        return (), {(): values}
    inner = [_entries(value) for value in values]
    shape = (len(values), *(inner[0][0] if inner else ()))
    return shape, {
        (k, *index): v for k, (_, found) in enumerate(inner) for index, v in found.items()
    }
