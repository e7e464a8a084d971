"""Making a counterexample easy to read: fewer inputs, then zeros and round numbers; and showing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from reluctant.properties.judging import Judgement, describe, judge
from reluctant.theory.statements import Statement, Trial
from reluctant.theory.twins import twin
from reluctant.theory.verdicts import Counterexample, Outcome

Change = Callable[[Tensor], Tensor]
_SHOWN = 4096  # entries of a tensor that a counterexample lists

# Simplest first. What is simple already is left alone, so that every accepted change is progress.
_CHANGES: tuple[Change, ...] = (
    torch.zeros_like,
    lambda t: torch.sign(t).abs(),
    torch.sign,
    torch.round,
    lambda t: torch.round(t * 10) / 10,
)


@dataclass(frozen=True, slots=True)
class Budget:
    """Be how much a search may spend.

    Attributes:
        judgements: Largest number of candidates to judge.
        seconds: Time after which no candidate is begun. The number of judgements is meant to end a
            search, so that it ends at the same example every time; the time is for large networks.
        clock: Gives the time in seconds.
    """

    judgements: int = 400
    seconds: float = 60.0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)


def shrunk(
    statement: Statement, trial: Trial, judgement: Judgement, budget: Budget | None = None
) -> tuple[Trial, Judgement]:
    """Look for a simpler trial that refutes the statement as well.

    Two inputs are tried in place of many; then, of the inputs and of every parameter, all entries,
    halves, quarters and so on down to single entries are replaced by 0, by 1, by ±1, by integers and by
    tenths, as long as the statement stays refuted and its hypotheses stay met.

    Args:
        statement: Statement that was refuted.
        trial: Trial that refuted it. Its module is left as it is: the search changes a copy.
        judgement: What the trial said.
        budget: How much may be spent; 400 judgements and 60 seconds if None.

    Returns:
        The simplest trial found, and what it says.

    Cost:
        One judgement a candidate, within the budget.
    """
    search = _Search(statement, trial, judgement, budget or Budget())
    search.drop_inputs()
    copied = twin(trial.module)
    search.best = replace(search.best, module=copied)
    for level in range(_depth(search.best.x, copied)):
        search.simplify_inputs(level)
        for parameter in copied.parameters():
            search.simplify_parameter(parameter, level)
    return search.best, search.found


def counterexample(trial: Trial, judgement: Judgement, reproduce: str) -> Counterexample:
    """Return what a report shows of a trial that refutes a statement.

    Args:
        trial: Trial.
        judgement: What it said.
        reproduce: Line that shows the failure again.
    """
    # The source of a network that was drawn is ours, and tells a reader nothing.
    failed = next(c for c in judgement.comparisons if not c.holds)
    entry = [int(k) for k in torch.unravel_index(failed.excess.argmax(), failed.excess.shape)]
    layers = ((trial.net.gate_layers[g].name, trial.gates[g]) for g in trial.net.value_gates)
    numbers: dict[str, Any] = {
        "compared": failed.what,
        "entry": entry,
        "place": "" if trial.choices else trial.net.nodes[trial.net.output].place,
        "left": _listed(failed.left.expand_as(failed.excess), entry),
        "right": _listed(failed.right.expand_as(failed.excess), entry),
        "x": _listed(trial.x),
        "weights": {name: _listed(p) for name, p in trial.module.named_parameters()},
        "gates": {name: _listed(gate.double()) for name, gate in layers},
        **failed.numbers,
    }
    return Counterexample(describe(failed), numbers, reproduce)


def _listed(tensor: Tensor, entry: Sequence[int] | None = None) -> Any:
    """Return a tensor as lists; of a large one the given entry, or else its shape in words."""
    if tensor.numel() <= _SHOWN:
        return tensor.detach().tolist()
    if entry is not None:
        return tensor.detach()[tuple(entry)].item()
    return f"{' x '.join(map(str, tensor.shape))} numbers, too many to list"


class _Search:
    """Walk from trial to simpler trial, by leave of the judge."""

    def __init__(self, statement: Statement, best: Trial, found: Judgement, budget: Budget) -> None:
        self.statement, self.best, self.found, self.budget = statement, best, found, budget
        self.spent, self.started = 0, budget.clock()

    def refutes(self, x: Tensor) -> bool:
        """Judge the best trial's module, as it is now, on x; keep the trial if it refutes."""
        if self.is_exhausted:
            return False
        self.spent += 1
        seed = self.best.generator.initial_seed()
        candidate = replace(self.best, x=x, generator=torch.Generator().manual_seed(seed))
        try:
            found = judge(self.statement, candidate)
        except Exception:  # a changed trial may be outside the claim's domain: keep the last one
            return False
        if found.outcome is not Outcome.REFUTED:
            return False
        self.best, self.found = candidate, found
        return True

    @property
    def is_exhausted(self) -> bool:
        budget = self.budget
        return self.spent >= budget.judgements or budget.clock() - self.started >= budget.seconds

    def drop_inputs(self) -> None:
        x = self.best.x
        if len(x) > 2:
            any(self.refutes(x[list(pair)]) for pair in combinations(range(min(len(x), 8)), 2))

    def simplify_inputs(self, level: int) -> None:
        for piece in _pieces(self.best.x.numel(), level):
            if self.is_exhausted:
                return
            for x in _simpler(self.best.x, piece):
                if self.refutes(x):
                    break

    def simplify_parameter(self, parameter: nn.Parameter, level: int) -> None:
        if not parameter.is_floating_point():
            return
        for piece in _pieces(parameter.numel(), level):
            if self.is_exhausted:
                return
            before = parameter.detach().clone()
            for changed in _simpler(before, piece):
                _put(parameter, changed)
                if self.refutes(self.best.x):
                    break
                _put(parameter, before)


def _put(parameter: nn.Parameter, values: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(values)


def _depth(x: Tensor, module: nn.Module) -> int:
    """Return how often the largest tensor can be halved, and one more."""
    sizes = [x.numel(), *(p.numel() for p in module.parameters())]
    return max(sizes).bit_length() + 1


def _pieces(size: int, level: int) -> Iterator[slice]:
    """Yield slices of the size-th part of a tensor at a level; nothing once they are too small."""
    if level > size.bit_length() or size == 0:
        return
    length = -(-size // 2**level)
    if level and length == -(-size // 2 ** (level - 1)):
        return
    yield from (slice(start, start + length) for start in range(0, size, length))


def _simpler(tensor: Tensor, piece: slice) -> Iterator[Tensor]:
    """Yield copies of a tensor with one piece changed, simplest first, as long as it is simpler."""
    flat = tensor.detach().flatten()
    for change in _CHANGES:
        entries = change(flat[piece]) + 0.0  # no negative zeros
        if torch.equal(entries, flat[piece]):
            return
        changed = flat.clone()
        changed[piece] = entries
        yield changed.reshape(tensor.shape)
