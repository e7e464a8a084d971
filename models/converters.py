"""The gated twins of a user's own module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reluctant.models.choices import one_of
from reluctant.models.gated import ValueInput
from reluctant.models.gates import HARD, FeatureActivation, GateForm, apply_form
from reluctant.models.replaying import Plain, Script, Site, first_of, is_abstract, read_script
from reluctant.theory.errors import InputError
from reluctant.theory.twins import twin


class GatedTwin(nn.Module):
    r"""Run a module's operations twice: once for the gates, once for the values.

    .. math:: f(x) = f_{value}(x;\, G(q_{features}(x)))

    The first run has the parameters of ``features`` and collects the pre-activations q of every
    ReLU; in the second, with the parameters of ``value``, every ReLU is a product with G(q), and
    every max pooling takes the entries that won in the first run. Each shape of input is read
    once and remembered.

    Args:
        value: Module whose parameters are the values.
        features: Module of the same operations whose parameters make the gates; it may be value.
        kind: relu (DGN) or identity (DLGN: ReLUs and max poolings of the first run are replaced by
            the identity and by averages over the windows).
        gate: Hard or Soft.
        value_input: ``x`` or ``ones``.
    """

    def __init__(
        self,
        value: nn.Module,
        features: nn.Module,
        kind: FeatureActivation = FeatureActivation.RELU,
        gate: GateForm = HARD,
        value_input: ValueInput | str = ValueInput.X,
    ) -> None:
        """Check the arguments and make the parts."""
        super().__init__()
        self.value = value
        # torch.func.functional_call does not restore a module that is registered under two names.
        self.own_features = None if features is value else features
        self.kind, self.gate, self.value_input = kind, gate, one_of(ValueInput, value_input)
        self._scripts = _Scripts()

    @property
    def features(self) -> nn.Module:
        """Return the module that makes the gates."""
        return self.value if self.own_features is None else self.own_features

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, of the shape that the module would give.

        Raises:
            InputError: If the module cannot be read on such an input, or torch is exporting this
                network on a shape that it was never called on.
            UnsupportedOperation: If an operation is neither linear nor a ReLU nor a max pooling.
        """
        gates: dict[str, Tensor] = {}

        def multiply(site: Site, q: Tensor, plain: Plain) -> Tensor:
            given = gates[site.name]
            return q * given if site.windows is None else site.windows.gated(q, given)

        script = self._scripts.at(self.value, x)
        self._collect(script, x, gates)
        fed = torch.ones_like(x) if self.value_input is ValueInput.ONES else x
        return script.run(self.value, fed, multiply)

    def pre_activations(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the gating pre-activations of every ReLU, in the order of execution."""
        return self._collect(self._scripts.at(self.value, x), x, {})

    def _collect(self, script: Script, x: Tensor, gates: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Run the features, enter the gates of every site, return the pre-activations of ReLUs."""
        is_linear = self.kind is FeatureActivation.IDENTITY
        found: list[Tensor] = []

        def collect(site: Site, q: Tensor, plain: Plain) -> Tensor:
            if site.windows is not None:
                largest = first_of(plain())
                gates[site.name] = site.windows.winners(q, largest)
                return site.windows.average(q) if is_linear else largest
            found.append(q)
            gates[site.name] = apply_form(self.gate, q)
            return q if is_linear else torch.relu(q)

        script.run(self.features, x, collect)
        return tuple(found)


class _Scripts:
    """Remember what was read. It holds no parameters, so copies of a network may share it."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], Script] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _Scripts:
        return self

    def __reduce__(self) -> tuple[type[_Scripts], tuple[()]]:
        return _Scripts, ()

    def at(self, module: nn.Module, x: Tensor) -> Script:
        # By every name: torch.export shows a submodule under two names as two modules.
        parts = module.named_modules(remove_duplicate=False)
        modes = tuple(part.training for _, part in parts)
        key = (tuple(x.shape), x.dtype, x.device, modes)
        if key not in self.known:
            if is_abstract(x):
                raise InputError(
                    f"a gated twin is read on real numbers before it is exported; call it once on "
                    f"an input of shape {tuple(x.shape)}"
                )
            self.known[key] = read_script(module, x.detach())
        return self.known[key]


def to_dgn(
    module: nn.Module,
    example: Tensor | None = None,
    *,
    features: nn.Module | None = None,
    shared: bool = False,
    frozen: bool = False,
    gate: GateForm = HARD,
    value_input: ValueInput | str = ValueInput.X,
) -> GatedTwin:
    """Make the deep gated network of a user's own module.

    Args:
        module: Module of linear operations, ReLUs (relu, relu_, clamp_min, clamp, threshold,
            maximum with zeros, nn.ReLU) and max poolings. It is copied.
        example: Inputs to read the module on now; otherwise it is read at the first call.
        features: Module of the same class with other weights, to make the gates; a copy of
            ``module`` if None (then gates and values start at the same weights).
        shared: Let features and values be one module with one set of weights. With hard gates
            that is the ReLU network itself (dual.relu-is-dgn).
        frozen: Stop the training of the features.
        gate: Hard or Soft. A hard gate lets no gradient through to the features.
        value_input: ``x`` or ``ones``.

    Returns:
        The twin, in the mode of the module.

    Raises:
        InputError: If shared is combined with features or frozen, parameters differ in name or
            shape, or the example cannot be used.
        UnsupportedOperation: If an operation cannot be read; names it and its place.

    Cost:
        One export for each new shape of input (20 ms for a small module), then two forward passes.

    Source:
        npf, section 4; statements dual.relu-is-dgn, dual.dgn-ntk-split.

    Example:
        >>> module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> torch.equal(to_dgn(module, shared=True)(x), module(x))
        True
    """
    return _twin(
        module, example, FeatureActivation.RELU,
        features=features, shared=shared, frozen=frozen, gate=gate, value_input=value_input,
    )  # fmt: skip


def to_dlgn(
    module: nn.Module,
    example: Tensor | None = None,
    *,
    features: nn.Module | None = None,
    shared: bool = False,
    frozen: bool = False,
    gate: GateForm = HARD,
    value_input: ValueInput | str = ValueInput.X,
) -> GatedTwin:
    """Make the deep linearly gated network of a user's own module.

    Every gating pre-activation is linear in x (affine with biases): in the feature run ReLUs are
    the identity and max poolings average their windows, padding counted as 0.

    Args:
        module: As for :func:`to_dgn`.
        example: As for :func:`to_dgn`.
        features: As for :func:`to_dgn`.
        shared: Let features and values be one module with one set of weights.
        frozen: Stop the training of the features.
        gate: Hard or Soft.
        value_input: ``x`` or ``ones``.

    Returns:
        The twin, in the mode of the module.

    Raises:
        InputError: As :func:`to_dgn` does.
        UnsupportedOperation: As :func:`to_dgn` does.

    Source:
        dlgn, section 5; statement dlgn.primal-linear.
    """
    return _twin(
        module, example, FeatureActivation.IDENTITY,
        features=features, shared=shared, frozen=frozen, gate=gate, value_input=value_input,
    )  # fmt: skip


def _twin(
    module: nn.Module,
    example: Tensor | None,
    kind: FeatureActivation,
    *,
    features: nn.Module | None,
    shared: bool,
    frozen: bool,
    gate: GateForm,
    value_input: ValueInput | str,
) -> GatedTwin:
    if not isinstance(module, nn.Module):
        raise InputError(f"expected a torch.nn.Module, but got {type(module).__name__}")
    if shared and (frozen or features is not None):
        raise InputError(
            "shared=True means one set of weights for gates and values, so they cannot be frozen "
            "apart or come from other features; drop shared, or drop the other"
        )
    if features is not None:
        _require_alike(module, features)
    value = twin(module)
    gating = value if shared else twin(module if features is None else features)
    if frozen:
        gating.requires_grad_(False)
    made = GatedTwin(value, gating, kind, gate, value_input)
    made.training = module.training
    if example is not None:
        with torch.no_grad():
            made(example)
    return made


def _require_alike(module: nn.Module, features: nn.Module) -> None:
    ours = {name: tuple(p.shape) for name, p in module.named_parameters()}
    theirs = {name: tuple(p.shape) for name, p in features.named_parameters()}
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            raise InputError(
                f"features need the parameters of the module, but {name} is "
                f"{theirs.get(name, 'missing')} there and {ours.get(name, 'missing')} here; build "
                "both from the same class and sizes"
            )
