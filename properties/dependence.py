"""Gates that depend on the value weights, under the module's own law of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor
from torch.func import jacrev, vmap

from reluctant.properties import hypotheses as needs
from reluctant.properties.averages import Average
from reluctant.properties.thinning import Thinned, one_output
from reluctant.properties.weights import Sigma, WeightEntries, evaluations, weight_entries
from reluctant.theory.costs import kernel_work
from reluctant.theory.kernels import ntk_law
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate
from reluctant.theory.statements import CannotTry, Hypothesis, Trial
from reluctant.theory.structure import gate_parameters
from reluctant.theory.verdicts import EvidenceKind, Unmet

DRAWS = 128  # sign patterns gone through if there are no more, and draws if there are
_BACKWARD = 16  # forward passes of shared weights that take the time of one backward pass
_LAWS = 4  # multiply-adds of many laws, in units of what one kernel may take
_FEWEST = 16
_AT_ONCE = 2**22  # gradient entries held at once
_EXAMPLES = 12  # examples in one call of the law


def copied_parameters(net: PathNetwork) -> dict[str, str]:
    """Return the parameters of gates that hold the same numbers as a weight, by name of both."""
    named = dict(net.module.named_parameters())
    makers = {p for g in net.value_gates for p in gate_parameters(net, g)}
    on_paths = {net.weights[node.weight].parameter for node in net.weighted}
    found: dict[str, str] = {}
    for name, made in named.items():
        if id(made) not in makers or id(made) in on_paths:
            continue
        for other, value in named.items():
            alike = id(value) in on_paths and value.shape == made.shape
            if alike and bool(made.any()) and torch.equal(made, value):
                found[name] = other
                break
    return found


def _independent_law(net: PathNetwork) -> Iterator[Unmet]:
    name = "gates independent of the value weights under their own law"
    shared = [replace(place, hypothesis=name) for place in needs.DISJOINT.places(net)]
    if shared:
        yield from shared
        return
    copied = copied_parameters(net)
    makers = {p for g in net.value_gates for p in gate_parameters(net, g)}
    drawn = [n for n, p in net.module.named_parameters() if id(p) in makers and bool(p.any())]
    if copied and len(copied) == len(drawn):  # all of them, or it may be chance
        made, value = next(iter(copied.items()))
        reason = f"{made}, which makes gates, starts as a copy of {value}, which lies on a path"
        yield Unmet(name, reason, net.gate_layers[net.value_gates[0]].place)


INDEPENDENT_LAW = Hypothesis(
    "gates independent of the value weights under their own law",
    "No weight on a path reaches a gate, and no parameter of the gates starts as a copy of one.",
    _independent_law,
)


@dataclass(frozen=True, slots=True, eq=False)
class Dependent:
    """Be two averages over weights that the gates follow.

    Attributes:
        net: Network, with one output only where all are too many.
        tangent: Average of K_v.
        law: Average of the law at the gates of each draw, shape (n, n).
        what: How gates were made, a few words.
    """

    net: PathNetwork
    tangent: Average
    law: Tensor
    what: str


def redrawn_average(trial: Trial, sigma: Sigma) -> Dependent:
    """Redraw all weights under the module's own law, ±σ, its gates made anew each time.

    Parameters of gates that are copies of weights stay copies. The module itself is left alone:
    its program is run with other tensors in place of its parameters.

    Args:
        trial: Module with gates that depend on its value weights.
        sigma: σ of the weights.

    Cost:
        At most 128 runs of the module, at least 16, and as many backward passes an example and output.
    """
    net, x = trial.net, trial.x
    if _draws(trial, net) < DRAWS:
        net = one_output(net, trial.integer(0, net.output_size))
    opened = [torch.ones_like(g) for g in trial.gates]
    entries = weight_entries(trial, sigma, gates=opened, net=net)
    named = dict(net.module.named_parameters())
    copies = {id(named[made]): id(named[value]) for made, value in copied_parameters(net).items()}

    def made(row: Tensor) -> list[Tensor]:
        drawn: dict[int, Tensor] = {}
        for weight, value in zip(net.weights, entries.weights(row), strict=True):
            if weight.size == weight.entries.total:
                drawn[weight.parameter] = value.new_empty(weight.size)
                weight.entries.put(drawn[weight.parameter], value)
        bindings = {}
        for name, current in net.program.bindings.items():
            held = current()
            found = drawn.get(copies.get(id(held), id(held)))
            bindings[name] = current
            if found is not None:
                bindings[name] = _always(found.reshape(held.shape).to(held))
        return [g.double() for g in replace(net.program, bindings=bindings).run(x).gates]

    return _dependent(trial, entries, made, "gates made anew by the module")


def _always(value: Tensor) -> Callable[[], Tensor]:
    return lambda: value


def following_average(trial: Trial, sigma: Sigma, part: Thinned) -> Dependent:
    """Let gates be those that the values' own pre-activations would make, where they are not off.

    Args:
        trial: Network.
        sigma: σ of the weights ±σ.
        part: Inputs and gates that say what is switched off.
    """
    net = trial.net
    entries = weight_entries(trial, sigma, gates=part.gates, x=part.x, net=part.net)
    found = [net.nodes[i] for i in net.value_nodes]
    operands = {node.gate: node.operands[0] for node in found if isinstance(node, Gate)}

    def made(row: Tensor) -> list[Tensor]:
        gates = list(entries.gates)
        weights = entries.weights(row)
        for g, operand in operands.items():
            q = net.forward(entries.x, gates, weights, output=operand)
            if q.shape[1:] == gates[g].shape[1:]:
                gates[g] = (q > 0).double() * (gates[g] > 0)
        return [g.expand(len(entries.x), *g.shape[1:]) for g in gates]

    return _dependent(trial, entries, made, "gates follow the values")


def _draws(trial: Trial, net: PathNetwork) -> int:
    """Return how many times gates can be made anew at a trial's effort, at most 128."""
    passes = _BACKWARD * len(trial.x) * net.output_size + 1
    law = _EXAMPLES * kernel_work(net) * len(trial.x)
    return min(
        DRAWS, evaluations(trial) // passes, int(_LAWS * trial.limit.kernels / max(1.0, law))
    )


