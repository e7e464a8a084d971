"""Statements of duality: output, counts, kernels, symmetries (npf, dlgn)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb, prod

import torch
from torch import Tensor

from reluctant.models.converters import to_dgn
from reluctant.models.gates import HARD, GateForm, Soft
from reluctant.properties import hypotheses as needs
from reluctant.properties.bounds import kernel_tolerance, output_tolerance, spectral_tolerance
from reluctant.theory.counts import count_paths, rough_count
from reluctant.theory.kernels import npk
from reluctant.theory.network import PathNetwork
from reluctant.theory.paths import Paths, paths
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import (
    CannotTry,
    Comparison,
    Hypothesis,
    Kind,
    Mutant,
    Statement,
    Trial,
)
from reluctant.theory.structure import counted_shape, dense_chain
from reluctant.theory.tangents import ntk, value_kernel
from reluctant.theory.tracing import trace
from reluctant.theory.units import hidden_layers, permuted, rescaled
from reluctant.theory.verdicts import EvidenceKind, Unmet


def few_paths(trial: Trial) -> Paths:
    """Return the paths of a trial's network, or say how many there are."""
    count = rough_count(trial.net)
    if count > trial.paths:
        raise CannotTry(f"{count:.4g} paths are too many to list (at most {trial.paths})")
    return paths(trial.net, trial.x, gates=trial.gates, limit=trial.paths)


def _recorded(trial: Trial) -> list[Tensor]:
    return trial.gates


def _with_a_flip(trial: Trial) -> list[Tensor]:
    first = trial.net.value_gates[0] if trial.net.value_gates else None
    return [1 - g if k == first else g for k, g in enumerate(trial.gates)]


def output_is_feature_times_value(
    trial: Trial, gates: Callable[[Trial], list[Tensor]] = _recorded
) -> Sequence[Comparison]:
    """Compare the module's own output with ⟨φ(x), v⟩."""
    net, recorded = trial.net, gates(trial)
    bound, kind = output_tolerance(net, trial.x, trial.gates)
    if rough_count(net) <= trial.paths:
        right = paths(net, trial.x, gates=recorded, limit=trial.paths).output()
        if right.shape[1] < trial.output.shape[1]:  # outputs that no path reaches
            right = torch.cat(
                [right, right.new_zeros(len(right), trial.output.shape[1] - right.shape[1])], 1
            )
        what = "module against listed paths"
    else:
        right = net.forward(trial.x.double(), recorded, trial.weights).reshape(trial.x.shape[0], -1)
        what = "module against paths with recorded gates"
    return [Comparison(trial.output, right, bound, kind, what=what)]


INNER_PRODUCT = Statement(
    id="dual.inner-product",
    title="The output is the inner product of neural path feature and neural path value.",
    kind=Kind.EXACT,
    latex=r"f(x) = \langle \phi(x), v \rangle",
    sources=("npf, section 2", "dlgn, section 3"),
    hypotheses=(),
    claim=output_is_feature_times_value,
    mutants=(Mutant("one layer of gates flipped", {"gates": _with_a_flip}),),
    controls="GELU, softmax attention and batch norm in training mode are refused by name.",
)


def _counted(net: PathNetwork) -> Unmet | None:
    if counted_shape(net) is not None:
        return None
    return Unmet(
        "a shape with a formula",
        "the network is no dense chain, no circular convolution with global average pooling and dense layers, and no "
        "residual chain of equal widths",
        net.nodes[net.output].place,
    )


COUNTED = Hypothesis(
    "a shape with a formula",
    "Fully connected; circular convolution, pooled, then dense; or residual.",
    _counted,
)


