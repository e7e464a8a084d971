"""The JSON of a report: it fits the published schema, comes back, and refuses what is none."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from conformance_specimens import X, make_module, make_statement
from jsonschema import Draft202012Validator
from report_specimens import make_report
from torch import nn

import reluctant as rl
from reluctant.properties import catalogue
from reluctant.properties.conjectures import refute
from reluctant.properties.families import FAMILIES
from reluctant.properties.verification import verify
from reluctant.schema import as_text, field_tables, report_schema
from reluctant.theory.verdicts import VERSION, Outcome, Report, Verdict

ROOT = Path(__file__).parents[1]
OLD = Path(__file__).with_name("report_version_1.json")
RENEW = (
    "the dataclasses of theory/verdicts.py and {0} differ. A new field needs a default and a line in "
    "its class's docstring; then renew the file with `{1}`. A field that is left out, renamed or "
    "given another type or meaning takes a new VERSION too, and a line in docs/report_json.md"
)


def closed(form: Any) -> Any:
    """Return a schema that admits no field which it does not name."""
    if isinstance(form, list):
        return [closed(entry) for entry in form]
    if not isinstance(form, dict):
        return form
    inner = {name: closed(entry) for name, entry in form.items()}
    return {**inner, "additionalProperties": False} if "properties" in form else inner


STRICT = Draft202012Validator(closed(report_schema()))


def ensure_fits(report: Report) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(report.as_text())
    assert [f"{e.json_path}: {e.message}" for e in STRICT.iter_errors(document)] == []
    again = Report.from_json(document)
    assert again.to_json() == document
    return document


def objects(form: Any) -> Iterator[dict[str, Any]]:
    yield from (kind for kind in (form, *form["$defs"].values()) if "properties" in kind)


def test_the_shipped_schema_is_that_of_the_dataclasses() -> None:
    name = "report.schema.json"
    text = files("reluctant.theory").joinpath(name).read_text(encoding="utf-8")
    command = f"python -m reluctant schema > theory/{name}"
    assert text.rstrip("\n") == as_text(report_schema()), RENEW.format(f"theory/{name}", command)
    Draft202012Validator.check_schema(json.loads(text))


def test_the_documented_fields_are_those_of_the_dataclasses() -> None:
    page = (ROOT / "docs" / "report_json.md").read_text(encoding="utf-8")
    command = "python -m reluctant schema --fields, put in place of all from ## Fields on"
    tables = "\n".join(["## Fields", *field_tables()])
    assert page.rstrip("\n").endswith(tables), RENEW.format("docs/report_json.md", command)


def test_every_field_is_explained() -> None:
    silent = [
        name
        for kind in objects(report_schema())
        for name, entry in kind["properties"].items()
        if not entry["description"]
    ]
    assert silent == [], "name it under Attributes in its class's docstring"


def test_what_an_earlier_release_wrote_is_read_whole() -> None:
    """The file was written once, under version 1; it changes only with the version."""
    old = json.loads(OLD.read_text(encoding="utf-8"))
    assert old["version"] == VERSION, "keep a report of each version that is read"
    assert [e.message for e in Draft202012Validator(report_schema()).iter_errors(old)] == []

    def ensure_kept(before: Any, after: Any) -> None:
        if isinstance(before, dict):
            assert before.keys() <= after.keys()
            for name, entry in before.items():
                ensure_kept(entry, after[name])
        elif isinstance(before, list):
            assert len(before) == len(after)
            for entry, other in zip(before, after, strict=True):
                ensure_kept(entry, other)
        else:
            assert before == after

    ensure_kept(old, Report.load(OLD).to_json())


def test_a_report_of_every_part_fits() -> None:
    ensure_fits(make_report())


def test_checks_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ensure_fits(rl.check(make_module(bias=True), X, "dual", effort="quick"))
    assert {v["outcome"] for v in own["verdicts"]} >= {"HOLDS", "NOT_IMPLIED"}
    gelu = ensure_fits(rl.check(nn.Sequential(make_module(), nn.GELU()), X, "dual.psd"))
    assert gelu["verdicts"][0]["outcome"] == "UNSUPPORTED"
    inf = [Verdict("s", "net", Outcome.HOLDS, Outcome.HOLDS, "", measured=math.inf)]
    assert ensure_fits(Report("net", tuple(inf)))["verdicts"][0]["measured"] == "inf"
    monkeypatch.setattr(catalogue, "statements", lambda: (make_statement(),))
    false = ensure_fits(rl.check(make_module(), 9 * X, effort="quick"))
    assert false["verdicts"][0]["counterexample"]["numbers"]["weights"]


def test_an_interrupted_check_fits() -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    report = rl.check(make_module(), X, "dual", effort="quick", progress=interrupt)
    assert len(ensure_fits(report)["verdicts"]) == 1
    assert "interrupted" in report.notes[-1]


def test_the_suite_and_conjectures_fit() -> None:
    suite = ensure_fits(verify(["dual.path-count"], "smoke"))
    assert suite["verdicts"] and suite["mutants"]
    claim = rl.conjecture("the output is odd")(lambda t: (t.module(-t.x), -t.output))
    odd = ensure_fits(refute([claim], "quick", families=FAMILIES[:1]))
    assert odd["verdicts"][0]["counterexample"] is not None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdicts", 0, "outcome"), "MAYBE"),
        (("verdicts", 0, "evidence", "trials"), "3"),
        (("verdicts", 0, "measured"), "infinite"),
        (("verdicts", 0, "seconds"), None),
        (("mutants", 0, "killed"), 1),
        (("environment",), ["torch"]),
        (("notes",), "one"),
        (("verdicts", 0, "unmet"), [{"hypothesis": "bias-free"}]),
        (("subject",), None),
    ],
)
def test_schema_and_reader_refuse_the_same(path: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(make_report().to_json())
    entry = document
    for step in path[:-1]:
        entry = entry[step]
    entry[path[-1]] = value
    assert not STRICT.is_valid(document)
    place = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path).lstrip(".")
    with pytest.raises(rl.InputError, match=f"^{place.replace('[', r'.')}".replace("]", ".")):
        Report.from_json(document)


def test_fields_of_a_later_release_are_left_out_and_missing_ones_have_their_defaults() -> None:
    document = make_report().to_json()
    later = {**document, "weather": "rain"}
    assert Report.from_json(later).to_json() == document
    bare = {name: document[name] for name in ("schema", "version", "subject", "verdicts")}
    assert Report.from_json(bare).mutants == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"schema": "urn:reluctant:report", "version": 1, "subject": "n',
            "is cut off, or no JSON",
        ),
        ("", "is cut off, or no JSON"),
        ("[" * 100_000, "is cut off, or no JSON"),
        ("\xff", "is cut off, or no JSON"),
        ("[]", "it does not say that it is a report"),
        ('{"subject": "net", "verdicts": []}', "it does not say that it is a report"),
        (
            '{"schema": "urn:reluctant:report", "version": 7, "subject": "n", "verdicts": []}',
            "it is a report of version 7, and this release of reluctant reads version 1",
        ),
        ('{"schema": "urn:reluctant:report", "version": 1}', "subject is missing"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(rl.InputError) as caught:
        Report.load(tmp_path / "r.json")
    line = str(caught.value)
    assert line.startswith(str(tmp_path / "r.json")) and said in line and "\n" not in line
    assert line.endswith("write it anew with Report.save or reluctant check --json")


def test_a_report_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = rl.check(make_module(), torch.ones(2, 3).double(), "dual.psd").as_text()
    for end in range(0, len(whole) - 1, 97):
        (tmp_path / "r.json").write_text(whole[:end], encoding="utf-8")
        with pytest.raises(rl.InputError, match=r"r\.json is cut off, or no JSON"):
            Report.load(tmp_path / "r.json")
