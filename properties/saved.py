"""Counterexamples on disk: a file of tensors and a file that says what they are, or nothing.

``NAME.safetensors`` holds the inputs, the module's parameters and buffers, both sides and the gates.
``NAME.json`` says which statement fails on which network, and carries the hash of the tensors. It is
written last, so that a pair of which one half is missing counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from reluctant.properties.judging import Judgement, describe
from reluctant.theory.costs import Cost
from reluctant.theory.errors import InputError
from reluctant.theory.parts import Until
from reluctant.theory.single import OneTensor
from reluctant.theory.statements import Comparison, Trial
from reluctant.theory.verdicts import write_whole

SCHEMA, VERSION = "urn:reluctant:counterexample", 1
_LIMITS = ("patterns", "paths", "samples", "error_probability")
_COSTS = ("kernels", "passes", "bytes")


@dataclass(frozen=True, slots=True)
class Record:
    """Say what a counterexample is of.

    Attributes:
        statement: Identifier of the statement.
        subject: Name of the network or family.
        summary: One line with the two sides as numbers.
        entry: Where the two sides differ most.
        network: How the network is made again: of the suite ``family`` and ``choices``; of a user
            its ``class``, ``inputs``, ``output``, part and mode; and the ``target`` on the command line.
        trial: Seed of what the claim draws, and how much it may spend.
        size: How many numbers the inputs and parameters have, how many of them are not 0, and how
            many are no integers.
        shapes: Type and shape of every tensor.
        environment: Versions it was found with.
        sha256: Hash of the file of tensors.
    """

    statement: str
    subject: str
    summary: str
    entry: tuple[int, ...]
    network: Mapping[str, Any]
    trial: Mapping[str, Any]
    size: tuple[int, ...]
    shapes: Mapping[str, str]
    environment: Mapping[str, str]
    sha256: str

    @property
    def key(self) -> tuple[object, ...]:
        """Return what two counterexamples share if only the smaller is kept.

        It is the statement and the subject and, of a user's module, what it has of shapes.
        """
        shapes = () if "family" in self.network else tuple(sorted(self.needs.items()))
        return self.statement, self.subject, shapes

    @property
    def needs(self) -> dict[str, str]:
        """Return the types and shapes that a module and one of its inputs must have, and its part."""
        own = {k: v for k, v in self.shapes.items() if k.startswith(("parameters/", "buffers/"))}
        return {**own, "x": _without_batch(self.shapes["x"]), "part": _part(self.network)}

    @property
    def numbers(self) -> str:
        """Return the size in words."""
        return f"{self.size[0]} numbers, {self.size[1]} of them not 0"


@dataclass(frozen=True, slots=True)
class Saved:
    """Be a counterexample in a folder.

    Attributes:
        path: Its ``.json``; the tensors are beside it.
        record: What it says.
    """

    path: Path
    record: Record

    @property
    def order(self) -> tuple[object, ...]:
        """Return what is less for a smaller counterexample: fewer numbers, more zeros, more integers."""
        return *self.record.size, self.path.name

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Read the tensors.

        Raises:
            InputError: If they are missing, damaged or not those that the record is of.
        """
        beside = self.path.with_suffix(".safetensors")
        try:
            content = beside.read_bytes()
        except OSError as error:
            raise InputError(f"{beside}: {error.strerror}; delete {self.path.name}") from error
        if hashlib.sha256(content).hexdigest() != self.record.sha256:
            raise InputError(
                f"{beside} is damaged: its hash is not that in {self.path.name}; delete both"
            )
        try:
            found = load(content)
        except SafetensorError as error:
            raise InputError(f"{beside} holds no tensors: {error}; delete it") from error
        if _shapes(found) != self.record.shapes:
            raise InputError(
                f"{beside} holds other tensors than {self.path.name} says; delete both"
            )
        return found

    def trial(self, module: nn.Module, device: torch.device | str = "cpu") -> Trial:
        """Return the trial that failed.

        Args:
            module: A module of the same parameters and buffers; it gets the saved ones.
            device: Where the inputs go.

        Raises:
            InputError: If the tensors cannot be read, or the module has others.
        """
        tensors = self.tensors
        needs, given = self.record.needs, _state_shapes(module)
        for name in sorted({*needs, *given} - {"x", "part"}):
            if needs.get(name) != given.get(name):
                raise InputError(
                    f"{self.path} has {name} {needs.get(name, 'not at all')}, the network "
                    f"{given.get(name, 'not at all')}; name the network that it was found on"
                )
        with torch.no_grad():
            for name, tensor in _state(module).items():
                tensor.copy_(tensors[name])
        facts = dict(self.record.trial)
        generator = torch.Generator().manual_seed(facts.pop("seed"))
        facts["limit"] = Cost(**{name: facts.pop(name) for name in _COSTS})
        choices = tuple(self.record.network.get("choices", ()))
        return Trial(module, tensors["x"].to(device), generator, choices=choices, **facts)


