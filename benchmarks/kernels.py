"""How fast are kernels, and beside what: ``python -m benchmarks.kernels``.

Rows of contestants that take turns in one run; a table of ratios as JSON and as Markdown. A row that
was measured before, of the same code on the same machine, is not measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import reluctant.models
import reluctant.theory
from benchmarks.contestants import ROOT, OutOfTime, Result, Stable, alternate, stable
from benchmarks.programme import programme
from benchmarks.rows import Row

MEASURED = "## Measured"  # a page keeps what stands above


def machine(device: str) -> dict[str, Any]:
    """Return what runs the benchmark."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    page, pages = (os.sysconf(f"SC_{name}") for name in ("PAGE_SIZE", "PHYS_PAGES"))
    found = {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{name: value for name, value in sorted(os.environ.items()) if name.startswith("OMP_")},
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory": f"{page * pages / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device == "cuda":
        found["device"] = torch.cuda.get_device_name()
        found["cuda"] = torch.version.cuda
    return found


def source() -> dict[str, str]:
    """Return the commit, if there is one, and a fingerprint of the code that is measured."""
    folders = [Path(p) for m in (reluctant.theory, reluctant.models) for p in m.__path__]
    own = [f for f in sorted((ROOT / "benchmarks").glob("*.py")) if f.name not in _NOT_MEASURED]
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in [*files, *own]))
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return {"commit": described.stdout.strip() or "none", "code": digest.hexdigest()[:16]}


# Rows say themselves what they asked; these only choose and show.
_NOT_MEASURED = ("kernels.py", "mutation.py", "programme.py", "rows.py")


def measured(kept: Stable, row: Row) -> dict[str, Any]:
    """Measure a row; return its record."""
    load = os.getloadavg()[0]
    begun = time.monotonic()
    results = alternate(
        kept,
        row.contestants,
        repetitions=row.repetitions,
        uncounted=row.uncounted,
        isolated=row.isolated,
        small=row.small,
    )
    return {
        "asked": row.asked,
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "seconds": round(time.monotonic() - begun, 1),
        "results": [asdict(result) for result in results],
    }


def is_current(record: dict[str, Any] | None, row: Row, base: dict[str, Any]) -> bool:
    """Tell whether a record is of this row, this code and this machine, with nothing missing."""
    return (
        record is not None
        and record["asked"] == json.loads(json.dumps(row.asked))
        and all(record[k] == base[k] for k in ("code", "machine"))
        and all(result["not_run"] is None for result in record["results"])
    )


def page(rows: Sequence[Row], known: dict[str, Any], device: str) -> Iterator[str]:
    """Yield the tables of what was measured, as Markdown."""
    found = [(row, known[row.name]) for row in rows if row.name in known]
    if not found:
        return
    where = found[0][1]["machine"]
    threads = f"{where['threads']} thread{'s' if where['threads'] > 1 else ''}"
    named = where.get("device", f"{where['processor']}, {threads}")
    yield f"{MEASURED} on {named}"
    yield ""
    yield "; ".join(f"{name} {value}" for name, value in where.items()) + "."
    versions = {
        f"{name} {version}"
        for _, record in found
        for result in record["results"]
        for name, version in result["versions"].items()
    }
    yield f"Packages: {', '.join(sorted(versions))}."
    for row, record in found:
        results = [Result(**result) for result in record["results"]]
        yield ""
        yield f"### {row.title}"
        yield ""
        yield row.note or "Best of the runs; all contestants take turns."
        yield ""
        yield from row.table(results)
        load = " to ".join(f"{value:g}" for value in record["load"])
        yield ""
        yield (
            f"`--only {row.name}`, runs: {row.repetitions}, on {record['commit']}; load of the machine "
            f"{load}."
        )


def write_page(file: Path, text: str, heading: str) -> None:
    """Replace the section of a page that begins with the heading, or append it; keep the rest."""
    parts = file.read_text(encoding="utf-8").split("\n## ") if file.exists() else ["# Benchmarks\n"]
    title = heading.removeprefix("## ")
    others = [part for part in parts[1:] if not part.startswith(title)]
    kept = [part.strip("\n") for part in [parts[0], *others, text.removeprefix("## ")]]
    file.write_text("\n\n## ".join(kept) + "\n", encoding="utf-8")


def main() -> None:
    """Measure what is missing, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "out" / "benchmarks")
    parser.add_argument("--profile", choices=("full", "smoke"), default="full")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", action="append", metavar="ROW", help="may be given again")
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="stop by then; run again to go on"
    )
    parser.add_argument("--page", type=Path, help="Markdown page whose measured part is replaced")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; leave out --device")
    smoke = asked.profile == "smoke"
    rows = programme(smoke=smoke, device=asked.device)
    names = [row.name for row in rows]
    unknown = [name for name in asked.only or [] if name not in names]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; there are {', '.join(names)}")
    asked.folder.mkdir(parents=True, exist_ok=True)
    file = asked.folder / f"{asked.profile}-{asked.device}.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    base = {**source(), "machine": machine(asked.device)}
    with stable(asked.folder, makes=not smoke, seconds=asked.seconds) as kept:
        for row in rows:
            if asked.only and row.name not in asked.only:
                continue
            if is_current(known.get(row.name), row, base):
                print(f"{row.name}: measured before", flush=True)
                continue
            print(f"{row.name}: {row.title}", flush=True)
            try:
                known[row.name] = base | measured(kept, row)
            except OutOfTime:
                print(f"{row.name}: not finished in time; run the command again", flush=True)
                break
            _replace(file, json.dumps(known, indent=1))
            results = [Result(**result) for result in known[row.name]["results"]]
            print("\n".join(row.table(results)), flush=True)
    text = "\n".join(page(rows, known, asked.device))
    target = asked.page or file.with_suffix(".md")
    if text:
        write_page(target, text, text.splitlines()[0])
        print(f"tables: {target}\nnumbers: {file}")


def _replace(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


if __name__ == "__main__":
    main()
