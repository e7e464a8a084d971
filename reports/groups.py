"""Groups: networks of one build, run as one so that small ones fill a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from reluctant.reports.execution import Execution
from reluctant.theory.errors import InputError


class Group:
    """Run s networks that differ in parameters and buffers alone, each on a batch of its own.

    Their tensors are stacked, and what a network does once is done to all of them at once; a single
    network is run as it is, in place. Statistics of a batch stay each network's own.

    Args:
        networks: At least one.
        execution: Where and how.

    Raises:
        InputError: If two networks are built differently; says where.
    """

    def __init__(self, networks: Sequence[nn.Module], execution: Execution) -> None:
        """Stack the tensors."""
        first = networks[0]
        for index, other in enumerate(networks[1:], 1):
            place = first_difference(first, other)
            if place is not None:
                raise InputError(
                    f"network {index} is built differently from network 0 ({place}); train them "
                    "one after the other"
                )
        self.networks = networks
        self.execution = execution
        alone = len(networks) == 1
        if alone:
            _move(first, execution)
        self.parameters: dict[str, Tensor] = dict(first.named_parameters())
        self.buffers = dict(first.named_buffers())
        if not alone:
            self.parameters = {
                name: _stacked([n.get_parameter(name) for n in networks], execution)
                for name in self.parameters
            }
            self.buffers = {
                name: _stacked([n.get_buffer(name) for n in networks], execution)
                for name in self.buffers
            }
        tensors = (*self.parameters.values(), *self.buffers.values())
        kinds = (t.dtype for t in tensors if t.is_floating_point())
        self.dtype = next(kinds, torch.get_default_dtype())  # of the numbers that go in and out
        self._run = execution.prepared(self._alone if alone else self._together)

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(self.networks)

    def __call__(self, x: Float[Tensor, "s n *shape"]) -> Float[Tensor, "s*n classes"]:
        """Return the outputs at each network's own batch, one network after another."""
        return self._run(self.execution.images(x)).to(self.dtype)

    def _alone(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.networks[0](x.flatten(0, 1))
        return outputs

    def _together(self, x: Tensor) -> Tensor:
        outputs: Tensor = vmap(self._one)(self.parameters, self.buffers, x)
        return outputs.flatten(0, 1)

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self.networks[0], (parameters, buffers), (x,))
        return outputs

    @property
    def trained(self) -> dict[str, Tensor]:
        """Return the parameters that need a gradient, by name."""
        return {name: p for name, p in self.parameters.items() if p.requires_grad}

    def train(self, mode: bool) -> None:
        """Put the networks into training or evaluation mode."""
        self.networks[0].train(mode)

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and buffers as they are now, the network as first axis; no copies."""
        whole = {
            **{f"parameter/{name}": p for name, p in self.parameters.items()},
            **{f"buffer/{name}": b for name, b in self.buffers.items()},
        }
        return {key: self.by_network(t.detach()) for key, t in whole.items()}

    def by_network(self, t: Tensor) -> Tensor:
        """Return a tensor shaped as a parameter here with the network as first axis; no copy."""
        return t.unsqueeze(0) if len(self) == 1 else t

    def write_back(self) -> None:
        """Give every network its own tensors, on the device, and put it into evaluation mode."""
        for index, network in enumerate(self.networks):
            _move(network, self.execution)
            own = {
                **{f"parameter/{name}": p for name, p in network.named_parameters()},
                **{f"buffer/{name}": b for name, b in network.named_buffers()},
            }
            for key, t in self.tensors().items():
                own[key].detach().copy_(t[index])
            network.eval()


def first_difference(module: nn.Module, other: nn.Module, place: str = "network") -> str | None:
    """Return where two modules differ in more than numbers in parameters and buffers, or None."""
    if type(module) is not type(other):
        return f"{place}: {type(module).__name__} and {type(other).__name__}"
    mine, others = _registered(module), _registered(other)
    for name in mine.keys() | others.keys():
        if _kind(mine.get(name)) != _kind(others.get(name)):
            return f"{place}.{name}: {_kind(mine.get(name))} and {_kind(others.get(name))}"
    parts = dict(other.named_children())
    if list(parts) != [name for name, _ in module.named_children()]:
        return f"{place}: other parts"
    for name, part in module.named_children():
        found = first_difference(part, parts[name], f"{place}.{name}")
        if found is not None:
            return found
    states = (_plain_attributes(m) for m in (module, other))
    return None if _same(*states) else f"{place}: other attributes"


def _registered(module: nn.Module) -> dict[str, Tensor]:
    return dict((*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)))


def _kind(t: Tensor | None) -> tuple[object, ...] | None:
    return None if t is None else (tuple(t.shape), t.dtype, t.requires_grad)


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    """Return what a module holds beside what torch registers, and beside its mode."""
    registers = nn.Module().__dict__.keys()
    return {name: value for name, value in vars(module).items() if name not in registers}


def _same(one: Any, other: Any) -> bool:
    """Say whether two attributes have the same effect, as far as equality can tell."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, nn.Module):
        return first_difference(one, other) is None
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if is_dataclass(one):
        return all(_same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return bool(one == other)


def _move(network: nn.Module, execution: Execution) -> None:
    network.to(execution.device)
    for p in network.parameters() if execution.channels_last else ():
        if p.ndim == 4:
            p.data = p.data.contiguous(memory_format=torch.channels_last)


def _stacked(members: Sequence[Tensor], execution: Execution) -> Tensor:
    """Stack one tensor of every network; a leaf that is trained if they are."""
    whole = torch.stack([t.detach().to(execution.device) for t in members])
    return execution.kernels(whole).requires_grad_(members[0].requires_grad)
