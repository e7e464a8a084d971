"""A theorist's own claims: written in a few lines, and tried as hard as the published ones."""

from __future__ import annotations

import difflib
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from reluctant.properties.catalogue import statements
from reluctant.properties.controls import CONTROLS
from reluctant.properties.families import FAMILIES
from reluctant.properties.shelves import Folder, Shelf
from reluctant.properties.specimens import Family
from reluctant.properties.verification import IMPATIENCE, Progress, environment, verify_family
from reluctant.theory.errors import InputError, ReluctantError
from reluctant.theory.exactness import Watch
from reluctant.theory.statements import CannotTry, Comparison, Hypothesis, Kind, Statement, Trial
from reluctant.theory.verdicts import EvidenceKind, Outcome, Report, Verdict

EFFORT = {"quick": 10, "default": 40, "thorough": 300}

#: What a conjecture's function may return: what should vanish, two sides, or comparisons.
Residual = Tensor | tuple[Tensor, Tensor] | Comparison | Sequence[Comparison]


def hypotheses() -> dict[str, Hypothesis]:
    """Return every hypothesis of the catalogue by name."""
    return {h.name: h for statement in statements() for h in statement.hypotheses}


def conjecture(
    title: str, *, needs: Iterable[str | Hypothesis] = (), latex: str = ""
) -> Callable[[Callable[[Trial], Residual]], Statement]:
    """Turn a function into a statement that can be tried on drawn networks.

    The function gets a :class:`~reluctant.theory.statements.Trial`: the network as ``trial.module``
    and read as ``trial.net``, inputs ``trial.x`` of shape (3, *input), its output as
    ``trial.output``. It returns a tensor that should vanish, or two sides that should be equal; they
    are compared with no tolerance, on the networks where the computation was exact. A claim that
    rounds by its nature returns comparisons with bounds of its own.

    Args:
        title: The claim in one line.
        needs: Hypotheses: names from the catalogue, or new ones.
        latex: The claim as a formula; the title if left out.

    Returns:
        A decorator. The statement is named after the function.

    Raises:
        InputError: If a hypothesis is not in the catalogue; names those that are close.

    Example:
        >>> import reluctant as rl
        >>> @rl.conjecture("the output is odd", needs=["bias-free"])
        ... def odd(trial):
        ...     return trial.module(-trial.x), -trial.output
        >>> odd.id
        'conjecture.odd'
    """
    needed = tuple(_hypothesis(each) for each in needs)

    def decorate(function: Callable[[Trial], Residual]) -> Statement:
        name = function.__name__.replace("_", "-")

        def claim(trial: Trial) -> Sequence[Comparison]:
            return _compared(function, trial, title)

        return Statement(
            id=f"conjecture.{name}",
            title=title,
            kind=Kind.EXACT,
            latex=latex or title,
            sources=("own conjecture",),
            hypotheses=needed,
            claim=claim,
            mutants=(),
            revisits_gates=True,
        )

    return decorate


