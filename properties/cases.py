"""Statements as cases of a test: one for each module and statement, with an id of its own."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from reluctant.properties.catalogue import statements as registry
from reluctant.properties.conformance import check, chosen_statements, ensure_options
from reluctant.properties.shelves import shelf_at
from reluctant.properties.trials import Effort
from reluctant.theory import ledger
from reluctant.theory.errors import InputError
from reluctant.theory.inputs import require_module
from reluctant.theory.single import Inputs
from reluctant.theory.verdicts import Outcome, Verdict

_SILENT = (Outcome.NOT_IMPLIED, Outcome.INCONCLUSIVE, Outcome.UNSUPPORTED)


def parametrize_with_statements(
    modules: Sequence[nn.Module] | Mapping[str, nn.Module],
    *,
    example: Inputs,
    statements: Iterable[str] | None = None,
    output: int | str | None = None,
    until: str | None = None,
    data: Inputs | None = None,
    effort: Effort = "quick",
    seed: int = 0,
    expected_failures: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Parametrize a test with one case for every module and statement.

    The test gets an argument ``check``; calling it fails if a statement whose hypotheses the module
    meets is refuted, and skips, with the reason, what is not implied, inconclusive or unsupported.

    Args:
        modules: Modules to test, by name or in a list. A case is called ``NAME-STATEMENT``; in a
            list the name is that of the class, and Net, Net2, Net3 are three modules of the class Net.
        example: Inputs of the shape to be used, as for :func:`check`.
        statements: Identifiers or prefixes; all if None.
        output: As for :func:`check`.
        until: As for :func:`check`.
        data: As for :func:`check`.
        effort: As for :func:`check`.
        seed: As for :func:`check`.
        expected_failures: Why a case fails, by the identifier of its statement, for every module,
            or by the name of the case. It is then reported as xfailed. If it does not fail, whatever
            else it does, the test does.

    Raises:
        InputError: If there is no module or statement, or an expected failure is none of the cases.
    """
    import pytest

    ensure_options(effort, seed)
    named = _named(modules)
    ids = [statement.id for statement in chosen_statements(statements)]
    known = {f"{name}-{statement}": (name, statement) for name in named for statement in ids}
    why = dict(expected_failures or {})
    _ensure_known(why, ids, list(known))

    def make(name: str, statement: str, expected: str) -> Callable[[], None]:
        def run() -> None:
            shelf = shelf_at(None)
            report = check(
                named[name],
                example,
                [statement],
                output=output,
                until=until,
                name=name,
                data=data,
                effort=effort,
                seed=seed,
                counterexamples=shelf,
                described=False,
            )
            verdict = report[statement]
            ledger.deposit(verdict)
            ledger.remark(*shelf.notes)
            if not verdict.is_as_expected:  # pytest would rewrite an assert, and indent its text
                raise AssertionError(_failure(verdict))
            if expected:
                pytest.fail(
                    f"{statement} is {verdict.outcome} for {name}, and was expected to fail: "
                    f"{expected}; take it out of expected_failures",
                    pytrace=False,
                )
            if verdict.outcome in _SILENT:
                pytest.skip(f"{verdict.outcome}: {verdict.reason}")

        return run

    def case(label: str, name: str, statement: str) -> object:
        reason = why.get(label, why.get(statement, ""))
        xfail = pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True)
        return pytest.param(
            make(name, statement, reason), id=label, marks=[xfail] if reason else []
        )

    return pytest.mark.parametrize("check", [case(label, *pair) for label, pair in known.items()])


def _named(modules: Sequence[nn.Module] | Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    if isinstance(modules, nn.Module):
        raise InputError("modules is one module; put it into a list, or into a mapping by its name")
    pairs: list[tuple[Any, nn.Module]] = (
        list(modules.items()) if isinstance(modules, Mapping) else []
    )
    if not isinstance(modules, Mapping):
        taken: Counter[str] = Counter()
        for module in modules:
            kind = type(module).__name__
            taken[kind] += 1
            pairs.append((kind if taken[kind] == 1 else f"{kind}{taken[kind]}", module))
    if not pairs:
        raise InputError("modules holds none; name at least one to test")
    named: dict[str, nn.Module] = {}
    for name, module in pairs:
        require_module(module)
        if not (isinstance(name, str) and name.strip()):
            raise InputError(f"a module is called {name!r}; give it a name that is a string")
        if name in named:
            raise InputError(f"two modules are called {name}; name them in a mapping")
        named[name] = module
    return named


def _ensure_known(why: Mapping[str, object], ids: Sequence[str], cases: Sequence[str]) -> None:
    for wanted, reason in why.items():
        if not (isinstance(reason, str) and reason.strip()):
            raise InputError(f"expected_failures gives no reason for {wanted!r}; say why it fails")
        if wanted in ids or wanted in cases:
            continue
        if any(statement.id == wanted for statement in registry()):
            raise InputError(
                f"expected_failures names {wanted!r}, which is not among the statements to be tried; "
                "add it to statements, or take it out"
            )
        close = difflib.get_close_matches(str(wanted), [*ids, *cases], n=3, cutoff=0.3)
        hint = f"did you mean {', '.join(close)}?" if close else f"{cases[0]} would be one"
        raise InputError(f"expected_failures names {wanted!r}, which is no case; {hint}")


def _failure(verdict: Verdict) -> str:
    lines = [f"{verdict.statement} is {verdict.outcome} for {verdict.subject}: {verdict.reason}"]
    if verdict.counterexample is not None:
        found = verdict.counterexample
        lines += [f"smallest example found: {found.summary}"]
        lines += [f"  {name} = {value}" for name, value in found.numbers.items()]
        lines += [f"again: {found.reproduce}"]
    return "\n".join(lines)
