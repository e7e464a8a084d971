from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from model_specimens import (
    ARCHITECTURES,
    F64,
    assert_different,
    assert_same,
    inputs,
    integer_weights,
    make_specimen,
    seeded,
)
from torch import Tensor, nn
from torch.nn import functional as F

from reluctant.models import HARD, Architecture, GatedTwin, Soft, to_dgn, to_dlgn
from reluctant.theory.errors import InputError, UnsupportedOperation
from reluctant.theory.network import PathNetwork
from reluctant.theory.tracing import trace
from reluctant.theory.underflow import any_order_underflow

Function = Callable[[Tensor], Tensor]


class Mixed(nn.Module):
    """Reuses a layer, ties two weights, skips, normalises, pools."""

    def __init__(self, activate: Function, pool: Function = torch.clone, seed: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dense = nn.LazyLinear(4)
        self.tied = nn.Linear(4, 4)
        self.out = nn.Linear(4, 4)
        self.out.weight = self.tied.weight
        self.activate, self.pool = activate, pool
        self.double().eval()
        self(torch.zeros(1, 2, 6, 6, dtype=F64))
        generator = seeded(seed)
        for tensor in self.parameters():
            tensor.data.uniform_(-0.5, 0.5, generator=generator)
        self.norm.get_buffer("running_mean").uniform_(-0.5, 0.5, generator=generator)
        self.norm.get_buffer("running_var").uniform_(0.1, 0.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        z = self.activate(self.first(x))
        z = z + self.activate(self.norm(self.again(z)))
        z = self.activate(self.again(z))
        z = self.activate(self.dense(self.pool(z).flatten(1)))
        return self.out(self.activate(self.tied(z)))


class Pool(nn.Module):
    """Turns a function into a module."""

    def __init__(self, pool: Function) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


SPELLINGS: dict[str, Function] = {
    "relu": torch.relu,
    "relu_": F.relu_,
    "module": nn.ReLU(),
    "clamp_min": lambda q: q.clamp_min(0),
    "clamp": lambda q: q.clamp(min=0),
    "clamp_": lambda q: q.clamp_(min=0),
    "threshold": lambda q: F.threshold(q, 0, 0),
    "maximum": lambda q: torch.maximum(q, torch.zeros_like(q)),
    "maximum-left": lambda q: torch.maximum(torch.zeros((), dtype=q.dtype), q),
}
POOLINGS: dict[str, Function] = {
    "max": nn.MaxPool2d(2),
    "max-padded": nn.MaxPool2d(3, 2, 1),
    "max-adaptive": nn.AdaptiveMaxPool2d(4),
    "amax": lambda z: z.amax((2, 3)),
    "max-dim": lambda z: z.max(3).values,
    "average": nn.AvgPool2d(2),
}
X = torch.randn(3, 2, 6, 6, dtype=F64, generator=seeded(5))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_shared_hard_dgn_is_the_network_itself_in_every_spelling(spelling: str) -> None:
    module = Mixed(SPELLINGS[spelling])
    twin = to_dgn(module, shared=True)
    assert_same(twin(X), module(X), module, X)
    assert_same(twin(X[:1]), module(X[:1]), module, X[:1])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_so_it_is_with_every_pooling(pooling: str) -> None:
    module = Mixed(torch.relu, POOLINGS[pooling])
    assert_same(to_dgn(module, shared=True)(X), module(X), module, X)
    assert_same(to_dgn(module, frozen=True)(X), module(X), module, X)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_also_where_entries_tie(pooling: str) -> None:
    module = nn.Sequential(nn.Conv2d(2, 4, 1), Pool(POOLINGS[pooling]), nn.Flatten()).double()
    x = torch.randint(0, 2, (3, 2, 6, 6), generator=seeded()).double()
    assert_same(to_dgn(module, shared=True)(x), module(x), module, x)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_have_twins_too(name: str) -> None:
    module = make_specimen(name)
    assert isinstance(module, Architecture)
    x = inputs(module)
    assert_same(to_dgn(module, shared=True)(x), module(x), module, x)


def test_gradients_of_the_shared_twin_are_those_of_the_network() -> None:
    """With integers, exactly: no partial product or sum reaches 2^53, as all factors are >= 1."""
    module = Mixed(torch.relu)
    integer_weights(module, seeded())
    x = torch.randint(-2, 3, X.shape, generator=seeded(5)).double()
    net = trace(module, x)
    assert float(any_order_underflow(net, x, net.gates(x)).sum()) < 2.0**53
    twin = to_dgn(module, shared=True)
    twin(x).sum().backward()
    module(x).sum().backward()
    for ours, theirs in zip(twin.value.parameters(), module.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)
    assert any(bool(p.grad.any()) for p in module.parameters() if p.grad is not None)


def test_with_other_features_the_gates_are_theirs() -> None:
    module, other = Mixed(torch.relu), Mixed(torch.relu, seed=1)
    twin = to_dgn(module, features=other)
    assert_different(twin(X), module(X), module, X)
    swapped = to_dgn(other, features=module)
    assert_different(twin(X), swapped(X), module, X)
    assert_same(to_dgn(other, features=other)(X), other(X), other, X)


@pytest.mark.parametrize("pooling", ["max", "amax", "average"])
def test_pre_activations_of_a_dlgn_twin_are_affine_and_of_a_dgn_twin_are_not(pooling: str) -> None:
    module = Mixed(torch.relu, POOLINGS[pooling])
    integer_weights(module, seeded(), multiple=36)  # averages over 4 or all 36 positions
    x, y = (144 * torch.randint(-3, 4, X.shape, generator=seeded(k)).double() for k in (5, 6))
    for make, is_affine in ((to_dlgn, True), (to_dgn, False)):
        twin = make(module)
        at_x, at_y, between = (twin.pre_activations(t) for t in (x, y, 0.25 * x + 0.75 * y))
        equal = [
            torch.equal(b, 0.25 * a + 0.75 * c) for a, c, b in zip(at_x, at_y, between, strict=True)
        ]
        assert len(equal) == 5
        assert all(equal) is is_affine


def test_a_dlgn_twin_is_the_written_network() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    module.double()
    x = torch.randn(6, 3, dtype=F64, generator=seeded())
    first, second, last = module[0], module[2], module[4]
    q = [first(x), second(first(x))]
    z = second(first(x) * (q[0] > 0)) * (q[1] > 0)
    assert_same(to_dlgn(module)(x), last(z), to_dlgn(module), x)
    soft = last(second(first(x) * torch.sigmoid(3 * q[0])) * torch.sigmoid(3 * q[1]))
    twin = to_dlgn(module, gate=Soft(3.0))
    assert_same(twin(x), soft, twin, x)
    assert_different(twin(x), last(z), twin, x)


def test_an_input_of_ones_reaches_the_values_only() -> None:
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)).double()
    twin = to_dgn(module, value_input="ones")
    x = torch.randn(6, 3, dtype=F64, generator=seeded())
    assert torch.equal(twin(x), twin(2.0 * x))
    assert_different(twin(x), twin(-x), twin, x)


