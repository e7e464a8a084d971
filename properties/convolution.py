"""Statements of shift symmetry: circular convolution, pooled over all positions (dlgn, ckl)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reluctant.properties import costs, shifts
from reluctant.properties import hypotheses as needs
from reluctant.properties.bounds import inner_product_bound, is_integral, output_tolerance
from reluctant.properties.rotations import all_rotations, as_recorded, rotation_sum
from reluctant.properties.shifts import Shift, kernel_bound, some, symmetry
from reluctant.theory.kernels import npk
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gates
from reluctant.theory.pooled import (
    PooledChain,
    fed,
    first_winners,
    pooled_chain,
    without_factor,
)
from reluctant.theory.rounding import absolute_output, gamma, roundings
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.symmetry import rotate
from reluctant.theory.underflow import forward_underflow, smallest
from reluctant.theory.verdicts import EvidenceKind

_MANY = 24  # inputs among which ties are looked for
_SOURCES = ("dlgn, on convolution with global pooling", "ckl, on convolution")


def _rolled(x: Tensor, shift: Shift) -> Tensor:
    return rotate(x, shift)


def _filled_with_zeros(x: Tensor, shift: Shift) -> Tensor:
    """Shift with zeros at the edge in place of what comes around."""
    kept = torch.ones_like(x)
    for axis, r in enumerate(shift):
        size = x.shape[axis - len(shift)]
        inside = (torch.arange(size) + r < size).to(x)
        kept = kept * inside.reshape(-1, *[1] * (len(shift) - 1 - axis))
    return rotate(x, shift) * kept


def _mirrored(x: Tensor, shift: Shift) -> Tensor:
    """Turn the positions round as well as shifting them."""
    return rotate(x.flip(list(range(-len(shift), 0))), shift)


def tensors_shift_with_the_input(
    trial: Trial, move: Callable[[Tensor, Shift], Tensor] = _rolled
) -> Sequence[Comparison]:
    """Compare internal tensors at shifted data with shifted internal tensors, and the outputs."""
    net, x, weights = trial.net, trial.x, trial.weights
    here, slack = symmetry(trial), shifts.soft_slack(trial)
    bound, kind = output_tolerance(net, x, trial.gates, passes=4)
    bound = bound + slack * absolute_output(net, x, trial.gates).reshape(trial.output.shape)
    integral = is_integral(net, x, trial.gates, weights)
    sizes = {i: shifts.absolute(trial, i) for i in here.follows}
    tensors = {i: net.forward(x.double(), trial.gates, weights, output=i) for i in here.follows}
    underflow = {
        i: forward_underflow(net, x, trial.gates, dtype=x.dtype, output=i) for i in here.follows
    }
    found = []
    for shift in some(trial, here.shifts):
        moved = move(x, shift)
        with torch.no_grad():
            output = trial.module(moved.clone()).double().reshape(trial.output.shape)
        found.append(Comparison(trial.output, output, bound, kind, what="f(rot x) against f(x)"))
        gates = net.gates(moved)
        for i, size in sizes.items():
            left = net.forward(moved.double(), gates, weights, output=i)
            exact = integral and float(size.max()) < 2.0**53
            off = 4 * gamma(roundings(net, i) + 2, x.dtype) + slack
            added = 4 * underflow[i]
            tolerance = 0.0 if exact else rotate(off * size + added, shift)
            evidence = EvidenceKind.EXACT if exact else EvidenceKind.ROUNDING
            right, what = rotate(tensors[i], shift), "z(rot x) against rot z(x)"
            found.append(Comparison(left, right, tolerance, evidence, what=what))
    return found


EQUIVARIANT = Statement(
    id="conv.equivariant",
    title="Circular convolution shifts with its input; global pooling makes the output invariant.",
    kind=Kind.EXACT,
    latex=(
        r"z_l(\mathrm{rot}(x, r)) = \mathrm{rot}(z_l(x), r), "
        r"\qquad f(\mathrm{rot}(x, r)) = f(x)"
    ),
    sources=_SOURCES,
    hypotheses=(shifts.SHIFT_INVARIANT,),
    claim=tensors_shift_with_the_input,
    mutants=(
        Mutant("zeros shifted in, not cyclic", {"move": _filled_with_zeros}),
        Mutant("positions turned round", {"move": _mirrored}),
    ),
    controls="Zero padding, windows above 1; flatten; a feature network that is not circular.",
    note="With strides only shifts by the total stride are meant, where it divides the positions.",
    revisits_gates=True,
)


def _only_none(sizes: Sequence[int]) -> tuple[Shift, ...]:
    return ((0,) * len(sizes),)


def _squared(positions: int) -> float:
    return 1.0 / positions**2


def _once(positions: int) -> float:
    return 1.0 / positions


def kernel_is_a_sum_over_rotations(
    trial: Trial,
    rotations: Callable[[Sequence[int]], tuple[Shift, ...]] = all_rotations,
    factor: Callable[[int], float] = _squared,
) -> Sequence[Comparison]:
    """Compare the propagated kernel with the sum over rotations, path by path."""
    net, chain = trial.net, pooled_chain(trial.net)
    if chain is None:
        raise CannotTry("the sum is defined for convolutions pooled once, over all positions")
    right, off = rotation_sum(trial, chain, rotations)
    bare = without_factor(net)  # then integers stay integers
    bound, kind = kernel_bound(trial, bare)
    kind = EvidenceKind.ROUNDING if bool(off.any()) else kind
    left, what = npk(bare, trial.x, output=0), "n² H against rotations added"
    found = [Comparison(left, right, bound + off, kind, what=what)]
    if chain.by == "average":
        bound, _ = kernel_bound(trial, net)
        scale = factor(chain.positions)
        bound = bound + scale * (off + 4 * inner_product_bound(4, right.abs())) + smallest()
        left, what = npk(net, trial.x, output=0), "H against 1/n² times rotations added"
        found.append(Comparison(left, scale * right, bound, EvidenceKind.ROUNDING, what=what))
    return found


ROTATION_SUM = Statement(
    id="conv.npk-rotation-sum",
    title="With average pooling the kernel adds the overlaps with every rotation of one input.",
    kind=Kind.EXACT,
    latex=(
        r"H(x, x') = \frac{1}{n_{in}^2} \sum_r \sum_i x(i)\, \mathrm{rot}(x', r)(i)\, "
        r"\mathrm{overlap}(i, x, \mathrm{rot}(x', r))"
    ),
    sources=_SOURCES,
    hypotheses=(
        shifts.AVERAGED,
        shifts.ALL_SHIFTS,
        needs.BIAS_FREE,
        needs.HARD_GATES,
        needs.DATA_INPUT,
        needs.UNTIED,
    ),
    claim=kernel_is_a_sum_over_rotations,
    cost=costs.kernels,
    mutants=(
        Mutant("only r = 0", {"rotations": _only_none}),
        Mutant("1/n for 1/n²", {"factor": _once}),
    ),
    controls="Only r = 0; biases.",
    revisits_gates=True,
)


def _ready(trial: Trial) -> tuple[Trial, PathNetwork]:
    """Return a trial whose maxima are decided, and its network, without an average's factor."""
    chain = pooled_chain(trial.net)
    if chain is None:
        return trial, trial.net
    trial = trial if chain.picks is None else shifts.without_ties(trial, chain)
    return trial, without_factor(trial.net)


