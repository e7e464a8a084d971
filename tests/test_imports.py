"""The front door opens fast, and the arrows between the parts go one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import reluctant

PACKAGE = Path(reluctant.__file__).parent
PARTS = ("theory", "models", "properties", "reports")  # each may import those before it
HEAVY = ("torch", "numpy", "scipy", "sympy", "hypothesis", "matplotlib", "sklearn", "rich")


def imported_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_importing_the_package_imports_the_standard_library_only() -> None:
    bare = imported_by("pass")
    new = imported_by("import reluctant") - bare
    assert new - set(sys.stdlib_module_names) == {"reluctant"}


@pytest.mark.parametrize(
    "statement",
    [
        "import reluctant.pytest_plugin",
        "import reluctant.cli",
        "import reluctant.tables",
        "import reluctant.theory.ledger, reluctant.theory.scores, reluctant.theory.verdicts",
    ],
)
def test_light_modules_stay_light(statement: str) -> None:
    # Typer brings rich along, and pytest may bring what its own plugins want: compare with those.
    allowed = imported_by("import typer, pytest")
    assert not (imported_by(statement) - allowed) & set(HEAVY)


def test_every_public_name_is_there() -> None:
    for name in reluctant._HOMES:
        assert getattr(reluctant, name) is not None
    assert {"__version__", *reluctant._HOMES} <= set(dir(reluctant))


def test_type_checkers_see_the_public_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "a name is public to type checkers as `x as x`"
            seen[alias.name] = node.module
    assert seen == reluctant._HOMES


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'reluctant' has no attribute 'kernels'"):
        reluctant.kernels  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("part", PARTS)
def test_arrows_go_one_way(part: str) -> None:
    allowed = {*PARTS[: PARTS.index(part) + 1], "__version__"}
    if part == "reports":  # above all the rest, so the public names lead down from here
        allowed |= {""}
    modules = sorted((PACKAGE / part).rglob("*.py"))
    assert modules
    for file in modules:
        for name in imports(file):
            first, _, rest = name.partition(".")
            if first == "reluctant":
                assert rest.partition(".")[0] in allowed, f"{part}/{file.name} imports {name}"
            assert first not in PARTS, f"{part}/{file.name} imports {name} under a bare name"
