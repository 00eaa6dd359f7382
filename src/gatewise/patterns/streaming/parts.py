"""The files of a table larger than memory: in order, with one schema, each known by a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gatewise.errors import DataError, EmptyData, WrongColumns, missing
from gatewise.tables.frames import duplicates, matched
from gatewise.tables.words import counted, is_number, is_numbered, listed, one_line

try:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.dataset
    import pyarrow.fs
except ImportError:
    raise missing("pyarrow", "report", "streaming rows from files") from None

OnBadFiles = Literal["raise", "skip"]
TAIL = 1 << 16  # bytes of a file's end that are hashed: the footer of Parquet and Arrow files
FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    ".csv": "csv",
}


@dataclass(frozen=True, eq=False)
class Part:
    """One file: its name, pyarrow's fragment of it, what it holds, and why it cannot be read.

    digest: of its size, time of change and last 64 KiB; rows: None where only reading it tells.
    """

    name: str
    fragment: Any
    digest: str = ""
    columns: tuple[str, ...] = ()
    rows: int | None = None
    trouble: str = ""

    @property
    def is_parquet(self) -> bool:
        return isinstance(self.fragment.format, pa.dataset.ParquetFileFormat)


@dataclass(frozen=True, eq=False)
class Table:
    """Files that make one table, in order of name, and the columns to take of each."""

    parts: tuple[Part, ...]
    columns: tuple[str, ...]

    @property
    def rows(self) -> int | None:
        """Of all readable files; None where one does not say."""
        known = [p.rows for p in self.parts if not p.trouble]
        return None if None in known else sum(n for n in known if n is not None)


def table_of(
    source: Any, wanted: Sequence[str], width: int, on_bad_files: OnBadFiles = "raise"
) -> Table:
    """The table at a path (a file or a folder of them) or in a pyarrow dataset of files.

    wanted: the columns' names in the network's order; without them the first file's.
    """
    parts = tuple(_looked_at(part) for part in _parts(source))
    columns, whose = tuple(wanted), "the network"
    for part in parts:
        if part.trouble:
            if on_bad_files == "raise":
                raise unreadable(part.name, part.trouble)
            continue
        if not columns:
            columns = matched(part.columns, (), width, f"'{part.name}'")
            whose = f"'{part.name}'"
        _require_same(part, columns, whose)
        _require_numbers(part, columns)
    if all(part.trouble for part in parts):
        raise DataError(
            f"none of {counted(len(parts), 'file')} can be read: "
            f"'{parts[0].name}': {parts[0].trouble}"
        )
    return Table(parts, columns)


def unreadable(name: str, why: str) -> DataError:
    """The error for a file that breaks off or is not what its name says."""
    return DataError(
        f"'{name}' cannot be read: {why}. Repair it, or go on without it (on_bad_files='skip')"
    )


def _require_same(part: Part, columns: Sequence[str], whose: str) -> None:
    """The columns of the part are those, in any order."""
    gone = [c for c in columns if c not in part.columns]
    more = [c for c in part.columns if c not in columns]
    said = [f"{what}: {listed(c)}" for what, c in (("missing", gone), ("not known", more)) if c]
    if said:
        raise WrongColumns(
            f"the columns of '{part.name}' are not those of {whose} ({'; '.join(said)}): every "
            "file must have the same, in any order"
        )


def _require_numbers(part: Part, columns: Sequence[str]) -> None:
    schema = part.fragment.physical_schema
    for name in columns:
        kind = schema.field(name).type
        tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
        if not any(test(kind) for test in (*tests, pa.types.is_decimal, pa.types.is_null)):
            raise WrongColumns(
                f"column '{name}' of '{part.name}' holds {kind}, not numbers: convert it first"
            )


def _parts(source: Any) -> Iterator[Part]:
    if isinstance(source, str | Path):
        yield from map(_part_at, files_of(Path(source)))
    elif isinstance(source, pa.dataset.FileSystemDataset):
        for fragment in sorted(source.get_fragments(), key=lambda f: str(f.path)):
            yield Part(fragment.path, fragment)
    else:
        raise DataError(
            f"rows are streamed from a path or a pyarrow dataset of files, got "
            f"{type(source).__name__}: write it to Parquet files first"
        )


def files_of(path: Path) -> list[Path]:
    """The tables at a path, in order of name; hidden files and other kinds are passed over."""
    if path.is_file():
        found = [path]
    elif path.is_dir():
        inside = (p for p in path.rglob("*") if not _hidden(p.relative_to(path)) and p.is_file())
        found = sorted(p for p in inside if p.suffix.lower() in FORMATS)
    else:
        raise DataError(f"there is no file or folder '{path}'")
    if not found:
        raise EmptyData(f"the folder '{path}' has no table: {listed(sorted(FORMATS))} are read")
    if found[0].suffix.lower() not in FORMATS:
        raise DataError(f"'{path}' is none of {listed(sorted(FORMATS))}: convert it to Parquet")
    return found


def _hidden(path: Path) -> bool:
    return any(name.startswith((".", "_")) for name in path.parts)


def _part_at(path: Path) -> Part:
    kind = FORMATS[path.suffix.lower()]
    try:
        layout = _csv(path) if kind == "csv" else _named(kind)
    except (pa.ArrowException, OSError) as error:
        return Part(str(path), None, trouble=one_line(error))
    return Part(str(path), layout.make_fragment(str(path), pa.fs.LocalFileSystem()))


def _named(kind: str) -> Any:
    named = {"parquet": pa.dataset.ParquetFileFormat, "ipc": pa.dataset.IpcFileFormat}
    return named[kind]()


def _csv(path: Path) -> Any:
    """CSV with every column as numbers: else the first rows would decide what the rest may be."""
    with pa.csv.open_csv(path) as reader:
        names = reader.schema.names
    if names and all(is_number(name) for name in names) and not is_numbered(names):
        raise WrongColumns(
            f"'{path}' has no header: its first line is {listed(names)}. "
            "Add a line with the names of the columns"
        )
    kinds = dict.fromkeys(names, pa.float64())
    return pa.dataset.CsvFileFormat(convert_options=pa.csv.ConvertOptions(column_types=kinds))


def _looked_at(part: Part) -> Part:
    """The part with what its schema and its end say."""
    if part.trouble:
        return part
    try:
        part = replace(part, digest=_digest(part.fragment))
        names = tuple(part.fragment.physical_schema.names)
        rows = None if _is_csv(part) else part.fragment.count_rows()
    except (pa.ArrowException, OSError) as error:
        return replace(part, trouble=one_line(error))
    if len(set(names)) < len(names):
        raise duplicates(f"'{part.name}'", names)
    return replace(part, columns=names, rows=rows)


def _is_csv(part: Part) -> bool:
    return isinstance(part.fragment.format, pa.dataset.CsvFileFormat)


def _digest(fragment: Any) -> str:
    """sha256 of the size, the time of the last change, and the end of the file."""
    info = fragment.filesystem.get_file_info(fragment.path)
    size = info.size or 0
    found = hashlib.sha256(repr((size, info.mtime_ns)).encode())
    with fragment.filesystem.open_input_file(fragment.path) as file:
        file.seek(max(0, size - TAIL))
        found.update(file.read(TAIL))
    return found.hexdigest()
