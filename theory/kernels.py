r"""The neural path kernel and the two laws that follow from it.

Shapes, once and for all: examples come first; x has shape (n, \*input) and y (m, \*input). A kernel
is
(n, m) if all outputs share it (the network ends in one weighted operation that mixes everything) or
if
one output is chosen, and (n, m, outputs) otherwise, outputs flattened. Everything is float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reluctant.theory.errors import InputError
from reluctant.theory.images import Image, Term, images, origins
from reluctant.theory.network import Gates, PathNetwork, Reindex, Sum, Weighted
from reluctant.theory.operators import Bias, Dense
from reluctant.theory.propagation import Plan, make_plan, propagate
from reluctant.theory.tracing import trace

Normalisation = Literal["none", "trace", "width", "gates"]
Variance = float | Mapping[str, float]
_BLOCK_BYTES = 1 << 28


def gates(module: nn.Module | PathNetwork, x: Tensor) -> dict[str, Tensor]:
    r"""Record the gates of every layer that multiplies paths to the output.

    Args:
        module: Module, or a network traced at the shape of x.
        x: Inputs, shape (n, \*input).

    Returns:
        One (n, \*shape) tensor a layer, keyed by its place and name, in order; a max pooling has
        shape
        (n, taps, \*shape), one-hot over the taps. In the module's own type.
    """
    net = network_at(module, x)
    recorded = net.gates(x)
    found = {}
    for g in net.value_gates:
        layer = net.gate_layers[g]
        found[f"{layer.place} {layer.name}"] = recorded[g]
    return found


def npk(
    module: nn.Module | PathNetwork,
    x: Tensor,
    y: Tensor | None = None,
    *,
    sources: bool = True,
    output: int | None = None,
    normalise: Normalisation = "none",
    gates: tuple[Gates, Gates] | None = None,
) -> Float[Tensor, "n m *outputs"]:
    r"""Return the neural path kernel.

    .. math:: H(x, x') = \langle \phi(x), \phi(x') \rangle

    Args:
        module: Module, or a network traced at the shape of x.
        x: Inputs, shape (n, \*input).
        y: Second inputs, shape (m, \*input); x again if None.
        sources: False leaves out the paths from biases and from constants that are not inputs.
        output: Output coordinate (flattened) whose kernel is wanted; None for all.
        normalise: "none"; "trace" divides by the trace (x against itself only); "width" divides by
            the
            product of the numbers of rows of all weight layers but the last, so that a fully
            connected
            kernel is divided by w^(d−1); "gates" is ∏_l ⟨G_l, G_l'⟩ / w_l with no input Gram matrix
            (fully connected chains only).
        gates: Gates of x and of y to be used in place of the recorded ones.

    Returns:
        H, shape (n, m), or (n, m, outputs) where the outputs' kernels differ and none is chosen.

    Raises:
        NotIdentified: If paths through different units share their weights (tied layers).
        InputError: If the inputs or the normalisation do not fit.

    Cost:
        For a pair of examples, positions squared times channels a layer; where only equal positions
        matter (flattened networks), positions times channels; fully connected: one matrix product a
        layer.

    Source:
        npf, definition 4 and section 4; convolution and skips: dlgn, section 4.
    """
    net = network_at(module, x)
    if normalise == "gates":
        return _gate_overlap(net, x, y, gates)
    kernel = _law(net, x, y, dict.fromkeys(_names(net), 1.0), sources, output, gates, tangent=False)
    if normalise == "none":
        return kernel
    if normalise == "trace":
        if y is not None:
            raise InputError(
                "normalise='trace' needs the square kernel: leave y out, or divide by a trace of your choice"
            )
        return kernel / torch.diagonal(kernel, dim1=0, dim2=1).sum(-1)
    if normalise == "width":
        widths = [
            float(node.operator.rows)
            for node in net.weighted
            if not isinstance(node.operator, Bias)
        ]
        return kernel / torch.tensor(widths[:-1], dtype=torch.float64).prod()
    raise InputError(f"normalise must be 'none', 'trace', 'width' or 'gates', got {normalise!r}")


def nngp_law(
    module: nn.Module | PathNetwork,
    x: Tensor,
    y: Tensor | None = None,
    variance: Variance = 1.0,
    *,
    sources: bool = True,
    output: int | None = None,
    gates: tuple[Gates, Gates] | None = None,
) -> Float[Tensor, "n m *outputs"]:
    r"""Return the expected product of outputs over the value weights, gates held as recorded.

    .. math:: E_v[f(x) f(x')] = H(\sigma^2)

    It is exact at any width for independent weights of mean 0, whatever their distribution.

    Args:
        module: Module, or a network traced at the shape of x.
        x: Inputs, shape (n, \*input).
        y: Second inputs; x again if None.
        variance: σ², one number for all weights or one for each parameter by name (every parameter
            on a path, biases too).
        sources: False leaves out the paths from sources.
        output: Output coordinate; None for all.
        gates: Gates of x and of y to be used in place of the recorded ones.

    Returns:
        The law, shaped as :func:`npk` shapes it.

    Cost:
        That of :func:`npk`.
    """
    net = network_at(module, x)
    return _law(net, x, y, _variances(net, variance), sources, output, gates, tangent=False)


def ntk_law(
    module: nn.Module | PathNetwork,
    x: Tensor,
    y: Tensor | None = None,
    variance: Variance = 1.0,
    *,
    sources: bool = True,
    output: int | None = None,
    gates: tuple[Gates, Gates] | None = None,
) -> Float[Tensor, "n m"]:
    r"""Return the expected tangent kernel over the value weights, gates held as recorded.

    .. math:: E_v[\langle \nabla_v f(x), \nabla_v f(x') \rangle] = \sum_l \frac{\partial H}{\partial
    z_l}(\sigma^2)

    Args:
        module: Module, or a network traced at the shape of x.
        x: Inputs, shape (n, \*input).
        y: Second inputs; x again if None.
        variance: σ², one number or one for each parameter by name. A bias with σ² = 0 still has its
            tangent term.
        sources: False leaves out the paths from sources.
        output: Output coordinate; None for the trace over all outputs.
        gates: Gates of x and of y to be used in place of the recorded ones.

    Returns:
        The law, shape (n, m).

    Cost:
        Twice that of :func:`npk`: one directional derivative, in forward mode.

    Source:
        npf, theorem 5.1; dlgn, theorems 3 and 4: there d σ^(2(d−1)) H and its like are the
        derivatives.
    """
    net = network_at(module, x)
    kernel = _law(net, x, y, _variances(net, variance), sources, output, gates, tangent=True)
    if kernel.ndim == 3:
        return kernel.sum(2)
    return kernel if output is not None else kernel * net.output_size


def kernel_magnitude(
    net: PathNetwork,
    x: Tensor,
    gates: Gates,
    *,
    variance: Variance = 1.0,
    tangent: bool = False,
    sources: bool = True,
) -> Float[Tensor, "n n *outputs"]:
    r"""Return the kernel of absolute values, which bounds what rounding can do to the kernel.

    Args:
        net: Network.
        x: Inputs, shape (n, \*input).
        gates: Gates of x.
        variance: As for the laws.
        tangent: True for the tangent law, traced over the outputs as :func:`ntk_law` does.
        sources: False leaves out the paths from sources.
    """
    kernel = _law(
        net,
        x,
        None,
        _variances(net, variance),
        sources,
        None,
        (gates, gates),
        tangent=tangent,
        magnitudes=True,
    )
    if not tangent:
        return kernel
    return kernel.sum(2) if kernel.ndim == 3 else kernel * net.output_size


def kernel_work(net: PathNetwork) -> float:
    """Estimate the multiply-adds that the kernel of one pair of examples takes.

    Positions squared times channels, for each weight tensor that an operand comes from, where sums
    over positions follow; positions times channels where none does.
    """
    summed: set[int] = set()
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Sum) and any(
            net.nodes[node.operands[0]].shape[a] > 1 for a in node.axes
        ):
            summed |= net.ancestors([i])
    parts: dict[int, set[int]] = {}
    total = 0.0
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Weighted):
            size = (
                float(torch.Size(net.nodes[node.operands[0]].shape).numel())
                if node.operands
                else 0.0
            )
            positions = float(torch.Size(node.operator.positions).numel())
            origins_met = max(1, len(parts[node.operands[0]])) if node.operands else 0
            total += size * origins_met * (positions if i in summed else 1.0)
            parts[i] = {node.weight}
        else:
            parts[i] = set().union(*(parts[k] for k in node.operands)) if node.operands else set()
    return total


def network_at(module: nn.Module | PathNetwork, x: Tensor) -> PathNetwork:
    """Return the module read at the shape of x.

    Raises:
        InputError: If x does not have the shape of one batch of the network's examples.
    """
    if not isinstance(module, PathNetwork):
        return trace(module, x)
    if tuple(x.shape[1:]) != module.input_shape:
        came = tuple(x.shape)
        raise InputError(
            f"this path network reads examples of shape {module.input_shape}, got {came}; "
            "trace the module at that shape"
        )
    return module.at(x)


def _names(net: PathNetwork) -> list[str]:
    return [net.weights[node.weight].name for node in net.weighted]


def _variances(net: PathNetwork, variance: Variance) -> dict[str, float]:
    names = _names(net)
    if isinstance(variance, Mapping):
        missing = [name for name in names if name not in variance]
        if missing:
            raise InputError(
                f"no variance is given for {', '.join(missing)}; give one for every parameter on a path"
            )
        values = {name: float(variance[name]) for name in names}
    else:
        values = dict.fromkeys(names, float(variance))
    for name, value in values.items():
        if not 0.0 <= value < float("inf"):
            raise InputError(f"the variance of {name} must be finite and at least 0, got {value}")
    return values


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


def _law(
    net: PathNetwork,
    x: Tensor,
    y: Tensor | None,
    variances: Mapping[str, float],
    sources: bool,
    output: int | None,
    given: tuple[Gates, Gates] | None,
    *,
    tangent: bool,
    magnitudes: bool = False,
) -> Tensor:
    found = origins(net)
    mine = given[0] if given else net.gates(x)
    left = _Half(
        net, images(net, x, mine, found, sources=sources, magnitudes=magnitudes), x.shape[0]
    )
    right = left
    if y is not None:
        other = network_at(net, y)
        others = given[1] if given else other.gates(y)
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
    with (
        warnings.catch_warnings()
    ):  # torch's forward mode loads its rules through its own deprecated jit
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
        if not -net.output_size <= output < net.output_size:
            raise InputError(
                f"output {output} does not exist: the network has {net.output_size} output coordinates"
            )
        return torch.tensor([output % net.output_size]), False
    if outputs_share_a_kernel(net):
        return torch.tensor([0]), True
    return torch.arange(net.output_size), False


def outputs_share_a_kernel(net: PathNetwork) -> bool:
    """Tell whether all outputs have the same kernel, because one dense layer makes them all."""
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


def _gate_overlap(
    net: PathNetwork, x: Tensor, y: Tensor | None, given: tuple[Gates, Gates] | None
) -> Tensor:
    from reluctant.theory.structure import dense_chain

    layers = dense_chain(net)
    if layers is None:
        raise InputError(
            "normalise='gates' is defined for fully connected chains only; use 'none', 'trace' or 'width'"
        )
    mine = given[0] if given else net.gates(x)
    other = mine if y is None else (given[1] if given else network_at(net, y).gates(y))
    total = torch.ones(x.shape[0], x.shape[0] if y is None else y.shape[0], dtype=torch.float64)
    for g in layers.gates:
        a, b = mine[g].double().flatten(1), other[g].double().flatten(1)
        total = total * (a @ b.T) / a.shape[1]
    return total
