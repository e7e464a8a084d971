"""Independent pieces of work, done in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import joblib
import torch

Result = TypeVar("Result")


def processes() -> int:
    """Return how many processes keep this machine busy: one beside an accelerator, else its cores."""
    return 1 if torch.cuda.is_available() else int(joblib.cpu_count())


def finished(
    work: Callable[..., Result], arguments: Sequence[tuple[Any, ...]], workers: int = 1
) -> Iterator[Result]:
    """Yield the results of a function on each of its argument lists, as they come.

    Each piece computes with one thread, so that a result does not depend on the number of workers.

    Args:
        work: Function to call; where there are several workers it travels by cloudpickle.
        arguments: One tuple a call.
        workers: Number of processes. With 1 all is done here, in order, and lazily; with more,
            the order is that in which they finish.
    """
    if workers == 1 or len(arguments) < 2:
        yield from (_single_threaded(work, *each) for each in arguments)
        return
    pool = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch="all")
    yield from pool(joblib.delayed(_single_threaded)(work, *each) for each in arguments)


def _single_threaded(work: Callable[..., Result], *arguments: Any) -> Result:
    with single_thread():
        return work(*arguments)


@contextmanager
def single_thread() -> Iterator[None]:
    """Let torch compute with one thread, and put its number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