def number_of_paths_has_a_formula(
    trial: Trial, exponent: int = -1, choose: Callable[[int, int], int] = comb
) -> Sequence[Comparison]:
    """Compare the exact count with the formula of the network's shape, per output, no biases."""
    shape = counted_shape(trial.net)
    assert shape is not None
    counted = count_paths(trial.net, trial.x, output=0)
    last = shape.dense[-1] if shape.dense else 1
    if shape.skips:
        w, b, depth = shape.dense[0], shape.skips, shape.block_depth
        formula = shape.inputs * sum(
            choose(b, i) * w ** ((i + 2) * depth + exponent) for i in range(b + 1)
        )
    else:
        formula = (
            shape.inputs
            * prod(shape.windows)
            * prod(shape.filters)
            * prod(shape.dense)
            * last ** (exponent + 1)
        )
    sides = [torch.tensor([float(v % 2**40)], dtype=torch.float64) for v in (counted, formula)]
    if counted != formula:  # equal remainders must not hide a difference
        sides = [
            torch.tensor([float(counted)], dtype=torch.float64),
            torch.tensor([float(formula)], dtype=torch.float64),
        ]
        if float(sides[0]) == float(sides[1]):
            sides[1] = sides[1] + sides[1].abs() * 2**-52 + 1
    return [
        Comparison(
            sides[0],
            sides[1],
            0.0,
            EvidenceKind.EXACT,
            what=f"{counted} counted, {formula} by the formula",
        )
    ]


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


def _gates_product(layers: Sequence[Tensor | None], widths: Sequence[int]) -> Tensor:
    total: Tensor | None = None
    for g, width in zip(layers, widths, strict=True):
        factor = (
            torch.full((1, 1), float(width), dtype=torch.float64)
            if g is None
            else g.double() @ g.double().T
        )
        total = factor if total is None else total * factor
    return torch.ones(1, 1, dtype=torch.float64) if total is None else total


def layer_gates(trial: Trial) -> list[Tensor | None]:
    """Return the gates of each hidden layer of a dense chain, flattened to (n, width)."""
    chain = dense_chain(trial.net)
    assert chain is not None
    return [None if g is None else trial.gates[g].double().flatten(1) for g in chain.gate_of]


def _all_layers(trial: Trial) -> list[Tensor | None]:
    return layer_gates(trial)


def _all_but_one(trial: Trial) -> list[Tensor | None]:
    layers = layer_gates(trial)
    return [torch.ones_like(g) if k == 0 and g is not None else g for k, g in enumerate(layers)]


def _weak_inequality(trial: Trial) -> list[Tensor | None]:
    chain, net = dense_chain(trial.net), trial.net
    assert chain is not None
    found: list[Tensor | None] = []
    for g in chain.gate_of:
        source = None if g is None else net.gate_layers[g].source
        if g is None or source is None:
            found.append(None if g is None else trial.gates[g].double().flatten(1))
            continue
        q = net.forward(trial.x.double(), trial.gates, trial.weights, output=source)
        found.append((q >= 0).double().flatten(1))
    return found


def gram(trial: Trial) -> Tensor:
    """Return Σ, the Gram matrix of what enters the paths, shape (n, n)."""
    from reluctant.theory.network import Constant

    flat = trial.x.double().flatten(1)
    for i in trial.net.value_nodes:
        node = trial.net.nodes[i]
        if isinstance(node, Constant) and node.is_input:
            flat = node.value.double().flatten()[None].expand(trial.x.shape[0], -1)
    return flat @ flat.T


def npk_is_a_hadamard_product(
    trial: Trial, layers: Callable[[Trial], list[Tensor | None]] = _all_layers
) -> Sequence[Comparison]:
    """Compare the propagated kernel with Σ ⊙ Λ."""
    chain = dense_chain(trial.net)
    assert chain is not None
    bound, kind = kernel_tolerance(trial.net, trial.x, trial.gates)
    left = npk(trial.net, trial.x, output=0)
    right = gram(trial) * _gates_product(layers(trial), chain.hidden)
    return [Comparison(left, right, bound, kind, what="propagated kernel against Σ ⊙ Λ")]


