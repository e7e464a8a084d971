"""``reluctant kernel`` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cli_specimens import run

import reluctant as rl
from reluctant.targets import make_module


@pytest.fixture
def data(here: Path) -> Path:
    rows = np.random.default_rng(0).integers(-3, 4, (12, 3)).astype(np.float32)
    np.savez(here / "X.npz", x=rows)
    return here / "X.npz"


def asked(*more: str) -> list[str]:
    return ["kernel", "my_net.py:Net", "--data", "X.npz", "--out", "K.npy", *more]


def inputs(data: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(data)["x"])


def test_the_kernel_of_a_data_set_is_written(data: Path) -> None:
    said = run(*asked("--dtype", "float64"))
    assert said.exit_code == 0
    assert said.stdout.strip() == "K.npy"
    assert "npk, 12 x 12: 78 pairs, about " in said.stderr
    module = make_module("my_net.py:Net")
    assert np.array_equal(np.load("K.npy"), rl.npk(module, inputs(data)).numpy())


def test_laws_second_inputs_and_workers(data: Path) -> None:
    np.save("Y.npy", inputs(data)[:5].numpy() * 2)
    law = ["--law", "ntk", "--variance", "0.25", "--no-sources", "--dtype", "float64"]
    said = run(*asked("--against", "Y.npy", "--workers", "2", *law))
    assert said.exit_code == 0
    module, x = make_module("my_net.py:Net"), inputs(data)
    expected = rl.ntk_law(module, x, 2 * x[:5], 0.25, sources=False)
    assert np.array_equal(np.load("K.npy"), expected.numpy())


def test_a_dry_run_says_what_it_takes_and_writes_nothing(data: Path) -> None:
    said = run(*asked("--dry-run"))
    assert said.exit_code == 0
    assert "5.76e-07 GB on disk, 1 blocks" in said.stderr
    assert not Path("K.npy").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--memory", "huge"], "a size is a number with K, M, G or T, such as 2G, got 'huge'"),
        (["--memory", "0"], "a size is a number"),
        (["--data", "none.npz"], "none.npz"),
        (["--out", "K.txt"], "the kernel is written as .npy, got K.txt"),
        (["--out", "X.npz/K.npy"], "cannot be written"),
        (["--law", "ntk", "--normalise", "trace"], "only the kernel itself is normalised"),
        (["--normalise", "trace", "--against", "X.npz"], "needs the square kernel"),
        (["--output", "7"], "output 7 does not exist: the network has 2 output coordinates"),
        (["--variance", "-1"], "--variance"),
        (["--scheduler", "nowhere"], "no Dask scheduler answers at nowhere"),
    ],
)
def test_misuse_is_one_line(data: Path, more: list[str], words: str) -> None:
    said = run(*asked(*more))
    assert said.exit_code == 2
    last = said.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert words in last
    assert not Path("K.npy").exists()


def test_what_is_there_is_kept(data: Path) -> None:
    assert run(*asked()).exit_code == 0
    assert run(*asked()).exit_code == 0
    said = run(*asked("--normalise", "width"))
    assert (said.exit_code, "holds something else" in said.stderr) == (2, True)
    assert run(*asked("--normalise", "width", "--overwrite")).exit_code == 0
