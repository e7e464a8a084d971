"""Statements of other distributions: refused unless they are as complete as this package's own."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from reluctant.theory import plugins
from reluctant.theory.errors import ReluctantError
from reluctant.theory.plugins import Plugin
from reluctant.theory.statements import (
    CannotTry,
    Claim,
    Comparison,
    Hypothesis,
    Kind,
    Mutant,
    Statement,
)

_ID = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_MUTANTS = 2  # at least: a check that notices a single fault may be a check for that fault


def plugin_statements(own: Iterable[Statement]) -> tuple[Statement, ...]:
    """Return the statements that other distributions add, loaded now.

    Args:
        own: Statements of this package, whose identifiers are taken.

    Raises:
        InputError: If an entry point names something else, a statement without two mutants, or an
            identifier that is taken; names the distribution and the entry point.
    """
    found = {statement.id: statement for statement in own}
    known = len(found)
    for plugin in plugins.plugins(plugins.STATEMENTS):
        for statement in _statements(plugin):
            wrong = _wrong(statement)
            if wrong:
                raise plugin.refuse(f"has the statement {statement.id!r}, {wrong}")
            if statement.id in found:
                other = found[statement.id].origin
                raise plugin.refuse(
                    f"has the statement {statement.id!r}, and so has {other}; call it otherwise"
                )
            found[statement.id] = replace(
                statement, claim=_guarded(plugin, statement), origin=plugin.distribution
            )
    return tuple(found.values())[known:]


def _statements(plugin: Plugin) -> Iterator[Statement]:
    named: Any = plugin.load()
    try:
        named = named() if callable(named) else named
        found = (named,) if isinstance(named, Statement) else tuple(named)
    except Exception as error:
        raise plugin.raised(error, "when its statements were asked for") from error
    for each in found:
        if not isinstance(each, Statement):
            raise plugin.refuse(f"gives a {type(each).__name__}, expected reluctant.Statement")
        yield each


def _wrong(statement: Any) -> str:
    """Say what a statement lacks, nothing if it is complete."""
    names = [m.name for m in statement.mutants if isinstance(m, Mutant)]
    if not (isinstance(statement.id, str) and _ID.fullmatch(statement.id)):
        return "whose identifier is not of the form mylib.my-claim"
    if not isinstance(statement.kind, Kind):
        return f"whose kind is {statement.kind!r}, expected one of reluctant.Kind"
    if not all(isinstance(h, Hypothesis) for h in statement.hypotheses):
        return "whose hypotheses are not all reluctant.Hypothesis"
    if len(names) < len(statement.mutants):
        return "whose mutants are not all reluctant.Mutant"
    if len(set(names)) < max(_MUTANTS, len(names)):
        return f"with {len(set(names))} mutants, expected {_MUTANTS} of different names at least"
    takes = inspect.signature(statement.claim)
    for mutant in statement.mutants:
        try:
            takes.bind(None, **mutant.ingredients)
        except TypeError as error:
            return f"whose mutant {mutant.name!r} does not fit its claim: {error}"
    return ""


def _guarded(plugin: Plugin, statement: Statement) -> Claim:
    """Tell faults of another distribution's claim from refutations and from faults of ours."""
    claim, what = statement.claim, f"in the claim of {statement.id}"

    def guarded(*trial: Any, **ingredients: Any) -> Sequence[Comparison]:
        try:
            found = tuple(claim(*trial, **ingredients))
        except (CannotTry, ReluctantError):
            raise
        except Exception as error:
            raise plugin.raised(error, what) from error
        if not all(isinstance(each, Comparison) for each in found):
            raise plugin.refuse(f"returned something else than comparisons {what}")
        return found

    return guarded