NPK_HADAMARD = Statement(
    id="dual.npk-hadamard",
    title="The kernel of a fully connected network is the input Gram matrix times the gate overlaps.",
    kind=Kind.EXACT,
    latex=r"H = \Sigma \odot \Lambda, \qquad \Lambda(x, x') = \prod_{l} \langle G_l(x), G_l(x') \rangle",
    sources=("npf, section 3", "dlgn, section 4"),
    hypotheses=(needs.FULLY_CONNECTED, needs.BIAS_FREE),
    claim=npk_is_a_hadamard_product,
    uses_kernel=True,
    mutants=(
        Mutant("one layer left out of Λ", {"layers": _all_but_one}),
        Mutant("gates with ≥ in place of >", {"layers": _weak_inequality}),
    ),
    controls="Biases, convolutions and skips with Λ taken over all layers do not satisfy it.",
)


def _activity_of_both(listed: Paths, output: int) -> Tensor:
    return listed.overlap(output)


def _activity_of_one(listed: Paths, output: int) -> Tensor:
    n = len(listed.x)
    totals = [
        listed.activity[:, (listed.starts == i) & (listed.ends == output)].sum(1)
        for i in range(listed.x.shape[1])
    ]
    return torch.stack([t[:, None].expand(n, n) for t in totals])


def npk_is_a_sum_of_overlaps(
    trial: Trial, overlap: Callable[[Paths, int], Tensor] = _activity_of_both
) -> Sequence[Comparison]:
    """Compare the propagated kernel with Σ_i x(i) x'(i) overlap(i, x, x'), paths listed."""
    listed = few_paths(trial)
    bound, kind = kernel_tolerance(trial.net, trial.x, trial.gates)
    if isinstance(bound, Tensor) and bound.ndim == 3:
        bound = bound[..., 0]
    right = torch.einsum("ni,mi,inm->nm", listed.x, listed.x, overlap(listed, 0))
    return [
        Comparison(
            npk(trial.net, trial.x, output=0),
            right,
            bound,
            kind,
            what="propagated kernel against listed overlaps",
        )
    ]


NPK_OVERLAP = Statement(
    id="dual.npk-overlap",
    title="The kernel adds, over input coordinates, the paths that both inputs activate.",
    kind=Kind.EXACT,
    latex=r"H(x, x') = \sum_i x(i)\, x'(i) \sum_{p \,:\, p_0 = i} A(x, p) A(x', p)",
    sources=("npf, lemma 4.1",),
    hypotheses=(
        needs.SINGLE_PATHS,
        needs.HARD_GATES,
        needs.UNSCALED,
        needs.BIAS_FREE,
        needs.DATA_INPUT,
    ),
    claim=npk_is_a_sum_of_overlaps,
    mutants=(Mutant("paths that one of both activates", {"overlap": _activity_of_one}),),
    controls="Bundles of several paths (global pooling).",
)


def _as_it_is(kernel: Tensor) -> Tensor:
    return kernel


def _hollow(kernel: Tensor) -> Tensor:
    return kernel - 2 * torch.diag(torch.diagonal(kernel))


def _half_for_the_first(layers: list[Tensor | None]) -> list[Tensor | None]:
    """Make soft gates: ½ and 1 in place of 1 and 1 for the first example."""
    n = next((len(g) for g in layers if g is not None), 1)
    half = torch.ones(n, 1, dtype=torch.float64)
    half[0] = 0.5
    return [None if g is None else g * half for g in layers]


