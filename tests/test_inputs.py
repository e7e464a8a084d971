"""Bad input, to every function that takes a module and inputs: one line, and nothing changed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reluctant as rl
from reluctant.theory.rounding import output_bound

X = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]], dtype=torch.float64)


def make_module() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return module.double()


def checked(module: nn.Module, x: Tensor) -> rl.Report:
    return rl.check(module, x, ["dual.inner-product"], effort="quick")


FUNCTIONS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "trace": rl.trace,
    "paths": rl.paths,
    "count_paths": rl.count_paths,
    "gates": rl.gates,
    "npk": rl.npk,
    "nngp_law": lambda m, x: rl.nngp_law(m, x, variance=1.0),
    "ntk_law": lambda m, x: rl.ntk_law(m, x, variance=1.0),
    "ntk": rl.ntk,
    "check": checked,
}
PLAIN = {name: FUNCTIONS[name] for name in ("trace", "npk", "count_paths", "ntk", "check")}
LATER: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "the gates of a path network": lambda m, x: rl.trace(m, X).gates(x),
    "the kernel of a path network": lambda m, x: rl.npk(rl.trace(m, X), x),
    "the count of a path network": lambda m, x: rl.count_paths(rl.trace(m, X), x),
    "the tangent kernel of a path network": lambda m, x: rl.ntk(rl.trace(m, X), x),
    "second inputs of npk": lambda m, x: rl.npk(m, X, x),
    "second inputs of ntk": lambda m, x: rl.ntk(m, X, x),
    "data of check": lambda m, x: rl.check(m, X, ["dual.psd"], data=x, effort="quick"),
}
INPUTS: dict[str, tuple[Tensor, str]] = {
    "wrong shape": (X[:, :2], "shape"),
    "one example without a batch": (X[0], "shape"),
    "no axis": (X[0, 0], r"shape .*\(\)"),
    "empty batch": (X[:0], "at least one example"),
    "integers": (X.long(), "floating point, got torch.int64; convert it"),
    "complex": (X.to(torch.complex128), "floating point, got torch.complex128"),
    "nan": (X * torch.tensor([[1.0], [float("nan")]]), "NaN or infinite values, first in row 1"),
    "inf": (X / 0, "NaN or infinite values, first in row 0"),
    "meta device": (X.to("meta"), "the meta device, which holds no numbers"),
    "sparse": (X.to_sparse(), r"the layout torch\.sparse_coo; make it dense"),
    "float8": (X.to(torch.float8_e4m3fn), r"is torch\.float8_e4m3fn, in which .* convert it"),
}


@pytest.mark.parametrize("name", [*FUNCTIONS, *LATER])
def test_what_is_no_tensor_is_refused_in_one_line(name: str) -> None:
    function = {**FUNCTIONS, **LATER}[name]
    optional = {"second inputs of npk", "second inputs of ntk", "data of check"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch says that these are a prototype
        nested = torch.nested.nested_tensor([X[0], X[1, :2]])
    wrong: list[tuple[Any, str]] = [(nested, "is a nested tensor; make examples of one shape")]
    if name not in optional:
        wrong += [(None, "got NoneType"), (3.0, "got float"), ("x", "got str")]
    for inputs, message in wrong:
        with pytest.raises(rl.InputError, match=message) as caught:
            function(make_module(), inputs)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "expected a torch.nn.Module, got NoneType"),
        ("net", "expected a torch.nn.Module, got str"),
        (3, "expected a torch.nn.Module, got int"),
        (nn.Identity, "got the class Identity; make one of it first"),
    ],
)
def test_what_is_no_module_is_refused_in_one_line(name: str, bad: Any, message: str) -> None:
    with pytest.raises(rl.InputError, match=message):
        PLAIN[name](bad, X)


def test_a_path_network_has_a_tangent_kernel_and_is_checked_by_its_module() -> None:
    module = make_module()
    net = rl.trace(module, X)
    assert torch.equal(rl.ntk(net, X), rl.ntk(module, X))
    assert torch.equal(rl.ntk(net, X[:1], X), rl.ntk(module, X[:1], X))
    assert rl.count_paths(net, X[:1]) == rl.count_paths(net, -X) == 24
    with pytest.raises(rl.InputError, match=r"got PathNetwork; pass its module, net\.module"):
        checked(net, X)  # type: ignore[arg-type]


@pytest.mark.parametrize("call", [rl.npk, rl.nngp_law, rl.ntk_law, rl.count_paths])
def test_outputs_are_numbers(call: Callable[..., Any]) -> None:
    for output, message in (
        ("a", "number of an output coordinate, got 'a'; the network has 2 of them"),
        (1.0, r"number of an output coordinate, got 1\.0"),
        (2, "output 2 does not exist: the network has 2 output coordinates"),
        (-3, "output -3 does not exist"),
    ):
        with pytest.raises(rl.InputError, match=message):
            call(make_module(), X, output=output)
    assert call(make_module(), X, output=-1) is not None


@pytest.mark.parametrize("call", [rl.nngp_law, rl.ntk_law])
@pytest.mark.parametrize("variance", ["a", "1", [1, 2], None, torch.ones(2), {"0.weight": "a"}])
def test_variances_are_numbers(call: Callable[..., Any], variance: Any) -> None:
    if isinstance(variance, dict):
        variance = {"2.weight": 1.0, **variance}
    with pytest.raises(rl.InputError, match="variance must be a number, or a mapping that gives"):
        call(make_module(), X, variance=variance)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rand_like(x)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (nn.Dropout(), r"^1 \(Dropout\) draws at random in training mode.*module\.eval\(\)"),
        (nn.RReLU(), r"^1 \(RReLU\) draws at random in training mode.*module\.eval\(\)"),
        (Noisy(), "the module draws at random when it runs"),
    ],
)
def test_a_module_that_draws_has_no_tangent_kernel(noise: nn.Module, message: str) -> None:
    module = nn.Sequential(make_module(), noise)
    state = torch.get_rng_state()
    with pytest.raises(rl.InputError, match=message):
        rl.ntk(module, X)
    assert torch.equal(torch.get_rng_state(), state)
    if not isinstance(noise, Noisy):
        assert rl.ntk(module.eval(), X).shape == (2, 2)


@pytest.mark.parametrize("name", PLAIN)
def test_autocast_is_named(name: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        PLAIN[name](make_module(), X)  # in float64 it changes nothing
        with pytest.raises(rl.InputError, match=r"torch\.autocast is on.* torch\.bfloat16"):
            PLAIN[name](make_module().float(), X.float())


class Holding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = make_module().float()


class Casting(Holding):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output: Tensor = self.net(x)
        return output.float()


class Choosing(Holding):
    def forward(self, x: Tensor) -> Tensor:
        h = self.net(x)
        chosen: Tensor = torch.cond(h.sum() > 0, torch.relu, torch.neg, (h,))
        return chosen


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Casting, r"torch\.autocast computes a part of the module in another type; leave it out"),
        (Choosing, r"test_inputs\.py:\d+: cond .* the data choose one of its branches"),
    ],
)
def test_parts_with_a_graph_of_their_own_are_named(kind: type[Holding], message: str) -> None:
    with pytest.raises(rl.UnsupportedOperation, match=message):
        rl.trace(kind(), X.float())


@pytest.mark.parametrize("bad", INPUTS)
@pytest.mark.parametrize("name", [*FUNCTIONS, *LATER])
def test_bad_inputs_are_refused_in_one_line(name: str, bad: str) -> None:
    inputs, message = INPUTS[bad]
    with pytest.raises(rl.InputError, match=message) as caught:
        {**FUNCTIONS, **LATER}[name](make_module(), inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_example_of_another_type_is_refused_with_the_remedy(name: str) -> None:
    message = r"0\.weight is torch.float64 but the example is torch.float32; convert one"
    with pytest.raises(rl.InputError, match=message):
        FUNCTIONS[name](make_module(), X.float())


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def broken(change: Callable[[nn.Sequential], object]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        module = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)
        ).double()
        module.eval()
        with torch.no_grad():
            change(module)
        return module

    return make


MODULES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "nan weights": (
        broken(lambda m: m[0].weight[0, 0].fill_(float("nan"))),  # type: ignore[operator]
        r"0\.weight holds NaN or infinite values; .* reload or re-initialise",
    ),
    "infinite weights": (
        broken(lambda m: m[3].bias[0].fill_(float("inf"))),  # type: ignore[operator]
        r"3\.bias holds NaN or infinite values",
    ),
    "nan statistics": (
        broken(lambda m: m[1].running_var[0].fill_(float("nan"))),  # type: ignore[operator]
        r"output on the example is not finite; the buffer 1\.running_var holds NaN",
    ),
    "overflow": (
        broken(lambda m: (m[0].weight.fill_(1e300), m[3].weight.fill_(1e300))),  # type: ignore[operator]
        "it overflows float64 .* scale inputs or weights down",
    ),
    "training mode": (
        broken(lambda m: m.train()),
        r"1 \(BatchNorm1d\) is a batch norm in training mode.*call module\.eval\(\)",
    ),
    "mixed types": (broken(lambda m: m[3].float()), r"3\.weight is torch.float32"),
    "mixed devices": (
        broken(lambda m: m[3].to("meta")),
        r"3\.weight is on the meta device and has no values; build the module on the cpu",
    ),
    "two outputs": (lambda: Outputs(), "returns a tuple; choose one tensor with one_tensor"),
    "more rows than examples": (
        lambda: Doubling(),
        r"maps shape \(2, 3\) to \(4, 3\); its first axis",
    ),
    "fewer rows than examples": (
        lambda: Dropping(),
        r"maps shape \(2, 3\) to \(1, 3\); its first axis",
    ),
    "not initialised": (lambda: nn.LazyLinear(2), "weight is not initialised yet; run"),
    "not initialised, buffers": (
        lambda: nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d()).eval(),
        r"0\.weight is not initialised yet; run",
    ),
}


class Outputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Doubling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x])


class Dropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[1:]


@pytest.mark.parametrize("bad", MODULES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bad_modules_are_refused_in_one_line(name: str, bad: str) -> None:
    make, message = MODULES[bad]
    with pytest.raises(rl.InputError, match=message) as caught:
        FUNCTIONS[name](make(), X)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_example_on_another_device_is_refused(name: str) -> None:
    with pytest.raises(rl.InputError, match=r"0\.weight is on cpu but the example is on cuda"):
        FUNCTIONS[name](make_module(), X.cuda())


def test_a_module_that_branches_on_its_data_is_refused_by_its_line() -> None:
    for name in set(FUNCTIONS) - {"check", "ntk"}:  # a tangent kernel needs no path network
        with pytest.raises(
            rl.UnsupportedOperation, match=r"test_inputs\.py:\d+: .* use torch\.where"
        ):
            FUNCTIONS[name](Branching(), X)
    (verdict,) = checked(Branching(), X)
    assert verdict.outcome is rl.Outcome.UNSUPPORTED
    assert verdict.unmet[0].where.startswith("test_inputs.py:")


def test_weights_that_only_make_gates_must_be_finite_too() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Linear(3, 4).double()
            self.values = nn.Linear(3, 4).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.values(x) * (self.features(x) > 0)

    module = Gated()
    with torch.no_grad():
        module.features.weight[0] = float("nan")
    with pytest.raises(rl.InputError, match=r"features\.weight holds NaN"):
        rl.trace(module, X)


def test_paths_need_operands_that_fit() -> None:
    net = rl.trace(make_module(), X)
    gates, weights = net.gates(X), net.weight_values()
    error = (net.forward(X, gates, weights) - net.module(X)).abs()
    assert bool((error <= output_bound(net, X, gates)).all())
    for x, gate, weight, message in (
        (X[:, :2], gates, weights, r"shape \(2, 2\), but the network was read at \(n, 3\)"),
        (X[:0], gates, weights, "with n >= 1"),
        (X.long(), gates, weights, r"0\.weight is given as torch.float64 .* torch.int64"),
        (X.float(), gates, weights, r"torch.float32 on cpu; convert one"),
        (X.to("meta"), gates, weights, r"on cpu, but the input is torch.float64 on meta"),
        (X[:1], gates, weights, "are those of 2 inputs, got 1"),
        (X, [], weights, "1 layers of gates, got 0"),
        (X, gates, weights[:1], "2 weight tensors, got 1"),
        (X, gates, weights[::-1], r"0\.weight has shape \(4, 3\), got \(2, 4\)"),
    ):
        with pytest.raises(rl.InputError, match=message):
            net.forward(x, gate, weight)


def test_another_number_of_inputs_is_read_again() -> None:
    net = rl.trace(make_module(), X)
    assert torch.equal(net.gates(X[:1])[0], net.gates(X)[0][:1])


class _Restless(torch.nn.Module):
    """Count its calls, and change its input in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.more = 0
        self.net = torch.nn.Sequential(
            torch.nn.Linear(3, 2, bias=False), torch.nn.ReLU(), torch.nn.Linear(2, 1, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.more += 1
        output: torch.Tensor = self.net(x.mul_(2.0))
        return output


def test_tangents_and_checks_leave_module_and_inputs_as_they_are() -> None:
    torch.manual_seed(0)
    module = _Restless().double()
    x = torch.randn(3, 3, dtype=torch.float64)
    before = x.clone()
    first = rl.ntk(module, x)
    report = rl.check(module, x, ["dual.ntk-factor", "dual.relu-is-dgn"], effort="quick")
    assert torch.equal(x, before)
    assert torch.equal(rl.ntk(module, x), first)
    assert (float(module.calls), module.more) == (0.0, 0)
    assert not report.failures


@pytest.mark.parametrize("switch", [torch.no_grad, torch.inference_mode])
def test_tangents_do_not_depend_on_what_the_caller_switched_off(switch: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    x = torch.randn(2, 2)
    wanted = rl.ntk(module, x)
    assert bool(wanted.any())
    with switch():
        assert torch.equal(rl.ntk(module, x), wanted)
        report = rl.check(module, x, ["dual.ntk-factor"], effort="quick")
    assert not report.failures
