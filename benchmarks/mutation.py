"""Which small faults in ``theory/`` the tests notice: ``python benchmarks/mutation.py FOLDER``.

Cosmic Ray says where the code can be changed and how. This module draws some of the changes, runs
for each, in a copy of the tree, the tests that reach the changed line, and writes a line of JSON.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import random
import shutil
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("theory", "models", "properties", "reports", "src", "tests", "docs")
# What is replaced by what: + by ^ fails at once on floating-point numbers and says nothing.
ALIKE = (
    "Add Sub Mul Div FloorDiv Mod Pow",
    "BitOr BitAnd BitXor",
    "LShift RShift",
    "Eq NotEq Lt LtE Gt GtE",
    "Is IsNot",
    "In NotIn",
)
TESTS = ("tests", "src/reluctant/theory", "src/reluctant/properties")
# Tests of what is printed and packed; theory/ is behind them, but far.
FAR = ("cli", "report", "packaging", "paper", "imports", "plugin", "targets")
GROUPS = {
    "reading": "errors gating inputs lowered lowering masks network nodes operands operations "
    "operators places replay rules_* subnetworks tracing twins windows",
    "paths and kernels": "blocks contractions counts heights images kernels moments paths pooled "
    "propagation tangents",
    "structure": "labels mask_labels structure symmetry units wiring",
    "arithmetic": "exactness fields modular rationals residue_graph residue_rules residues rounding "
    "underflow",
    "statements and proofs": "gate_book ledger proof_latex proofs scores statements symbolic "
    "symbolic_paths verdicts",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one place: the operator's name and occurrence are Cosmic Ray's."""

    module: str
    operator: str
    occurrence: int
    line: int
    column: int
    lines: tuple[int, int]


class Reach:
    """A pytest plugin that notes which lines of ``theory/`` each test reaches, and how long it takes."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Of the n cases of a test keep about 2√n, evenly spread."""
        cases = defaultdict(list)
        for item in items:
            cases[item.nodeid.partition("[")[0]].append(item)
        kept = []
        for group in cases.values():
            step = max(1.0, math.sqrt(len(group)) / 2)
            kept += [group[int(k * step)] for k in range(math.ceil(len(group) / step))]
        items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Say whose lines are noted from here on."""
        self.coverage.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how long a test took that passed; others kill nothing."""
        if report.when == "call" and report.passed:
            self.seconds[report.nodeid] = report.duration


def in_a_child(work: Callable[[], int], limit: float, log: Path) -> int | None:
    """Return what the work returns in a forked process, or nothing where the limit is passed."""
    child = os.fork()
    if child == 0:
        os.setsid()
        sys.dont_write_bytecode = True
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        status = 3
        try:
            status = work()
        finally:
            os._exit(status)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def tests(*arguments: str, plugins: tuple[object, ...] = ()) -> int:
    """Run pytest on few examples, in this process and folder."""
    sys.path.insert(0, str(Path("src").resolve()))
    flags = ["-x", "-q", "-p", "no:cacheprovider", "--reluctant-profile=smoke"]
    return int(pytest.main([*flags, *arguments], plugins=list(plugins)))


