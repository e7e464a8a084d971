"""Snapshots: a training between two epochs, whole, as one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from reluctant.reports.courses import Course
from reluctant.reports.groups import Group
from reluctant.theory.errors import InputError
from reluctant.theory.verdicts import write_whole

_FORMAT: Final = "reluctant training 1"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Carry a training of s networks after some epochs.

    Attributes:
        courses: How each went so far, failed ones too.
        running: Numbers of the networks that go on, in the order of the tensors.
        tensors: Parameters, buffers, the optimizer's state and the states of the generators, those
            networks as first axis.
        about: What is trained, and how; a snapshot of another training is refused.
    """

    courses: tuple[Course, ...]
    running: tuple[int, ...]
    tensors: Mapping[str, Tensor]
    about: str

    @property
    def epoch(self) -> int:
        """Return the number of epochs done."""
        return max(len(course.losses) for course in self.courses)

    def after(
        self, losses: Sequence[float], accuracies: Sequence[float], seconds: float
    ) -> Snapshot:
        """Return what is known after one more epoch; the tensors are still those of before."""
        courses = list(self.courses)
        for m, loss, accuracy in zip(self.running, losses, accuracies, strict=True):
            courses[m] = courses[m].after(loss, accuracy, seconds, len(self.running))
        running = tuple(m for m in self.running if not courses[m].failure)
        return replace(self, courses=tuple(courses), running=running)

    def holding(self, tensors: Mapping[str, Tensor], members: Sequence[int]) -> Snapshot:
        """Return a snapshot with copies of those networks' tensors that go on."""
        kept = torch.tensor([members.index(m) for m in self.running], dtype=torch.int64)
        return replace(self, tensors={k: t[kept.to(t.device)] for k, t in tensors.items()})

    def part(self, members: Sequence[int]) -> Snapshot:
        """Return the snapshot of some of the networks."""
        running = tuple(m for m in members if m in self.running)
        held = replace(self, running=running).holding(self.tensors, self.running)
        return replace(
            held,
            courses=tuple(self.courses[m] for m in members),
            running=tuple(members.index(m) for m in running),
        )

    def write(self, path: Path) -> None:
        """Write a file: the whole of it or nothing."""
        said = {
            "format": _FORMAT,
            "about": self.about,
            "running": json.dumps(self.running),
            "courses": json.dumps([asdict(course) for course in self.courses]),
        }
        tensors = {key: t.contiguous() for key, t in self.tensors.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, save(tensors, said))

    @classmethod
    def read(cls, path: Path, about: str) -> Snapshot:
        """Read a file.

        Raises:
            InputError: If it is no snapshot, or one of another training.
        """
        try:
            with safe_open(path, framework="pt") as file:
                said = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"the checkpoint {path} cannot be read ({error}); delete it to begin anew"
            ) from error
        if said.get("format") != _FORMAT:
            raise InputError(f"{path} is no checkpoint of a training; give another path")
        if said["about"] != about:
            raise InputError(
                f"the checkpoint {path} is of another training ({said['about']}; wanted: {about}); "
                "delete it or give another path"
            )
        courses = (_course(entry) for entry in json.loads(said["courses"]))
        return cls(tuple(courses), tuple(json.loads(said["running"])), tensors, about)


def capture(group: Group, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return all tensors of a group and its optimizer, the networks as first axis; no copies."""
    found = group.tensors()
    for name, p in group.trained.items():
        for key, value in optimizer.state[p].items():
            if key == "step":  # one number for the whole group, and the only one of all optimizers
                found[f"{key}/{name}"] = value.reshape(1).repeat(len(group))
            elif value is not None:
                found[f"{key}/{name}"] = group.by_network(value)
    return found


def restore(group: Group, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors that were captured into a group and its optimizer."""
    for key, t in group.tensors().items():
        t.copy_(tensors[key])
    state: dict[int, dict[str, Tensor]] = {}
    for index, (name, p) in enumerate(group.trained.items()):
        state[index] = own = {}
        for key in (k for k in tensors if k.partition("/")[2] == name):
            kind = key.partition("/")[0]
            if kind == "step":
                own[kind] = tensors[key][0]
            elif kind not in ("parameter", "buffer"):
                own[kind] = torch.empty_like(p)  # laid out as the parameter is
                group.by_network(own[kind]).copy_(tensors[key])
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def _course(entry: Mapping[str, Any]) -> Course:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Course(**values)
