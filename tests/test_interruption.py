"""Ctrl-C: the verdicts so far, the documents that were asked for, and the exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_specimens import TWO

import reluctant

pytestmark = [
    pytest.mark.usefixtures("here"),
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process"),
]

_ENDED = 120.0  # seconds in which an interrupted check must have ended

# A check that says "waiting" in one call of a function, and waits there for a signal.
WAITING = f"""
import signal, sys, time
# A shell's background job, and what it starts, would ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
import my_net
from reluctant import terminal
from reluctant.cli import main
from reluctant.properties import conformance
from reluctant.theory import tracing
place, before, deaf = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "deaf"
terminal._BETWEEN_LINES = 0.0
owner = {{"forward": my_net.Net, "export": tracing, "_settle": conformance}}[place]
real, calls = getattr(owner, place), []
def wait():
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(600)
def waiting(*arguments):
    calls.append(place)
    if len(calls) == before + 1:
        try:
            wait()
        except KeyboardInterrupt:
            if not deaf:
                raise
            wait()
    return real(*arguments)
setattr(owner, place, waiting)
options = ["--input", "3", "--statements", "{TWO}", "--json", "found.json", "--counterexamples", ""]
sys.argv = ["reluctant", "check", "my_net:Net", *options]
main()
"""


@contextmanager
def waiting_check(
    here: Path, place: str, before: int, *, deaf: bool = False
) -> Iterator[subprocess.Popen[str]]:
    env = {"PYTHONPATH": str(Path(reluctant.__file__).parents[1]), "PATH": "", "COLUMNS": "160"}
    command = [sys.executable, "-c", WAITING, place, str(before), "deaf" if deaf else "listens"]
    with subprocess.Popen(
        command, cwd=here, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def press_ctrl_c(process: subprocess.Popen[str]) -> str:
    """Interrupt a check as soon as it waits, and return what it said before, on its last line."""
    assert process.stderr is not None
    said = ""
    for line in iter(process.stderr.readline, "waiting\n"):
        assert line, "the check ended"
        said = line.strip()
    process.send_signal(signal.SIGINT)
    return said


@pytest.mark.parametrize(
    ("place", "before", "tried", "last"),
    [
        ("forward", 0, 0, "0 of 2 (0 %): the network is read"),
        ("export", 0, 0, "0 of 2 (0 %): the network is read"),
        ("_settle", 0, 0, "0 of 2 (0 %): dual.inner-product"),
        ("_settle", 1, 1, "1 of 2 (50 %): dual.homogeneous"),
    ],
    ids=["running", "exporting", "first statement", "second statement"],
)
def test_ctrl_c_prints_the_verdicts_so_far(
    here: Path, place: str, before: int, tried: int, last: str
) -> None:
    with waiting_check(here, place, before) as process:
        assert press_ctrl_c(process) == last
        out, err = process.communicate(timeout=_ENDED)
    assert process.returncode == 130, out + err
    assert f"interrupted: {tried} of 2 statements were tried" in out
    assert ("dual.inner-product" in out) == bool(tried)
    report = json.loads((here / "found.json").read_text())
    assert [v["statement"] for v in report["verdicts"]] == TWO.split(",")[:tried]
    assert any("interrupted" in note for note in report["notes"])


def test_a_second_ctrl_c_ends_at_once(here: Path) -> None:
    with waiting_check(here, "_settle", 1, deaf=True) as process:
        press_ctrl_c(process)
        press_ctrl_c(process)
        out, _ = process.communicate(timeout=_ENDED)
    assert process.returncode == -signal.SIGINT
    assert "interrupted" not in out
    assert not (here / "found.json").exists()
