"""Reading modules: equal spellings, honest refusals, nothing left changed."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import reluctant as rl
from reluctant.properties.exact import FieldTrials, record
from reluctant.theory.nodes import Gate, Reindex, Weighted
from reluctant.theory.rounding import output_bound
from reluctant.theory.tracing import trace

X = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]], dtype=torch.float64)


class Spelled(nn.Module):
    """A network of two layers whose ReLU is written in one of many ways."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Linear(3, 4).double()
        self.last = nn.Linear(4, 2, bias=False).double()
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.relu(self.first(x)))


SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(),
    "in-place module": nn.ReLU(inplace=True),
    "functional": F.relu,
    "in-place function": lambda t: F.relu_(t),
    "method": lambda t: t.relu(),
    "clamp": lambda t: t.clamp(min=0),
    "clamp_min": lambda t: t.clamp_min(0),
    "clamp without an upper edge": lambda t: t.clamp(0, math.inf),
    "clip": lambda t: t.clip(min=0),
    "in-place clip": lambda t: t.clip_(0),
    "hardtanh without an upper edge": lambda t: F.hardtanh(t, 0, math.inf),
    "threshold": lambda t: F.threshold(t, 0, 0),
    "maximum": lambda t: torch.maximum(t, torch.zeros_like(t)),
    "where": lambda t: torch.where(t > 0, t, torch.zeros_like(t)),
    "where 0 comes first": lambda t: torch.where(t <= 0, torch.zeros_like(t), t),
    "where it is negative": lambda t: torch.where(t < 0, 0, t),
    "where a held 0 comes first": lambda t: torch.where(t < 0, torch.zeros(()).to(t), t),
    "fill": lambda t: t.masked_fill(t < 0, 0),
    "fill ties too": lambda t: t.masked_fill(t <= 0, 0.0),
    "fill with a tensor": lambda t: t.masked_fill(t <= 0, torch.zeros(()).to(t)),
    "in-place fill": lambda t: t.masked_fill_(t < 0, 0),
    "comparison": lambda t: t * (t > 0),
    "dropout": lambda t: F.relu(nn.Dropout1d().eval()(nn.FeatureAlphaDropout().eval()(t))),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_of_relu_gives_the_same_path_network(name: str) -> None:
    reference = trace(Spelled(F.relu), X)
    net = trace(Spelled(SPELLINGS[name]), X)
    kinds, wanted = ([type(n.nodes[i]) for i in n.value_nodes] for n in (net, reference))
    assert [kind for kind in kinds if kind is not Reindex] == wanted
    assert torch.equal(net.gates(X)[net.value_gates[0]].double(), reference.gates(X)[0])
    assert torch.equal(rl.npk(net, X), rl.npk(reference, X))
    assert all(net.gate_layers[g].own and net.gate_layers[g].hard for g in net.value_gates)


@pytest.mark.parametrize("name", SPELLINGS)
def test_the_derivative_at_ties_is_torch_s(name: str) -> None:
    q = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    SPELLINGS[name](q.clone()).sum().backward()
    module = Spelled(SPELLINGS[name])
    with torch.no_grad():
        for p in module.first.parameters():
            p.zero_()
    net = trace(module, X)
    (g,) = net.value_gates
    word = {"zero": 0.0, "half": 0.5, "one": 1.0}[net.gate_layers[g].ties]
    recorded = net.gates(X)[g].double()
    assert q.grad is not None
    if net.gate_layers[g].kind == "mask":  # its ties are as the mask has them
        assert torch.equal(recorded, q.grad)
    else:
        assert bool((recorded == 0).all()) and bool((q.grad == word).all())


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_is_evaluated_alike_over_a_prime_field(name: str) -> None:
    recording = record(trace(Spelled(SPELLINGS[name]), X))
    tried = FieldTrials(recording, 0)[0]
    assert torch.equal(*map(tried.over.canonical, (tried.graph_output, tried.output)))


