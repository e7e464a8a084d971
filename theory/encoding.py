"""Dataclasses as JSON: written, read back and described, all three by their annotations."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from reluctant.theory.errors import InputError

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_UNBOUNDED = ("inf", "-inf", "nan")  # the numbers that JSON does not have, by their names
_NUMBER = {"anyOf": [{"type": "number"}, {"enum": list(_UNBOUNDED)}]}
_SCALARS: Mapping[type, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"$ref": "#/$defs/number"},
}


def encoded(value: Any) -> dict[str, Any]:
    """Return a dataclass as dictionaries, lists, strings and finite numbers; others by name."""
    plain: dict[str, Any] = _plain(asdict(value))
    return plain


def decoded(kind: Any, plain: Any, place: str = "") -> Any:
    """Rebuild what :func:`encoded` returned.

    A field that is missing has its default. One that the class does not know is left out: a later
    release added it.

    Args:
        kind: Annotation of what is wanted: a dataclass, an enumeration of strings, a tuple or a
            mapping of such, a string, number or truth value, or one of these or None.
        plain: What stands in the document.
        place: Where it stands there.

    Raises:
        InputError: If something else stands there; says where and what was expected.
    """
    if kind is Any:
        return plain
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if plain is None else decoded(_present(kind), plain, place)
    if is_dataclass(kind):
        return _decoded_fields(kind, _expected(plain, dict, place), place)
    if origin is tuple:
        entries = _expected(plain, list, place)
        return tuple(decoded(inner[0], entry, f"{place}[{k}]") for k, entry in enumerate(entries))
    if origin is Mapping:
        entries = _expected(plain, dict, place)
        return {k: decoded(inner[1], entry, f"{place}.{k}") for k, entry in entries.items()}
    if issubclass(kind, StrEnum):
        if plain not in list(kind):
            raise InputError(f"{place} is {plain!r}, expected one of {', '.join(kind)}")
        return kind(plain)
    if kind is float:
        return float(plain if plain in _UNBOUNDED else _expected(plain, (int, float), place))
    return _expected(plain, kind, place)


def described(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of what :func:`encoded` makes of a dataclass.

    The words are those of the docstrings. Only fields without a default are required, since a
    field that is added later has to have one.
    """
    found: dict[str, Any] = {}
    schema = _described_fields(kind, found)
    return {**schema, "$defs": {"number": _NUMBER, **found}}


def _decoded_fields(kind: Any, plain: Mapping[str, Any], place: str) -> Any:
    hints, prefix = get_type_hints(kind), f"{place}." if place else ""
    missing = [f.name for f in fields(kind) if f.name not in plain and not _has_default(f)]
    if missing:
        raise InputError(f"{prefix}{missing[0]} is missing")
    present = (f.name for f in fields(kind) if f.name in plain)
    return kind(**{name: decoded(hints[name], plain[name], prefix + name) for name in present})


def _expected(plain: Any, kind: Any, place: str) -> Any:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(plain, kinds) and (bool in kinds or not isinstance(plain, bool)):
        return plain
    raise InputError(
        f"{place or 'the whole'} is a JSON {type(plain).__name__}, expected {kinds[-1].__name__}"
    )


def _described_fields(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    hints, words = get_type_hints(kind), _words(kind)
    properties = {}
    for each in fields(kind):
        properties[each.name] = _described(hints[each.name], found)
        properties[each.name]["description"] = words.get(each.name, "")
        if _has_default(each):
            properties[each.name]["default"] = _plain(_default(each))
    return {
        "description": (kind.__doc__ or "").partition("\n")[0],
        "type": "object",
        "properties": properties,
        "required": [each.name for each in fields(kind) if not _has_default(each)],
    }


def _described(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    if kind is Any:
        return {}
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [_described(_present(kind), found), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _described(inner[0], found)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _described(inner[1], found)}
    if kind in _SCALARS:
        return dict(_SCALARS[kind])
    if kind.__name__ not in found:
        found[kind.__name__] = {}  # a place in the order, should it name itself
        found[kind.__name__] = (
            _described_fields(kind, found)
            if is_dataclass(kind)
            else {"description": kind.__doc__, "enum": list(map(str, kind))}
        )
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _present(kind: Any) -> Any:
    (present,) = (part for part in get_args(kind) if part is not NoneType)
    return present


def _has_default(each: Field[Any]) -> bool:
    return each.default is not MISSING or each.default_factory is not MISSING


def _default(each: Field[Any]) -> Any:
    factory: Callable[[], Any] | Any = each.default_factory
    return each.default if factory is MISSING else factory()


def _words(kind: Any) -> dict[str, str]:
    """Return what the docstring of a class says of each attribute."""
    section = (kind.__doc__ or "").partition("Attributes:\n")[2]
    pairs = re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.replace("None", "null").split()) for name, text in pairs}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