def _of_the_shifted(trial: Trial, net: PathNetwork, moved: Tensor) -> list[Tensor]:
    return net.gates(moved)


def _of_the_unshifted(trial: Trial, net: PathNetwork, moved: Tensor) -> list[Tensor]:
    return trial.gates


def kernel_is_shift_invariant(
    trial: Trial,
    gates: Callable[[Trial, PathNetwork, Tensor], list[Tensor]] = _of_the_shifted,
    move: Callable[[Tensor, Shift], Tensor] = _rolled,
) -> Sequence[Comparison]:
    """Compare H(rot(x, r), x') with H(x, x')."""
    trial, net = _ready(trial)
    here = symmetry(trial)
    bound, kind = kernel_bound(trial, net)
    right = npk(net, trial.x)
    found = []
    for shift in some(trial, here.shifts):
        moved = move(trial.x, shift)
        left = npk(net, moved, trial.x, gates=(gates(trial, net, moved), trial.gates))
        found.append(Comparison(left, right, bound, kind, what="H(rot x, x') against H(x, x')"))
    return found


INVARIANT = Statement(
    id="conv.npk-invariant",
    title="The kernel of a shift invariant network is shift invariant.",
    kind=Kind.EXACT,
    latex=r"H(\mathrm{rot}(x, r), x') = H(x, x')",
    sources=_SOURCES,
    hypotheses=(shifts.SHIFT_INVARIANT, shifts.SHARED_TIES, needs.GATED),
    claim=kernel_is_shift_invariant,
    cost=costs.kernels,
    mutants=(
        Mutant("gates recorded before the shift", {"gates": _of_the_unshifted}),
        Mutant("positions turned round", {"move": _mirrored}),
    ),
    controls=(
        "Zero padding, windows larger than 1; flatten; a feature network that is not circular; "
        "strides that do not divide the positions."
    ),
    note="Soft gates and biases included; with strides, the shifts that the total stride leaves.",
    revisits_gates=True,
)


def _ones(shape: Sequence[int]) -> Tensor:
    return torch.ones(*shape, dtype=torch.float64)


def _ramp(shape: Sequence[int]) -> Tensor:
    ramp = 1.0 + torch.arange(math.prod(shape[1:]), dtype=torch.float64)
    return ramp.reshape(1, *shape[1:]).expand(*shape)