def kernels_are_psd(
    trial: Trial,
    kernel: Callable[[Tensor], Tensor] = _as_it_is,
    soften: Callable[[list[Tensor | None]], list[Tensor | None]] = lambda layers: layers,
) -> Sequence[Comparison]:
    """Compare smallest eigenvalues with 0, and Λ with its diagonal and with Schur's bound."""
    h = kernel(npk(trial.net, trial.x, output=0))
    found = [
        _at_least(
            torch.linalg.eigvalsh(h)[:1],
            torch.zeros(1, dtype=torch.float64),
            spectral_tolerance(h),
            "λ_min(H) ≥ 0",
        )
    ]
    chain = dense_chain(trial.net)
    hard = needs.HARD_GATES(trial.net) is None
    if chain is None or not hard or needs.BIAS_FREE(trial.net) is not None:
        return found
    overlap = _gates_product(soften(layer_gates(trial)), chain.hidden).expand(h.shape)
    diagonal = torch.diagonal(overlap)
    exact = float(overlap.max()) < 2**53
    if exact:
        smaller = torch.minimum(diagonal[:, None], diagonal[None, :])
        found.append(
            Comparison(
                overlap,
                smaller,
                0.0,
                EvidenceKind.EXACT,
                "at most",
                "Λ(s,s') ≤ min(Λ(s,s), Λ(s',s'))",
            )
        )
    inputs = gram(trial)
    smallest = torch.linalg.eigvalsh(inputs)[:1] * diagonal.min()
    slack = spectral_tolerance(inputs) * float(diagonal.max()) + spectral_tolerance(h)
    found.append(
        _at_least(
            torch.linalg.eigvalsh(inputs * overlap)[:1],
            smallest,
            slack,
            "λ_min(Σ⊙Λ) ≥ λ_min(Σ) min Λ(s,s)",
        )
    )
    return found


def _at_least(left: Tensor, right: Tensor, bound: float, what: str) -> Comparison:
    return Comparison(right, left, bound, EvidenceKind.ROUNDING, "at most", what)


PSD = Statement(
    id="dual.psd",
    title="The kernels are positive semi-definite, and the overlaps obey Schur's bound.",
    kind=Kind.BOUND,
    latex=r"H \succeq 0, \quad \Lambda(s,s') \le \min(\Lambda(s,s), \Lambda(s',s')), \quad "
    r"\lambda_{min}(\Sigma \odot \Lambda) \ge \lambda_{min}(\Sigma) \min_s \Lambda(s,s)",
    sources=("npf, section 4",),
    hypotheses=(),
    claim=kernels_are_psd,
    uses_kernel=True,
    mutants=(
        Mutant("the diagonal's sign turned", {"kernel": _hollow}),
        Mutant("soft gates ½ and 1 taken as hard", {"soften": _half_for_the_first}),
    ),
    controls="Soft gates ½ and 1 give Λ(s,s) = ¼ < Λ(s,s') = ½.",
)


def network_is_homogeneous(trial: Trial, factor: float = 2.0) -> Sequence[Comparison]:
    """Compare gates, output and kernel at c x with those at x; c is a power of two, so exactly."""
    scaled = factor * trial.x
    other = trial.net.gates(scaled)
    with torch.no_grad():
        output = trial.module(scaled).double().reshape(trial.output.shape)
    used = trial.net.value_gates
    mixed = npk(trial.net, scaled, trial.x, output=0, gates=(other, trial.gates))
    kernel = npk(trial.net, trial.x, output=0)
    exact = EvidenceKind.EXACT
    found = [
        Comparison(other[g], trial.gates[g], 0.0, exact, what="gates(cx) against gates(x)")
        for g in used
    ]
    found.append(Comparison(output, factor * trial.output, 0.0, exact, what="f(cx) against c f(x)"))
    found.append(
        Comparison(mixed, factor * kernel, 0.0, exact, what="H(cx, x') against c H(x, x')")
    )
    return found


