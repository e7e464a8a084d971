"""What was found of a network: each thing with all its places, and how far the network is from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Name one place of a finding.

    Attributes:
        what: What stands there, such as ``fc2.bias is a bias``.
        where: File and line in the user's source, or the module's path.
    """

    what: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Size:
    """Say how far a network is from something, measured on inputs.

    Attributes:
        what: What was measured, as a formula in words.
        on: On which inputs, and on which changes of them.
        largest: Largest of the numbers.
        mean: Mean of the numbers.
    """

    what: str
    on: str
    largest: float
    mean: float

    @property
    def words(self) -> str:
        """Return all of it in one line.

        >>> Size("|f(2x) − 2 f(x)| / |2 f(x)|", "4 inputs of the data", 0.25, 0.125).words
        '|f(2x) − 2 f(x)| / |2 f(x)|: 0.25 at most, 0.12 on average, on 4 inputs of the data'
        """
        numbers = f"{self.largest:.2g} at most, {self.mean:.2g} on average"
        return f"{self.what}: {numbers}, on {self.on}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Say one thing about the structure of a network.

    Attributes:
        name: What was asked; of a hypothesis its very name, such as ``bias-free``.
        met: Whether the network has it; None where the answer is a description.
        answer: The answer in a few words.
        places: Every place that makes it so, in the network's order.
        sizes: How far the network is from it, where that was measured.
    """

    name: str
    met: bool | None
    answer: str
    places: tuple[Place, ...] = ()
    sizes: tuple[Size, ...] = ()
