"""More styles of the zoos, each different in kind from all others; small enough to list its paths."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class Scaled(nn.Module):
    """Add a branch that stochastic depth lets pass in evaluation, times a trained factor a channel."""

    def __init__(self, channels: int, share: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(channels, channels, 2), nn.ReLU())
        self.factor = nn.Parameter(torch.full((channels, 1, 1), 0.5))
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        branch = self.factor * self.branch(F.pad(x, (0, 1, 0, 1)))
        if self.training:
            kept = torch.rand(len(x), 1, 1, 1) > self.share
            branch = branch * kept / (1 - self.share)
        return x + branch


class Maxout(nn.Module):
    """Take the largest of several layers, two of them in a stack."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (layer(x) for layer in self.layers)
        return torch.maximum(first, torch.stack(others).amax(0))


class Halved(nn.Module):
    """Halve the positions of the skip by averages that reach over the edge, and widen it by zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 2, 2, 1, bias=False), nn.BatchNorm2d(2)
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        wide, skip = self.norm(self.conv(x)), self.pool(x)
        missing = torch.zeros(len(x), 1, *skip.shape[2:], dtype=x.dtype, device=x.device)
        wide += torch.cat([skip, missing], 1)
        return F.relu(wide)


class Sliced(nn.Module):
    """Put every other position side by side as channels, and mix them by a normalised weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = parametrizations.weight_norm(nn.Conv2d(4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return F.relu(self.conv(torch.cat(corners, 1))).sum((2, 3))


class Windows(nn.Module):
    """Pool by maxima over the whole and over quarters."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.adaptive_max_pool2d(x, size).flatten(1) for size in (1, 2)], 1)


class Fused(nn.Module):
    """Exchange two resolutions both ways, then bring them together with aligned corners."""

    def __init__(self) -> None:
        super().__init__()
        self.high, self.low = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 2, 2)
        self.down, self.up = nn.Conv2d(1, 1, 2, 2), nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        high, low = F.relu(self.high(x)), F.relu(self.low(x))
        exchanged = (
            F.relu(high + F.interpolate(self.up(low), size=high.shape[-2:])),
            F.relu(low + self.down(high)),
        )
        size = exchanged[0].shape[-2:]
        whole = F.interpolate(exchanged[1], size=size, mode="bilinear", align_corners=True)
        return torch.cat([exchanged[0], whole], 1)


class Fractal(nn.Module):
    """Mean over columns of different depth, made by one rule again and again."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.deeper = nn.ModuleList(Fractal(depth - 1) for _ in range(2 * (depth > 1)))

    def columns(self, x: Tensor) -> list[Tensor]:
        columns = [F.relu(self.conv(x))]
        if self.deeper:
            first, second = self.deeper
            columns += second.columns(first(x))  # type: ignore[operator]
        return columns

    def forward(self, x: Tensor) -> Tensor:
        columns = self.columns(x)
        return sum(columns[1:], columns[0]) / len(columns)


class Causal(nn.Module):
    """See the past only, further with every layer, around a skip; and keep the present."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv1d(1, 1, 2), nn.Conv1d(1, 1, 2, dilation=2)
        self.skip, self.head = nn.Conv1d(1, 1, 1), nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.near(F.pad(x, (1, 0))))
        h = F.relu(self.far(F.pad(h, (2, 0))))
        return self.head(F.relu(h + self.skip(x))[:, :, -1])  # type: ignore[no-any-return]


class Heads(nn.Module):
    """Mix each half of the entries by a matrix of its own, then tokens from the left, then sum up."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.Parameter(torch.ones(2, 2, 2))
        self.tokens = nn.Parameter(torch.ones(3, 2))

    def forward(self, x: Tensor) -> Tensor:  # (n, token, entry)
        halves = x.unflatten(-1, (2, 2))
        mixed = torch.einsum("nthi,hio->ntho", halves, self.heads).flatten(2)
        return F.relu(self.tokens @ F.relu(mixed)).mean(1)


class Recurrent(nn.Module):
    """Read a sequence by one layer used at every step."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.read, self.keep, self.head = (
            nn.Linear(2, 2),
            nn.Linear(2, 2, bias=False),
            nn.Linear(2, 1),
        )
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:  # (n, step, entry)
        h = torch.zeros(len(x), 2, dtype=x.dtype, device=x.device)
        for k in range(self.steps):
            h = F.relu(self.read(x[:, k]) + self.keep(h))
        return self.head(h)  # type: ignore[no-any-return]


def _pooled(*parts: nn.Module, channels: int) -> nn.Module:
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))


#: Style, module, shape of an input.
FURTHER: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "stochastic depth with trained factors": (
        _pooled(nn.Conv2d(1, 2, 1), Scaled(2, 0.2), channels=2), (1, 2, 2)),
    "maxout": (nn.Sequential(Maxout(), nn.Linear(3, 2)), (2,)),
    "PyramidNet with an odd size": (_pooled(Halved(), channels=2), (1, 3, 3)),
    "every other position, weight norm": (nn.Sequential(Sliced(), nn.Linear(2, 2)), (1, 4, 4)),
    "pyramid of maxima": (
        nn.Sequential(nn.Conv2d(1, 1, 2), nn.ReLU(), Windows(), nn.Linear(5, 2)), (1, 4, 4)),
    "resolutions exchanged": (_pooled(Fused(), channels=2), (1, 2, 2)),
    "fractal by recursion": (_pooled(Fractal(3), channels=1), (1, 2, 2)),
    "causal": (Causal(), (1, 4)),
    "heads": (nn.Sequential(Heads(), nn.Linear(4, 2)), (2, 4)),
}  # fmt: skip