def write(
    folder: Path,
    statement: str,
    subject: str,
    trial: Trial,
    judgement: Judgement,
    network: Mapping[str, Any],
) -> Saved:
    """Write a counterexample, unless this very one is there.

    Args:
        folder: Where to; it is made if it is not there.
        statement: Identifier of the statement.
        subject: Name of the network or family.
        trial: Trial that refutes the statement.
        judgement: What it said.
        network: How the network is made again.

    Returns:
        What can be read from now on, with what it is of in its name.

    Raises:
        OSError: If the folder takes no files.
    """
    failed = next(c for c in judgement.comparisons if not c.holds)
    inputs = {"x": trial.x, **_state(trial.module)}
    tensors = {name: t.detach().cpu().contiguous() for name, t in inputs.items()}
    facts = {k: getattr(trial, k) for k in _LIMITS} | asdict(trial.limit)
    facts["seed"] = trial.generator.initial_seed()
    identity = [statement, subject, network, facts, hashlib.sha256(save(tensors)).hexdigest()]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    path = folder / f"{_slug(statement)}-{_slug(subject)}-{digest[:16]}.json"
    if path.exists():
        try:
            known = read(path)
            _ = known.tensors
        except InputError:  # damaged: written again
            pass
        else:
            return known
    size = _size([trial.x, *trial.module.parameters()])
    for g in trial.net.value_gates:
        tensors[f"gates/{trial.net.gate_layers[g].name}"] = _hard_as_bits(trial.gates[g])
    tensors |= sides(failed)
    content = save(tensors)
    worst = torch.unravel_index(failed.excess.argmax(), failed.excess.shape)
    record = Record(
        statement,
        subject,
        describe(failed),
        tuple(int(k) for k in worst),
        network,
        facts,
        size,
        _shapes(tensors),
        _environment(trial.x),
        hashlib.sha256(content).hexdigest(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path.with_suffix(".safetensors"), content)
    said = {"schema": SCHEMA, "version": VERSION, **asdict(record)}
    write_whole(path, json.dumps(said, indent=1, ensure_ascii=False))
    return Saved(path, record)


def keep_smallest(rivals: Iterable[Saved]) -> None:
    """Delete all counterexamples but the smallest.

    Whoever writes at the same time does the same afterwards, and agrees on which is the smallest.
    """
    for larger in sorted(rivals, key=lambda saved: saved.order)[1:]:
        delete(larger)


def delete(saved: Saved) -> None:
    """Delete a counterexample; what is left if this is interrupted counts for nothing."""
    saved.path.unlink(missing_ok=True)
    saved.path.with_suffix(".safetensors").unlink(missing_ok=True)


def read(path: Path) -> Saved:
    """Read what a counterexample is of; its tensors are read when they are asked for.

    Raises:
        InputError: If the file is damaged, of something else, or of a newer version.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; reluctant counterexamples lists all"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: it is no JSON; delete it") from error
    if not isinstance(said, dict) or said.get("schema") != SCHEMA:
        raise InputError(f"{path} is no counterexample of reluctant; move it elsewhere")
    if said.get("version") != VERSION:
        raise InputError(
            f"{path} has version {said.get('version')!r} of its format, this reluctant reads "
            f"{VERSION}; upgrade it"
        )
    try:
        return Saved(path, _record(said))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error} is missing or wrong; delete it") from error


def read_all(folder: Path, on_error: Callable[[str], None]) -> Iterator[Saved]:
    """Read a folder, the smallest first.

    Args:
        folder: Folder; if there is none, there are no counterexamples.
        on_error: Hears in one line of each file that cannot be used.
    """
    found: list[Saved] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(read(path))
        except InputError as error:
            if path.exists():  # else another process has just replaced it
                on_error(str(error))
    yield from sorted(found, key=lambda saved: saved.order)


def fits(record: Record, module: nn.Module, x: Tensor) -> bool:
    """Tell whether a counterexample could be tried on a module.

    Args:
        record: What the counterexample is.
        module: Module.
        x: Inputs of it.
    """
    here = {"x": _without_batch(_described(x)), "part": _part(module_of(module))}
    return record.needs == {**_state_shapes(module), **here}


def sides(failed: Comparison) -> dict[str, Tensor]:
    """Return both sides of a comparison as they are saved."""
    both = {"left": failed.left, "right": failed.right}
    return {
        side: values.detach().expand_as(failed.excess).cpu().contiguous()
        for side, values in both.items()
    }


def module_of(module: nn.Module) -> dict[str, Any]:
    """Return what there is to know about a user's module, its tensors apart."""
    inner: nn.Module = module
    several: Any = None
    output: int | str | None = None
    until: str | None = None
    if isinstance(inner, Until):
        until, inner = inner.target, inner.network
    if isinstance(inner, OneTensor):
        several, output, inner = inner.shapes, inner.output, inner.network
    if several is not None:
        is_named = isinstance(several, Mapping)
        several = {k: [*v] for k, v in several.items()} if is_named else [[*v] for v in several]
    kind = type(inner)
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "inputs": several,
        "output": output,
        "until": until,
        "training": module.training,
    }


