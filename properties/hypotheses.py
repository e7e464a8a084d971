"""The hypotheses, each a predicate on a traced network that names the place where it fails."""

from __future__ import annotations

from collections.abc import Callable

from reluctant.theory.errors import NotIdentified
from reluctant.theory.images import repeated_parameters
from reluctant.theory.network import PathNetwork
from reluctant.theory.nodes import Constant, Gate, GateLayer, Input, Scale, Sum, Weighted
from reluctant.theory.statements import Hypothesis
from reluctant.theory.structure import dense_chain, gate_parameters, identity_skips
from reluctant.theory.units import hidden_layers
from reluctant.theory.verdicts import Unmet


def _bias_free(net: PathNetwork) -> Unmet | None:
    if net.biases:
        node = net.biases[0]
        return Unmet("bias-free", f"{net.weights[node.weight].name} is a bias", node.place)
    for i in net.value_nodes:
        other = net.nodes[i]
        if isinstance(other, Constant) and not other.is_input:
            return Unmet("bias-free", f"{other.name} adds a constant that is not data", other.place)
    return None


BIAS_FREE = Hypothesis(
    "bias-free", "No bias, batch-norm shift or other source adds to a path.", _bias_free
)


def _fully_connected(net: PathNetwork) -> Unmet | None:
    if dense_chain(net) is not None:
        return None
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Weighted) and (node.operator.positions and node not in net.biases):
            return Unmet(
                "fully connected", f"{node.name} shares its weights among positions", node.place
            )
        if isinstance(node, Sum | Scale):
            return Unmet("fully connected", f"{node.name} joins or scales branches", node.place)
    return Unmet(
        "fully connected", "the network is no chain of dense layers", net.nodes[net.output].place
    )


FULLY_CONNECTED = Hypothesis(
    "fully connected",
    "The network is a chain of dense layers with gates between.",
    _fully_connected,
)


def _of_every_gate(name: str, text: str, fault: Callable[[GateLayer], str | None]) -> Hypothesis:
    """Return the hypothesis that no layer of gates on the paths has a fault."""

    def test(net: PathNetwork) -> Unmet | None:
        for g in net.value_gates:
            layer = net.gate_layers[g]
            reason = fault(layer)
            if reason is not None:
                return Unmet(name, reason, layer.place)
        return None

    return Hypothesis(name, text, test)


def _takes_other_values(layer: GateLayer) -> str | None:
    return None if layer.hard else f"the gates of {layer.name} take other values than 0 and 1"


def _moves(layer: GateLayer) -> str | None:
    return None if layer.is_stepped else f"the gates of {layer.name} move with their pre-activation"


def _is_made_elsewhere(layer: GateLayer) -> str | None:
    return None if layer.own else f"{layer.name} multiplies by gates that were made elsewhere"


def _is_no_relu(layer: GateLayer) -> str | None:
    return None if layer.kind == "relu" else f"{layer.name} is no ReLU"


def _has_a_slope_at_ties(layer: GateLayer) -> str | None:
    if not layer.is_step or layer.ties == "zero":
        return None
    return f"torch gives {layer.name} the derivative {layer.ties} at q = 0"


HARD_GATES = _of_every_gate("hard gates", "Every gate is 0 or 1.", _takes_other_values)
STEPPED_GATES = _of_every_gate("stepped gates", "Every gate is constant between ties.", _moves)
OWN_GATES = _of_every_gate(
    "own gates", "Every gate comes from the tensor that it multiplies.", _is_made_elsewhere
)
OWN_RELUS = _of_every_gate("own ReLU gates", "Every gate is a ReLU's.", _is_no_relu)
ZERO_AT_TIES = _of_every_gate(
    "derivative 0 at ties", "A ReLU's derivative at 0 is its gate there, 0.", _has_a_slope_at_ties
)


def _has_gates(net: PathNetwork) -> Unmet | None:
    return (
        None
        if net.value_gates
        else Unmet("gated", "no gate lies on a path to the output", net.nodes[net.output].place)
    )


GATED = Hypothesis("gated", "At least one layer of gates lies on the paths.", _has_gates)


def _independent(net: PathNetwork) -> Unmet | None:
    value = {net.weights[node.weight].parameter for node in net.weighted}
    for g in net.value_gates:
        layer = net.gate_layers[g]
        if layer.own:
            return Unmet(
                "gates independent of the value weights",
                f"{layer.name} makes its gates from the weights on the paths",
                layer.place,
            )
        shared = gate_parameters(net, g) & value
        if shared:
            names = [w.name for w in net.weights if w.parameter in shared]
            return Unmet(
                "gates independent of the value weights",
                f"the gates of {layer.name} depend on {names[0]}, which lies on a path",
                layer.place,
            )
    return None