def refute(
    claims: Sequence[Statement],
    effort: str = "default",
    progress: Progress | None = None,
    *,
    seed: int = 0,
    families: Sequence[Family] = (*FAMILIES, *CONTROLS),
    shrinking: bool = True,
    reproduce: str = "",
    counterexamples: Folder = None,
) -> Report:
    """Try to refute conjectures on drawn architectures, weights, gates and inputs.

    Args:
        claims: What :func:`conjecture` returned.
        effort: "quick", "default" or "thorough": 10, 40 or 300 networks of each family.
        progress: Called with what is being done, steps done, and steps in all.
        seed: Seed of all draws.
        families: Families of networks to draw from.
        shrinking: Look for the smallest counterexample, which takes seconds; else give none.
        reproduce: Line that shows again a counterexample that is not kept; a call of this
            function if empty.
        counterexamples: Folder of counterexamples: known ones are tried first, and the smallest
            found are kept there. None knows none and keeps none.

    Returns:
        One verdict a conjecture and family. The first family that refutes a conjecture gives the
        smallest counterexample that was found, unless that was not wanted.

    Raises:
        InputError: If there is no such effort, or two conjectures share a name.
    """
    if effort not in EFFORT:
        raise InputError(f"the effort is one of {', '.join(EFFORT)}, not {effort!r}")
    names = [claim.id for claim in claims]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two conjectures are called {name}; rename one of the functions")
    started, shelf = time.perf_counter(), Shelf.at(counterexamples)
    verdicts: list[Verdict] = []
    notes: tuple[str, ...] = ()
    try:
        for claim in claims:
            refuted = False
            for family in families:
                if progress:
                    total = len(claims) * len(families)
                    progress(f"{claim.id} on {family.name}", len(verdicts), total)
                verdict = verify_family(
                    claim,
                    family,
                    examples=EFFORT[effort],
                    seed_=seed,
                    admitted=(Outcome.HOLDS, Outcome.NOT_IMPLIED),
                    patience=IMPATIENCE,
                    shrinking=shrinking and not refuted,
                    shelf=shelf,
                    reproduce=reproduce or f"reluctant.refute([claim], {effort!r}, seed={seed})",
                )
                refuted = refuted or verdict.outcome is Outcome.REFUTED
                verdicts.append(verdict)
    except KeyboardInterrupt:
        notes = (f"interrupted after {time.perf_counter() - started:.0f} s",)
    return Report(
        "conjectures",
        tuple(verdicts),
        environment=environment(seed, effort),
        notes=(*notes, *shelf.notes),
    )


def _hypothesis(wanted: str | Hypothesis) -> Hypothesis:
    if isinstance(wanted, Hypothesis):
        return wanted
    known = hypotheses()
    if wanted not in known:
        close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.3)
        raise InputError(
            f"no hypothesis is called {wanted!r}; did you mean {', '.join(close or sorted(known))}?"
        )
    return known[wanted]


def _compared(
    function: Callable[[Trial], Residual], trial: Trial, what: str
) -> Sequence[Comparison]:
    # Reading the network is no part of the claim, and its gates may be made with rounding.
    _ = trial.net, trial.gates, trial.weights
    with Watch() as watch:
        found = _called(function, trial, what)
    if isinstance(found, Comparison):
        return (found,)
    if not isinstance(found, Tensor | Sequence):
        raise _unreadable(what, found)
    parts: Sequence[object] = (found,) if isinstance(found, Tensor) else found
    tensors = [part for part in parts if isinstance(part, Tensor)]
    comparisons = tuple(part for part in parts if isinstance(part, Comparison))
    alive: bool | None = None
    if isinstance(found, Tensor):
        left, right = found, torch.zeros_like(found)
        alive = bool(trial.output.any())  # what should vanish says something on a live network
    elif len(tensors) == 2 == len(parts):
        left, right = tensors
    elif len(comparisons) == len(parts) > 0:
        return comparisons
    else:
        raise _unreadable(what, found)
    if left.shape != right.shape:
        raise InputError(
            f"the two sides of “{what}” have shapes {tuple(left.shape)} and {tuple(right.shape)}; "
            "give both the same"
        )
    if watch.rounded:
        raise CannotTry(
            f"the computation rounds in {watch.rounded}, so equality means nothing here; multiply out "
            "the division, or return a Comparison with a bound"
        )
    return (Comparison(left, right, 0.0, EvidenceKind.EXACT, what=what, alive=alive),)


def _called(function: Callable[[Trial], Residual], trial: Trial, what: str) -> Residual:
    """Run what a user wrote, so that its own faults are told from refutations and from ours."""
    try:
        return function(trial)
    except (CannotTry, ReluctantError):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is this very call
        own = [f for f in frames if f.filename == frames[0].filename]
        where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
        raise InputError(
            f"the conjecture “{what}” raised {type(error).__name__}: {error}{where}; "
            "mend it, or name the hypothesis that it needs"
        ) from error


def _unreadable(what: str, found: object) -> InputError:
    return InputError(
        f"the conjecture “{what}” returned {type(found).__name__}; return a tensor that should "
        "vanish, two tensors that should be equal, or comparisons"
    )