def test_who_trains_is_as_asked() -> None:
    module = Mixed(torch.relu)
    for twin, trains in (
        (to_dgn(module, frozen=True, gate=Soft(4.0)), False),
        (to_dgn(module, gate=Soft(4.0)), True),
    ):
        twin(X).sum().backward()
        assert twin.value.get_parameter("first.weight").grad is not None
        assert (twin.features.get_parameter("first.weight").grad is not None) is trains
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_a_copied_twin_has_weights_of_its_own() -> None:
    twin = to_dgn(Mixed(torch.relu), X)
    other = copy.deepcopy(twin)
    before = twin(X)
    with torch.no_grad():
        for tensor in (*other.parameters(), *(b for b in other.buffers() if b.dtype == F64)):
            tensor.mul_(1.5)
    assert torch.equal(twin(X), before)
    assert_different(other(X), before, other, X)
    other.load_state_dict(twin.state_dict())
    assert torch.equal(other(X), before)


def test_weights_may_be_replaced_by_torch_func() -> None:
    twin = to_dgn(Mixed(torch.relu), X, shared=True)
    doubled = {name: 2.0 * p for name, p in twin.named_parameters()}
    replaced = torch.func.functional_call(twin, doubled, (X,))
    with torch.no_grad():
        for p in twin.value.parameters():
            p.mul_(2.0)
    assert torch.equal(replaced, twin(X))


