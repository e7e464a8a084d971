"""Kernels in files: whole or absent, the same in pieces, and taken up where they were left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import reluctant as rl
from reluctant.theory import streaming
from reluctant.theory.streaming import KernelJob, compute_block, write_kernel


def chain(outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, outputs)
    )


def inputs(n: int = 20, seed: int = 0) -> Tensor:
    """Draw integers: kernels of them are exact in float64, so that equal means equal."""
    return torch.randint(-3, 4, (n, 5), generator=torch.Generator().manual_seed(seed)).float()


def job(**changes: Any) -> KernelJob:
    return replace(KernelJob(chain(), inputs(), dtype=torch.float64, block=7), **changes)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Record which blocks are computed."""
    found: list[tuple[int, int]] = []

    def recording(job: KernelJob, i: int, j: int) -> Any:
        found.append((i, j))
        return compute_block(job, i, j)

    monkeypatch.setattr(streaming, "compute_block", recording)
    return found


@pytest.mark.parametrize(
    ("law", "call"),
    [
        ("npk", rl.npk),
        ("nngp", lambda *a, **k: rl.nngp_law(*a, variance=0.25, **k)),
        ("ntk", lambda *a, **k: rl.ntk_law(*a, variance=0.25, **k)),
    ],
)
@pytest.mark.parametrize("second", [None, inputs(9, seed=1)])
def test_the_file_holds_the_kernel(
    here: Path, law: Any, call: Callable[..., Tensor], second: Tensor | None
) -> None:
    asked = job(law=law, variance=0.25, y=second, module=chain(3))
    kernel = write_kernel(asked, here / "K.npy")
    expected = call(asked.module, asked.x, second, memory=1 << 31)
    assert np.array_equal(kernel, expected.numpy())
    assert sorted(p.name for p in here.glob("K*")) == ["K.npy", "K.npy.json"]
    assert np.array_equal(np.load(here / "K.npy"), kernel)
    assert not kernel.flags.writeable


@pytest.mark.parametrize("normalise", ["none", "trace", "width", "gates"])
def test_normalisations_are_those_of_npk(here: Path, normalise: Any) -> None:
    kernel = write_kernel(job(normalise=normalise), here / "K.npy")
    expected = rl.npk(chain(), inputs(), normalise=normalise).numpy()
    assert np.array_equal(kernel, expected)


def test_outputs_with_kernels_of_their_own_are_a_third_axis(here: Path) -> None:
    module = nn.Sequential(nn.Conv1d(1, 3, 2), nn.ReLU(), nn.Conv1d(3, 2, 2))
    x = inputs()[:, None]
    kernel = write_kernel(KernelJob(module, x, dtype=torch.float64, block=6), here / "K.npy")
    expected = rl.npk(module, x).numpy()
    assert kernel.shape == expected.shape == (20, 20, 6)
    assert np.array_equal(kernel, expected)
    traced = write_kernel(
        KernelJob(module, x, law="ntk", dtype=torch.float64, block=6), here / "T.npy"
    )
    assert np.array_equal(traced, rl.ntk_law(module, x).numpy())


def test_the_cost_is_that_of_half_the_pairs() -> None:
    cost = job().cost
    assert (cost.pairs, cost.blocks, cost.bytes) == (210, 6, 20 * 20 * 8)
    assert job(y=inputs(9)).cost.pairs == 180
    assert str(cost).startswith("210 pairs, about ")


