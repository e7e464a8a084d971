"""Names of a table's numbers, TABLE.ROW.COLUMN, made of the words around them."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

from reluctant.reports.exhibits import Cell, Column, Table
from reluctant.reports.prose import without_markup

_LONGEST: Final = 60


def slug(text: str) -> str:
    """Return the letters and digits of some words, small, with hyphens between.

    >>> slug("DGN(x,1), 95 %")
    'dgn-x-1-95'
    """
    small = unicodedata.normalize("NFKC", text).casefold()
    return "-".join(re.findall(r"[^\W_]+", small))[:_LONGEST].strip("-")


def cell_names(table: Table) -> tuple[tuple[str, ...], ...]:
    """Return the name of each cell, parallel to the rows; of words it is empty.

    A column is named by its title, a row by the heading that it stands under and by the words it
    begins with. Where that leaves nothing or has been taken, a number follows, so that the name of
    a row depends on no row below it.

    >>> from reluctant.reports.exhibits import Column, label
    >>> columns = (Column("network"), Column("best, $k$", "published"))
    >>> rows = ((label("CIFAR"),), (label("DNN"), label("–")), (label("DNN"), label("–")))
    >>> cell_names(Table("t", "Two.", columns, rows))[1:]
    (('', 't.cifar-dnn.best-k'), ('', 't.cifar-dnn-2.best-k'))
    """
    columns = tuple(_unique(slug(without_markup(c.title)) or c.kind for c in table.columns))
    rows = iter(tuple(_unique(_row_words(table))))
    return tuple(
        ("",) if len(row) == 1 else _row_names(table, next(rows), columns) for row in table.rows
    )


def named_cells(table: Table) -> Iterator[tuple[str, Column, Cell]]:
    """Yield each cell that has a name, with it and the column."""
    for names, row in zip(cell_names(table), table.rows, strict=True):
        if len(row) > 1:
            yield from (
                (name, column, cell)
                for name, column, cell in zip(names, table.columns, row, strict=True)
                if name
            )


def _row_names(table: Table, row: str, columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        "" if column.kind == "label" else f"{table.name}.{row}.{name}"
        for column, name in zip(table.columns, columns, strict=True)
    )


def _row_words(table: Table) -> Iterator[str]:
    """Yield what each row is called, those that are headings left out."""
    kinds = [column.kind for column in table.columns]
    leading = len(list(itertools.takewhile(lambda kind: kind == "label", kinds)))
    heading = ""
    for row in table.rows:
        if len(row) == 1:
            heading = slug(row[0].text)
        else:
            words = (heading, *(slug(cell.text) for cell in row[:leading]))
            yield "-".join(filter(None, words)) or "row"


def _unique(names: Iterable[str]) -> Iterator[str]:
    """Yield names, each followed by the first number that makes it new if it is not."""
    taken: set[str] = set()
    for name in names:
        counted = (f"{name}-{k}" for k in itertools.count(2))
        new = next(n for n in itertools.chain([name], counted) if n not in taken)
        taken.add(new)
        yield new
