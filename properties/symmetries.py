"""Statements of symmetry: what leaves the output and the kernel as they are (npf, dgn)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from reluctant.models.converters import to_dgn
from reluctant.models.gates import HARD, GateForm, Soft
from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.bounds import kernel_tolerance, output_tolerance
from reluctant.theory.kernels import npk
from reluctant.theory.statements import CannotTry, Comparison, Kind, Mutant, Statement, Trial
from reluctant.theory.tracing import trace
from reluctant.theory.twins import twin
from reluctant.theory.units import HiddenLayer, hidden_layers, permuted, rescaled
from reluctant.theory.verdicts import EvidenceKind


def _output(module: nn.Module, x: Tensor, like: Tensor) -> Tensor:
    """Run a module, its output in the shape of another."""
    with torch.no_grad():
        output: Tensor = module(x.clone())
    return output.double().reshape(like.shape)


def _layers(trial: Trial) -> list[HiddenLayer]:
    layers = hidden_layers(trial.net)
    if not layers:
        raise CannotTry("no layer has units that act nowhere else")
    return layers


def network_is_homogeneous(
    trial: Trial, factor: float = 2.0, degree: int = 1
) -> Sequence[Comparison]:
    """Compare gates, output and kernel at c x with those at x; c is a power of two, so exactly.

    The kernel alone gets a rounding bound: its sums need not be added in the same order twice.
    """
    scaled = factor * trial.x
    other = trial.net.gates(scaled)
    output = _output(trial.module, scaled, trial.output)
    used = trial.net.value_gates
    mixed = npk(trial.net, scaled, trial.x, output=0, gates=(other, trial.gates))
    # given twice, so that entries below the diagonal are computed too, in the same order
    kernel = npk(trial.net, trial.x, trial.x, output=0)
    bound, kind = kernel_tolerance(trial.net, trial.x, trial.gates, output=0)
    exact = EvidenceKind.EXACT
    found = [
        Comparison(other[g], trial.gates[g], 0.0, exact, what="gates(cx) against gates(x)")
        for g in used
    ]
    found.append(Comparison(output, factor * trial.output, 0.0, exact, what="f(cx) against c f(x)"))
    found.append(
        Comparison(
            mixed,
            factor**degree * kernel,
            abs(factor) * bound,
            kind,
            what="H(cx, x') against c H(x, x')",
        )
    )
    return found


HOMOGENEOUS = Statement(
    id="dual.homogeneous",
    title="Without sources gates do not change along a ray, and output and kernel scale with it.",
    kind=Kind.EXACT,
    latex=r"G(cx) = G(x), \quad f(cx) = c f(x), \quad H(cx, x') = c H(x, x') \qquad (c > 0)",
    sources=("npf, section 3",),
    hypotheses=(needs.OWN_GATES, needs.STEPPED_GATES, needs.DATA_INPUT, needs.BIAS_FREE),
    claim=network_is_homogeneous,
    cost=costs.kernels,
    mutants=(
        Mutant("c < 0", {"factor": -2.0}),
        Mutant("c² for c in the kernel", {"degree": 2}),
    ),
    controls="Biases; soft gates.",
    note="So the labels (x, 1), (2x, −1) cannot be fitted.",
)


def _with_other_signs(module: nn.Module) -> nn.Module:
    """Return a copy of a module with the signs of its weights turned."""
    other = twin(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.neg_()
    return other


def relu_network_is_a_gated_network(
    trial: Trial,
    gate: GateForm = HARD,
    features: Callable[[nn.Module], nn.Module] | None = None,
) -> Sequence[Comparison]:
    """Compare the module with its gated twin whose two networks share all weights."""
    other = None if features is None else features(trial.module)
    gated = to_dgn(trial.module, trial.x, shared=other is None, features=other, gate=gate)
    output = _output(gated, trial.x, trial.output)
    bound, kind = output_tolerance(trial.net, trial.x, trial.gates)
    return [Comparison(trial.output, output, bound, kind, what="module against its gated twin")]


RELU_IS_DGN = Statement(
    id="dual.relu-is-dgn",
    title="A ReLU network is a gated network whose feature and value networks share their weights.",
    kind=Kind.EXACT,
    latex=r"f_\theta^{ReLU}(x) = \langle \phi_\theta(x), v_\theta \rangle",
    sources=("npf, section 2", "dgn, section 2"),
    hypotheses=(needs.GATED, needs.OWN_RELUS),
    claim=relu_network_is_a_gated_network,
    revisits_gates=True,
    mutants=(
        Mutant("soft gates", {"gate": Soft(4.0)}),
        Mutant("features with weights of their own", {"features": _with_other_signs}),
    ),
    controls="Soft gates.",
)


def _left_behind(trial: Trial, moved: nn.Module) -> Tensor:
    """Return the output of the moved weights at the gates as they were."""
    weights = trace(moved, trial.x).weight_values()
    output = trial.net.forward(trial.x.double(), trial.gates, weights)
    return output.reshape(trial.output.shape)


def _run(trial: Trial, moved: nn.Module) -> Tensor:
    return _output(moved, trial.x, trial.output)


def units_can_be_permuted(
    trial: Trial, columns: bool = True, run: Callable[[Trial, nn.Module], Tensor] = _run
) -> Sequence[Comparison]:
    """Compare output and kernel before and after units change places, their weights with them."""
    found = []
    bound, kind = output_tolerance(trial.net, trial.x, trial.gates)
    kernel_bound, kernel_kind = kernel_tolerance(trial.net, trial.x, trial.gates)
    for layer in _layers(trial):
        order = torch.randperm(layer.units, generator=trial.generator)
        if layer.units > 1 and bool((order == torch.arange(layer.units)).all()):
            order = order.flip(0)
        moved = permuted(trial.net, layer, order, columns=columns)
        output = run(trial, moved)
        found.append(Comparison(trial.output, output, bound, kind, what="f before and after"))
        found.append(
            Comparison(
                npk(trial.net, trial.x),
                npk(moved, trial.x),
                kernel_bound,
                kernel_kind,
                what="H before and after",
            )
        )
    return found


PERMUTE_UNITS = Statement(
    id="dual.permute-units",
    title="Hidden units can change places, with their weights.",
    kind=Kind.EXACT,
    latex=r"f_{P\theta} = f_\theta, \qquad H_{P\theta} = H_\theta",
    sources=("npf, section 3",),
    hypotheses=(needs.GATED, needs.OWN_GATES, needs.FREE_UNITS),
    claim=units_can_be_permuted,
    cost=costs.kernels,
    revisits_gates=True,
    mutants=(
        Mutant("units moved without their outgoing weights", {"columns": False}),
        Mutant("units moved without their gates", {"run": _left_behind}),
    ),
    controls="Permuting gates alone changes f (and not H).",
)


def units_can_be_rescaled(
    trial: Trial, factor: float = 2.0, columns: bool = True
) -> Sequence[Comparison]:
    """Compare output, gates and kernel bit for bit after a unit is scaled by a power of two."""
    found = []
    for layer in _layers(trial):
        unit = trial.integer(0, layer.units)
        moved = rescaled(trial.net, layer, unit, factor, columns=columns)
        other = trace(moved, trial.x)
        output = _output(moved, trial.x, trial.output)
        exact = EvidenceKind.EXACT
        gates = other.gates(trial.x)
        found.append(Comparison(trial.output, output, 0.0, exact, what="f before and after"))
        found.extend(
            Comparison(trial.gates[g], gates[g], 0.0, exact, what="gates")
            for g in trial.net.value_gates
        )
        found.append(
            Comparison(
                npk(trial.net, trial.x), npk(other, trial.x), 0.0, exact, what="H before and after"
            )
        )
    return found


RESCALE = Statement(
    id="dual.rescale",
    title="Positive rescaling of a hidden unit changes neither gates nor output nor kernel.",
    kind=Kind.EXACT,
    latex=r"w_{in} \to c\, w_{in}, \; w_{out} \to w_{out} / c "
    r"\;\Rightarrow\; \phi, v, f, H \text{ unchanged} \qquad (c > 0)",
    sources=("npf, section 3",),
    hypotheses=(needs.GATED, needs.OWN_GATES, needs.STEPPED_GATES, needs.FREE_UNITS),
    claim=units_can_be_rescaled,
    cost=costs.kernels,
    mutants=(
        Mutant("negative c", {"factor": -2.0}),
        Mutant("outgoing weights left as they are", {"columns": False}),
    ),
    controls="Negative c; a unit before a batch norm or on a residual stream.",
    note="With c a power of two the identity is bit for bit.",
)

STATEMENTS = (HOMOGENEOUS, RELU_IS_DGN, PERMUTE_UNITS, RESCALE)
