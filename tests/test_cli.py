"""The command line: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

import reluctant
from reluctant import tables
from reluctant.cli import app
from reluctant.properties import catalogue, conformance
from reluctant.theory.verdicts import Counterexample, MutantResult, Outcome, Report, Verdict

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, bias=False):
        super().__init__()
        self.fc1 = nn.Linear(3, 4, bias=bias)
        self.fc2 = nn.Linear(4, 2, bias=bias)

    def forward(self, x):
        return self.fc2(self.gate(self.fc1(x)))

    def gate(self, q):
        return torch.relu(q)

def biased():
    return Net(bias=True)

class Gelu(Net):
    def gate(self, q):
        return nn.functional.gelu(q)

class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))

class Branching(Net):
    def forward(self, x):
        return x if x.sum() > 0 else -x

class Leaving(Net):
    def forward(self, x):
        import sys
        raise ValueError("?") if x.dim() == 0 else SystemExit(0)

class Chatty(Net):
    def gate(self, q):
        print("hello")
        return torch.relu(q)

def with_value(value):
    net = Net()
    with torch.no_grad():
        net.fc2.weight[0, 0] = value
    return net

def nan(): return with_value(float("nan"))
def infinite(): return with_value(float("inf"))

def mixed():
    net = Net()
    net.fc2.double()
    return net

def empty():
    with torch.device("meta"):
        return Net()
"""
TWO = "dual.inner-product,dual.homogeneous"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_net", raising=False)
    return tmp_path


def run(*args: str) -> Result:
    result = CliRunner().invoke(app, args)
    sys.modules.pop("my_net", None)
    return result


def check(*args: str, statements: str = TWO) -> Result:
    return run("check", *args, "--effort", "quick", "--statements", statements)


def outcomes(path: Path) -> dict[str, str]:
    return {v.statement: str(v.outcome) for v in Report.load(path)}


def test_a_plain_network_gets_its_verdicts(here: Path) -> None:
    result = check("my_net:Net", "--input", "3", "--json", "out.json")
    assert result.exit_code == 0, result.output
    assert "2 HOLDS, 0 unexpected" in result.stdout
    assert outcomes(here / "out.json") == {
        "dual.inner-product": "HOLDS",
        "dual.homogeneous": "HOLDS",
    }


def test_a_hypothesis_that_is_not_met_is_information_and_names_its_place() -> None:
    result = check("my_net:biased", "--input", "3", "--strict")
    assert result.exit_code == 0, result.output
    assert "NOT_IMPLIED" in result.stdout
    assert "not bias-free: fc1.bias is a bias (my_net.py:12)" in result.stdout


def test_an_operation_that_cannot_be_read_counts_only_when_strict() -> None:
    result = check("my_net:Gelu", "--input", "3")
    assert result.exit_code == 0, result.output
    assert "aten.gelu.default cannot be read" in " ".join(result.stdout.split())
    assert check("my_net:Gelu", "--input", "3", "--strict").exit_code == 1


def test_a_forward_that_branches_on_its_data_is_refused_by_its_line() -> None:
    result = check("my_net:Branching", "--input", "3")
    assert (result.exit_code, result.stderr.strip()) == (0, "")
    assert "my_net.py:30: torch.export cannot follow the module" in result.stdout


def test_a_path_to_a_file_names_a_network_too(here: Path) -> None:
    (here / "nets").mkdir()
    (here / "my_net.py").rename(here / "nets" / "own.py")
    assert check("nets/own.py:Net", "--input", "3").exit_code == 0


def test_prefixes_choose_statements(here: Path) -> None:
    assert (
        check("my_net:Net", "--input", "3", "--json", "o.json", statements="dual.psd").exit_code
        == 0
    )
    assert outcomes(here / "o.json") == {"dual.psd": "HOLDS"}


def test_json_goes_to_stdout_alone_and_the_table_to_stderr() -> None:
    result = check("my_net:Net", "--input", "3", "--json", "-")
    assert Report.from_json(json.loads(result.stdout)).subject == "my_net:Net"
    assert "2 HOLDS" in result.stderr