HOMOGENEOUS = Statement(
    id="dual.homogeneous",
    title="Without sources gates do not change along a ray, and output and kernel scale with it.",
    kind=Kind.EXACT,
    latex=r"G(cx) = G(x), \quad f(cx) = c f(x), \quad H(cx, x') = c H(x, x') \qquad (c > 0)",
    sources=("npf, section 3",),
    hypotheses=(needs.OWN_GATES, needs.HARD_GATES, needs.DATA_INPUT, needs.BIAS_FREE),
    claim=network_is_homogeneous,
    uses_kernel=True,
    mutants=(Mutant("c < 0", {"factor": -2.0}),),
    controls="Biases; soft gates.",
    note="So the labels (x, 1), (2x, −1) cannot be fitted.",
)


def relu_network_is_a_gated_network(trial: Trial, gate: GateForm = HARD) -> Sequence[Comparison]:
    """Compare the module with its gated twin whose two networks share all weights."""
    twin = to_dgn(trial.module, trial.x, shared=True, gate=gate)
    with torch.no_grad():
        other = twin(trial.x).double().reshape(trial.output.shape)
    bound, kind = output_tolerance(trial.net, trial.x, trial.gates)
    return [Comparison(trial.output, other, bound, kind, what="module against its gated twin")]


RELU_IS_DGN = Statement(
    id="dual.relu-is-dgn",
    title="A ReLU network is a gated network whose feature and value networks share their weights.",
    kind=Kind.EXACT,
    latex=r"f_\theta^{ReLU}(x) = \langle \phi_\theta(x), v_\theta \rangle",
    sources=("npf, section 2", "dgn, section 2"),
    hypotheses=(needs.GATED, needs.OWN_RELUS),
    claim=relu_network_is_a_gated_network,
    revisits_gates=True,
    mutants=(Mutant("soft gates", {"gate": Soft(4.0)}),),
    controls="Soft gates.",
)


def units_can_be_permuted(trial: Trial, columns: bool = True) -> Sequence[Comparison]:
    """Compare output and kernel before and after units change places, their weights with them."""
    found = []
    bound, kind = output_tolerance(trial.net, trial.x, trial.gates)
    kernel_bound, kernel_kind = kernel_tolerance(trial.net, trial.x, trial.gates)
    layers = hidden_layers(trial.net)
    if not layers:
        raise CannotTry("no layer has units that act nowhere else")
    for layer in layers:
        order = torch.randperm(layer.units, generator=trial.generator)
        if layer.units > 1 and bool((order == torch.arange(layer.units)).all()):
            order = order.flip(0)
        moved = permuted(trial.net, layer, order, columns=columns)
        with torch.no_grad():
            output = moved(trial.x).double().reshape(trial.output.shape)
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
    uses_kernel=True,
    revisits_gates=True,
    mutants=(Mutant("units moved without their outgoing weights", {"columns": False}),),
    controls="Permuting gates alone changes f (and not H).",
)


def units_can_be_rescaled(trial: Trial, factor: float = 2.0) -> Sequence[Comparison]:
    """Compare output, gates and kernel bit for bit after a unit is scaled by a power of two."""
    layers = hidden_layers(trial.net)
    if not layers:
        raise CannotTry("no layer has units that act nowhere else")
    found = []
    for layer in layers:
        moved = rescaled(trial.net, layer, trial.integer(0, layer.units), factor)
        other = trace(moved, trial.x)
        with torch.no_grad():
            output = moved(trial.x).double().reshape(trial.output.shape)
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
    hypotheses=(needs.GATED, needs.OWN_GATES, needs.HARD_GATES, needs.FREE_UNITS),
    claim=units_can_be_rescaled,
    uses_kernel=True,
    mutants=(Mutant("negative c", {"factor": -2.0}),),
    controls="Negative c; a unit before a batch norm or on a residual stream.",
    note="With c a power of two the identity is bit for bit.",
)


