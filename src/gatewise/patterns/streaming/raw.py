"""Raw columns of a file, batch by batch, and the numbers that are made of them.

A Pipeline takes strings and categories; a column may lie in the names of folders, or as codes of
its values. `Derived` stands where pyarrow's fragment of a file would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gatewise.errors import BadRows, DataError, GatewiseError
from gatewise.patterns.streaming.batches import batches_of, columns_of

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

    def batches(self, columns: Sequence[str], skip: int, size: int) -> Iterator[Any]:
        """Record batches of float64 from row `skip` on."""
        row = skip
        for batch in batches(self.part, self.needs, size, skip):
            made = made_of(self.convert, batch, self.part.name, row)
            by_name = dict(zip(self.columns, made.T, strict=True))
            yield pa.record_batch({name: by_name[name] for name in columns})
            row += len(batch)


def made_of(convert: Convert, batch: Any, name: str, row: int) -> Floats:
    """The numbers of a batch; what the model's own steps refuse is said with file and rows."""
    try:
        return convert(batch)
    except UnicodeDecodeError:
        raise _no_text(name, row, len(batch)) from None
    except BadRows:
        raise
    except GatewiseError as error:
        kind = type(error) if isinstance(error, DataError) else DataError
        raise kind(f"'{name}', rows {row} to {row + len(batch) - 1}: {error}") from error


def require_text(column: Any, what: str, name: str, row: int) -> None:
    """Raise where a column of text holds bytes that are none: pyarrow reads them without a word."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            raise _no_text(name, row, len(column), what) from None


def _no_text(name: str, row: int, rows: int, what: str = "") -> DataError:
    where = f"'{name}', rows {row} to {row + rows - 1}"
    column = f"column '{what}'" if what else "a column"
    return DataError(f"{where}: {column} of text holds bytes that are not UTF-8: write it as UTF-8")


def batches(part: Part, columns: Sequence[str], size: int, skip: int = 0) -> Iterator[Any]:
    """Record batches of at most `size` rows of the part's columns, from row `skip` on.

    Columns of its folders are among them; codes are read as the values they stand for.
    """
    own = [c for c in columns if c not in part.folders]
    for batch in batches_of(part.fragment, part.is_parquet, own, skip, size):
        for at in range(0, len(batch), size):
            piece = batch.slice(at, size)
            yield pa.record_batch({c: _column(part, piece, c) for c in columns})


def _column(part: Part, batch: Any, name: str) -> Any:
    if name in part.folders:
        return pa.repeat(pa.scalar(part.folders[name]), len(batch))
    found = batch.column(name)
    return found.dictionary_decode() if pa.types.is_dictionary(found.type) else found


def matrix(batch: Any) -> Floats:
    """(rows, columns) float64, row after row in memory; missing values are NaN."""
    return np.ascontiguousarray(np.stack(columns_of(batch, batch.schema.names)).T)


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
