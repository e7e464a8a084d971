"""Find, build and load what a user names on the command line: a network, weights, data."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from reluctant.theory.errors import InputError

T = TypeVar("T")


def make_module(target: str, seed: int = 0) -> nn.Module:
    """Build the network that ``PACKAGE.MODULE:FACTORY`` or ``path/to/file.py:FACTORY`` names.

    The current folder is put first on the search path, as ``python -m`` does.

    Args:
        target: Where the factory is. It may be a class, a function or a module that exists
            already; it is called without arguments, and may be dotted (``Zoo.small``).
        seed: Seed of torch's generator while the factory runs; the generator is put back.

    Returns:
        The network, as the factory left it.

    Raises:
        InputError: If the name leads nowhere, the code raises, or the result is no network.
    """
    place, colon, name = target.rpartition(":")
    if not (colon and place and name):
        raise InputError(
            f"the network is named PACKAGE.MODULE:FACTORY or path/to/file.py:FACTORY, got"
            f" {target!r}; add the name of the class or function after a colon"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = _attribute(_imported(place), place, name)
        torch.manual_seed(seed)  # whatever the import drew, and whether it ran before
        if not isinstance(found, nn.Module):
            found = _called(found, target)
    if not isinstance(found, nn.Module):
        raise InputError(
            f"{target} gave a {type(found).__name__}, expected a torch.nn.Module; name a module,"
            " a class of modules or a function that returns one"
        )
    return found


def load_weights(module: nn.Module, path: Path) -> None:
    """Put weights from a file into a network; every name has to match.

    Args:
        module: Network to change.
        path: A ``.safetensors`` file, or what ``torch.save`` made of a state dict. The latter is
            read with ``weights_only=True``: no code in it runs.

    Raises:
        InputError: If the file is of another kind, or its names or shapes are not the network's.
        OSError: If it cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_model

            load_model(module, str(path))
        else:
            module.load_state_dict(_state(path))
    except OSError:
        raise
    except Exception as error:
        raise InputError(
            f"cannot put the weights of {path} into {type(module).__name__}: {_one_line(error)};"
            " expected a .safetensors file or a saved state dict of this very network"
        ) from error


def load_inputs(path: Path) -> Tensor:
    """Read inputs from an ``.npz`` file: the array ``x``, or the only one.

    Args:
        path: File with an array of shape (n, ...), n ≥ 1, of floating point.

    Returns:
        The array, of its own type.

    Raises:
        InputError: If there is no such array.
        OSError: If the file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise InputError(
                    f"{path} holds one bare array; save it with numpy.savez(file, x=x)"
                )
            names = list(archive.files)
            if "x" not in names and len(names) != 1:
                raise InputError(
                    f"{path} holds {', '.join(names) or 'nothing'}; call the inputs 'x'"
                )
            array = archive["x" if "x" in names else names[0]]
    except ValueError as error:
        raise InputError(f"{path} is no .npz file of plain arrays: {_one_line(error)}") from error
    if array.ndim < 2 or len(array) == 0:
        raise InputError(f"{path} has inputs of shape {array.shape}; expected (n, ...) with n >= 1")
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"{path} has inputs of type {array.dtype}; networks take floating point: scale them"
            " the way the network was trained, then save"
        )
    return torch.from_numpy(array)


def make_example(shape: str, module: nn.Module, seed: int = 0) -> Tensor:
    """Draw one input of a given shape, standard normal.

    Args:
        shape: Sizes without the batch, such as ``3,32,32``.
        module: Network whose type and device the input takes.
        seed: Seed of the draw.

    Returns:
        Input of shape (1, ...).

    Raises:
        InputError: If the shape is not a list of positive integers.
    """
    try:
        sizes = [int(size) for size in shape.replace("x", ",").split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise InputError(
            "--input takes the sizes of one input without the batch, such as 3,32,32; got"
            f" {shape!r}"
        )
    generator = torch.Generator().manual_seed(seed)
    example = torch.randn(1, *sizes, generator=generator, dtype=torch.float64)
    return like_weights(example, module)


def move(module: nn.Module, device: str) -> None:
    """Move a network to a device that is named as torch names it.

    Raises:
        InputError: If there is no such device here.
    """
    try:
        module.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"there is no device {device!r} here: {_one_line(error)}; --device cpu always works"
        ) from error


def like_weights(inputs: Tensor, module: nn.Module) -> Tensor:
    """Give inputs the type and the device of a network's first floating-point weight."""
    for weight in module.parameters():
        if weight.is_floating_point():
            return inputs.to(weight)
    return inputs.to(torch.get_default_dtype())


def _imported(place: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    path = Path(place)
    if path.suffix == ".py":
        if not path.is_file():
            raise InputError(f"there is no file {path} (looked in {here})")
        return _running(place, lambda: _from_file(path))
    return _running(place, lambda: importlib.import_module(place))


def _from_file(path: Path) -> ModuleType:
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickles look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _attribute(module: ModuleType, place: str, name: str) -> object:
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            networks = sorted(n for n, v in vars(module).items() if _is_own_network(v, module))
            hint = f"; its networks are {', '.join(networks)}" if networks else ""
            raise InputError(f"{place} has no {name!r}{hint}")
        found = getattr(found, part)
    return found


def _is_own_network(value: object, module: ModuleType) -> bool:
    is_class = isinstance(value, type) and issubclass(value, nn.Module)
    return isinstance(value, nn.Module) or (
        is_class and getattr(value, "__module__", None) == module.__name__
    )


def _called(factory: object, target: str) -> object:
    if not callable(factory):
        return factory
    call: Callable[[], object] = factory
    return _running(f"{target}()", call)


def _running(what: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except InputError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if "importlib" not in f.filename and f.filename != __file__]
        where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
        raise InputError(
            f"{what} raised {type(error).__name__}{where}: {_one_line(error)}"
            + (
                "; a factory is called without arguments, so give one that needs none"
                if isinstance(error, TypeError)
                else ""
            )
        ) from error


def _state(path: Path) -> Mapping[str, Any]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise InputError(f"holds a {type(state).__name__}, not a state dict")
    return state


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