def test_a_clamp_without_edges_is_the_identity() -> None:
    net = trace(Spelled(lambda t: t.clamp(-math.inf, math.inf)), X)
    assert not net.gate_layers
    least = trace(Spelled(lambda t: F.hardtanh(t, -1, math.inf)), X)
    tried = FieldTrials(record(least), 0)[0]
    assert len(least.gate_layers) == 1
    assert torch.equal(*map(tried.over.canonical, (tried.graph_output, tried.output)))


def test_a_reused_relu_module_makes_a_layer_of_gates_at_each_call() -> None:
    relu = nn.ReLU()
    module = nn.Sequential(nn.Linear(3, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 1)).double()
    assert len(trace(module, X).value_gates) == 2


GATED: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "sign": (lambda t: t * (t > 0), True),
    "its complement": (lambda t: t * (t <= 0), True),
    "another threshold": (lambda t: t * (t > 1), False),
    "another place": (lambda t: t * (t > 0).flip(1), False),
    "two signs": (lambda t: t * ((t > 0) & (t < 1)), False),
    "transposed": (
        lambda t: (t.view(-1, 2, 2) * (t.view(-1, 2, 2) > 0).transpose(1, 2)).flatten(1), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GATED)
def test_gates_are_own_only_where_they_follow_the_sign_of_what_they_multiply(name: str) -> None:
    act, own = GATED[name]
    net = trace(Spelled(act), X)
    assert [(layer.own, layer.hard) for layer in net.gate_layers] == [(own, True)]


def test_reading_leaves_hooks_mode_buffers_and_types_as_they_were() -> None:
    calls: list[int] = []
    module = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 1)
    ).double()
    module.eval()
    module[0].register_forward_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(module.state_dict())
    hooks = dict(module[0]._forward_hooks)
    trace(module, X)
    assert not module.training
    assert module[0]._forward_hooks == hooks
    assert all(
        torch.equal(before[k], v) and before[k].dtype == v.dtype
        for k, v in module.state_dict().items()
    )
    assert all(p.grad is None for p in module.parameters())


def test_a_refused_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Dropout(0.5)).double()
    with pytest.raises(rl.UnsupportedOperation):
        trace(module, X)
    assert module.training


class Refused(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3).double()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.first(x))


@pytest.mark.parametrize(
    ("act", "operation"),
    [
        (F.gelu, "aten.gelu.default"),
        (torch.sigmoid, "aten.sigmoid.default"),
        (torch.tanh, "aten.tanh.default"),
        (lambda t: t.softmax(-1), "aten.softmax.int"),
        (lambda t: F.layer_norm(t, (3,)), "aten.layer_norm.default"),
        (lambda t: t * t, "aten.mul.Tensor"),
        (lambda t: t * torch.sigmoid(t), "aten.sigmoid.default"),
        (lambda t: t @ t.T @ t, "aten"),
        (lambda t: torch.where(t > 0, t * t, t), "aten.mul.Tensor"),
        (F.elu, "aten.elu.default"),
        (F.celu, "aten.celu.default"),
        (F.selu, "aten.selu.default"),
        (F.softplus, "aten.softplus.default"),
        (F.mish, "aten.mish.default"),
        (F.silu, "aten.silu.default"),
        (F.hardswish, "aten.hardswish.default"),
        (lambda t: F.rrelu(t, training=True), "aten.rrelu.default"),
        (lambda t: F.dropout(t, training=True), "aten.dropout.default"),
        (lambda t: t + torch.rand_like(t), "aten.rand_like.default"),
        (lambda t: F.local_response_norm(t[:, None], 2)[:, 0], "aten.pow.Tensor_Scalar"),
        (lambda t: t[:, :1].sigmoid() * t, "aten.sigmoid.default"),
        (lambda t: t * torch.heaviside(t, torch.tensor(0.5).to(t)), "aten.heaviside.default"),
        (lambda t: t.round(), "aten.round.default"),
        (lambda t: t.int().to(t.dtype), "aten.to.dtype"),
        (lambda t: t.float().double(), "aten.to.dtype"),
        (lambda t: t.to(torch.complex128).abs(), "aten.to.dtype"),
    ],
    ids=[
        "gelu",
        "sigmoid",
        "tanh",
        "softmax",
        "layer norm",
        "square",
        "swish",
        "attention",
        "choice of a square",
        "elu",
        "celu",
        "selu",
        "softplus",
        "mish",
        "silu",
        "hard swish",
        "random slopes in training",
        "dropout in training",
        "noise",
        "local response norm",
        "squeeze and excitation",
        "half a step",
        "rounding",
        "integers",
        "single precision",
        "complex numbers",
    ],
)
def test_what_cannot_be_read_is_refused_by_name_and_place(
    act: Callable[[Tensor], Tensor], operation: str
) -> None:
    with pytest.raises(rl.UnsupportedOperation, match=r"test_theory_tracing\.py:\d+") as caught:
        trace(Refused(act), X)
    assert caught.value.operation.startswith(operation)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("call", [trace, rl.npk, rl.count_paths, rl.paths, rl.check])
