"""Rows of a table's files, a block at a time, read by one thread while the last is computed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from gatewise.patterns.streaming.parts import Part, Table
from gatewise.tables.words import one_line

T = TypeVar("T")
BLOCK_BYTES = 1 << 24  # of float64 read at once


@dataclass(frozen=True, order=True)
class Place:
    """Where to read on: the row, counted from 0, of the file with that position in the table."""

    part: int = 0
    row: int = 0


@dataclass(frozen=True, eq=False)
class Block:
    """values (rows, columns) from `place` on; trouble: why nothing more of this file can be read.

    next: the place after it.
    """

    place: Place
    values: NDArray[np.float64]
    trouble: str = ""

    @property
    def next(self) -> Place:
        if self.trouble:
            return Place(self.place.part + 1)
        return Place(self.place.part, self.place.row + len(self.values))


def blocks(table: Table, start: Place = Place()) -> Iterator[Block]:
    """Every row from `start` on, in order; a file that breaks off ends with trouble."""
    width = len(table.columns)
    nothing = np.empty((0, width))
    for i in range(start.part, len(table.parts)):
        part, row = table.parts[i], start.row if i == start.part else 0
        if part.trouble:
            yield Block(Place(i), nothing, part.trouble)
            continue
        size = max(1, BLOCK_BYTES // (8 * max(1, width)))
        try:
            for batch in _batches(part, list(table.columns), row, size):
                yield Block(Place(i, row), _values(batch, table.columns))
                row += len(batch)
        except (pa.ArrowException, OSError) as error:
            yield Block(Place(i, row), nothing, one_line(error))


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
        sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        ends = np.cumsum(sizes, dtype=np.int64)
        first = int(np.searchsorted(ends, skip, side="right"))
        if first < len(sizes):
            skip -= int(ends[first]) - sizes[first]
            groups = list(range(first, len(sizes)))
            found = file.iter_batches(size, groups, columns, use_threads=False)
            yield from _after(found, skip)


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


def _values(batch: Any, columns: tuple[str, ...]) -> NDArray[np.float64]:
    """(rows, columns) float64, row after row in memory; missing values are NaN."""
    values = np.empty((len(columns), len(batch)))
    for j, name in enumerate(columns):
        column = batch.column(name)
        if column.type != pa.float64():
            column = column.cast(pa.float64(), safe=False)
        values[j] = column.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values.T)  # BLAS is several times slower on the transpose
