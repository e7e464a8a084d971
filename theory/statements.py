"""What a statement is: its words, its hypotheses, the two sides to compare, and its mutants."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from reluctant.theory.costs import Cost
from reluctant.theory.likeness import remember
from reluctant.theory.network import PathNetwork
from reluctant.theory.rounding import undecided_gates
from reluctant.theory.tracing import trace
from reluctant.theory.verdicts import EvidenceKind, Outcome, Unmet

if TYPE_CHECKING:
    from reluctant.theory.modular import ModularClaim
    from reluctant.theory.proofs import Proof


OWN = "reluctant"  # the origin of this package's own statements


class Kind(StrEnum):
    """Name the kinds of statements."""

    EXACT = "E"
    EXPECTED = "X"
    LIMIT = "L"
    BOUND = "B"
    FALSE_AS_PRINTED = "F"
    NOT_IMPLIED = "N"
    MEASURED = "M"


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Be a predicate on a traced network that names the place where it fails.

    Attributes:
        name: Short name, such as ``bias-free``.
        text: One sentence.
        test: Returns None if the network meets it, else where and why it does not: the first place,
            or better all of them, in the network's order.
    """

    name: str
    text: str
    test: Callable[[PathNetwork], Unmet | Iterable[Unmet] | None] = field(repr=False)

    def __call__(self, net: PathNetwork) -> Unmet | None:
        """Return the first place where a network fails, None if it does not."""
        return next(self.places(net), None)

    def places(self, net: PathNetwork) -> Iterator[Unmet]:
        """Yield the places where a network fails."""
        found = self.test(net) or ()
        yield from (found,) if isinstance(found, Unmet) else found


@dataclass(frozen=True, eq=False)
class Comparison:
    """Be two sides of a claim, and how far apart rounding or chance may put them.

    Attributes:
        left: One side.
        right: Other side, same shape.
        bound: Largest admissible difference, broadcastable; 0 for exact arithmetic.
        kind: How the bound is known.
        relation: "equal", or "at most" for left ≤ right + bound.
        what: What is compared, a few words.
        error_probability: Chance that a true claim exceeds the bound.
        rival: Nearest wrong value of the right side. If the bound cannot tell it from the right
            side,
            the comparison is inconclusive.
        numbers: What else a reader needs to check the two sides by hand, ready for JSON.
        estimate: Name of what the left side estimates, with the bound as the half-width of its
            interval; empty if the left side is no estimate to be reported.
        alive: True if this tries something even where both sides vanish, False if it tries nothing;
            None to go by the sides.
    """

    left: Tensor
    right: Tensor
    bound: Tensor | float
    kind: EvidenceKind
    relation: Literal["equal", "at most"] = "equal"
    what: str = ""
    error_probability: float | None = None
    rival: Tensor | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    estimate: str = ""
    alive: bool | None = None

    @cached_property
    def excess(self) -> Tensor:
        """Return how far the sides are apart in the wrong direction."""
        difference = self.left.detach().double() - self.right.detach().double()
        return difference.abs() if self.relation == "equal" else difference.clamp(min=0)

    @property
    def holds(self) -> bool:
        """Tell whether all entries are within the bound; a NaN is not."""
        return bool((self.excess <= torch.as_tensor(self.bound, dtype=torch.float64)).all())

    @property
    def is_vacuous(self) -> bool:
        """Tell whether nothing was tried, as where both sides vanish."""
        if self.alive is not None:
            return not self.alive
        return not bool(self.left.any()) and not bool(self.right.any())

    @property
    def is_blind(self) -> bool:
        """Tell whether the bound is too wide to tell the nearest wrong value."""
        return self.needed_draws >= 1.0

    @property
    def needed_draws(self) -> float:
        """Return by what number of draws, in units of this sample's, the nearest wrong value is told.

        Half-widths shrink with the root of the number of draws. Where they are less than half the
        gap, the wrong value would be refuted but for the error probability. Infinite if there is no
        gap, 0 if there is no wrong value.
        """
        if self.rival is None:
            return 0.0
        gap = (self.rival.double() - self.right.double()).abs()
        bound = torch.as_tensor(self.bound, dtype=torch.float64).expand_as(gap)
        short = torch.where(gap > 0, (2 * bound / gap) ** 2, math.inf)
        return float(short.min()) if short.numel() else math.inf

    @property
    def residual(self) -> float:
        """Return the largest difference in units of its bound."""
        bound = torch.as_tensor(self.bound, dtype=torch.float64).expand_as(self.excess)
        ratio = torch.where(self.excess == 0, 0.0, self.excess / bound)
        return float(ratio.nan_to_num(math.inf, math.inf).max()) if ratio.numel() else 0.0

    @property
    def measured(self) -> float:
        """Return the largest difference relative to the larger side's largest entry."""
        size = (
            max(float(side.double().abs().max()) for side in (self.left, self.right))
            if self.left.numel()
            else 0.0
        )
        return float(self.excess.max()) / size if size else 0.0


ERROR_PROBABILITY = 1e-6  # of a verdict
LIMIT = Cost(kernels=5e9, passes=2e11, bytes=2.0**31)  # of a claim, at the default effort


