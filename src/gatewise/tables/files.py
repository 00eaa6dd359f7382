"""CSV and Parquet files as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatewise.errors import DataError, EmptyData, WrongColumns, missing
from gatewise.tables.frames import duplicates
from gatewise.tables.words import cell, is_number, is_numbered, listed, one_line


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
        with path.open("rb") as file:
            first = file.readline(1 << 20).decode("utf-8-sig").rstrip("\r\n")
        _require_commas(path, first)
        table = csv.read_csv(path)
        names = list(table.column_names)
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{path}' is not UTF-8 text: its header has the byte "
            f"0x{error.object[error.start]:02x}. Save it as UTF-8"
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"'{path}' is not a readable CSV table: {one_line(error)}") from None
    _require_header(path, names)
    return table


def _require_commas(path: Path, header: str) -> None:
    """A header without a comma, but with another separator, is no column of that name."""
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if mark in header and "," not in header:
            raise WrongColumns(
                f"'{path}' separates its columns by {name}: the separator must be a comma "
                f"(and the decimal mark a point), its header is {cell(header)}"
            )


def _require_header(path: Path, names: Sequence[str]) -> None:
    """Names, each its own. 0, 1, 2, ... are names: what pandas writes for columns without one."""
    if "" in names and len(names) > 1:
        raise WrongColumns(
            f"'{path}' has no name for column {list(names).index('')} (counted from 0) in its "
            "header: name it, or leave it out (pandas: to_csv(index=False))"
        )
    if names and all(is_number(name) for name in names) and not is_numbered(names):
        raise WrongColumns(
            f"'{path}' has no header: its first line is {listed(names)}. "
            "Add a line with the names of the columns"
        )
    if len(set(names)) < len(names):
        raise duplicates(f"'{path}'", names)


def _load_parquet(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
        if len(set(names)) < len(names):
            raise duplicates(f"'{path}'", names)
        return parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"'{path}' is not a readable Parquet file: {one_line(error)}") from None
