"""Clusters of examples that open the same gates, and what a network does in each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from reluctant.theory.affine import AffineMap, affine_map
from reluctant.theory.errors import InputError
from reluctant.theory.network import PathNetwork
from reluctant.theory.patterns import Patterns, activation_patterns
from reluctant.theory.recording import network_at

_SHOWN = 5  # features of a row of the table


@dataclass(frozen=True, eq=False)
class Clusters:
    r"""Be the clusters of a data set, the largest first.

    Attributes:
        members: Cluster of each example, counted from 0.
        support: Number of examples of each cluster.
        share: Share of positive examples in each, None without labels.
        average: Mean of each cluster's examples, shape (clusters, \*input).
        affine: The network on each cluster: ``weight`` is the importance of each feature, shape
            (clusters, outputs, \*input), ``bias`` what is added, (clusters, outputs). Of clusters by
            one layer, means over the examples.
        patterns: Pattern that each cluster's examples share.
        first: First example of each cluster.
    """

    members: Int[NDArray[np.int64], " n"]
    support: Int[NDArray[np.int64], " clusters"]
    share: Float[NDArray[np.float64], " clusters"] | None
    average: Float[Tensor, clusters * input]
    affine: AffineMap
    patterns: Patterns
    first: Int[NDArray[np.int64], " clusters"]

    def __len__(self) -> int:
        return len(self.support)

    @property
    def importance(self) -> Float[Tensor, "clusters outputs *input"]:
        r"""Return :math:`W_{eff}` of each cluster."""
        return self.affine.weight

    def rows(
        self, names: Sequence[str] | None = None, output: int = 0, most: int = 10
    ) -> Iterator[tuple[str, ...]]:
        """Yield the rows of :meth:`table`: number, support, share, most important features, bias.

        Args:
            names: Names of the features; their numbers if None.
            output: Output whose importance is shown.
            most: Number of clusters, the largest first.

        Raises:
            InputError: If there is no such output, or names are not as many as features.
        """
        weight = self.importance.flatten(2)
        outputs, features = weight.shape[1:]
        if not 0 <= output < outputs:
            raise InputError(f"output {output} does not exist: there are {outputs}")
        names = [f"x{i}" for i in range(features)] if names is None else names
        if len(names) != features:
            raise InputError(f"there are {features} features, got {len(names)} names")
        for k in range(min(most, len(self))):
            own = weight[k, output]
            order = own.abs().argsort(descending=True, stable=True)[:_SHOWN].tolist()
            shown = ", ".join(f"{names[i]} {float(own[i]):+.2g}" for i in order if own[i])
            share = "" if self.share is None else f"{self.share[k]:.2f}"
            bias = f"{float(self.affine.bias[k, output]):+.2g}"
            yield str(k), str(self.support[k]), share, shown or "none", bias

    def table(self, names: Sequence[str] | None = None, output: int = 0, most: int = 10) -> str:
        """Return the clusters as a table in Markdown; arguments as for :meth:`rows`."""
        headings = ("cluster", "support", "share", "importance", "bias")
        found = list(self.rows(names, output, most))
        kept = [k for k in range(len(headings)) if k != 2 or self.share is not None]
        lines = [headings, tuple("---" for _ in headings), *found]
        text = "\n".join(f"| {' | '.join(line[k] for k in kept)} |" for line in lines)
        rest = len(self) - len(found)
        return f"{text}\n\n{rest} smaller clusters are not shown." if rest else text


def clusters(
    module: nn.Module | PathNetwork,
    data: Tensor,
    labels: ArrayLike | Tensor | None = None,
    *,
    layer: int | None = None,
) -> Clusters:
    r"""Put examples that open the same gates into one cluster.

    In a cluster the network is one affine map, whose rows tell how important each feature is there.

    Args:
        module: Module, or a network traced at the shape of the data.
        data: Examples, shape (n, \*input).
        labels: 1 or true for each positive example, 0 or false for the others.
        layer: Layer of gates that is compared, counted from 0 or from the end if negative; None for all.
            Clusters by one layer hold several affine maps, of which the mean is given.

    Raises:
        InputError: If labels are not one 0 or 1 for each example, if there is no such layer, or if gates
            are soft.

    Cost:
        One forward pass, and one backward pass an output on one example of each pattern.

    Source:
        clu, sections 3 and 4.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
        >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]])), net[2].weight.data.fill_(1.0)
        >>> found = clusters(net, torch.tensor([[1.0], [2.0], [-1.0]]), [1, 0, 0])
        >>> print(found.table(["height"]))
        | cluster | support | share | importance | bias |
        | --- | --- | --- | --- | --- |
        | 0 | 2 | 0.50 | height +1 | +0 |
        | 1 | 1 | 0.00 | height -1 | +0 |
    """
    net = network_at(module, data)
    positive = None if labels is None else _checked(labels, len(data))
    patterns = activation_patterns(net, data)
    chosen = patterns if layer is None else patterns.layer(layer)
    first, members = chosen.groups()
    support = np.bincount(members, minlength=len(first))
    order = np.argsort(-support, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    first, members, support = first[order], place[members], support[order]
    whole_first, whole = patterns.groups()
    maps = affine_map(net, data[torch.from_numpy(whole_first)])
    # examples of each cluster that have each whole pattern
    pairs, counts = np.unique(np.stack([members, whole]), axis=1, return_counts=True)
    parts = torch.from_numpy(counts / support[pairs[0]])
    into, of = torch.from_numpy(pairs[0]), torch.from_numpy(pairs[1])

    def mean(t: Tensor) -> Tensor:
        weighted = t.cpu()[of] * parts.reshape(-1, *[1] * (t.ndim - 1))
        return t.new_zeros(len(support), *t.shape[1:], device="cpu").index_add_(0, into, weighted)

    sums = torch.zeros(len(support), *data.shape[1:], dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(members), data.detach().cpu().double())
    average = sums / torch.from_numpy(support).reshape(-1, *[1] * (data.ndim - 1))
    share = None if positive is None else np.bincount(members, positive) / support
    return Clusters(
        members,
        support,
        share,
        average,
        AffineMap(mean(maps.weight), mean(maps.bias)),
        chosen[first],
        first,
    )


def _checked(labels: ArrayLike | Tensor, count: int) -> NDArray[np.float64]:
    """Return labels as numbers 0 and 1."""
    held = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if held.shape != (count,):
        raise InputError(f"labels are one for each of {count} examples, got shape {held.shape}")
    if held.dtype.kind not in "biuf" or not bool(((held == 0) | (held == 1)).all()):
        raise InputError(
            "labels are 0 or 1; mark the positive examples, for instance with labels == 'yes'"
        )
    return held.astype(np.float64)
