"""What is tried: statements with their mutants, families of networks, judging, conformance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reluctant.properties.cases import (
        parametrize_with_statements as parametrize_with_statements,
    )
    from reluctant.properties.catalogue import statements as statements
    from reluctant.properties.conformance import check as check
    from reluctant.properties.verification import verify as verify

_HOMES = {
    "check": "conformance",
    "parametrize_with_statements": "cases",
    "statements": "catalogue",
    "verify": "verification",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use: the statements import each other's machinery."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
