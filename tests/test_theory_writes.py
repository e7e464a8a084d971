"""Writes into a part of a tensor: read as routing, with no entry added to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from model_specimens import F64, integer_weights, seeded
from torch import Tensor, nn

import reluctant as rl
from reluctant.theory import rules_writes
from reluctant.theory.lowering import RULES

X = torch.tensor([[1.0, -2.0, 3.0], [0.0, 1.0, 2.0], [-1.0, 0.0, 1.0]], dtype=F64)
Write = Callable[[Tensor, Tensor], Tensor]


class Writing(nn.Module):
    def __init__(self, write: Write) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.shift = nn.Parameter(torch.zeros(4))
        self.double()
        integer_weights(self, seeded(4))
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.first(x)
        return self.last(self.write(hidden, self.shift))  # type: ignore[no-any-return]


def _relu_of_a_slice(h: Tensor, _: Tensor) -> Tensor:
    h[:, :2].relu_()
    return h


def _relu_of_every_other(h: Tensor, _: Tensor) -> Tensor:
    h[:, 1::2].relu_()
    return h


def _clamp_of_a_column(h: Tensor, _: Tensor) -> Tensor:
    h[:, 1].clamp_(min=0)
    return h


def _relu_of_a_view(h: Tensor, _: Tensor) -> Tensor:
    h.view(-1, 2, 2)[:, 0].relu_()
    return h


def _relu_of_rows_of_a_view(h: Tensor, _: Tensor) -> Tensor:
    h.view(-1, 2, 2)[:, :1].relu_()
    return h


def _assigned(h: Tensor, _: Tensor) -> Tensor:
    h[:, :2] = torch.relu(h[:, 2:])
    return h


def _copied(h: Tensor, _: Tensor) -> Tensor:
    h[:, 1:3].copy_(h[:, 2:])
    return h


def _into_zeros(h: Tensor, _: Tensor) -> Tensor:
    wide = h.new_zeros(h.shape[0], 2, 4)
    wide[:, 1, 1:3] = torch.relu(h)[:, 1:3]
    return wide.sum(1)


def _scaled(h: Tensor, _: Tensor) -> Tensor:
    h[:, ::2] *= 2.0
    return h


def _filled(h: Tensor, _: Tensor) -> Tensor:
    h[:, 1] = 3.0
    return h


def _zeroed(h: Tensor, _: Tensor) -> Tensor:
    h[:, 1:3].zero_()
    return h


def _bias_added(h: Tensor, shift: Tensor) -> Tensor:
    h[:, :2] += shift[2:]
    return h


def _bias_written(h: Tensor, shift: Tensor) -> Tensor:
    h[:, :2] = shift[2:]
    return h


def _one_number_written(h: Tensor, shift: Tensor) -> Tensor:
    h[:, :3] = shift[:1]
    return h


def _over_the_batch(h: Tensor, _: Tensor) -> Tensor:
    h[:, :] = torch.relu(h)
    return h


def _scattered_over_the_batch(h: Tensor, _: Tensor) -> Tensor:
    return torch.slice_scatter(h, torch.relu(h), 0)


WRITES: tuple[Write, ...] = (
    _relu_of_a_slice, _relu_of_every_other, _clamp_of_a_column, _relu_of_a_view,
    _relu_of_rows_of_a_view, _assigned, _copied, _into_zeros, _scaled, _filled, _zeroed,
    _bias_added, _bias_written, _one_number_written, _over_the_batch, _scattered_over_the_batch,
)  # fmt: skip


@pytest.mark.parametrize("write", WRITES)
def test_paths_kernel_and_counts_follow_a_write_exactly(write: Write) -> None:
    module = Writing(write)
    net = rl.trace(module, X)
    assert torch.equal(net.forward(X, net.gates(X), net.weight_values()), module(X))
    paths = rl.paths(net, X)
    assert torch.equal(paths.output(), module(X))
    for output in range(2):
        assert torch.equal(rl.npk(net, X, output=output), paths.kernel(output))
    assert rl.count_paths(module, X, sources=True) == len(paths.starts)


@pytest.mark.parametrize(
    "write", [_relu_of_a_slice, _relu_of_every_other, _clamp_of_a_column, _relu_of_a_view]
)
def test_only_the_written_entries_are_gated(write: Write) -> None:
    module = Writing(write)
    net = rl.trace(module, X)
    written = module.write(torch.full((3, 4), -1.0, dtype=F64), module.shift) == 0.0
    (layer,) = net.gates(X)
    assert layer[0].numel() == int(written[0].sum())
    assert net.gate_layers[0].own and net.gate_layers[0].hard


def test_the_written_and_the_unwritten_keep_their_own_paths() -> None:
    """Zeros begin no path, and what is written over ends its own."""
    counts = {w: rl.count_paths(Writing(w), X) for w in (_relu_of_a_slice, _zeroed, _filled)}
    assert counts == {_relu_of_a_slice: 24, _zeroed: 12, _filled: 18}
    assert not any(type(n).__name__ == "Constant" for n in rl.trace(Writing(_zeroed), X).nodes)


def test_the_last_write_to_an_entry_is_the_one_that_stays() -> None:
    def twice(h: Tensor, _: Tensor) -> Tensor:
        h[:, :3].relu_()
        h[:, 1:] = -h[:, 1:]
        return h

    module = Writing(twice)
    assert torch.equal(rl.paths(module, X).output(), module(X))


def test_a_write_into_the_entries_next_to_them_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "aten.slice_scatter.default"
    right = rules_writes._slice_scatter

    def shifted(lower, call):  # type: ignore[no-untyped-def]
        arguments = {**call.arguments, "start": call["start"] + 1, "end": call["end"] + 1}
        return right(lower, replace(call, arguments=arguments))

    monkeypatch.setitem(RULES, name, shifted)
    with pytest.raises(rl.UnsupportedOperation, match="the reading of Writing gives"):
        rl.trace(Writing(_relu_of_a_slice), X)


def _some_examples(h: Tensor, _: Tensor) -> Tensor:
    h[1:] = 0.0
    return h


def _one_example(h: Tensor, _: Tensor) -> Tensor:
    h[0] = 0.0
    return h


def _gates_among_data(h: Tensor, _: Tensor) -> Tensor:
    h[:, :2] = (h[:, 2:] > 0).to(h.dtype)
    return h


def _data_among_gates(h: Tensor, _: Tensor) -> Tensor:
    gates = (h > 0).to(h.dtype)
    gates[:, :2] = h[:, :2]
    return gates


def _integers(h: Tensor, _: Tensor) -> Tensor:
    whole = torch.zeros(h.shape, dtype=torch.long)
    whole[:, :2] = h[:, :2]
    return whole.to(h.dtype)


def _trained_fill(h: Tensor, shift: Tensor) -> Tensor:
    h[:, 1].fill_(shift[0])
    return h


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (_some_examples, "mixes the examples"),
        (_one_example, "mixes the examples"),
        (_gates_among_data, "it mixes gates and data"),
        (_data_among_gates, "it mixes gates and data"),
        (_integers, "it writes into a tensor of integers"),
        (_trained_fill, "it fills with a number that is trained"),
    ],
)
def test_a_write_that_is_no_routing_is_refused_by_place(write: Write, why: str) -> None:
    with pytest.raises(rl.UnsupportedOperation, match=rf"test_theory_writes.py:\d+: .*{why}"):
        rl.trace(Writing(write), X)


def test_gates_may_be_written_into_gates() -> None:
    def gated(h: Tensor, _: Tensor) -> Tensor:
        gates = (h > 0).to(h.dtype)
        gates[:, :2] = 1.0
        return h * gates

    module = Writing(gated)
    (layer,) = rl.trace(module, X).gates(X)
    assert torch.equal(layer[:, :2], torch.ones(3, 2, dtype=F64))
    assert torch.equal(rl.paths(module, X).output(), module(X))


class Shared(nn.Module):
    """A trained number that stands at several places of what is added, or of a weight matrix."""

    def __init__(self, act: Write) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4, bias=False).double()
        self.shift = nn.Parameter(torch.ones(1, dtype=F64))
        integer_weights(self, seeded(4))
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.first(x), self.shift).sum(1)


@pytest.mark.parametrize(
    "act",
    [
        lambda h, shift: h + shift,
        lambda h, shift: h + shift.expand(4),
        lambda h, shift: h + shift.expand(3, 4),
        lambda h, shift: h + torch.relu(h + shift.expand(4)),
        _one_number_written,
    ],
)
def test_one_number_at_several_places_is_one_weight(act: Write) -> None:
    module = Shared(act)
    assert torch.equal(rl.npk(module, X, output=0), rl.paths(module, X).kernel())


def test_a_matrix_that_repeats_one_number_is_refused_by_the_kernel() -> None:
    module = Shared(lambda h, shift: nn.functional.linear(h, shift.expand(2, 4)))
    assert torch.equal(rl.paths(module, X).output()[:, 0], module(X))
    with pytest.raises(rl.NotIdentified, match="one entry of shift stands at several places"):
        rl.npk(module, X)
