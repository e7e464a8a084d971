"""What other distributions add: found by their entry points, loaded once, refused in one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from reluctant.theory.errors import InputError
from reluctant.theory.places import first_line, user_frame

_PACKAGE = Path(__file__).parents[1]
STATEMENTS, RULES = "reluctant.statements", "reluctant.rules"


@dataclass(frozen=True, slots=True)
class Plugin:
    """Be an entry point of another distribution.

    Attributes:
        group: ``reluctant.statements`` or ``reluctant.rules``.
        name: Its name in the group.
        distribution: Name and version of what it belongs to.
        entry: The entry point itself.
    """

    group: str
    name: str
    distribution: str
    entry: EntryPoint = field(repr=False)

    def load(self) -> object:
        """Import what the entry point names.

        Raises:
            InputError: If that raises.
        """
        try:
            return self.entry.load()
        except (Exception, SystemExit) as error:
            raise self.raised(error, "when it was loaded") from error

    def raised(self, error: BaseException, when: str) -> InputError:
        """Return the error that says what its code raised, and where."""
        said = first_line(error).rstrip(".")
        # What is no Python names its own place, and was never run.
        where = "" if isinstance(error, SyntaxError) else user_frame(error, _PACKAGE)
        return self.refuse(f"raised {type(error).__name__} {when}: {where}{said}")

    def refuse(self, why: str) -> InputError:
        """Return the error that says what is wrong with it, and what to do."""
        owner = self.distribution.partition(" ")[0]
        return InputError(
            f"{self.distribution}: the entry point {self.name!r} in {self.group} {why}; mend it, or "
            f"uninstall {owner}"
        )


@cache
def plugins(group: str) -> tuple[Plugin, ...]:
    """Return the entry points of a group, by distribution and name; none of them is loaded."""
    found = [Plugin(group, e.name, _distribution(e), e) for e in entry_points(group=group)]
    return tuple(sorted(found, key=lambda plugin: (plugin.distribution, plugin.name)))


def listed() -> str:
    """Say in one line how many plugins there are, and which."""
    found = [*plugins(STATEMENTS), *plugins(RULES)]
    names = (f"{p.distribution} ({p.group.rpartition('.')[2]}: {p.name})" for p in found)
    return f"{len(found)}: {', '.join(names)}" if found else "none"


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
