"""Choices by name: a string or a member of an enumeration."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from reluctant.theory.errors import InputError

Choice = TypeVar("Choice", bound=StrEnum)


def one_of(choices: type[Choice], wanted: str) -> Choice:
    """Return the member of an enumeration that is meant.

    Args:
        choices: The enumeration.
        wanted: A member, its value, or its name in any case, such as ``frnpf_ii``.

    Raises:
        InputError: If there is none; lists them all.
    """
    for member in choices:
        if wanted == member or str(wanted).upper() == member.name:
            return member
    listed = ", ".join(repr(str(member)) for member in choices)
    raise InputError(f"there is no {choices.__name__.lower()} {wanted!r}; choose one of {listed}")
