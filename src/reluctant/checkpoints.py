"""Weights from a file: a checkpoint's state dict, put into the network that it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from reluctant.theory.errors import InputError

_PREFIXES = ("_orig_mod.", "module.")  # what compilation and data parallelism put before all names
_NAMED = 3  # names that a message lists


def load_weights(module: nn.Module, path: Path) -> tuple[str, ...]:
    """Put weights from a file into a network; every name and every shape has to match.

    Args:
        module: Network to change.
        path: A ``.safetensors`` file, or what ``torch.save`` made of a state dict, alone or as the
            only one in a checkpoint. The latter is read with ``weights_only=True``: no code in it
            runs. What wrappers put before all names (``module.``, ``_orig_mod.``), there or in the
            network, makes no difference.

    Returns:
        What a reader must know: under which name the weights stood, which prefix was left out.

    Raises:
        InputError: If the file is of another kind, or its names or shapes are not the network's.
        OSError: If it cannot be read.
    """
    path.open("rb").close()
    notes: list[str] = []
    state = _safe_tensors(path) if path.suffix == ".safetensors" else _saved(path, notes)
    state = _under_own_names(state, module, path, notes)
    faults = [*_faults_of_names(state, module), *_faults_of_shapes(state, module)]
    if faults:
        raise InputError(
            f"cannot put the weights of {path} into {type(module).__name__}: {'; '.join(faults)};"
            " build the network that they were trained in, or give its own file"
        )
    try:
        module.load_state_dict(state, strict=False)
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(
            f"cannot put the weights of {path} into {type(module).__name__}: {said}; expected a"
            " state dict of this very network"
        ) from error
    return tuple(notes)


def _safe_tensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except SafetensorError as error:
        raise InputError(
            f"{path} is no safetensors file: {error}; write one with"
            " safetensors.torch.save_model(module, file)"
        ) from error


def _saved(path: Path, notes: list[str]) -> Mapping[str, Tensor]:
    """Return the state dict that torch saved, alone or as the only one in a checkpoint."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        what = (
            "holds more than tensors, a whole module say, which would run code when read: save"
            " module.state_dict()"
            if "unsupported global" in str(error).lower()
            else "is no saved state dict: write one with torch.save(module.state_dict(), file)"
        )
        raise InputError(f"{path} {what}") from error
    if _is_state(state):
        return state
    inner = (
        {key: s for key, s in state.items() if _is_state(s)} if isinstance(state, Mapping) else {}
    )
    if len(inner) != 1:
        kind = f"a {type(state).__name__}" if not isinstance(state, Mapping) else "no weights"
        held = f"weights under {_listed(map(repr, inner))}" if inner else kind
        raise InputError(
            f"{path} holds {held}; save the state dict that you mean:"
            " torch.save(module.state_dict(), file)"
        )
    ((key, found),) = inner.items()
    notes.append(f"the weights are those under {key!r} in {path.name}")
    return found


def _is_state(entry: Any) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(entry, Mapping)
        and bool(entry)
        and all(isinstance(value, Tensor) for value in entry.values())
    )


def _under_own_names(
    state: Mapping[str, Tensor], module: nn.Module, path: Path, notes: list[str]
) -> Mapping[str, Tensor]:
    """Leave out what a wrapper put before all names, and put the network's own wrapper there."""
    wanted = module.state_dict()
    theirs, ours = _wrapper(state), _wrapper(wanted)
    if theirs == ours or {*state} <= {*wanted}:
        return state
    if theirs:
        notes.append(f"all names in {path.name} begin with {theirs!r}, which is left out")
    if ours:
        notes.append(f"all names of the network begin with {ours!r}, which {path.name} leaves out")
    return {ours + name.removeprefix(theirs): value for name, value in state.items()}


def _wrapper(names: Iterable[str]) -> str:
    """Return what wrappers put before all names, one within another."""
    names, found = list(names), ""
    while names:
        prefix = next((p for p in _PREFIXES if all(n.startswith(found + p) for n in names)), "")
        if not prefix:
            break
        found += prefix
    return found


def _faults_of_names(state: Mapping[str, Tensor], module: nn.Module) -> list[str]:
    """Say which names are missing and which are too many; of shared tensors one name is enough."""
    wanted = module.state_dict(keep_vars=True)
    present = {id(wanted[name]) for name in state if name in wanted}
    missing = [
        name
        for name, tensor in wanted.items()
        if name not in state
        and id(tensor) not in present
        and not name.endswith("num_batches_tracked")  # nothing in evaluation mode reads it
    ]
    unknown = [name for name in state if name not in wanted]
    faults = [f"it has no {_listed(missing)}"] if missing else []
    return [*faults, f"the network has no {_listed(unknown)}"] if unknown else faults


def _faults_of_shapes(state: Mapping[str, Tensor], module: nn.Module) -> list[str]:
    wanted = module.state_dict(keep_vars=True)
    differing = [
        f"{name} is {_size(state[name])} in it and {_size(tensor)} in the network"
        for name, tensor in wanted.items()
        if name in state and not nn.parameter.is_lazy(tensor) and state[name].shape != tensor.shape
    ]
    return [_listed(differing)] if differing else []


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _listed(names: Iterable[str]) -> str:
    """List the first of many names."""
    found = list(names)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more
