"""A refusal names the operation, the line, and what is written there; what may be linear is not called nonlinear."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import reluctant as rl


class Net(nn.Module):
    def __init__(self, forward: Callable[[Tensor, Any], Tensor] | None = None) -> None:
        super().__init__()
        self.weight, self.put_together = nn.Parameter(torch.ones(3, 3)), forward
        self.norm, self.act, self.layer = nn.LocalResponseNorm(2), nn.GELU(), nn.LayerNorm(3)
        self.attend = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        assert self.put_together is not None
        return self.put_together(x @ self.weight, self)


class Responses(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x[..., None])


class ResponsesOfAFunction(Net):
    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm(x[..., None], 2)


class Gelu(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


class GeluByHand(Net):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.erf(x))  # of no scale


class SiluByHand(Net):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class Layer(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class LayerByHand(Net):
    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred / centred.pow(2).mean(1, keepdim=True).sqrt()


class Attention(Net):
    def forward(self, x: Tensor) -> Tensor:
        tokens = x[:, None]
        return self.attend(tokens, tokens, tokens)[0]


class AttentionByHand(Net):
    def forward(self, x: Tensor) -> Tensor:
        scores = x[:, :, None] * x[:, None]
        return torch.softmax(scores, -1).sum(1)


class Quotient(Net):
    def forward(self, x: Tensor) -> Tensor:
        return 1 / (x.abs() + 1)


@pytest.mark.parametrize(
    ("kind", "operation", "written"),
    [
        (Responses, "aten.pow.Tensor_Scalar", "norm (LocalResponseNorm)"),
        (ResponsesOfAFunction, "aten.pow.Tensor_Scalar", "“return F.local_response_norm(x[..., None], 2)”"),
        (Gelu, "aten.gelu.default", "act (GELU)"),
        (GeluByHand, "aten.erf.default", "“return 0.5 * x * (1 + torch.erf(x))”"),
        (SiluByHand, "aten.sigmoid.default", "“return x * torch.sigmoid(x)”"),
        (Layer, "aten.layer_norm.default", "layer (LayerNorm)"),
        (LayerByHand, "aten.pow.Tensor_Scalar", "“return centred / centred.pow(2).mean(1, keepdim=True).sqrt()”"),
        (Attention, "aten.softmax.int", "attend (MultiheadAttention)"),
        (AttentionByHand, "aten.softmax.int", "“return torch.softmax(scores, -1).sum(1)”"),
        (Quotient, "aten.reciprocal.default", "“return 1 / (x.abs() + 1)”"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_written_beside_the_operation(
    kind: type[Net], operation: str, written: str
) -> None:
    with pytest.raises(rl.UnsupportedOperation) as caught:
        rl.trace(kind(), torch.eye(3))
    error, said = caught.value, str(caught.value).partition("\n")[0]
    assert error.operation == operation
    assert error.where.startswith("test_unread_operations.py:")
    assert said.startswith(f"{error.where}: {operation} in {written} cannot be read as part of")


class Data(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = x @ self.weight
        return h.relu() + h.data


class WeightsClamped(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.clamp_(min=0.0)
        return x @ self.weight


@pytest.mark.parametrize("kind", [Data, WeightsClamped])
def test_what_torch_loses_without_a_line_is_placed_all_the_same(kind: type[Net]) -> None:
    with pytest.raises(rl.UnsupportedOperation, match=r"goes through the \.data of a") as caught:
        rl.trace(kind(), torch.ones(2, 3))
    lines, start = inspect.getsourcelines(kind.forward)
    line = start + next(k for k, line in enumerate(lines) if ".data" in line)
    assert caught.value.where == f"test_unread_operations.py:{line}"
    assert caught.value.operation == "torch.export"


def test_where_the_place_is_the_module_it_is_not_said_twice() -> None:
    with pytest.raises(rl.UnsupportedOperation, match=r"^1 \(GELU\): aten.gelu.default cannot be"):
        rl.trace(nn.Sequential(nn.Linear(3, 3), nn.GELU()), torch.ones(2, 3))


@pytest.mark.parametrize(
    ("forward", "operation", "remedy"),
    [
        (lambda h, n: torch.tensordot(h, n.weight, 1), "aten.tensordot.default", "einsum"),
        (lambda h, n: torch.inner(h, n.weight), "aten.inner.default", "einsum"),
        (lambda h, _: h.sort(1)[0], "aten.sort.default", "with maxima, ReLUs or comparisons"),
        (lambda h, _: h.topk(2, 1)[0], "aten.topk.default", "with maxima, ReLUs or comparisons"),
    ],
)
def test_what_is_not_read_says_what_to_write(
    forward: Callable[[Tensor, Any], Tensor], operation: str, remedy: str
) -> None:
    with pytest.raises(rl.UnsupportedOperation, match=remedy) as caught:
        rl.trace(Net(forward), torch.ones(2, 3))
    assert caught.value.operation == operation
    assert caught.value.where.startswith("test_unread_operations.py:")
    assert "neither linear" not in str(caught.value)