def error_share(position: int) -> float:
    r"""Return the error probability of one trial of a verdict, :math:`10^{-6} \cdot 6 / \pi^2 (k + 1)^2`.

    However many trials there are, the shares add up to at most a verdict's 10⁻⁶ (Bonferroni).

    Args:
        position: k, counted from 0.
    """
    return ERROR_PROBABILITY * 6.0 / (math.pi * (position + 1)) ** 2


@dataclass(frozen=True, eq=False)
class Trial:
    r"""Be one try: a module, inputs, and randomness.

    Attributes:
        module: Module under test.
        x: Inputs, shape (n, \*input), n ≥ 2.
        generator: Source of all that is drawn.
        patterns: Largest number of sign patterns to go through when an expectation is enumerated.
        paths: Largest number of paths to list.
        samples: Number of weight draws where an expectation cannot be enumerated.
        limit: What a claim may take.
        error_probability: Largest chance to refute a true claim here: all that a verdict may have,
            or a trial's share of it (:func:`error_share`).
        choices: What was drawn to build the module; empty if nobody drew it.
        like: A network of which something is known, perhaps of the same structure.
    """

    module: nn.Module
    x: Tensor
    generator: torch.Generator
    patterns: int = 2**12
    paths: int = 20_000
    samples: int = 256
    limit: Cost = LIMIT
    error_probability: float = ERROR_PROBABILITY
    choices: tuple[Any, ...] = ()
    like: PathNetwork | None = None

    @cached_property
    def net(self) -> PathNetwork:
        """Return the module read at the inputs."""
        net = trace(self.module, self.x)
        return net if self.like is None else remember(net, self.like)

    @cached_property
    def gates(self) -> list[Tensor]:
        """Return the recorded gates, all layers."""
        return self.net.gates(self.x)

    @cached_property
    def weights(self) -> list[Tensor]:
        """Return the present weights."""
        return self.net.weight_values()

    @cached_property
    def undecided(self) -> int:
        """Return the number of gates that rounding could turn."""
        return undecided_gates(self.net, self.x, self.gates)

    @cached_property
    def output(self) -> Tensor:
        """Return the module's own output, flattened to (n, outputs)."""
        with torch.no_grad():
            output: Tensor = self.module(self.x.clone())
        return output.detach().double().reshape(self.x.shape[0], -1)

    def draw(self, *shape: int) -> Tensor:
        """Draw standard normal numbers."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def integer(self, low: int, high: int) -> int:
        """Draw an integer, low ≤ k < high."""
        return int(torch.randint(low, high, (), generator=self.generator))


class CannotTry(Exception):
    """Say that a claim cannot be tried here, though its hypotheses hold, and what would be needed."""


Claim = Callable[..., Sequence[Comparison]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """Be a deliberate fault: the claim with some of its ingredients replaced by wrong ones.

    Attributes:
        name: A few words, such as ``σ^(2d) for σ^(2(d−1))``.
        ingredients: Keyword arguments of the claim that make it wrong.
    """

    name: str
    ingredients: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Return the name."""
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """Be one statement of the theory.

    Attributes:
        id: Identifier, such as ``dual.inner-product``.
        title: One line.
        kind: Exact, expected, limit, bound, false as printed, not implied or measured.
        latex: The claim as a formula.
        sources: Where it was claimed, with the paper's key.
        hypotheses: What it needs.
        claim: Function of a trial, and of ingredients with right defaults, to comparisons.
        mutants: Deliberate faults that its check must notice.
        controls: What must fail when a hypothesis is dropped, in words.
        note: Where the printed form differs, or what the reader must know.
        corrected: Identifier of the statement that holds in place of one that is false as printed.
        revisits_gates: True if its two sides compute the gates in different ways, so that a
            pre-activation within rounding of 0 can set them apart.
        cost: What its claim takes on a trial, known before it is tried; a few passes if None.
        draws_networks: True if its claim measures networks of its own, at the sizes or the inputs
            of the given one: its hypotheses say where it is meant, not what it is measured on.
        proof: Makes its symbolic proof, still to be checked; None if there is none.
        modular: Its polynomial form, tried at any size modulo primes; None if it has none.
        origin: Distribution that it comes from; the catalogue enters others' here.
    """

    id: str
    title: str
    kind: Kind
    latex: str
    sources: tuple[str, ...]
    hypotheses: tuple[Hypothesis, ...]
    claim: Claim
    mutants: tuple[Mutant, ...]
    controls: str = ""
    note: str = ""
    corrected: str = ""
    revisits_gates: bool = False
    cost: Callable[[Trial], Cost] | None = None
    draws_networks: bool = False
    proof: Callable[[], Proof] | None = None
    modular: ModularClaim | None = None
    origin: str = OWN

    @property
    def expected(self) -> Outcome:
        """Return the outcome that theory predicts where the hypotheses hold."""
        return Outcome.REFUTED if self.kind is Kind.FALSE_AS_PRINTED else Outcome.HOLDS

    def unmet(self, net: PathNetwork) -> tuple[Unmet, ...]:
        """Return the hypotheses that a network does not meet."""
        found = (hypothesis(net) for hypothesis in self.hypotheses)
        return tuple(u for u in found if u is not None)
