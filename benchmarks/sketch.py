"""Say from which size of image on a sketch of the kernel is cheaper than the exact kernel.

``python benchmarks/sketch.py`` prints one row a size; ``--sizes 16,32`` takes others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn

import reluctant as rl
from reluctant.theory.sketches import RandomValues

_FILTERS = 16
_EXAMPLES = 64
_EXACT = 2  # examples whose exact kernel is timed
_NETWORKS = 4


def main() -> None:
    """Time both routes on the same examples, in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="32,48,64", help="heights of square images")
    sizes = [int(size) for size in parser.parse_args().sizes.split(",")]
    pairs = _EXAMPLES * (_EXAMPLES + 1) // 2
    print("| image | exact, a pair | sketch, a network | even at |\n| --- | --- | --- | --- |")
    for size in sizes:
        module, x = make(size)
        net = rl.trace(module, x[:_EXACT])
        values = RandomValues(net, x, None, 1.0, True, None, None, seed=0)
        pair = seconds(lambda net=net, x=x: rl.npk(net, x[:_EXACT])) / (_EXACT * (_EXACT + 1) / 2)
        network = seconds(lambda v=values: [*v.products(_NETWORKS, 1)]) / _NETWORKS
        even = pair * pairs / network
        print(f"| {size} × {size} | {pair:.2g} s | {network:.2g} s | {even:,.0f} networks |")


def make(size: int) -> tuple[nn.Module, torch.Tensor]:
    """Return three convolutions with global pooling, and images."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels in (3, _FILTERS, _FILTERS):
        layers += [nn.Conv2d(channels, _FILTERS, 3, padding=1), nn.ReLU()]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_FILTERS, 10)]
    return nn.Sequential(*layers, *pool), torch.randn(_EXAMPLES, 3, size, size)


def seconds(work: Callable[[], object]) -> float:
    """Return the time of some work, done once before."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
