"""How a training went."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Course:
    """Carry how a training went, epoch by epoch.

    Attributes:
        losses: Mean loss of the batches as they were met.
        accuracies: Share of the test images that was classified rightly after the epoch.
        times: Seconds, tests included; those of a group over its number of networks.
        images: Number of images that an epoch trains on.
        together: Number of networks that were trained at once in the last epoch.
        failure: Why the training ended early, such as ``the loss became nan in epoch 3``; empty
            otherwise.
    """

    losses: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()
    times: tuple[float, ...] = ()
    images: int = 0
    together: int = 1
    failure: str = ""

    def after(self, loss: float, accuracy: float, seconds: float, together: int = 1) -> Course:
        """Return the course with one more epoch, or failed in it if its loss is not finite."""
        if not math.isfinite(loss):
            epoch = len(self.losses) + 1
            return replace(self, failure=f"the loss became {loss} in epoch {epoch}")
        return replace(
            self,
            losses=(*self.losses, loss),
            accuracies=(*self.accuracies, accuracy),
            times=(*self.times, seconds),
            together=together,
        )

    @property
    def last(self) -> float:
        """Return the test accuracy after the last epoch."""
        return self.accuracies[-1]

    @property
    def best(self) -> float:
        """Return the best test accuracy of all epochs: chosen on the test images themselves."""
        return max(self.accuracies)

    @property
    def best_epoch(self) -> int:
        """Return the first epoch with the best test accuracy, counted from 1."""
        return self.accuracies.index(self.best) + 1

    @property
    def seconds(self) -> float:
        """Return the time taken, tests included."""
        return sum(self.times)

    @property
    def images_per_second(self) -> float:
        """Return how many images were trained on in a second, tests included."""
        return len(self.times) * self.images / self.seconds if self.seconds else float("inf")
