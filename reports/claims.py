"""Claims: what one process is doing, no other process does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reluctant.theory.errors import InputError

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes may then do the same work
    fcntl = None  # type: ignore[assignment]


@contextmanager
def claimed(path: Path, *, wait: bool) -> Iterator[bool]:
    """Claim a result for this process; the system takes the claim back if the process dies.

    Args:
        path: Where the result will be; the claim is a file beside it, gone afterwards.
        wait: Whether to wait while another process has it.

    Yields:
        Whether the claim was had.

    Raises:
        InputError: If the folder cannot be written.
    """
    lock = path.with_suffix(".lock")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = lock.open("ab")
        except OSError as error:
            raise InputError(
                f"records cannot be written to {path.parent} ({error.strerror}); choose another folder"
            ) from error
        with handle:
            if fcntl is not None:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except BlockingIOError:
                    yield False
                    return
                if not _is_still(lock, handle.fileno()):
                    continue  # who had it before has removed the file that was locked here
            try:
                yield True
            finally:
                lock.unlink(missing_ok=True)
            return


def _is_still(path: Path, descriptor: int) -> bool:
    """Tell whether a file that is open stands under its name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
