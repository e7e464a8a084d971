"""Small modules in odd spellings, some of them path networks, some of them made to look like one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations, prune

from reluctant.theory.gating import gate


class Odd(nn.Module):
    """Two layers of four units, and a function of the first's result and of the module between."""

    def __init__(self, act: Callable[[Tensor, Any], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.matrix = nn.Parameter(torch.eye(4))
        self.scale = nn.Parameter(torch.ones(4))
        self.slope = nn.Parameter(torch.full((1,), 0.5))
        self.register_buffer("mask", torch.tensor([1.0, 0.0, 1.0, 1.0]))
        self.register_buffer("count", torch.zeros(()))
        self.calls, self.act = 0, act
        self.count: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.first(x), self))  # type: ignore[no-any-return]


def _in_place_chain(h: Tensor, m: Odd) -> Tensor:
    return h.add_(1.0).relu_().mul_(2.0).sub_(m.scale)


def _written_through_a_view(h: Tensor, _: Odd) -> Tensor:
    view = h.view(-1, 2, 2)
    view[:, 0] = 0.0
    view.relu_()
    return h


def _alias(h: Tensor, _: Odd) -> Tensor:
    kept = h
    h.relu_()
    return kept + h


def _copy_before(h: Tensor, _: Odd) -> Tensor:
    kept = h.clone()
    h.relu_()
    return kept - h


def _written_twice(h: Tensor, _: Odd) -> Tensor:
    h[h < 0] = 0.0
    h[:, 1:] += h[:, :-1].clone()
    return h


def _pieces(h: Tensor, _: Odd) -> Tensor:
    a, b = h.chunk(2, 1)
    c, d = h.split([1, 3], 1)
    e = torch.stack(h.unbind(1)[::-1], 1)
    return torch.cat([a.relu(), b], 1) + torch.cat([d, c], 1) * e.gt(0)


def _under_no_grad(h: Tensor, _: Odd) -> Tensor:
    with torch.no_grad():
        return h.relu() + 2.0 * h


def _counted(h: Tensor, m: Odd) -> Tensor:
    m.calls += 1
    return h * m.calls


def _counted_in_a_buffer(h: Tensor, m: Odd) -> Tensor:
    m.count.add_(1)
    return h * m.count


def _weight_clamped_in_place(h: Tensor, m: Odd) -> Tensor:
    m.scale.data.clamp_(min=0.0)
    return h + m.scale


def _by_size(h: Tensor, _: Odd) -> Tensor:
    for _k in range(h.shape[1] - 2):
        h = h.relu() if h.shape[0] > 0 else -h
    return h


def _by_value(h: Tensor, _: Odd) -> Tensor:
    return h if bool((h > 0).any()) else -h


def _by_branches(h: Tensor, _: Odd) -> Tensor:
    return torch.cond(h.sum() > 0, lambda t: t + 1.0, lambda t: t - 1.0, (h,))  # type: ignore[no-any-return]


def _through_numpy(h: Tensor, _: Odd) -> Tensor:
    return torch.from_numpy(h.detach().numpy() * 2.0)


def _straight_through(h: Tensor, _: Odd) -> Tensor:
    return h + (h.round() - h).detach()


def _unpooled(h: Tensor, _: Odd) -> Tensor:
    best, index = F.max_pool1d(h[:, None], 2, return_indices=True)
    return F.max_unpool1d(best, index, [2])[:, 0]


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return 2.0 * h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * 7.0


Act = Callable[[Tensor, Any], Tensor]

