"""The explicit route: every path of a small network, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reluctant.theory.counts import count_paths
from reluctant.theory.errors import TooManyPaths
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, Gates, Input, Node, Weighted
from reluctant.theory.tracing import trace

Entry = tuple[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Bunch:
    """Hold all paths that arrive at one coordinate."""

    starts: np.ndarray  # (paths,) input coordinate, -1 at a source
    constants: np.ndarray  # (paths,) product of routing constants, and of a constant source
    activity: np.ndarray  # (n, paths)
    words: tuple[tuple[Entry, ...], ...]  # weights met, in order


@dataclass(frozen=True, eq=False)
class Paths:
    r"""Hold every path of a network, and the bundles that they form.

    .. math:: f_o(x) = \sum_{p \to o} \phi_p(x)\, v_p = \sum_{b \to o} \phi_b(x)\, v_b

    Attributes:
        starts: Input coordinate at which a path starts, -1 at a source. Entries of the data come
            first, flattened, then those of constants that are inputs, such as an all-ones input.
        ends: Output coordinate (flattened) at which it ends.
        constants: Product of its routing constants.
        activity: Product of its gates, one row an example.
        words: Its weights in order, each as (parameter, entry).
        x: Inputs in that order.
        weight_of: Present value of each weight that occurs.
    """

    starts: Int[Tensor, " paths"]
    ends: Int[Tensor, " paths"]
    constants: Float[Tensor, " paths"]
    activity: Float[Tensor, "n paths"]
    words: tuple[tuple[Entry, ...], ...]
    x: Float[Tensor, "n input"]
    weight_of: dict[Entry, float]

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def values(self) -> Float[Tensor, " paths"]:
        """Return v_p, the product of the weights on each path (1 if there are none)."""
        products = [np.prod([self.weight_of[e] for e in word]) for word in self.words]
        return torch.tensor(products, dtype=torch.float64)

    @cached_property
    def features(self) -> Float[Tensor, "n paths"]:
        """Return φ_p(x): the input coordinate (1 at a source) times gates and constants."""
        n = len(self.x)
        with_source = torch.cat([self.x, self.x.new_ones(n, 1)], dim=1)  # -1 picks the last
        return with_source[:, self.starts] * self.activity * self.constants

    @cached_property
    def bundles(self) -> tuple[tuple[int, tuple[Entry, ...]], ...]:
        """Return output coordinate and multiset of weights of each bundle."""
        return tuple(dict.fromkeys(self._keys))

    @property
    def _keys(self) -> list[tuple[int, tuple[Entry, ...]]]:
        ends = self.ends.tolist()
        return [(end, tuple(sorted(word))) for end, word in zip(ends, self.words, strict=True)]

    @cached_property
    def membership(self) -> Int[Tensor, " paths"]:
        """Return the bundle that each path belongs to."""
        number = {bundle: k for k, bundle in enumerate(self.bundles)}
        return torch.tensor([number[key] for key in self._keys], dtype=torch.long)

    @cached_property
    def bundle_values(self) -> Float[Tensor, " bundles"]:
        """Return v_b, equal for all paths of a bundle."""
        values = self.values.new_zeros(len(self.bundles))
        values[self.membership] = self.values
        return values

    @cached_property
    def bundle_features(self) -> Float[Tensor, "n bundles"]:
        """Return φ_b(x), the sum over the paths of a bundle."""
        features = self.features
        total = features.new_zeros(len(features), len(self.bundles))
        return total.index_add_(1, self.membership, features)

    @cached_property
    def bundle_ends(self) -> Int[Tensor, " bundles"]:
        """Return the output coordinate of each bundle."""
        return torch.tensor([end for end, _ in self.bundles], dtype=torch.long)

    def output(self) -> Float[Tensor, "n outputs"]:
        """Return ⟨φ(x), v⟩ for every output coordinate."""
        parts = self.bundle_features * self.bundle_values
        size = int(self.ends.max()) + 1 if len(self) else 0
        return parts.new_zeros(len(parts), size).index_add_(1, self.bundle_ends, parts)

    def kernel(self, output: int = 0) -> Float[Tensor, "n n"]:
        """Return H(x, x') = ⟨φ(x), φ(x')⟩ of one output."""
        features = self.bundle_features[:, self.bundle_ends == output]
        return features @ features.T

    def overlap(self, output: int = 0) -> Float[Tensor, "input n n"]:
        """Return Σ A(x, p) A(x', p) over the paths of each input coordinate."""
        found = []
        for i in range(self.x.shape[1]):
            active = self.activity[:, (self.starts == i) & (self.ends == output)]
            found.append(active @ active.T)
        return torch.stack(found)


def paths(
    module: nn.Module | PathNetwork, x: Tensor, *, gates: Gates | None = None, limit: int = 50_000
) -> Paths:
    r"""List every path of a small network, with its weights, gates and constants.

    This is the obvious route to every quantity of the dual view; the fast ones are tested against
    it.

    Args:
        module: Module, or a network traced at the shape of x.
        x: Inputs, shape (n, \*input).
        gates: Gates to use in place of those that the module has at x.
        limit: Largest number of paths to list.

    Returns:
        The paths of all outputs, those from sources included.

    Raises:
        TooManyPaths: If there are more than the limit; carries the exact count.

    Cost:
        Time and memory of (paths × examples); for each operation a dense matrix of its entries.
    """
    net = module.at(x) if isinstance(module, PathNetwork) else trace(module, x)
    count = count_paths(net, x, sources=True)
    if count > limit:
        raise TooManyPaths(
            f"{type(net.module).__name__} has {count} paths, more than limit={limit}; use count_paths, npk or "
            "ntk_law, which do not list them, or raise the limit",
            count=count,
            limit=limit,
        )
    gates = net.gates(x) if gates is None else gates
    inputs = x.detach().double().flatten(1)
    bunches: dict[int, list[_Bunch]] = {}
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Constant) and node.is_input:
            bunches[i] = _start(node.value.flatten().tolist(), inputs.shape[1], x.shape[0])
            more = node.value.double().flatten().to(inputs).expand(x.shape[0], -1)
            inputs = torch.cat([inputs, more], dim=1)
            continue
        operands = [bunches[k] for k in node.operands]
        bunches[i] = _arrive(net, node, operands, gates, x.shape[0])
    last = bunches[net.output]
    weight_of = {
        (w.name, entry): value
        for w in net.weights
        for entry, value in zip(
            w.entries.listed().flatten().tolist(),
            w.value().detach().double().flatten().tolist(),
            strict=True,
        )
    }
    whole = _join(last, x.shape[0])
    ends = [k for k, bunch in enumerate(last) for _ in bunch.words]
    return Paths(
        starts=torch.from_numpy(whole.starts),
        ends=torch.tensor(ends, dtype=torch.long),
        constants=torch.from_numpy(whole.constants),
        activity=torch.from_numpy(whole.activity),
        words=whole.words,
        x=inputs,
        weight_of=weight_of,
    )


