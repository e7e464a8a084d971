"""Two clauses hidden in ten bits, found again as clusters of activation patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reluctant.models import he, initialise
from reluctant.reports.exhibits import Column, Exhibit, Figure, Table, derived, label, ours
from reluctant.reports.experiment import Experiment, Profile
from reluctant.reports.records import Record, group
from reluctant.reports.style import COLOURS, make_axes
from reluctant.theory.clusters import Clusters, clusters

BITS: Final = 10
_RELEVANT: Final = 3
_SHOWN: Final = 4  # clusters, the largest with a path to the output
_PAPER: Final = "10-4-2-1, sparse"


@dataclass(frozen=True, slots=True)
class _Training:
    """Say how a network is made and trained: by Adam, on the whole of the inputs if no batch is given."""

    widths: tuple[int, ...]
    rate: float = 0.02
    batch: int = 2**BITS
    penalty: float = 0.0  # times the first layer's activations, added up over its units


_TRAININGS: Final[Mapping[str, _Training]] = {
    "10-6-1": _Training((6,)),
    "10-12-1": _Training((12,)),
    "10-24-1": _Training((24,)),
    _PAPER: _Training((4, 2), 0.01, 100, 0.02),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Name one training."""

    network: str
    steps: int
    seed: int


class TenBits(Experiment[Setting]):
    """Train on all ten-bit inputs and look at the clusters."""

    name = "ten-bits"
    title = "Two clauses found as clusters"
    about = (
        "The label of ten bits is $v_1$ where $v_3$ is 1 and $v_2$ where it is 0; the other seven bits are "
        "noise. Networks are trained with the logistic loss, on all 1024 inputs or by the paper's protocol: "
        "two hidden layers of 4 and 2, a penalty of 0.02 on the activations of the first, batches of 100. Inputs "
        "that open the same gates form a cluster, on which the network is one affine map, and the "
        "row of $W_{eff}$ says how important each bit is there. A network that has found the two clauses "
        "looks at $v_1$ and $v_3$ in some clusters, at $v_2$ and $v_3$ in the others, and at the noise in none. "
        "How far it has is measured without a threshold: the smaller of the importances of $v_1$ and "
        "$v_2$ over the larger one, and that of the most important noise bit over that of the most "
        "important other, means over the inputs."
    )
    statements = ("clu.affine-in-pattern", "clu.same-cluster-same-importance")
    papers = ("clu",)
    code = ("reluctant.models", "reluctant.theory")

    def grid(self, profile: Profile) -> tuple[Setting, ...]:
        """Return networks and seeds."""
        networks, steps, seeds = {
            "smoke": (("10-6-1", _PAPER), 50, 1),
            "quick": (("10-6-1", _PAPER), 3000, 3),
            "full": (tuple(_TRAININGS), 8000, 20),
        }[profile]
        return tuple(Setting(name, steps, seed) for name in networks for seed in range(seeds))

    def run(self, config: Setting) -> Mapping[str, Any]:
        """Return accuracy, and support, label, mean and importance of the largest clusters."""
        inputs, labels = ten_bits()
        network = trained(inputs, labels, _TRAININGS[config.network], config.steps, config.seed)
        with torch.no_grad():
            accuracy = float(((network(inputs).flatten() > 0) == (labels > 0)).double().mean())
        found = clusters(network, inputs, labels)
        assert found.share is not None
        pure = (found.share == 0) | (found.share == 1)
        return {
            "accuracy": accuracy,
            "clusters": len(found),
            "pure": float(found.support[pure].sum() / len(inputs)),
            "mixed": _mean_ratio(found, slice(0, 2), least=True),
            "noise": _mean_ratio(found, slice(_RELEVANT, BITS)),
            "support": (found.support[:_SHOWN] / len(inputs)).tolist(),
            "share": found.share[:_SHOWN].tolist(),
            "average": found.average[:_SHOWN].numpy(),
            "importance": found.importance[:_SHOWN, 0].numpy(),
        }

    def cost(self, config: Setting) -> float:
        """Return the number of steps."""
        return float(config.steps)

    def draw(self, records: Sequence[Record]) -> tuple[Exhibit, ...]:
        """Return bars of the largest clusters of one run, those as a table, and all runs in another."""
        best = max(records, key=lambda r: (float(r["accuracy"]), float(r["pure"])))
        return _bars(best), _largest(best), _all(records)


def ten_bits() -> tuple[Tensor, Tensor]:
    """Return all inputs of ten bits, shape (1024, 10), and their labels."""
    numbers = torch.arange(2**BITS)
    inputs = (numbers[:, None] >> torch.arange(BITS)) & 1
    labels = torch.where(inputs[:, 2] == 1, inputs[:, 0], inputs[:, 1])
    return inputs.double(), labels.double()


