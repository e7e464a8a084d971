"""Every pattern of the gates of one input, and how likely each is when gates are on at random."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from reluctant.properties.bounds import inner_product_bound
from reluctant.theory.statements import CannotTry, Trial
from reluctant.theory.structure import DenseChain, dense_chain

_MOST_PATTERNS = 2**9  # patterns of gates of one input that are gone through
_EXACT_BELOW = 2.0**53
_MEANS = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True, eq=False)
class GatePatterns:
    """Be a chain of dense layers at one input, with every pattern of its gates in turn.

    Attributes:
        chain: The chain.
        x: The input, once for each pattern: a unit vector, unless a constant feeds the paths.
        gates: Gates of all layers; those of the chain are the patterns.
        chance: How likely each pattern is, a multiple of 4^(−N) for N gates.
        mean: Chance μ of a gate to be on: ¼, ½ or ¾.
    """

    chain: DenseChain
    x: Tensor
    gates: list[Tensor]
    chance: Float[Tensor, " patterns"]
    mean: float

    def average(self, values: Float[Tensor, "patterns patterns"]) -> Float[Tensor, " 2"]:
        """Average over the gates of s = s', and over independent gates of s and s'."""
        return torch.stack([self.chance @ values.diagonal(), self.chance @ values @ self.chance])

    def averages_exactly(self, values: Tensor) -> bool:
        """Tell whether averages of whole numbers are exact, those of their absolute values too.

        Products of two chances are multiples of 4^(−2N), and so are all partial sums. They are
        exact as long as the largest number is below 2^53 times that.
        """
        return float(values.abs().max()) * 4.0 ** (2 * sum(self.chain.hidden)) < _EXACT_BELOW

    def tolerance(self, values: Tensor, bound: Tensor | float) -> Float[Tensor, " 2"]:
        """Bound the error of averages of numbers that are known to within a bound.

        Each number meets two products and the sums over the patterns, twice. Chances add up to 1, so
        that no more than the bound is carried in, but for their own rounding.
        """
        meets = 2 * len(self.chance) + 2
        carried = 2 * float(torch.as_tensor(bound).max())
        return inner_product_bound(meets, self.average(values.abs()), carried)


def dense_chain_of(trial: Trial) -> DenseChain:
    """Return the chain of dense layers with gates that a network is.

    Raises:
        CannotTry: If it is none.
    """
    chain = dense_chain(trial.net)
    if chain is None or not chain.gates:
        raise CannotTry("the formula is that of a chain of dense layers with gates")
    return chain


def gate_patterns(trial: Trial) -> GatePatterns:
    """Draw μ, and list every pattern of gates with its probability.

    Args:
        trial: Network and randomness; its inputs and gates play no part.

    Raises:
        CannotTry: If the network is no chain of dense layers, or has too many gates.
    """
    chain = dense_chain_of(trial)
    mean = _MEANS[trial.integer(0, len(_MEANS))]
    count = sum(chain.hidden)
    if 2**count > _MOST_PATTERNS:
        raise CannotTry(f"2^{count} patterns of gates are too many (at most {_MOST_PATTERNS})")
    bits = torch.tensor(list(product((0.0, 1.0), repeat=count)), dtype=torch.float64)
    gates = [g.new_zeros(1, *g.shape[1:]).double() for g in trial.gates]
    for g, part in zip(chain.gate_of, bits.split(list(chain.hidden), 1), strict=True):
        if g is not None:
            gates[g] = part
    chance = (bits * mean + (1 - bits) * (1 - mean)).prod(1)
    x = torch.zeros(len(chance), *trial.net.input_shape, dtype=trial.x.dtype)
    x.flatten(1)[:, 0] = 1.0
    return GatePatterns(chain, x, gates, chance, mean)
