"""What is found of a network is known of those of the same structure, and of no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from reluctant.properties.trials import Trials
from reluctant.theory.likeness import are_alike, remember
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Reindex, Scale, Sum, Weighted
from reluctant.theory.symmetry import ShiftSymmetry, shift_symmetry
from reluctant.theory.tracing import trace

X = torch.randn(4, 1, 6)


def make(padding: Literal["zeros", "circular"] = "circular", slope: float = 0.1) -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(2)
    nn.init.constant_(norm.bias, 0.5)
    return nn.Sequential(
        nn.Conv1d(1, 2, 3, padding=1, padding_mode=padding), norm, nn.LeakyReLU(slope),
        nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 1),
    ).eval()  # fmt: skip


def test_networks_are_alike_whatever_their_weights_and_number_of_examples() -> None:
    other = make()
    with torch.no_grad():
        next(other.parameters()).mul_(2.0)
    net = trace(make(), X)
    assert are_alike(net, net.at(X[:1]))
    assert are_alike(net, trace(other, X))


class ByNumber(nn.Module):
    """Pad with zeros if there are many examples, and circularly if there are few."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Conv1d(1, 1, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mode = "constant" if len(x) > 2 else "circular"
        return self.weights(nn.functional.pad(x, (1, 1), mode)).relu().mean(2)


def test_a_network_that_is_another_is_judged_by_itself() -> None:
    net = trace(ByNumber(), X)
    assert not isinstance(shift_symmetry(net), ShiftSymmetry)
    assert isinstance(shift_symmetry(net.at(X[:1])), ShiftSymmetry)


@pytest.mark.parametrize(
    "other", [make("zeros"), make(slope=0.2), make()[:-2]], ids=["padding", "slope", "layers"]
)
def test_other_structures_are_not_alike(other: nn.Module) -> None:
    assert not are_alike(trace(make(), X), trace(other, X))


def changed(net: PathNetwork, kind: type[Any], **new: Any) -> PathNetwork:
    nodes = list(net.nodes)
    i = next(i for i, node in enumerate(nodes) if isinstance(node, kind))
    values = {k: value(getattr(nodes[i], k)) for k, value in new.items()}
    nodes[i] = replace(nodes[i], **values)
    return replace(net, nodes=tuple(nodes))


def twice(t: Tensor) -> Tensor:
    return 2.0 * t


def mirrored(move: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
    return lambda operands: move(operands).flip(-1)


@pytest.mark.parametrize(
    ("kind", "new"),
    [
        (Scale, {"factor": twice}),
        (Constant, {"value": twice}),
        (Reindex, {"move": mirrored}),
        (Weighted, {"weight": lambda k: k + 1}),
        (Gate, {"name": lambda name: "other"}),
        (Sum, {"axes": lambda axes: (0,)}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_node_that_differs_makes_another_network(kind: type[Any], new: dict[str, Any]) -> None:
    net = trace(make(), X)
    assert are_alike(net, changed(net, kind))
    assert not are_alike(net, changed(net, kind, **new))


class Masked(nn.Module):
    """Gates that a graph of their own makes."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.weights(x) * (x > 0)


def test_networks_with_masks_are_alike_only_if_they_are_one() -> None:
    net, module = trace(Masked(), X), Masked()
    assert are_alike(net, net)
    assert not are_alike(trace(module, X), trace(module, X))


def test_symmetry_is_found_once_for_all_trials_of_a_structure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from reluctant.theory import symmetry

    walks = []
    whole = symmetry.Walk

    def walk(net: PathNetwork, *rest: Any) -> Any:
        walks.append(net)
        return whole(net, *rest)

    monkeypatch.setattr(symmetry, "Walk", walk)
    module = nn.Sequential(*[layer for layer in make() if not isinstance(layer, nn.BatchNorm1d)])
    net = trace(module, X)
    shift_symmetry(net)
    trials = Trials(net, X, None, "default", 0)
    found = {shift_symmetry(trial.net) for trial in trials}
    assert len(found) == len(walks) == 1
    assert shift_symmetry(net.at(X[:2])) in found
    assert len(walks) == 1
    fresh = trace(module, X)
    assert remember(fresh, net).known is net.known
