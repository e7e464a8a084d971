"""The worked examples of docs/extending.md, installed from its very text, and how they may fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import reluctant

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(?:toml|python)\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILES = dict(BLOCK.findall(PAGE))
COMMANDS = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def install(folder: Path, files: Mapping[str, str] = FILES) -> Path:
    """Write the files and the metadata that an installer would write."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    name, version = project["name"], project["version"]
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))
    return folder


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    paths = [Path(reluctant.__file__).parents[1], folder]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "140"}
    return subprocess.run(
        [sys.executable, *args], cwd=folder, capture_output=True, text=True, check=False, env=env
    )


def plain(line: str) -> str:
    return " ".join(line.split())


@pytest.fixture(scope="module")
def mylib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("mylib"))


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.split()[2])
def test_the_commands_of_the_page_say_what_it_says(mylib: Path, block: str) -> None:
    for session in block.split("$ reluctant ")[1:]:
        command, *expected = session.splitlines()
        done = run(mylib, "-m", "reluctant", *command.split())
        assert done.returncode == 0, done.stdout + done.stderr
        lines = iter(map(plain, done.stdout.splitlines()))  # in this order
        for line in expected:
            wanted = plain(line).replace("...", "*")
            assert any(fnmatchcase(came, wanted) for came in lines), (line, done.stdout)


def test_a_report_says_which_plugins_there_were(mylib: Path) -> None:
    args = (
        "check",
        "mylib_ops.py:Net",
        "--input",
        "4",
        "--statements",
        "mylib",
        "--json",
        "r.json",
    )
    run(mylib, "-m", "reluctant", *args)
    document = json.loads((mylib / "r.json").read_text(encoding="utf-8"))
    found = document["environment"]["plugins"]
    assert found == "2: mylib 1.0 (statements: gates), mylib 1.0 (rules: sums)"
