"""K = K_v + K_f: the bound knows what is added before it cancels, and the gates are the recorded ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reluctant.models import Regime, Soft, make_dgn, make_fc
from reluctant.properties.frozen_gates import NTK_SPLIT
from reluctant.properties.judging import judge
from reluctant.theory.rounding import gamma, roundings
from reluctant.theory.statements import Trial
from reluctant.theory.tangents import batch_gradients, ntk
from reluctant.theory.verdicts import Outcome

# ⟨x, x'⟩ = 0.1 · 0.3 − 0.3 · 0.1 cancels, and with it the kernel of the features.
ACROSS = torch.tensor([[0.1, 0.3], [0.3, -0.1]]).double()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def steep(seed: int, slope: float = 1e6) -> nn.Module:
    """Return a gated network whose gates are near ½ and move fast with their parameters."""
    value = make_fc(2, [5], generator=seeded(seed))
    module = make_dgn(value, Regime.DLNPF, generator=seeded(seed), gate=Soft(slope)).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith("gates"):
                parameter.mul_(0.01 / slope)
    return module


def test_features_that_cancel_are_rounded_by_what_they_are_sums_of() -> None:
    broken = False
    for seed in range(10):
        trial = Trial(steep(seed), ACROSS, seeded())
        judgement = judge(NTK_SPLIT, trial)
        assert judgement.outcome is Outcome.HOLDS, judgement
        (found,) = judgement.comparisons
        sides = found.left.abs() + found.right.abs()
        # Both sides are sums of what is larger: a bound by their own size is broken.
        broken |= bool((found.excess > 4 * gamma(4 * roundings(trial.net)) * sides).any())
    assert broken


@pytest.mark.parametrize("slope", [1.0, 1e3, 1e6])
def test_faults_are_seen_beside_steep_gates(slope: float) -> None:
    trial = Trial(steep(0, slope), ACROSS, seeded())
    for mutant in NTK_SPLIT.mutants:
        assert judge(NTK_SPLIT, trial, dict(mutant.ingredients)).outcome is Outcome.REFUTED


def test_gradients_of_a_batch_are_those_of_its_examples() -> None:
    module = make_fc(2, [3], 2, generator=seeded()).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.round(4 * parameter))  # whole numbers, so that nothing is rounded
    x = torch.tensor([[1.0, 2.0], [2.0, -1.0], [0.0, 0.0]]).double()
    names = [name for name, _ in module.named_parameters()]
    rows = batch_gradients(module, x, names)
    assert rows.shape == (3, 2, 2 * 3 + 3 * 2)
    assert torch.equal(torch.einsum("nop,mop->nm", rows, rows), ntk(module, x))
    assert torch.equal(batch_gradients(module, x, names[1:]), rows[..., 6:])
    assert batch_gradients(module, x, []).shape == (3, 2, 0)
    assert all(p.grad is None for p in module.parameters())
