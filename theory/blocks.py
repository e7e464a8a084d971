"""The law H(z) between two sets of examples, propagated block by block."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import SupportsFloat

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reluctant.theory.errors import InputError
from reluctant.theory.images import Image, Term, images, origins
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gates, Reindex, Sum, Weighted
from reluctant.theory.operands import check_batch, check_output
from reluctant.theory.operators import Bias, Dense
from reluctant.theory.propagation import Plan, make_plan, propagate
from reluctant.theory.tracing import trace

Variance = float | Mapping[str, float]
_BLOCK_BYTES = 1 << 28


def network_at(module: nn.Module | PathNetwork, x: Tensor) -> PathNetwork:
    """Return the module read at the shape of x.

    Raises:
        InputError: If x does not have the shape of one batch of the network's examples.
    """
    if not isinstance(module, PathNetwork):
        return trace(module, x)
    check_batch(module, x)
    return module.at(x)


def variances_of(net: PathNetwork, variance: Variance) -> dict[str, float]:
    """Return one variance a parameter on a path, by name.

    Args:
        net: Network.
        variance: One number for all, or one for each by name; those of other parameters are left
            out.

    Raises:
        InputError: If one is missing, negative or not finite; says which.
    """
    names = [net.weights[node.weight].name for node in net.weighted]
    if isinstance(variance, Mapping):
        missing = [name for name in names if name not in variance]
        if missing:
            raise InputError(
                f"no variance is given for {', '.join(missing)}; give one for every parameter on a path"
            )
        values = {name: _number(variance[name]) for name in names}
    else:
        values = dict.fromkeys(names, _number(variance))
    for name, value in values.items():
        if not 0.0 <= value < float("inf"):
            raise InputError(f"the variance of {name} must be finite and at least 0, got {value}")
    return values


def _number(variance: object) -> float:
    if isinstance(variance, SupportsFloat):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):  # arrays of several numbers
            return float(variance)
    raise InputError(
        "variance must be a number, or a mapping that gives one for each parameter by name, got "
        f"{variance!r}"
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Half:
    net: PathNetwork
    images: Mapping[int, Image]
    n: int

    def block(self, start: int, stop: int) -> dict[int, Image]:
        return {
            i: Image(
                None if image.data is None else image.data[start:stop],
                {k: Term(t.index, t.factor[start:stop]) for k, t in image.terms.items()},
            )
            for i, image in self.images.items()
        }


def law(
    net: PathNetwork,
    x: Tensor,
    y: Tensor | None = None,
    *,
    variance: Variance = 1.0,
    sources: bool = True,
    output: int | None = None,
    gates: tuple[Gates, Gates] | None = None,
    tangent: bool = False,
    magnitudes: bool = False,
) -> Float[Tensor, "n m *outputs"]:
    r"""Return H(z) at z = σ², or the sum of its derivatives there.

    Args:
        net: Network, read at the shape of x.
        x: Inputs, shape (n, \*input).
        y: Second inputs, shape (m, \*input); x again if None.
        variance: σ², one number or one for each parameter by name.
        sources: False leaves out the paths from sources.
        output: Output coordinate (flattened); None for all.
        gates: Gates of x and of y in place of the recorded ones.
        tangent: True for :math:`\sum_l \partial H / \partial z_l`.
        magnitudes: True takes data, gates and constants in absolute value, for error bounds.

    Returns:
        Kernels, shape (n, m), or (n, m, outputs) where they differ and none is chosen.

    Raises:
        NotIdentified: If paths through different units share their weights.
        InputError: If inputs, variances or the output do not fit.

    Cost:
        Blocks of examples are propagated one by one, so that each takes 256 MiB a kernel at most.
    """
    variances = variances_of(net, variance)
    found = origins(net)
    mine = gates[0] if gates else net.gates(x)
    left = _Half(
        net, images(net, x, mine, found, sources=sources, magnitudes=magnitudes), x.shape[0]
    )
    right = left
    if y is not None:
        other = network_at(net, y)
        others = gates[1] if gates else other.gates(y)
        right = _Half(
            other,
            images(other, y, others, found, sources=sources, magnitudes=magnitudes),
            y.shape[0],
        )
    plan = make_plan(net, found, left.images)
    chosen, shared = _chosen(net, output)
    z = {
        k: torch.tensor(variances[net.weights[k].name], dtype=torch.float64, device=x.device)
        for k in plan.order
    }
    rows: list[list[Tensor]] = []
    step = _block(plan, left.images)
    for i in range(0, left.n, step):
        line = []
        for j in range(0, right.n, step):
            if right is left and j < i:
                line.append(rows[j // step][i // step].transpose(1, 2))
                continue
            line.append(
                _block_law(
                    plan, left.block(i, i + step), right.block(j, j + step), z, chosen, tangent
                )
            )
        rows.append(line)
    kernel = torch.cat([torch.cat(line, dim=2) for line in rows], dim=1).movedim(0, -1)
    return kernel[..., 0] if output is not None or shared else kernel


def _block_law(
    plan: Plan,
    left: dict[int, Image],
    right: dict[int, Image],
    z: dict[int, Tensor],
    outputs: Tensor,
    tangent: bool,
) -> Tensor:
    if not tangent or not z:
        kernel = propagate(plan, left, right, z, outputs)
        return torch.zeros_like(kernel) if tangent else kernel
    keys = list(z)

    def along(shift: Tensor) -> Tensor:
        return propagate(plan, left, right, {k: z[k] + shift for k in keys}, outputs)

    zero = torch.zeros((), dtype=torch.float64, device=z[keys[0]].device)
    with warnings.catch_warnings():
        # torch's forward mode loads its rules through its own deprecated jit
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        derivative: Tensor = torch.func.jvp(along, (zero,), (torch.ones_like(zero),))[1]
    return derivative


def _block(plan: Plan, present: Mapping[int, Image]) -> int:
    """Return how many examples to take at once so that a block of kernels stays within its budget."""
    largest = 1
    for k in plan.full:
        largest = max(largest, plan.origins[k].positions ** 2)
    for image in present.values():
        for k, term in image.terms.items():
            if k in plan.full:
                largest = max(largest, term.index.shape[0] ** 2)
    pairs = max(1, _BLOCK_BYTES // (8 * largest))
    return max(1, int(pairs**0.5))


def _chosen(net: PathNetwork, output: int | None) -> tuple[Tensor, bool]:
    """Return the output coordinates to compute, and whether the first stands for all."""
    if output is not None:
        return torch.tensor([check_output(net, output)]), False
    if outputs_share_a_kernel(net):
        return torch.tensor([0]), True
    return torch.arange(net.output_size), False


def outputs_share_a_kernel(net: PathNetwork) -> bool:
    """Tell whether one kernel stands for all: there is one output, or one dense layer makes them."""
    if net.output_size == 1:
        return True
    todo = [net.output]
    while todo:
        node = net.nodes[todo.pop()]
        if isinstance(node, Weighted):
            operator = node.operator
            whole = isinstance(operator, Dense) and int(torch.Size(operator.positions).numel()) == 1
            if not whole and not (
                isinstance(operator, Bias) and len(operator.own) and not _shared_positions(operator)
            ):
                return False
        elif (isinstance(node, Sum) and not node.axes) or (
            isinstance(node, Reindex) and node.keeps_order
        ):
            todo.extend(node.operands)
        else:
            return False
    return True


def _shared_positions(operator: Bias) -> bool:
    return int(torch.Size(operator.positions).numel()) > 1
