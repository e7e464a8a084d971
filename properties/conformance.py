"""What the theorems say about anybody's network."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reluctant.properties.catalogue import select
from reluctant.properties.catalogue import statements as all_statements
from reluctant.properties.judging import Judgement, Tally, describe, judge
from reluctant.theory.errors import InputError, UnsupportedOperation
from reluctant.theory.statements import Statement, Trial
from reluctant.theory.tracing import trace
from reluctant.theory.verdicts import Counterexample, Outcome, Report, Unmet, Verdict

Effort = Literal["quick", "default", "thorough"]
_TRIALS: dict[str, int] = {"quick": 1, "default": 3, "thorough": 10}
_WORK: dict[str, float] = {"quick": 1e8, "default": 5e8, "thorough": 1e11}
_EXAMPLES = 4
Progress = Callable[[str, int, int], None]


def check(
    module: nn.Module,
    example: Tensor,
    statements: Iterable[str] | None = None,
    *,
    name: str | None = None,
    data: Tensor | None = None,
    effort: Effort = "default",
    seed: int = 0,
    progress: Progress | None = None,
    on_verdict: Callable[[Verdict], None] | None = None,
) -> Report:
    r"""Try the statements of the theory on a module.

    The first trial takes the module with its own weights; later ones take other inputs and, every
    second time, weights drawn anew, since a theorem speaks of all of them.

    Args:
        module: Any module that :func:`reluctant.trace` can read. It is left as it is.
        example: One batch of inputs, shape (n, \*input); drawn inputs follow its mean and spread.
        statements: Identifiers or prefixes; all if None.
        name: What to call the module in the report.
        data: Real inputs, shape (m, \*input), from which the trials take theirs.
        effort: "quick", "default" or "thorough": 1, 3 or 10 trials.
        seed: Seed of everything drawn.
        progress: Called with what is being done, steps done, steps in all.
        on_verdict: Called with each verdict as it is reached.

    Returns:
        One verdict a statement. HOLDS and REFUTED come where all hypotheses are met; NOT_IMPLIED
        names those that are not, and how far the conclusion is violated all the same;
        INCONCLUSIVE says what would be needed; UNSUPPORTED names the operation that cannot be read.

    Raises:
        InputError: If the example, the data or the weights cannot be used.

    Cost:
        For each statement and trial a few forward passes; statements about kernels cost what
        :func:`reluctant.npk` costs for four examples.
    """
    chosen = select(statements)
    if effort not in _TRIALS:
        raise InputError(f"effort must be one of {', '.join(_TRIALS)}, got {effort!r}")
    subject = name or type(module).__name__
    verdicts: list[Verdict] = []
    notes: list[str] = []

    def settle(verdict: Verdict) -> None:
        verdicts.append(verdict)
        if on_verdict:
            on_verdict(verdict)

    try:
        net = trace(module, example)
        notes.extend(net.notes)
        trials = _trials(module, example, data, effort, seed)
        for k, statement in enumerate(chosen):
            if progress:
                progress(statement.id, k, len(chosen))
            settle(_settle(statement, trials, subject))
    except UnsupportedOperation as error:
        for statement in chosen[len(verdicts) :]:
            settle(_unsupported(statement, subject, error))
    except KeyboardInterrupt:
        notes.append(f"interrupted: {len(verdicts)} of {len(chosen)} statements were tried")
    return Report(subject, tuple(verdicts), (), _environment(seed, effort, example), tuple(notes))


def _settle(statement: Statement, trials: Sequence[Trial], subject: str) -> Verdict:
    tally, started = Tally(statement), time.perf_counter()
    for trial in trials:
        judgement = judge(statement, trial)
        tally.add(judgement)
        if judgement.outcome is Outcome.REFUTED:
            smaller = _smaller(statement, trial, judgement)
            tally.counterexample = _counterexample(*smaller)
            break
        if judgement.outcome in (Outcome.NOT_IMPLIED, Outcome.INCONCLUSIVE):
            break
    verdict = tally.verdict(subject, statement.expected, time.perf_counter() - started)
    if verdict.outcome is Outcome.NOT_IMPLIED:  # information: theory claims nothing here
        return replace(verdict, expected=Outcome.NOT_IMPLIED)
    return verdict


def _trials(
    module: nn.Module, example: Tensor, data: Tensor | None, effort: Effort, seed: int
) -> list[Trial]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for k in range(_TRIALS[effort]):
        x = _inputs(example, data, k, generator)
        subject = module if k % 2 == 0 else _redrawn(module, generator)
        found.append(Trial(subject, x, torch.Generator().manual_seed(seed + k), work=_WORK[effort]))
    return found


def _inputs(example: Tensor, data: Tensor | None, k: int, generator: torch.Generator) -> Tensor:
    """Return four inputs: given ones first, then drawn ones; integers every third time, so that ties occur."""
    if data is not None:
        if tuple(data.shape[1:]) != tuple(example.shape[1:]):
            raise InputError(
                f"the data hold examples of shape {tuple(data.shape[1:])}, "
                f"but the example has {tuple(example.shape[1:])}"
            )
        picked = torch.randint(0, data.shape[0], (_EXAMPLES,), generator=generator)
        return data[picked].to(example)
    drawn = torch.randn(_EXAMPLES, *example.shape[1:], generator=generator, dtype=torch.float64).to(
        example
    )
    spread = float(example.double().std()) if example.numel() > 1 else 0.0
    drawn = drawn * (spread or 1.0) + float(example.double().mean())
    if k % 3 == 2:
        return torch.round(2 * drawn / (spread or 1.0))
    given = example[:_EXAMPLES]
    useful = k == 0 and bool(given.any())
    return torch.cat([given, drawn[len(given) :]]) if useful else drawn


def _redrawn(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Return a copy with other weights of the same size: signs turned and entries shuffled."""
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in twin.parameters():
            order = torch.randperm(parameter.numel(), generator=generator)
            signs = torch.randint(0, 2, (parameter.numel(),), generator=generator) * 2 - 1
            flat = parameter.detach().flatten()
            parameter.copy_((flat[order.to(flat.device)] * signs.to(flat)).reshape(parameter.shape))
    return twin