def test_a_page_is_written(here: Path) -> None:
    assert check("my_net:Net", "--input", "3", "--html", "out.html").exit_code == 0
    assert "dual.homogeneous" in (here / "out.html").read_text(encoding="utf-8")


def test_weights_and_data_from_files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"fc1.weight": torch.ones(4, 3), "fc2.weight": torch.full((2, 4), 2.0)}
    save_file(weights, here / "weights.safetensors")
    np.savez(here / "data.npz", x=np.full((6, 3), 0.5))
    seen = {}

    def spy(module: torch.nn.Module, example: torch.Tensor, *_: object, **more: object) -> Report:
        seen.update(module=module, example=example, data=more["data"])
        return Report("spy", ())

    monkeypatch.setattr(conformance, "check", spy)
    files = ("--weights", "weights.safetensors", "--data", "data.npz")
    assert check("my_net:Net", *files).exit_code == 0
    assert torch.equal(seen["module"].fc2.weight, weights["fc2.weight"])
    assert not seen["module"].training
    assert seen["example"].shape == (1, 3)
    assert (seen["data"].shape, seen["data"].dtype) == ((6, 3), torch.float32)


def test_a_real_check_on_given_data(here: Path) -> None:
    np.savez(here / "data.npz", x=np.random.default_rng(0).normal(size=(6, 3)))
    assert check("my_net:Net", "--data", "data.npz").exit_code == 0


def test_batch_norm_is_read_in_evaluation_mode_unless_kept_as_it_is() -> None:
    shape = ("my_net:Normed", "--input", "3")
    assert check(*shape).exit_code == 0
    result = check(*shape, "--keep-mode")
    assert result.exit_code == 2
    assert "batch norm in training mode" in result.stderr


FALSE = """
from reluctant.properties import catalogue, hypotheses
from reluctant.theory.statements import Comparison, Kind, Statement
from reluctant.theory.verdicts import EvidenceKind

def claim(trial):
    return [Comparison(trial.output, 0 * trial.output, 0.0, EvidenceKind.EXACT, "at most", "f")]

STATEMENT = Statement(
    "test.false", "False", Kind.EXACT, "f", (), (hypotheses.BIAS_FREE,), claim, ()
)
"""


@pytest.fixture
def false(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scope: dict[str, Any] = {}
    exec(FALSE, scope)
    monkeypatch.setattr(catalogue, "statements", lambda: (scope["STATEMENT"],))


@pytest.mark.usefixtures("false")
def test_a_refuted_statement_shows_a_small_example_and_a_line_that_gives_it_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"fc1.weight": torch.randn(4, 3), "fc2.weight": torch.ones(2, 4)}
    save_file(weights, here / "my weights.safetensors")
    np.savez(here / "data.npz", x=np.random.default_rng(0).normal(size=(6, 3)))
    files = ("--weights", "my weights.safetensors", "--data", "data.npz", "--seed", "5")
    monkeypatch.setenv("COLUMNS", "80")  # less than the line that gives the example again
    result = run("check", "my_net:Net", *files, "--effort", "quick", "--json", "a.json")
    assert result.exit_code == 1, result.output
    (found,) = Report.load(here / "a.json")
    assert found.counterexample is not None
    example = found.counterexample
    assert example.numbers["place"] == "my_net.py:12"
    assert set(example.numbers["weights"]) == {"fc1.weight", "fc2.weight"}
    shown = " ".join(result.stdout.split())
    assert f"smallest example found: {example.summary}" in shown
    for part in ("REFUTED (unexpected)", "relative violation", "x = [[", "fc2.weight = [["):
        assert part in shown, shown
    assert f"test.false again: {example.reproduce}" in result.stdout.splitlines()
    command, *args = shlex.split(example.reproduce)
    assert command == "reluctant" and "my weights.safetensors" in args
    again = run(*args, "--json", "b.json")
    assert again.exit_code == 1, again.output
    assert Report.load(here / "b.json")["test.false"].counterexample == example


