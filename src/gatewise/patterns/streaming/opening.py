"""A file as a pyarrow fragment: how it is opened, and how it is known."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gatewise.errors import WrongColumns, missing
from gatewise.tables.words import is_number, is_numbered, listed

try:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.dataset
    import pyarrow.fs
except ImportError:
    raise missing("pyarrow", "stream", "streaming rows from files") from None

__all__ = ["digest", "folders_of", "fragment_at", "pa", "typed"]

TAIL = 1 << 16  # bytes of a file's end that are hashed: the footer of Parquet and Arrow files
ABSENT = "__HIVE_DEFAULT_PARTITION__"  # the folder of a missing value
FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    ".csv": "csv",
}


def folders_of(path: Path, root: Path) -> dict[str, str | None]:
    """{"year": "2024"} of root/year=2024/part.parquet: a column that is kept in a folder's name."""
    if not root.is_dir():
        return {}
    pairs = (name.partition("=") for name in path.relative_to(root).parent.parts)
    found = {unquote(key): unquote(value) for key, mark, value in pairs if mark and key}
    return {key: None if value == ABSENT else value for key, value in found.items()}


def typed(folders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Text as whole numbers where it is one in every folder, else as numbers, else as it is."""
    kinds: dict[str, Any] = {}
    for name in {key for each in folders for key in each}:
        values = [each[name] for each in folders if each.get(name) is not None]
        kinds[name] = next((k for k in (int, float) if all(_is(k, v) for v in values)), str)
    return [{k: v if v is None else kinds[k](v) for k, v in each.items()} for each in folders]


def _is(kind: Any, value: str) -> bool:
    """Reads as a number of that kind: month=01 is 1."""
    whole = re.fullmatch(r"[+-]?[0-9]{1,18}", value) is not None
    return whole if kind is int else is_number(value)


def fragment_at(path: Path, raw: frozenset[str], kinds: Mapping[str, Any]) -> Any:
    """pyarrow's fragment of a file. raw: columns of a CSV that may hold anything; kinds: their
    types, where another file says them."""
    kind = FORMATS[path.suffix.lower()]
    named = {"parquet": pa.dataset.ParquetFileFormat, "ipc": pa.dataset.IpcFileFormat}
    layout = _csv(path, raw, kinds) if kind == "csv" else named[kind]()
    return layout.make_fragment(str(path), pa.fs.LocalFileSystem())


def _csv(path: Path, raw: frozenset[str], kinds: Mapping[str, Any]) -> Any:
    """CSV with columns as numbers: else the first rows would decide what the rest may be.

    Of a raw column they do decide, and whole numbers may go on as fractions.
    """
    with pa.csv.open_csv(path) as reader:
        schema = reader.schema
    names = schema.names
    if names and all(is_number(name) for name in names) and not is_numbered(names):
        raise WrongColumns(
            f"'{path}' has no header: its first line is {listed(names)}. "
            "Add a line with the names of the columns"
        )
    types = dict.fromkeys(names, pa.float64())
    for name in raw.intersection(names):
        own = schema.field(name).type
        types[name] = kinds.get(name, own) if pa.types.is_null(own) else own
        if pa.types.is_integer(types[name]):
            types[name] = pa.float64()
    return pa.dataset.CsvFileFormat(convert_options=pa.csv.ConvertOptions(column_types=types))


def digest(fragment: Any) -> str:
    """sha256 of the size, the time of the last change, and the end of the file."""
    info = fragment.filesystem.get_file_info(fragment.path)
    size = info.size or 0
    found = hashlib.sha256(repr((size, info.mtime_ns)).encode())
    with fragment.filesystem.open_input_file(fragment.path) as file:
        file.seek(max(0, size - TAIL))
        found.update(file.read(TAIL))
    return found.hexdigest()
