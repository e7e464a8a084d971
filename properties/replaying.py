"""The failure of a saved counterexample, shown again."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from reluctant.properties import catalogue, saved
from reluctant.properties.dropping import expected, named
from reluctant.properties.judging import Judgement, Tally, judge
from reluctant.properties.saved import Record
from reluctant.properties.shelves import line
from reluctant.properties.shrinking import counterexample
from reluctant.theory.errors import InputError
from reluctant.theory.inputs import require_module
from reluctant.theory.parts import Until
from reluctant.theory.single import OneTensor
from reluctant.theory.statements import Statement
from reluctant.theory.twins import differentiable, twin
from reluctant.theory.verdicts import Outcome, Report


@differentiable()
def replay(
    path: str | os.PathLike[str],
    module: nn.Module | None = None,
    *,
    claims: Sequence[Statement] = (),
) -> Report:
    """Show the failure of a saved counterexample again.

    Args:
        path: Either of its two files.
        module: The user's module that it was found on, with any weights; it is left as it is. A
            network that the suite drew is built again.
        claims: Conjectures, to look for the statement among them as well.

    Returns:
        One verdict. A note says whether both sides are the saved ones, bit for bit.

    Raises:
        InputError: If the files cannot be used, or the module or the statement is another.
    """
    known = saved.read(Path(path).with_suffix(".json"))
    record, started = known.record, time.perf_counter()
    statement = _statement(record, claims)
    network = _network(record, module)
    first = next(network.parameters(), torch.zeros(()))
    trial = known.trial(network, first.device)
    judgement = judge(statement, trial)
    tally = Tally(statement, [judgement])
    note = "known counterexample no longer fails"
    if judgement.outcome is Outcome.REFUTED:
        tally.counterexample = counterexample(trial, judgement, line(known))
        note = _comparison(judgement, known.tensors, record)
    verdict = tally.verdict(record.subject, expected(statement), time.perf_counter() - started)
    return Report(record.subject, (verdict,), (), record.environment, (note,))


def wrapped(record: Record, module: nn.Module) -> nn.Module:
    """Return a user's module as a check saw it: of one input and one output tensor, up to a part.

    Args:
        record: What was found on it.
        module: Module, as it was given to the check.
    """
    inputs, output, until = (record.network[name] for name in ("inputs", "output", "until"))
    is_several = inputs is not None or output is not None
    if is_several and not isinstance(module, OneTensor | Until):
        module = OneTensor(module, inputs, output)
    if until is not None and not isinstance(module, Until):
        module = Until(module, until)
    return module


def _statement(record: Record, claims: Sequence[Statement]) -> Statement:
    found = named(record.statement, claims)
    if found is None:
        known = [each.id for each in (*catalogue.statements(), *claims)]
        close = difflib.get_close_matches(record.statement, known, n=3, cutoff=0.6)
        hint = f"did it become {', '.join(close)}" if close else "name the file of its conjecture"
        raise InputError(f"no statement is called {record.statement!r}; {hint}")
    return found


def _network(record: Record, module: nn.Module | None) -> nn.Module:
    if "family" in record.network:
        return _drawn(record, module)
    if module is None:
        raise InputError(
            f"this counterexample is of {record.network['class']}; name the network as well: "
            f"{record.network.get('target', 'pass the module')}"
        )
    require_module(module)
    network = wrapped(record, twin(module))
    mode = record.network["training"]
    return network if network.training == mode else network.train(mode)


def _drawn(record: Record, module: nn.Module | None) -> nn.Module:
    from reluctant.properties.controls import CONTROLS
    from reluctant.properties.families import FAMILIES

    families = {family.name: family for family in (*FAMILIES, *CONTROLS)}
    name = record.network["family"]
    if name not in families:
        raise InputError(f"no family of networks is called {name!r} any more")
    if module is not None:
        raise InputError(f"this counterexample is of the family {name!r}; leave the module out")
    return families[name].architecture(record.network["choices"])


def _comparison(judgement: Judgement, tensors: Mapping[str, Tensor], record: Record) -> str:
    """Say whether both sides are the saved ones."""
    failed = next(c for c in judgement.comparisons if not c.holds)
    sides = saved.sides(failed)
    if all(_bits(values) == _bits(tensors[side]) for side, values in sides.items()):
        return "both sides are the saved ones, bit for bit"
    versions = ", ".join(f"{name} {version}" for name, version in record.environment.items())
    return f"the sides are not quite the saved ones, {record.summary}, found with {versions}"


def _bits(tensor: Tensor) -> tuple[torch.Size, bytes]:
    return tensor.shape, tensor.numpy().tobytes()
