"""Measuring what a computation takes while it runs, and stopping it before it takes too much."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only
from torch.utils.flop_counter import flop_registry

from reluctant.theory.costs import UNLIMITED, Cost
from reluctant.theory.statements import CannotTry


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

    @property
    def cost(self) -> Cost:
        """Return what was taken so far."""
        return Cost(passes=self.products, bytes=float(self.peak))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, if what it makes fits."""
        kwargs = kwargs or {}
        views = any(made.alias_info is not None for made in func._schema.returns)
        if not views and self.held + 8 * _most_entries(args, kwargs) > self.limit.bytes:
            self._stop_beyond(0.0, self.held + _foreseen(func, args, kwargs))
        result = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            count = flop_registry[func._overloadpacket]
            self.products += count(*args, **kwargs, out_val=result) / 2
        if not views:
            for tensor in _tensors(result):
                self._hold(tensor)
        self._stop_beyond(self.products, self.held)
        return result

    def _stop_beyond(self, products: float, held: float) -> None:
        why = Cost(passes=products, bytes=held).beyond(self.limit)
        if why:
            raise CannotTry(f"stopped at {why}")

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


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_iter(values) if isinstance(value, Tensor))


def _most_entries(args: Any, kwargs: Any) -> float:
    """Bound the entries of what any operation makes of its arguments."""
    total = 1.0
    for value in tree_iter((args, kwargs)):
        if isinstance(value, Tensor):
            total *= max(1, value.numel())
        elif isinstance(value, int):
            total *= max(1, abs(value))
    return total


def _foreseen(func: Any, args: Any, kwargs: Any) -> float:
    """Return the bytes of what an operation would make, found without its numbers."""

    def shape_of(tensor: Tensor) -> Tensor:
        return torch.empty_strided(
            tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta"
        )

    there = {**kwargs, "device": "meta"} if "device" in kwargs else kwargs
    try:
        made = func(
            *tree_map_only(Tensor, shape_of, args), **tree_map_only(Tensor, shape_of, there)
        )
    except (NotImplementedError, RuntimeError):  # the size depends on the numbers: at most theirs
        return 0.0
    return float(sum(t.numel() * t.element_size() for t in _tensors(made)))
