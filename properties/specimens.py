"""Drawing a specimen of a family: weights, statistics and inputs for an architecture that is drawn.

Everything is drawn by Hypothesis, so that it shrinks. Weights and inputs are small integers, which
makes most identities exact and ties frequent, or such integers times 0.37.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

EXAMPLES = 3
UNSEEN = torch.Generator()  # builders want one; every weight is overwritten by drawn numbers


@dataclass(frozen=True, slots=True, eq=False)
class Specimen:
    r"""Be one drawn network with inputs.

    Attributes:
        module: The network, float64, in evaluation mode.
        x: Inputs, shape (n, \*input).
        seed: Seed of whatever a claim draws.
    """

    module: nn.Module
    x: Tensor
    seed: int

    def __repr__(self) -> str:
        sizes = [tuple(p.shape) for p in self.module.parameters()]
        return f"Specimen({type(self.module).__name__}, parameters {sizes}, x {tuple(self.x.shape)}, seed {self.seed})"


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Be a kind of network.

    Attributes:
        name: What a reader calls it.
        specimens: Strategy that draws specimens.
    """

    name: str
    specimens: st.SearchStrategy[Specimen]


Builder = Callable[[st.DrawFn], tuple[nn.Module, tuple[int, ...]]]


@st.composite
def specimens_of(draw: st.DrawFn, build: Builder, dependent: bool = False) -> Specimen:
    """Draw a network, its weights and its inputs.

    Args:
        draw: Hypothesis's source of choices.
        build: Draws the architecture; returns it with the shape of one input.
        dependent: Copy the values' weights into the network that makes the gates.
    """
    module, shape = build(draw)
    module = module.double().eval()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            _draw_statistics(draw, part)
    parameters = [p for _, p in module.named_parameters()]
    scale = draw(st.sampled_from([1.0, 1.0, 0.37]))
    total = sum(p.numel() for p in parameters)
    numbers = draw(hnp.arrays(np.int8, total, elements=st.integers(-3, 3), fill=st.nothing()))
    flat = torch.from_numpy(numbers.astype(np.float64)) * scale
    with torch.no_grad():
        for parameter, values in zip(
            parameters, flat.split([p.numel() for p in parameters]), strict=True
        ):
            parameter.copy_(values.reshape(parameter.shape))
        if dependent:
            _copy_values_to_features(module)
    size = EXAMPLES * int(np.prod(shape))
    inputs = draw(hnp.arrays(np.int8, size, elements=st.integers(-3, 3), fill=st.nothing()))
    x = torch.from_numpy(inputs.astype(np.float64)).reshape(EXAMPLES, *shape)
    return Specimen(
        module, x * draw(st.sampled_from([1.0, 1.0, 0.37])), draw(st.integers(0, 2**16))
    )


def _draw_statistics(draw: st.DrawFn, norm: nn.modules.batchnorm._BatchNorm) -> None:
    """Draw running statistics; a variance near 0 would only test its ε."""
    count = norm.num_features
    assert norm.running_mean is not None and norm.running_var is not None
    mean = draw(st.lists(st.integers(-2, 2), min_size=count, max_size=count))
    variance = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    norm.running_mean.copy_(torch.tensor(mean))
    norm.running_var.copy_(torch.tensor(variance))


def _copy_values_to_features(module: nn.Module) -> None:
    parameters = dict(module.named_parameters())
    values = {
        name.removeprefix("value."): p
        for name, p in parameters.items()
        if name.startswith("value.")
    }
    for name, p in parameters.items():
        for suffix, value in values.items():
            if name.startswith("gates.") and name.endswith(f".{suffix}"):
                p.copy_(value)
