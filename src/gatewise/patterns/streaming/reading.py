"""Rows of a table's files, a block at a time, read by one thread while the last is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from gatewise.errors import DataError
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
            for batch in _batches(part, list(table.columns), row, size):
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


def _batches(part: Part, columns: list[str], skip: int, size: int) -> Iterator[Any]:
    """Record batches of at most `size` rows from row `skip` on; empty ones are left out."""
    read = _parquet if part.is_parquet else _scanned
    for batch in read(part, columns, skip, size):
        if len(batch):
            yield batch


def _parquet(part: Part, columns: list[str], skip: int, size: int) -> Iterator[Any]:
    """Row groups before `skip` are not read at all."""
    with (
        part.fragment.filesystem.open_input_file(part.fragment.path) as source,
        pa.parquet.ParquetFile(source, pre_buffer=False) as file,
    ):
        for g in range(file.num_row_groups):
            rows = file.metadata.row_group(g).num_rows
            if skip < rows:  # group by group: a batch that ends in a broken one would be lost whole
                yield from _after(_group(file, g, rows, columns, size), skip)
            skip = max(0, skip - rows)


def _group(file: Any, g: int, rows: int, columns: list[str], size: int) -> Iterator[Any]:
    """One that is small enough is decoded at once, which is a little quicker."""
    if rows > 2 * size:
        yield from file.iter_batches(size, [g], columns, use_threads=False)
    else:
        whole = file.read_row_group(g, columns, use_threads=False)
        yield from whole.to_batches(max_chunksize=size if rows > size else None)


def _scanned(part: Part, columns: list[str], skip: int, size: int) -> Iterator[Any]:
    scanner = part.fragment.scanner(
        columns=columns, batch_size=size, batch_readahead=1, use_threads=False
    )
    yield from _after(scanner.to_batches(), skip)


def _after(batches: Iterator[Any], skip: int) -> Iterator[Any]:
    for batch in batches:
        taken = min(skip, len(batch))
        skip -= taken
        yield batch.slice(taken)


def columns_of(batch: Any, names: Sequence[str]) -> tuple[Floats, ...]:
    """Columns as float64, missing values NaN: float64 without any is not copied."""
    found = (batch.column(name) for name in names)
    plain = (c if c.type == pa.float64() else c.cast(pa.float64(), safe=False) for c in found)
    return tuple(c.to_numpy(zero_copy_only=False) for c in plain)
