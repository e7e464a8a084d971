"""The kernels of neural-tangents, of infinite networks and empirical, as tasks."""

from __future__ import annotations

from typing import Any

import jax
import neural_tangents as nt
import numpy as np
from jax import numpy as jnp
from neural_tangents import stax

from benchmarks.specimens import Network, inputs, weights
from benchmarks.worker import Prepared


def _layers(network: Network) -> Any:
    width, depth = network["width"], network["depth"]
    if network["kind"] == "dense":
        hidden = [layer for _ in range(depth) for layer in (stax.Dense(width), stax.Relu())]
        return stax.serial(*hidden, stax.Dense(1))
    hidden = [
        layer
        for _ in range(depth)
        for layer in (stax.Conv(width, (3, 3), padding="CIRCULAR"), stax.Relu())
    ]
    return stax.serial(
        *hidden, stax.GlobalAvgPool() if network["pool"] else stax.Flatten(), stax.Dense(1)
    )


def _examples(network: Network, n: int) -> np.ndarray:
    x = inputs(network, n)
    return x if x.ndim == 2 else x.transpose(0, 2, 3, 1)  # channels last, as its layers want them


def analytic(network: Network, n: int, *, law: str, at_once: int = 0) -> Prepared:
    """Return the kernel of the infinite network at n examples.

    Args:
        network: Network.
        n: Number of examples.
        law: "nngp" or "ntk".
        at_once: Examples in one block, where all at once would not fit; 0 for all.
    """
    x = _examples(network, n)
    compiled = jax.jit(_layers(network)[2], static_argnames="get")
    kernel = nt.batch(compiled, batch_size=at_once) if at_once else compiled
    return Prepared(lambda: np.asarray(kernel(x, None, get=law)))


def tangents(network: Network, n: int, *, how: str, dtype: str = "float32") -> Prepared:
    """Return the empirical tangent kernel of the very network that the others are given.

    Args:
        network: Network.
        n: Number of examples.
        how: Name of neural-tangents' way to contract the Jacobians.
        dtype: Type of the weights.
    """
    jax.config.update("jax_enable_x64", dtype == "float64")
    x = jnp.asarray(_examples(network, n), dtype)
    held = [jnp.asarray(weight, dtype) for weight in weights(network)]
    pool = network.get("pool", False)

    def output(held: list[jax.Array], x: jax.Array) -> jax.Array:
        for weight in held[:-1]:
            if weight.ndim == 2:
                x = jax.nn.relu(x @ weight.T)
            else:
                around = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="wrap")
                x = jax.nn.relu(
                    jax.lax.conv_general_dilated(
                        around, weight, (1, 1), "VALID", dimension_numbers=("NHWC", "OIHW", "NHWC")
                    )
                )
        if x.ndim == 4:
            channels_first = x.transpose(0, 3, 1, 2)
            x = channels_first.mean((2, 3)) if pool else channels_first.reshape(len(x), -1)
        return x @ held[-1].T

    kernel = jax.jit(
        nt.empirical_ntk_fn(output, vmap_axes=0, implementation=getattr(nt.NtkImplementation, how))
    )
    return Prepared(lambda: np.asarray(kernel(x, None, held)))
