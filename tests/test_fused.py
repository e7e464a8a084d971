"""The accelerator's one pass beside the slices of the CPU; interpreted where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reluctant.theory.folds import fold, windows
from reluctant.theory.fused import sources
from reluctant.theory.operators import make_convolution

SCRIPT = """
import torch
from reluctant.theory.folds import fold, windows
from reluctant.theory.fused import multiply_and_fold, sources
from test_fused import CASES, read_of

device = "cuda" if torch.cuda.is_available() else "cpu"
generator = torch.Generator().manual_seed(0)
for case in CASES:
    read, shape = read_of(*case)
    positions = torch.Size(shape).numel()
    draw = lambda *sizes: torch.randint(-9, 10, sizes, generator=generator).float().to(device)
    product, u = draw(2, positions, 3, positions), draw(2, positions, 3, 2 * positions)[..., ::2]
    table = sources(read, shape).to(device)
    for factor in (u, None):
        whole = product if factor is None else product * factor
        expected = 1 + 0.5 * fold(whole.reshape(2, *shape, 3, *shape), read, read)
        found = torch.ones_like(expected)
        multiply_and_fold(product, factor, table, table, found, 0.5)
        assert torch.equal(found, expected), case

from torch import nn
import reluctant as rl
from reluctant.theory import propagation

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.last = nn.Linear(4, 1)

    def forward(self, x):
        x = self.first(x).relu()
        x = (x + self.second(x)).relu()
        return self.last(x.mean((2, 3)))

circular = nn.Sequential(
    nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular", bias=False), nn.ReLU(),
    nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular", bias=False), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1),
)
x = torch.randint(-3, 4, (2, 1, 4, 4), generator=generator).float().to(device)
for module in (Residual().to(device), circular.to(device)):
    for law in (rl.npk, rl.ntk_law):
        propagation.fused.is_available = lambda _: False
        expected = law(module, x)
        propagation.fused.is_available = lambda _: True
        assert torch.equal(law(module, x), expected), law
print("all equal")
"""

CASES = [
    ((4, 3), [3, 3], [1], [1], True),
    ((4, 3), [3, 3], [1], [1], False),
    ((5, 4), [3, 2], [2], [1], False),
    ((6,), [3], [1], [1], True),
    ((3, 3), [1, 1], [2], [0], False),
    ((17, 16), [3, 3], [1], [1], True),  # more columns than one program has
]


def read_of(shape, taps, stride, padding, circular):  # type: ignore[no-untyped-def]
    """Return the windows of a convolution, padded with zeros or around."""
    routed = [
        [k % s for k in range(-padding[0], s + padding[0])] if circular else list(range(s))
        for s in shape
    ]
    own = [0] if circular else padding
    sizes = [len(r) for r in routed]
    operator = make_convolution([1, 1, *taps], sizes, stride, own, [1], 1)
    return windows(operator, routed, shape), shape


@pytest.mark.parametrize("case", CASES)
def test_sources_are_what_the_windows_read(case: tuple[object, ...]) -> None:
    read, shape = read_of(*case)
    positions = torch.Size(shape).numel()
    kernel = torch.randint(0, 99, (1, positions, 1, positions)).double()
    table = sources(read, shape)
    expected = torch.zeros(1, table.shape[1], 1, table.shape[1], dtype=torch.float64)
    for tap in table.long():
        picked = kernel[:, tap][:, :, :, tap]
        present = (tap >= 0).double()
        expected += picked * present[:, None, None] * present
    assert torch.equal(fold(kernel.reshape(1, *shape, 1, *shape), read, read), expected)


def test_one_pass_is_the_same(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton comes with torch for accelerators")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert said.stdout.strip() == "all equal", said.stderr
