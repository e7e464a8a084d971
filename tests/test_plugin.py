"""The pytest plugin: the summary by statement, the search profiles, the ways to call it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import reluctant

pytest_plugins = ["pytester"]

SUITE = """
from reluctant.theory import ledger
from reluctant.theory.verdicts import Evidence, EvidenceKind, MutantResult, Outcome, Verdict

def verdict(subject, outcome, trials):
    evidence = Evidence(EvidenceKind.EXACT, trials, vacuous=1)
    return Verdict("dual.psd", subject, outcome, Outcome.HOLDS, "because", evidence)

def test_deposits():
    ledger.deposit(verdict("fc", Outcome.HOLDS, 20), verdict("conv", Outcome.OUTCOME, 5))
    ledger.deposit(MutantResult("dual.psd", "soft gates", True, 3))
    ledger.deposit(MutantResult("dual.psd", "negated", KILLED, 3))
"""


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    # A process of its own: the ledger belongs to a run. It starts in another folder.
    pytester._monkeypatch.setenv("PYTHONPATH", str(Path(reluctant.__file__).parents[1]))
    return pytester.runpytest_subprocess("-preluctant.pytest_plugin", *args)


def test_summary_counts_models_examples_evidence_and_mutants(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE.replace("OUTCOME", "HOLDS").replace("KILLED", "True"))
    result = run(pytester)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*= statements =*",
            "statement*models*examples*evidence*mutants*verdict",
            "dual.psd*2*25 (+2 vacuous)*exact*2/2*HOLDS 2",
            "1 statements, 25 examples, mutants killed 2 of 2",
        ]
    )


def test_the_summary_adds_up_the_workers_of_xdist(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    one = SUITE.replace("OUTCOME", "HOLDS").replace("KILLED", "True")
    pytester.makepyfile(test_one=one, test_other=one.replace("dual.psd", "dual.rescale"))
    result = run(pytester, "-pxdist", "-n2", "--dist=loadfile")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "dual.psd*2*25 (+2 vacuous)*exact*2/2*HOLDS 2",
            "dual.rescale*2*25 (+2 vacuous)*exact*2/2*HOLDS 2",
            "2 statements, 50 examples, mutants killed 4 of 4",
        ]
    )


def test_summary_shows_what_differs_from_theory(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE.replace("OUTCOME", "REFUTED").replace("KILLED", "False"))
    run(pytester).stdout.fnmatch_lines(
        ["dual.psd*1/2*HOLDS 1, REFUTED 1  UNEXPECTED 1", "*mutants killed 1 of 2"]
    )


def test_a_run_without_statements_has_no_summary(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_other(): pass")
    run(pytester).stdout.no_fnmatch_line("*= statements =*")


def test_a_profile_sets_the_examples_and_no_deadline(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from hypothesis import settings
        def test_profile():
            assert settings().max_examples == 100
            assert settings().deadline is None
            assert settings().derandomize
        """
    )
    run(pytester, "--reluctant-profile=ci").assert_outcomes(passed=1)


def test_an_unknown_profile_is_misuse(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--reluctant-profile=weekly")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*invalid choice: 'weekly'*"])


CHECKOUT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "args", [("properties",), ("--pyargs", "reluctant.properties"), ("src/reluctant/properties",)]
)
@pytest.mark.skipif(
    not (CHECKOUT / "src" / "reluctant" / "properties").is_symlink(), reason="needs the links"
)
def test_the_property_suite_is_found_once_by_each_of_its_names(args: tuple[str, ...]) -> None:
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT / "src")}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-pno:cacheprovider", *args]
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = [line for line in done.stdout.splitlines() if "::" in line]
    assert found
    assert {line.partition("reluctant/properties/")[1] for line in found} == {
        "reluctant/properties/"
    }


FALSE = """
import torch
from reluctant.properties import catalogue, parametrize_with_statements
from reluctant.properties.verification import verify_family
from reluctant.theory.statements import Comparison, Kind, Statement
from reluctant.theory.verdicts import EvidenceKind

def claim(trial):
    return [Comparison(trial.output, 0 * trial.output, 0.0, EvidenceKind.EXACT, "at most", "f")]

STATEMENT = Statement("test.false", "False", Kind.EXACT, "f", (), (), claim, ())
catalogue.statements = lambda: (STATEMENT,)
net = torch.nn.Linear(2, 1).double()
for p in net.parameters():
    p.data.fill_(1.0)  # drawn weights may give an output below 0, where the claim holds

@parametrize_with_statements([net], example=torch.ones(1, 2).double())
def test_own(check):
    check()

def test_suite(counterexample_shelf):
    (known,) = counterexample_shelf.known
    assert known.record.statement == "test.false" and known.path.parent.name == "kept"
"""


def test_a_folder_of_counterexamples_is_kept_and_what_cannot_be_used_is_noted(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(FALSE)
    kept = pytester.path / "kept"
    kept.mkdir()
    (kept / "broken.json").write_text("{")
    result = run(pytester, "--reluctant-counterexamples", "kept")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*again: reluctant.replay('kept/test.false-Linear-*"])
    result.stdout.fnmatch_lines(["note: kept/broken.json is damaged: it is no JSON; delete it"])
    assert len(list(kept.glob("test.false-Linear-*.json"))) == 1
    again = run(pytester, "--reluctant-counterexamples", "")
    again.assert_outcomes(failed=2)  # none is known, and no folder is there
    again.stdout.fnmatch_lines(["*again: reluctant.check(module, *"])
