"""Statements of sums over paths: the output, and the number of paths (npf, dlgn)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from math import comb, prod

import torch
from torch import Tensor

from reluctant.properties.bounds import output_tolerance
from reluctant.theory.anatomy import called
from reluctant.theory.counts import count_paths, rough_count
from reluctant.theory.departures import from_counted
from reluctant.theory.network import PathNetwork
from reluctant.theory.paths import paths
from reluctant.theory.statements import Comparison, Hypothesis, Kind, Mutant, Statement, Trial
from reluctant.theory.structure import CountedShape, counted_shape
from reluctant.theory.verdicts import EvidenceKind, Unmet


def _recorded(trial: Trial) -> list[Tensor]:
    return trial.gates


def _with_a_flip(trial: Trial) -> list[Tensor]:
    first = trial.net.value_gates[0] if trial.net.value_gates else None
    return [1 - g if k == first else g for k, g in enumerate(trial.gates)]


def _as_it_is(trial: Trial) -> Tensor:
    return trial.output


def _in_training_mode(trial: Trial) -> Tensor:
    """Return outputs whose batch norms take their statistics from the batch."""
    training = copy.deepcopy(trial.module).train()
    with torch.no_grad():
        output: Tensor = training(trial.x.clone())
    return output.double().reshape(trial.output.shape)


def output_is_feature_times_value(
    trial: Trial,
    gates: Callable[[Trial], list[Tensor]] = _recorded,
    data: Callable[[Tensor], Tensor] = torch.clone,
    output: Callable[[Trial], Tensor] = _as_it_is,
) -> Sequence[Comparison]:
    """Compare the module's own output with ⟨φ(x), v⟩."""
    net, recorded, x = trial.net, gates(trial), data(trial.x)
    bound, kind = output_tolerance(net, trial.x, trial.gates)
    if rough_count(net) <= trial.paths:
        right = paths(net, x, gates=recorded, limit=trial.paths).output()
        if right.shape[1] < trial.output.shape[1]:  # outputs that no path reaches
            right = torch.cat(
                [right, right.new_zeros(len(right), trial.output.shape[1] - right.shape[1])], 1
            )
        what = "module against listed paths"
    else:
        right = net.forward(x.double(), recorded, trial.weights).reshape(x.shape[0], -1)
        what = "module against paths with recorded gates"
    return [Comparison(output(trial), right, bound, kind, what=what)]


INNER_PRODUCT = Statement(
    id="dual.inner-product",
    title="The output is the inner product of neural path feature and neural path value.",
    kind=Kind.EXACT,
    latex=r"f(x) = \langle \phi(x), v \rangle",
    sources=("npf, section 2", "dlgn, section 3"),
    hypotheses=(),
    claim=output_is_feature_times_value,
    mutants=(
        Mutant("one layer of gates flipped", {"gates": _with_a_flip}),
        Mutant("the input's factor left out of φ", {"data": torch.ones_like}),
        Mutant("batch norm in training mode", {"output": _in_training_mode}),
    ),
    controls="GELU, softmax attention and batch norm in training mode are refused by name.",
)


def _uncounted(net: PathNetwork) -> Iterator[Unmet]:
    name = "a shape with a formula"
    if counted_shape(net) is not None:
        return
    found = [Unmet(name, f"{called(net, n)} {what}", n.place) for n, what in from_counted(net)]
    why = (
        "the network is no dense chain, no circular convolution with global average pooling and dense layers, and no "
        "residual chain of equal widths"
    )
    yield from dict.fromkeys(found or [Unmet(name, why, net.nodes[net.output].place)])


COUNTED = Hypothesis(
    "a shape with a formula",
    "Fully connected; circular convolution, pooled, then dense; or residual.",
    _uncounted,
)


def paths_by_formula(
    shape: CountedShape, exponent: int = -1, choose: Callable[[int, int], int] = comb
) -> int:
    """Return the number of paths to one output of a network without biases.

    Args:
        shape: Shape of the network.
        exponent: Power of the last width beyond the number of layers; −1 is right.
        choose: Number of sub-networks with i of b blocks.
    """
    if shape.skips:
        w, b, depth = shape.dense[0], shape.skips, shape.block_depth
        return shape.inputs * sum(
            int(choose(b, i) * w ** ((i + 2) * depth + exponent)) for i in range(b + 1)
        )
    last = shape.dense[-1] if shape.dense else 1
    widths = prod(shape.windows) * prod(shape.filters) * prod(shape.dense)
    return int(shape.inputs * widths * last ** (exponent + 1))


def number_of_paths_has_a_formula(
    trial: Trial, exponent: int = -1, choose: Callable[[int, int], int] = comb
) -> Sequence[Comparison]:
    """Compare the exact count with the formula of the network's shape, per output, no biases."""
    shape = counted_shape(trial.net)
    assert shape is not None
    counted = count_paths(trial.net, trial.x, output=0)
    formula = paths_by_formula(shape, exponent, choose)
    size = max(counted, formula).bit_length() // _DIGIT + 1
    return [
        Comparison(
            _digits(counted, size),
            _digits(formula, size),
            0.0,
            EvidenceKind.EXACT,
            what=f"{counted} counted, {formula} by the formula",
        )
    ]


_DIGIT = 40  # bits, few enough for float64


def _digits(number: int, size: int) -> Tensor:
    """Return the digits of an integer in base 2^40, lowest first: none of them is rounded."""
    digits = [number >> (_DIGIT * i) & (2**_DIGIT - 1) for i in range(size)]
    return torch.tensor(digits, dtype=torch.float64)


PATH_COUNT = Statement(
    id="dual.path-count",
    title="The number of paths is a product of widths, windows and sizes.",
    kind=Kind.EXACT,
    latex=r"P = n_{in} w^{d-1}, \quad "
    r"c_{in} n_{in} (w_{cv} w)^{d_{cv}} w^{d_{fc}-1}, \quad n_{in} \sum_i \binom{b}{i} w^{(i+2) d_{blk} - 1}",
    sources=("npf, section 2", "dlgn, section 3"),
    hypotheses=(COUNTED,),
    claim=number_of_paths_has_a_formula,
    mutants=(
        Mutant("one width more in the product", {"exponent": 0}),
        Mutant(
            "no binomial coefficients, or one width more", {"choose": lambda n, k: 1, "exponent": 1}
        ),
    ),
    controls="Zero padding gives fewer paths than the formula.",
)

STATEMENTS = (INNER_PRODUCT, PATH_COUNT)
