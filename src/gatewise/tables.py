"""From the table or array a user has to the float64 matrix a network takes, or a plain refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import (
    BadRows,
    DataError,
    EmptyData,
    WrongColumns,
    WrongShape,
    missing,
)

SHOWN = 10  # rows or columns named in a message before "and N more"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Matrix:
    """values (rows, features), where they came from, and what was left out.

    index: position of each row in the table that was given; skipped: rows left out as NaN or inf.
    """

    values: Floats
    columns: tuple[str, ...]
    index: NDArray[np.int64]
    skipped: tuple[int, ...] = ()


def as_matrix(
    X: Any,
    columns: Sequence[str] = (),
    width: int | None = None,
    on_bad_rows: Literal["raise", "skip"] = "raise",
) -> Matrix:
    """X as a Matrix: a pandas, polars or pyarrow table, an array, a tensor or nested lists.

    columns: the names a table must have, in the network's order (any order in X; extras are an
    error, so that a target left in by mistake is noticed); width: the number an array must have.
    """
    if on_bad_rows not in ("raise", "skip"):
        raise DataError(f"on_bad_rows must be 'raise' or 'skip', got {on_bad_rows!r}")
    values, names = _table(X, columns, width) if is_table(X) else (_array(X), tuple(columns))
    if len(values) == 0:
        raise EmptyData("the data hold 0 rows: give at least one")
    if width is not None and values.shape[1] != width:
        raise WrongShape(
            f"the network takes {width} inputs a row, got {values.shape[1]}"
            f" (data of shape {values.shape})"
        )
    return _finite(values, names, on_bad_rows)


def is_table(X: Any) -> bool:
    """True for a dataframe that narwhals knows (imported only when a table may have arrived)."""
    if isinstance(X, np.ndarray | torch.Tensor | list | tuple):
        return False
    import narwhals.stable.v2 as nw

    return isinstance(nw.from_native(X, pass_through=True), nw.DataFrame | nw.LazyFrame)


def listed(items: Sequence[Any]) -> str:
    """'a, b, c and 4 more'."""
    shown = ", ".join(str(i) for i in items[:SHOWN])
    return shown if len(items) <= SHOWN else f"{shown} and {len(items) - SHOWN} more"


def _array(X: Any) -> Floats:
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu().numpy()
    try:
        array = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WrongShape(f"the data are not a rectangular array of numbers: {error}") from None
    if array.ndim < 2:
        raise WrongShape(
            f"the data must have a row axis, got shape {array.shape}; for one row use X[None]"
        )
    return np.ascontiguousarray(array.reshape(len(array), -1 if array.size else array.shape[1]))


def _table(X: Any, columns: Sequence[str], width: int | None) -> tuple[Floats, tuple[str, ...]]:
    import narwhals.stable.v2 as nw

    frame = nw.from_native(X)
    frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    names = _named(tuple(str(c) for c in frame.columns), tuple(columns), width)
    text = [c for c in names if not _is_numeric(frame[c])]
    if text:
        raise WrongColumns(
            f"column '{text[0]}' holds {frame[text[0]].dtype}, not numbers"
            f"{f' (so do {listed(text[1:])})' if text[1:] else ''}: encode text first, "
            "or read a whole scikit-learn Pipeline, which does it"
        )
    if not names:
        raise WrongColumns("the table has no column left to use as input")
    parts = [frame[c].cast(nw.Float64).to_numpy() for c in names]
    return np.ascontiguousarray(np.stack(parts, 1), dtype=np.float64), names


def _is_numeric(column: Any) -> bool:
    """Numbers or booleans; a column of nothing but missing values is caught later, by its rows."""
    kind = str(column.dtype)
    return column.dtype.is_numeric() or kind == "Boolean" or column.null_count() == len(column)


def _named(got: tuple[str, ...], wanted: tuple[str, ...], width: int | None) -> tuple[str, ...]:
    """The columns to take, in the network's order."""
    if not wanted:
        if width is not None and len(got) != width:
            raise WrongColumns(
                f"the network takes {width} inputs, the table has {len(got)} columns: "
                f"{listed(got)}. Is one of them the target? Name it as target"
            )
        return got
    missing = [c for c in wanted if c not in got]
    extra = [c for c in got if c not in wanted]
    if missing or extra:
        said = f"missing: {listed(missing)}" if missing else ""
        also = f"not known to the network: {listed(extra)}" if extra else ""
        raise WrongColumns(
            f"the table's columns are not the network's ({'; '.join(filter(None, (said, also)))})"
        )
    return wanted


def _finite(values: Floats, names: tuple[str, ...], on_bad_rows: str) -> Matrix:
    good = np.isfinite(values).all(1)
    bad = tuple(np.flatnonzero(~good).tolist())
    if bad and on_bad_rows == "raise":
        raise BadRows(
            f"{len(bad)} of {len(values)} rows hold NaN or infinity: rows {listed(bad)} "
            "(counted from 0). Repair them, or skip them with on_bad_rows='skip'",
            bad,
        )
    if len(bad) == len(values):
        raise BadRows(f"all {len(values)} rows hold NaN or infinity: nothing is left", bad)
    return Matrix(values[good] if bad else values, names, np.flatnonzero(good), bad)


def load_table(path: str | Path) -> Any:
    """A CSV (with a header) or Parquet file as a pyarrow table."""
    path = Path(path)
    readers = {".csv": _load_csv, ".parquet": _load_parquet, ".pq": _load_parquet}
    if path.suffix.lower() not in readers:
        raise DataError(f"'{path}' is neither .csv nor .parquet: convert it to one of them")
    if not path.is_file():
        raise DataError(f"there is no file '{path}'")
    if path.stat().st_size == 0:
        raise EmptyData(f"'{path}' is empty (0 bytes): a header and at least one row are needed")
    try:
        return readers[path.suffix.lower()](path)
    except ImportError:
        raise missing("pyarrow", "cli", "reading a table") from None


def _load_csv(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    try:
        table = csv.read_csv(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"'{path}' is not a readable CSV table: {error}") from None
    if table.column_names and all(_is_number(name) for name in table.column_names):
        raise WrongColumns(
            f"'{path}' has no header: its first line is {listed(table.column_names)}. "
            "Add a line with the names of the columns"
        )
    return table


def _load_parquet(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"'{path}' is not a readable Parquet file: {error}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
