"""An older report, read from its folder or drawn from a folder of records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reluctant.reports.chains import FILE, Chains, make_chains, read_chains
from reluctant.reports.experiment import Experiment, Profile
from reluctant.reports.records import Store
from reluctant.reports.sections import at_hand, make_sections
from reluctant.reports.style import style
from reluctant.theory.errors import InputError
from reluctant.theory.verdicts import Report


def read_older(
    folder: Path, experiments: Sequence[Experiment[Any]], profile: Profile
) -> tuple[Chains, Report | None]:
    """Return the numbers and the verdicts of an older report.

    Args:
        folder: Its folder, or one of records, whatever code made them.
        experiments: Drawn anew where there are records only.
        profile: Profile of the records.

    Returns:
        The numbers, and the verdicts if they are there.

    Raises:
        InputError: If the folder has neither, or what it has is damaged.
    """
    if (folder / FILE).is_file():
        verdicts = folder / "verdicts.json"
        return read_chains(folder), Report.load(verdicts) if verdicts.is_file() else None
    records = folder / "records" if (folder / "records").is_dir() else folder
    if not any(records.glob("*/*.json")):
        raise InputError(
            f"there is nothing to compare with in {folder}: neither {FILE} nor records; name the "
            "folder of an older report, or of its records"
        )
    store = Store(records, [records])
    with style():
        sections, _ = make_sections([at_hand(e, profile, store) for e in experiments])
    drawn = [section for section in sections if section.exhibits]
    return make_chains(drawn, lambda record: record.name), None
