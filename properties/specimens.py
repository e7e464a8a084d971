"""Drawing a specimen of a family: weights, statistics and inputs for an architecture that is drawn.

Everything is drawn by Hypothesis, so that it shrinks. Weights and inputs are small integers, which
makes most identities exact and ties frequent, or such integers times 0.37.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from reluctant.models import Regime, Soft
from reluctant.theory.errors import InputError

T = TypeVar("T")
EXAMPLES = 3
UNSEEN = torch.Generator()  # builders want one; every weight is overwritten by drawn numbers


@dataclass(frozen=True, slots=True, eq=False)
class Specimen:
    r"""Be one drawn network with inputs.

    Attributes:
        module: The network, float64, in evaluation mode.
        x: Inputs, shape (n, \*input).
        seed: Seed of whatever a claim draws.
        choices: What was drawn for the architecture, in order, as JSON has it.
    """

    module: nn.Module
    x: Tensor
    seed: int
    choices: tuple[Any, ...]

    def __repr__(self) -> str:
        sizes = [tuple(p.shape) for p in self.module.parameters()]
        return f"Specimen({type(self.module).__name__}, parameters {sizes}, x {tuple(self.x.shape)}, seed {self.seed})"


Builder = Callable[[st.DrawFn], tuple[nn.Module, tuple[int, ...]]]


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Be a kind of network.

    Attributes:
        name: What a reader calls it.
        build: Draws the architecture; returns it with the shape of one input.
        dependent: Copy the values' weights into the network that makes the gates.
    """

    name: str
    build: Builder
    dependent: bool = False

    @property
    def specimens(self) -> st.SearchStrategy[Specimen]:
        """Return the strategy that draws specimens."""
        return specimens_of(self.build, self.dependent)

    def architecture(self, choices: Sequence[Any]) -> nn.Module:
        """Build an architecture again, without drawing.

        Args:
            choices: Those of a :class:`Specimen`, of this or another run.

        Returns:
            The module, float64, in evaluation mode; its weights mean nothing yet.

        Raises:
            InputError: If the choices are not this family's.
        """
        rest = iter(choices)
        try:
            module, _ = self.build(cast("st.DrawFn", _Replayed(rest)))
        except Exception as error:  # whatever a builder does with what is not its own
            raise InputError(f"the family “{self.name}” does not build {list(choices)}") from error
        if list(rest):
            raise InputError(f"the family “{self.name}” needs fewer choices than {list(choices)}")
        return module.double().eval()


class _Recorded:
    """Draw, and keep what was drawn."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.choices: list[Any] = []

    def __call__(self, strategy: st.SearchStrategy[T], label: object = None) -> T:
        value = self.draw(strategy, label)
        self.choices.append(
            {"soft": asdict(value)} if isinstance(value, Soft) else copy.copy(value)
        )
        return value


class _Replayed:
    """Give what was drawn in place of drawing."""

    def __init__(self, choices: Iterator[Any]) -> None:
        self.choices = choices

    def __call__(self, strategy: st.SearchStrategy[T], label: object = None) -> Any:
        value = next(self.choices)
        if isinstance(value, dict):
            return Soft(**value["soft"])
        return Regime(value) if isinstance(value, str) else value


@st.composite
def specimens_of(draw: st.DrawFn, build: Builder, dependent: bool = False) -> Specimen:
    """Draw a network, its weights and its inputs.

    Args:
        draw: Hypothesis's source of choices.
        build: Draws the architecture; returns it with the shape of one input.
        dependent: Copy the values' weights into the network that makes the gates.
    """
    recorded = _Recorded(draw)
    module, shape = build(cast("st.DrawFn", recorded))
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
    x = x * draw(st.sampled_from([1.0, 1.0, 0.37]))
    return Specimen(module, x, draw(st.integers(0, 2**16)), tuple(recorded.choices))


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
