"""The papers: one BibTeX file that the paper, the page and the user's own LaTeX share."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from reluctant.theory.errors import InputError

#: What is written for keys that no entry of the bibliography has.
DRAFTS: Final = {
    "all": "all papers",
    "dlgn-draft": "an unpublished draft of dlgn",
    "oblique": "a follow-up of dlgn",
}
_ENTRY: Final = re.compile(r"@(\w+)\{(\w+),\n(.*?)\n\}", re.DOTALL)
_FIELD: Final = re.compile(r"^\s*(\w+) = \{(.*)\},?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reference:
    """Carry one entry of the bibliography, as it is printed on the page."""

    key: str
    authors: tuple[str, ...]
    title: str
    venue: str
    year: str
    arxiv: str

    @property
    def byline(self) -> str:
        """Return the authors as one reads them."""
        names = ["et al." if name == "others" else name for name in self.authors]
        if len(names) > 1 and names[-1] != "et al.":
            return f"{', '.join(names[:-1])} and {names[-1]}"
        return " ".join(names) if names[-1:] == ["et al."] else ", ".join(names)


def bibliography() -> str:
    """Return the BibTeX file."""
    return files("reluctant.reports").joinpath("references.bib").read_text(encoding="utf-8")


@functools.cache
def references() -> dict[str, Reference]:
    """Return the entries by key, in the order of the file."""
    found = {}
    for _, key, body in _ENTRY.findall(bibliography()):
        fields = {name: value.replace("{", "").replace("}", "") for name, value in
                  _FIELD.findall(body)}  # fmt: skip
        volume = f" {fields['volume']}" if "volume" in fields else ""
        authors = tuple(
            " ".join(reversed(name.split(", "))) for name in fields["author"].split(" and ")
        )
        venue = f"{fields['booktitle']}{volume}" if "booktitle" in fields else ""
        found[key] = Reference(
            key,
            authors,
            fields["title"],
            venue or fields.get("note", ""),
            fields["year"],
            fields.get("eprint", ""),
        )
    return found


def split_source(source: str) -> tuple[str, str]:
    """Split ``npf, theorem 5.1`` into the key of a paper and the place in it.

    A source that begins with no known key, such as a remark, has an empty key.
    """
    key, _, place = source.partition(",")
    if key.strip() in references():
        return key.strip(), place.strip()
    return "", source.strip()


def number(key: str) -> int:
    """Return the number of a reference on the page.

    Raises:
        InputError: If the bibliography has no such key.
    """
    keys = list(references())
    if key not in keys:
        raise InputError(f"no reference has the key {key!r}; there are {', '.join(keys)}")
    return keys.index(key) + 1
