"""What several test modules share: one seed, and a folder with a user's file of networks.

Nothing is imported here that a test of the packages, which has no torch, could not import.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def one_seed() -> None:
    """Begin every test at the same state of torch's generator."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def no_known_counterexamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test know what another one kept."""
    monkeypatch.setenv("RELUCTANT_COUNTEREXAMPLES", "")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that holds ``my_net.py``."""
    from cli_specimens import SOURCE

    (tmp_path / "my_net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_net", raising=False)
    return tmp_path
