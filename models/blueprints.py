"""The papers' networks: how each is built, at its published sizes or at scaled ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from reluctant.models.architectures import Architecture
from reluctant.models.builders import make_conv, make_fc, make_staged
from reluctant.models.staged import Skip, Stage

Widths = Callable[..., tuple[int, ...]]

_IMAGE: Final = (3, 32, 32)
_KERAS: Final = (
    "one hidden dense layer, as in the paper (two in its code); zeros at the edges, as in the code; "
    "no biases (in the code most have)"
)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """Say how a network of the papers is built.

    Attributes:
        source: Where it is described.
        build: Makes it of an input shape, a number of outputs, and a function that scales widths;
            further arguments go to the builder.
        input_shape: Shape of the images that it was published for.
        chosen: What the source does not state, or states in two ways, and what was taken.
    """

    source: str
    build: Callable[..., Architecture]
    input_shape: tuple[int, ...] = _IMAGE
    chosen: str = "zeros at the edges, no biases"


def _fully_connected(*published: int) -> Callable[..., Architecture]:
    def build(shape: Sequence[int], classes: int, widths: Widths, **more: Any) -> Architecture:
        return make_fc(shape, widths(*published), classes, **more)

    return build


def _convolutional(
    *published: int, dense: Sequence[int] = (), **own: Any
) -> Callable[..., Architecture]:
    def build(shape: Sequence[int], classes: int, widths: Widths, **more: Any) -> Architecture:
        options = {"padding": "zero", "dense": widths(*dense), **own, **more}
        return make_conv(shape, widths(*published), classes, **options)

    return build


def _staged(*published: Stage, **own: Any) -> Callable[..., Architecture]:
    def build(shape: Sequence[int], classes: int, widths: Widths, **more: Any) -> Architecture:
        stages = [replace(stage, widths=widths(*stage.widths)) for stage in published]
        options = {"padding": "zero", "batch_norm": True, **own, **more}
        return make_staged(shape, stages, classes, **options)

    return build


def _vgg(*depths: int) -> Callable[..., Architecture]:
    filters = zip((64, 128, 256, 512, 512), depths, strict=True)
    return _staged(*(Stage((width,) * depth, pool=2) for width, depth in filters))


def _resnet(blocks: int) -> Callable[..., Architecture]:
    rest = (
        Stage((width, width), stride=2 if width > 16 and block == 0 else 1, skip=Skip.AFTER)
        for width in (16, 32, 64)
        for block in range(blocks)
    )
    return _staged(Stage((16,)), *rest)


_DAVIDNET: Final = (
    Stage((64,)),
    Stage((128,), pool=2),
    Stage((128, 128), skip=Skip.INSIDE),
    Stage((256,), pool=2),
    Stage((512,), pool=2),
    Stage((512, 512), skip=Skip.INSIDE),
)

#: The networks, with what their sources leave open.
NETWORKS: Final[Mapping[str, Blueprint]] = {
    "FC": Blueprint(
        "npf, main table", _fully_connected(128, 128, 128, 128), (1, 28, 28),
        "five weighted layers, as in the paper (six in its code); no biases (in the code most have)",
    ),
    "VCONV": Blueprint(
        "npf, main table", _convolutional(64, 64, 128, 128, dense=(256,), pool="flatten"),
        chosen=_KERAS,
    ),
    "GCONV": Blueprint(
        "npf, main table", _convolutional(64, 64, 128, 128, dense=(256,)),
        chosen=_KERAS,
    ),
    "C1GAP": Blueprint("dlgn, table III", _convolutional(512)),
    "C4GAP": Blueprint("dlgn, table I", _convolutional(128, 128, 128, 128)),
    "VGG-16": Blueprint(
        "dlgn, table II", _vgg(2, 2, 3, 3, 3),
        chosen="one dense layer, so 13 layers of gates; zeros at the edges, no biases",
    ),
    "VGG-19": Blueprint(
        "dlgn, draft", _vgg(2, 2, 4, 4, 4),
        chosen="average pools and batch norm as in VGG-16; one dense layer; zeros at the edges, no "
        "biases",
    ),
    "ResNet-110": Blueprint(
        "dlgn, table II", _resnet(18),
        chosen="weightless shortcuts, padded with channels of zeros, and gates after the addition, "
        "as in He et al., 2016; batch norm, zeros at the edges, no biases",
    ),
    "DavidNet": Blueprint(
        "dlgn, draft", _staged(*_DAVIDNET, output_scale=0.125),
        chosen="the ResNet-9 of Page's entry to DAWNBench with average pools in place of its "
        "max pools; zeros at the edges, no biases",
    ),
}  # fmt: skip
