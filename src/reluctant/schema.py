"""The published form of a report's JSON: a JSON Schema, and the same as tables in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from reluctant.terminal import answering
from reluctant.theory.encoding import DIALECT, described
from reluctant.theory.verdicts import SCHEMA, VERSION, Report


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema of reports, made of the dataclasses and their docstrings.

    The package ships it as ``reluctant/theory/report.schema.json``.
    """
    form = described(Report)
    first = {
        "schema": {"const": SCHEMA, "description": "Says that this is a report."},
        "version": {"const": VERSION, "description": "Version of this form."},
    }
    return {
        "$schema": DIALECT,
        "$id": f"{SCHEMA}:{VERSION}",
        "title": f"Report, version {VERSION}",
        **form,
        "properties": first | form["properties"],
        "required": [*first, *form["required"]],
    }


def field_tables() -> Iterator[str]:
    """Yield the lines of one Markdown table for every kind of object and of name."""
    form = report_schema()
    kinds = {"Report": form, **form["$defs"]}
    for name, kind in kinds.items():
        if "description" not in kind:
            continue
        yield from ("", f"### {name}", "", kind["description"], "")
        if "enum" in kind:
            yield ", ".join(f"`{each}`" for each in kind["enum"])
            continue
        yield from ("| field | type | if it is missing | meaning |", "| --- | --- | --- | --- |")
        for field, entry in kind["properties"].items():
            default = json.dumps(entry["default"]) if "default" in entry else "never"
            yield f"| `{field}` | {_type(entry)} | {default} | {entry['description']} |"


def _type(entry: Mapping[str, Any]) -> str:
    if "anyOf" in entry:
        return " or ".join(map(_type, entry["anyOf"]))
    if "$ref" in entry:
        name = entry["$ref"].rpartition("/")[2]
        return "number" if name == "number" else f"[{name}](#{name.lower()})"
    if "const" in entry:
        return f"`{json.dumps(entry['const'])}`"
    if entry["type"] == "array":
        return f"list of {_type(entry['items'])}"
    inner = entry.get("additionalProperties")
    return f"object of {_type(inner)}" if inner else str(entry["type"])


@answering
def schema(
    fields: Annotated[
        bool, typer.Option("--fields", help="Print every field as a table in Markdown.")
    ] = False,
) -> None:
    """Print the JSON Schema of the reports that --json writes."""
    form = report_schema()
    typer.echo("\n".join(["## Fields", *field_tables()]) if fields else as_text(form))


def as_text(form: Mapping[str, Any]) -> str:
    """Return a schema as a JSON document."""
    return json.dumps(form, indent=1, ensure_ascii=False)
