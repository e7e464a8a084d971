"""Find and build what a user names on the command line: a network, conjectures, an example."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor, nn

from reluctant.properties.catalogue import statements
from reluctant.theory.errors import InputError
from reluctant.theory.statements import Statement

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


def load_conjectures(place: str) -> tuple[Statement, ...]:
    """Import a file or a module, and return the conjectures in it, in the order of the file.

    Raises:
        InputError: If it cannot be imported, or holds none.
    """
    known = {statement.id for statement in statements()}
    found = (value for value in vars(_imported(place)).values() if isinstance(value, Statement))
    claims = tuple(dict.fromkeys(value for value in found if value.id not in known))
    if not claims:
        raise InputError(
            f'{place} has no conjecture; put @rl.conjecture("one line") above a function of a trial'
        )
    return claims


def read_shape(shape: str) -> tuple[int, ...]:
    """Read the sizes of one input, such as ``3,32,32``.

    Raises:
        InputError: If they are no positive integers.
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
    return tuple(sizes)


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
    sizes = read_shape(shape)
    generator = torch.Generator().manual_seed(seed)
    try:
        example = torch.randn(1, *sizes, generator=generator, dtype=torch.float64)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"an input of shape {shape} does not fit into memory; give --input the sizes of one"
            " input without the batch, such as 3,32,32"
        ) from error
    return like_weights(example, module)


def one_or_all(inputs: Sequence[Tensor]) -> Tensor | Sequence[Tensor]:
    """Return the only one of several inputs as it is."""
    return inputs[0] if len(inputs) == 1 else inputs


def initialise(module: nn.Module, example: Sequence[Tensor]) -> None:
    """Let a lazily built network find out its sizes, from one run.

    Raises:
        InputError: If the run fails.
    """
    if any(nn.parameter.is_lazy(p) for p in [*module.parameters(), *module.buffers()]):
        with torch.no_grad():
            _running("a first run, which lazily built layers need,", lambda: module(*example))


def move(module: nn.Module, device: str) -> None:
    """Move a network to a device that is named as torch names it.

    Raises:
        InputError: If there is no such device here, or the network has no values to move.
    """
    if device.partition(":")[0] == "meta":
        raise InputError("the device 'meta' holds no numbers; --device cpu always works")
    empty = [name for name, p in module.named_parameters() if p.is_meta]
    if empty:
        raise InputError(
            f"{empty[0]} is on the meta device and has no values; build the network on the cpu"
        )
    try:
        module.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"there is no device {device!r} here: {one_line(error)}; --device cpu always works"
        ) from error


def like_weights(inputs: Tensor, module: nn.Module) -> Tensor:
    """Give inputs the type and the device of a network's first floating-point weight.

    Raises:
        InputError: If numbers that are finite are too large for that type.
    """
    kinds = [p for p in module.parameters() if p.dtype.is_floating_point]
    dtype = kinds[0].dtype if kinds else torch.get_default_dtype()
    alike = inputs.to(dtype=dtype, device=kinds[0].device if kinds else None)
    if bool(torch.isfinite(inputs).all()) and not bool(torch.isfinite(alike).all()):
        raise InputError(
            f"the inputs reach {float(inputs.abs().max()):.3g}, too large for the network's"
            f" {alike.dtype}; scale them the way the network was trained"
        )
    return alike


def _imported(place: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    path = Path(place)
    if path.suffix == ".py":
        if not path.is_file():
            raise InputError(f"there is no file {path} (looked in {here})")
        return _running(place, lambda: _from_file(path))
    if "/" in place or place.startswith("."):
        raise InputError(
            f"{place} is neither the name of a module nor a file that ends in .py; name"
            f" my_package.my_module:FACTORY or {place.rstrip('/')}.py:FACTORY"
        )
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
    return _running(f"{target}()", call, "; give a factory that needs no arguments")


def _running(what: str, action: Callable[[], T], on_type_error: str = "") -> T:
    try:
        return action()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if "importlib" not in f.filename and f.filename != __file__]
        where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
        hint = on_type_error if isinstance(error, TypeError) else _hint(error, what)
        raise InputError(
            f"{what} raised {type(error).__name__}{where}: {one_line(error)}{hint}"
        ) from error


def _hint(error: BaseException, what: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and what.startswith(error.name):
        return f" in {Path.cwd()} or where Python looks; name a file as path/to/file.py:FACTORY"
    if isinstance(error, SystemExit):
        return '; put what runs on its own under if __name__ == "__main__"'
    return ""


def one_line(error: BaseException) -> str:
    """Return what an error says on one line, cut where it goes on for long."""
    return " ".join(str(error).split())[:300] or type(error).__name__