def reach(copy: Path, target: Path) -> int:
    """Write the tests of every line of ``theory/``, and their seconds."""
    import coverage

    os.chdir(copy)
    near = [
        str(file)
        for folder in TESTS
        for file in sorted(Path(folder).glob("test_*.py" if folder == "tests" else "*.py"))
        if not any(file.name.startswith(f"test_{word}") for word in FAR)
    ]
    measure = coverage.Coverage(data_file=None, include=[f"{copy}/*theory/*"], config_file=False)
    plugin = Reach(measure)
    measure.start()
    status = tests("--maxfail=50", *near, plugins=(plugin,))
    measure.stop()
    data = measure.get_data()
    reached = {
        f"theory/{Path(file).name}": {
            line: [c for c in contexts if c in plugin.seconds]
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    target.write_text(json.dumps({"seconds": plugin.seconds, "lines": reached}))
    return status


def left_out(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the spans that are not changed: annotations, messages, assertions, decorators."""
    for node in ast.walk(tree):
        spans: list[Any] = []
        match node:
            case ast.FunctionDef():
                spans = [node.returns, *node.decorator_list]
                if node.name in ("__repr__", "__str__"):
                    spans = [node]
            case ast.ClassDef():
                spans = node.decorator_list
            case ast.arg() | ast.AnnAssign():
                spans = [node.annotation]
            case ast.Raise():
                spans = [node]
            case ast.Assert() | ast.JoinedStr():
                spans = [node]
            case ast.Call(func=ast.Attribute(attr="refuse")):
                spans = node.args
        for span in spans:
            if span is not None:
                yield (span.lineno, span.col_offset), (span.end_lineno, span.end_col_offset)


def statement_lines(tree: ast.AST) -> dict[int, tuple[int, int]]:
    """Return for each line the first and last line of the innermost statement, or of its head."""
    found: dict[int, tuple[int, int]] = {}
    for node in ast.walk(tree):  # outer before inner
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            body = getattr(node, "body", None)
            first = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
            last = max(first, body[0].lineno - 1) if body else node.end_lineno
            assert last is not None
            found.update(dict.fromkeys(range(first, last + 1), (first, last)))
    return found


def is_sensible(operator: str) -> bool:
    """Say whether a replacement stays among operations of one kind."""
    name = operator.removeprefix("core/")
    if not name.startswith(("ReplaceBinaryOperator_", "ReplaceComparisonOperator_")):
        return name not in ("RemoveDecorator", "VariableInserter", "VariableReplacer")
    return any({*name.split("_")[1:]} <= {*group.split()} for group in ALIKE)


def mutants(file: Path) -> dict[tuple[int, int], list[Mutant]]:
    """Return the changes of one module, by place."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    tree = ast.parse(file.read_text(encoding="utf-8"))
    spans, heads = [*left_out(tree)], statement_lines(tree)
    nodes = [*ast_nodes(get_ast_from_path(file))]
    places = defaultdict(list)
    for name in filter(is_sensible, operator_names()):
        operator = get_operator(name)()
        starts = (start for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, start in enumerate(starts):
            if not any(a <= start < b for a, b in spans):
                lines = heads.get(start[0], (start[0], start[0]))
                places[start].append(Mutant(f"theory/{file.name}", name, occurrence, *start, lines))
    return places


def drawn(folder: Path, size: int, seed: int) -> list[Mutant]:
    """Draw places, from each module in proportion to its lines, and one change of each place."""
    chance = random.Random(seed)
    files = [file for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]
    lengths = [len(file.read_text(encoding="utf-8").splitlines()) for file in files]
    sample = []
    for file, length in zip(files, lengths, strict=True):
        places = mutants(file)
        share = size * length / sum(lengths)
        count = int(share) + (chance.random() < share - int(share))
        for place in chance.sample(sorted(places), min(count, len(places))):
            sample.append(chance.choice(places[place]))
    chance.shuffle(sample)
    return sample


def chosen(mutant: Mutant, reached: dict[str, Any], budget: float) -> list[str]:
    """Return the tests that reach the mutant: of each function the fastest first, then the next."""
    lines, seconds = reached["lines"].get(mutant.module, {}), reached["seconds"]
    first, last = mutant.lines
    found = {test for n in range(first, last + 1) for test in lines.get(str(n), [])}
    if not found and any(str(n) in lines for n in range(first, last + 1)):  # at import
        found = {test for tests in lines.values() for test in tests}
    ranks: dict[str, int] = defaultdict(int)
    order = []
    for test in sorted(found, key=seconds.__getitem__):
        function = test.partition("[")[0]
        order.append((ranks[function], seconds[test], test))
        ranks[function] += 1
    selected, spent = [], 0.0
    for _, duration, test in sorted(order):
        if spent + duration <= budget:
            selected.append(test)
            spent += duration
    return selected


def verdict(mutant: Mutant, copy: Path, out: Path, reached: Any, budget: float) -> dict[str, Any]:
    """Change the copy, run the tests, and change it back."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    file = copy / mutant.module
    code = file.read_text(encoding="utf-8")
    changed = mutate_code(code, get_operator(mutant.operator)(), mutant.occurrence)
    selected = chosen(mutant, reached, budget)
    row = asdict(mutant) | {"tests": len(selected), "seconds": 0.0}
    try:
        compile(changed, mutant.module, "exec")
    except SyntaxError:
        return row | {"outcome": "not Python"}
    if not selected:
        return row | {"outcome": "not reached"}
    status, times = file.stat(), time.monotonic()
    try:
        file.write_text(changed, encoding="utf-8")
        os.utime(file, (0, times))  # never the time of a byte code that is kept
        limit = 30 + 6 * sum(reached["seconds"][test] for test in selected)

        def work() -> int:
            os.chdir(copy)
            return tests(*selected)

        code_of_exit = in_a_child(work, limit, out / "last.log")
    finally:
        file.write_text(code, encoding="utf-8")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    outcome = {0: "survived", None: "out of time"}.get(code_of_exit, "killed")
    return row | {"outcome": outcome, "seconds": round(time.monotonic() - times, 1)}


def summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table: mutants and how many the tests noticed, with an interval of 95 % for the rate."""
    from scipy.stats import binomtest

    def group(row: dict[str, Any]) -> str:
        name = Path(row["module"]).stem
        found = (g for g, names in GROUPS.items() if any(fnmatch(name, n) for n in names.split()))
        return next(found, "others")

    yield "| modules | mutants | killed | share | 95 % |"
    yield "|---|---|---|---|---|"
    tried = [row for row in rows if row["outcome"] != "not Python"]
    for name in [*GROUPS, "others", "all"]:
        own = [row for row in tried if name in ("all", group(row))]
        if own:
            killed = sum(row["outcome"] in ("killed", "out of time") for row in own)
            low, high = binomtest(killed, len(own)).proportion_ci(method="exact")  # Clopper-Pearson
            cells = (name, len(own), killed, f"{killed / len(own):.0%}", f"{low:.0%} to {high:.0%}")
            yield f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Draw, try, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the copy and the results go")
    parser.add_argument("--size", type=int, default=320, help="mutants")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--budget", type=float, default=8.0, help="seconds of tests a mutant")
    asked = parser.parse_args()
    out = asked.folder.resolve()
    copy, results, lines = out / "tree", out / "mutants.jsonl", out / "reach.json"
    if not copy.exists():
        for name in FOLDERS:
            shutil.copytree(ROOT / name, copy / name, symlinks=True)
        for name in ("pyproject.toml", "README.md", "tox.ini", "CHANGELOG.md"):
            shutil.copy2(ROOT / name, copy)
        shutil.copytree(ROOT / "theory", out / "theory")
    # A killed run leaves its last mutant in the copy.
    shutil.copytree(out / "theory", copy / "theory", dirs_exist_ok=True)
    import torch

    # Loads, once for all, what torch loads late.
    torch.export.export(torch.nn.ReLU(), (torch.ones(1),))
    if not lines.exists():
        print("tests:", in_a_child(lambda: reach(copy, lines), 3600, out / "reach.log"))
    reached = json.loads(lines.read_text())
    done = results.read_text().splitlines() if results.exists() else []
    sample = drawn(out / "theory", asked.size, asked.seed)
    with results.open("a") as sink:
        for mutant in sample[len(done) :]:
            row = verdict(mutant, copy, out, reached, asked.budget)
            print(json.dumps(row), file=sink, flush=True)
            print(row["outcome"], row["module"], row["line"], row["operator"], row["seconds"])
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
