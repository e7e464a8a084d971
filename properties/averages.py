r"""Expectations over the value weights, the slow way: through every sign pattern, or by drawing.

The weights are independent and ±σ; the gates are held as recorded. As f is linear in each weight,

.. math:: \partial f / \partial w_j = (f|_{w_j = \sigma_j} - f|_{w_j = -\sigma_j}) / 2 \sigma_j

so that outputs at all sign patterns give the expected tangent kernel with no sampling and no
automatic differentiation: nothing here is shared with the propagation that it is compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reluctant.properties.bounds import inner_product_bound, is_integral, path_sum_bound
from reluctant.properties.weights import Sigma, WeightEntries, absolute_outputs, weight_entries
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gates
from reluctant.theory.statements import CannotTry, Trial
from reluctant.theory.underflow import smallest
from reluctant.theory.verdicts import EvidenceKind

_AT_ONCE = 2**22  # weights of the draws that are evaluated together
_GRADIENTS = 2**24  # largest number of gradient entries to hold
_EXACT_BELOW = 2.0**53


@dataclass(frozen=True, slots=True, eq=False)
class Average:
    """Be an expectation over the value weights, and how well it is known.

    Attributes:
        mean: The expectation.
        half_width: How far the mean may be off, same shape; 0 for exact arithmetic.
        kind: "exact" or "rounding" for all sign patterns, "statistical" for a sample.
        error_probability: Chance that a sample's mean is further off; None without sampling.
        detail: How it was found, one line.
    """

    mean: Tensor
    half_width: Tensor
    kind: EvidenceKind
    error_probability: float | None
    detail: str


def tangent_average(
    trial: Trial,
    sigma: Sigma,
    *,
    gates: Gates | None = None,
    x: Tensor | None = None,
    net: PathNetwork | None = None,
) -> Average:
    r"""Average the tangent kernel over ±σ weights, gates held, traced over the outputs.

    .. math:: E_v \sum_o \langle \nabla_v f_o(x), \nabla_v f_o(x') \rangle

    Args:
        trial: Network, inputs, randomness, and the largest number of patterns and of draws. No
            weight may act twice on one path.
        sigma: σ, one number for all weights or one a parameter by name; 0 is allowed, and such a
            weight still has a derivative.
        gates: Gates in place of the recorded ones, such as fewer (``thinning.thinned``).
        x: Inputs in place of the trial's.
        net: Network in place of the trial's, such as one with a single output.

    Returns:
        The average, shape (n, n). Through every sign pattern if there are at most
        ``trial.patterns``, by ``trial.samples`` draws otherwise.

    Raises:
        CannotTry: If the gradients would not fit into memory.

    Cost:
        One forward pass a pattern; for a sample one backward pass a draw, example and output.
    """
    entries = weight_entries(trial, sigma, gates, x, net)
    if entries.patterns <= trial.patterns:
        return _tangents_of_all_patterns(entries)
    return _sampled(entries, trial, tangent=True)


def output_average(
    trial: Trial,
    sigma: Sigma,
    *,
    gates: Gates | None = None,
    x: Tensor | None = None,
    net: PathNetwork | None = None,
) -> Average:
    r"""Average f(x) f(x') over ±σ weights, gates held: shape (n, n, outputs).

    Args:
        trial: As for :func:`tangent_average`.
        sigma: As there.
        gates: As there.
        x: As there.
        net: As there.
    """
    entries = weight_entries(trial, sigma, gates, x, net)
    if entries.patterns <= trial.patterns:
        return _outputs_of_all_patterns(entries)
    return _sampled(entries, trial, tangent=False)


def _outputs(entries: WeightEntries, flat: Tensor) -> Float[Tensor, "draws n outputs"]:
    found: Tensor = torch.func.vmap(entries.output, chunk_size=_chunk(entries, _AT_ONCE))(flat)
    return found


def _chunk(entries: WeightEntries, budget: int) -> int:
    return max(1, min(1024, budget // max(1, len(entries.sigmas))))


def _all_patterns(entries: WeightEntries) -> Float[Tensor, "patterns live"]:
    """Return every sign pattern; entry number j is negative where bit j is set."""
    count = len(entries.signed)
    bits = torch.arange(entries.patterns)[:, None] >> torch.arange(count) & 1
    return entries.with_signs(1.0 - 2.0 * bits.double())


def _tangents_of_all_patterns(entries: WeightEntries) -> Average:
    flat = _all_patterns(entries)
    f = _outputs(entries, flat)
    n, outputs = f.shape[1:]
    mean = torch.zeros(n, n, dtype=torch.float64)
    for j, entry in enumerate(entries.signed.tolist()):
        halves = f.reshape(-1, 2, 2**j, n, outputs)
        slope = (halves[:, 0] - halves[:, 1]).reshape(-1, n, outputs) / (
            2 * float(entries.sigmas[entry])
        )
        mean = mean + _mean_gram(slope)
    for k in range(len(entries.signed), len(entries.live)):
        moved = flat.clone()
        moved[:, k] = 1.0
        mean = mean + _mean_gram(_outputs(entries, moved) - f)
    return _complete(entries, mean, *_tangent_error(entries))


def _tangent_error(entries: WeightEntries) -> tuple[Tensor, Tensor]:
    """Return the largest admissible error, and the size of what was added."""
    sigmas = entries.sigmas[entries.live]
    step = torch.where(sigmas > 0, sigmas, 1.0)
    slopes = _reach(entries)
    # A difference of outputs keeps the rounding of the whole outputs, and is divided by the step.
    weights = entries.weights(step)
    whole = path_sum_bound(
        entries.net, entries.x, entries.gates, weights=weights, passes=1, extra=3
    )
    off = whole[:, :, None] / step + smallest()
    crossed = torch.einsum("noe,moe->nm", slopes, off)
    size = torch.einsum("noe,moe->nm", slopes, slopes)
    summed = entries.patterns * slopes.shape[1] + len(step) + 8
    carried = crossed + crossed.T + torch.einsum("noe,moe->nm", off, off)
    return inner_product_bound(summed, size, carried), size


def _outputs_of_all_patterns(entries: WeightEntries) -> Average:
    f = _outputs(entries, _all_patterns(entries))
    mean = torch.einsum("pno,pmo->nmo", f, f) / entries.patterns
    sigmas = entries.sigmas[entries.live]
    values = absolute_outputs(entries, sigmas)
    weights = entries.weights(sigmas)
    off = path_sum_bound(entries.net, entries.x, entries.gates, weights=weights, passes=1)
    size, crossed, squared = (
        torch.einsum("no,mo->nmo", left, right)
        for left, right in ((values, values), (values, off), (off, off))
    )
    carried = crossed + crossed.transpose(0, 1) + squared
    return _complete(entries, mean, inner_product_bound(entries.patterns + 8, size, carried), size)


def _complete(entries: WeightEntries, mean: Tensor, half_width: Tensor, size: Tensor) -> Average:
    detail = f"all {entries.patterns} sign patterns of {len(entries.signed)} weights"
    sigmas = entries.sigmas[entries.live]
    largest = max(float(size.max()), float(absolute_outputs(entries, sigmas).max()))
    is_small = largest * entries.patterns < _EXACT_BELOW
    if is_small and is_integral(entries.net, entries.x, entries.gates, [sigmas]):
        return Average(mean, torch.zeros_like(mean), EvidenceKind.EXACT, None, detail)
    return Average(mean, half_width, EvidenceKind.ROUNDING, None, detail)


def _sampled(entries: WeightEntries, trial: Trial, *, tangent: bool) -> Average:
    draws = trial.samples
    signs = torch.randint(0, 2, (draws, len(entries.signed)), generator=trial.generator)
    flat = entries.with_signs(1.0 - 2.0 * signs.double())
    if tangent:
        kernels = _drawn_tangents(entries, flat)
        slopes = _reach(entries)
        largest = torch.einsum("noe,moe->nm", slopes, slopes)
    else:
        f = _outputs(entries, flat)
        kernels = torch.einsum("pno,pmo->pnmo", f, f)
        values = absolute_outputs(entries, entries.sigmas[entries.live])
        largest = torch.einsum("no,mo->nmo", values, values)
    chance = trial.error_probability
    half_width = bernstein(kernels, 2 * largest, chance)
    detail = f"{draws} draws of {len(entries.signed)} signs, empirical Bernstein interval"
    return Average(kernels.mean(0), half_width, EvidenceKind.STATISTICAL, chance, detail)


def _drawn_tangents(entries: WeightEntries, flat: Tensor) -> Float[Tensor, "draws n n"]:
    def kernel(row: Tensor) -> Tensor:
        slopes = torch.func.jacrev(entries.output)(row)  # (n, outputs, live)
        return torch.einsum("noe,moe->nm", slopes, slopes)

    held = _check_gradients(entries)
    found: Tensor = torch.func.vmap(kernel, chunk_size=max(1, min(256, _AT_ONCE // held)))(flat)
    return found


def _reach(entries: WeightEntries) -> Float[Tensor, "n outputs live"]:
    """Return Σ |φ_p| ∏ σ of the other weights, over the paths through each entry."""
    _check_gradients(entries)

    def absolute(row: Tensor) -> Tensor:
        return absolute_outputs(entries, row)

    found: Tensor = torch.func.jacrev(absolute)(entries.sigmas[entries.live])
    return found


def _check_gradients(entries: WeightEntries) -> int:
    held = len(entries.x) * entries.net.output_size * max(1, len(entries.live))
    if held > _GRADIENTS:
        raise CannotTry(
            f"gradients of {held} entries are too many to average (at most {_GRADIENTS}); take "
            "fewer inputs or outputs"
        )
    return held


def bernstein(
    samples: Float[Tensor, "draws n n *outputs"], spread: Tensor, error_probability: float
) -> Tensor:
    r"""Return the half-width of an interval for the mean of bounded variables.

    .. math:: \sqrt{2 V \ln(4/\delta) / S} + 7 R \ln(4/\delta) / (3 (S - 1))

    It is valid at every sample size, unlike Student's, which products of many signs can fool: they
    have heavy tails.

    Args:
        samples: S ≥ 2 independent draws.
        spread: R, largest minus smallest possible value, shape of one draw.
        error_probability: Chance that any entry is further off; δ is its share for one entry.

    Source:
        Maurer & Pontil, *Empirical Bernstein bounds and sample variance penalization*, 2009,
        theorem 4, for both sides.
    """
    draws = samples.shape[0]
    log = math.log(4 * max(1, samples[0].numel()) / error_probability)
    return torch.sqrt(2 * samples.var(0) * log / draws) + 7 * spread * log / (3 * (draws - 1))


def _mean_gram(slope: Float[Tensor, "patterns n outputs"]) -> Float[Tensor, "n n"]:
    return torch.einsum("pno,pmo->nm", slope, slope) / len(slope)