@pytest.mark.parametrize("make", [to_dgn, to_dlgn])
def test_twins_export_and_trace_with_gates_from_outside(make: Callable[..., GatedTwin]) -> None:
    twin = make(Mixed(torch.relu), frozen=True)
    network: PathNetwork = trace(twin, X)
    kinds = [network.gate_layers[i] for i in network.value_gates]
    assert len(kinds) == 5
    assert all(layer.kind == "mask" and layer.hard and not layer.own for layer in kinds)
    exported = torch.export.export(twin, (X,), strict=False)
    assert torch.equal(exported.module()(X), twin(X))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_twins_with_pooling_export(pooling: str) -> None:
    twin = to_dgn(Mixed(torch.relu, POOLINGS[pooling]), X)
    exported = torch.export.export(twin, (X,), strict=False)
    assert torch.equal(exported.module()(X), twin(X))


def test_a_part_under_two_names_is_read_once() -> None:
    relu = nn.ReLU()
    module = nn.Sequential(nn.Linear(3, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 2)).double()
    x = torch.randn(6, 3, dtype=F64, generator=seeded())
    twin = to_dgn(module, x, shared=True)
    assert len(trace(twin, x).value_gates) == 2
    assert len(twin._scripts.known) == 1


def test_exporting_an_unseen_shape_says_what_to_do() -> None:
    twin = to_dgn(Mixed(torch.relu))
    with pytest.raises(InputError, match="call it once on an input of shape"):
        torch.export.export(twin, (X,), strict=False)


@pytest.mark.parametrize(
    ("activate", "message"),
    [
        (F.gelu, "aten.gelu.default in .* cannot be read"),
        (F.relu6, "relu6 is a clipped ramp"),
        (F.leaky_relu, "leaky_relu is a leaky ReLU"),
        (lambda q: q * (q > 1), "product with a mask.*write torch.relu"),
        (torch.abs, "abs_1 is a leaky ReLU or an absolute value"),
        (lambda q: q.clamp(min=0.5), "clamp_min is a clipped ramp|clamp is a clipped ramp"),
        (lambda q: F.threshold(q, 0.1, 0.0), "where.* is a product with a mask"),
        (lambda q: torch.softmax(q, 1), "softmax"),
    ],
)
def test_other_activations_are_refused_with_their_place(activate: Function, message: str) -> None:
    with pytest.raises(UnsupportedOperation, match=rf"test_models_converters.py:\d+.*{message}"):
        to_dgn(Mixed(activate), X)


def test_batch_norm_in_training_mode_is_refused() -> None:
    with pytest.raises(InputError, match="batch norm in training mode"):
        to_dgn(Mixed(torch.relu).train(), X)


def test_contradictions_are_refused() -> None:
    module = Mixed(torch.relu)
    with pytest.raises(InputError, match="shared=True means one set of weights"):
        to_dgn(module, shared=True, frozen=True)
    with pytest.raises(InputError, match=r"again.bias is missing there and \(4,\) here"):
        to_dlgn(module, features=nn.Linear(3, 3))
    with pytest.raises(InputError, match=r"expected a torch\.nn\.Module, but got int"):
        to_dgn(3)  # type: ignore[arg-type]


def test_each_shape_is_read_once() -> None:
    twin = to_dgn(Mixed(torch.relu), X, gate=HARD)
    twin(X + 1.0)
    twin(X[:2])
    twin(X[1:])
    assert len(twin._scripts.known) == 2
