"""Misuse of the command line: one line that says what, where and what to do; nothing written."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from cli_specimens import TWO, check, run

from reluctant.properties import conformance
from reluctant.reports import runner
from reluctant.terminal import make_console
from reluctant.theory.verdicts import Report

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("my_net:Net",), "give --input 3,32,32 or --data FILE"),
        (("my_net:Net", "--input", "three"), "--input takes the sizes of one input"),
        (("my_net:Net", "--input", "5"), r"fails on an example of shape (1, 5)"),
        (("my_net", "--input", "3"), "PACKAGE.MODULE:FACTORY"),
        (("my_net:Nett", "--input", "3"), "my_net has no 'Nett'; its networks are"),
        (("my_net:Net", "--input", "3", "--device", "nowhere"), "there is no device 'nowhere'"),
        (("my_net:Net", "--input", "3", "--weights", "none.pt"), "none.pt: No such file"),
        (("my_net:Net", "--data", "none.npz"), "none.npz: No such file"),
        (
            ("my_net:Net", "--input", "3", "--json", "no/such.json"),
            "there is no folder no; make it",
        ),
        (("my_net:Net", "--input", "3", "--html", "."), "it is a folder; name a file in it"),
        (("my_net:Net", "--input", "3", "--json", "a", "--html", "./a"), "a is named twice"),
        (("my_net:Net", "--input", "3", "--device", "meta"), "--device cpu always works"),
        (("my_net:Net", "--input", "9999999999999"), "does not fit into memory"),
        (("my_net:Net", "--input", "3", "--statements", ","), "--statements names none"),
        (("my_net:nan", "--input", "3"), "fc2.weight holds NaN or infinite values"),
        (("my_net:infinite", "--input", "3"), "fc2.weight holds NaN or infinite values"),
        (("my_net:mixed", "--input", "3"), "fc2.weight is torch.float64 but the example is"),
        (("my_net:empty", "--input", "3"), "fc1.weight is on the meta device and has no values"),
    ],
)
def test_misuse_is_one_line(here: Path, args: tuple[str, ...], message: str) -> None:
    before = sorted(here.iterdir())
    result = run("check", *args, *(() if "--statements" in args else ("--statements", TWO)))
    lines = result.stderr.splitlines()
    assert (result.exit_code, len(lines)) == (2, 1), result.output
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert [p for p in sorted(here.iterdir()) if p.name != "__pycache__"] == before


BAD_DATA = {
    "nan": (np.full((4, 3), np.nan), "bad.npz holds NaN or infinite values, first in row 0"),
    "integers": (np.ones((4, 3), dtype=int), "bad.npz has inputs of type int64"),
    "empty": (np.ones((0, 3)), "bad.npz has inputs of shape (0, 3)"),
    "wrong shape": (np.ones((4, 5)), "the module fails on an example of shape (1, 5)"),
    "overflow": (np.full((4, 3), 1e300), "too large for the network's torch.float32"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_are_one_line_and_nothing_is_written(here: Path, kind: str) -> None:
    array, message = BAD_DATA[kind]
    np.savez(here / "bad.npz", x=array)
    result = check("my_net:Net", "--data", "bad.npz", "--json", "out.json", "--html", "out.html")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.output
    assert message in result.stderr
    assert {p.name for p in here.iterdir()} - {"__pycache__"} == {"my_net.py", "bad.npz"}


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that takes no files")
def test_a_folder_that_takes_no_files_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object, **__: object) -> Report:
        raise AssertionError("the check began")

    monkeypatch.setattr(conformance, "check", never)
    for option in ("--json", "--html"):
        result = check("my_net:Net", "--input", "3", option, "/proc/self/out")
        assert result.exit_code == 2, result.output
        assert "cannot write /proc/self/out: the folder /proc/self takes no files" in result.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_device_stays_a_device_and_a_link_a_link(here: Path) -> None:
    made, reader = here / "pipe", here / "reader.txt"
    os.mkfifo(made)
    (here / "link.json").symlink_to("real.json")
    handle = os.open(made, os.O_RDWR | os.O_NONBLOCK)  # so that writing need not wait
    try:
        result = check("my_net:Net", "--input", "3", "--json", "link.json", "--markdown", made.name)
        reader.write_bytes(os.read(handle, 1 << 16))
    finally:
        os.close(handle)
    assert result.exit_code == 0, result.output
    assert stat.S_ISFIFO(made.stat().st_mode)
    assert TWO.split(",")[0] in reader.read_text()
    assert (here / "link.json").is_symlink()
    assert json.loads((here / "real.json").read_text())["subject"] == "my_net:Net"


def test_the_null_device_takes_a_document() -> None:
    result = check("my_net:Net", "--input", "3", "--json", os.devnull)
    assert result.exit_code == 0, result.output
    assert not Path(os.devnull).is_file()


def test_a_link_into_a_folder_that_is_not_there_is_refused(here: Path) -> None:
    (here / "link.json").symlink_to("no/such.json")
    result = check("my_net:Net", "--input", "3", "--json", "link.json")
    assert result.exit_code == 2
    assert "there is no folder" in result.stderr


def test_a_disk_that_fills_up_leaves_the_table_and_no_half_of_a_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = check("my_net:Net", "--input", "3", "--json", "out.json")
    assert result.exit_code == 2
    assert "2 HOLDS" in result.stdout
    assert "No space left on device" in result.stderr
    assert {p.name for p in here.iterdir()} - {"__pycache__"} == {"my_net.py"}


def test_an_unknown_statement_is_refused_with_those_that_are_close() -> None:
    result = check("my_net:Net", "--input", "3", statements="dual.homogenous")
    assert result.exit_code == 2
    assert "did you mean dual.homogeneous" in result.stderr


def test_a_name_between_colons_is_no_picture() -> None:
    console = make_console()
    with console.capture() as said:
        console.print("net.py:bus: 1 HOLDS", markup=False)
    assert said.get().strip() == "net.py:bus: 1 HOLDS"


@pytest.mark.parametrize("wanted", ["dual", "conv.", "npk", "xyz", "", "9" * 300])
def test_at_most_three_statements_are_suggested(wanted: str) -> None:
    result = run("statements", f"{wanted}nobody")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    ids = re.findall(r"\b[a-z]+\.[a-z-]+", result.stderr.replace(repr(f"{wanted}nobody"), ""))
    assert len(ids) <= 3
    assert ids or "reluctant statements lists all" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("check", "my_net:Net", "--inputs", "3"), "No such option: --inputs"),
        (
            ("verify", "--profile", "weekly"),
            "'weekly' is not one of 'smoke', 'dev', 'ci', 'nightly'",
        ),
        (("report", "--profile", "huge"), "'huge' is not one of 'smoke', 'quick', 'full'; see "),
        (("run",), "Missing argument"),
        (("report", "--workers", "0"), "Invalid value for '--workers'"),
        (("report", "--workers", "many"), "Invalid value for '--workers'"),
        (("verify", "--statements"), "--statements' requires an argument"),
        (("data", "more"), "No such command 'more'"),
        (("chek",), "No such command 'chek'. Did you mean 'check', 'schema'? see "),
        (("--nonsense",), "No such option: --nonsense"),
    ],
)
def test_wrong_words_are_one_line(args: tuple[str, ...], message: str) -> None:
    result = run(*args)
    lines = result.stderr.splitlines()
    assert (result.exit_code, len(lines), result.stdout) == (2, 1, ""), result.output
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert lines[0].endswith("--help")


def test_no_words_are_answered_with_the_help() -> None:
    result = run()
    assert (result.exit_code, result.stderr) == (2, "")
    assert "verify" in result.stdout


def test_an_unwritable_output_is_one_line(here: Path) -> None:
    (here / "file").write_text("")
    for command in (["report"], ["run", "concentration"]):
        for output, why in (("file/inside", "Not a directory"), ("", "has no name")):
            result = run(*command, "--profile", "smoke", "--output", output)
            assert result.exit_code == 2, result.output
            assert len(result.stderr.strip().splitlines()) == 1
            assert why in result.stderr


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that takes no files")
def test_an_experiment_is_not_begun_where_its_records_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object) -> object:
        raise AssertionError("a configuration was run")

    monkeypatch.setattr(runner, "finished", never)
    result = run("run", "concentration", "--profile", "smoke", "--output", "/proc/x")
    assert result.exit_code == 2, result.output
    assert "cannot be written to /proc/x" in result.stderr


def test_an_unknown_experiment_is_refused() -> None:
    result = run("run", "no-such")
    assert result.exit_code == 2
    assert "no experiment is named 'no-such'" in result.stderr
