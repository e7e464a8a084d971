"""The ledger of one run: tests deposit what they found, the summary at the end reads it.

It is filled by the property suite under pytest and read by the plugin, which must not import torch;
so this module does not either.
"""

from __future__ import annotations

import json

from reluctant.theory.verdicts import MutantResult, Report, Verdict

_verdicts: list[Verdict] = []
_mutants: list[MutantResult] = []
_remarks: list[str] = []


def deposit(*entries: Verdict | MutantResult) -> None:
    """Add what a check said, or whether a deliberate fault was noticed.

    Args:
        entries: Verdicts and results of mutants, in any order.
    """
    for entry in entries:
        if isinstance(entry, Verdict):
            _verdicts.append(entry)
        else:
            _mutants.append(entry)


def verdicts() -> tuple[Verdict, ...]:
    """Return the verdicts deposited since the start or the last :func:`clear`, oldest first."""
    return tuple(_verdicts)


def mutants() -> tuple[MutantResult, ...]:
    """Return the results of mutants deposited since the start or the last :func:`clear`."""
    return tuple(_mutants)


def remark(*notes: str) -> None:
    """Add what the reader must know, each note once."""
    _remarks.extend(note for note in notes if note not in _remarks)


def remarks() -> tuple[str, ...]:
    """Return the notes since the start or the last :func:`clear`."""
    return tuple(_remarks)


def clear() -> None:
    """Empty the ledger."""
    _verdicts.clear()
    _mutants.clear()
    _remarks.clear()


def as_text() -> str:
    """Return all entries as one JSON document, for another process."""
    return Report("ledger", verdicts(), mutants(), notes=remarks()).as_text()


def deposit_text(text: str) -> None:
    """Add the entries of another process's ledger.

    Args:
        text: What :func:`as_text` returned there.
    """
    found = Report.from_json(json.loads(text))
    deposit(*found.verdicts, *found.mutants)
    remark(*found.notes)
