"""What `reluctant` itself does, as tasks."""

from __future__ import annotations

import torch

import reluctant as rl
from benchmarks.networks import build, examples
from benchmarks.specimens import Network
from benchmarks.worker import Prepared
from reluctant.theory.costs import kernel_work
from reluctant.theory.recording import network_at, record

_LAWS = {"npk": rl.npk, "nngp": rl.nngp_law, "ntk": rl.ntk_law}


def law(
    network: Network,
    n: int,
    m: int | None = None,
    *,
    law: str = "npk",
    variance: float | None = None,
    dtype: str = "float32",
    recorded: bool = False,
    device: str = "cpu",
) -> Prepared:
    """Return the kernel of n examples against themselves, or against m others.

    Args:
        network: Network.
        n: Number of first examples.
        m: Number of second examples; None for the symmetric kernel.
        law: "npk", "nngp" or "ntk".
        variance: Of the weights, for a law; None for 1.
        dtype: Type of the kernel.
        recorded: True if the gates are there before; otherwise the network is run too.
        device: Device.
    """
    x = examples(network, n, device=device)
    y = None if m is None else examples(network, m, seed=2, device=device)
    net = network_at(build(network, device=device), x)
    left = record(net, x) if recorded else []
    gates = (left, left if y is None else record(net, y)) if recorded else None
    pairs = n * (n + 1) // 2 if m is None else n * m
    options = {"gates": gates, "dtype": getattr(torch, dtype)}
    options |= {} if variance is None else {"variance": variance}
    return Prepared(lambda: _LAWS[law](net, x, y, **options), pairs * kernel_work(net))


def tangents(network: Network, n: int, *, device: str = "cpu", dtype: str = "float32") -> Prepared:
    """Return the empirical tangent kernel of n examples."""
    x = examples(network, n, device=device, dtype=dtype)
    module = build(network, device=device, dtype=dtype)
    return Prepared(lambda: rl.ntk(module, x))
