r"""First two moments of the tangent kernel of a fully connected network, layer by layer.

Gates are fixed, weights independent and symmetric with variance σ² and fourth moment κ σ⁴; κ = 1 is
±σ. With q, q' the pre-activations of two inputs at the units of a layer and
:math:`\Theta_{km} = \langle \nabla q_k(x), \nabla q_m(x') \rangle`, one more layer gives

.. math::
    \Theta^+_{ij} = \delta_{ij} \sum_k g_k g'_k q_k q'_k
        + \sum_{k,m} W_{ik} W_{jm}\, g_k g'_m \Theta_{km}.

Rows of W are independent and alike, so a second moment is one of eleven numbers, whatever the units.
No path is listed and no weight drawn; numbers may be floats, Fractions or symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Number = Any  # int, float, Fraction, or a symbol: whatever can be added and multiplied
SIGNS = 1  # fourth moment of ±σ in units of σ⁴
GAUSSIAN = 3


@dataclass(frozen=True, slots=True)
class GateSums:
    """Hold what moments need of one layer's gates g and g' at two inputs.

    Attributes:
        both: Σ g g'.
        squared: Σ g² g'².
        first: Σ g².
        second: Σ g'².
    """

    both: Number
    squared: Number
    first: Number
    second: Number

    @classmethod
    def of(cls, gates: Sequence[Number], others: Sequence[Number]) -> GateSums:
        """Return the sums of the gates of two inputs."""
        pairs = list(zip(gates, others, strict=True))
        return cls(
            sum(g * h for g, h in pairs),
            sum((g * h) ** 2 for g, h in pairs),
            sum(g * g for g in gates),
            sum(h * h for h in others),
        )

    @classmethod
    def open(cls, width: Number) -> GateSums:
        """Return the sums of a layer whose gates are all on."""
        return cls(width, width, width, width)


@dataclass(frozen=True, slots=True)
class _Totals:
    """Hold expectations of products of sums over the units of a layer, gates applied.

    With s = Σ a a', t = Σ g g' Θ_kk, and a = g q: ``ss`` is E s², ``st`` E s t, ``tt`` E t²;
    ``straight`` and ``crossed`` are E Σ (g_k g'_m Θ_km)² and E Σ g_k g'_k g_m g'_m Θ_km Θ_mk, with
    ``own`` their terms k = m; ``carried``, ``turned`` and ``single`` the same with a_k a'_m in
    place of one g_k g'_m Θ_km; ``norms`` is E Σ a² Σ a'² and ``fourth`` E Σ a² a'².
    """

    ss: Number
    st: Number
    tt: Number
    straight: Number
    crossed: Number
    own: Number
    carried: Number
    turned: Number
    single: Number
    norms: Number
    fourth: Number

    def second_moment(self, variance: Number, kurtosis: Number) -> Number:
        """Return E Θ⁺_ii² of the layer after."""
        paired = self.tt + self.straight + self.crossed + (kurtosis - 3) * self.own
        return self.ss + 2 * variance * self.st + variance**2 * paired

    def after(self, gates: GateSums, variance: Number, kurtosis: Number) -> _Totals:
        """Return the totals after one more layer of weights and gates."""
        v, excess = variance, kurtosis - 3
        own = self.second_moment(v, kurtosis)  # Θ_ii²
        traces = self.ss + 2 * v * self.st + v**2 * self.tt  # Θ_ii Θ_jj
        straight, crossed = v**2 * self.straight, v**2 * self.crossed  # Θ_ij², Θ_ij Θ_ji
        mixed = v * (self.ss + v * self.st)  # q_i q'_i Θ_jj
        carried, turned = v**2 * self.carried, v**2 * self.turned  # q_i q'_j Θ_ij, q_i q'_j Θ_ji
        single = mixed + v**2 * (self.carried + self.turned + excess * self.single)
        products, norms = v**2 * self.ss, v**2 * self.norms  # q_i q'_i q_j q'_j, q_i² q'_j²
        fourth = 2 * products + norms + v**2 * excess * self.fourth  # q_i² q'_i²
        alike = gates.squared
        pairs = gates.both**2 - gates.squared
        across = gates.first * gates.second - gates.squared
        return _Totals(
            ss=alike * fourth + pairs * products,
            st=alike * single + pairs * mixed,
            tt=alike * own + pairs * traces,
            straight=alike * own + across * straight,
            crossed=alike * own + pairs * crossed,
            own=alike * own,
            carried=alike * single + across * carried,
            turned=alike * single + pairs * turned,
            single=alike * single,
            norms=alike * fourth + across * norms,
            fourth=alike * fourth,
        )


def tangent_moments(
    x: Sequence[Number],
    y: Sequence[Number],
    gates: Sequence[GateSums],
    variance: Number,
    kurtosis: Number = SIGNS,
) -> tuple[Number, Number]:
    r"""Return mean and variance of K_v(x, x') of one output over symmetric random weights.

    Args:
        x: What enters the paths at the first input.
        y: At the second.
        gates: Sums of the gates of each hidden layer at the two inputs.
        variance: σ², the same for all layers.
        kurtosis: E w⁴ / σ⁴: 1 for ±σ, 3 for Gaussian weights.

    Returns:
        Exact numbers if the arguments are.

    Cost:
        A few dozen products a layer, whatever the widths.
    """
    product = sum(a * b for a, b in zip(x, y, strict=True))
    norms = sum(a * a for a in x) * sum(b * b for b in y)
    fourth = sum((a * b) ** 2 for a, b in zip(x, y, strict=True))
    totals = _Totals(product**2, 0, 0, 0, 0, 0, 0, 0, 0, norms, fourth)
    mean = (len(gates) + 1) * variance ** len(gates) * product
    for layer in gates:
        totals = totals.after(layer, variance, kurtosis)
        mean = mean * layer.both
    return mean, totals.second_moment(variance, kurtosis) - mean**2


def open_variance(depth: int, width: int, inputs: int = 1) -> Fraction:
    """Return Var K_v with all gates on, inputs all one and σ² = 1/w: an exact number.

    Args:
        depth: d ≥ 1, the number of weight layers.
        width: w of every hidden layer.
        inputs: n_in.
    """
    ones = [Fraction(1)] * inputs
    layers = [GateSums.open(Fraction(width))] * (depth - 1)
    return Fraction(tangent_moments(ones, ones, layers, Fraction(1, width))[1])
