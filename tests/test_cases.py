"""Statements as cases of a test: ids, skips with reasons, expected failures, refusals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conformance_specimens import X, make_module, make_statement
from torch import nn

import reluctant
import reluctant as rl
from reluctant.properties import catalogue, conformance, parametrize_with_statements
from reluctant.theory.statements import Statement

pytest_plugins = ["pytester"]

NET = make_module()


@pytest.fixture
def false(monkeypatch: pytest.MonkeyPatch) -> Statement:
    statement = make_statement()
    monkeypatch.setattr(catalogue, "statements", lambda: (statement,))
    return statement


# The statement test.false says that outputs are at most two: small's are, big's are not.
SUITE = """
import torch
from torch import nn
from conformance_specimens import X, make_module, make_statement
from reluctant.properties import catalogue, conformance, parametrize_with_statements

false, registry = make_statement(), catalogue.statements()
catalogue.statements = lambda: (*registry, false)
big, small, biased = make_module(), make_module(), make_module(bias=True)
with torch.no_grad():
    small.get_parameter("2.weight").fill_(0.01)

def cases(modules, *statements, **options):
    return parametrize_with_statements(modules, example=9 * X, statements=statements, **options)

@cases([biased, nn.GELU()], "dual.inner-product", "dual.homogeneous")
def test_plain(check):
    check()

@cases([big, small], "dual.psd", "dual.inner-product")
def test_ids(check):
    pass

@cases({"a": big, "b": small}, "test", expected_failures={"a-test.false": "nothing bounds it"})
def test_one(check):
    check()

@cases({"a": big, "b": small}, "test", expected_failures={"test.false": "unbounded"})
def test_all(check):
    check()

@cases({"c": biased}, "test", expected_failures={"test.false": "unbounded"})
def test_stale(check):
    check()
"""
LATE = """
import torch
from reluctant.properties import parametrize_with_statements
why = {"dual.homogenous": "?"}
parametrize_with_statements([torch.nn.ReLU()], example=torch.ones(1, 3), expected_failures=why)
"""


def test_a_suite_of_all_kinds_of_cases(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_late=LATE, test_mine=SUITE)
    # A process of its own: the suite changes the registry, and torch is imported once a process.
    homes = [Path(reluctant.__file__).parents[1], Path(__file__).parent]
    pytester._monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, homes)))
    result = pytester.runpytest_subprocess(
        "-vrsx", "-preluctant.pytest_plugin", "--continue-on-collection-errors"
    )
    result.assert_outcomes(passed=6, skipped=3, xfailed=2, failed=2, errors=1)
    lines = [line.partition("::")[2] for line in result.outlines if line.startswith("test_mine.py")]
    assert [line[: line.index("]") + 8].rstrip() for line in lines] == [
        "test_plain[Sequential-dual.inner-product] PASSED",
        "test_plain[Sequential-dual.homogeneous] SKIPPE",
        "test_plain[GELU-dual.inner-product] SKIPPE",
        "test_plain[GELU-dual.homogeneous] SKIPPE",
        "test_ids[Sequential-dual.psd] PASSED",
        "test_ids[Sequential-dual.inner-product] PASSED",
        "test_ids[Sequential2-dual.psd] PASSED",
        "test_ids[Sequential2-dual.inner-product] PASSED",
        "test_one[a-test.false] XFAIL",
        "test_one[b-test.false] PASSED",
        "test_all[a-test.false] XFAIL",
        "test_all[b-test.false] FAILED",
        "test_stale[c-test.false] FAILED",
    ]
    stale = "and was expected to fail: unbounded; take it out of expected_failures"
    result.stdout.fnmatch_lines_random(
        [
            "*'dual.homogenous', which is no case; did you mean *dual.homogeneous*",
            "*SKIPPED*NOT_IMPLIED: 0.bias is a bias*",
            "*SKIPPED*UNSUPPORTED: *aten.gelu.default cannot be read*",
            "XFAIL *test_one*a-test.false* - nothing bounds it*",
            f"test.false is HOLDS for b, {stale}",
            f"test.false is NOT_IMPLIED for c, {stale}",
        ]
    )


def test_a_suite_fails_with_the_example_and_the_line(false: Statement) -> None:
    mark: Any = parametrize_with_statements([make_module()], example=9 * X)
    ((case,),) = (mark.mark.args[1],)
    with pytest.raises(AssertionError) as caught:
        case.values[0]()
    text = str(caught.value)
    assert text.startswith("test.false is REFUTED for Sequential: f: ")
    assert "smallest example found: f: " in text
    assert "\n  weights = {'0.weight': [[" in text
    assert '\nagain: reluctant.check(module, example, ["test.false"]' in text


def test_the_options_are_those_of_check(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.ReLU()

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            first = self.first(x)
            return {"gelu": nn.functional.gelu(first), "relu": first}

    def called(**options: Any) -> None:
        mark: Any = parametrize_with_statements(
            {"two": Two()}, example=X, statements=["dual.psd"], **options
        )
        mark.mark.args[1][0].values[0]()

    called(output="relu", data=2 * X, seed=3, effort="default")
    called(output="gelu", until="first")
    with pytest.raises(pytest.skip.Exception, match=r"UNSUPPORTED: .*aten\.gelu"):
        called(output="gelu")
    with pytest.raises(rl.InputError, match="data"):
        called(output="relu", data=torch.ones(2, 5))


@pytest.mark.parametrize(
    ("modules", "options", "said"),
    [
        (NET, {}, "modules is one module; put it into a list"),
        ([], {}, "modules holds none"),
        ([nn.ReLU], {}, "got the class ReLU"),
        ({"": NET}, {}, "a module is called ''"),
        ([NET], {"effort": "large"}, "effort must be one of quick, default, thorough"),
        ([NET], {"seed": -1}, "the seed must lie in"),
        ([NET], {"statements": ["dual.pds"]}, "no statement is called 'dual.pds'; did you mean"),
        ([NET], {"statements": []}, "no statement is named"),
        ([NET], {"expected_failures": {"dual.psd": " "}}, "gives no reason for 'dual.psd'"),
        (
            [NET],
            {"expected_failures": {"conv.ntk": "?"}},
            "names 'conv.ntk', which is not among the statements to be tried; add it",
        ),
        (
            [NET, NET],
            {"expected_failures": {"Sequential3-dual.psd": "?"}},
            "is no case; did you mean Sequential.?-dual.psd",
        ),
        ([NET], {"expected_failures": {"%": "?"}}, "is no case; Sequential-dual.psd would be one"),
    ],
)
def test_what_is_no_case_is_refused_at_collection(
    modules: Sequence[nn.Module] | Mapping[str, nn.Module], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(rl.InputError, match=said):
        parametrize_with_statements(modules, example=X, **{"statements": ["dual.psd"], **options})


def test_a_class_with_the_name_of_a_numbered_one_is_to_be_named() -> None:
    class Net(nn.ReLU): ...

    class Net2(nn.ReLU): ...

    with pytest.raises(rl.InputError, match="two modules are called Net2; name them in a mapping"):
        parametrize_with_statements([Net(), Net(), Net2()], example=X)


def test_a_case_leaves_out_what_is_found_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object) -> tuple[()]:
        raise AssertionError("it takes forward passes, and no case shows it")

    monkeypatch.setattr(conformance, "found_of", unwanted)
    mark: Any = parametrize_with_statements([NET], example=X, statements=["dual.psd"])
    mark.mark.args[1][0].values[0]()
    with pytest.raises(AssertionError, match="forward passes"):
        rl.check(NET, X, "dual.psd")
