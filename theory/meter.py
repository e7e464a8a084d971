"""Measuring what a computation takes while it runs, and stopping it before it takes too much."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from reluctant.theory.costs import UNLIMITED, Cost
from reluctant.theory.statements import CannotTry

_COUNTS = flop_registry | {torch.ops.aten._int_mm: flop_registry[torch.ops.aten.mm]}


class Meter(TorchDispatchMode):
    """Count the multiply-adds of a block and the bytes of the tensors that it makes and holds.

    An operation whose result would exceed the limit is not begun. Memory that an operation takes
    and gives back inside itself is not seen.

    Attributes:
        limit: What the block may take; :class:`CannotTry` is raised beyond.
        products: Multiply-adds of matrix products and convolutions so far.
        held: Bytes of the tensors made in the block that are still there.
        peak: Largest number of bytes held.

    Cost:
        A few microseconds a tensor operation.
    """

    def __init__(self, limit: Cost = UNLIMITED) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit = limit
        self.products, self.held, self.peak = 0.0, 0, 0
        self._storages: dict[int, weakref.ref[Any]] = {}
        self._foreseen: dict[Any, tuple[float, int]] = {}

    @property
    def cost(self) -> Cost:
        """Return what was taken so far."""
        return Cost(passes=self.products, bytes=float(self.peak))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, if what it makes fits."""
        kwargs = kwargs or {}
        if _is_view(func):
            return func(*args, **kwargs)
        key = (func, *_shapes(args), *_shapes(kwargs.values()))
        if key not in self._foreseen:
            self._foreseen[key] = _foreseen(func, args, kwargs)
        products, size = self._foreseen[key]
        if self.products + products > self.limit.passes or self.held + size > self.limit.bytes:
            whole = Cost(passes=self.products + products, bytes=float(self.held + size))
            raise CannotTry(f"stopped at {whole.beyond(self.limit)}")
        self.products += products
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            if not tensor.is_meta:
                self._hold(tensor)
        return result

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._storages:
            return

        def let_go(_: object) -> None:
            del self._storages[key]
            self.held -= size

        self._storages[key] = weakref.ref(storage, let_go)
        self.held += size
        self.peak = max(self.peak, self.held)


@cache
def _is_view(func: Any) -> bool:
    """Tell whether an operation makes nothing: its result is, or is a part of, an argument."""
    return any(made.alias_info is not None for made in func._schema.returns)


def _shapes(values: Any) -> Iterator[Any]:
    """Yield what the size of a result depends on, but for the numbers in tensors."""
    for value in values:
        if isinstance(value, Tensor):
            yield value.shape, value.dtype
        elif isinstance(value, list | tuple):
            yield (type(value), *_shapes(value))
        elif not isinstance(value, float):
            yield value


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values if isinstance(values, list | tuple) else (values,):
        if isinstance(value, Tensor):
            yield value


def _foreseen(func: Any, args: Any, kwargs: Any) -> tuple[float, int]:
    """Return the multiply-adds of an operation and the bytes that it would make.

    They are found without its numbers. Where the size depends on these, it is at most that of what
    is there already, and taken for 0.
    """
    args, kwargs = tree_map_only(Tensor, _hollow, (args, kwargs))
    if str(kwargs.get("device")) == "meta":
        return 0.0, 0
    if "device" in kwargs:
        kwargs["device"] = "meta"
    try:
        made = func(*args, **kwargs)
    except (NotImplementedError, RuntimeError):
        return 0.0, 0
    count = _COUNTS.get(func._overloadpacket)
    products = count(*args, **kwargs, out_val=made) / 2 if count else 0.0
    return products, sum(t.numel() * t.element_size() for t in _tensors(made))


def _hollow(tensor: Tensor) -> Tensor:
    """Return a tensor of the same shape without numbers."""
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
