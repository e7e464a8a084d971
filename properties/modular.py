"""The polynomial forms of the statements, by identifier."""

from __future__ import annotations

from reluctant.properties import modular_gated as gated
from reluctant.properties import modular_shifts as shifts
from reluctant.properties import modular_skips as skips
from reluctant.properties import modular_sums as sums
from reluctant.properties import modular_symmetries as symmetries
from reluctant.theory.modular import ModularClaim

CLAIMS: dict[str, ModularClaim] = {
    "dual.inner-product": sums.INNER_PRODUCT,
    "dual.path-count": sums.PATH_COUNT,
    "dual.npk-hadamard": gated.HADAMARD,
    "dual.homogeneous": symmetries.HOMOGENEOUS,
    "dual.relu-is-dgn": symmetries.RELU_IS_DGN,
    "dual.permute-units": symmetries.PERMUTE_UNITS,
    "dual.rescale": symmetries.RESCALE,
    "dual.frozen-gates-linear": sums.FROZEN_LINEAR,
    "conv.equivariant": shifts.EQUIVARIANT,
    "conv.npk-invariant": shifts.INVARIANT,
    "conv.constant-input": shifts.CONSTANT_INPUT,
    "skip.output-ensemble": skips.OUTPUT_ENSEMBLE,
    "dlgn.primal-linear": gated.PRIMAL_LINEAR,
    "dlgn.dual-linear": gated.DUAL_LINEAR,
    "dlgn.permute-layers": gated.PERMUTE_LAYERS,
}