def value_tangents(listed: Paths) -> tuple[Tensor, Tensor]:
    """Return ∇v_b by listed weights, shape (bundles, weights), signed and in absolute value."""
    entries = {e: k for k, e in enumerate(sorted({e for word in listed.words for e in word}))}
    rows = torch.zeros(len(listed.bundles), len(entries), dtype=torch.float64)
    for b, (_, word) in enumerate(listed.bundles):
        for position, entry in enumerate(word):
            others = [listed.weight_of[e] for k, e in enumerate(word) if k != position]
            rows[b, entries[entry]] += prod(others)
    return rows, rows.abs()


def _tangent_gram(rows: Tensor) -> Tensor:
    return rows @ rows.T


def _tangent_norms(rows: Tensor) -> Tensor:
    return torch.diag((rows * rows).sum(1))


def ntk_factors_through_the_values(
    trial: Trial, value_kernel_of: Callable[[Tensor], Tensor] = _tangent_gram
) -> Sequence[Comparison]:
    """Compare the module's own tangent kernel with Φᵀ (∇vᵀ∇v) Φ, bundles listed."""
    listed = few_paths(trial)
    rows, magnitude = value_tangents(listed)
    names = sorted({w.name for w in trial.net.weights})
    left = ntk(trial.module, trial.x, parameters=names).double()
    phi = listed.bundle_features
    right, size = torch.zeros_like(left), torch.zeros_like(left)
    for o in range(trial.output.shape[1]):
        mine = listed.bundle_ends == o
        right = right + phi[:, mine] @ value_kernel_of(rows[mine]) @ phi[:, mine].T
        size = (
            size + phi[:, mine].abs() @ (magnitude[mine] @ magnitude[mine].T) @ phi[:, mine].abs().T
        )
    count = 4 * (roundings(trial.net) + len(listed.bundles)) + len(rows[0])
    return [
        Comparison(
            left,
            right,
            2 * gamma(count, trial.x.dtype) * size,
            EvidenceKind.ROUNDING,
            what="automatic differentiation against Φᵀ V Φ",
        )
    ]


NTK_FACTOR = Statement(
    id="dual.ntk-factor",
    title="With hard gates the tangent kernel factors into path features and the values' tangent kernel.",
    kind=Kind.EXACT,
    latex=r"K = \Phi^\top V \Phi, \qquad V = \nabla v^\top \nabla v",
    sources=("npf, proposition 5.1",),
    hypotheses=(needs.HARD_GATES, needs.PLAIN_WEIGHTS, needs.ZERO_AT_TIES),
    claim=ntk_factors_through_the_values,
    revisits_gates=True,
    mutants=(Mutant("paths taken as independent", {"value_kernel_of": _tangent_norms}),),
    controls="Learnt soft gates; ties with half gradients.",
)


def _largest(matrix: Tensor) -> Tensor:
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values[-1:]


def _smallest(matrix: Tensor) -> Tensor:
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values[:1]


def smallest_eigenvalues_are_ordered(
    trial: Trial, of_values: Callable[[Tensor], Tensor] = _largest
) -> Sequence[Comparison]:
    """Compare λ_min(K) with λ_min(H) λ_max(V), one output."""
    listed = few_paths(trial)
    if len(listed.bundles) > 1500:
        raise CannotTry(
            f"{len(listed.bundles)} bundles are too many for an eigenvalue of V (at most 1500)"
        )
    mine = listed.bundle_ends == 0
    phi = listed.bundle_features[:, mine]
    rows = value_tangents(listed)[0][mine]
    v = rows @ rows.T
    k, h = phi @ v @ phi.T, phi @ phi.T
    if not v.numel():
        raise CannotTry("no path reaches the first output")
    right = _smallest(h) * of_values(v)
    slack = spectral_tolerance(k) + spectral_tolerance(h) * float(torch.linalg.matrix_norm(v, 2))
    slack += spectral_tolerance(v) * float(torch.linalg.matrix_norm(h, 2))
    return [
        Comparison(
            _smallest(k),
            right,
            slack,
            EvidenceKind.ROUNDING,
            "at most",
            "λ_min(K) ≤ λ_min(H) λ_max(V)",
        )
    ]


