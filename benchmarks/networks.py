"""The networks of the benchmarks as torch modules."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.specimens import Network, inputs, weights


def examples(
    network: Network, n: int, *, seed: int = 0, device: str = "cpu", dtype: str = "float32"
) -> Tensor:
    """Return n examples on a device."""
    return torch.from_numpy(inputs(network, n, seed)).to(device, getattr(torch, dtype))


def build(network: Network, *, device: str = "cpu", dtype: str = "float32") -> nn.Module:
    """Return a network with its weights, as a user would write it, in evaluation mode."""
    if network["kind"] == "resnet20":
        torch.manual_seed(1)
        return _resnet20().eval().to(device, getattr(torch, dtype))
    layers: list[nn.Module] = []
    *hidden, last = (torch.from_numpy(w) for w in weights(network))
    for weight in hidden:
        if weight.ndim == 2:
            layers += [_dense(weight), nn.ReLU()]
        else:
            window = nn.Conv2d(weight.shape[1], weight.shape[0], 3, bias=False)
            window.weight = nn.Parameter(weight)
            layers += [nn.CircularPad2d(1), window, nn.ReLU()]
    if network["kind"] == "conv":
        layers += [*([nn.AdaptiveAvgPool2d(1)] if network["pool"] else []), nn.Flatten()]
    return nn.Sequential(*layers, _dense(last)).to(device, getattr(torch, dtype))


def _dense(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    return layer


class _Block(nn.Module):
    """Two windows and a skip, whose channels are filled up with zeros where they double."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.missing = after // before, after - before
        self.first = nn.Conv2d(before, after, 3, stride=self.stride, padding=1, bias=False)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])

    def forward(self, x: Tensor) -> Tensor:
        skip = x[:, :, :: self.stride, :: self.stride]
        skip = nn.functional.pad(skip, (0, 0, 0, 0, 0, self.missing))
        inner = self.norms[0](self.first(x)).relu()
        return (self.norms[1](self.second(inner)) + skip).relu()


def _resnet20() -> nn.Module:
    """Return the ResNet of depth 20 for 32×32 images: three stages of three blocks."""
    sizes = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    start = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    blocks = [_Block(before, after) for before, after in pairwise(sizes)]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10, bias=False)]
    return nn.Sequential(*start, *blocks, *end)
