"""What is found of a network's structure, by the predicates that the hypotheses are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from torch import nn

from reluctant.properties import hypotheses as needs
from reluctant.properties.sensitivity import Sample, ray_change, shift_change, source_share
from reluctant.properties.shifts import ALL_SHIFTS, SHIFT_INVARIANT
from reluctant.properties.symmetries import HOMOGENEOUS
from reluctant.theory.anatomy import (
    batch_norms,
    called,
    global_pools,
    joins,
    makers_of_gates,
    reductions,
    shared_weights,
    threshold_of,
)
from reluctant.theory.counts import rough_count
from reluctant.theory.edges import edges
from reluctant.theory.findings import Finding, Place, Size
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import GateLayer, Node
from reluctant.theory.single import Inputs, joined, one_tensor
from reluctant.theory.statements import Hypothesis
from reluctant.theory.structure import depths
from reluctant.theory.tracing import trace
from reluctant.theory.twins import differentiable, twin
from reluctant.theory.verdicts import Unmet

_KINDS = {"relu": "ReLU", "leaky": "leaky ReLU", "clip": "clipped ramp", "max": "maximum"}
_MET_AS_IT_STANDS = (
    needs.FULLY_CONNECTED,
    needs.EQUAL_WIDTHS,
    needs.HARD_GATES,
    needs.OWN_GATES,
    needs.DISJOINT,
    needs.UNTIED,
    needs.SINGLE_PATHS,
    needs.UNSCALED,
    needs.FREE_UNITS,
    needs.PLAIN_WEIGHTS,
)


@differentiable()
def findings(
    module: nn.Module,
    example: Inputs,
    *,
    output: int | str | None = None,
    data: Inputs | None = None,
    seed: int = 0,
) -> tuple[Finding, ...]:
    r"""Say what a network is like: what its hypotheses are decided by, each with all its places.

    Args:
        module: Any module that :func:`reluctant.trace` can read. It is left as it is.
        example: One batch of inputs, as for :func:`reluctant.check`.
        output: Position or name of the output, if the module returns several.
        data: Real inputs, on which sizes are measured; on the example if None.
        seed: Seed of the choice of shifts.

    Returns:
        Descriptions, and answers that are yes or no. How far the network is from being shift
        invariant, positively homogeneous and bias-free is measured where it is not.

    Raises:
        InputError: If the example, the data or the weights cannot be used.
        UnsupportedOperation: If the network cannot be read.

    Cost:
        Some forward passes; about 500 of a small network with positions, 30 of a large one.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1, bias=False))
        >>> found = {f.name: f for f in findings(net, torch.ones(1, 3))}
        >>> found["bias-free"].met, [place.what for place in found["bias-free"].places]
        (False, ['0.bias is a bias'])
    """
    module, x = one_tensor(twin(module), example, output)
    sample = Sample(x, "the example") if data is None else Sample(joined(data).to(x), "the data")
    return found_of(trace(module, x.detach()), sample, seed)


def found_of(net: PathNetwork, sample: Sample, seed: int = 0) -> tuple[Finding, ...]:
    """Do what :func:`findings` does, for a network that is read already.

    Args:
        net: Network.
        sample: Inputs to measure sizes on.
        seed: Seed of the choice of shifts.
    """
    has_positions = len(net.input_shape) > 1 and max(net.input_shape[1:]) > 1
    spatial = (_convolutions, _strides, _pools) if has_positions else ()
    described = (_sizes, _gates, *spatial, _joins, _batch_norms, _shared)
    return (
        *(describe(net) for describe in described),
        _sources(net, sample),
        _homogeneity(net, sample),
        *(_invariance(net, sample, seed) if has_positions else ()),
        *(_answer(hypothesis, net) for hypothesis in _MET_AS_IT_STANDS),
    )


def _answer(hypothesis: Hypothesis, net: PathNetwork) -> Finding:
    return _decided(hypothesis.name, hypothesis.text, hypothesis.places(net))


def _decided(
    name: str,
    text: str,
    unmet: Iterable[Unmet],
    measure: Callable[[], Size | None] = lambda: None,
) -> Finding:
    """Answer yes, or no with the places, and with a size where one can be measured.

    Args:
        name: Name of the finding.
        text: What yes means.
        unmet: Places where it is not met.
        measure: Measures how far the network is from it.
    """
    places = tuple(dict.fromkeys(Place(u.reason, u.where) for u in unmet))
    if not places:
        return Finding(name, True, f"yes: {text}")
    size = measure()
    answer = "no" if len(places) == 1 else f"no, at {len(places)} places"
    return Finding(name, False, answer, places, () if size is None else (size,))


def _described(name: str, answers: Iterable[str], places: Iterable[tuple[str, Node]]) -> Finding:
    """Count the answers, and list the places."""
    found = tuple(Place(what, node.place) for what, node in places)
    return Finding(name, None, _counted(answers), found)


def _counted(answers: Iterable[str]) -> str:
    counts = Counter(list(answers))
    return ", ".join(f"{answer} ({count})" for answer, count in counts.items()) or "none"


def _sizes(net: PathNetwork) -> Finding:
    layers = sorted(depths(net)[net.output])
    parameters = {net.weights[n.weight].parameter: net.weights[n.weight] for n in net.weighted}
    weights = sum(weight.entries.total for weight in parameters.values())
    paths = rough_count(net, sources=False)
    depth = f"{layers[0]}" if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
    number = f"{paths:.0f}" if paths < 2**53 else f"about {paths:.3g}"
    words = (
        f"{depth} layers of weights on a path",
        f"{weights} weights in {len(parameters)} tensors",
        f"{number if paths < float('inf') else 'more than 1e308'} paths from the data",
        f"{net.output_size} output{'' if net.output_size == 1 else 's'}",
    )
    return Finding("size", None, "; ".join(words))


def _gates(net: PathNetwork) -> Finding:
    layers = [(g, net.gate_layers[g]) for g in net.value_gates]
    kinds = [_kind(net, g, layer) for g, layer in layers]
    places = tuple(
        Place(f"{layer.name}: {kind}, {_origin(net, g, layer)}", layer.place)
        for (g, layer), kind in zip(layers, kinds, strict=True)
    )
    return Finding("layers of gates", None, _counted(kinds), places)


def _kind(net: PathNetwork, g: int, layer: GateLayer) -> str:
    kind = _KINDS.get(layer.kind, "soft" if layer.moves else "comparison")
    if layer.kind == "leaky":
        low, high = (float(edge) for edge in layer.low().detach().aminmax())
        trained = "trained " if layer.slope is not None else ""
        return f"{kind} of {trained}slope {low:.3g}" + (f" to {high:.3g}" if high > low else "")
    if layer.kind == "max":
        return f"{kind}, {'first winner' if layer.ties == 'first' else 'winners share'}"
    threshold = threshold_of(net, g)
    return f"{kind} with {threshold:g}" if threshold else kind


def _origin(net: PathNetwork, g: int, layer: GateLayer) -> str:
    if layer.own:
        return "gates from what it multiplies"
    names = makers_of_gates(net, g)
    return f"gates made by {', '.join(names)}" if names else "gates without parameters"


def _convolutions(net: PathNetwork) -> Finding:
    found = edges(net)
    places = [(f"{called(net, e.node)}: {e.kind}, {_window(e.axes)}", e.node) for e in found]
    return _described("convolutions", (e.kind for e in found), places)


def _window(axes: Sequence[tuple[int, int, str, int, int]]) -> str:
    taps, strides, _, before, after = zip(*axes, strict=True)
    step = f" in steps of {_by(strides)}" if max(strides) > 1 else ""
    return f"window {_by(taps)}{step}, {_by(before)} positions to {_by(after)}"


def _by(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))


def _strides(net: PathNetwork) -> Finding:
    found = reductions(net)
    places = [
        (f"{called(net, r.node)}: {_by(r.before)} positions to {_by(r.after)}", r.node)
        for r in found
    ]
    return _described("strides and pools", ("leave fewer positions" for _ in found), places)


def _pools(net: PathNetwork) -> Finding:
    found = global_pools(net)
    places = [
        (
            f"{called(net, p.node)} {'reads' if p.by == 'weights' else 'pools'} {p.positions}"
            f" positions, by {p.by}",
            p.node,
        )
        for p in found
    ]
    kept = "the output keeps its positions" if not found else ""
    ways = dict.fromkeys("flattened" if p.by == "weights" else f"pooled by {p.by}" for p in found)
    answer = ", ".join(ways) or kept
    return Finding("global pooling", None, answer, tuple(Place(w, n.place) for w, n in places))


def _joins(net: PathNetwork) -> Finding:
    found = joins(net)
    return _described(
        "skips and branches",
        (kind for _, kind in found),
        ((f"{node.name}: {kind}", node) for node, kind in found),
    )


def _batch_norms(net: PathNetwork) -> Finding:
    found = batch_norms(net)
    places = ((f"{node.name} scales and shifts by constants", node) for node in found)
    return _described("batch norms", ("read as constants" for _ in found), places)


def _shared(net: PathNetwork) -> Finding:
    found = shared_weights(net)
    places = ((f"{name} acts here", node) for name, nodes in found.items() for node in nodes)
    return _described("weights in several places", found, places)


def _sources(net: PathNetwork, sample: Sample) -> Finding:
    hypothesis = needs.BIAS_FREE
    return _decided(
        hypothesis.name,
        hypothesis.text,
        hypothesis.places(net),
        lambda: source_share(net, sample),
    )


def _homogeneity(net: PathNetwork, sample: Sample) -> Finding:
    unmet = (place for hypothesis in HOMOGENEOUS.hypotheses for place in hypothesis.places(net))
    return _decided(
        "positively homogeneous",
        "f(cx) = c f(x) for c > 0, whatever the weights.",
        unmet,
        lambda: ray_change(net.module, sample),
    )


def _invariance(net: PathNetwork, sample: Sample, seed: int) -> tuple[Finding, ...]:
    some, every = SHIFT_INVARIANT, ALL_SHIFTS
    first = _decided(
        some.name, some.text, some.places(net), lambda: shift_change(net, sample, seed)
    )
    if not first.met:
        return (first,)
    return first, _decided(
        every.name, every.text, every.places(net), lambda: shift_change(net, sample, seed)
    )