MIN_EIG = Statement(
    id="dual.min-eig",
    title="The smallest eigenvalue of the tangent kernel is bounded through the path kernel's.",
    kind=Kind.BOUND,
    latex=r"\lambda_{min}(K) \le \lambda_{min}(H)\, \lambda_{max}(V)",
    sources=("npf, proposition 5.2",),
    hypotheses=(needs.HARD_GATES, needs.PLAIN_WEIGHTS, needs.ZERO_AT_TIES),
    claim=smallest_eigenvalues_are_ordered,
    mutants=(Mutant("V's smallest eigenvalue", {"of_values": _smallest}),),
    note="The printed proof takes the minimiser of K; the minimiser of H is the one that works.",
)


def _added(value: Tensor, feature: Tensor) -> Tensor:
    return value + feature


def _doubled(value: Tensor, feature: Tensor) -> Tensor:
    return 2 * value + feature


def tangent_kernel_splits(
    trial: Trial, together: Callable[[Tensor, Tensor], Tensor] = _added
) -> Sequence[Comparison]:
    """Compare K with K_v + K_f: values with the gates held fixed, features through the gates."""
    net = trial.net
    on_paths = {net.weights[node.weight].name for node in net.weighted}
    others = [
        name
        for name, _ in trial.module.named_parameters()
        if name not in on_paths and name not in norm_parameters(trial)
    ]
    whole = ntk(trial.module, trial.x, parameters=[*sorted(on_paths), *others]).double()
    feature = (
        ntk(trial.module, trial.x, parameters=others).double()
        if others
        else torch.zeros_like(whole)
    )
    value = value_kernel(net, trial.x, trial.gates, trial.weights)
    size = value_kernel(
        net,
        trial.x.abs(),
        [g.abs() for g in trial.gates],
        [w.abs() for w in trial.weights],
        magnitudes=True,
    )
    bound = 4 * gamma(4 * roundings(net), trial.x.dtype) * (size + feature.abs() + whole.abs())
    found = [
        Comparison(
            whole,
            together(value, feature),
            bound,
            EvidenceKind.ROUNDING,
            what="K against K_v + K_f",
        )
    ]
    if needs.HARD_GATES(net) is None:
        found.append(
            Comparison(
                feature,
                torch.zeros_like(feature),
                0.0,
                EvidenceKind.EXACT,
                what="K_f = 0 for hard gates",
            )
        )
    return found


def norm_parameters(trial: Trial) -> set[str]:
    """Return the names of batch norms' parameters, which the theory holds constant."""
    found = set()
    for name, part in trial.module.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            found |= {f"{name}.weight".lstrip("."), f"{name}.bias".lstrip(".")}
    return found


NTK_SPLIT = Statement(
    id="dual.dgn-ntk-split",
    title="With disjoint parameters the tangent kernel is that of the values plus that of the features.",
    kind=Kind.EXACT,
    latex=r"K = K_v + K_f, \qquad K_f = 0 \text{ for hard or frozen gates}",
    sources=("dgn, section 4", "npf, section 5"),
    hypotheses=(needs.GATED, needs.DISJOINT, needs.PLAIN_WEIGHTS, needs.ZERO_AT_TIES),
    claim=tangent_kernel_splits,
    revisits_gates=True,
    mutants=(Mutant("K_v counted twice", {"together": _doubled}),),
    controls="Shared parameters have cross terms.",
)


def _held(trial: Trial, weights: Sequence[Tensor]) -> list[Tensor]:
    return trial.gates


def _recomputed(trial: Trial, weights: Sequence[Tensor]) -> list[Tensor]:
    """Let the gates of own-gate layers follow the weights, layer by layer."""
    net, gates = trial.net, list(trial.gates)
    for g in net.value_gates:
        source = net.gate_layers[g].source
        if net.gate_layers[g].kind == "relu" and source is not None:
            gates[g] = (net.forward(trial.x.double(), gates, weights, output=source) > 0).double()
    return gates


