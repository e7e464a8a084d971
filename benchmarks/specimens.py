"""Inputs and weights, the same for every contestant: small integers, and signs times powers of 2.

At small sizes arithmetic on them is exact in float64, so that contestants can be asked to agree bit
for bit. A network is said by a few numbers, so that every library builds its own::

    {"kind": "dense", "inputs": 784, "width": 512, "depth": 5}
    {"kind": "conv", "side": 32, "width": 128, "depth": 4, "pool": True}
    {"kind": "resnet20"}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

Network = Mapping[str, Any]
_COLOURS = 3


def input_shape(network: Network) -> tuple[int, ...]:
    """Return the shape of one example, channels first."""
    if network["kind"] == "dense":
        return (network["inputs"],)
    side = network.get("side", 32)
    return _COLOURS, side, side


def inputs(network: Network, n: int, seed: int = 0) -> np.ndarray:
    """Draw n examples with entries from −3 to 3."""
    drawn = np.random.default_rng(seed).integers(-3, 4, size=(n, *input_shape(network)))
    return drawn.astype(np.float32)


def weight_shapes(network: Network) -> list[tuple[int, ...]]:
    """Return the shapes of the weights, outputs first; 3×3 windows, one output."""
    width, depth = network["width"], network["depth"]
    if network["kind"] == "dense":
        sizes = [network["inputs"], *[width] * depth, 1]
        return [(b, a) for a, b in pairwise(sizes)]
    sizes = [_COLOURS, *[width] * depth]
    positions = 1 if network["pool"] else network["side"] ** 2
    windows = [(b, a, 3, 3) for a, b in pairwise(sizes)]
    return [*windows, (1, width * positions)]


def weights(network: Network) -> list[np.ndarray]:
    """Draw signs, times the power of 2 that is nearest to He's standard deviation."""
    chance = np.random.default_rng(1)
    drawn = []
    for shape in weight_shapes(network):
        scale = 2.0 ** round(math.log2(2 / math.prod(shape[1:])) / 2)
        drawn.append(((2 * chance.integers(0, 2, size=shape) - 1) * scale).astype(np.float32))
    return drawn
