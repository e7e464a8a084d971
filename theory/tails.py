r"""Means of heavy-tailed numbers, with error bars that hold for the number of draws there is.

Let U_1, …, U_N be independent with mean m, θ and α be fixed before they are drawn, v = E (U − θ)², and

.. math:: \hat\theta = \theta + \frac{1}{N \alpha} \sum_i \psi(\alpha (U_i - \theta)),
    \qquad \psi(t) = \mathrm{sign}(t) \log(1 + |t| + t^2/2)

As ψ(t) ≤ log(1 + t + t²/2) for all t, E exp Σ ψ ≤ exp(N α (m − θ) + N α² v/2), and Markov's
inequality on both sides gives |θ̂ − m| ≤ α v/2 + log(1/ε)/(N α), but for a chance of 2 ε: the width of
a normal law, with a second moment only (Catoni, *Challenging the empirical mean and empirical variance*,
2012). v in turn is bounded by its own mean, since a sum of numbers Y ≥ 0 has no long lower tail:
E Y ≤ Ȳ / (1 − √(2 κ log(1/ε)/N)), but for a chance of ε, where κ = E Y² / (E Y)² (Maurer, *A bound on the
deviation probability for sums of non-negative random variables*, 2003).

With Y = (U − θ)² and k the kurtosis of U, κ ≤ (1 + √k)², wherever θ is: the fourth root of E (U − θ)⁴ is
at most k^{1/4} σ + |m − θ| (Minkowski), whose square is at most (√k + 1)(σ² + (m − θ)²) (Cauchy).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reluctant.theory.errors import InputError


@dataclass(frozen=True, slots=True)
class Terms:
    """Say what a round of draws is held to.

    Attributes:
        count: N, number of draws.
        kurtosis: Largest kurtosis of a draw.
        failure: Chance that an entry's bar does not hold.
    """

    count: int
    kurtosis: float
    failure: float

    @property
    def exponent(self) -> float:
        """Return log(1/ε): two sides and the second moment share the chance."""
        return math.log(3.0 / self.failure)

    @property
    def ratio(self) -> float:
        """Return κ."""
        return (1.0 + math.sqrt(self.kurtosis)) ** 2

    @property
    def known(self) -> float:
        """Return the share of v that its sample mean reaches, 0 if there are too few draws."""
        return max(0.0, 1.0 - math.sqrt(2.0 * self.ratio * self.exponent / self.count))


class Mean:
    """Gather draws, and return their mean with its bar.

    Args:
        centre: θ, known before the draws.
        spread: A guess of v, positive, known before the draws; α is best if it is right.
        terms: What the bar is held to.
    """

    def __init__(self, centre: Tensor, spread: Tensor, terms: Terms) -> None:
        self.terms = terms
        self._centre = centre
        self._alpha = (2.0 * terms.exponent / (terms.count * spread)).sqrt()
        self._influence, self._square, self._fourth = (torch.zeros_like(centre) for _ in range(3))

    def add(self, draws: Tensor) -> None:
        """Take some draws into account, along the first axis."""
        off = draws - self._centre
        square = off.square()
        self._square += square.sum(0)
        self._fourth += square.square_().sum(0)
        off *= self._alpha
        size = off.abs()
        self._influence += size.square().mul_(0.5).add_(size).log1p_().copysign_(off).sum(0)

    @property
    def estimate(self) -> Tensor:
        """Return θ̂."""
        return self._centre + self._influence / (self.terms.count * self._alpha)

    @property
    def second_moment(self) -> Tensor:
        """Return the mean of (U − θ)²."""
        return self._square / self.terms.count

    @property
    def bar(self) -> Tensor:
        """Return how far the estimate may be off.

        Raises:
            InputError: If the draws themselves have longer tails than was allowed for.
        """
        terms = self.terms
        seen = (self._fourth * terms.count / self._square.square()).nan_to_num_(0.0)
        if float(seen.max()) > terms.ratio:
            raise InputError(
                f"the draws have a ratio E Y²/(E Y)² of {float(seen.max()):.3g}, above the "
                f"{terms.ratio:.3g} of the kurtosis {terms.kurtosis:.3g} that the error bars allow "
                "for; pass a larger kurtosis"
            )
        v = self.second_moment / terms.known if terms.known else torch.full_like(seen, math.inf)
        return self._alpha * v / 2.0 + terms.exponent / (terms.count * self._alpha)
