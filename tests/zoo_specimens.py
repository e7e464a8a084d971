"""Networks in the styles of the public model zoos, each small enough for its paths to be listed."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PreActivation(nn.Module):
    """Normalise and gate before each convolution, around a shortcut that may be projected."""

    def __init__(self, channels: int, rows: int, stride: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels), nn.BatchNorm2d(rows)])
        self.first = nn.Conv2d(channels, rows, 2, stride, padding=1, bias=False)
        self.second = nn.Conv2d(rows, rows, 1, bias=False)
        self.shortcut = nn.Conv2d(channels, rows, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norms[0](x))
        inner = self.second(F.relu(self.norms[1](self.first(h))))
        shortcut: Tensor = self.shortcut(h)
        return inner[..., : shortcut.shape[2], : shortcut.shape[3]] + shortcut


class Basic(nn.Module):
    """Add two normalised convolutions to a shortcut that is projected, and gate the sum in place."""

    def __init__(self, channels: int, rows: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, rows, 2, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(rows)
        self.conv2 = nn.Conv2d(rows, rows, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(rows)
        self.downsample = nn.Sequential(
            nn.Conv2d(channels, rows, 1, stride, bias=False), nn.BatchNorm2d(rows)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        identity: Tensor = self.downsample(x)
        out = out[..., : identity.shape[2], : identity.shape[3]]
        out += identity
        return self.relu(out)


class Wide(nn.Module):
    """Drop out between two convolutions of a wide block, around the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = F.dropout(out, 0.3, self.training)
        return self.conv2(F.relu(self.bn2(out))) + x


class Dense(nn.Module):
    """Put every layer's output beside all before it, then mix and pool them."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        widths = [channels + k * growth for k in range(layers)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.convs = nn.ModuleList(nn.Conv2d(width, growth, 1, bias=False) for width in widths)
        self.transition = nn.Conv2d(channels + layers * growth, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        return F.avg_pool2d(self.transition(torch.cat(features, 1)), 2)


class PaddedSkip(nn.Module):
    """Widen, with channels of zeros on the identity, as pyramidal networks do."""

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, rows, 3, padding="same")
        self.missing = rows - channels

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x)) + F.pad(x, (0, 0, 0, 0, 0, self.missing))


class Fire(nn.Module):
    """Squeeze with one window, then expand with two side by side, ReLUs in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, 1, 1)
        self.ones = nn.Conv2d(1, 1, 1)
        self.twos = nn.Conv2d(1, 1, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.squeeze(x))
        pair = [self.relu(self.ones(x)), self.relu(self.twos(F.pad(x, (0, 1, 0, 1))))]
        return torch.cat(pair, 1)


class Shuffled(nn.Module):
    """Split the channels, pass one half on, and shuffle them by views."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Conv2d(2, 2, 1, groups=2, bias=False)
        self.depth = nn.Conv2d(2, 2, 2, groups=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = x.chunk(2, dim=1)
        worked = self.depth(F.relu(self.point(worked)))
        joined = torch.cat([kept[..., :-1, :-1], worked], 1)
        n, c, h, w = joined.shape
        return joined.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Towers(nn.Module):
    """Put windows of several shapes and two poolings side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, 1, (1, 2), padding=(0, 1))
        self.point = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, 2, 1, 1, count_include_pad=False)[..., :-1, :-1]
        towers = [
            F.relu(self.wide(x)[..., :-1]),
            F.relu(self.point(pooled)),
            F.max_pool2d(x, 3, 1, 1),
        ]
        return torch.cat(towers, 1)


class Resolutions(nn.Module):
    """Add a branch of half the resolution, brought back by the nearest neighbour."""

    def __init__(self, mode: str = "nearest") -> None:
        super().__init__()
        self.low = nn.Conv2d(1, 1, 2, 2)
        self.high = nn.Conv2d(1, 1, 1)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        low = F.interpolate(F.relu(self.low(x)), scale_factor=2, mode=self.mode)
        return F.relu(self.high(x) + low)