def trained(
    inputs: Tensor, labels: Tensor, training: _Training, steps: int, seed: int
) -> nn.Module:
    """Return a network that was trained on so many batches, drawn with replacement."""
    draws = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in pairwise((BITS, *training.widths, 1)):
        layers += [nn.Linear(before, after, dtype=torch.float64), nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    initialise(network, he(), draws)
    descent = torch.optim.Adam(network.parameters(), lr=training.rate)
    for _ in range(steps):
        some = torch.arange(len(inputs))
        if training.batch < len(inputs):
            some = torch.randint(len(inputs), (training.batch,), generator=draws)
        active = network[:2](inputs[some])
        loss = nn.functional.binary_cross_entropy_with_logits(
            network[2:](active).flatten(), labels[some]
        )
        loss = loss + training.penalty * active.sum(1).mean()
        descent.zero_grad()
        loss.backward()
        descent.step()
    return network.eval()


def _mean_ratio(found: Clusters, bits: slice, *, least: bool = False) -> float:
    """Return the mean over inputs of one importance beside the largest of the bits that decide.

    Args:
        found: Clusters; those on which the network is constant do not count.
        bits: Bits of which the largest importance is taken.
        least: True takes the smallest, beside the largest of the same bits.
    """
    sizes = found.importance[:, 0].abs()
    mine = sizes[:, bits].amin(1) if least else sizes[:, bits].amax(1)
    others = sizes[:, bits if least else slice(0, _RELEVANT)].amax(1)
    support = torch.from_numpy(found.support).double() * (others > 0)
    ratio = torch.where(others > 0, mine / others, 0.0)
    return float((ratio * support).sum() / support.sum()) if bool(support.any()) else 0.0


def _names() -> list[str]:
    return [f"$v_{{{k}}}$" for k in range(1, BITS + 1)]


def _bars(record: Record) -> Figure:
    importance: NDArray[Any] = record["importance"]
    average: NDArray[Any] = record["average"]
    canvas, panels = make_axes(2, len(importance), width="page", height=2.9, sharey="row")
    places = np.arange(BITS)
    said = []
    for k, (upper, lower) in enumerate(panels.T):
        upper.bar(places, average[k], color=COLOURS[0])
        lower.bar(places, importance[k], color=COLOURS[1])
        share, support = record["share"][k], record["support"][k]
        upper.set(title=f"{support:.0%} of inputs, {share:.0%} positive", xticks=[])
        lower.set(xticks=places, xticklabels=_names())
        lower.tick_params(axis="x", labelsize=6)
        first = int(np.abs(importance[k]).argmax())
        most = importance[k][first]
        matters = f"most important v{first + 1} ({most:+.2g})" if most else "no bit matters"
        said.append(f"{support:.0%} of inputs, {share:.0%} positive, {matters}")
    panels[0, 0].set_ylabel("mean member")
    panels[1, 0].set_ylabel("importance")
    return Figure(
        "ten-bits-clusters",
        "The largest clusters of one network. Above, the mean of their members, bit by bit; below, "
        "the importance of each bit, the row of $W_{eff}$ that all members share.",
        f"Pairs of bar charts, one pair a cluster: {'; '.join(said)}.",
        canvas,
        "page",
    )


def _largest(record: Record) -> Table:
    rows = []
    for k, importance in enumerate(record["importance"]):
        noise = float(np.abs(importance[_RELEVANT:]).max())
        values = (record["support"][k], record["share"][k], *importance[:_RELEVANT], noise)
        rows.append(
            (
                label(str(k + 1)),
                *(derived(float(v), [record], "of the largest clusters") for v in values),
            )
        )
    return Table(
        "ten-bits-largest",
        "The clusters of the figure: shares of all inputs and of positive ones, importance of the three "
        "bits that decide, and of the most important other.",
        (
            Column("cluster"),
            Column("support", "ours"),
            Column("positive", "ours"),
            *(Column(name, "ours") for name in _names()[:_RELEVANT]),
            Column("largest noise", "ours"),
        ),
        tuple(rows),
    )


def _all(records: Sequence[Record]) -> Table:
    return Table(
        "ten-bits-runs",
        "All runs by network: accuracy on all inputs, number of clusters, share of inputs in clusters of one "
        "label, the smaller of the importances of $v_1$ and $v_2$ over the larger, and that of the most "
        "important noise bit over that of the most important other.",
        (
            Column("network"),
            Column("accuracy (%)", "ours"),
            Column("clusters", "ours"),
            Column("of one label (%)", "ours"),
            Column("$v_1$ beside $v_2$", "ours"),
            Column("noise", "ours"),
        ),
        tuple(
            (
                label(name),
                ours(runs, "accuracy", digits=1, scale=100),
                ours(runs, "clusters", digits=1),
                ours(runs, "pure", digits=1, scale=100),
                ours(runs, "mixed", digits=3),
                ours(runs, "noise", digits=3),
            )
            for (name,), runs in group(records, "network").items()
        ),
    )