#: Read, and the same function as the module at all inputs and weights.
READ: dict[str, Act] = {
    "in-place chain": _in_place_chain,
    "written through a view": _written_through_a_view,
    "alias": _alias,
    "copy before a write": _copy_before,
    "written twice": _written_twice,
    "pieces": _pieces,
    "no gradients": _under_no_grad,
    "detached": lambda h, _: h.detach().relu() + h,
    "buffer as a mask": lambda h, m: h * m.mask,
    "buffer as a gate": lambda h, m: torch.where(h > 0, h, m.mask),
    "dropout in evaluation": lambda h, m: F.dropout(h, 0.5, m.training).relu(),
    "by size": _by_size,
    "product from the right": lambda h, m: (h.relu() @ m.matrix).relu() @ m.matrix.T,
    "weight in use twice": lambda h, m: F.linear(F.linear(h, m.matrix).relu(), m.matrix.t()),
    "made of weights": lambda h, m: F.linear(h.relu(), m.matrix.abs() / 2 + m.scale),
    "weights under a mask": lambda h, m: F.linear(h.relu(), m.matrix * m.mask),
    "axes moved": lambda h, _: h.view(-1, 2, 2).movedim(1, 2).relu().moveaxis(2, 1).flatten(1),
    "axes moved far": lambda h, _: h.view(-1, 2, 2, 1).movedim(3, 1).movedim(1, 2).flatten(1),
    "axes swapped": lambda h, _: h.view(-1, 2, 2).swapaxes(1, -1).flatten(1).relu(),
    "turned and rolled": lambda h, _: h.flip(1).relu().roll(1, 1),
    "one bit of two": lambda h, _: h * (h > 0) * (h < 1),
    "either bit": lambda h, _: h * ((h > 1) | (h < -1)),
    "complement": lambda h, _: h * (1.0 - (h > 0).to(h.dtype)),
    "gates of others": lambda h, _: h * (h.flip(1) > 0),
    "gates of a branch": lambda h, m: h * (F.linear(h.relu(), m.matrix) > 0.1),
    "turned over": lambda h, _: (h.view(-1, 2, 2).mT.flatten(1) + h.T.relu().T).relu(),
    "gate from the outside": lambda h, m: (h + m.scale) * gate(h * 2.0, 4.0),
    "signs": lambda h, _: torch.where(h < 0, -1.0, 1.0) * h,
    "PReLU": lambda h, m: F.prelu(h, m.slope),
    "absolute": lambda h, m: (h + m.scale).abs(),
    "threshold": lambda h, _: F.threshold(h, 0.5, -1.0),
    "choice of weights": lambda h, m: torch.where(h > m.mask, h, m.scale),
    "numbers by example": lambda h, _: h * torch.arange(len(h)).to(h)[:, None],
    "ramp": lambda h, _: F.hardtanh(h, -0.5, 0.75),
    "one value a window": lambda h, _: F.max_pool1d(h[:, None], 2, 1, 1)[:, 0, :4].relu(),
    "largest": lambda h, _: h - h.amax(1, keepdim=True),
    "ones in shape": lambda h, _: h.relu() + torch.ones_like(h) / 3,
    "own derivative": lambda h, _: _Doubled.apply(h).relu(),  # type: ignore[no-untyped-call]
    "wider type and back": lambda h, _: h.double().relu().to(h.dtype),
    "scale 0": lambda h, _: 0.0 * h + h.relu(),
    "clamped by a weight": lambda h, m: torch.clamp(h, min=m.scale),
    "clamped by the data": lambda h, _: torch.clamp(h, max=h[:, :1]),
    "trained factor": lambda h, m: h * m.scale + m.scale,
    "a slope on paths": lambda h, m: torch.where(h > 0, h, m.slope * h),
    "einsum": lambda h, m: torch.einsum("ni,oi->no", h.relu(), m.matrix),
    "larger of two": lambda h, m: torch.maximum(h, F.linear(h.relu(), m.matrix)),
    "shrunk": lambda h, _: F.softshrink(h, 0.25) - F.hardshrink(h, 0.5),
    "in brackets": lambda h, _: h[:, [2, 0, 0, -1]].relu(),
}

