"""Which rows are measured, at which sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.contestants import BACKPACK, NEURAL_TANGENTS, Contestant
from benchmarks.rows import Contest, Goal, Prediction, Row, Scaling
from benchmarks.specimens import Network

_LAWS = {"npk": "rl.npk", "nngp": "rl.nngp_law", "ntk": "rl.ntk_law"}


def programme(*, smoke: bool, device: str) -> list[Row]:
    """Return the rows.

    Args:
        smoke: True for sizes that take a second.
        device: "cpu" or "cuda". Rows of very many examples are measured on cuda (at smoke size
            anywhere), rows against other libraries on the CPU.
    """
    rows = [*_dense(smoke, device), *_positions(smoke, device)]
    if device == "cpu":
        rows += [*_empirical(smoke), *_infinite(smoke)]
    rows += _scaling(smoke, device)
    if device == "cuda" or smoke:
        rows += _many(smoke, device)
    return rows


def _ours(kind: str, dtype: str, network: Network, words: str = "", **sizes: Any) -> Contestant:
    name = f"{_LAWS[kind]}, {dtype}{words}"
    asked = {"network": network, "law": kind, "dtype": dtype, **sizes}
    return Contestant(name, "path_kernels:law", asked)


def _fully_connected(smoke: bool, width: int = 512, depth: int = 5) -> Network:
    if smoke:
        return {"kind": "dense", "inputs": 12, "width": 16, "depth": 3}
    return {"kind": "dense", "inputs": 784, "width": width, "depth": depth}


def _convolutional(smoke: bool, side: int, width: int, depth: int, *, pool: bool) -> Network:
    if smoke:
        side, width, depth = 4, 4, 2
    return {"kind": "conv", "side": side, "width": width, "depth": depth, "pool": pool}


def _dense(smoke: bool, device: str) -> list[Row]:
    network, n = _fully_connected(smoke), 40 if smoke else 4000
    asked = {"network": network, "n": n, "m": n, "device": device}
    products = Contestant("products, float32", "jacobians:products", asked)
    given = [
        _ours(kind, dtype, recorded=True, **asked)
        for kind in _LAWS
        for dtype in ("float32", "float64")
    ]
    more = _ours("npk", "float32", words=", network run too", **asked)
    goals = [Goal(c.name, 1.25, against=products.name) for c in given if c.name.endswith("float32")]
    title = (
        f"Fully connected, {n} × {n} examples, {network['depth']} gate layers of {network['width']}"
    )
    return [
        Contest(
            "dense",
            f"{title}: time",
            (products, *given, more),
            goals=tuple(goals),
            repetitions=1 if smoke else 5,
            note="The products are those of the inputs and of the gates of each layer, in float32, "
            "each written to memory and nothing done with it. Gates are recorded before as the "
            "float32 tensors that `record` gives; the last line runs the network too.",
        ),
        Contest(
            "dense-memory",
            f"{title}: memory",
            (given[0], given[1], given[4]),
            goals=tuple(Goal(c.name, 2.0, measure="blocks") for c in (given[0], given[4])),
            repetitions=1,
            uncounted=0,
            isolated=True,
            small={"n": 8, "m": 8},
            note="The largest memory in use beside inputs and gates, each in a process of its own; "
            "goals are without the result, in sizes of the result.",
        ),
    ]


def _positions(smoke: bool, device: str) -> list[Row]:
    network = _convolutional(smoke, 32, 128, 4, pool=True)
    n, few = (3, 2) if smoke else (16, 6)
    asked = {"network": network, "n": n, "device": device}
    products = Contestant(
        "products, float32",
        "jacobians:products",
        {**asked, "at_once": 4 if device == "cpu" else 16},
    )
    kernels = [
        _ours(kind, dtype, **asked)
        for kind, dtype in (("npk", "float32"), ("npk", "float64"), ("ntk", "float32"))
    ]
    square = Contestant(
        "one float32 product of matrices",
        "jacobians:square",
        {"size": 64 if smoke else 4096 if device == "cpu" else 16384, "device": device},
    )
    residual = [
        _ours(kind, "float32", {"kind": "resnet20"}, n=few, variance=2**-7, device=device)
        for kind in ("nngp", "ntk")
    ]
    pairs = n * (n + 1) // 2
    return [
        Contest(
            "conv",
            f"Convolutional, {network['depth']} layers of {network['width']} circular 3×3 filters, "
            f"average pooling, {n} images of side {network['side']} ({pairs} pairs)",
            (products, *kernels),
            goals=(Goal(kernels[0].name, 3.0),),
            repetitions=1 if smoke else 5,
            note="The network is run too. The products are those of the channels at all pairs of "
            "positions, in float32. The goal is for two cores.",
        ),
        Contest(
            "conv-memory",
            "The same: memory",
            (kernels[0],),
            goals=(Goal(kernels[0].name, float(2 << 30), measure="memory"),),
            repetitions=1,
            uncounted=0,
            isolated=True,
            small={"n": 2},
        ),
        Prediction(
            "resnet20",
            f"ResNet-20 on 32×32 images, {few * (few + 1) // 2} pairs",
            (square, *residual),
            repetitions=1 if smoke else 3,
            uncounted=0 if smoke else 1,
            pairs=few * (few + 1) // 2,
            note="Products are those that `kernel_work` counts, predicted seconds those at the rate "
            "of the first line. The count is that of the kernel, for the tangent law too.",
        ),
    ]


def _empirical(smoke: bool) -> list[Row]:
    n = 6 if smoke else 200
    networks = {
        "dense": (_fully_connected(smoke), "fully connected"),
        "pool": (_convolutional(smoke, 16, 32, 3, pool=True), "small convolutional, pooled"),
        "flat": (_convolutional(smoke, 16, 32, 3, pool=False), "small convolutional, flattened"),
    }
    rows: list[Row] = []
    for name, (network, words) in networks.items():
        asked = {"network": network, "n": n}
        laws = [_ours(kind, "float32", **asked) for kind in ("ntk", "npk")]
        ways = {"JACOBIAN_CONTRACTION": "Jacobians", "STRUCTURED_DERIVATIVES": "structured"}
        peers = [
            Contestant("torch.func Jacobians", "jacobians:tangents", asked),
            Contestant("BackPACK gradients", "backpack_gradients:tangents", asked, BACKPACK),
            *(
                Contestant(
                    f"neural-tangents, {short}",
                    "infinite_kernels:tangents",
                    {**asked, "how": how},
                    NEURAL_TANGENTS,
                )
                for how, short in ways.items()
            ),
            Contestant("rl.ntk", "path_kernels:tangents", asked),
        ]
        rows.append(
            Contest(
                f"empirical-{name}",
                f"Against empirical tangent kernels, {words}, {n} examples",
                (laws[0], laws[1], *peers),
                goals=(Goal(laws[0].name, 0.01, against=peers[0].name),),
                repetitions=1 if smoke else 3,
                same=tuple(peer.name for peer in peers),
                note="The first two are expectations over weights at the recorded gates, the others "
                "the tangent kernel at the weights, all of the same network. A first run of each, "
                "in which JAX compiles, is not counted.",
            )
        )
    return rows


def _infinite(smoke: bool) -> list[Row]:
    cases = (
        ("dense", _fully_connected(smoke), 20 if smoke else 2000, 0),
        ("conv", _convolutional(smoke, 32, 128, 4, pool=True), 4 if smoke else 8, 2),
        ("flat", _convolutional(smoke, 32, 128, 4, pool=False), 20 if smoke else 100, 0),
    )
    rows: list[Row] = []
    for name, network, n, at_once in cases:
        asked = {"network": network, "n": n}
        ours = [
            _ours(kind, "float32", words=words, recorded=bool(words), **asked)
            for kind in ("ntk", "nngp")
            for words in ("", ", gates recorded")
        ]
        theirs = [
            Contestant(
                f"neural-tangents, {kind}",
                "infinite_kernels:analytic",
                {**asked, "law": kind, "at_once": at_once},
                NEURAL_TANGENTS,
            )
            for kind in ("ntk", "nngp")
        ]
        kind = "Fully connected" if network["kind"] == "dense" else "Convolutional"
        end = {True: ", pooled", False: ", flattened", None: ""}[network.get("pool")]
        rows.append(
            Contest(
                f"infinite-{name}",
                f"Against the kernels of neural-tangents: {kind}{end}, {network['depth']} layers of "
                f"{network['width']}, {n} examples",
                (theirs[0], theirs[1], *ours),
                goals=(
                    Goal(ours[0].name, 1 / 3, against=theirs[0].name),
                    Goal(ours[2].name, 1 / 3, against=theirs[1].name),
                ),
                repetitions=1 if smoke else 3,
                note="Different objects of the same shape: theirs is the kernel at infinite width, "
                "ours that at the gates of a network of this width, which is run too. Both know "
                "that the kernel is symmetric. A first run, in which JAX compiles, is not counted.",
            )
        )
    return rows


def _scaled(
    name: str, title: str, sizes: Sequence[int], made: Sequence[Contestant], predicted: float,
    device: str, **options: Any,
) -> Scaling:  # fmt: skip
    return Scaling(
        name,
        title,
        tuple(made),
        sizes=tuple(sizes),
        predicted=predicted,
        clock="cpu" if device == "cpu" else "wall",
        **options,
    )


def _scaling(smoke: bool, device: str) -> list[Row]:
    common = {"repetitions": 1 if smoke else 3, "uncounted": 0 if smoke else 1}
    many = 1 if device == "cpu" else 4
    examples = (20, 40, 80) if smoke else tuple(many * k for k in (500, 1000, 2000, 4000))
    widths = (8, 16, 32) if smoke else (256, 512, 1024, 2048)
    depths = (2, 4, 8) if smoke else (2, 4, 8, 16)
    sides = (2, 4, 8) if smoke else (8, 12, 16, 24, 32)
    flat_sides = (2, 4, 8) if smoke else (8, 16, 32, 64)
    n = 20 if smoke else 1500 * many

    def dense(n: int, width: int, depth: int, words: str) -> Contestant:
        network: Network = {"kind": "dense", "inputs": 4, "width": width, "depth": depth}
        sizes = {"n": n, "m": n, "recorded": True, "device": device}
        return _ours("npk", "float32", network, words=words, **sizes)

    def conv(side: int, n: int, *, pool: bool) -> Contestant:
        width = 4 if smoke else 32
        network: Network = {"kind": "conv", "side": side, "width": width, "depth": 3, "pool": pool}
        sizes = {"n": n, "recorded": True, "device": device}
        return _ours("npk", "float32", network, words=f", {side**2} positions", **sizes)

    return [
        _scaled(
            "scaling-n",
            "Scaling in the number of examples, fully connected",
            examples,
            [dense(k, 512, 5, f", {k} × {k}") for k in examples],
            2,
            device,
            **common,
        ),
        _scaled(
            "scaling-width",
            f"Scaling in the width, fully connected, {n} × {n} examples",
            widths,
            [dense(n, w, 5, f", width {w}") for w in widths],
            1,
            device,
            **common,
        ),
        _scaled(
            "scaling-depth",
            f"Scaling in the depth, fully connected, {n} × {n} examples",
            depths,
            [dense(n, 512, d, f", depth {d}") for d in depths],
            1,
            device,
            **common,
        ),
        _scaled(
            "scaling-pooled",
            "Scaling in the number of positions, convolutional with pooling",
            [side**2 for side in sides],
            [conv(side, 2 if smoke else 6 * many, pool=True) for side in sides],
            2,
            device,
            **common,
        ),
        _scaled(
            "scaling-flat",
            "Scaling in the number of positions, convolutional and flattened",
            [side**2 for side in flat_sides],
            [conv(side, 2 if smoke else 64 * many, pool=False) for side in flat_sides],
            1,
            device,
            **common,
        ),
    ]


def _many(smoke: bool, device: str) -> list[Row]:
    once = {"repetitions": 1, "uncounted": 0}
    pooled = _convolutional(smoke, 32, 128, 4, pool=True)
    images = (2, 3, 4) if smoke else (125, 250, 500, 1000)
    digits = (20, 40, 80) if smoke else (7500, 15000, 30000, 60000)

    def named(network: Network, n: int) -> Contestant:
        return _ours("npk", "float32", network, words=f", {n} × {n}", n=n, device=device)

    conv = [named(pooled, n) for n in images]
    return [
        _scaled(
            "many-dense",
            f"Fully connected, up to {digits[-1]} × {digits[-1]} examples, network run too",
            digits,
            [named(_fully_connected(smoke), n) for n in digits],
            2,
            device,
            **once,
        ),
        _scaled(
            "many-conv",
            f"Convolutional with pooling, up to {images[-1]} × {images[-1]} images of side "
            f"{pooled['side']}",
            images,
            conv,
            2,
            device,
            goals=(Goal(conv[-1].name, 20.0),),
            **once,
        ),
    ]
