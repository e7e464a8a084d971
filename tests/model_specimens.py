"""Small networks of every kind, for the tests of models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from reluctant.models import (
    Architecture,
    GatedNetwork,
    Skip,
    Soft,
    Stage,
    make_conv,
    make_deep_linear,
    make_dgn,
    make_dlgn,
    make_dlgn_sf,
    make_fc,
    make_residual,
    make_staged,
    record_masks,
)
from reluctant.properties.shifts import soft_slack
from reluctant.theory.rounding import absolute_output, output_bound
from reluctant.theory.statements import Trial

F64 = torch.float64
Generator = torch.Generator


class Part(nn.Module):
    """Apply a function."""

    def __init__(self, part: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def integer_weights(module: nn.Module, generator: Generator, multiple: int = 1) -> nn.Module:
    """Draw weights from -2 to 2, so that float64 computes without rounding.

    Biases, and means and shifts of batch norms, are multiples of the given number; with inputs that
    are multiples too, so is every activation, and averages over so many are integers. The variance
    of a batch norm becomes 1 or 1/4 and its ε 0: it divides by 1 or 1/2.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = torch.randint(-2, 3, parameter.shape, generator=generator)
            added = name.rpartition(".")[2] == "bias"
            parameter.copy_(drawn * (multiple if added else 1))
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eps = 0.0
                mean, variance = part.running_mean, part.running_var
                assert mean is not None and variance is not None
                for buffer in (mean, variance):
                    buffer.copy_(torch.randint(0, 2, buffer.shape, generator=generator))
                mean.mul_(multiple)
                variance.copy_(0.25**variance)
    return module


def integer_inputs(network: Architecture, n: int = 3, seed: int = 7, multiple: int = 1) -> Tensor:
    """Draw inputs from -3 to 3, times a number."""
    drawn = torch.randint(-3, 4, (n, *network.input_shape), generator=seeded(seed))
    return multiple * drawn.to(F64)


def rounding_of(network: nn.Module, x: Tensor) -> Tensor:
    """Bound how far two evaluations of a network may be apart, soft gates made anew in each."""
    trial = Trial(network, x, seeded())
    gates = trial.net.gates(x)
    bound = output_bound(trial.net, x, gates)
    return bound + soft_slack(trial) * absolute_output(trial.net, x, gates)


def assert_same(a: Tensor, b: Tensor, network: nn.Module, x: Tensor) -> None:
    """Allow for the rounding of sums taken in another order: two evaluations at the same gates."""
    assert bool(((a - b).abs() <= rounding_of(network, x)).all())


def assert_different(a: Tensor, b: Tensor, network: nn.Module, x: Tensor) -> None:
    """Ask for more than rounding can do, the bound that equal ones are held to."""
    assert bool(((a - b).abs() > rounding_of(network, x)).any())


def inputs(network: Architecture, n: int = 3, seed: int = 7) -> Tensor:
    return torch.randn(n, *network.input_shape, dtype=F64, generator=seeded(seed))


SKIPS = (
    Stage((2,)),
    Stage((3, 4), stride=2, skip=Skip.AFTER),
    Stage((4,), skip=Skip.AFTER),
    Stage((3, 5), pool=2, skip=Skip.INSIDE),
)
ARCHITECTURES: dict[str, Callable[[Generator], Architecture]] = {
    "fc": lambda g: make_fc(3, [4, 4], 2, generator=g, dtype=F64),
    "fc-bias-norm": lambda g: make_fc(
        (1, 2, 2), [4, 3], 2, generator=g, bias=True, batch_norm=True, dtype=F64
    ),
    "conv1d-average": lambda g: make_conv((2, 6), [3, 3], 2, dense=[3], generator=g, dtype=F64),
    "conv1d-max": lambda g: make_conv(
        (2, 5), [3, 4], 2, pool="max", batch_norm=True, generator=g, dtype=F64
    ),
    "conv2d-flatten": lambda g: make_conv(
        (2, 5, 6), [3, 4], 2, window=2, stride=2, padding="zero", pool="flatten", bias=True,
        generator=g, dtype=F64,
    ),
    "conv2d-max-first": lambda g: make_conv(
        (2, 4, 5), [3, 4], 2, window=(3, 1), pool="max", ties="first", dense=[4],
        generator=g, dtype=F64,
    ),
    "residual-fc": lambda g: make_residual(3, 4, 2, skips=2, generator=g, dtype=F64),
    "residual-conv": lambda g: make_residual(
        (2, 4, 4), 3, 2, block_layers=2, pool="max", bias=True, pre_scale=0.5, post_scale=2.0,
        generator=g, dtype=F64,
    ),
    "staged-pools": lambda g: make_staged(
        (2, 8, 8), [Stage((3, 2), pool=2), Stage((4,), pool=2)], 2,
        padding="zero", batch_norm=True, generator=g, dtype=F64,
    ),
    "staged-skips": lambda g: make_staged(
        (2, 8), SKIPS, 2, bias=True, output_scale=0.5, generator=g, dtype=F64
    ),
}  # fmt: skip

Source = Callable[[Architecture, Generator], nn.Module]
SOURCES: dict[str, Source] = {
    "dnn": lambda a, g: a,
    "dnn-soft": lambda a, g: GatedNetwork(a, None, Soft(4.0, 0.1)),
    "dgn-frozen-independent": lambda a, g: make_dgn(a, "FRNPF(II)", generator=g),
    "dgn-frozen-dependent": lambda a, g: make_dgn(a, "FRNPF(DI)", generator=g),
    "dgn-decoupled": lambda a, g: make_dgn(a, "DLNPF", generator=g, kind="gated"),
    "dgn-learnt-ones": lambda a, g: make_dgn(
        a, "FLNPF", learnt=a, generator=g, value_input="ones"
    ),
    "dlgn": lambda a, g: make_dlgn(a, generator=g),
    "dlgn-hard-ones": lambda a, g: make_dlgn(a, "FRNPF(II)", generator=g, value_input="ones"),
    "deep-linear": lambda a, g: make_deep_linear(a),
    "dlgn-sf": lambda a, g: make_dlgn_sf(a, generator=g, bias=True),
    "recorded": lambda a, g: GatedNetwork(a, record_masks(a, inputs(a))),
}  # fmt: skip


def make_specimen(architecture: str, source: str = "dnn", seed: int = 0) -> nn.Module:
    generator = seeded(seed)
    value = ARCHITECTURES[architecture](generator).eval()
    return SOURCES[source](value, generator).eval()