def _part(network: Mapping[str, Any]) -> str:
    """Return which inputs, output and part of a module are meant."""
    return json.dumps([network.get(name) for name in ("inputs", "output", "until")])


def _record(said: Mapping[str, Any]) -> Record:
    known = {field.name: said[field.name] for field in fields(Record)}
    for name in ("statement", "subject", "summary", "sha256"):
        if not isinstance(known[name], str):
            raise TypeError(name)
    for name in ("network", "trial", "shapes", "environment"):
        if not isinstance(known[name], dict):
            raise TypeError(name)
    for name in ("entry", "size"):
        known[name] = tuple(int(k) for k in known[name])
    if {*known["trial"]} != {"seed", *_LIMITS, *_COSTS} or len(known["size"]) != 3:
        raise ValueError("trial or size")
    if not all(isinstance(number, int | float) for number in known["trial"].values()):
        raise TypeError("trial")
    if "family" not in known["network"]:
        _ = [known["network"][fact] for fact in ("class", "inputs", "output", "until", "training")]
    elif not isinstance(known["network"].get("choices"), list):
        raise TypeError("choices")
    _ = known["shapes"]["x"], known["environment"]["device"]
    return Record(**known)


def _state(module: nn.Module) -> dict[str, Tensor]:
    parameters = {f"parameters/{name}": p for name, p in module.named_parameters()}
    return {**parameters, **{f"buffers/{name}": b for name, b in module.named_buffers()}}


def _state_shapes(module: nn.Module) -> dict[str, str]:
    return _shapes(_state(module))


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: _described(tensor) for name, tensor in tensors.items()}


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _without_batch(described: str) -> str:
    return re.sub(r"\[\d+(, )?", "[", described)


def _size(tensors: Iterable[Tensor]) -> tuple[int, int, int]:
    numbers = torch.cat([t.detach().double().cpu().flatten() for t in tensors])
    broken = numbers != numbers.round()
    return len(numbers), int((numbers != 0).sum()), int(broken.sum())


def _hard_as_bits(gate: Tensor) -> Tensor:
    gate = gate.detach().cpu().contiguous()
    bits = gate.bool()
    return bits if torch.equal(bits.to(gate.dtype), gate) else gate


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:60] or "network"


def _environment(x: Tensor) -> dict[str, str]:
    from reluctant import __version__

    return {
        "reluctant": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": str(x.device),
    }