@pytest.mark.usefixtures("false")
def test_the_page_shows_the_example(here: Path) -> None:
    assert run("check", "my_net:Net", "--input", "3", "--html", "out.html").exit_code == 1
    page = (here / "out.html").read_text(encoding="utf-8")
    for part in ("fc1.weight", "my_net.py:12", "--statements test.false", "violated by"):
        assert part in page, part


def test_the_line_keeps_every_option_that_was_given(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []

    def spy(*_: object, **more: Any) -> Report:
        lines.append(more["again"]("dual.psd"))
        return Report("spy", ())

    monkeypatch.setattr(conformance, "check", spy)
    args = ("check", "my_net:Net", "--input", "3", "--device", "cpu", "--seed", "7")
    args = (*args, "--effort", "quick", "--keep-mode")
    assert run(*args).exit_code == 0
    assert lines == [shlex.join(["reluctant", *args, "--statements", "dual.psd"])]


def test_the_page_goes_to_stdout_alone() -> None:
    result = check("my_net:Net", "--input", "3", "--html", "-")
    assert result.exit_code == 0
    assert result.stdout.startswith("<!doctype html>")
    assert "2 HOLDS" in result.stderr


def test_what_the_network_prints_stays_out_of_the_document() -> None:
    result = check("my_net:Chatty", "--input", "3", "--json", "-")
    assert Report.from_json(json.loads(result.stdout)).subject == "my_net:Chatty"
    assert "hello" in result.stderr


def test_a_network_that_leaves_does_not_choose_the_exit_code() -> None:
    result = check("my_net:Leaving", "--input", "3")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: my_net.py:35: the module fails on an example of shape (1, 3): it leaves Python with"
        " the code 0.\n"
    )


def test_tensors_that_are_zero_are_only_named() -> None:
    numbers = {"x": [[0.0, 0.0]], "weights": {"a": [0.0], "b": [1.0, -2.0]}}
    found = Counterexample("1 = 0 is false", numbers, "again")
    lines = list(tables._example(found))
    assert lines == ["smallest example found: 1 = 0 is false", "b = [1, -2]", "all zeros: x, a"]


def test_many_numbers_are_described_by_those_that_are_not_zero() -> None:
    zeros = [[0.0] * 10 for _ in range(4)]
    assert tables._array([[1.0, -0.5], [0.0, 1e-9]]) == "[[1, -0.5], [0, 1e-09]]"
    assert tables._array(zeros) == "4 x 10 zeros but for none"
    zeros[2][3] = 7.0
    assert tables._array(zeros) == "4 x 10 zeros but for [2, 3]: 7"
    assert tables._array([[1.0] * 10] * 4) == "4 x 10 numbers; --json lists them"
    assert tables._array("9 x 9 numbers, too many to list") == "9 x 9 numbers, too many to list"


def verdict(outcome: Outcome, expected: Outcome = Outcome.HOLDS) -> Verdict:
    return Verdict("dual.psd", "net", outcome, expected, "because")