#: Refused, with the start of the operation's name.
REFUSED: dict[str, tuple[Act, str]] = {
    "square": (lambda h, _: h * h, "aten.mul"),
    "product with what is detached": (lambda h, _: h * h.detach(), "aten.mul"),
    "power": (lambda h, _: h**2, "aten.pow"),
    "outer product": (lambda h, _: torch.einsum("ni,nj->nij", h, h).sum(2), "aten"),
    "weights from the data": (lambda h, _: F.linear(h, h.T @ h), "aten"),
    "own matrix": (lambda h, _: (h @ h.T) @ h, "aten"),
    "quotient": (lambda h, _: 1.0 / (h.abs() + 1.0), "aten.reciprocal"),
    "normalised": (lambda h, _: F.normalize(h), "aten"),
    "mean of the examples": (lambda h, _: h - h.mean(0), "aten.mean"),
    "mean of all": (lambda h, _: h - h.mean(), "aten.mean"),
    "examples turned": (lambda h, _: h.flip(0), "aten.flip"),
    "examples rolled": (lambda h, _: h.roll(1, 0), "aten.roll"),
    "examples rolled with all": (lambda h, _: h.roll(1), "aten.roll"),
    "another example": (lambda h, _: h + h[:1], "aten.slice"),
    "examples sorted": (lambda h, _: h.sort(0)[0], "aten.sort"),
    "examples mixed in a view": (lambda h, _: h.reshape(2, -1).relu().reshape(-1, 4), "aten"),
    "transposed": (lambda h, m: (h.T.relu() * m.mask[:, None]).cumsum(0).T, "aten.cumsum"),
    "sorted": (lambda h, _: h.sort(1)[0], "aten.sort"),
    "largest two": (lambda h, _: h.topk(4, 1)[0], "aten.topk"),
    "chosen by value": (lambda h, _: h.gather(1, h.argsort(1)), "aten.gather"),
    "ordered by an index of data": (lambda h, _: h[:, h[0].argsort()], "aten.select"),
    "what is positive": (lambda h, _: h + h[h > 0].sum(), "aten.index"),
    "integers": (lambda h, _: h.long().to(h.dtype), "aten.to"),
    "less precision": (lambda h, _: h.half().to(h.dtype), "aten.to"),
    "boolean": (lambda h, _: h.bool().to(h.dtype) + h, "aten.add"),
    "complex": (lambda h, _: torch.view_as_real(h.to(torch.complex128)).sum(-1), "aten"),
    "spectrum": (lambda h, _: torch.fft.rfft(h, n=6).real, "aten"),
    "rounded": (lambda h, _: (4.0 * h).floor() / 4.0, "aten.floor"),
    "straight through": (_straight_through, "aten.round"),
    "remainder": (lambda h, _: h % 1.0, "aten.remainder"),
    "division rounded": (lambda h, _: torch.div(h, 2.0, rounding_mode="floor"), "aten.div"),
    "not a number made one": (lambda h, _: torch.nan_to_num(h), "aten.nan_to_num"),
    "trained divisor": (lambda h, m: h / m.scale, "aten.div"),
    "softmax": (lambda h, _: h.softmax(1), "aten.softmax"),
    "a sum of exponentials": (lambda h, _: h - h.logsumexp(1, keepdim=True), "aten.logsumexp"),
    "squeezed": (lambda h, _: h * h.mean(1, keepdim=True).sigmoid(), "aten.sigmoid"),
    "group norm": (lambda h, _: F.group_norm(h, 2), "aten.group_norm"),
    "instance norm": (lambda h, _: F.instance_norm(h[:, None])[:, 0], "aten"),
    "noise": (lambda h, _: h + torch.randn_like(h), "aten.randn_like"),
    "noise as a mask": (lambda h, _: h * (torch.rand(4) > 0.5), "aten.rand"),
    "coins": (lambda h, _: h * torch.bernoulli(torch.full((4,), 0.5)).to(h), "aten.bernoulli"),
    "order by chance": (lambda h, _: h[:, torch.randperm(4)], "aten"),
    "dropout in training": (lambda h, _: F.dropout(h, 0.5, True), "aten.dropout"),
    "by value": (_by_value, "torch.export"),
    "by branches": (_by_branches, "cond"),
    "a number out": (lambda h, _: h * h.sum().item(), "aten"),
    "through numpy": (_through_numpy, ""),
    "unpooled": (_unpooled, "aten"),
    "soft step": (lambda h, _: h * torch.sigmoid(10.0 * h), "aten.sigmoid"),
    "half a step": (lambda h, _: h * torch.heaviside(h, torch.full((), 0.5).to(h)), "aten.heavi"),
    "nothing times an exponential": (lambda h, _: h + 0.0 * h.exp(), "aten.exp"),
    "counted": (_counted, "reading"),
    "counted in a buffer": (_counted_in_a_buffer, "aten.add"),
    "clamped in place": (_weight_clamped_in_place, "torch.export"),
    "data": (lambda h, _: h.relu() + h.data, "torch.export"),
    "gates of an exponential": (lambda h, _: h * (h.exp() > 2.0), "aten.exp"),
    "gates by chance": (lambda h, _: h * torch.randint_like(h, 2, dtype=torch.long), "aten.rand"),
    "gates of other examples": (lambda h, _: h * (h > 0).roll(1, 0), "aten.mul"),
    "gates of all examples": (lambda h, _: h * (h > 0).any(0), "aten.mul"),
    "gates of a share": (lambda h, _: h * (h > 0).to(h).mean(), "aten.mul"),
    "a weight as a number": (lambda h, m: h * float(m.slope), ""),
}  # fmt: skip


def _normed() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 2))


def _spectral() -> nn.Module:
    layer = parametrizations.spectral_norm(nn.Linear(3, 4)).eval()
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 2)).eval()


def _pruned() -> nn.Module:
    layer = nn.Linear(3, 4)
    prune.l1_unstructured(layer, "weight", 0.5)
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 2))


def _thrice(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return 3.0 * output


def _hooked() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    net[1].register_forward_hook(_thrice)
    return net


#: Networks that are wrapped, parametrised or changed from outside.
WHOLE: dict[str, Callable[[], nn.Module]] = {
    "weight norm": _normed,
    "spectral norm": _spectral,
    "pruned": _pruned,
    "hooked": _hooked,
    "traced by fx": lambda: fx.symbolic_trace(Odd(lambda h, m: F.relu(h))),
    "compiled": lambda: torch.compile(Odd(lambda h, m: F.relu(h) + m.scale)),  # type: ignore[return-value]
}
