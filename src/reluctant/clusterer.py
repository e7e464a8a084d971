"""Clusters of equal activation patterns for scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from reluctant.theory.clusters import Clusters, clusters
from reluctant.theory.errors import InputError
from reluctant.theory.inputs import require_module
from reluctant.theory.network import PathNetwork
from reluctant.theory.patterns import Patterns, activation_patterns
from reluctant.theory.recording import network_at

Array = NDArray[Any]
_validated: Any = validate_data  # whose defaults are strings, for type checkers


class ReLUClusterer(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Put rows that open the same gates of a network into one cluster, the largest first.

    Args:
        module: Module whose gates are compared, trained on the task that is to be explained. None takes a
            network of one hidden layer, whose units change at hyperplanes through the mean of the
            rows, across its first principal axes.
        layer: Layer of gates that is compared, as for :func:`~reluctant.theory.clusters.clusters`.
        input_shape: Shape of one example, into which a row is unflattened; None leaves it flat.
        axes: Number of principal axes, where no module is given.

    Attributes:
        labels_: Cluster of each row.
        clusters_: The clusters: support, share, average and importance.
        n_clusters_: Their number.

    Source:
        clu, section 3.

    Example:
        >>> X = np.array([[-3.0], [-2.0], [-2.5], [4.0]])
        >>> ReLUClusterer().fit(X).labels_.tolist()
        [0, 0, 0, 1]
    """

    def __init__(
        self,
        module: nn.Module | None = None,
        *,
        layer: int | None = None,
        input_shape: tuple[int, ...] | None = None,
        axes: int = 2,
    ) -> None:
        self.module = module
        self.layer = layer
        self.input_shape = input_shape
        self.axes = axes

    def fit(self, X: Array, y: Array | None = None) -> Self:
        """Find the clusters.

        Args:
            X: Flattened examples, shape (n, features).
            y: 1 for each positive example and 0 for the others, for ``clusters_.share``; ignored if it is
                anything else.

        Raises:
            InputError: If rows, parameters and module do not fit, or gates are soft.
        """
        X = _validated(self, X, dtype=np.float64)
        if self.module is not None:
            require_module(self.module)
        self.module_ = self._across_axes(X) if self.module is None else self.module
        x = self._examples(X)
        net = network_at(self.module_, x)
        labels = y if y is not None and set(np.unique(y).tolist()) <= {0, 1} else None
        self.clusters_: Clusters = clusters(net, x, labels, layer=self.layer)
        self.labels_ = self.clusters_.members
        self.n_clusters_ = len(self.clusters_)
        self._places = {key: k for k, key in enumerate(self.clusters_.patterns.keys)}
        return self

    def predict(self, X: Array) -> Array:
        """Return the cluster of each row, −1 where no row that was fitted has its pattern."""
        check_is_fitted(self)
        X = _validated(self, X, reset=False, dtype=np.float64)
        x = self._examples(X)
        found = self._patterns(network_at(self.module_, x), x)
        return np.array([self._places.get(key, -1) for key in found.keys], dtype=np.int64)

    def _patterns(self, net: PathNetwork, x: Tensor) -> Patterns:
        found = activation_patterns(net, x)
        return found if self.layer is None else found.layer(self.layer)

    def _examples(self, rows: Array) -> Tensor:
        shape = self.input_shape
        some = next((t for t in self.module_.parameters() if t.is_floating_point()), torch.empty(0))
        if shape is not None and rows.shape[1] != int(np.prod(shape)):
            raise InputError(
                f"rows of {rows.shape[1]} numbers are no examples of input_shape={shape!r}; give one row "
                "an example"
            )
        x = torch.tensor(rows).to(some)
        return x if shape is None else x.reshape(len(x), *shape)

    def _across_axes(self, X: Array) -> nn.Module:
        """Return the network whose hidden units change across the principal axes."""
        axes: Any = self.axes
        if not isinstance(axes, int | np.integer) or axes < 1:
            raise InputError(f"axes must be an integer of at least 1, got {axes!r}")
        if self.input_shape is not None:
            raise InputError("input_shape is for a module that is given; leave it out, or give one")
        mean = X.mean(axis=0)
        directions = np.linalg.svd(X - mean, full_matrices=False)[2][:axes]
        hidden = nn.Linear(X.shape[1], len(directions), dtype=torch.float64)
        with torch.no_grad():
            hidden.weight.copy_(torch.from_numpy(directions))
            hidden.bias.copy_(torch.from_numpy(-directions @ mean))
        last = nn.Linear(len(directions), 1, bias=False, dtype=torch.float64)
        nn.init.ones_(last.weight)
        return nn.Sequential(hidden, nn.ReLU(), last)