def output_is_multilinear(
    trial: Trial, gates: Callable[[Trial, Sequence[Tensor]], list[Tensor]] = _held
) -> Sequence[Comparison]:
    """Compare f along a line in one weight tensor with the line; and its slope under descent with −K e."""
    net, x = trial.net, trial.x.double()
    found = []
    for k, weight in enumerate(net.weights):
        if not any(node.weight == k for node in net.weighted):
            continue
        other = torch.randint(-2, 3, weight.shape, generator=trial.generator).double()
        ends = [list(trial.weights), [other if j == k else w for j, w in enumerate(trial.weights)]]
        middle = [2 * w - other if j == k else w for j, w in enumerate(trial.weights)]
        a, b, c = (net.forward(x, gates(trial, w), w) for w in (*ends, middle))
        absolute = [w.abs() for w in middle]
        absolute[k] = 2 * trial.weights[k].abs() + other.abs()
        size = net.forward(
            x.abs(), [g.abs() for g in trial.gates], absolute, constant=torch.abs, magnitudes=True
        )
        bound = 4 * gamma(roundings(net) + 4) * size
        found.append(
            Comparison(
                c, 2 * a - b, bound, EvidenceKind.ROUNDING, what=f"f on a line in {weight.name}"
            )
        )
    found.append(_descent(trial))
    return found


def _descent(trial: Trial) -> Comparison:
    """Compare the output's change under gradient flow of the squared loss with −K e."""
    net, x = trial.net, trial.x.double()
    target = trial.draw(*trial.output.shape)

    def output(weights: tuple[Tensor, ...]) -> Tensor:
        return net.forward(x, trial.gates, list(weights)).reshape(target.shape)

    weights = tuple(trial.weights)
    pull = torch.func.vjp(output, weights)[1]
    error = output(weights) - target
    (slope,) = pull(error)
    change: Tensor = torch.func.jvp(output, (weights,), (tuple(-s for s in slope),))[1]
    from reluctant.theory.tangents import value_gradients

    rows = value_gradients(net, trial.x, trial.gates, trial.weights).flatten(0, 1)
    right = -(rows @ (rows.T @ error.flatten())).reshape(target.shape)
    size = (rows.abs() @ (rows.abs().T @ error.flatten().abs())).reshape(target.shape)
    big = net.forward(
        x.abs(),
        [g.abs() for g in trial.gates],
        [w.abs() for w in weights],
        constant=torch.abs,
        magnitudes=True,
    )
    scale = size + big.reshape(target.shape) * float(error.abs().max()) * rows.shape[1]
    return Comparison(
        change,
        right,
        8 * gamma(4 * roundings(net) + rows.numel()) * scale,
        EvidenceKind.ROUNDING,
        what="e' against −K e",
    )


FROZEN_LINEAR = Statement(
    id="dual.frozen-gates-linear",
    title="With its gates fixed a network is linear in each layer's weights, and its error obeys e' = −K e.",
    kind=Kind.EXACT,
    latex=r"f = \langle \phi, v \rangle \text{ multilinear in } \theta, \qquad \dot e = -K e",
    sources=("npf, section 5", "dgn, section 3"),
    hypotheses=(needs.GATED, needs.UNTIED),
    claim=output_is_multilinear,
    mutants=(Mutant("gates that move with the weights", {"gates": _recomputed}),),
    controls="Gates that move.",
)

STATEMENTS = (
    INNER_PRODUCT,
    PATH_COUNT,
    NPK_HADAMARD,
    NPK_OVERLAP,
    PSD,
    HOMOGENEOUS,
    RELU_IS_DGN,
    PERMUTE_UNITS,
    RESCALE,
    NTK_FACTOR,
    MIN_EIG,
    NTK_SPLIT,
    FROZEN_LINEAR,
)
