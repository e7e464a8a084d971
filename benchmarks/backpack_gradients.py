"""The empirical tangent kernel by BackPACK's gradients of single examples, as a task."""

from __future__ import annotations

from backpack import backpack, extend
from backpack.extensions import BatchGrad
from torch import Tensor

from benchmarks.networks import build, examples
from benchmarks.specimens import Network
from benchmarks.worker import Prepared


def tangents(network: Network, n: int, *, dtype: str = "float32") -> Prepared:
    """Return the Gram matrix of the gradients of n examples, of a network with one output."""
    x = examples(network, n, dtype=dtype)
    module = extend(build(network, dtype=dtype))
    held = [*module.parameters()]

    def kernel() -> Tensor:
        with backpack(BatchGrad()):
            module(x).sum().backward()
        total = x.new_zeros(n, n)
        for weight in held:
            rows = weight.grad_batch.flatten(1)
            total += rows @ rows.mT
            del weight.grad_batch
            weight.grad = None
        return total

    return Prepared(kernel)
