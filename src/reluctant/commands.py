"""Lines of shell that do again what was done."""

from __future__ import annotations

import shlex
from collections.abc import Mapping


def line_of(target: str, options: Mapping[str, object]) -> str:
    """Return the line that checks a network with these options; those that are None or False are not given."""
    parts = ["reluctant", "check", target]
    for name, value in options.items():
        if value is True:
            parts.append(name)
        elif value is not None and value is not False:
            for given in value if isinstance(value, list) else [value]:
                parts += [name, str(given)]
    return shlex.join(parts)
