"""The benchmarks run, say why a row was not, go on where they were, and compare like with like."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:  # the benchmarks are part of a checkout, not of the package
    sys.path.append(str(ROOT))

from benchmarks import contestants, jacobians, kernels, path_kernels  # noqa: E402
from benchmarks.contestants import Contestant, Environment, Result, stable  # noqa: E402
from benchmarks.programme import programme  # noqa: E402
from benchmarks.rows import Contest, Goal, Scaling, exponent  # noqa: E402
from benchmarks.specimens import Network  # noqa: E402

EPSILON = sys.float_info.epsilon
DEVICES = ("cpu", "cuda")
DENSE: Network = {"kind": "dense", "inputs": 3, "width": 4, "depth": 2}
CONV: Network = {"kind": "conv", "side": 3, "width": 4, "depth": 2, "pool": False}
ROW = Contest(
    "few",
    "a few examples",
    (
        Contestant("products", "jacobians:products", {"network": DENSE, "n": 3}),
        Contestant("kernel", "path_kernels:law", {"network": DENSE, "n": 3}),
    ),
    goals=(Goal("kernel", 1e9, against="products"),),
    repetitions=2,
)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    run(folder, "--profile", "smoke")
    return folder


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.kernels", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def measure(folder: Path, *found: Contestant, limit: float = 100.0) -> list[Result]:
    with stable(folder, makes=True, seconds=300.0, limit=limit) as kept:
        record = kernels.measured(kept, replace(ROW, contestants=found))
    return [Result(**result) for result in record["results"]]


def test_every_row_is_measured_or_says_why_not(everything: Path) -> None:
    known = json.loads((everything / "smoke-cpu.json").read_text())
    assert set(known) == {row.name for row in programme(smoke=True, device="cpu")}
    for name, record in known.items():
        for result in record["results"]:
            elsewhere = result["name"].startswith(("neural-tangents", "BackPACK"))
            assert (result["not_run"] is not None) == elsewhere, (name, result)
            assert elsewhere or min(run["wall"] for run in result["runs"]) > 0
    text = (everything / "smoke-cpu.md").read_text()
    assert text.count("NOT RUN: the environment of benchmarks/") == sum(
        result["not_run"] is not None for r in known.values() for result in r["results"]
    )


def test_a_full_run_has_the_rows_of_a_small_one_but_those_for_a_gpu() -> None:
    names = {
        (s, d): [r.name for r in programme(smoke=s, device=d)]
        for s in (False, True)
        for d in DEVICES
    }
    assert names[False, "cpu"] == [n for n in names[True, "cpu"] if not n.startswith("many-")]
    assert names[False, "cuda"] == names[True, "cuda"]
    assert {n for n in names[False, "cuda"] if n.startswith("many-")} == {"many-dense", "many-conv"}


def test_what_was_measured_is_not_measured_again(everything: Path) -> None:
    before = (everything / "smoke-cpu.json").read_text()
    assert run(everything, "--profile", "smoke", "--only", "dense") == (
        "dense: measured before\n"
        f"tables: {everything / 'smoke-cpu.md'}\nnumbers: {everything / 'smoke-cpu.json'}\n"
    )
    assert (everything / "smoke-cpu.json").read_text() == before


@pytest.mark.parametrize("change", ["code", "machine", "asked", "missing"])
def test_other_code_machines_rows_and_failures_are_measured_again(change: str) -> None:
    base = {"code": "1", "machine": {"cores": 2}}
    record = base | {"asked": json.loads(json.dumps(ROW.asked)), "results": [{"not_run": None}]}
    assert kernels.is_current(record, ROW, base)
    if change == "asked":
        assert not kernels.is_current(record, replace(ROW, repetitions=3), base)
    elif change == "missing":
        assert not kernels.is_current(record | {"results": [{"not_run": "why"}]}, ROW, base)
    else:
        assert not kernels.is_current(record | {change: "2"}, ROW, base)


def test_time_that_is_up_leaves_rows_for_the_next_run(tmp_path: Path) -> None:
    said = run(tmp_path, "--profile", "smoke", "--only", "dense", "--seconds", "0")
    assert said == (
        "dense: Fully connected, 40 × 40 examples, 3 gate layers of 16: time\n"
        "dense: not finished in time; run the command again\n"
    )
    assert not (tmp_path / "smoke-cpu.json").exists()


def test_a_row_that_is_not_there_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.kernels", str(tmp_path), "--only", "dens"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2
    assert "there is no row 'dens'; there are dense, dense-memory" in found.stderr


def test_a_contestant_that_fails_leaves_the_others(tmp_path: Path) -> None:
    wrong = Contestant("wrong", "path_kernels:law", {"network": DENSE, "n": 3, "law": "pnk"})
    failed, kept = measure(tmp_path, wrong, ROW.contestants[1])
    assert failed.not_run == "KeyError: 'pnk'"
    assert kept.not_run is None and len(kept.runs) == 2


def test_a_contestant_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    slow = Contestant("slow", "jacobians:products", {"network": CONV, "n": 10_000})
    (found,) = measure(tmp_path, slow, limit=5.0)
    assert found.not_run is not None and found.not_run.startswith("took more than")


def test_an_environment_that_cannot_be_made_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contestants, "_HERE", tmp_path)
    (tmp_path / "none.txt").write_text("/no/such/package.whl\n")
    elsewhere = replace(ROW.contestants[0], environment=Environment("none.txt"))
    later = replace(ROW.contestants[0], environment=Environment("none.txt", pythons=(99,)))
    found = measure(tmp_path, elsewhere, later)
    assert found[0].not_run is not None
    assert found[0].not_run.startswith("benchmarks/none.txt cannot be installed: ERROR: ")
    assert found[1].not_run == "benchmarks/none.txt needs one of python3.99"


@pytest.mark.parametrize("network", [DENSE, CONV, {**CONV, "pool": True, "side": 4}])
def test_empirical_kernels_are_those_of_one_network(network: Network) -> None:
    # Inputs are integers and weights signs times powers of 2, so that nothing is rounded.
    found = [
        module.tangents(network, 3, dtype="float64").run() for module in (jacobians, path_kernels)
    ]
    assert found[0].shape == (3, 3) and found[0].equal(found[1])
    assert float(found[0].abs().min()) > 0


def test_an_exponent_is_fitted_with_its_interval() -> None:
    sizes = (1.0, 2.0, 4.0, 8.0)
    value, low, high = exponent(sizes, [3 * size**2 for size in sizes])
    # the standard error is √(4 (1 - r²) / 2), r within 4 roundings of 1; Student's point is 4.303
    assert (value, low, high) == pytest.approx((2.0, 2.0, 2.0), abs=4.31 * 4 * EPSILON**0.5)
    value, low, high = exponent(sizes, [3 * size**2 * (1 + k % 2) for k, size in enumerate(sizes)])
    assert low < 2 < high and high - low > 0.5
    # slope and standard error by hand: residuals of y = (0, 1, 1) around 1/6 + x/2, x = (0, 1, 2);
    # the 97.5 % point of Student's t with one degree of freedom is a Cauchy's
    student = math.tan(math.pi * 0.475)
    value, low, high = exponent((1.0, 2.0, 4.0), (1.0, 2.0, 2.0))
    assert value == pytest.approx(0.5)
    assert (high - low) / 2 == pytest.approx(student * (1 / 12) ** 0.5)


def test_goals_say_what_came() -> None:
    fast, slow = (Result(n, [{"wall": w, "cpu": w}], {}) for n, w in (("a", 1.0), ("b", 4.0)))
    found = {"a": fast, "b": slow, "c": Result("c", not_run="why")}
    assert Goal("a", 0.5, against="b").verdict(found) == (
        "a: at least 2 times as fast as b: met, 4 times as fast; of CPU time 4 times as fast"
    )
    assert Goal("b", 2.0, against="a").verdict(found) == (
        "b: at most 2 times the time of a: **missed**, 4 times; of CPU time 4 times"
    )
    assert Goal("b", 3.0).verdict(found) == "b: at most 3 s: **missed**, 4 s"
    assert Goal("c", 3.0).verdict(found).endswith("not measured")
    large = Result("m", [{"wall": 1.0, "cpu": 1.0}], {"peak": 400, "bytes": 100})
    assert Goal("m", 2.0, measure="blocks").verdict({"m": large}) == (
        "m: at most 2 sizes of the result: **missed**, 3 sizes of the result"
    )


def test_times_are_compared_with_the_first() -> None:
    results = [
        Result("products", [{"wall": 2.0, "cpu": 3.0}], {"work": 4e9, "value": None, "bytes": 0}),
        Result("kernel", [{"wall": 5.0, "cpu": 6.0}, {"wall": 3.0, "cpu": 6.0}], {"work": None}),
    ]
    lines = [*ROW.table(results)]
    assert lines[2] == "| products | 2 | 2 | 3 | 1 | 1 | 2 |"
    assert lines[3] == "| kernel | 3 | 4 | 6 | 1.5 | 2 | – |"


def test_a_scaling_row_without_its_sizes_has_no_exponent() -> None:
    row = Scaling("s", "", ROW.contestants, sizes=(1, 2))
    found = {c.name: Result(c.name, [{"wall": 1.0, "cpu": 1.0}], {}) for c in ROW.contestants}
    assert [*row.findings(found)] == ["exponent: not fitted, fewer than three sizes were measured"]


def test_a_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    kernels.write_page(page, "## Measured on a\n\none\n", "## Measured on a")
    page.write_text(page.read_text().replace("# Benchmarks\n", "# Benchmarks\n\nby hand\n"))
    kernels.write_page(page, "## Measured on b\n\ntwo\n", "## Measured on b")
    kernels.write_page(page, "## Measured on a\n\nthree\n", "## Measured on a")
    assert page.read_text() == (
        "# Benchmarks\n\nby hand\n\n## Measured on b\n\ntwo\n\n## Measured on a\n\nthree\n"
    )