def _one_position(shape: Sequence[int]) -> Tensor:
    flat = torch.zeros(shape[0], math.prod(shape[1:]), dtype=torch.float64)
    flat[:, 0] = 1.0
    return flat.reshape(*shape)


def constant_input_keeps_the_invariance(
    trial: Trial,
    value: Callable[[Sequence[int]], Tensor] = _ones,
) -> Sequence[Comparison]:
    """Compare H at shifted gates with H at the gates, ones in place of the data on the paths."""
    trial, net = _ready(trial)
    here = symmetry(trial)
    starts = [node for node in net.nodes if isinstance(node, Constant) and node.is_input]
    if starts:
        net = fed(net, value(starts[0].shape))
    ones = value(net.input_shape).expand_as(trial.x).to(trial.x)
    bound, kind = kernel_bound(trial, net, ones)
    right = npk(net, ones, ones, gates=(trial.gates, trial.gates))
    found = []
    for shift in some(trial, here.shifts):
        gates = net.gates(rotate(trial.x, shift))
        left = npk(net, ones, ones, gates=(gates, trial.gates))
        what = "H of a constant input at gates of rot x against H"
        found.append(Comparison(left, right, bound, kind, what=what))
    return found


CONSTANT_INPUT = Statement(
    id="conv.constant-input",
    title="Ones in place of the data on the paths keep the kernel shift invariant.",
    kind=Kind.EXACT,
    latex=r"H_{\mathbf 1}(\mathrm{rot}(x, r), x') = H_{\mathbf 1}(x, x')",
    sources=_SOURCES,
    hypotheses=(shifts.SHIFT_INVARIANT, shifts.SHARED_TIES, needs.GATED),
    claim=constant_input_keeps_the_invariance,
    cost=costs.kernels,
    mutants=(
        Mutant("a ramp as value input", {"value": _ramp}),
        Mutant("one position fed only", {"value": _one_position}),
    ),
    controls="A value input that varies along the positions.",
    revisits_gates=True,
)


def _with_ties(trial: Trial, chain: PooledChain) -> Trial:
    """Draw many inputs of few values, so that ties occur."""
    shape = (_MANY, *trial.x.shape[1:])
    return replace(trial, x=torch.randint(0, 3, shape, generator=trial.generator).to(trial.x))


def _no_factor(positions: int) -> float:
    return 1.0


def maximum_is_shift_invariant(
    trial: Trial,
    examples: Callable[[Trial, PooledChain], Trial] = shifts.without_ties,
    winners: Callable[[PathNetwork, PooledChain, Gates], list[Tensor]] = as_recorded,
    factor: Callable[[int], float] = _no_factor,
) -> Sequence[Comparison]:
    """Compare H(rot(x, r), x') with H(x, x'), and H with the sum over rotations, no 1/n²."""
    chain = pooled_chain(trial.net)
    if chain is None or chain.picks is None:
        raise CannotTry("the network has no maximum over all positions")
    trial = examples(trial, chain)
    net, here = trial.net, symmetry(trial)
    gates = winners(net, chain, trial.gates)
    bound, kind = kernel_bound(trial, net)
    right = npk(net, trial.x, trial.x, gates=(gates, gates), output=0)
    found = []
    for shift in some(trial, here.shifts):
        moved = rotate(trial.x, shift)
        other = winners(net, chain, net.gates(moved))
        left = npk(net, moved, trial.x, gates=(other, gates), output=0)
        found.append(Comparison(left, right, bound, kind, what="H(rot x, x') against H(x, x')"))
    if needs.BIAS_FREE(net) is None and needs.DATA_INPUT(net) is None:
        total, off = rotation_sum(trial, chain, winners=winners)
        kind = EvidenceKind.ROUNDING if bool(off.any()) else kind
        total = factor(chain.positions) * total
        found.append(Comparison(right, total, bound + off, kind, what="H against rotations added"))
    return found


MAX_POOL = Statement(
    id="conv.max-pool",
    title="A maximum over all positions keeps the kernel invariant where no ties decide.",
    kind=Kind.EXACT,
    latex=(
        r"H(\mathrm{rot}(x, r), x') = H(x, x') = \sum_r \sum_i x(i)\, "
        r"\mathrm{rot}(x', r)(i)\, \mathrm{overlap}(i, x, \mathrm{rot}(x', r))"
    ),
    sources=_SOURCES,
    hypotheses=(shifts.MAXIMISED, shifts.SHIFT_INVARIANT, needs.UNTIED),
    claim=maximum_is_shift_invariant,
    cost=costs.kernels,
    mutants=(
        Mutant("ties with the first winner", {"examples": _with_ties, "winners": first_winners}),
        Mutant("1/n², as for an average", {"factor": _squared}),
    ),
    controls="Ties with the first winner.",
    note="Inputs at which ties decide a maximum that some path goes through are left out.",
    revisits_gates=True,
)

STATEMENTS = (EQUIVARIANT, ROTATION_SUM, INVARIANT, CONSTANT_INPUT, MAX_POOL)