DISJOINT = Hypothesis(
    "gates independent of the value weights", "No weight on a path reaches a gate.", _independent
)


def _data_input(net: PathNetwork) -> Unmet | None:
    if any(isinstance(net.nodes[i], Input) for i in net.value_nodes):
        return None
    return Unmet(
        "value input x",
        "the paths begin at a constant, not at the data",
        net.nodes[net.value_nodes[0]].place,
    )


DATA_INPUT = Hypothesis("value input x", "Paths begin at the data.", _data_input)


def _untied(net: PathNetwork) -> Unmet | None:
    names = repeated_parameters(net)
    return (
        Unmet("no weight twice on a path", f"{names[0]} can act twice on one path", "")
        if names
        else None
    )


UNTIED = Hypothesis(
    "no weight twice on a path", "No parameter acts more than once on any path.", _untied
)


def _single(net: PathNetwork) -> Unmet | None:
    seen: dict[int, set[object]] = {}
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Weighted):
            seen[i] = {net.weights[node.weight].parameter}
            uses = sum(other.weight == node.weight for other in net.weighted)
            if uses > 1:
                return Unmet(
                    "one path a bundle",
                    f"{net.weights[node.weight].name} acts at several places",
                    node.place,
                )
            continue
        if isinstance(node, Input | Constant):
            seen[i] = {"weightless"}
            continue
        met = [seen[k] for k in node.operands]
        if isinstance(node, Sum):
            shape = net.nodes[node.operands[0]].shape
            adds = any(shape[a] > 1 for a in node.axes)
            common = set.intersection(*met) if len(met) > 1 else set()
            if adds or common:
                return Unmet(
                    "one path a bundle",
                    f"{node.name} adds paths that share their weights",
                    node.place,
                )
        seen[i] = set().union(*met)
    return None


SINGLE_PATHS = Hypothesis(
    "one path a bundle", "No two paths to an output share all their weights.", _single
)


def _unscaled(net: PathNetwork) -> Unmet | None:
    for i in net.value_nodes:
        node = net.nodes[i]
        if isinstance(node, Scale) and bool((node.factor != 1).any()):
            return Unmet(
                "no routing constants", f"{node.name} multiplies paths by constants", node.place
            )
    return None


UNSCALED = Hypothesis(
    "no routing constants", "No path is multiplied by a constant other than 1.", _unscaled
)


def _equal_widths(net: PathNetwork) -> Unmet | None:
    chain = dense_chain(net)
    if chain is None:
        return Unmet(
            "equal widths", "the network is no chain of dense layers", net.nodes[net.output].place
        )
    if len(set(chain.hidden)) > 1 or None in chain.gate_of:
        return Unmet(
            "equal widths",
            f"the hidden widths are {chain.hidden}",
            net.nodes[chain.layers[0]].place,
        )
    return None


EQUAL_WIDTHS = Hypothesis(
    "equal widths", "All hidden layers have the same number of units, and gates.", _equal_widths
)


def _linear_features(net: PathNetwork) -> Unmet | None:
    for g in net.value_gates:
        layer = net.gate_layers[g]
        if layer.own or layer.source is None:
            return Unmet(
                "linear feature network",
                f"the gates of {layer.name} are not made by a readable feature network",
                layer.place,
            )
        for i in sorted(net.ancestors([layer.source])):
            node = net.nodes[i]
            if isinstance(node, Gate):
                return Unmet(
                    "linear feature network",
                    f"{node.name} gates the pre-activations of other gates",
                    node.place,
                )
    return None


LINEAR_FEATURES = Hypothesis(
    "linear feature network",
    "Gates are made from pre-activations that are affine in the data.",
    _linear_features,
)


def _skips(net: PathNetwork) -> Unmet | None:
    if identity_skips(net):
        return None
    return Unmet(
        "identity skips",
        "no branch is added to an unweighted detour around it",
        net.nodes[net.output].place,
    )


SKIPS = Hypothesis(
    "identity skips", "Some branches are added to unweighted detours around them.", _skips
)


def _free_units(net: PathNetwork) -> Unmet | None:
    try:
        layers = hidden_layers(net)
    except NotIdentified as error:
        return Unmet("free hidden units", str(error))
    if layers:
        return None
    return Unmet(
        "free hidden units",
        "every unit is on a residual stream, before a batch norm, or read twice",
        "",
    )


FREE_UNITS = Hypothesis(
    "free hidden units", "Some layer's units have weights that act nowhere else.", _free_units
)


def _plain(net: PathNetwork) -> Unmet | None:
    for weight in net.weights:
        if weight.parameter < 0:
            return Unmet("plain weights", f"{weight.name} is computed from parameters", "")
    return None


PLAIN_WEIGHTS = Hypothesis(
    "plain weights", "Weights are parameters, not computed from parameters.", _plain
)
