"""The ensemble that a network with identity skips is: one sub-network for each set of blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Input, Sum, Weighted
from reluctant.theory.structure import Skip, depths, identity_skips


def subnetwork(net: PathNetwork, kept: frozenset[int]) -> PathNetwork:
    """Return the paths that go through some branches and around the others.

    Each sum of a branch and its detour becomes one of the two. Gates stay those of the whole
    network, since its program still makes them.

    Args:
        net: Network with identity skips.
        kept: J, numbers of the skips (in order, from 0) whose branch is gone through.

    Returns:
        A network with the same weights and gates, and some of the paths.

    Raises:
        IndexError: If a number names no skip.

    Source:
        dlgn, section 4.
    """
    skips = identity_skips(net)
    if not kept <= set(range(len(skips))):
        raise IndexError(f"skips are numbered from 0 to {len(skips) - 1}, got {sorted(kept)}")
    nodes = list(net.nodes)
    for k, skip in enumerate(skips):
        whole = nodes[skip.node]
        assert isinstance(whole, Sum)
        nodes[skip.node] = replace(whole, operands=(skip.branch if k in kept else skip.around,))
    return replace(net, nodes=tuple(nodes))


def subsets(count: int, most: int | None = None) -> Iterator[frozenset[int]]:
    """Go through the subsets of {0, …, count − 1} of at most so many numbers, small ones first."""
    for size in range((count if most is None else min(most, count)) + 1):
        for chosen in combinations(range(count), size):
            yield frozenset(chosen)


def depth_of(net: PathNetwork) -> frozenset[int]:
    """Return the numbers of weight layers on paths from the data to the output."""
    return depths(net)[net.output]


def is_on_every_path(net: PathNetwork, node: int) -> bool:
    """Tell whether all paths from the data to the output cross a node."""
    todo, seen = [net.output], {node}
    while todo:
        i = todo.pop()
        if i in seen:
            continue
        seen.add(i)
        if isinstance(net.nodes[i], Input) or getattr(net.nodes[i], "is_input", False):
            return False
        todo.extend(net.nodes[i].operands)
    return True


def branch_nodes(net: PathNetwork, skip: Skip) -> frozenset[int]:
    """Return the nodes of a skip's branch: those that its detour does not come from."""
    return frozenset(net.ancestors([skip.branch]) - net.ancestors([skip.around]))


def shares_paths(net: PathNetwork, skip: Skip) -> str:
    """Say how a path through a branch could have the weights of one around it, empty if none."""
    inside = branch_nodes(net, skip)
    uses: dict[int, int] = {}
    for node in net.weighted:
        parameter = net.weights[node.weight].parameter
        uses[parameter] = uses.get(parameter, 0) + 1
    for i in sorted(inside):
        here = net.nodes[i]
        if isinstance(here, Weighted) and uses.get(net.weights[here.weight].parameter, 0) > 1:
            return f"{net.weights[here.weight].name} acts inside a branch and elsewhere"
    todo = [skip.branch]
    while todo:
        i = todo.pop()
        if i not in inside:
            return f"a part of {net.nodes[skip.branch].name} crosses no weight of the branch"
        if not isinstance(net.nodes[i], Weighted):
            todo.extend(net.nodes[i].operands)
    return ""
