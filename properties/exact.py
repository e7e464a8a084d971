r"""Exact evidence at full size: identities tried modulo random primes until a false one is ruled out.

Whatever the depth and width of a network, both sides of an identity are evaluated at random weights
with no rounding at all. Sides that differ are a refutation; sides that agree leave a false identity
a chance that is printed, below 2^-60 unless another is asked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from reluctant.properties.catalogue import select
from reluctant.theory.costs import UNLIMITED, Cost, is_large
from reluctant.theory.errors import InputError, NotIdentified, UnsupportedOperation
from reluctant.theory.meter import Meter
from reluctant.theory.modular import FieldTrial, Identity, ModularClaim, Recording
from reluctant.theory.network import PathNetwork
from reluctant.theory.statements import CannotTry, Hypothesis, Statement
from reluctant.theory.tangents import parameter_sizes
from reluctant.theory.verdicts import (
    Counterexample,
    Evidence,
    EvidenceKind,
    Outcome,
    Unmet,
    Verdict,
)

ERROR = 2.0**-60
_MOST_TRIALS = 64
_EXAMPLES = 2
_CANNOT = (CannotTry, NotIdentified, UnsupportedOperation)


@dataclass(slots=True, eq=False)
class FieldTrials:
    r"""Draw the trials that all statements on one network share.

    As many are kept as half of the limit's bytes can hold; others are drawn whenever they are
    needed.

    Attributes:
        recording: Network, data and recorded gates.
        seed: Seed of everything drawn.
        limit: What one statement may take.
    """

    recording: Recording
    seed: int = 0
    limit: Cost = UNLIMITED
    _known: dict[int, FieldTrial] = field(default_factory=dict)
    _unmet: dict[str, Unmet | None] = field(default_factory=dict)

    def __getitem__(self, k: int) -> FieldTrial:
        """Return trial number k, its prime, weights and data drawn from the seed and k."""
        if k in self._known:
            return self._known[k]
        own = (self.seed * _MOST_TRIALS + k) % 2**62
        over = self.recording.primes.draw(torch.Generator().manual_seed(own))
        trial = FieldTrial(self.recording, over, own + 2**62, torch.Generator())
        if 2 * (len(self._known) + 1) * self._size <= self.limit.bytes:
            self._known[k] = trial
        return trial

    @property
    def _size(self) -> float:
        """Return the bytes of a trial: parameters, and the values of all nodes by both routes."""
        net, n = self.recording.net, len(self.recording.data)
        values = sum(math.prod(net.nodes[i].shape) for i in net.value_nodes)
        return 8.0 * (2 * n * values + sum(parameter_sizes(net).values()))

    def unmet(self, statement: Statement) -> tuple[Unmet, ...]:
        """Return the hypotheses that the network does not meet, each found out once."""
        return tuple(u for h in statement.hypotheses if (u := self._test(h)) is not None)

    def _test(self, hypothesis: Hypothesis) -> Unmet | None:
        if hypothesis.name not in self._unmet:
            self._unmet[hypothesis.name] = hypothesis(self.recording.net)
        return self._unmet[hypothesis.name]

    def identities(
        self, claim: ModularClaim, k: int, ingredients: dict[str, Any] | None = None
    ) -> tuple[Identity, ...]:
        """Try a claim once.

        Args:
            claim: Claim.
            k: Number of the trial.
            ingredients: Replacements of the claim's ingredients, for a mutant.
        """
        trial = self[k]
        trial.generator.manual_seed(trial.seed + 1)
        with torch.no_grad():
            return tuple(claim.claim(trial, **(ingredients or {})))


def record(
    net: PathNetwork, data: Tensor | None = None, *, formal: bool = False, seed: int = 0
) -> Recording:
    r"""Record the gates that all trials hold.

    Args:
        net: Network.
        data: Real inputs, shape (n, \*input); two standard normal ones if None.
        formal: True draws gates as residues, so that an identity is tried for all gates at once.
        seed: Seed of the inputs, if they are drawn.

    Raises:
        InputError: If the data do not fit the network.
    """
    if data is None:
        generator = torch.Generator().manual_seed(seed)
        n = min(_EXAMPLES, net.program.example_shape[0])
        drawn = torch.randn(n, *net.input_shape, generator=generator, dtype=torch.float64)
        data = drawn.to(net.program.dtype).to(net.program.device)
    if tuple(data.shape[1:]) != net.input_shape:
        raise InputError(
            f"the data hold examples of shape {tuple(data.shape[1:])}, but the network reads {net.input_shape}"
        )
    return Recording(net.at(data), data, formal)


def at_full_size(
    net: PathNetwork, example: Tensor, seed: int = 0, limit: Cost = UNLIMITED
) -> FieldTrials | None:
    r"""Return trials of a network that is too large for the other routes, None of a small one.

    Args:
        net: Network.
        example: Inputs, shape (n, \*input), of which the first two are used.
        seed: Seed of everything drawn.
        limit: What one statement may take.
    """
    if not is_large(net):
        return None
    return FieldTrials(record(net, example[:_EXAMPLES].detach()), seed, limit)


def exact_evidence(
    net: PathNetwork,
    statements: Iterable[str] | None = None,
    *,
    data: Tensor | None = None,
    error: float = ERROR,
    formal: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> list[Verdict]:
    r"""Try the polynomial forms of statements on a network of any size, with no tolerance.

    Args:
        net: Network.
        statements: Identifiers or prefixes; all that have a polynomial form if None.
        data: Real inputs at which the gates are recorded, shape (n, \*input); drawn if None.
        error: Largest chance that a false identity passes all trials.
        formal: True tries every identity for all gates at once, by gates drawn as residues; False
            for the gates recorded at the data.
        seed: Seed of everything drawn.
        name: What to call the network.

    Returns:
        One verdict a statement. HOLDS carries exact evidence and the chance above, REFUTED the
        prime and the entries that differ; NOT_IMPLIED says which share of the entries differs.

    Raises:
        InputError: If the data do not fit the network, or the error is no positive chance.

    Cost:
        A few float64 forward passes for each trial; statements about each layer or each block take
        as many halves of a pass. FieldTrials are about 60 / 10, fewer for small degrees.
    """
    if not 0.0 < error < 1.0:
        raise InputError(f"the error must lie between 0 and 1, got {error}")
    trials = FieldTrials(record(net, data, formal=formal, seed=seed), seed)
    subject = name or type(net.module).__name__
    chosen = [s for s in select(statements) if s.modular is not None]
    return [try_statement(s, trials, subject=subject, error=error) for s in chosen]


def try_statement(
    statement: Statement, trials: FieldTrials, *, subject: str = "", error: float = ERROR
) -> Verdict:
    """Try one statement modulo as many primes as the error asks for.

    Args:
        statement: Statement with a polynomial form.
        trials: FieldTrials of the network.
        subject: Name of the network.
        error: Largest chance that a false identity passes.

    Raises:
        InputError: If the statement has no polynomial form.
    """
    if statement.modular is None:
        raise InputError(f"{statement.id} has no polynomial form")
    started = time.perf_counter()
    unmet = trials.unmet(statement)
    try:
        verdict = _judged(statement, statement.modular, trials, unmet, error)
    except _CANNOT as why:
        outcome = Outcome.NOT_IMPLIED if unmet else Outcome.INCONCLUSIVE
        reason = _reasons(unmet) if unmet else str(why)
        verdict = _Verdict(outcome, reason, None, None, None)
    except Exception:  # without its hypotheses a claim may make no sense
        if not unmet:
            raise
        verdict = _Verdict(Outcome.NOT_IMPLIED, _reasons(unmet), None, None, None)
    expected = Outcome.NOT_IMPLIED if unmet else statement.expected
    return Verdict(
        statement=statement.id,
        subject=subject,
        outcome=verdict.outcome,
        expected=expected,
        reason=verdict.reason,
        evidence=verdict.evidence,
        unmet=unmet,
        measured=verdict.measured,
        counterexample=verdict.counterexample,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True)
class _Verdict:
    outcome: Outcome
    reason: str
    evidence: Evidence | None
    measured: float | None
    counterexample: Counterexample | None


def _judged(
    statement: Statement,
    claim: ModularClaim,
    trials: FieldTrials,
    unmet: Sequence[Unmet],
    error: float,
) -> _Verdict:
    miss, vacuous = 1.0, 0
    found: tuple[Identity, ...] = ()
    first = Meter(trials.limit)  # every trial takes the same
    for k in range(_MOST_TRIALS):
        with first if k == 0 else nullcontext():
            found = trials.identities(claim, k)
        failed = next((i for i in found if not i.holds), None)
        if unmet:
            share = max((i.differing for i in found), default=0.0)
            evidence = _evidence(found, 1, 0, None)
            return _Verdict(Outcome.NOT_IMPLIED, _reasons(unmet), evidence, share, None)
        if failed is not None:
            return _refuted(statement, trials, k, found, failed)
        live = [i for i in found if not i.is_vacuous]
        if not live:
            vacuous += 1
            if vacuous > 2:
                break
            continue
        chance = max(trials.recording.primes.miss(i.degree, i.height) for i in found)
        miss *= chance
        if miss <= error:
            count = k + 1 - vacuous
            evidence = _evidence(found, count, vacuous, miss)
            most = f"2^{math.ceil(math.log2(miss))}" if miss else "0: it is of integers below p"
            reason = (
                f"equal modulo {count} random primes; a false identity passes with a chance of at "
                f"most {most}"
            )
            return _Verdict(Outcome.HOLDS, reason, evidence, None, None)
        needed = min(_MOST_TRIALS, vacuous + math.ceil(math.log(error) / math.log(chance)))
        why = Cost(passes=needed * first.products).beyond(trials.limit)
        if why:
            raise CannotTry(f"{needed} random primes take {why}")
    if vacuous:
        reason = "both sides vanish: no path is active at these inputs; record gates at others"
    else:
        reason = f"a false identity passes {_MOST_TRIALS} trials with a chance of {miss:.1e}: it has too high a degree"
    return _Verdict(Outcome.INCONCLUSIVE, reason, None, None, None)


def _evidence(found: Sequence[Identity], count: int, vacuous: int, miss: float | None) -> Evidence:
    kinds = list(dict.fromkeys(i.what for i in found))
    detail = "; ".join(kinds[:3]) + (f"; and {len(kinds) - 3} more" if len(kinds) > 3 else "")
    entries = sum(i.left.numel() for i in found)
    return Evidence(
        kind=EvidenceKind.EXACT,
        trials=count,
        vacuous=vacuous,
        residual=None if miss is None else 0.0,
        soundness_error=miss,
        detail=f"{detail} ({len(found)} identities, {entries} residues a trial)",
    )


def _refuted(
    statement: Statement, trials: FieldTrials, k: int, found: Sequence[Identity], failed: Identity
) -> _Verdict:
    prime = trials[k].over.prime
    at = int((failed.left != failed.right).flatten().to(torch.uint8).argmax())
    left, right = (int(t.flatten()[at]) for t in (failed.left, failed.right))
    summary = f"{failed.what}: {left} = {right} is false modulo {prime} (entry {at})"
    numbers = {"prime": prime, "seed": trials.seed, "trial": k, "left": left, "right": right}
    line = f'reluctant.properties.exact.exact_evidence(net, ["{statement.id}"], seed={trials.seed})'
    evidence = _evidence(found, k + 1, 0, None)
    example = Counterexample(summary, numbers, line)
    return _Verdict(Outcome.REFUTED, summary, evidence, failed.differing, example)


def _reasons(unmet: Sequence[Unmet]) -> str:
    return "; ".join(f"{u.reason} ({u.where})" if u.where else u.reason for u in unmet)
