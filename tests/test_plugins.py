"""Plugins that are wrong: each is refused in one line, and a wrong rule is found out."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from conformance_specimens import X, make_module
from torch import Tensor, nn

import reluctant as rl
from reluctant.properties import catalogue
from reluctant.properties.expectations import HOLDS_ON
from reluctant.theory import plugin_rules, plugins
from reluctant.theory.plugins import Plugin
from reluctant.theory.verdicts import Outcome

HEAD = """
import torch
import reluctant as rl
from reluctant.properties import hypotheses as needs

def claim(trial, shift=0.0):
    return [rl.Comparison(trial.output, trial.output + shift, 0.0, rl.EvidenceKind.EXACT)]

MUTANTS = (rl.Mutant("up", {"shift": 1.0}), rl.Mutant("down", {"shift": -1.0}))

def make(id="mylib.same", mutants=MUTANTS, kind=rl.Kind.EXACT, claim=claim, hypotheses=()):
    return rl.Statement(id, "Same.", kind, "f = f", ("mylib",), hypotheses, claim, mutants)

def path(lower, call):
    return lower.path(call, call["x"])
"""
Plug = Callable[..., None]


@torch.library.custom_op("reluctant_tests::bent", mutates_args=())
def bent(x: Tensor) -> Tensor:
    return x.abs()


@torch.library.custom_op("reluctant_tests::scaled", mutates_args=())
def scaled(x: Tensor, by: Tensor) -> Tensor:
    return x * by


bent.register_fake(torch.empty_like)
scaled.register_fake(lambda x, by: torch.empty_like(x))


class Bent(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = bent(self.inner(x))
        return y


class Scaled(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.full((3,), value, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = scaled(x, self.by.exp().log())
        return y


def forget() -> None:
    for cached in (plugin_rules.plugin_rules, catalogue.statements):
        cached.cache_clear()


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    """Install distributions mylib 1.0, yourlib 1.0 with one entry point each, all of one group."""

    def install(group: str, *texts: str) -> None:
        found = []
        for k, (name, text) in enumerate(zip(("mylib", "yourlib"), texts, strict=False)):
            module = f"{tmp_path.name.replace('-', '_')}_{k}"
            (tmp_path / f"{module}.py").write_text(HEAD + text)
            entry = EntryPoint("it", f"{module}:IT", group)
            found.append(Plugin(group, "it", f"{name} 1.0", entry))
        monkeypatch.setattr(plugins, "plugins", lambda g: tuple(p for p in found if p.group == g))

    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    forget()
    yield install
    forget()


def ensure_refused(action: Callable[[], object], said: str, owner: str, group: str) -> None:
    with pytest.raises(rl.InputError) as caught:
        action()
    line = str(caught.value)
    assert line.startswith(f"{owner} 1.0: the entry point 'it' in {group} ")
    assert said in line and "\n" not in line
    assert line.endswith(f"; mend it, or uninstall {owner}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("IT = 1 / 0", "raised ZeroDivisionError when it was loaded: "),
        ("import sys; sys.exit(3)", "raised SystemExit when it was loaded: "),
        ("IT = (", "raised SyntaxError when it was loaded: '(' was never closed"),
        ("IF = 1", "raised AttributeError when it was loaded: "),
        ("IT = 5", "raised TypeError when its statements were asked for: 'int' object is not iter"),
        ("def IT(x): return make()", "raised TypeError when its statements were asked for: "),
        ("IT = (k // 0 for k in [1])", "raised ZeroDivisionError when its statements were asked"),
        ("IT = [make, 'f = f']", "gives a function, expected reluctant.Statement"),
        ("IT = make(mutants=MUTANTS[:1])", "'mylib.same', with 1 mutants, expected 2 of different"),
        ("IT = make(mutants=2 * MUTANTS[:1])", "with 1 mutants, expected 2 of different names"),
        ("IT = make(mutants=('a', 'b'))", "whose mutants are not all reluctant.Mutant"),
        (
            "IT = make(mutants=(*MUTANTS, rl.Mutant('by', {'by': 1})))",
            "'by' does not fit its claim",
        ),
        ("IT = make(id='Same')", "'Same', whose identifier is not of the form mylib.my-claim"),
        ("IT = make(id='dual.psd')", "'dual.psd', and so has reluctant; call it otherwise"),
        ("IT = [make(), make()]", "'mylib.same', and so has mylib 1.0; call it otherwise"),
        ("IT = make(kind='E')", "whose kind is 'E', expected one of reluctant.Kind"),
        (
            "IT = make(hypotheses=('bias-free',))",
            "whose hypotheses are not all reluctant.Hypothesis",
        ),
    ],
)
def test_statements_that_are_wrong_are_refused(plug: Plug, text: str, said: str) -> None:
    plug(plugins.STATEMENTS, text)
    ensure_refused(rl.statements, said, "mylib", plugins.STATEMENTS)


def test_an_identifier_of_two_distributions_is_refused(plug: Plug) -> None:
    plug(plugins.STATEMENTS, "IT = make()", "IT = make")
    said = "'mylib.same', and so has mylib 1.0; call it otherwise"
    ensure_refused(rl.statements, said, "yourlib", plugins.STATEMENTS)


def test_statements_come_after_ours_with_their_origin_and_load_once(plug: Plug) -> None:
    plug(plugins.STATEMENTS, "count = 0\ndef IT():\n    global count; count += 1; assert count < 2\n"
         "    return [make(), make('mylib.other')]")  # fmt: skip
    *own, first, second = rl.statements()
    assert (first.id, first.origin, second.id) == ("mylib.same", "mylib 1.0", "mylib.other")
    assert {statement.origin for statement in own} == {"reluctant"}
    assert rl.statements()[-1] is second
    assert plugins.listed() == "1: mylib 1.0 (statements: it)"


def test_our_own_statements_are_all_in_the_table_of_expectations() -> None:
    assert [s.id for s in catalogue.own_statements() if s.id not in HOLDS_ON] == []


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("lambda trial, shift=0.0: 1 / 0", "raised ZeroDivisionError in the claim of mylib.same: "),
        ("lambda trial, shift=0.0: [1]", "returned something else than comparisons in the claim"),
    ],
)
def test_a_claim_that_raises_is_not_taken_for_a_fault_of_ours(
    plug: Plug, claim: str, said: str
) -> None:
    plug(plugins.STATEMENTS, f"IT = make(claim={claim})")
    report = rl.check(make_module(), X, ["mylib", "dual.psd"], effort="quick")
    assert report["mylib.same"].outcome is Outcome.INCONCLUSIVE
    assert said in report["mylib.same"].reason and "mylib 1.0" in report["mylib.same"].reason
    assert report["dual.psd"].outcome is Outcome.HOLDS


def trace_bent() -> object:
    return rl.trace(Bent(nn.ReLU()), X.abs())


OP = "reluctant_tests.bent.default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("IT = 1 / 0", "raised ZeroDivisionError when it was loaded: "),
        ("IT = [path]", "names a list, expected a mapping from operations to functions"),
        ("IT = {'bent': path}", "has a rule for 'bent'; an operation has a name such as"),
        ("IT = {4: path}", "has a rule for 4; an operation has a name such as"),
        ("IT = {'my.lib.op': 4}", "gives no function for my.lib.op, but a int"),
        ("IT = {'aten.relu.default': path}", "for aten.relu.default, which reluctant reads itself"),
        (f"IT = {{'{OP}': lambda lower, call: call['q']}}", "raised KeyError in its rule for "),
        (f"IT = {{'{OP}': lambda lower, call: None}}", "that returned a NoneType, expected paths"),
        (
            f"IT = {{'{OP}': lambda l, c: l.total(c, [path(l, c)], [0])}}",
            "that returned paths of shape (), expected (3,)",
        ),
    ],
)
def test_rules_that_are_wrong_are_refused(plug: Plug, text: str, said: str) -> None:
    plug(plugins.RULES, text)
    ensure_refused(trace_bent, said, "mylib", plugins.RULES)


def test_an_operation_of_two_distributions_is_refused(plug: Plug) -> None:
    plug(plugins.RULES, "IT = {'my.lib.op': path}", "IT = {'my.lib.op': path}")
    said = "has a rule for my.lib.op, and so has mylib 1.0"
    ensure_refused(trace_bent, said, "yourlib", plugins.RULES)


def test_a_rule_may_refuse(plug: Plug) -> None:
    plug(plugins.RULES, f"def no(l, c): raise l.refuse(c, 'no')\nIT = {{'{OP}': no}}")
    with pytest.raises(
        rl.UnsupportedOperation, match=r"bent\.default in .* cannot be read .*: no$"
    ):
        trace_bent()


def test_a_rule_that_is_wrong_at_the_example_is_found_out(plug: Plug) -> None:
    twice = "lambda l, c: l.scale(c, path(l, c), torch.tensor(2.0))"
    plug(plugins.RULES, f"IT = {{'{OP}': {twice}}}")
    said = rf"module gives .*; {OP} is read by a rule of mylib 1\.0: look there first"
    with pytest.raises(rl.UnsupportedOperation, match=said):
        trace_bent()
    (verdict,) = rl.check(Bent(nn.ReLU()), X.abs(), ["dual.psd"], effort="quick")
    assert verdict.outcome is Outcome.UNSUPPORTED and "mylib 1.0" in verdict.reason


def test_a_rule_that_is_right_at_the_example_only_is_found_out(plug: Plug) -> None:
    """An absolute value of what is positive is the identity there, and no linear map."""
    plug(plugins.RULES, f"IT = {{'{OP}': path}}")
    assert rl.trace(Bent(nn.ReLU()), X.abs())
    with pytest.raises(rl.UnsupportedOperation, match="look there first"):
        rl.trace(Bent(nn.Identity()), X.abs())


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (1.0, "path(l, c)"),
        (3.0, "l.scale(c, path(l, c), c['by'].value())"),
    ],
    ids=["takes a parameter for 1", "takes a parameter for a constant"],
)
def test_a_rule_that_is_right_at_these_weights_only_is_found_out(
    plug: Plug, value: float, body: str
) -> None:
    plug(plugins.RULES, f"IT = {{'reluctant_tests.scaled.default': lambda l, c: {body}}}")
    module = nn.Sequential(Scaled(value), nn.ReLU())
    with pytest.raises(rl.UnsupportedOperation, match="look there first"):
        rl.trace(module, X)
    assert module.get_parameter("0.by").tolist() == [value] * 3