def _start(values: Sequence[float], first: int, n: int) -> list[_Bunch]:
    """Return a path for each input coordinate, the first of them numbered, zero constants aside."""
    ones = np.ones((n, 1))
    return [
        _Bunch(np.array([first + i]), np.ones(1), ones, ((),)) if value else _join([], n)
        for i, value in enumerate(values)
    ]


def _arrive(
    net: PathNetwork, node: Node, operands: list[list[_Bunch]], gates: Gates, n: int
) -> list[_Bunch]:
    size = int(torch.Size(node.shape).numel())
    ones = np.ones((n, 1))
    if isinstance(node, Input):
        return _start([1.0] * size, 0, n)
    if isinstance(node, Constant):
        flat = node.value.flatten().tolist()
        return [
            _Bunch(np.array([-1]), np.array([c]), ones, ((),)) if c else _join([], n) for c in flat
        ]
    if isinstance(node, Gate):
        factor = gates[node.gate].double().expand(n, *node.shape).reshape(n, size).cpu().numpy()
        return [
            _Bunch(b.starts, b.constants, b.activity * factor[:, [k]], b.words)
            for k, b in enumerate(operands[0])
        ]
    if isinstance(node, Weighted):
        return _weigh(net, node, operands, n)
    parts: list[list[_Bunch]] = [[] for _ in range(size)]
    for j, operand in enumerate(operands):
        for source, target, constant in _edges(net, node, j):
            b = operand[source]
            parts[target].append(_Bunch(b.starts, b.constants * constant, b.activity, b.words))
    return [_join(part, n) for part in parts]


def _weigh(net: PathNetwork, node: Weighted, operands: list[list[_Bunch]], n: int) -> list[_Bunch]:
    weight = net.weights[node.weight]
    numbers = torch.arange(1, weight.size + 1, dtype=torch.float64).reshape(weight.shape)
    entries = weight.entries.listed().flatten().tolist()
    if not operands:
        used = node.operator.apply(None, numbers).flatten().long().tolist()
        return [
            _Bunch(np.array([-1]), np.ones(1), np.ones((n, 1)), (((weight.name, entries[k - 1]),),))
            for k in used
        ]
    shape = net.nodes[node.operands[0]].shape
    size = int(torch.Size(shape).numel())
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    used = node.operator.apply(basis, numbers).reshape(size, -1).round().long().tolist()
    parts: list[list[_Bunch]] = [[] for _ in used[0]]
    for source, row in enumerate(used):
        for target, k in enumerate(row):
            if k:
                b, step = operands[0][source], (weight.name, entries[k - 1])
                parts[target].append(
                    _Bunch(b.starts, b.constants, b.activity, tuple((*w, step) for w in b.words))
                )
    return [_join(part, n) for part in parts]


def _edges(net: PathNetwork, node: Node, operand: int) -> list[tuple[int, int, float]]:
    """Return (entry of the operand, entry of the node, constant), found by trying each entry."""
    shapes = [net.nodes[k].shape for k in node.operands]
    size = int(torch.Size(shapes[operand]).numel())
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *shapes[operand])
    tried = [
        basis if j == operand else torch.zeros(size, *s, dtype=torch.float64)
        for j, s in enumerate(shapes)
    ]
    matrix = apply_constant(node, tried).reshape(size, -1)
    rows, columns = torch.nonzero(matrix, as_tuple=True)
    return list(zip(rows.tolist(), columns.tolist(), matrix[rows, columns].tolist(), strict=True))


def apply_constant(node: Node, operands: Sequence[Tensor]) -> Tensor:
    """Apply a node that has neither weights nor gates."""
    from reluctant.theory.nodes import Reindex, Scale, Sum

    if isinstance(node, Reindex):
        return node.move(operands)
    if isinstance(node, Sum):
        total = torch.stack(list(operands)).sum(0)
        return total.sum([a + 1 for a in node.axes]) if node.axes else total
    assert isinstance(node, Scale)
    return operands[0] * node.factor.to(operands[0])


def _join(bunches: Sequence[_Bunch], n: int) -> _Bunch:
    if not bunches:
        return _Bunch(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((n, 0)), ())
    return _Bunch(
        np.concatenate([b.starts for b in bunches]),
        np.concatenate([b.constants for b in bunches]),
        np.concatenate([b.activity for b in bunches], axis=1),
        tuple(word for b in bunches for word in b.words),
    )
