"""Rows of a table's files with all that is known of them: place, number, target, cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from gatewise.patterns.streaming import folder, raw
from gatewise.patterns.streaming.parts import OnBadFiles, Table, unreadable
from gatewise.patterns.streaming.reading import Place, ahead, require_unchanged
from gatewise.tables.words import counted, one_line

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
BLOCK_BYTES = 1 << 23  # of float64 read at once
START = Place()


@dataclass(frozen=True, eq=False)
class Rows:
    """values (rows, inputs) from `place` on; start: the number of the first; target: their column,
    None for none; trouble: why nothing more of this file can be read."""

    place: Place
    start: int
    values: Floats
    target: Any = None
    trouble: str = ""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def stop(self) -> int:
        return self.start + len(self)

    @property
    def next(self) -> Place:
        """Where to read on after them."""
        return Place(self.place.part, self.place.row + len(self))

    def cut(self, at: int) -> tuple[Rows, Rows]:
        """The first `at` rows, and the others."""
        place = dataclasses.replace(self.place, row=self.place.row + at)
        one, two = (None, None) if self.target is None else (self.target[:at], self.target[at:])
        return (
            Rows(self.place, self.start, self.values[:at], one),
            Rows(place, self.start + at, self.values[at:], two),
        )


def rows_of(
    table: Table, on_bad_files: OnBadFiles, place: Place = START, start: int = 0
) -> Iterator[Rows]:
    """Every row from `place` on, whose number is `start`; the next block is read ahead."""
    for rows in ahead(_rows(table, place)):
        if rows.trouble:
            name = table.parts[rows.place.part].name
            if on_bad_files == "raise":
                said = f"{rows.trouble} (after {counted(rows.place.row, 'row')})"
                raise unreadable(name, said)
            continue
        yield dataclasses.replace(rows, start=start)
        start += len(rows)


def _rows(table: Table, start: Place) -> Iterator[Rows]:
    nothing = np.empty((0, len(table.columns)))
    size = max(1, BLOCK_BYTES // (8 * max(1, len(table.columns))))
    for i in range(start.part, len(table.parts)):
        part, row = table.parts[i].source, start.row if i == start.part else 0
        if part.trouble:
            yield Rows(Place(i), 0, nothing, trouble=part.trouble)
            continue
        names = [*table.needs, *([table.target] if table.target else [])]
        try:
            for batch in raw.batches(part, names, size, row):
                needed = batch.select(list(table.needs))
                values = raw.made_of(table.convert, needed, part.name, row)
                if table.target:
                    raw.require_text(batch.column(-1), table.target, part.name, row)
                yield Rows(Place(i, row), 0, values, batch.column(-1) if table.target else None)
                row += len(batch)
        except (pa.ArrowException, OSError, KeyError) as error:
            require_unchanged(part)
            yield Rows(Place(i, row), 0, nothing, trouble=one_line(error))
        else:
            require_unchanged(part)


class Clusters:
    """The cluster and the doubts of every row, read along with the rows (a reader, not a value)."""

    def __init__(self, path: Path, start: int) -> None:
        self._batches, self._held = _after(path, start), np.empty((2, 0), np.int64)

    def take(self, rows: int) -> Ids:
        """(2, rows) of the next ones; fewer where the file ends."""
        parts, have = [self._held], self._held.shape[1]
        while have < rows and (batch := next(self._batches, None)) is not None:
            parts.append(batch)
            have += batch.shape[1]
        whole = np.concatenate(parts, 1)
        self._held = whole[:, rows:]
        return whole[:, :rows]


def _after(path: Path, start: int) -> Iterator[Ids]:
    """(2, some) of rows.parquet from row `start` on."""
    with folder.known(path.parent), pa.parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if start >= size:
                start -= size
                continue
            for batch in file.iter_batches(1 << 17, row_groups=[group]):
                found = np.stack([c.to_numpy().astype(np.int64) for c in batch.columns])
                if start < found.shape[1]:
                    yield found[:, start:]
                start = max(0, start - found.shape[1])
