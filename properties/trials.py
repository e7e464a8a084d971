"""The trials of a check: a module with its own and other weights, on given and on drawn inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from reluctant.properties.sensitivity import Sample
from reluctant.theory.errors import InputError
from reluctant.theory.inputs import check_example
from reluctant.theory.statements import Trial, error_share
from reluctant.theory.twins import twin
from reluctant.theory.verdicts import Tried

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
        self.order = torch.randperm(self._size, generator=torch.Generator().manual_seed(seed))
        self.drawn: list[Trial] = []
        self.origins: list[dict[bytes, str]] = []

    def __iter__(self) -> Iterator[Trial]:
        for k in range(_SPARE * TRIALS[self.effort]):
            if k == len(self.drawn):
                self.drawn.append(self._draw(k))
            yield self.drawn[k]

    def tried(self, count: int) -> Tried:
        """Count the distinct inputs of the first trials, by where they come from.

        Args:
            count: Number of trials.
        """
        found = {row: origin for rows in self.origins[:count] for row, origin in rows.items()}
        counts = Counter(found.values())
        return Tried(counts["data"], self._size, counts["example"], counts["drawn"])

    def recorded(self, x: Tensor) -> Tried:
        """Count the distinct ones of inputs, taken from the data or else from the example.

        Args:
            x: Inputs at which gates were recorded.
        """
        count = len(x.unique(dim=0))
        return Tried(example=count) if self.data is None else Tried(count, self._size)

    @property
    def sample(self) -> Sample:
        """Return the data, or else the example, to measure on."""
        if self.data is None:
            return Sample(self.example, "the example")
        return Sample(self.data[self.order.to(self.data.device)], "the data")

    @property
    def _size(self) -> int:
        return 0 if self.data is None else len(self.data)

    def _draw(self, k: int) -> Trial:
        x, origins = self._inputs(k)
        rows = (row.tobytes() for row in (x.detach().double().cpu() + 0.0).numpy())
        self.origins.append(dict(zip(rows, origins, strict=True)))
        subject = self.module if k % 2 == 0 else _redrawn(self.module, self.generator)
        generator = torch.Generator().manual_seed(self.seed + k)
        return Trial(
            subject, x, generator, work=_WORK[self.effort], error_probability=error_share(k)
        )

    def _inputs(self, k: int) -> tuple[Tensor, list[str]]:
        """Return four inputs and where they come from.

        All data come before any comes again. Without data it is the example, then drawn inputs, of
        integers every third time, so that ties occur.
        """
        if self.data is not None:
            places = torch.arange(_EXAMPLES * k, _EXAMPLES * (k + 1)) % self._size
            return self.data[self.order[places].to(self.data.device)], ["data"] * _EXAMPLES
        example = self.example
        drawn = torch.randn(
            _EXAMPLES, *example.shape[1:], generator=self.generator, dtype=torch.float64
        ).to(example)
        spread = float(example.double().std()) if example.numel() > 1 else 0.0
        drawn = drawn * (spread or 1.0) + float(example.double().mean())
        if k % 3 == 2:
            return torch.round(2 * drawn / (spread or 1.0)), ["drawn"] * _EXAMPLES
        given = example[:_EXAMPLES] if k == 0 and bool(example[:_EXAMPLES].any()) else example[:0]
        rest = drawn[len(given) :]
        return torch.cat([given, rest]), ["example"] * len(given) + ["drawn"] * len(rest)


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
