"""Rows of a table's files, a block at a time, read by one thread while the last is computed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.patterns.streaming.batches import columns_of as columns_of
from gatewise.patterns.streaming.opening import digest
from gatewise.patterns.streaming.parts import Part, Table
from gatewise.tables.words import one_line

Floats = NDArray[np.float64]
T = TypeVar("T")
BLOCK_BYTES = 1 << 24  # of float64 read at once


@dataclass(frozen=True, order=True)
class Place:
    """Where to read on: the row, counted from 0, of the file with that position in the table."""

    part: int = 0
    row: int = 0


@dataclass(frozen=True, eq=False)
class Block:
    """Rows from `place` on, column by column; trouble: why nothing more of this file can be read.

    columns: float64 (rows,) each, missing values NaN; next: the place after it.
    """

    place: Place
    columns: tuple[Floats, ...]
    trouble: str = ""

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    @property
    def values(self) -> Floats:
        """(rows, columns), row after row in memory: BLAS is several times slower on columns."""
        return self.rows(slice(None))

    def rows(self, which: slice | NDArray[np.int64]) -> Floats:
        """Some of the rows, (rows, columns)."""
        return np.ascontiguousarray(np.stack([c[which] for c in self.columns]).T)

    def head(self, rows: int) -> Block:
        """The first rows."""
        return replace(self, columns=tuple(c[:rows] for c in self.columns))

    @property
    def next(self) -> Place:
        if self.trouble:
            return Place(self.place.part + 1)
        return Place(self.place.part, self.place.row + len(self))


def blocks(table: Table, start: Place = Place()) -> Iterator[Block]:
    """Every row from `start` on, in order; a file that breaks off ends with trouble."""
    width = len(table.columns)
    for i in range(start.part, len(table.parts)):
        part, row = table.parts[i], start.row if i == start.part else 0
        if part.trouble:
            yield Block(Place(i), (), part.trouble)
            continue
        size = max(1, BLOCK_BYTES // (8 * max(1, width)))
        try:
            for batch in part.batches(list(table.columns), row, size):
                yield Block(Place(i, row), columns_of(batch, table.columns))
                row += len(batch)
        except (pa.ArrowException, OSError, KeyError) as error:
            require_unchanged(part)
            yield Block(Place(i, row), (), one_line(error))
        else:
            require_unchanged(part)


def require_unchanged(part: Part) -> None:
    """Raise, naming the file, where it is no longer the one that was listed."""
    try:
        same = digest(part.source.fragment) == part.digest
    except OSError:
        same = False
    if not same:
        raise DataError(
            f"'{part.name}' was changed while its table was read: start again once it is written"
        )


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next is made by another thread while the caller works on the last."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