def _smaller(statement: Statement, trial: Trial, judgement: Judgement) -> tuple[Trial, Judgement]:
    """Make a counterexample easier to read: fewer inputs, then rounded ones, as long as it stays one."""
    best = trial, judgement
    for change in (lambda x: x[:2], lambda x: torch.round(x), lambda x: torch.sign(x)):
        x = change(best[0].x)
        candidate = Trial(best[0].module, x, torch.Generator().manual_seed(0))
        try:
            found = judge(statement, candidate)
        except Exception:  # a changed input may be outside the claim's domain: keep the last one
            continue
        if found.outcome is Outcome.REFUTED:
            best = candidate, found
    return best


def _counterexample(trial: Trial, judgement: Judgement) -> Counterexample:
    failed = next(c for c in judgement.comparisons if not c.holds)
    numbers: dict[str, Any] = {
        "left": failed.left.detach().tolist(),
        "right": failed.right.detach().tolist(),
    }
    if trial.x.numel() <= 4096:
        numbers["x"] = trial.x.tolist()
    sizes = {name: p for name, p in trial.module.named_parameters() if p.numel() <= 64}
    numbers["weights"] = {name: p.detach().tolist() for name, p in sizes.items()}
    return Counterexample(
        describe(failed),
        numbers,
        "judge(statement, Trial(module, torch.tensor(numbers['x']), generator))",
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
    }


def parametrize_with_statements(
    modules: Sequence[nn.Module],
    *,
    example: Tensor,
    statements: Iterable[str] | None = None,
    effort: Effort = "quick",
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Parametrize a test with one check for every module and statement.

    The test gets an argument ``check``; calling it fails if a statement whose hypotheses the module
    meets is refuted, and skips, with the reason, what is not implied, inconclusive or unsupported.

    Args:
        modules: Modules to test.
        example: Inputs of the shape to be used.
        statements: Identifiers or prefixes; all if None.
        effort: As for :func:`check`.
    """
    import pytest

    from reluctant.theory import ledger

    ids = [s.id for s in (all_statements() if statements is None else select(statements))]

    def make(module: nn.Module, statement: str) -> Callable[[], None]:
        def run() -> None:
            verdict = check(module, example, [statement], effort=effort)[statement]
            ledger.deposit(verdict)
            if verdict.outcome in (Outcome.NOT_IMPLIED, Outcome.INCONCLUSIVE, Outcome.UNSUPPORTED):
                pytest.skip(f"{verdict.outcome}: {verdict.reason}")
            assert verdict.is_as_expected, (
                f"{statement} is {verdict.outcome} for {verdict.subject}: {verdict.reason}"
            )

        return run

    cases = [
        (make(module, statement), f"{type(module).__name__}-{statement}")
        for module in modules
        for statement in ids
    ]
    return pytest.mark.parametrize(
        "check", [case for case, _ in cases], ids=[label for _, label in cases]
    )
