"""The trials of a check: a module with its own and other weights, on given and on drawn inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from reluctant.theory.errors import InputError
from reluctant.theory.inputs import check_example
from reluctant.theory.statements import Trial, error_share
from reluctant.theory.twins import twin

Effort = Literal["quick", "default", "thorough"]
TRIALS: dict[str, int] = {"quick": 1, "default": 3, "thorough": 10}
_WORK: dict[str, float] = {"quick": 1e8, "default": 5e8, "thorough": 1e11}
_SPARE = 3  # trials prepared for each one wanted, since both sides may vanish in some
_EXAMPLES = 4
_LARGEST = 1e60  # variances multiply four inputs, and float64 ends at 1.8e308


class Trials:
    """Be the trials of a check, drawn when they are first needed, and the same for every statement."""

    def __init__(
        self, module: nn.Module, example: Tensor, data: Tensor | None, effort: Effort, seed: int
    ) -> None:
        self.module, self.example, self.effort, self.seed = module, example, effort, seed
        self.data = None if data is None else _usable(data, example)
        _require_range(example, "the example")
        if self.data is not None:
            _require_range(self.data, "the data tensor")
        self.generator = torch.Generator().manual_seed(seed)
        self.drawn: list[Trial] = []

    def __iter__(self) -> Iterator[Trial]:
        for k in range(_SPARE * TRIALS[self.effort]):
            if k == len(self.drawn):
                self.drawn.append(self._draw(k))
            yield self.drawn[k]

    def _draw(self, k: int) -> Trial:
        x = _inputs(self.example, self.data, k, self.generator)
        subject = self.module if k % 2 == 0 else _redrawn(self.module, self.generator)
        generator = torch.Generator().manual_seed(self.seed + k)
        return Trial(
            subject, x, generator, work=_WORK[self.effort], error_probability=error_share(k)
        )


def _inputs(example: Tensor, data: Tensor | None, k: int, generator: torch.Generator) -> Tensor:
    """Return four inputs: given ones first, then drawn ones; integers every third time, so that ties occur."""
    if data is not None:
        order = torch.randperm(len(data), generator=generator)
        return data[order.repeat(-(-_EXAMPLES // len(data)))[:_EXAMPLES].to(data.device)]
    drawn = torch.randn(_EXAMPLES, *example.shape[1:], generator=generator, dtype=torch.float64).to(
        example
    )
    spread = float(example.double().std()) if example.numel() > 1 else 0.0
    drawn = drawn * (spread or 1.0) + float(example.double().mean())
    if k % 3 == 2:
        return torch.round(2 * drawn / (spread or 1.0))
    given = example[:_EXAMPLES]
    useful = k == 0 and bool(given.any())
    return torch.cat([given, drawn[len(given) :]]) if useful else drawn


def _usable(data: Tensor, example: Tensor) -> Tensor:
    """Return the data in the type and on the device of the example."""
    check_example(data, "the data tensor")
    if tuple(data.shape[1:]) != tuple(example.shape[1:]):
        raise InputError(
            f"the data tensor has shape {tuple(data.shape)}: examples of shape "
            f"{tuple(data.shape[1:])}, but the example has {tuple(example.shape[1:])}"
        )
    data = data.detach().to(example)
    check_example(data, f"the data tensor, as {example.dtype},")
    return data


def _require_range(x: Tensor, what: str) -> None:
    largest = float(x.abs().max()) if x.numel() else 0.0
    if largest > _LARGEST:
        raise InputError(
            f"{what} reaches {largest:.3g}, and products of four such numbers, which variances "
            f"of kernels have, leave float64; scale it to {_LARGEST:.0e} at most"
        )


def _redrawn(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Return a copy with other weights of the same size: signs turned and entries shuffled."""
    copied = twin(module)
    with torch.no_grad():
        for parameter in copied.parameters():
            order = torch.randperm(parameter.numel(), generator=generator)
            signs = torch.randint(0, 2, (parameter.numel(),), generator=generator) * 2 - 1
            flat = parameter.detach().flatten()
            parameter.copy_((flat[order.to(flat.device)] * signs.to(flat)).reshape(parameter.shape))
    return copied
