"""What comes before a refusal: found, named, read and checked by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from model_specimens import F64, seeded
from torch import Tensor, nn

import reluctant as rl
from reluctant.markdown import markdown
from reluctant.reports.page import render_check
from reluctant.theory.parts import Until

X = torch.randn(3, 4, generator=seeded(0), dtype=F64)
FEW = ["dual.inner-product", "dual.psd", "dual.homogeneous", "dual.rescale"]


class Refused(nn.Module):
    """Two layers, of which a function joins the results, and a third."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.small, self.large = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 9), nn.ReLU())
        self.wide, self.last = nn.Linear(9, 4), nn.Linear(4, 1)
        self.double()
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        joined = self.join(self.small(x), self.wide(self.large(x)))
        return self.last(joined)  # type: ignore[no-any-return]


def _branch(t: Tensor, s: Tensor) -> Tensor:
    return t if bool(t.sum() > 0) else s


def _item(t: Tensor, s: Tensor) -> Tensor:
    return t * float(s.max().item() > 0.5)


JOINS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "gelu": (lambda _, s: F.gelu(s), "wide"),
    "product": (lambda t, s: t * s, "wide"),
    "of a function of it": (lambda t, s: F.gelu(t) * (2 * s + 1), "small"),
    "sum": (lambda t, s: F.tanh(torch.relu(2 * t + s)), "%relu_1"),
    "attention": (lambda t, s: s * F.softmax(t, 1), "small"),
    "branch": (_branch, "wide"),
    "item": (_item, "wide"),
}


@pytest.mark.parametrize("name", JOINS)
def test_the_largest_readable_part_is_named_and_is_what_the_module_computes(name: str) -> None:
    join, named = JOINS[name]
    module = Refused(join)
    with pytest.raises(rl.UnsupportedOperation, match=r"test_parts.py:\d+") as caught:
        rl.trace(module, X)
    assert caught.value.until == named
    (note,) = caught.value.__notes__
    assert note.endswith(f"reluctant.check(module, example, until={named!r})")
    part = rl.until(module, named)
    for x in (X, X[:1], -2 * X):
        wanted = module.wide(module.large(x))
        if named == "small":
            wanted = module.small(x)
        elif named == "%relu_1":
            wanted = torch.relu(2 * module.small(x) + wanted)
        assert torch.equal(part(x), wanted)
        rl.trace(part, x)


def test_nothing_is_named_where_nothing_has_weights() -> None:
    module = nn.Sequential(nn.Tanh(), nn.Linear(4, 2)).double()
    with pytest.raises(rl.UnsupportedOperation) as caught:
        rl.trace(module, X)
    assert caught.value.until == "" and not hasattr(caught.value, "__notes__")
    (note,) = rl.check(module, X, FEW, effort="quick").notes
    assert "holds no part with weights that can be read by itself" in note


def test_the_report_lists_once_what_needs_no_more_and_the_line_that_tries_it() -> None:
    module = Refused(JOINS["sum"][0])
    report = rl.check(module, X, FEW, effort="quick")
    assert {v.outcome for v in report} == {rl.Outcome.UNSUPPORTED}
    (note,) = report.notes
    assert "3 of 4 statements: dual.inner-product, dual.psd, dual.rescale; try them with " in note
    line = note.rpartition("try them with ")[2]
    again = eval(line, {"reluctant": rl, "module": module, "example": X})
    met = [v.statement for v in again if v.outcome is rl.Outcome.HOLDS]
    assert not again.notes and not again.failures
    assert set(FEW) - set(met) == {"dual.homogeneous"}
    assert rl.Report.from_json(report.to_json()).notes == report.notes
    assert markdown(report, by_statement=False).count("try them with") == 1
    assert render_check(report).count("try them with") == 1


def test_a_part_of_what_can_be_read_whole() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU()).double()
    first = nn.Sequential(net[0], net[1])
    for target in ("1", "%relu"):
        part = rl.until(net, target)
        assert torch.equal(rl.npk(part, X, output=0), rl.npk(first, X, output=0))
        assert torch.equal(rl.ntk(part, X), rl.ntk(first, X))
    report = rl.check(net, X, until="2", effort="quick")
    assert not report.failures and not report.notes
    assert report["dual.inner-product"].outcome is rl.Outcome.HOLDS


def test_the_first_call_of_a_module_counts_and_the_axis_of_examples_comes_first() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4).double()

        def forward(self, x: Tensor) -> Tensor:
            h = self.layer(x)
            return torch.tanh(self.layer(h).transpose(0, 1)).transpose(0, 1)

    module = Twice()
    assert torch.equal(Until(module, "layer")(X), module.layer(X))
    turned = rl.until(module, "%transpose")
    assert torch.equal(turned(X), module.layer(module.layer(X)))
    assert rl.trace(turned, X).output_size == 4


def test_a_part_follows_the_weights_that_the_module_has_now() -> None:
    module = Refused(JOINS["sum"][0])
    part = rl.until(module, "%relu_1")
    before = part(X)
    with torch.no_grad():
        module.small.weight.zero_()
    assert not torch.equal(part(X), before)
    part(X).sum().backward()
    assert module.wide.weight.grad is not None and module.last.weight.grad is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("large.7", "there is no module 'large.7'; there are small, large, large.0, large.1, wide"),
        ("", "there is no module ''"),
        ("%gelu_4", r"there is no node %gelu_4; there are linear, .*gelu"),
        ("join", "there is no module 'join'"),
    ],
)
def test_a_part_that_is_none_is_refused_in_one_line(target: str, message: str) -> None:
    with pytest.raises(rl.InputError, match=message) as caught:
        rl.check(Refused(lambda t, s: F.gelu(s)), X, FEW, until=target)
    assert "\n" not in str(caught.value)


def test_a_module_that_is_not_called_or_returns_no_tensor_is_no_part() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle, self.pair = nn.Linear(4, 4), nn.LSTM(4, 2)
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            return self.pair(x)[0]  # type: ignore[no-any-return]

    with pytest.raises(rl.InputError, match="idle is not called"):
        rl.trace(rl.until(Idle(), "idle"), X)
    with pytest.raises(rl.InputError, match="pair gives a tuple, no tensor"):
        rl.trace(rl.until(Idle(), "pair"), X)


def test_parts_of_a_module_of_several_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(4, 3).double(), nn.Linear(2, 3).double()

        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"score": torch.tanh(torch.relu(self.left(x)) + self.right(y))}

    pair = (X, X[:, :2])
    (note,) = rl.check(Two(), pair, FEW, output="score", effort="quick").notes
    assert "output='score', until='%add'" in note
    again = rl.check(Two(), pair, FEW, output="score", effort="quick", until="%add")
    assert again["dual.inner-product"].outcome is rl.Outcome.HOLDS
    left = rl.check(Two(), pair, FEW, output="score", effort="quick", until="left")
    assert left["dual.inner-product"].outcome is rl.Outcome.HOLDS