@pytest.mark.parametrize(
    ("report", "code", "strict_code"),
    [
        (Report("net", (verdict(Outcome.HOLDS),)), 0, 0),
        (Report("net", (verdict(Outcome.REFUTED),)), 1, 1),
        (Report("net", (verdict(Outcome.REFUTED, Outcome.REFUTED),)), 0, 0),
        (Report("net", (verdict(Outcome.HOLDS, Outcome.REFUTED),)), 1, 1),
        (Report("net", (verdict(Outcome.NOT_IMPLIED, Outcome.NOT_IMPLIED),)), 0, 0),
        (Report("net", (verdict(Outcome.INCONCLUSIVE),)), 0, 1),
        (Report("net", (verdict(Outcome.UNSUPPORTED),)), 0, 1),
        (Report("net", (), (MutantResult("dual.psd", "fault", False, 9),)), 1, 1),
        (Report("net", (), notes=("interrupted: 0 of 9 statements were tried",)), 130, 130),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, report: Report, code: int, strict_code: int
) -> None:
    monkeypatch.setattr(conformance, "check", lambda *_, **__: report)
    assert check("my_net:Net", "--input", "3").exit_code == code
    assert check("my_net:Net", "--input", "3", "--strict").exit_code == strict_code


def test_a_fault_of_the_package_does_not_look_like_a_refuted_theorem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> Report:
        raise AssertionError("unthinkable")

    monkeypatch.setattr(conformance, "check", broken)
    result = check("my_net:Net", "--input", "3")
    assert result.exit_code == 70
    assert "AssertionError: unthinkable" in result.stderr


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


def test_an_unknown_option_is_misuse() -> None:
    assert run("check", "my_net:Net", "--inputs", "3").exit_code == 2
    assert run("verify", "--profile", "weekly").exit_code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
def test_ctrl_c_prints_the_verdicts_so_far(here: Path) -> None:
    env = {"PYTHONPATH": str(Path(reluctant.__file__).parents[1]), "PATH": "", "COLUMNS": "160"}
    command = [sys.executable, "-c", INTERRUPTED_AFTER_ONE]
    done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stdout + done.stderr
    assert "dual.inner-product" in done.stdout
    assert "interrupted: 1 of 2 statements were tried" in done.stdout


# The second statement is where the signal arrives.
INTERRUPTED_AFTER_ONE = f"""
import os, signal, sys
from reluctant.properties import conformance
settle = conformance._settle
def interrupted(statement, *rest):
    if statement.id != "dual.inner-product":
        os.kill(os.getpid(), signal.SIGINT)
    return settle(statement, *rest)
conformance._settle = interrupted
sys.argv = ["reluctant", "check", "my_net:Net", "--input", "3", "--statements", "{TWO}"]
from reluctant.cli import main
main()
"""


def test_statements_are_listed() -> None:
    result = run("statements")
    assert result.exit_code == 0
    for statement in reluctant.statements():
        assert statement.id in result.stdout


def test_a_statement_is_shown_with_all_that_is_known() -> None:
    result = run("statements", "dual.homogeneous")
    for part in ("npf, section 3", "bias-free", "exact identity", "c < 0", "HOLDS"):
        assert part in result.stdout


def test_statements_as_json() -> None:
    shown = json.loads(run("statements", "dual.homogeneous", "--json").stdout)
    assert shown["id"] == "dual.homogeneous"
    listed = json.loads(run("statements", "--json").stdout)
    assert [row["id"] for row in listed] == [s.id for s in reluctant.statements()]
    assert all(row["mutants"] for row in listed)


def test_verify_sums_up_by_statement(here: Path) -> None:
    result = run("verify", "--statements", "dual.psd", "--profile", "smoke", "--json", "out.json")
    assert result.exit_code == 0, result.output
    report = Report.load(here / "out.json")
    assert report.verdicts and report.mutants
    assert f"mutants killed {len(report.mutants)} of {len(report.mutants)}" in result.stdout


def test_an_unwritable_output_is_one_line(here: Path) -> None:
    (here / "file").write_text("")
    for command in (["report"], ["run", "concentration"]):
        result = run(*command, "--profile", "smoke", "--output", "file/inside")
        assert result.exit_code == 2, result.output
        assert len(result.stderr.strip().splitlines()) == 1
        assert "file" in result.stderr


def test_an_unknown_experiment_is_refused() -> None:
    result = run("run", "no-such")
    assert result.exit_code == 2
    assert "no experiment is named 'no-such'" in result.stderr


def test_data_says_what_is_there() -> None:
    result = run("data")
    assert result.exit_code == 0, result.output
    assert "digits" in result.stdout and "inside scikit-learn" in result.stdout


def test_version() -> None:
    assert run("--version").stdout == f"reluctant {reluctant.__version__}\n"


def test_no_command_shows_the_help() -> None:
    assert "statements" in run().output


def test_python_m_runs_it() -> None:
    command = [sys.executable, "-m", "reluctant", "--version"]
    env = {"PYTHONPATH": str(Path(reluctant.__file__).parents[1]), "PATH": ""}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"reluctant {reluctant.__version__}\n"
