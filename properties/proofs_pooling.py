"""Proofs about circular convolutions fed with ones, and with a maximum over all positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from reluctant.properties.proof_shapes import (
    OWN_GATES,
    Shape,
    Shapes,
    convolution,
    gated_convolution,
)
from reluctant.properties.proofs_convolution import (
    Gates,
    Some,
    every,
    invariance,
    of_the_shifted,
    of_the_unshifted,
    only_none,
    rotation_sum,
)
from reluctant.properties.proofs_kernels import read_off
from reluctant.theory.nodes import Constant
from reluctant.theory.pooled import fed
from reluctant.theory.proofs import Identity, Proof, Step
from reluctant.theory.statements import Mutant


def _gated_zero_padded() -> tuple[Shape, ...]:
    return (gated_convolution(1, (3,), (2,), padding="zero"),)


def _fed_with_ones() -> tuple[Shape, ...]:
    return (
        gated_convolution(1, (3,), (2,)),
        gated_convolution(1, (3,), (2, 2)),
        gated_convolution(1, (3, 3), (1,)),
    )


def _ramp(shape: Sequence[int]) -> torch.Tensor:
    ramp = 1 + torch.arange(math.prod(shape[1:]), dtype=torch.float64)
    return ramp.reshape(1, *shape[1:]).expand(*shape)


def _fed_with_a_ramp() -> tuple[Shape, ...]:
    shape = gated_convolution(1, (3,), (2,))
    (start,) = (n for n in shape.net.nodes if isinstance(n, Constant) and n.is_input)
    net = fed(shape.net, _ramp(start.shape))
    return (replace(shape, words="the same fed with a ramp", net=net),)


def constant_input(shapes: Shapes = _fed_with_ones) -> Proof:
    """Make the proof that ones as value input keep the kernel shift invariant."""
    step = Step(
        "Gates come from the data by the feature network, paths begin at ones; the kernel from "
        "its definition, with the gates of the rotated data.",
        r"H_{\mathbf 1}(\mathrm{rot}(x, r), y) = H_{\mathbf 1}(x, y)",
        lambda: invariance(shapes, of_the_shifted, True),
    )
    soft = Step(
        "The same for soft gates, any function of the pre-activation.",
        step.formula,
        lambda: invariance(shapes, of_the_shifted, False),
    )
    return Proof(
        name="conv.constant-input",
        title="Ones in place of the data on the paths keep the kernel shift invariant.",
        claim=step.formula,
        symbols=(*OWN_GATES, ("r", "a rotation, with an index a gate")),
        steps=(step, soft),
        conclusion="For all weights and inputs, and all rotations, of the networks named.",
    )


def _maxima() -> tuple[Shape, ...]:
    return (
        convolution(1, (3,), (2,), pool="max"),
        convolution(2, (3,), (2,), pool="max"),
        convolution(1, (4,), (1, 2), pool="max"),
        convolution(1, (3,), (2,), (2,), pool="max"),
    )


def max_pool(some: Some = every, gates: Gates = of_the_shifted, shapes: Shapes = _maxima) -> Proof:
    """Make the proof that a maximum keeps the kernel invariant, and that it is a sum of overlaps.

    Args:
        some: Which rotations are added.
        gates: Gates and winners at the shifted input.
        shapes: Networks.
    """

    def identities() -> Iterator[Identity]:
        for shape in shapes():
            symbolic = shape.symbols()
            right = rotation_sum(shape, symbolic, some)
            yield Identity(read_off(symbolic), right, shape.words, "H(x, y)")

    steps = (
        Step(
            "A winner is named by its entry and by those it is compared with, so without ties "
            "winners rotate with the input.",
            r"H(\mathrm{rot}(x, r), y) = H(x, y)",
            lambda: invariance(shapes, gates, True),
        ),
        Step(
            "The kernel read off the expanded outputs against overlaps of listed paths: winners "
            "are gates too, and there is no average.",
            r"H(x, y) = \sum_r \sum_i x(i)\, \mathrm{rot}(y, r)(i)\, "
            r"\mathrm{overlap}(i, x, \mathrm{rot}(y, r))",
            identities,
        ),
    )
    return Proof(
        name="conv.max-pool",
        title="A maximum over all positions keeps the kernel invariant where no ties decide.",
        claim=(
            r"H(\mathrm{rot}(x, r), y) = H(x, y) = \sum_r \sum_i x(i)\, \mathrm{rot}(y, r)(i)\, "
            r"\mathrm{overlap}(i, x, \mathrm{rot}(y, r))"
        ),
        symbols=(*OWN_GATES, ("g, h", "gates and winners at $x$ and $y$")),
        steps=steps,
        conclusion=(
            "For all weights, and inputs at which no tie decides, of the networks named. The "
            "second step holds for any gates and winners that rotate with the input."
        ),
    )


PROOFS: dict[str, Callable[..., Proof]] = {
    "conv.constant-input": constant_input,
    "conv.max-pool": max_pool,
}
FAULTS: dict[str, tuple[Mutant, ...]] = {
    "conv.constant-input": (
        Mutant("a ramp as value input", {"shapes": _fed_with_a_ramp}),
        Mutant("zero padding", {"shapes": _gated_zero_padded}),
    ),
    "conv.max-pool": (
        Mutant("only r = 0", {"some": only_none}),
        Mutant("winners recorded before the shift", {"gates": of_the_unshifted}),
    ),
}
