"""Raw columns of a file, batch by batch, and the numbers that are made of them.

A Pipeline takes strings and categories; a column may lie in the names of folders, or as codes of
its values. `Derived` stands where pyarrow's fragment of a file would, and reads as one: what
streams numbers by `scanner(...).to_batches()` needs to know nothing of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from gatewise.errors import BadRows, DataError, GatewiseError

if TYPE_CHECKING:
    from gatewise.patterns.streaming.parts import Part

Floats = NDArray[np.float64]
Convert = Callable[[Any], Floats]


@dataclass(frozen=True, eq=False)
class Derived:
    """The columns of a part as numbers, in place of its fragment.

    part: as pyarrow opened it; needs: its raw columns; columns: names of what `convert` makes of
    a batch of them, (rows, columns).
    """

    part: Part
    needs: tuple[str, ...]
    columns: tuple[str, ...]
    convert: Convert
    format: None = None

    def scanner(self, columns: Sequence[str], batch_size: int, **_: Any) -> Derived.Scan:
        """The numbers of the file from its start."""
        return Derived.Scan(self, tuple(columns), batch_size)

    @dataclass(frozen=True, eq=False)
    class Scan:
        """What pyarrow would call a scanner."""

        of: Derived
        columns: tuple[str, ...]
        size: int

        def to_batches(self) -> Iterator[Any]:
            """Record batches of float64."""
            of, row = self.of, 0
            for batch in batches(of.part, of.needs, self.size):
                made = made_of(of.convert, batch, of.part.name, row)
                by_name = dict(zip(of.columns, made.T, strict=True))
                yield pa.record_batch({name: by_name[name] for name in self.columns})
                row += len(batch)


def made_of(convert: Convert, batch: Any, name: str, row: int) -> Floats:
    """The numbers of a batch; what the model's own steps refuse is said with file and rows."""
    try:
        return convert(batch)
    except BadRows:
        raise
    except GatewiseError as error:
        kind = type(error) if isinstance(error, DataError) else DataError
        raise kind(f"'{name}', rows {row} to {row + len(batch) - 1}: {error}") from error


def batches(part: Part, columns: Sequence[str], size: int, skip: int = 0) -> Iterator[Any]:
    """Record batches of at most `size` rows of the part's columns, from row `skip` on.

    Columns of its folders are among them; codes are read as the values they stand for.
    """
    own = [c for c in columns if c not in part.folders]
    for batch in _read(part, own, size, skip):
        for at in range(0, len(batch), size):
            piece = batch.slice(at, size)
            yield pa.record_batch({c: _column(part, piece, c) for c in columns})


def _column(part: Part, batch: Any, name: str) -> Any:
    if name in part.folders:
        return pa.repeat(pa.scalar(part.folders[name]), len(batch))
    found = batch.column(name)
    return found.dictionary_decode() if pa.types.is_dictionary(found.type) else found


def _read(part: Part, columns: list[str], size: int, skip: int) -> Iterator[Any]:
    """Row groups of Parquet that lie before `skip` are not read."""
    if not part.is_parquet or not columns:
        scanner = part.fragment.scanner(
            columns=columns, batch_size=size, batch_readahead=1, use_threads=False
        )
        yield from _after(scanner.to_batches(), skip)
        return
    with (
        part.fragment.filesystem.open_input_file(part.fragment.path) as source,
        pa.parquet.ParquetFile(source, pre_buffer=False) as file,
    ):
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if skip < rows:  # group by group: a batch that ends in a broken one would be lost whole
                found = file.iter_batches(size, [group], columns, use_threads=False)
                yield from _after(found, skip)
            skip = max(0, skip - rows)


def _after(found: Iterator[Any], skip: int) -> Iterator[Any]:
    for batch in found:
        taken = min(skip, len(batch))
        skip -= taken
        if taken < len(batch):
            yield batch.slice(taken)


def matrix(batch: Any) -> Floats:
    """(rows, columns) float64, row after row in memory; missing values are NaN."""
    values = np.empty((batch.num_columns, len(batch)))
    for j in range(batch.num_columns):
        column = batch.column(j)
        if column.type != pa.float64():
            column = column.cast(pa.float64(), safe=False)
        values[j] = column.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values.T)


def prepared(prepare: Callable[[Any], Any], texts: frozenset[str]) -> Convert:
    """A batch of raw columns through the model's own steps, as a table of these rows.

    texts: columns that are text elsewhere, and so here too where a file holds nothing of them.
    """

    def convert(batch: Any) -> Floats:
        table = pa.Table.from_batches([batch])
        for j, field in enumerate(table.schema):
            if pa.types.is_null(field.type) and field.name in texts:
                table = table.set_column(j, field.name, table.column(j).cast(pa.string()))
        return np.asarray(prepare(table), np.float64)

    return convert
