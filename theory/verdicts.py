"""What a check says: an outcome, the evidence for it, and what to do about it."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Outcome(StrEnum):
    """Name the five things that a check can say."""

    HOLDS = "HOLDS"
    REFUTED = "REFUTED"
    NOT_IMPLIED = "NOT_IMPLIED"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNSUPPORTED = "UNSUPPORTED"


class EvidenceKind(StrEnum):
    """Name the four strengths of evidence, strongest first."""

    SYMBOLIC = "symbolic"
    EXACT = "exact"
    ROUNDING = "rounding"
    STATISTICAL = "statistical"


@dataclass(frozen=True, slots=True)
class Tried:
    """Count the distinct inputs that a statement was tried on, by where they come from.

    Attributes:
        data: Those taken from the data.
        of: Number of inputs in the data.
        example: Those taken from the example.
        drawn: Those drawn.
        own_networks: True for a statement that measures networks drawn by itself, at inputs that
            are its own too; the counts are then 0.
    """

    data: int = 0
    of: int = 0
    example: int = 0
    drawn: int = 0
    own_networks: bool = False

    @property
    def words(self) -> str:
        """Return the counts in words.

        >>> Tried(data=12, of=60).words
        'inputs: 12 of 60 data'
        >>> Tried(example=1, drawn=3).words
        'inputs: 1 example, 3 drawn'
        """
        if self.own_networks:
            return "networks of its own"
        counts = (
            (self.data, f"{self.data} of {self.of} data"),
            (self.example, f"{self.example} example"),
            (self.drawn, f"{self.drawn} drawn"),
        )
        return f"inputs: {', '.join(words for count, words in counts if count) or 'none'}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Carry what a verdict rests on.

    Attributes:
        kind: Weakest kind of evidence among the trials.
        trials: Number of examples on which both sides were computed and did not both vanish.
        vacuous: Number of examples on which both sides vanish; they count for nothing.
        residual: Largest difference of the two sides, in units of its bound (1 is the limit).
        error_probability: Chance that a true statement is called refuted; None if zero.
        soundness_error: Chance that a false identity passed all trials, where it was tried modulo
            random primes; None where no such chance is known.
        detail: One line on how the sides were compared.
        estimates: What was measured, with intervals, one line each.
        inputs: On which inputs it was tried; None where they were not counted.
    """

    kind: EvidenceKind
    trials: int
    vacuous: int = 0
    residual: float | None = None
    error_probability: float | None = None
    soundness_error: float | None = None
    detail: str = ""
    estimates: tuple[str, ...] = ()
    inputs: Tried | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        """Rebuild what :meth:`Verdict.to_json` made of it."""
        inputs = data.get("inputs")
        return cls(
            **{
                **data,
                "kind": EvidenceKind(data["kind"]),
                "residual": _number(data["residual"]),
                "estimates": tuple(data.get("estimates", ())),
                "inputs": None if inputs is None else Tried(**inputs),
            }
        )


@dataclass(frozen=True, slots=True)
class Unmet:
    """Name a hypothesis that a network does not meet, and the place where it fails.

    Attributes:
        hypothesis: Name of the hypothesis, such as ``bias-free``.
        reason: One sentence, such as ``fc2 has a bias``.
        where: Place in the user's source or the node's name.
    """

    hypothesis: str
    reason: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Carry the smallest failing example found.

    Attributes:
        summary: One line with the two sides as numbers.
        numbers: Weights, inputs and both sides, ready for JSON.
        reproduce: A line of Python or shell that shows the failure again.
    """

    summary: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    reproduce: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say what became of one statement on one network.

    Attributes:
        statement: Identifier of the statement, such as ``dual.inner-product``.
        subject: Name of the network or family of networks.
        outcome: One of the five outcomes.
        expected: Outcome that theory predicts here; a difference turns a run red.
        reason: One sentence.
        evidence: None only for UNSUPPORTED and for what could not be tried.
        unmet: Hypotheses that are not met, when NOT_IMPLIED.
        measured: Size of the violation when the conclusion was measured all the same, relative
            to the size of the two sides.
        remark: What else was seen where theory claims nothing: why nothing was measured, or that
            the conclusion is not violated beyond its error bound.
        counterexample: Smallest failing example, when REFUTED.
        seconds: Time taken.
    """

    statement: str
    subject: str
    outcome: Outcome
    expected: Outcome
    reason: str
    evidence: Evidence | None = None
    unmet: tuple[Unmet, ...] = ()
    measured: float | None = None
    counterexample: Counterexample | None = None
    seconds: float = 0.0
    remark: str = ""

    @property
    def is_as_expected(self) -> bool:
        """Tell whether the outcome contradicts nothing: INCONCLUSIVE and UNSUPPORTED do not."""
        silent = {Outcome.INCONCLUSIVE, Outcome.UNSUPPORTED}
        return self.outcome is self.expected or self.outcome in silent

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Rebuild a verdict from what :meth:`to_json` returned."""
        evidence, example = data["evidence"], data["counterexample"]
        return cls(
            **{
                **data,
                "outcome": Outcome(data["outcome"]),
                "expected": Outcome(data["expected"]),
                "evidence": None if evidence is None else Evidence.from_json(evidence),
                "measured": _number(data["measured"]),
                "unmet": tuple(Unmet(**u) for u in data["unmet"]),
                "counterexample": None if example is None else Counterexample(**example),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, strings and finite numbers; others as their names."""
        plain: dict[str, Any] = _named(asdict(self))
        return plain


