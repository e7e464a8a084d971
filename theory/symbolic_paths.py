"""Every path of a traced network, with its gates and weights by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import torch
from sympy import QQ
from sympy.polys.rings import PolyElement, PolyRing
from torch import Tensor

from reluctant.theory.gate_book import Polynomials
from reluctant.theory.network import PathNetwork
from reluctant.theory.paths import Entry, paths
from reluctant.theory.wiring import gate_shapes, rational

GatePolynomials = Mapping[int, Polynomials]


class SymbolicPath:
    """Be one path: where it starts and ends, its constant, its gates and its weights.

    Args:
        start: Input coordinate, −1 at a source or at a constant that is an input.
        end: Output coordinate.
        constant: Product of its routing constants, and of that at which it starts.
        gates: Its gates, each as (layer, entry).
        word: Its weights, each as (parameter, entry).
    """

    __slots__ = ("constant", "end", "gates", "start", "word")

    def __init__(
        self,
        start: int,
        end: int,
        constant: Fraction,
        gates: tuple[tuple[int, int], ...],
        word: tuple[Entry, ...],
    ) -> None:
        self.start, self.end, self.constant = start, end, constant
        self.gates, self.word = gates, word

    def activity(self, ring: PolyRing, gates: GatePolynomials) -> PolyElement:
        """Return A(x, p), the product of its gates."""
        product = ring.one
        for layer, k in self.gates:
            product = product * gates[layer][k]
        return product

    def feature(self, ring: PolyRing, x: Polynomials, gates: GatePolynomials) -> PolyElement:
        """Return φ_p(x): its input (1 at a source) times its gates and its constant."""
        start = ring.one if self.start < 0 else x[self.start]
        return start * self.activity(ring, gates) * QQ(*self.constant.as_integer_ratio())

    def value(self, ring: PolyRing, weight: Mapping[Entry, PolyElement]) -> PolyElement:
        """Return v_p, the product of its weights."""
        product = ring.one
        for entry in self.word:
            product = product * weight[entry]
        return product


def list_paths(net: PathNetwork) -> tuple[SymbolicPath, ...]:
    """Return every path, as :func:`reluctant.theory.paths.paths` lists them.

    Gates are marked by distinct primes, so that the product of those on a path names them.
    """
    shapes = gate_shapes(net)
    primes = _primes(sum(map(math.prod, shapes.values())))
    numbers = iter(primes)
    marked: dict[int, tuple[int, int]] = {}
    masks: list[Tensor] = []
    for layer in range(len(net.gate_layers)):
        if layer not in shapes:
            masks.append(torch.ones(1, dtype=torch.float64))
            continue
        chosen = [next(numbers) for _ in range(math.prod(shapes[layer]))]
        marked |= {p: (layer, k) for k, p in enumerate(chosen)}
        masks.append(torch.tensor([chosen], dtype=torch.float64).reshape(1, *shapes[layer]))
    program = net.program
    x = torch.ones(program.example_shape, dtype=program.dtype)
    listing = paths(net, x, gates=masks)
    from_data = listing.starts < math.prod(net.input_shape)
    fed = torch.where(from_data, 1.0, listing.x[0, listing.starts])
    return tuple(
        SymbolicPath(start, end, rational(constant), _factors(int(activity), marked), word)
        for start, end, constant, activity, word in zip(
            torch.where(from_data, listing.starts, -1).tolist(),
            listing.ends.tolist(),
            (listing.constants * fed).tolist(),
            listing.activity[0].tolist(),
            listing.words,
            strict=True,
        )
    )


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % p for p in found):
            found.append(candidate)
        candidate += 1
    return found


def _factors(number: int, marked: Mapping[int, tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for p, gate in marked.items():
        while number % p == 0:
            number //= p
            found.append(gate)
    assert number == 1
    return tuple(found)
