"""What the theorems say about anybody's network."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from reluctant.properties.catalogue import select
from reluctant.properties.exact import FieldTrials, at_full_size, try_statement
from reluctant.properties.findings import found_of
from reluctant.properties.judging import LIVE, Judgement, Tally, judge
from reluctant.properties.saved import module_of
from reluctant.properties.shelves import Folder, Shelf, of_module
from reluctant.properties.shrinking import Budget, counterexample, shrunk
from reluctant.properties.trials import TRIALS, Effort, Trials
from reluctant.theory.errors import InputError, ReluctantError, UnsupportedOperation
from reluctant.theory.findings import Finding
from reluctant.theory.inputs import require_module
from reluctant.theory.parts import Until, whole
from reluctant.theory.plugins import listed
from reluctant.theory.single import Inputs, joined, one_tensor
from reluctant.theory.statements import Statement
from reluctant.theory.tracing import trace
from reluctant.theory.twins import differentiable, twin
from reluctant.theory.verdicts import Outcome, Report, Tried, Unmet, Verdict

_SEARCH = {"quick": Budget(100, 20.0), "default": Budget(), "thorough": Budget(2000, 300.0)}
Progress = Callable[[str, int, int], None]
Again = Callable[[str], str]


@differentiable()
def check(
    module: nn.Module,
    example: Inputs,
    statements: Iterable[str] | None = None,
    *,
    output: int | str | None = None,
    name: str | None = None,
    data: Inputs | None = None,
    effort: Effort = "default",
    seed: int = 0,
    progress: Progress | None = None,
    on_verdict: Callable[[Verdict], None] | None = None,
    again: Again | None = None,
    counterexamples: Folder = None,
    until: str | None = None,
    part: Again | None = None,
    described: bool = True,
) -> Report:
    r"""Try the statements of the theory on a module.

    The first trial takes the module with its own weights; later ones take other inputs and, every
    second time, weights drawn anew, since a theorem speaks of all of them. On a network of more
    than ten million multiply-adds, statements with a polynomial form are tried at random weights
    modulo primes instead, with no tolerance.

    Args:
        module: Any module that :func:`reluctant.trace` can read. It is left as it is.
        example: One batch of inputs, shape (n, \*input); drawn inputs follow its mean and spread.
            Several inputs are a sequence or a mapping, see :func:`reluctant.one_tensor`.
        statements: Identifiers or prefixes, at least one; all if None.
        output: Position or name of the output, if the module returns several.
        name: What to call the module in the report.
        data: Real inputs, shape (m, \*input), from which the trials take theirs.
        effort: "quick", "default" or "thorough": 1, 3 or 10 trials,
            and up to three times as many where both sides vanish.
        seed: Seed of everything drawn.
        progress: Called with what is being done, steps done, steps in all.
        on_verdict: Called with each verdict as it is reached.
        again: Gives, for the identifier of a statement, the line that checks it again; a call of
            this function if None.
        counterexamples: Folder of counterexamples: known ones that fit the module's shapes are
            tried first, and the smallest found are kept there. None knows none and keeps none.
        until: Part of the module to which the statements are applied, as for
            :func:`reluctant.until`; all of it if None.
        part: Gives, for a part that can be read where the whole cannot, the line that checks it;
            a call of this function if None.
        described: False leaves out what is found of the network, which takes forward passes.

    Returns:
        What was found of the network, as :func:`reluctant.findings` has it, and one verdict a
        statement. HOLDS and REFUTED come where all hypotheses are met; NOT_IMPLIED
        names those that are not, and how far the conclusion is violated all the same;
        INCONCLUSIVE says what would be needed; UNSUPPORTED names the operation that cannot be read,
        and a note lists the statements whose hypotheses the part before it meets.

    Raises:
        InputError: If the example, the data or the weights cannot be used.

    Cost:
        For each statement and trial a few forward passes; statements about kernels cost what
        :func:`reluctant.npk` costs for four examples.
    """
    require_module(module)
    chosen = chosen_statements(statements)
    ensure_options(effort, seed)
    subject = name or type(module).__name__
    module, example = one_tensor(twin(module), example, output)
    data = None if data is None else joined(data)
    module = module if until is None else Until(module, until)
    call = _call(data is not None, output, effort, seed)
    again = again or (lambda identifier: call(f'["{identifier}"]', until))
    part = part or (lambda name: call("", name))
    shelf = Shelf.at(counterexamples)
    verdicts: list[Verdict] = []
    notes: list[str] = []
    found: tuple[Finding, ...] = ()

    def settle(verdict: Verdict) -> None:
        verdicts.append(verdict)
        if on_verdict:
            on_verdict(verdict)

    try:
        if progress:
            progress("the network is read", 0, len(chosen))
        net = trace(module, example)
        notes.extend(net.notes)
        trials = Trials(net, example.detach(), data, effort, seed)
        found = found_of(net, trials.sample, seed) if described else ()
        given = example if trials.data is None else trials.data
        large = at_full_size(net, given, seed, trials.limit)
        for k, statement in enumerate(chosen):
            if progress:
                progress(statement.id, k, len(chosen))
            settle(_reached(statement, large, trials, subject, effort, again, shelf))
    except UnsupportedOperation as error:
        for statement in chosen[len(verdicts) :]:
            settle(_unsupported(statement, subject, error))
        notes.append(_readable_part(module, example, error, chosen, part))
    except KeyboardInterrupt:
        notes.append(f"interrupted: {len(verdicts)} of {len(chosen)} statements were tried")
    notes.extend(shelf.notes)
    return Report(
        subject,
        tuple(verdicts),
        environment=_environment(seed, effort, example),
        notes=tuple(notes),
        findings=found,
    )


def ensure_options(effort: str, seed: int) -> None:
    """Refuse an effort that is none, and a seed that torch does not take."""
    if effort not in TRIALS:
        raise InputError(f"effort must be one of {', '.join(TRIALS)}, got {effort!r}")
    if not 0 <= seed < 2**63:
        raise InputError(f"the seed must lie in 0 ... 2**63 - 1, got {seed}")


def chosen_statements(statements: Iterable[str] | None) -> tuple[Statement, ...]:
    """Return the statements that are named, at least one."""
    wanted: Any = statements
    if wanted is not None:
        is_one = isinstance(wanted, str) or not isinstance(wanted, Iterable)
        wanted = [wanted] if is_one else list(wanted)
    for name in wanted or ():
        if not isinstance(name, str):
            came = f"one itself; pass {name.id!r}" if isinstance(name, Statement) else repr(name)
            raise InputError(f"statements are named by identifiers or prefixes, got {came}")
    chosen = select(wanted)
    if not chosen:
        raise InputError("no statement is named; leave out the choice to try all of them")
    return chosen


def _call(
    has_data: bool, output: int | str | None, effort: Effort, seed: int
) -> Callable[[str, str | None], str]:
    """Return what writes a call of :func:`check`, for statements and a part of the module."""
    more = "" if output is None else f", output={output!r}"
    more += ", data=data" if has_data else ""

    def written(statements: str, until: str | None) -> str:
        named = ", ".join(["module", "example", *([statements] if statements else [])])
        part = "" if until is None else f", until={until!r}"
        return f'reluctant.check({named}{more}{part}, effort="{effort}", seed={seed})'

    return written


def _reached(
    statement: Statement,
    large: FieldTrials | None,
    trials: Trials,
    subject: str,
    effort: Effort,
    again: Again,
    shelf: Shelf,
) -> Verdict:
    """Reach a verdict, on a large network modulo primes if the statement has a polynomial form.

    What is refuted there, or was refuted before, is tried on inputs too: a counterexample is
    something to hold.
    """
    exact = _exact(statement, large, trials, subject)
    is_known = any(known.record.statement == statement.id for known in shelf.known)
    if exact is not None and exact.outcome is not Outcome.REFUTED and not is_known:
        return exact
    held = _settle(statement, trials, subject, effort, again, shelf)
    return held if exact is None or held.outcome is Outcome.REFUTED else exact


def _exact(
    statement: Statement, large: FieldTrials | None, trials: Trials, subject: str
) -> Verdict | None:
    """Try a statement on a large network modulo primes; None if that comes to no verdict."""
    if large is None or statement.modular is None:
        return None
    verdict = try_statement(statement, large, subject=subject)
    if verdict.outcome is Outcome.INCONCLUSIVE:
        return None
    return _counted(verdict, trials.recorded(large.recording.data))


def _counted(verdict: Verdict, inputs: Tried) -> Verdict:
    """Say on how many inputs a verdict was reached."""
    if verdict.evidence is None:
        return verdict
    return replace(verdict, evidence=replace(verdict.evidence, inputs=inputs))


def _settle(
    statement: Statement,
    trials: Trials,
    subject: str,
    effort: Effort,
    again: Again,
    shelf: Shelf,
) -> Verdict:
    tally, started, wanted = Tally(statement), time.perf_counter(), TRIALS[effort]
    found = known = shelf.retried(statement, subject, of_module(trials.module, trials.example))
    if known:
        tally.add(known[1])
    for trial in () if known else trials:
        try:
            judgement = judge(statement, trial)
        except UnsupportedOperation as error:
            return _unsupported(statement, subject, error)
        except ReluctantError as error:  # what was drawn suits the statement ill, not the example
            judgement = Judgement(Outcome.INCONCLUSIVE, reason=f"cannot be tried: {error}")
        except Exception as error:
            error.add_note(f"while {statement.id} was tried on {subject}")
            raise
        tally.add(judgement)
        if judgement.outcome is Outcome.REFUTED:
            found = shrunk(statement, trial, judgement, _SEARCH[effort])
        held, dead = tally.count(Outcome.HOLDS), tally.count(None)
        if held + dead < len(tally.judgements) or held >= max(wanted, min(LIVE, held + dead)):
            break
    if found:
        line = shelf.keep(statement, subject, *found, module_of(trials.module))
        tally.counterexample = counterexample(*found, line or again(statement.id))
    verdict = tally.verdict(subject, statement.expected, time.perf_counter() - started)
    own = Tried(own_networks=True) if statement.draws_networks else None
    read = Tried(drawn=len(known[0].x)) if known else trials.tried(len(tally.judgements))
    if verdict.outcome is Outcome.REFUTED:
        verdict = replace(verdict, measured=tally.judgements[-1].measured)
    if verdict.outcome is Outcome.NOT_IMPLIED:  # information: theory claims nothing here
        measured, remark = tally.evidence([Outcome.NOT_IMPLIED]), _remark(tally.judgements[-1])
        expected = Outcome.NOT_IMPLIED
        verdict = replace(verdict, expected=expected, remark=remark, evidence=measured)
    return _counted(verdict, own or read)


def _remark(judgement: Judgement) -> str:
    """Say what became of a conclusion that theory does not promise."""
    if not judgement.comparisons:
        return f"not measured: {judgement.reason}" if judgement.reason else ""
    if all(comparison.is_vacuous for comparison in judgement.comparisons):
        return "both sides vanish"
    if all(comparison.holds for comparison in judgement.comparisons):
        return "the conclusion is not violated beyond its error bound here"
    return ""


def _readable_part(
    module: nn.Module,
    example: Tensor,
    error: UnsupportedOperation,
    chosen: tuple[Statement, ...],
    part: Again,
) -> str:
    """Say what could be read before what was refused, and which statements need no more."""
    before = f"what comes before {error.operation}{f' ({error.where})' if error.where else ''}"
    if not error.until:
        return f"{before} holds no part with weights that can be read by itself"
    net = trace(Until(whole(module), error.until), example)
    met = [statement.id for statement in chosen if not any(statement.unmet(net))]
    return (
        f"{before} can be read, and meets the hypotheses of {len(met)} of {len(chosen)} statements"
        f"{': ' if met else ''}{', '.join(met)}; try them with {part(error.until)}"
    )


def _unsupported(statement: Statement, subject: str, error: UnsupportedOperation) -> Verdict:
    place = Unmet("readable", error.operation, error.where)
    return Verdict(
        statement.id, subject, Outcome.UNSUPPORTED, statement.expected, str(error), unmet=(place,)
    )


def _environment(seed: int, effort: str, example: Tensor) -> dict[str, str]:
    from reluctant import __version__

    return {
        "reluctant": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": str(example.device),
        "type": str(example.dtype).removeprefix("torch."),
        "seed": str(seed),
        "effort": effort,
        "plugins": listed(),
    }
