"""The trials of a check: a module with its own and other weights, on given and on drawn inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from reluctant.properties.sensitivity import Sample
from reluctant.theory.costs import Cost, is_large, trial_bytes
from reluctant.theory.errors import InputError
from reluctant.theory.inputs import check_example
from reluctant.theory.network import PathNetwork
from reluctant.theory.statements import LIMIT, Trial, error_share
from reluctant.theory.twins import twin
from reluctant.theory.verdicts import Tried

Effort = Literal["quick", "default", "thorough"]
TRIALS: dict[str, int] = {"quick": 1, "default": 3, "thorough": 10}
LIMITS: dict[str, Cost] = {
    "quick": Cost(kernels=2e9, passes=5e10, bytes=2.0**31),
    "default": LIMIT,
    "thorough": Cost(kernels=1e11, passes=1e13, bytes=2.0**34),
}
_SPARE = 3  # trials prepared for each one wanted, since both sides may vanish in some
_EXAMPLES = 4
_FEW = 2  # examples of a large network: a pair, the fewest that a kernel says something of
_LARGEST = 1e60  # variances multiply four inputs, and float64 ends at 1.8e308


class Trials:
    """Be the trials of a check, drawn when they are first needed, and the same for every statement.

    The first is kept, and of the others as many as half of the limit's bytes can hold; the rest are
    drawn again whenever they are needed.
    """

    def __init__(
        self, net: PathNetwork, example: Tensor, data: Tensor | None, effort: Effort, seed: int
    ) -> None:
        self.net, self.module, self.example = net, net.module, example
        self.effort, self.seed = effort, seed
        self.limit, self.examples = LIMITS[effort], _FEW if is_large(net) else _EXAMPLES
        self.room = max(1, int(self.limit.bytes / 2 / trial_bytes(net, self.examples)))
        self.data = None if data is None else _usable(data, example)
        _require_range(example, "the example")
        if self.data is not None:
            _require_range(self.data, "the data tensor")
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.randperm(self._size, generator=torch.Generator().manual_seed(seed))
        self.states = [self.generator.get_state()]
        self.kept: dict[int, Trial] = {}
        self.origins: list[dict[bytes, str]] = []

    def __iter__(self) -> Iterator[Trial]:
        for k in range(_SPARE * TRIALS[self.effort]):
            yield self.kept[k] if k in self.kept else self._draw(k)

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
        self.generator.set_state(self.states[k])
        x, origins = self._inputs(k)
        subject = self.module if k % 2 == 0 else _redrawn(self.module, self.generator)
        if k == len(self.origins):  # for the first time
            rows = (row.tobytes() for row in (x.detach().double().cpu() + 0.0).numpy())
            self.origins.append(dict(zip(rows, origins, strict=True)))
            self.states.append(self.generator.get_state())
        generator = torch.Generator().manual_seed(self.seed + k)
        chance = error_share(k)
        trial = Trial(
            subject, x, generator, limit=self.limit, error_probability=chance, like=self.net
        )
        if k < self.room:
            self.kept[k] = trial
        return trial

    def _inputs(self, k: int) -> tuple[Tensor, list[str]]:
        """Return the inputs and where they come from.

        All data come before any comes again. Without data it is the example, then drawn inputs, of
        integers every third time, so that ties occur.
        """
        if self.data is not None:
            places = torch.arange(self.examples * k, self.examples * (k + 1)) % self._size
            return self.data[self.order[places].to(self.data.device)], ["data"] * self.examples
        example = self.example
        drawn = torch.randn(
            self.examples, *example.shape[1:], generator=self.generator, dtype=torch.float64
        ).to(example)
        spread = float(example.double().std()) if example.numel() > 1 else 0.0
        drawn = drawn * (spread or 1.0) + float(example.double().mean())
        if k % 3 == 2:
            return torch.round(2 * drawn / (spread or 1.0)), ["drawn"] * self.examples
        given = (
            example[: self.examples]
            if k == 0 and bool(example[: self.examples].any())
            else example[:0]
        )
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
            # Of types that are no longer than the numbers they are for: there may be many.
            count, flat = parameter.numel(), parameter.detach().flatten()
            order = torch.randperm(count, generator=generator, dtype=torch.int32).to(flat.device)
            signs = torch.randint(0, 2, (count,), generator=generator, dtype=torch.int8)
            shuffled = flat.index_select(0, order).mul_(signs.mul_(2).sub_(1).to(flat.device))
            parameter.copy_(shuffled.reshape(parameter.shape))
    return copied
