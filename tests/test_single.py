"""Modules of several inputs or outputs, seen as modules of one tensor each."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reluctant as rl
from reluctant.theory.errors import InputError

Pair = namedtuple("Pair", "first second")
X, Y = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[[2.0], [-1.0]]])


class Two(nn.Module):
    def __init__(self, give: Any = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a, self.b = nn.Linear(3, 2), nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randint(-3, 4, p.shape, generator=generator))
        self.give = give

    def forward(self, x: Tensor, y: Tensor) -> Any:
        h = torch.relu(self.a(x) + self.b(y)[..., 0])
        return h if self.give is None else self.give(h, h.sum(1))


@pytest.mark.parametrize("example", [(X, Y), {"x": X, "y": Y}, {"y": Y, "x": X}])
def test_inputs_lie_side_by_side(example: Any) -> None:
    module, x = rl.one_tensor(Two(), example)
    assert x.shape == (1, 5)
    assert torch.equal(module(x), Two()(X, Y))
    net = rl.trace(module, x)
    assert rl.count_paths(net, x) == 3 * 2 + 2
    assert torch.equal(
        rl.paths(net, x).output(), Two()(X, Y).double()
    )  # numbers are multiples of ½


@pytest.mark.parametrize(
    ("give", "output"),
    [
        (lambda h, s: (h, s), 1),
        (lambda h, s: (h, s), -1),
        (lambda h, s: {"h": h, "s": s}, "s"),
        (Pair, "second"),
        (Pair, 1),
    ],
)
def test_one_output_is_chosen(give: Any, output: int | str) -> None:
    module, x = rl.one_tensor(Two(give), (X, Y), output)
    assert torch.equal(module(x), Two()(X, Y).sum(1))
    report = rl.check(Two(give), (X, Y), "dual.inner-product", output=output, effort="quick")
    assert report.subject == "Two"
    assert str(report["dual.inner-product"].outcome) == "HOLDS"


def test_one_of_each_stays_as_it_is() -> None:
    module = nn.Linear(3, 2)
    assert rl.one_tensor(module, X) == (module, X)


@pytest.mark.parametrize(
    ("example", "output", "message"),
    [
        ((X, Y.double()), None, "input 1 differs in type from the first: torch.float64"),
        ((X, Y.repeat(2, 1, 1)), None, "input 1 differs in examples from the first: 2, 1"),
        ({"x": X, "y": torch.ones(1, 2, 1, dtype=torch.long)}, None, "input y must be floating"),
        ((), None, "a sequence of tensors or a mapping"),
        ((X, Y), 2, "there is no output 2: the module returns 2"),
        ((X, Y), "sum", "there is no output 'sum'; choose one by its position, 0 to 1"),
        ((X, Y), None, "the module returns a tuple; choose one by its position, 0 to 1"),
    ],
)
def test_misuse_names_the_choices(example: Any, output: int | str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rl.trace(*rl.one_tensor(Two(lambda h, s: (h, s)), example, output))


def test_a_tuple_where_a_tensor_is_wanted_names_the_remedy() -> None:
    with pytest.raises(InputError, match=r"one_tensor\(module, example\)"):
        rl.trace(Two(), (X, Y))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"one_tensor\(module, example, output=\.\.\.\)"):
        rl.trace(nn.LSTM(3, 2), torch.ones(2, 4, 3))