class Stacked(nn.Module):
    """Take the mean of a shallow and a deep column, which share a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.shallow = nn.Conv2d(1, 1, 2)
        self.deep = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.shallow(x))
        return torch.stack([first, F.relu(self.deep(first))]).mean(0)


class Encoder(nn.Module):
    """Go down by a stride, up by a transposed convolution, and put the input beside."""

    def __init__(self, up: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 2, 2, 2), up

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, F.relu(self.up(F.relu(self.down(x))))[..., :4, :4]], 1)


class Mixer(nn.Module):
    """Mix tokens, then channels, on residual streams, without normalisation."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.tokens = nn.Sequential(nn.Linear(tokens, 2), nn.ReLU(), nn.Linear(2, tokens))
        self.channels = nn.Sequential(nn.Linear(channels, 2), nn.ReLU(), nn.Linear(2, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(x)
        return x.mean(1)


class Clamped(nn.Module):
    """Clip from above, from below and from both sides."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(max=1.0) + x.clamp(-1.0, 2.0) + x.clamp_min(-3.0)


def _head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2)]


def _sequence(*parts: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*parts)


IMAGE, LINE = (1, 4, 4), (1, 6)

#: Style, module, shape of an input.
STYLES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "ResNet": (nn.Sequential(Basic(1, 2, 2), *_head(2)), IMAGE),
    "WRN": (nn.Sequential(nn.Conv2d(1, 2, 2), Wide(2), nn.ReLU(), *_head(2)), (1, 3, 3)),
    "RegNet": (nn.Sequential(nn.Conv2d(1, 2, 2), Basic(2, 4, 2, groups=2), *_head(4)), (1, 3, 3)),
    "DenseNet": (nn.Sequential(Dense(1, 2, 2), nn.ReLU(), *_head(2)), (1, 2, 2)),
    "VGG without batch norm": (
        nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1),
            nn.ReLU(True),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8, 2),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(2, 2),
        ),
        IMAGE,
    ),
    "ResNet with batch norm before activation": (
        nn.Sequential(PreActivation(1, 2, 2), nn.ReLU(), *_head(2)),
        IMAGE,
    ),
    "ResNeXt": (
        nn.Sequential(
            nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 2, groups=2), nn.ReLU(), *_head(4)
        ),
        IMAGE,
    ),
    "PyramidNet": (nn.Sequential(PaddedSkip(1, 2), *_head(2)), IMAGE),
    "SqueezeNet": (nn.Sequential(Fire(1), nn.MaxPool2d(2), *_head(2)), IMAGE),
    "MobileNet": (
        nn.Sequential(
            nn.Conv2d(2, 2, 2, groups=2, bias=False),
            nn.BatchNorm2d(2),
            nn.ReLU(),
            nn.Conv2d(2, 2, 1, bias=False),
            nn.BatchNorm2d(2),
            nn.ReLU(),
            *_head(2),
        ),
        (2, 3, 3),
    ),
    "ShuffleNet": (
        nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), Shuffled(), nn.ReLU(), *_head(4)),
        (1, 3, 3),
    ),
    "Inception": (nn.Sequential(Towers(1), *_head(3)), IMAGE),
    "HRNet": (nn.Sequential(Resolutions(), *_head(1)), IMAGE),
    "bilinear upsampling": (nn.Sequential(Resolutions("bilinear"), *_head(1)), IMAGE),
    "FractalNet": (nn.Sequential(Stacked(), *_head(1)), IMAGE),
    "U-Net": (
        nn.Sequential(
            Encoder(nn.ConvTranspose2d(2, 2, 2, 2)), nn.Conv2d(3, 1, 1), nn.ReLU(), *_head(1)
        ),
        IMAGE,
    ),
    "U-Net, odd transposed convolution": (
        nn.Sequential(Encoder(nn.ConvTranspose2d(2, 2, 2, 2, 1, 1, dilation=2)), *_head(3)),
        IMAGE,
    ),
    "NiN": (
        nn.Sequential(
            nn.Conv2d(1, 2, 2),
            nn.ReLU(),
            nn.Conv2d(2, 2, 1),
            nn.ReLU(),
            nn.MaxPool2d(2, 1),
            nn.Conv2d(2, 2, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ),
        (1, 3, 3),
    ),
    "VGG": (
        nn.Sequential(
            nn.Conv2d(1, 1, 3, padding=1),
            nn.BatchNorm2d(1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, 2),
            nn.Flatten(),
            nn.Linear(4, 2),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(2, 2),
        ),
        IMAGE,
    ),
    "MLP-Mixer": (Mixer(3, 2), (3, 2)),
    "1-D": (
        nn.Sequential(
            nn.Conv1d(1, 2, 2, padding=1, padding_mode="circular"),
            nn.ReLU(),
            nn.ConvTranspose1d(2, 1, 3, 2, padding=1),
            nn.ReLU(),
            nn.AvgPool1d(2),
            nn.Flatten(),
            nn.LazyLinear(2),
        ),
        LINE,
    ),
    "3-D": (
        nn.Sequential(
            nn.Conv3d(1, 2, 2),
            nn.ReLU(),
            nn.ConvTranspose3d(2, 1, 2, groups=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(1, 1),
        ),
        (1, 2, 2, 2),
    ),
    "DarkNet": (
        nn.Sequential(
            nn.Conv2d(1, 2, 2),
            nn.LeakyReLU(0.25),
            nn.Conv2d(2, 2, 2),
            nn.LeakyReLU(0.25, inplace=True),
            nn.Conv2d(2, 1, 1),
            nn.Flatten(),
        ),
        (1, 3, 3),
    ),
    "PReLU": (
        nn.Sequential(nn.Conv2d(1, 2, 2), nn.PReLU(2), nn.Conv2d(2, 2, 2), nn.PReLU(), *_head(2)),
        (1, 3, 3),
    ),
    "ReLU6": (
        nn.Sequential(
            nn.Conv2d(1, 2, 2, bias=False),
            nn.ReLU6(),
            nn.Conv2d(2, 2, 2),
            nn.ReLU6(True),
            nn.Flatten(),
            nn.Linear(2, 2),
        ),
        (1, 3, 3),
    ),
    "hard tanh and clamps": (
        nn.Sequential(
            nn.Linear(2, 3), nn.Hardtanh(-2.0, 3.0), nn.Linear(3, 2), Clamped(), nn.Linear(2, 1)
        ),
        (2,),
    ),
    "sub-pixel": (
        nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.PixelShuffle(2), *_head(1)),
        (1, 2, 2),
    ),
}
