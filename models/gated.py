"""The one gate mechanism: a value network, and where its gates come from."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor, nn

from reluctant.models.architectures import Architecture
from reluctant.models.choices import one_of
from reluctant.models.gates import (
    HARD,
    Activation,
    FeatureActivation,
    GateForm,
    GivenGates,
    Hard,
    OwnGates,
    Recorder,
)
from reluctant.models.sources import FeatureNetwork, GateSource, RecordedMasks
from reluctant.theory.errors import InputError


class ValueInput(StrEnum):
    """Name what the value network is fed."""

    X = "x"
    ONES = "ones"


class GatedNetwork(nn.Module):
    r"""Run a value network with gates from a source.

    .. math:: z_l = G_{\pi(l)}(x) \odot (W_l z_{l-1} + b_l), \qquad z_0 = x \text{ or } \mathbf{1}

    Args:
        value: Architecture of the value network.
        gates: Where gates come from: None for the network's own pre-activations (a DNN), or a
            feature network (DGN, DLGN), shallow maps (DLGN-SF), recorded masks.
        gate: Hard, or soft with β and ε. Recorded masks are factors already and ignore it.
        order: π, a permutation: layer l takes the gates that the source made for layer order[l].
        value_input: ``x``, or ``ones`` for a vector of ones in place of x.

    Raises:
        InputError: If the shapes of the gate layers do not match under the order, the order is no
            permutation, own gates are to be permuted or fed ones, the value network pools by
            maximum and the source has no winners, or a frozen source shares trained parameters.

    Source:
        npf, section 4 (DGN); dlgn, section 5 (DLGN, order, constant input).

    Example:
        >>> from reluctant.models import FeatureNetwork, make_fc
        >>> draws = torch.Generator().manual_seed(0)
        >>> value = make_fc(2, [3, 3], generator=draws)
        >>> shared = GatedNetwork(value, FeatureNetwork(value))
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> torch.equal(shared(x), value(x))  # hard gates, one set of weights: the ReLU network
        True
    """

    def __init__(
        self,
        value: Architecture,
        gates: GateSource | None = None,
        gate: GateForm = HARD,
        *,
        order: Sequence[int] | None = None,
        value_input: ValueInput | str = ValueInput.X,
    ) -> None:
        """Check the arguments and make the parts."""
        super().__init__()
        self.value = value
        self.gates = gates
        self.gate = gate
        self.order = None if order is None else tuple(order)
        self.value_input = one_of(ValueInput, value_input)
        self.frozen_values = False
        if gates is None:
            self._require_own()
        else:
            self._require_match(gates)
            self._require_apart(gates)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs.

        Args:
            x: (n, *input_shape), floating.

        Returns:
            (n, outputs).
        """
        self.value.require_input(x)
        output: Tensor = self.value(self._fed(x), self.activation(x))
        return output

    def freeze_values(self) -> GatedNetwork:
        """Stop the training of the values, so that the gates alone learn.

        The values get no gradients, and statistics of their BatchNorms are held.

        Returns:
            The network itself.

        Raises:
            InputError: If nothing would learn: gates of the network's own, hard or fixed ones, or
                ones whose parameters are the values.

        Source:
            dgn, section 5.
        """
        held = {id(parameter) for parameter in self.value.parameters()}
        learning = [] if self.gates is None else list(self.gates.parameters())
        if isinstance(self.gate, Hard) or not any(
            p.requires_grad and id(p) not in held for p in learning
        ):
            raise InputError(
                "with its values frozen nothing of this network would learn; give it soft gates "
                "from a source with trained parameters of its own, as DLNPF has"
            )
        self.frozen_values = True
        self.value.requires_grad_(False)
        self.value.eval()
        return self

    def train(self, mode: bool = True) -> GatedNetwork:
        """Set the mode of the network, but for values that are frozen."""
        super().train(mode)
        if self.frozen_values:
            self.value.eval()
        return self

    def extra_repr(self) -> str:
        """Return the choices that are no modules."""
        return f"gate={self.gate}, order={self.order}, value_input='{self.value_input}'"

    def activation(self, x: Tensor) -> Activation:
        """Return what decides the gates of the value network at x."""
        if self.gates is None:
            return OwnGates(self.gate)
        given: GivenGates = self.gates(x, self.gate, self.order)
        return given

    def _fed(self, x: Tensor) -> Tensor:
        return torch.ones_like(x) if self.value_input is ValueInput.ONES else x

    def _require_own(self) -> None:
        if self.order is not None:
            raise InputError(
                "own gates have no other order: a layer's gates come from its own pre-activations; "
                "record the masks first (record_masks), then permute those"
            )
        if self.value_input is ValueInput.ONES:
            raise InputError(
                "with own gates and value_input='ones' the network would never see x; take gates "
                "from a feature network, shallow maps or recorded masks"
            )

    def _require_match(self, gates: GateSource) -> None:
        wanted, offered = self.value.gate_shapes, gates.gate_shapes
        order = self.order if self.order is not None else tuple(range(len(wanted)))
        if len(wanted) != len(offered):
            raise InputError(
                f"the value network has {len(wanted)} gate layers, but the gates come for "
                f"{len(offered)}; give both networks the same depth"
            )
        if sorted(order) != list(range(len(wanted))):
            raise InputError(
                f"order needs a permutation of 0, …, {len(wanted) - 1}, but got {tuple(order)}"
            )
        for layer, taken in enumerate(order):
            if wanted[layer] != offered[taken]:
                raise InputError(
                    f"gate layer {layer} of the value network has shape {wanted[layer]}, but layer "
                    f"{taken} of the gates has {offered[taken]}; only layers of equal shape can "
                    "take each other's gates, so give them equal widths or keep their order"
                )
        if self.value.pooled_layer is not None and not gates.has_winners:
            raise InputError(
                "the value network has a global max pooling, but the gates bring no winners; give "
                "the feature network the same pooling, or RecordedMasks a winner_mask"
            )

    def _require_apart(self, gates: GateSource) -> None:
        if not (isinstance(gates, FeatureNetwork) and gates.frozen):
            return
        held = {id(parameter) for parameter in gates.parameters()}
        for name, parameter in self.value.named_parameters():
            if id(parameter) in held:
                raise InputError(
                    f"a frozen feature network shares {name} with the value network, which would "
                    "freeze with it; copy the network (copy.deepcopy) or leave it unfrozen"
                )


def record_masks(network: nn.Module, x: Tensor) -> RecordedMasks:
    """Run a network and keep the gates that its value network was given.

    Args:
        network: An architecture (own hard gates) or a gated network.
        x: (n, *input_shape).

    Returns:
        Masks that, in a :class:`GatedNetwork` with the same value network, reproduce its output.

    Raises:
        InputError: If the network is neither.
    """
    if isinstance(network, GatedNetwork) and network.gates is not None:
        with torch.no_grad():
            given = network.gates(x, network.gate, network.order)
        return RecordedMasks(given.masks, given.winners)
    value: nn.Module = network
    form: GateForm = HARD
    if isinstance(network, GatedNetwork):
        value, form = network.value, network.gate
    if not isinstance(value, Architecture):
        raise InputError(
            f"masks can be recorded of an Architecture or a GatedNetwork, but got "
            f"{type(network).__name__}; use to_dgn for your own module"
        )
    recorder = Recorder(FeatureActivation.GATED, form)
    with torch.no_grad():
        value(x, recorder)
    given = recorder.gates(form)
    return RecordedMasks(given.masks, given.winners)
