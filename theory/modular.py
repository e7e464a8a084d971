r"""Identities tried at random residues: exact at any size, and wrong only with a known chance.

Given its gates a network's output is a polynomial in its weights and its data. A claim that two
such polynomials are equal is tried at weights and data drawn uniformly modulo a random prime. Two
sides that differ once refute it; two sides that are equal in each of many trials leave a false
claim only the chance that :class:`~reluctant.theory.fields.PrimeRange` bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from reluctant.theory.fields import PrimeField, PrimeRange, largest_prime
from reluctant.theory.heights import Size, sizes
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Scale
from reluctant.theory.residue_graph import ResidueGraph
from reluctant.theory.residues import ResidueNetwork, most_terms
from reluctant.theory.statements import Mutant
from reluctant.theory.units import HiddenLayer, hidden_layers


@dataclass(frozen=True, eq=False)
class Identity:
    """Be two sides of a claim, evaluated over a prime field.

    Attributes:
        left: Residues of one side, between 0 and p − 1.
        right: Residues of the other side, same shape.
        degree: Largest degree of the two sides in what was drawn.
        height: Bound on the height of their difference.
        what: What is compared, a few words.
    """

    left: Tensor
    right: Tensor
    degree: int
    height: float
    what: str

    @property
    def holds(self) -> bool:
        """Tell whether the sides are equal."""
        return bool(torch.equal(self.left, self.right))

    @property
    def is_vacuous(self) -> bool:
        """Tell whether both sides vanish."""
        return not bool(self.left.any()) and not bool(self.right.any())

    @property
    def differing(self) -> float:
        """Return the share of entries that differ."""
        return float((self.left != self.right).double().mean()) if self.left.numel() else 0.0


@dataclass(frozen=True, eq=False)
class Recording:
    r"""Hold what all trials of a network share: real data, and the gates recorded at them.

    Attributes:
        net: Network.
        data: Inputs, shape (n, \*input), in the network's own type.
        formal: True draws the gates as residues, which tries an identity for all gates at once;
            False holds them as recorded.
    """

    net: PathNetwork
    data: Tensor
    formal: bool = False

    @cached_property
    def gates(self) -> list[Tensor]:
        """Return the recorded gates in float64."""
        return [g.detach().cpu().double() for g in self.net.gates(self.data)]

    @cached_property
    def opposite(self) -> list[Tensor]:
        """Return the gates recorded at the data's negative: other gates of the same network."""
        return [g.detach().cpu().double() for g in self.net.gates(-self.data)]

    @cached_property
    def hard(self) -> frozenset[int]:
        """Return the layers whose recorded gates are all 0 or 1."""
        if self.formal:
            return frozenset()
        layers = enumerate(self.gates)
        return frozenset(k for k, g in layers if bool(((g == 0) | (g == 1)).all()))

    @cached_property
    def sizes(self) -> dict[int, Size]:
        """Return degree and height of every node."""
        return sizes(self.net, None if self.formal else self.gates)

    @cached_property
    def terms(self) -> int:
        """Return the largest number of products that are added at once, in derivatives too."""
        return most_terms(self.net, len(self.data), backward=True)

    @cached_property
    def primes(self) -> PrimeRange:
        """Return the primes modulo which all evaluations are exact, derivatives too."""
        return PrimeRange(largest_prime(self.terms))

    @cached_property
    def layers(self) -> list[HiddenLayer]:
        """Return the layers whose units act nowhere else."""
        return hidden_layers(self.net)

    @cached_property
    def shared(self) -> dict[object, Any]:
        """Hold what claims find out once for all trials."""
        return {}


