"""The pytest plugin: search profiles, and a summary by statement at the end of a run.

It is loaded before everything else, in every run of pytest where the package is installed, so it
imports neither torch nor Hypothesis, and says nothing where no statement was checked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from reluctant.properties.shelves import Shelf

_LEDGER = "reluctant ledger"
_FOLDER = "RELUCTANT_COUNTEREXAMPLES"
_FOLDERS = ("theory", "models", "properties", "reports")

# Examples of a property that has no number of its own.
PROFILES = MappingProxyType({"smoke": 5, "dev": 25, "ci": 100, "nightly": 2000})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--reluctant-profile`` and ``--reluctant-counterexamples``."""
    group = parser.getgroup("reluctant")
    group.addoption(
        "--reluctant-counterexamples",
        metavar="DIR",
        default=None,
        help=f"folder of counterexamples, tried first and kept there; ${_FOLDER} or "
        ".reluctant/counterexamples if left out, '' for none",
    )
    group.addoption(
        "--reluctant-profile",
        choices=list(PROFILES),
        default=None,
        help="how many examples a property is tried on; dev if left out",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Load the search profile and name the folder asked for, and read a checkout's own folders."""
    folder = config.getoption("--reluctant-counterexamples")
    if folder is not None:  # told to the checks as to those of a process started by a test
        patch = pytest.MonkeyPatch()
        patch.setenv(_FOLDER, folder)
        config.add_cleanup(patch.undo)
    profile = config.getoption("--reluctant-profile")
    if profile is not None:
        load_profile(profile)
    config.args[:] = [_under_import_name(arg, config) for arg in config.args]


@pytest.fixture(scope="session")
def examples_per_family(pytestconfig: pytest.Config) -> int:
    """Return how many networks of each family a statement is tried on, by the profile."""
    from reluctant.properties.verification import EXAMPLES

    return EXAMPLES[pytestconfig.getoption("--reluctant-profile") or "dev"]


@pytest.fixture(scope="session")
def counterexample_shelf() -> Iterator[Shelf]:
    """Return the counterexamples that are known, and say at the end what could not be used."""
    from reluctant.properties.shelves import shelf_at
    from reluctant.theory import ledger

    shelf = shelf_at(None)
    yield shelf
    ledger.remark(*shelf.notes)


def load_profile(name: str) -> None:
    """Register the Hypothesis profiles and load one of them.

    Args:
        name: ``smoke``, ``dev``, ``ci`` or ``nightly``.
    """
    from hypothesis import settings

    for profile, examples in PROFILES.items():
        settings.register_profile(
            profile,
            max_examples=examples,
            deadline=None,  # an export takes as long as it takes
            print_blob=profile != "dev",
            derandomize=profile in ("smoke", "ci"),
        )
    settings.load_profile(name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker process of pytest-xdist found to the process that sums up."""
    output = getattr(session.config, "workeroutput", None)
    ledger = sys.modules.get("reluctant.theory.ledger")
    if output is not None and ledger is not None:
        output[_LEDGER] = ledger.as_text()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Take in what a worker process found."""
    found = getattr(node, "workeroutput", {}).get(_LEDGER)
    if found is not None:
        from reluctant.theory import ledger

        ledger.deposit_text(found)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line a statement: models, examples, evidence, mutants killed of tried."""
    ledger = sys.modules.get("reluctant.theory.ledger")
    if ledger is None:
        return
    from reluctant.tables import SUMMARY_HEADINGS, aligned, summary_rows
    from reluctant.theory.scores import scores

    # Workers finish in any order.
    found = sorted(scores(ledger.verdicts(), ledger.mutants()), key=lambda score: score.statement)
    if not found:
        return
    terminalreporter.section("statements")
    for line in aligned(SUMMARY_HEADINGS, summary_rows(found)):
        terminalreporter.write_line(line)
    examples = sum(score.trials for score in found)
    killed, tried = sum(s.killed for s in found), sum(s.mutants for s in found)
    terminalreporter.write_line(
        f"{len(found)} statements, {examples} examples, mutants killed {killed} of {tried}"
    )
    for note in ledger.remarks():
        terminalreporter.write_line(f"note: {note}")


def _under_import_name(arg: str, config: pytest.Config) -> str:
    """Turn ``properties/...`` of a checkout into ``src/reluctant/properties/...``.

    A module collected under the bare name ``properties.x`` would be a second copy of it.
    """
    place, separator, rest = arg.partition("::")
    path = Path(os.path.abspath(config.invocation_params.dir / place))  # links are not followed
    for folder in _FOLDERS:
        root, link = config.rootpath / folder, config.rootpath / "src" / "reluctant" / folder
        if link.is_symlink() and path.is_relative_to(root) and Path.samefile(root, link):
            return str(link / path.relative_to(root)) + separator + rest
    return arg
