"""The errors that a caller can get: each says what, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class ReluctantError(Exception):
    """Be the base of every error that this package raises on purpose."""


class InputError(ReluctantError, ValueError):
    """Say that an argument has a wrong shape, type, device or value, and what would be right."""


class UnsupportedOperation(ReluctantError, TypeError):
    """Say which operation cannot be read as part of a path network, and where it stands.

    Attributes:
        operation: Name of the operation, such as ``aten.gelu.default``.
        where: Place in the user's source, such as ``my_net.py:31``, or the module's path.
        node: Name of the operation's node in the exported graph; empty if it is none.
        parts: Names of tensors before it that may be readable, as :func:`reluctant.until` takes
            them, best first.
        until: Name of the largest of them that can be read; empty if none can.
    """

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        where: str = "",
        node: str = "",
        parts: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.operation = operation
        self.where = where
        self.node = node
        self.parts = tuple(parts)
        self.until = ""


class TooManyPaths(ReluctantError, ValueError):
    """Say that an explicit route would have to go through more paths than its stated limit.

    Attributes:
        count: Exact number of paths.
        limit: Number that the route accepts.
    """

    def __init__(self, message: str, *, count: int, limit: int) -> None:
        super().__init__(message)
        self.count = count
        self.limit = limit


class NotIdentified(ReluctantError, ValueError):
    """Say that a fast route has no right to its answer on this network, and which route has."""