def test_layers_without_units_are_refused_by_place(call: Callable[..., Any], bias: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch says that there is nothing to draw
        narrow = nn.Sequential(nn.Linear(3, 0, bias=bias), nn.ReLU(), nn.Linear(0, 2, bias=bias))
        silent = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 0, bias=bias))
        extra = nn.Sequential(nn.Linear(3, 2), Plus(nn.Parameter(torch.zeros(0))))
    for module, message in (
        (narrow, r"^0 \(Linear\): 0\.weight has shape \(0, 3\) and so no entries"),
        (silent, r"returns a tensor of shape \(2, 0\)"),
        (extra, r"added has shape \(0,\) and so no entries"),
    ):
        with pytest.raises(rl.InputError, match=message):
            call(module.double(), X)


class Plus(nn.Module):
    """Add a parameter to what is left of its input, one entry an entry."""

    def __init__(self, added: nn.Parameter) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x[:, : len(self.added)] + self.added], 1)


def test_a_forward_that_branches_on_its_data_is_refused() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(rl.UnsupportedOperation, match="branches on the values"):
        trace(Branches(), X)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (X[:0], "at least one example"),
        (X.long(), "floating point"),
        (X.float(), "float64 but the example is torch.float32"),
        (X[:, :2], "fails on an example of shape"),
        (X * float("nan"), "NaN or infinite"),
    ],
    ids=["empty", "integers", "types", "shape", "nan"],
)
def test_bad_examples_are_explained_in_one_line(example: Tensor, message: str) -> None:
    with pytest.raises(rl.InputError, match=message) as caught:
        trace(Spelled(F.relu), example)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_named() -> None:
    module = Spelled(F.relu)
    with torch.no_grad():
        module.first.weight[0, 0] = float("nan")
    with pytest.raises(rl.InputError, match=r"first\.weight|not finite"):
        trace(module, X)


def test_batch_norm_in_training_mode_is_refused_with_the_remedy() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    with pytest.raises(rl.InputError, match=r"call module\.eval"):
        trace(module, X)


def test_tied_weights_are_keyed_by_identity() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3, bias=False).double()
            self.second = nn.Linear(3, 3, bias=False).double()
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(x)))

    net = trace(Tied(), X)
    nodes = [node for node in net.weighted if isinstance(node, Weighted)]
    assert nodes[0].weight == nodes[1].weight
    with pytest.raises(rl.NotIdentified, match="acts twice on a path"):
        rl.npk(net, X)
    error = (rl.paths(net, X).output() - net.module(X)).abs()
    assert bool((error <= output_bound(net, X, net.gates(X))).all())


def test_loggers_are_as_talkative_after_a_reading_as_before() -> None:
    logger = logging.getLogger("torch.export")
    before = logger.level
    try:
        logger.setLevel(logging.INFO)
        trace(Spelled(F.relu), X)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)


def test_a_branch_that_feeds_only_gates_carries_no_paths() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Linear(3, 4).double()
            self.values = nn.Linear(3, 4, bias=False).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.values(x) * (self.features(x) > 0)

    net = trace(Gated(), X)
    assert [w.name for w in (net.weights[node.weight] for node in net.weighted)] == [
        "values.weight"
    ]
    assert sum(isinstance(net.nodes[i], Gate) for i in net.value_nodes) == 1
    (g,) = net.value_gates
    layer = net.gate_layers[g]
    assert not layer.own and layer.hard and layer.source is not None