def _dependent(
    trial: Trial, entries: WeightEntries, made: Callable[[Tensor], list[Tensor]], what: str
) -> Dependent:
    draws = _draws(trial, entries.net)
    if draws < _FEWEST:
        raise CannotTry("the network is too large to make its gates anew many times at this effort")
    count = len(entries.signed)
    every = 2**count <= draws
    if every:
        bits = torch.arange(2**count)[:, None] >> torch.arange(count) & 1
    else:
        bits = torch.randint(0, 2, (draws, count), generator=trial.generator)
    rows = entries.with_signs(1.0 - 2.0 * bits.double())
    gates = list(vmap(made, chunk_size=16)(rows))

    chunk = max(1, min(64, _AT_ONCE // (count * len(entries.x) + 1)))

    def kernel(row: Tensor, own: list[Tensor]) -> Tensor:
        slopes = jacrev(replace(entries, gates=own).output)(row)  # (n, outputs, live)
        return torch.einsum("noe,moe->nm", slopes, slopes)

    kernels: Tensor = vmap(kernel, chunk_size=chunk)(rows, gates)
    law = _mean_law(entries, gates)
    kind = EvidenceKind.ROUNDING if every else EvidenceKind.STATISTICAL
    detail = f"{'all' if every else 'drawn'} {len(rows)} sign patterns of {count} weights"
    chance = None if every else trial.error_probability
    half_width = torch.zeros_like(law) if chance is None else _student(kernels, chance)
    return Dependent(
        entries.net, Average(kernels.mean(0), half_width, kind, chance, detail), law, what
    )


def _student(kernels: Float[Tensor, "draws n n"], chance: float) -> Float[Tensor, "n n"]:
    """Return half of Student's intervals for the means, all different entries together."""
    draws, n = len(kernels), kernels.shape[1]
    quantile = float(stats.t.isf(chance / (n * (n + 1)), draws - 1))
    half_width: Tensor = quantile * kernels.std(0) / draws**0.5
    return half_width


def _mean_law(entries: WeightEntries, gates: list[Tensor]) -> Tensor:
    """Average the law over the gates of all draws, many draws in one batch."""
    net, n, draws = entries.net, len(entries.x), len(gates[0]) if gates else 1
    variances = {}
    for weight, places in zip(net.weights, entries.numbers, strict=True):
        variances[weight.name] = float(entries.sigmas[places.flatten()[0]]) ** 2
    total = torch.zeros(n, n, dtype=torch.float64)
    step = max(1, _EXAMPLES // n)
    for start in range(0, draws, step):
        block = [g[start : start + step].flatten(0, 1) for g in gates]
        count = min(step, draws - start)
        x = entries.x.to(net.program.dtype).repeat(count, *[1] * (entries.x.ndim - 1))
        # Given gates the law runs no program, so the network need not be read at another batch.
        wide = replace(net, program=replace(net.program, example_shape=tuple(x.shape)))
        law = ntk_law(wide, x, variance=variances, gates=(block, block))
        total = total + torch.einsum("inim->nm", law.reshape(count, n, count, n))
    return total / draws
