"""Rules of other distributions: checked when they are entered, and each time one is called."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from reluctant.theory import plugins
from reluctant.theory.errors import ReluctantError
from reluctant.theory.lowered import Call, Lowered, Mask, Path, Static, Unreadable
from reluctant.theory.lowering import RULES, Lowering, Rule
from reluctant.theory.operations import SUBGRAPHS
from reluctant.theory.plugins import Plugin


@dataclass(frozen=True, slots=True)
class PluginRule:
    """Be the rule of another distribution for one operation.

    Attributes:
        plugin: Where it comes from.
        operation: Name of the operation.
        rule: The function.
    """

    plugin: Plugin
    operation: str
    rule: Rule

    @property
    def words(self) -> str:
        """Say what is read, and by whose rule."""
        return f"{self.operation} is read by a rule of {self.plugin.distribution}"

    def __call__(self, lower: Lowering, call: Call) -> Lowered:
        """Call the rule, and refuse what is no reading of the operation's result."""
        what = f"rule for {self.operation} at {call.place}"
        try:
            result = self.rule(lower, call)
        except ReluctantError:
            raise
        except Exception as error:
            raise self.plugin.raised(error, f"in its {what}") from error
        wrong = _wrong(result, lower, call)
        if wrong:
            raise self.plugin.refuse(f"has a {what} that returned {wrong}")
        lower.note(self.words)
        lower.borrowed[call.node] = self.words
        return result


def rule_table() -> Mapping[str, Rule]:
    """Return the rules of this package and of others, by operation."""
    return ChainMap(RULES, {**plugin_rules()})


@cache
def plugin_rules() -> Mapping[str, PluginRule]:
    """Return the rules of other distributions by operation, loaded once.

    Raises:
        InputError: If an entry point is no mapping from operations to functions, or an operation
            has a rule already.
    """
    found: dict[str, PluginRule] = {}
    for plugin in plugins.plugins(plugins.RULES):
        table = plugin.load()
        if not isinstance(table, Mapping):
            came = type(table).__name__
            raise plugin.refuse(f"names a {came}, expected a mapping from operations to functions")
        for operation, function in table.items():
            _ensure_entered(plugin, operation, function)
            if operation in RULES or operation in SUBGRAPHS:
                raise plugin.refuse(f"has a rule for {operation}, which reluctant reads itself")
            if operation in found:
                other = found[operation].plugin.distribution
                raise plugin.refuse(f"has a rule for {operation}, and so has {other}")
            found[operation] = PluginRule(plugin, operation, function)
    return found


def _ensure_entered(plugin: Plugin, operation: Any, function: Any) -> None:
    parts = operation.split(".") if isinstance(operation, str) else []
    if len(parts) != 3 or not all(parts):
        raise plugin.refuse(
            f"has a rule for {operation!r}; an operation has a name such as mylib.scaled_add.default"
        )
    if not callable(function):
        raise plugin.refuse(f"gives no function for {operation}, but a {type(function).__name__}")


def _wrong(result: Any, lower: Lowering, call: Call) -> str:
    """Say what is wrong with what a rule returned, nothing if it may be right."""
    if isinstance(result, tuple):
        return next(filter(None, (_wrong(part, lower, call) for part in result)), "")
    if not isinstance(result, Path | Static | Mask | Unreadable):
        return f"a {type(result).__name__}, expected paths, as lower.total gives them"
    if isinstance(result, Path) and call.shape is not None:
        expected = tuple(size for axis, size in enumerate(call.shape) if axis != result.batch)
        if result.shape != expected:
            return f"paths of shape {result.shape}, expected {expected}"
    return ""
