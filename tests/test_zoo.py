"""Networks in the styles of the public zoos: read, both routes alike, and judged as theory says."""

from __future__ import annotations

import pytest
import torch
from model_specimens import integer_weights, seeded
from torch import Tensor, nn
from zoo_further import FURTHER, Recurrent
from zoo_specimens import STYLES

import reluctant as rl
from reluctant.properties.bounds import kernel_tolerance
from reluctant.theory.errors import NotIdentified
from reluctant.theory.rounding import output_bound
from reluctant.theory.tracing import trace
from reluctant.theory.verdicts import Outcome


@pytest.fixture(params=[*STYLES, *FURTHER])
def specimen(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    module, shape = (STYLES | FURTHER)[request.param]
    module(torch.zeros(2, *shape, dtype=next(module.parameters()).dtype))  # lazy layers find out
    integer_weights(module.double().eval(), seeded(1))
    x = torch.randint(-3, 4, (3, *shape), generator=seeded(2)).double()
    return module, x


def test_paths_add_up_to_the_output_and_kernels_agree(specimen: tuple[nn.Module, Tensor]) -> None:
    module, x = specimen
    net = trace(module, x)
    gates = net.gates(x)
    listed = rl.paths(net, x)
    assert rl.count_paths(net, x, sources=True) == len(listed)
    output = module(x).flatten(1)
    assert bool(((listed.output() - output).abs() <= output_bound(net, x, gates).flatten(1)).all())
    for o in range(net.output_size):
        kernel = rl.npk(net, x, output=o)
        assert bool(kernel.any())
        bound, _ = kernel_tolerance(net, x, gates, passes=4)
        worst = torch.as_tensor(bound)
        worst = worst[..., o] if worst.ndim == 3 else worst
        assert bool(((kernel - listed.kernel(o)).abs() <= worst).all())


def test_verdicts_are_as_expected(specimen: tuple[nn.Module, Tensor]) -> None:
    module, x = specimen
    report = rl.check(module, x[:1], ["dual.", "conv.", "skip."], effort="quick")
    assert not report.failures, [(v.statement, v.reason) for v in report.failures]
    assert all(v.outcome is not Outcome.UNSUPPORTED for v in report)
    assert report["dual.inner-product"].outcome is Outcome.HOLDS


def test_a_layer_used_at_every_step_has_paths_and_no_kernel_but_no_false_verdict() -> None:
    module = integer_weights(Recurrent(3).double(), seeded(1))
    x = torch.randint(-3, 4, (3, 3, 2), generator=seeded(2)).double()
    assert torch.equal(rl.paths(module, x).output(), module(x))
    with pytest.raises(NotIdentified, match=r"keep\.weight"):
        rl.npk(module, x)
    report = rl.check(module, x[:1], effort="quick")
    assert not report.failures, [(v.statement, v.reason) for v in report.failures]
    assert "read.weight acts at several places" in report["dual.npk-overlap"].reason
