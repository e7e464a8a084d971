"""Statement of concatenated features: kernels of branches that are put side by side add (dlgn)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reluctant.properties import costs
from reluctant.properties import hypotheses as needs
from reluctant.properties.bounds import kernel_tolerance
from reluctant.theory.kernels import npk
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Gate, Reindex, Scale, Weighted
from reluctant.theory.operators import Dense
from reluctant.theory.statements import (
    CannotTry,
    Comparison,
    Hypothesis,
    Kind,
    Mutant,
    Statement,
    Trial,
)
from reluctant.theory.subnetworks import is_on_every_path
from reluctant.theory.verdicts import Unmet

_NAME = "concatenated features"


def concatenation(net: PathNetwork) -> int | None:
    """Return the last node on every path that puts several tensors side by side."""
    for i in reversed(net.value_nodes):
        node = net.nodes[i]
        if isinstance(node, Reindex) and len(node.operands) > 1 and is_on_every_path(net, i):
            return i
    return None


def _concatenated(net: PathNetwork) -> Iterator[Unmet]:
    joined = concatenation(net)
    place = net.nodes[net.output].place
    if joined is None:
        yield Unmet(_NAME, "no tensors are put side by side on every path", place)
        return
    node = net.nodes[joined]
    sizes = [net.nodes[k].shape for k in node.operands]
    if sum(size[0] for size in sizes) != node.shape[0]:
        reason = f"{node.name} puts tensors side by side along positions"
        yield Unmet(_NAME, reason, node.place)
    todo = [i for i in net.value_nodes if joined in net.nodes[i].operands]
    if not todo:
        yield Unmet(_NAME, f"no weight follows {node.name}", node.place)
    while todo:
        i = todo.pop()
        here = net.nodes[i]
        if isinstance(here, Weighted):
            if isinstance(here.operator, Dense) and here.operator.positions:
                yield Unmet(_NAME, f"{here.name} shares its weights among the branches", here.place)
        elif isinstance(here, Gate | Scale) or (isinstance(here, Reindex) and here.keeps_order):
            todo += [k for k in net.value_nodes if i in net.nodes[k].operands]
        else:
            reason = f"{here.name} comes between {node.name} and the next weights"
            yield Unmet(_NAME, reason, here.place)


CONCATENATED = Hypothesis(
    _NAME,
    "Every path goes through features put side by side, each read by weights of its own.",
    _concatenated,
)


def branch(net: PathNetwork, joined: int, kept: int) -> PathNetwork:
    """Return the paths through one of the tensors that a node puts side by side.

    Args:
        net: Network.
        joined: The node.
        kept: Number of the tensor among its operands.
    """
    node = net.nodes[joined]
    assert isinstance(node, Reindex)
    move = node.move

    def one(operands: Sequence[Tensor]) -> Tensor:
        return move([t if k == kept else torch.zeros_like(t) for k, t in enumerate(operands)])

    nodes = list(net.nodes)
    nodes[joined] = replace(node, move=one, keeps_order=False)
    return replace(net, nodes=tuple(nodes))


Total = Callable[[list[Tensor]], Tensor]


def _once(kernels: list[Tensor]) -> Tensor:
    return torch.stack(kernels).sum(0)


def _without_the_last(kernels: list[Tensor]) -> Tensor:
    return _once(kernels) - kernels[-1]


def _first_twice(kernels: list[Tensor]) -> Tensor:
    return _once(kernels) + kernels[0]


def kernels_of_branches_add(trial: Trial, total: Total = _once) -> Sequence[Comparison]:
    """Compare the kernel with the sum of those of the paths through one branch each."""
    net, joined = trial.net, concatenation(trial.net)
    if joined is None:
        raise CannotTry("no tensors are put side by side on every path")
    both = (trial.gates, trial.gates)
    parts = [branch(net, joined, kept) for kept in range(len(net.nodes[joined].operands))]
    kernels = [npk(part, trial.x, gates=both) for part in parts]
    bound, kind = kernel_tolerance(net, trial.x, trial.gates, passes=2 + len(kernels))
    what = "H against the branches' kernels added"
    return [Comparison(npk(net, trial.x), total(kernels), bound, kind, what=what)]


DENSE_CONCAT = Statement(
    id="skip.dense-concat",
    title="Where features are concatenated, the kernels of the branches add.",
    kind=Kind.EXACT,
    latex=r"z = W [z_1; z_2] \;\Rightarrow\; H_z = H_{z_1 \to z} + H_{z_2 \to z}",
    sources=("dlgn, section 4 (DenseNet)",),
    hypotheses=(CONCATENATED, needs.BIAS_FREE),
    claim=kernels_of_branches_add,
    cost=costs.kernels,
    mutants=(
        Mutant("the last branch left out", {"total": _without_the_last}),
        Mutant("the first branch counted twice", {"total": _first_twice}),
    ),
    controls="A sum in place of the concatenation, of branches that share a module.",
    note=(
        "Branches may share a module: the next weights tell their paths apart. Concatenation along "
        "positions, which share the next weights, has cross terms."
    ),
)

STATEMENTS = (DENSE_CONCAT,)
