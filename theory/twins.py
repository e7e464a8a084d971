"""Running a module without leaving a trace on it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn


def twin(module: nn.Module) -> nn.Module:
    """Copy a module with all that a run could change: parameters, buffers, attributes and hooks.

    Functions that the module keeps and that reach it or its parts by themselves, such as a forward
    put on the instance or a hook, are copied too, and see the copy. What Python cannot copy, a lock
    or an open file say, is shared: what a run does to it, or to anything that is no part of the
    module, such as a list to which a hook appends, is not undone.

    Args:
        module: Module; it is not run.

    Cost:
        The memory of its parameters and buffers.
    """
    own = {id(part) for part in module.modules()}
    own |= {id(t) for t in (*module.parameters(), *module.buffers())}
    functions = [f for f in _functions(module) if _reaches(f, own)]
    with torch.inference_mode(False):
        copies: dict[int, Any] = {id(f): _hollow(f) for f in functions}
        attempt = dict(copies)
        try:
            made: nn.Module = copy.deepcopy(module, attempt)
        except Exception:  # whatever a user's attribute raises when copied
            attempt, made = copies, _piecewise(module, copies)
        for function in functions:
            _fill(function, attempt, own)
        for part in module.modules():
            if id(part) in attempt:
                _rebind(part, attempt)
    return made


@contextmanager
def differentiable() -> Iterator[None]:
    """Record gradients, whatever the caller switched off around the call."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _piecewise(module: nn.Module, copies: dict[int, Any]) -> nn.Module:
    """Copy what can be copied of every part, and share the rest."""
    parts = list(module.modules())
    for part in parts:
        copies[id(part)] = type(part).__new__(type(part))
    for part in parts:
        vars(copies[id(part)]).update({k: _piece(v, copies) for k, v in vars(part).items()})
    made: nn.Module = copies[id(module)]
    return made


def _piece(value: Any, copies: dict[int, Any]) -> Any:
    attempt = dict(copies)  # a copy that fails leaves halves behind
    try:
        made = copy.deepcopy(value, attempt)
    except Exception:
        if isinstance(value, Tensor) and not nn.parameter.is_lazy(value):  # which holds nothing yet
            return value.detach().clone()
        if isinstance(value, dict):
            return type(value)((k, _piece(v, copies)) for k, v in value.items())
        return [_piece(v, copies) for v in value] if type(value) is list else value
    copies.update(attempt)
    return made


def _functions(module: nn.Module) -> list[FunctionType]:
    """Return the functions that a module and its parts keep, and those that these keep."""
    todo: list[Any] = [vars(part) for part in module.modules()]
    seen: dict[int, Any] = {}
    while todo:
        value = todo.pop()
        if id(value) not in seen:
            seen[id(value)] = value
            todo.extend(_kept(value))
    return [value for value in seen.values() if isinstance(value, FunctionType)]


def _reaches(value: Any, own: set[int]) -> bool:
    """Tell whether a value is a part of a module, or keeps one."""
    todo, seen = [value], set[int]()
    while todo:
        value = todo.pop()
        if id(value) in own:
            return True
        if id(value) not in seen:
            seen.add(id(value))
            todo.extend(_kept(value))
    return False


def _kept(value: Any) -> Iterator[Any]:
    """Go through what a function, a container or a module keeps."""
    if isinstance(value, FunctionType):
        yield from (cell.cell_contents for cell in value.__closure__ or () if _is_full(cell))
        yield from (value.__defaults__, value.__kwdefaults__)
        yield from _named(value).values()
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, nn.Module):
        yield from value.children()
    elif isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value


def _named(function: FunctionType) -> dict[str, Any]:
    """Return the globals that a function names, without the functions of other files."""
    known = function.__globals__
    names = (name for name in _names(function.__code__) if name in known)
    return {
        name: known[name]
        for name in names
        if not isinstance(known[name], FunctionType) or known[name].__globals__ is known
    }


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_full(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _hollow(function: FunctionType) -> FunctionType:
    """Return a function of the same code that reaches nothing yet."""
    cells = tuple(CellType() for _ in function.__closure__ or ())
    known = {**function.__globals__}
    made = FunctionType(function.__code__, known, function.__name__, None, cells)
    made.__qualname__ = function.__qualname__
    vars(made).update(vars(function))
    return made


def _fill(function: FunctionType, copies: dict[int, Any], own: set[int]) -> None:
    """Give the copy of a function the copies of what the function reaches, and the rest as it is."""

    def seen(value: Any) -> Any:
        return _piece(value, copies) if _reaches(value, own) else value

    made: FunctionType = copies[id(function)]
    for cell, other in zip(function.__closure__ or (), made.__closure__ or (), strict=True):
        if _is_full(cell):
            other.cell_contents = seen(cell.cell_contents)
    made.__defaults__, made.__kwdefaults__ = (
        seen(function.__defaults__),
        seen(function.__kwdefaults__),
    )
    made.__globals__.update({name: seen(value) for name, value in _named(function).items()})


def _rebind(part: nn.Module, copies: dict[int, Any]) -> None:
    """Give the copy of a part the methods put on it with the copies of their functions."""
    for name, value in vars(part).items():
        if isinstance(value, MethodType) and id(value.__func__) in copies:
            method = MethodType(copies[id(value.__func__)], _piece(value.__self__, copies))
            vars(copies[id(part)])[name] = method