@dataclass(frozen=True, slots=True)
class MutantResult:
    """Say whether a deliberate fault was noticed.

    Attributes:
        statement: Identifier of the statement under test.
        mutant: Name of the fault.
        killed: True if the check refuted the faulty statement.
        trials: Examples tried until then.
        detail: What was seen, one line.
    """

    statement: str
    mutant: str
    killed: bool
    trials: int
    detail: str = ""


class Need(StrEnum):
    """Name what dropping a hypothesis did."""

    NEEDED = "NEEDED"
    NOT_SEEN = "NOT_SEEN"
    DEFINING = "DEFINING"
    NEVER_ALONE = "NEVER_ALONE"

    @property
    def words(self) -> str:
        """Return the answer to the question whether the hypothesis is needed."""
        return {
            Need.NEEDED: "needed",
            Need.NOT_SEEN: "not needed as far as tried",
            Need.DEFINING: "cannot be tried without",
            Need.NEVER_ALONE: "no network tried breaks it alone",
        }[self]


@dataclass(frozen=True, slots=True)
class Sharpness:
    """Say whether a statement needs one of its hypotheses.

    Attributes:
        statement: Identifier of the statement.
        hypothesis: Name of the hypothesis that was dropped.
        need: NEEDED: it fails without; NOT_SEEN: not needed as far as tried; DEFINING: without it
            the claim cannot be evaluated; NEVER_ALONE: no network tried meets all but this one.
        alone: Number of networks that meet all but this one, on which both sides were compared.
        counterexample: Smallest network on which the statement fails without it.
        subject: Family of the counterexample.
        reason: Why nothing could be compared.
    """

    statement: str
    hypothesis: str
    need: Need
    alone: int
    counterexample: Counterexample | None = None
    subject: str = ""
    reason: str = ""

    @property
    def seen(self) -> str:
        """Return what the answer rests on, in one line."""
        if self.counterexample is not None:
            return f"{self.subject}: {self.counterexample.summary}"
        return self.reason or (f"{self.alone} networks without a failure" if self.alone else "")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sharpness:
        """Rebuild what :func:`dataclasses.asdict` made of it."""
        example = data["counterexample"]
        return cls(
            **{
                **data,
                "need": Need(data["need"]),
                "counterexample": None if example is None else Counterexample(**example),
            }
        )


@dataclass(frozen=True, slots=True)
class Report:
    """Carry the verdicts of one run, and where and with what they were reached.

    Attributes:
        subject: Name of the network, or of the suite.
        verdicts: One for each statement and network.
        mutants: One for each deliberate fault tried; empty for a user's network.
        environment: Versions, hardware, seed.
        notes: What the reader must know, such as an interruption.
        sharpness: One for each hypothesis that was dropped; empty unless that was asked for.
    """

    subject: str
    verdicts: tuple[Verdict, ...]
    mutants: tuple[MutantResult, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sharpness: tuple[Sharpness, ...] = ()

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def __getitem__(self, statement: str) -> Verdict:
        for verdict in self.verdicts:
            if verdict.statement == statement:
                return verdict
        raise KeyError(statement)

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """Return the verdicts that differ from what theory predicts."""
        return tuple(v for v in self.verdicts if not v.is_as_expected)

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, strings and finite numbers; others as their names."""
        plain: dict[str, Any] = _named(asdict(self))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Rebuild a report from what :meth:`to_json` returned."""
        return cls(
            subject=data["subject"],
            verdicts=tuple(Verdict.from_json(v) for v in data["verdicts"]),
            mutants=tuple(MutantResult(**m) for m in data["mutants"]),
            environment=dict(data["environment"]),
            notes=tuple(data["notes"]),
            sharpness=tuple(Sharpness.from_json(s) for s in data.get("sharpness", ())),
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as JSON: the whole file or nothing."""
        return write_whole(path, self.as_text())

    def as_text(self) -> str:
        """Return the report as a JSON document."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Read what :meth:`save` wrote."""
        return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _named(value: Any) -> Any:
    """Put ``"inf"``, ``"-inf"`` and ``"nan"`` for the numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _named(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_named(entry) for entry in value]
    return value


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write a file so that a reader sees either all of it or the former one.

    A link stays, and what it names is written; what exists and is no regular file, such as a device
    or a pipe, is written into as it is.

    Args:
        path: Destination; its folder must exist.
        content: Text (written as UTF-8) or bytes.

    Returns:
        The destination.
    """
    path = Path(path)
    payload = content.encode("utf-8") if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(payload)
        return path
    file_itself = path.resolve()
    handle, temporary = tempfile.mkstemp(dir=file_itself.parent, prefix=f".{file_itself.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, file_itself)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
