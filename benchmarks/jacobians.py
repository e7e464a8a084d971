"""Plain products, and the empirical tangent kernel by torch alone, as tasks."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from benchmarks.networks import build, examples
from benchmarks.specimens import Network, input_shape, weight_shapes
from benchmarks.worker import Prepared


def square(size: int, *, device: str = "cpu") -> Prepared:
    """Return one float32 product of two square matrices, for the rate of the machine."""
    a, b = (torch.rand(size, size, device=device) for _ in range(2))
    return Prepared(lambda: a @ b, float(size) ** 3)


def products(
    network: Network, n: int, m: int | None = None, *, device: str = "cpu", at_once: int = 1
) -> Prepared:
    """Return the float32 products that a kernel is made of, and nothing else.

    Of the inputs, and of the gates of each hidden layer; at all pairs of positions where something
    is pooled. A symmetric kernel has n (n + 1) / 2 of them, which are done as one batch.

    Args:
        network: Network, dense or convolutional with pooling.
        n: Number of first examples.
        m: Number of second examples; None for the symmetric kernel.
        device: Device.
        at_once: Pairs in one batched product, for networks with positions.
    """
    channels = [input_shape(network)[0], *(shape[0] for shape in weight_shapes(network)[:-1])]
    positions = math.prod(input_shape(network)[1:])
    pairs = n * (n + 1) // 2 if m is None else n * m
    work = float(pairs * positions**2 * sum(channels))
    if positions == 1:
        sides = [
            (torch.rand(n, c, device=device), torch.rand(m or n, c, device=device))
            for c in channels
        ]

        def flat() -> None:
            for a, b in sides:
                torch.mm(a, b.mT)

        return Prepared(flat, work)
    stacks = [torch.rand(at_once, positions, c, device=device) for c in channels]

    def batched() -> None:
        for start in range(0, pairs, at_once):
            for stack in stacks:
                some = stack[: min(at_once, pairs - start)]
                torch.bmm(some, some.mT)

    return Prepared(batched, work)


def tangents(network: Network, n: int, *, device: str = "cpu", dtype: str = "float32") -> Prepared:
    """Return the empirical tangent kernel: one Jacobian an example, contracted over the weights."""
    x = examples(network, n, device=device, dtype=dtype)
    module = build(network, device=device, dtype=dtype)
    held = {name: weight.detach() for name, weight in module.named_parameters()}

    def output(weights: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(module, weights, (one[None],))[0]

    def kernel() -> Tensor:
        found = vmap(jacrev(output), in_dims=(None, 0))(held, x)
        flat = [jacobian.flatten(2) for jacobian in found.values()]  # (n, output, weight)
        return sum((torch.einsum("iop,jop->ij", j, j) for j in flat), start=x.new_zeros(n, n))

    return Prepared(kernel)
