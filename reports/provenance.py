"""Say what made a number: which code, which versions, which machine."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reluctant.theory.errors import InputError

_LIBRARIES = ("reluctant", "torch", "numpy", "scipy", "scikit-learn", "matplotlib", "typst")


def code_digest(modules: Iterable[str]) -> str:
    """Hash the source text of modules and packages, by name.

    Args:
        modules: Dotted names, such as ``reluctant.theory``; a package counts with every module in
            it. The order does not matter.

    Returns:
        Sixteen hexadecimal digits. Line endings and tests do not count; comments do.
    """
    return _code_digest(tuple(sorted(set(modules))))


@functools.cache
def _code_digest(modules: tuple[str, ...]) -> str:
    total = hashlib.sha256()
    for name in modules:
        for label, file in _sources(name):
            text = file.read_bytes().replace(b"\r\n", b"\n")
            total.update(f"{label}\0{len(text)}\0".encode())
            total.update(text)
    return total.hexdigest()[:16]


def _sources(name: str) -> list[tuple[str, Path]]:
    if name == "__main__" and (script := getattr(sys.modules[name], "__file__", None)):
        return [(name, Path(script))]
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise InputError(
            f"no source found for the module {name!r}, which an experiment lists as its code; "
            "name a module that can be imported, or move the experiment into a file"
        )
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return [(name, origin)]
    folder = origin.parent
    files = sorted(f for f in folder.rglob("*.py") if not f.name.startswith("test_"))
    return [(file.relative_to(folder).as_posix(), file) for file in files]


def configuration_digest(experiment: str, profile: str, config: Mapping[str, Any]) -> str:
    """Hash what was asked for: the experiment, the profile and the configuration."""
    text = json.dumps([experiment, profile, config], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries that it computes with."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "reluctant" not in found:
        import reluctant

        found["reluctant"] = reluctant.__version__
    return found


@functools.cache
def hardware(device: str | None = None) -> dict[str, str]:
    """Return the processor, the cores this process may use, memory, and the accelerator if any.

    Args:
        device: Where something was computed, such as ``cuda:1``. An accelerator that was not used
            does not count; None: whatever there is.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"processor": _processor(), "cores": str(cores), "system": platform.system()}
    memory = _memory()
    if memory is not None:
        found["memory"] = f"{memory:.0f} GiB"
    if device is not None:
        found["device"] = device
    import torch

    if torch.cuda.is_available() and (device is None or device.startswith("cuda")):
        found["accelerator"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return pages * size / math.pow(2, 30)