@dataclass(frozen=True, eq=False)
class FieldTrial:
    """Be one try of identities: a prime, and weights and data drawn modulo it.

    Attributes:
        recording: Network, data and gates.
        over: Field.
        seed: Seed of what is drawn.
        generator: Source of what a claim draws besides.
    """

    recording: Recording
    over: PrimeField
    seed: int
    generator: torch.Generator

    @property
    def net(self) -> PathNetwork:
        """Return the network."""
        return self.recording.net

    def draw(self, *shape: int) -> Tensor:
        """Draw uniform residues."""
        return self.over.draw(shape, self.generator)

    @cached_property
    def _own(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    @cached_property
    def x(self) -> Tensor:
        r"""Return residues in place of the data, shape (n, \*input)."""
        return self.over.draw(self.recording.data.shape, self._own)

    @cached_property
    def parameters(self) -> dict[int, Tensor]:
        """Return residues in place of the weights, flat, by the identity of their parameter."""
        _ = self.x  # drawn first, always
        used = {weight.parameter: weight.entries.total for weight in self.net.weights}
        return {k: self.over.draw((size,), self._own) for k, size in used.items()}

    def weights_of(self, parameters: Mapping[int, Tensor]) -> list[Tensor]:
        """Return parameters as the network's weight tensors, views of them where these are."""
        return [w.entries.of(parameters[w.parameter]) for w in self.net.weights]

    @cached_property
    def weights(self) -> list[Tensor]:
        """Return residues in place of the weights, one tensor for each of the network's."""
        return self.weights_of(self.parameters)

    @cached_property
    def gates(self) -> list[Tensor]:
        """Return residues of the gates."""
        recorded = self.recording.gates
        if self.recording.formal:
            return [self.over.draw(g.shape, self._own) for g in recorded]
        hard = self.recording.hard
        return [g if k in hard else self.over.dyadic(g) for k, g in enumerate(recorded)]

    def residues(self, gates: Sequence[Tensor]) -> list[Tensor]:
        """Return recorded gates as residues."""
        return [self.over.dyadic(g) for g in gates]

    @cached_property
    def network(self) -> ResidueNetwork:
        """Return the path network over the field: the one route.

        Raises:
            InputError: If a sum of products of residues would be rounded.
        """
        self.over.admit(self.recording.terms)
        return ResidueNetwork(self.net, self.over, self.recording.hard)

    @cached_property
    def graph(self) -> ResidueGraph:
        """Return the module's exported graph over the field: the other route."""
        self.over.admit(self.recording.terms)
        return ResidueGraph(self.net, self.over, self.recording.hard)

    @cached_property
    def values(self) -> dict[int, Tensor]:
        """Return the values of all nodes of the path network."""
        return self.network.values(self.x, self.gates, self.weights)

    @cached_property
    def output(self) -> Tensor:
        """Return the path network's output, shape (n, outputs)."""
        found = self.values[self.net.output]
        return found.expand(len(self.x), *found.shape[1:]).flatten(1)

    @cached_property
    def graph_values(self) -> dict[str, Any]:
        """Return the values of all nodes of the module's graph."""
        return self.graph.values(self.x, self.gates, self.parameters)

    @cached_property
    def graph_output(self) -> Tensor:
        """Return the output of the module's graph, shape (n, outputs)."""
        return self.graph.of(self.graph_values).flatten(1)

    def inner(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the sum of products of two tensors of residues, shape ()."""
        return self.over.reduce(self.over.reduce(left * right).sum())

    def identity(
        self,
        left: Tensor,
        right: Tensor,
        what: str,
        *,
        degree: int = 0,
        height: float = 0.0,
        node: int | None = None,
        size: Size | None = None,
    ) -> Identity:
        """Compare two sides.

        Args:
            left: Residues of one side.
            right: Residues of the other.
            what: What is compared.
            degree: Degree beyond that of the node, in what the claim draws.
            height: Height beyond that of the node.
            node: Node whose polynomial both sides are; the output if None.
            size: Degree and height of the sides where no node has them.
        """
        sides = torch.broadcast_tensors(left, right)
        size = (
            self.recording.sizes[self.net.output if node is None else node]
            if size is None
            else size
        )
        return Identity(
            self.over.canonical(sides[0]),
            self.over.canonical(sides[1]),
            size.degree + degree,
            size.height + height,
            what,
        )

    def plain_constants(self) -> dict[int, Callable[[list[Tensor]], Tensor]]:
        """Return replacements that take every routing constant for 1."""
        scales = (i for i in self.net.value_nodes if isinstance(self.net.nodes[i], Scale))
        return {i: lambda operands: operands[0] for i in scales}


Tried = Callable[..., Sequence[Identity]]


@dataclass(frozen=True, slots=True, eq=False)
class ModularClaim:
    """Be the polynomial form of a statement.

    Attributes:
        claim: Function of a field trial, and of ingredients with right defaults, to identities.
        mutants: Deliberate faults that it must notice.
    """

    claim: Tried
    mutants: tuple[Mutant, ...]
