"""Weights that act by einsum, matmul from either side, or as factors, and entries moved by constant indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_specimens import F64, seeded
from odd_specimens import Odd
from torch import Tensor, nn

import reluctant as rl
from reluctant.properties.exact import FieldTrials, record
from reluctant.theory import rules_products
from reluctant.theory.operators import Convolution, Dense
from reluctant.theory.rounding import output_bound

X = torch.tensor([[1.0, -2.0, 3.0], [0.0, 1.0, 2.0], [-1.0, 0.0, 1.0]], dtype=F64)
Act = Callable[[Tensor, Any], Tensor]


class Mixing(Odd):
    """What is between has a stack of matrices too, and may give any number of units."""

    def __init__(self, act: Act) -> None:
        super().__init__(lambda h, m: act(h.relu(), m).flatten(1))
        self.stack = nn.Parameter(torch.zeros(2, 2, 3))
        self.register_buffer("places", torch.tensor([2, 0, 0, 3]))
        self.last = nn.LazyLinear(2)


def _pairs(h: Tensor) -> Tensor:
    return h.view(-1, 2, 2)


PRODUCTS: dict[str, Act] = {
    "einsum": lambda h, m: torch.einsum("bi,io->bo", h, m.matrix),
    "einsum, weights first": lambda h, m: torch.einsum("oi,bi->bo", m.matrix, h),
    "einsum with dots": lambda h, m: torch.einsum("...i,oi->...o", _pairs(h), m.matrix[:, :2]),
    "einsum without a result": lambda h, m: torch.einsum("ai,ib", h, m.matrix),
    "einsum of tokens": lambda h, m: torch.einsum("bti,ot->boi", _pairs(h), m.matrix[:, :2]),
    "einsum by groups": lambda h, m: torch.einsum("bhi,hio->bho", _pairs(h), m.stack),
    "einsum by groups, result turned": lambda h, m: torch.einsum(
        "bhi,hio->boh", _pairs(h), m.stack
    ),
    "einsum by groups and places": lambda h, m: torch.einsum("bht,hio->btio", _pairs(h), m.stack),
    "einsum adds an axis up": lambda h, m: torch.einsum("bti,io->bo", _pairs(h), m.matrix[:2]),
    "einsum of each with each": lambda h, m: torch.einsum("bi,o->boi", h, m.scale),
    "einsum of one": lambda h, _: torch.einsum("bij->bji", _pairs(h)),
    "einsum of one, added up": lambda h, _: torch.einsum("bij->bj", _pairs(h)),
    "matmul from the left": lambda h, m: m.matrix[:, :2] @ _pairs(h),
    "matmul of columns": lambda h, m: (m.matrix @ h.T).T,
    "matmul with a vector": lambda h, m: (h @ m.scale)[:, None],
    "matmul with a stack": lambda h, m: _pairs(h)[:, :, None] @ m.stack,
    "bmm with one for all": lambda h, m: torch.bmm(_pairs(h), m.stack[0].expand(len(h), -1, -1)),
    "bmm by groups": lambda h, m: torch.bmm(_pairs(h).transpose(0, 1), m.stack).transpose(0, 1),
    "factors": lambda h, m: h * m.scale,
    "a factor a row": lambda h, m: m.scale.view(2, 2)[:, :1] * _pairs(h),
    "one factor": lambda h, m: h * m.slope[0] + h,
    "factors that are computed": lambda h, m: h * m.scale.abs(),
    "factors of columns": lambda h, m: (h.T * m.scale[:, None]).T,
}
MOVES: dict[str, Act] = {
    "list in brackets": lambda h, _: h[:, [2, 0, 0, -1]],
    "buffer in brackets": lambda h, m: h[:, m.places],
    "two indices": lambda h, _: _pairs(h)[:, [0, 1, 1], [1, 1, 0]],
    "two indices apart": lambda h, _: h.view(-1, 2, 2, 1)[:, [0, 1, 1], :, [0, 0, 0]].movedim(0, 1),
    "after dots": lambda h, _: h[..., [3, 1]],
    "gathered": lambda h, m: h.gather(1, m.places.expand(len(h), -1)),
    "selected": lambda h, m: h.index_select(1, m.places),
    "selected from columns": lambda h, m: h.T.index_select(0, m.places).T,
    "repeated": lambda h, _: h.repeat(1, 2),
    "repeated one by one": lambda h, _: h.repeat_interleave(2, 1),
    "tiled": lambda h, _: _pairs(h).tile(1, 2, 1),
    "unfolded": lambda h, _: h.unfold(1, 2, 1),
    "patches": lambda h, _: F.unfold(h.view(-1, 1, 2, 2), 2, padding=1),
    "turned by a right angle": lambda h, _: _pairs(h).rot90(1, (1, 2)),
    "diagonal": lambda h, _: _pairs(h).diagonal(0, 1, 2),
    "lower half": lambda h, _: _pairs(h).tril(),
    "side by side": lambda h, _: torch.hstack([h, -h]),
    "split": lambda h, _: torch.cat(h.tensor_split(3, 1)[::-1], 1),
    "gates moved": lambda h, m: h * (h > 1)[:, m.places],
    "gates repeated": lambda h, _: h.repeat(1, 2) * (h > 1).repeat(1, 2),
}
REFUSED: dict[str, tuple[Act, str]] = {
    "einsum of data and data": (lambda h, _: torch.einsum("bi,bj->bij", h, h), "two data tensors"),
    "einsum with two weights": (
        lambda h, m: torch.einsum("bi,ij,jk->bk", h, m.matrix, m.matrix), "several weights"),
    "einsum with gates": (lambda h, _: torch.einsum("bi,bi->bi", h, (h > 1).to(h)), "gates"),
    "einsum with constants": (lambda h, m: torch.einsum("bi,i->bi", h, m.mask), "nn.Parameter"),
    "einsum of weights added up": (
        lambda h, m: torch.einsum("bi,ij->bi", h, m.matrix), "adds up weights"),
    "einsum of a diagonal": (lambda h, _: torch.einsum("bii->bi", _pairs(h)), "diagonal"),
    "einsum over examples": (lambda h, m: torch.einsum("bi,io->o", h, m.matrix).expand(len(h), -1), "examples"),
    "index of an example": (lambda h, _: h[[0, 0, 1]], "mixes the examples"),
    "index that differs": (lambda h, _: h.gather(1, torch.arange(len(h))[:, None] % 2), "mixes"),
    "index of data": (lambda h, _: h.gather(1, h.argsort(1)), "depend on the data"),
    "examples repeated": (lambda h, _: h.repeat(2, 1)[: len(h)], "mixes|some examples|examples"),
    "bmm of data": (lambda h, _: torch.bmm(_pairs(h), _pairs(h)), "two data tensors"),
    "divided by weights": (lambda h, m: h / m.scale, "divides by the trained factor"),
    "gates times weights": (lambda h, m: h * (m.scale * (h > 1)), "weights multiply gates"),
    "constants over data": (lambda h, m: h * (m.mask / (h + 1.0)), "divides by data"),
    "gates over data": (lambda h, _: h * ((h > 1) / (h + 1.0)), "divides by data"),
}  # fmt: skip


def _made(act: Act) -> nn.Module:
    module = Mixing(act).double()
    module(X)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=seeded(4)))
        module.places.copy_(torch.tensor([2, 0, 0, 3]))  # type: ignore[union-attr, operator]
    return module.eval()


@pytest.mark.parametrize("name", [*PRODUCTS, *MOVES])
def test_three_routes_agree(name: str) -> None:
    module = _made((PRODUCTS | MOVES)[name])
    net = rl.trace(module, X)
    for x in (X, X / 2, torch.randn(3, 3, generator=seeded(1), dtype=F64)):
        gates = net.gates(x)
        error = (net.forward(x, gates, net.weight_values()) - module(x)).abs()
        assert bool((error <= output_bound(net, x, gates)).all())
    listed = rl.paths(net, X)
    assert rl.count_paths(net, X, sources=True) == len(listed)
    for output in range(2):
        assert torch.equal(rl.npk(net, X, output=output), listed.kernel(output))
    if "columns" not in name and "bmm by" not in name:  # which are not followed modulo a prime
        tried = FieldTrials(record(net), 0)[0]
        assert torch.equal(*map(tried.over.canonical, (tried.graph_output, tried.output)))


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_law_is_the_average_over_signs_and_no_statement_fails(name: str) -> None:
    report = rl.check(_made(PRODUCTS[name]), X[:1], effort="quick")
    assert not report.failures, [(v.statement, v.reason) for v in report.failures]
    assert report["dual.inner-product"].outcome is rl.Outcome.HOLDS


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why_and_where_also_where_all_examples_are_alike(name: str) -> None:
    act, why = REFUSED[name]
    for x in (X, torch.ones_like(X)):
        with pytest.raises(rl.UnsupportedOperation, match=rf"odd_specimens.py:\d+: aten.*({why})"):
            rl.trace(_made(act), x)


def test_einsum_is_the_layer_that_it_spells() -> None:
    nets = (rl.trace(_made(PRODUCTS[name]), X) for name in ("einsum", "einsum by groups"))
    dense, grouped = (next(n.operator for n in net.weighted if n.name == "einsum") for net in nets)
    assert dense == Dense(4, 4)
    assert isinstance(grouped, Convolution) and (grouped.groups, grouped.rows) == (2, 6)


def test_axes_that_are_exchanged_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = rules_products._written_out

    def turned(equation: str, ranks: Any) -> Any:
        terms, result = right(equation, ranks)
        return terms, result[0] + result[:0:-1]

    monkeypatch.setattr(rules_products, "_written_out", turned)
    with pytest.raises(rl.UnsupportedOperation, match="the reading of Mixing gives"):
        rl.trace(_made(PRODUCTS["einsum by groups and places"]), X)


ALIKE: dict[str, tuple[Act, str]] = {
    "each example with each": (lambda h, _: h + h[:, None], "different axes"),
    "each times each": (lambda h, _: (h[:, None] * (h > 1)).mean(0), "examples"),
    "each or each": (lambda h, _: torch.maximum(h, h[:, None])[0], "different axes"),
    "largest of all": (lambda h, _: h - h.amax(), "examples"),
    "pooled over examples": (lambda h, _: F.max_pool1d(h.T, 3).T.expand(3, -1), "not the first"),
    "averaged over examples": (lambda h, _: F.avg_pool1d(h.T, 3).T.expand(3, -1), "not the first"),
    "constants a column": (
        lambda h, _: (h.T * torch.arange(3.0).to(h)).T,
        "from example to example",
    ),
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_mixes_examples_is_refused_where_they_are_alike(name: str) -> None:
    """The reading agrees with the module there, so that nothing else would notice."""
    act, why = ALIKE[name]
    with pytest.raises(rl.UnsupportedOperation, match=why):
        rl.trace(_made(act), torch.ones_like(X))
