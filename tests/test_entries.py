"""Where the entries of weights stand, against lists of places; and what a reading holds of them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from reluctant.theory.entries import Entries
from reluctant.theory.meter import Meter
from reluctant.theory.symmetry import shift_symmetry
from reluctant.theory.tracing import trace

F64 = torch.float64
Move = Callable[[Tensor], Tensor]
MOVES: dict[str, Move] = {
    "turned": lambda t: t.movedim(0, -1),
    "every second": lambda t: t[..., ::2],
    "all but the first": lambda t: t[1:] if len(t) > 1 else t,
    "one row": lambda t: t[:1],
    "of two rows": lambda t: t.expand(2, *t.shape[1:]) if len(t) == 1 else t,
    "an axis more": lambda t: t.unsqueeze(1),
    "flattened": lambda t: t.flatten(),
    "in rows": lambda t: t.reshape(2, -1) if t.numel() % 2 == 0 else t,
    "mirrored": lambda t: t.flip(0),
    "copied": lambda t: t.clone(),
    "over itself": lambda t: t.unfold(0, 2, 1) if len(t) > 1 else t,
}


@st.composite
def arranged(draw: st.DrawFn, shape: tuple[int, ...] = (4, 3, 2)) -> tuple[Entries, Tensor]:
    """Draw entries, and the list of their places."""
    entries, places = Entries.whole(shape), torch.arange(24).reshape(shape)
    for name in draw(st.lists(st.sampled_from(list(MOVES)), max_size=5)):
        entries, places = entries.moved(MOVES[name]), MOVES[name](places)
    return entries, places


@given(arranged())
def test_entries_are_a_list_of_places(drawn: tuple[Entries, Tensor]) -> None:
    entries, places = drawn
    flat = torch.randn(5, 24, dtype=F64)[2:, :]
    assert torch.equal(entries.listed(), places)
    assert torch.equal(entries.of(flat[0]), flat[0][places])
    assert torch.equal(entries.of(flat), flat[:, places])
    assert entries.repeat == (places.unique().numel() < places.numel())
    for axis in range(places.ndim):
        along = places.movedim(axis, 0)
        assert entries.repeat_along(axis) == bool((along == along[:1]).all())


@given(arranged(), st.integers(0, 2**32))
def test_what_is_added_or_put_is_at_its_places(drawn: tuple[Entries, Tensor], seed: int) -> None:
    entries, places = drawn
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-9, 9, places.shape, generator=generator).double()
    flat = torch.randint(-9, 9, (24,), generator=generator).double()
    expected = flat.clone().index_add_(0, places.flatten(), values.flatten())
    added = flat.clone()
    entries.add(added, values)
    assert torch.equal(added, expected)
    if not entries.repeat:
        entries.put(flat, values)
        assert torch.equal(flat[places], values)
        rest = torch.ones(24, dtype=torch.bool)
        rest[places.flatten()] = False
        added[places.flatten()] -= values.flatten()
        assert torch.equal(flat[rest], added[rest])


@given(arranged(), arranged())
def test_two_arrangements_meet_or_are_one(
    one: tuple[Entries, Tensor], other: tuple[Entries, Tensor]
) -> None:
    (left, mine), (right, theirs) = one, other
    assert left.meet(right) == bool(torch.isin(mine, theirs).any())
    assert left.are(right) == (mine.shape == theirs.shape and torch.equal(mine, theirs))


SIDE = 300


class Products(nn.Module):
    """Weights as they are, transposed, halves of one, and a row of another as a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Linear(SIDE, SIDE)
        self.turned = nn.Parameter(torch.randn(SIDE, SIDE) / SIDE)
        self.packed = nn.Parameter(torch.randn(2 * SIDE, SIDE) / SIDE)

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain(x).relu() @ self.turned
        left, right = self.packed[:SIDE], self.packed[SIDE:]
        x = nn.functional.linear(x.relu(), left) @ right.t()
        return x + self.turned[:1].expand(1, SIDE)


class Pictures(nn.Sequential):
    """Convolutions and a transposed one, of many weights at few positions."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, SIDE, 1), nn.ReLU(), nn.Conv2d(SIDE, SIDE, 3, padding=1), nn.ReLU(),
            nn.Conv2d(SIDE, SIDE, 1, groups=2), nn.Flatten(), nn.Linear(4 * SIDE, 4),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "x"), [(Products(), torch.randn(2, SIDE)), (Pictures(), torch.randn(1, 3, 2, 2))]
)
def test_a_reading_holds_no_more_than_a_little_of_its_weights(module: nn.Module, x: Tensor) -> None:
    """It holds no copy of the weights and no list of places; while it is made, one copy and float64."""
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    trace(module, x)  # what is made once for all modules
    gc.collect()
    with Meter() as meter:
        net = trace(module, x)
        if x.ndim > 2:
            shift_symmetry(net)
        gc.collect()
        held = meter.held
    # beside weights there are activations, gates, constants and labels, all of a few thousand entries
    assert held < 0.05 * size
    assert meter.peak < (1 + 2 + 0.5) * size
    assert sum(weight.size for weight in net.weights) * 4 >= size


def test_what_is_known_of_a_network_goes_with_it() -> None:
    module = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv1d(2, 1, 6))
    gone, x = weakref.ref(module), torch.randn(2, 1, 6)
    net = trace(module, x)
    shift_symmetry(net)
    del module, net
    gc.collect()
    assert gone() is None
