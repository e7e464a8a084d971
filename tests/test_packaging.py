"""What a release would hold, against what the tree holds."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("theory", "models", "properties", "reports")
JUNK = {"__pycache__", ".pytest_cache", ".hypothesis"}


def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def tree() -> Iterator[tuple[str, Path]]:
    """Yield the name in a wheel, and the file, of all that belongs to the package."""
    for file in (ROOT / "src" / "reluctant").iterdir():
        if file.is_file():
            yield f"reluctant/{file.name}", file
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and not JUNK & set(file.parts):
                yield f"reluctant/{file.relative_to(ROOT).as_posix()}", file


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build", reason="needs `build`; tox -e pkg has it")
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def test_every_folder_with_modules_is_listed() -> None:
    listed = settings()["tool"]["setuptools"]["packages"]
    homes = {Path(name).parent.as_posix() for name, file in tree() if file.suffix == ".py"}
    assert sorted(home.replace("/", ".") for home in homes) == sorted(listed)


def test_every_package_says_what_it_holds() -> None:
    for package in settings()["tool"]["setuptools"]["packages"]:
        init = ROOT / "src" / Path(*package.split(".")) / "__init__.py"
        assert init.read_text(encoding="utf-8").startswith('"""'), init


def test_links_lead_to_the_folders() -> None:
    for folder in FOLDERS:
        link = ROOT / "src" / "reluctant" / folder
        if not link.is_symlink():
            pytest.skip("this checkout has no links: type checkers see less, nothing else changes")
        assert link.readlink() == Path("..", "..", folder)


def test_every_bound_is_pinned_and_the_pin_is_within_it() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    data = settings()
    wanted = data["project"]["dependencies"] + data["build-system"]["requires"]
    for group in data["dependency-groups"].values():
        wanted += [entry for entry in group if isinstance(entry, str)]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_wheel_holds_the_tree(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {name for name, _ in tree()}


def test_wheel_files_are_the_tree_s(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    assert [name for name, file in tree() if archive.read(name) != file.read_bytes()] == []


def test_sdist_holds_what_the_tests_need(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    held = {name.partition("/")[2] for name in tarfile.open(sdist).getnames()}
    assert {"LICENSE", "CHANGELOG.md", "constraints.txt", "tox.ini", "tests/test_cli.py"} <= held


def test_wheel_contents_are_sound(dist: Path) -> None:
    pytest.importorskip("check_wheel_contents", reason="needs check-wheel-contents; see tox -e pkg")
    check = [sys.executable, "-m", "check_wheel_contents", str(dist)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_readme_and_ci_run_the_same_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in script.splitlines() if ".tools" in line]
    assert commands
    assert " && ".join(commands) in readme
