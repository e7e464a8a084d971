"""One plain training loop, the same for every network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from reluctant.reports.data import DataSet, Images
from reluctant.reports.experiment import RunFailed

_AT_ONCE = 512
_RISING = 0.2


@dataclass(frozen=True, slots=True)
class Recipe:
    """Say how to train: Adam on the cross entropy, its rate rising and falling along two lines.

    Attributes:
        epochs: How often every image is seen.
        rate: Highest rate, reached after a fifth of the steps; the last one is next to zero.
        batch: Images a step; the last batch of an epoch may be smaller.
    """

    epochs: int
    rate: float
    batch: int = 32


@dataclass(frozen=True, slots=True)
class Course:
    """Carry how a training went, epoch by epoch.

    Attributes:
        losses: Mean cross entropy of the batches as they were met.
        accuracies: Share of the test images that was classified rightly after the epoch.
        seconds: Time taken, tests included.
    """

    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    seconds: float

    @property
    def last(self) -> float:
        """Return the test accuracy after the last epoch."""
        return self.accuracies[-1]

    @property
    def best(self) -> float:
        """Return the best test accuracy of all epochs: chosen on the test images themselves."""
        return max(self.accuracies)


def train(
    network: nn.Module,
    data: DataSet,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    device: torch.device | str = "cpu",
    after_epoch: Callable[[int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Course:
    """Train a network in place.

    The same generator, device, library version and number of threads give the same network.

    Args:
        network: Module with one output a class; parameters that need no gradient stay as they are.
        data: What to train and to test on.
        recipe: How.
        generator: CPU generator of the order of the images.
        device: Where to compute; the network is left there.
        after_epoch: Told the number of epochs done.
        clock: Seconds.

    Returns:
        The course of the training. The network is left in evaluation mode.

    Raises:
        RunFailed: If the loss stops being finite; names the epoch.
    """
    start = clock()
    network.to(device)
    part, test = data.train.to(device), data.test.to(device)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=recipe.rate, fused=True)
    steps = recipe.epochs * math.ceil(len(part) / recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: triangle(step, steps))
    losses, accuracies = [], []
    with flushed_denormals():
        for epoch in range(1, recipe.epochs + 1):
            network.train()
            total = torch.zeros((), device=device)
            for index in torch.randperm(len(part), generator=generator).split(recipe.batch):
                inputs, labels = part.batch(index.to(device))
                loss = F.cross_entropy(network(inputs), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach() * len(labels)
            losses.append(float(total) / len(part))
            if not math.isfinite(losses[-1]):
                raise RunFailed(f"the loss became {losses[-1]} in epoch {epoch}")
            accuracies.append(accuracy(network, test))
            if after_epoch is not None:
                after_epoch(epoch)
    return Course(tuple(losses), tuple(accuracies), clock() - start)


def triangle(step: int, steps: int) -> float:
    """Return the share of the highest rate at a step: up a line, then down another.

    Args:
        step: Number of the step, from 0.
        steps: How many there are.
    """
    top = max(1.0, _RISING * steps)
    return min((step + 1) / top, (steps - step) / (steps - top + 1))


def accuracy(network: nn.Module, images: Images) -> float:
    """Return the share of images whose largest output is that of their class.

    The network is put into evaluation mode.
    """
    network.eval()
    right = 0
    with torch.no_grad():
        for index in torch.arange(len(images), device=images.labels.device).split(_AT_ONCE):
            inputs, labels = images.batch(index)
            right += int((network(inputs).argmax(1) == labels).sum())
    return right / len(images)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take numbers below the smallest normal one as zero, on the CPU.

    Soft gates σ(βq) come close enough to zero for such numbers to be common, and a processor takes
    a hundred times as long over them: without this a linearly gated network trains at a third of
    the speed.
    """
    tiny = torch.finfo(torch.float32).tiny
    flushed = float(torch.tensor(tiny) / 2) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)