def test_an_interrupted_kernel_goes_on_where_it_was(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_kernel(job(), here / "whole.npy")
    path = here / "K.npy"

    def stop(what: str, done: int, total: int) -> None:
        if "3 of 6" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_kernel(job(), path, progress=stop)
    assert not path.exists()
    with (here / "K.npy.journal").open("a") as journal:
        journal.write("14 1")  # a line that was cut off
    computed = counted(monkeypatch)
    said: list[tuple[int, int]] = []
    kernel = write_kernel(job(), path, progress=lambda _, done, total: said.append((done, total)))
    assert len(computed) == 3
    assert np.array_equal(kernel, whole)
    assert said[0][0] > 0
    assert said[-1] == (210, 210)


def test_what_is_there_is_not_computed_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = np.array(write_kernel(job(), here / "K.npy"))
    computed = counted(monkeypatch)
    assert np.array_equal(write_kernel(job(), here / "K.npy"), first)
    assert not computed
    with pytest.raises(rl.InputError, match=r"K\.npy is there and holds something else"):
        write_kernel(job(x=inputs(seed=3)), here / "K.npy")
    other = write_kernel(job(x=inputs(seed=3)), here / "K.npy", overwrite=True)
    assert not np.array_equal(other, first)


def test_an_overwritten_kernel_is_never_taken_for_the_new_one(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kernel(job(), here / "K.npy")
    other = job(x=inputs(seed=3))

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(streaming.os, "replace", stop)
        patch.setattr(streaming, "write_whole", lambda path, text: path.write_text(text))
        with pytest.raises(KeyboardInterrupt):
            write_kernel(other, here / "K.npy", overwrite=True)
    computed = counted(monkeypatch)
    kernel = write_kernel(other, here / "K.npy")
    assert not computed
    assert np.array_equal(kernel, rl.npk(other.module, other.x).numpy())


def test_a_variance_may_be_a_whole_number(here: Path) -> None:
    kernel = write_kernel(job(law="nngp", variance=2), here / "K.npy")
    assert np.array_equal(kernel, rl.nngp_law(chain(), inputs(), variance=2).numpy())
    assert json.loads((here / "K.npy.json").read_text())["variance"] == 2.0


@pytest.mark.parametrize(
    "changed",
    [
        {"x": inputs(seed=2)},
        {"law": "nngp"},
        {"normalise": "width"},
        {"sources": False},
        {"dtype": torch.float32},
        {"block": 6},
        {"module": chain(2)},
    ],
)
def test_pieces_of_another_kernel_are_not_taken(
    here: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_kernel(job(), here / "K.npy", progress=stop)
    asked = job(**changed)
    computed = counted(monkeypatch)
    write_kernel(asked, here / "K.npy")
    assert len(computed) == asked.cost.blocks


def test_a_sidecar_says_what_the_file_holds(here: Path) -> None:
    names = [name for name, _ in chain().named_parameters()]
    write_kernel(job(law="nngp", variance=dict.fromkeys(names, 0.5)), here / "K.npy")
    facts = json.loads((here / "K.npy.json").read_text())
    assert facts["law"] == "nngp"
    assert facts["shape"] == [20, 20]
    assert facts["variance"]["0.weight"] == 0.5


SCRIPT = """
import sys, time, torch
sys.path[:0] = {path!r}
from test_streaming import job
from reluctant.theory.streaming import write_kernel
def slow(what, done, total):
    print(what, flush=True)
    time.sleep(60 if "2 of 6" in what else 0)
write_kernel(job(), "K.npy", progress=slow)
"""


def started(here: Path) -> subprocess.Popen[str]:
    script = SCRIPT.format(path=[str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=here,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_kernel_goes_on_and_two_do_not_write_it_at_once(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_kernel(job(), here / "whole.npy")
    with started(here) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "2 of 6" in line:
                break
        with pytest.raises(rl.InputError, match=r"another process is writing .*K\.npy"):
            write_kernel(job(), here / "K.npy")
        os.kill(process.pid, signal.SIGKILL)
    assert not (here / "K.npy").exists()
    computed = counted(monkeypatch)
    assert np.array_equal(write_kernel(job(), here / "K.npy"), whole)
    assert len(computed) == 4


def test_what_cannot_be_written_is_refused_first(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(rl.InputError, match=r"written as \.npy"):
        write_kernel(job(), here / "K.txt")
    with pytest.raises(rl.InputError, match="only the kernel itself is normalised"):
        write_kernel(job(law="ntk", normalise="trace"), here / "K.npy")
    with pytest.raises(rl.InputError, match=r"the law must be one of npk, nngp, ntk"):
        write_kernel(job(law="nkp"), here / "K.npy")
    large = KernelJob(chain(), 1e30 * inputs(), dtype=torch.float32)
    with pytest.raises(rl.InputError, match="exceeds the largest float32"):
        write_kernel(large, here / "K.npy")
    monkeypatch.setattr(streaming.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 9})())
    with pytest.raises(rl.InputError, match=r"takes 3\.2e-06 GB, and .* has 9e-09 GB left"):
        write_kernel(job(), here / "other.npy")
