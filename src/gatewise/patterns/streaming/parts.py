"""The files of a table larger than memory: in order, with one schema, each known by a digest."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from gatewise.errors import DataError, WrongColumns
from gatewise.patterns.streaming import opening, raw  # the first of them asks for pyarrow
from gatewise.patterns.streaming.batches import batches_of
from gatewise.patterns.streaming.listing import Listing, listing, shown
from gatewise.patterns.streaming.opening import pa
from gatewise.tables.frames import duplicates, matched
from gatewise.tables.words import listed, one_line

__all__ = ["OnBadFiles", "Part", "Table", "table_of", "unreadable"]

OnBadFiles = Literal["raise", "skip"]
INDEX = re.compile(r"__index_level_[0-9]+__")  # what pandas writes of its index: no column
SAMPLE = 64  # rows by which a preparation is known


@dataclass(frozen=True, eq=False)
class Part:
    """One file: its name, pyarrow's fragment of it, what it holds, and why it cannot be read.

    digest: of its size, time of change and last 64 KiB; columns: its own, then those of its
    folders (`folders`: year=2024 is a column); rows: None where only reading it tells; place: its
    name within the table, the same wherever that lies. The fragment is a `raw.Derived` where
    numbers have to be made of what the file holds.
    """

    name: str
    fragment: Any
    digest: str = ""
    columns: tuple[str, ...] = ()
    rows: int | None = None
    trouble: str = ""
    folders: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""

    @property
    def is_parquet(self) -> bool:
        return isinstance(self.fragment.format, pa.dataset.ParquetFileFormat)

    @property
    def source(self) -> Part:
        """The part as pyarrow opened it."""
        return self.fragment.part if isinstance(self.fragment, raw.Derived) else self

    @property
    def own(self) -> tuple[str, ...]:
        """The columns that lie in the file."""
        return tuple(c for c in self.columns if c not in self.folders)

    def kind(self, name: str) -> Any:
        """The type of a column; of codes, that of their values."""
        if name in self.folders:
            return pa.scalar(self.folders[name]).type
        found = self.source.fragment.physical_schema.field(name).type
        return found.value_type if pa.types.is_dictionary(found) else found

    def batches(self, columns: list[str], skip: int, size: int) -> Iterator[Any]:
        """Record batches of some columns, of about `size` rows, from row `skip` on."""
        if isinstance(self.fragment, raw.Derived):
            return self.fragment.batches(columns, skip, size)
        return batches_of(self.fragment, self.is_parquet, columns, skip, size)


@dataclass(frozen=True, eq=False)
class Table:
    """Files that make one table, in order of name, and the columns to take of each.

    needs: the raw columns that those are made of (the same ones, where a file holds numbers);
    target: a column beside them, "" for none; convert: a batch of raw columns as numbers;
    preparation: what a Pipeline makes of the first rows, as a digest ("" without one); tops: the
    folders it was found in; passed: files there of other kinds, which were passed over.
    """

    parts: tuple[Part, ...]
    columns: tuple[str, ...]
    needs: tuple[str, ...] = ()
    target: str = ""
    convert: raw.Convert = raw.matrix
    preparation: str = ""
    tops: tuple[Path, ...] = ()
    passed: int = 0

    @property
    def files(self) -> list[list[str]]:
        """What the table is known by: the place of each file in it, and its digest."""
        return [[p.place, p.digest or "cannot be read"] for p in self.parts]

    @property
    def rows(self) -> int | None:
        """Of all readable files; None where one does not say."""
        known = [p.rows for p in self.parts if not p.trouble]
        return None if None in known else sum(n for n in known if n is not None)


def table_of(
    source: Any,
    wanted: Sequence[str],
    width: int,
    on_bad_files: OnBadFiles = "raise",
    *,
    target: str = "",
    prepare: Callable[[Any], Any] | None = None,
) -> Table:
    """The table at a path (a file or a folder of them) or in a pyarrow dataset of files.

    wanted: the columns' names in the network's order; without them the first file's. Folders named
    year=2024 are a column year, taken where it is wanted. target: a column that is no input;
    prepare: a Network's own, from raw columns (text, categories) to its inputs. A Table is given
    back as it is.
    """
    if on_bad_files not in ("raise", "skip"):
        raise DataError(f"on_bad_files must be 'raise' or 'skip', got {on_bad_files!r}")
    if isinstance(source, Table):
        return source
    texts = frozenset(getattr(prepare, "columns", ())) | {target}
    found = listing(Path(source)) if isinstance(source, str | Path) else Listing(())
    listed_parts = _stored(found, Path(source), texts) if found.files else _handed(source)
    parts = _agreed(tuple(listed_parts), texts, on_bad_files)
    _require_one(parts)
    if target:
        _require_target(parts, target)
    where: dict[str, Any] = {"tops": found.tops, "passed": found.passed}
    if prepare is not None:
        return replace(_prepared(parts, wanted, target, prepare), **where)
    columns = _numbers(parts, wanted, width, target)
    made = tuple(_derived(p, columns) if _needs_making(p, columns) else p for p in parts)
    return Table(made, columns, columns, target, **where)


def _require_one(parts: Sequence[Part]) -> None:
    """At least one file can be read."""
    if all(part.trouble for part in parts):
        which = "the only file cannot" if len(parts) == 1 else f"none of {len(parts)} files can"
        why = f": '{parts[0].name}': {parts[0].trouble}" if parts else ""
        raise DataError(f"{which} be read{why}")


def unreadable(name: str, why: str) -> DataError:
    """The error for a file that breaks off or is not what its name says."""
    return DataError(
        f"'{name}' cannot be read: {why}. Repair it, or go on without it (on_bad_files='skip')"
    )


# -- columns that are numbers --


def _numbers(
    parts: Sequence[Part], wanted: Sequence[str], width: int, target: str
) -> tuple[str, ...]:
    """The columns to take, which every readable part has as numbers."""
    columns, whose = tuple(wanted), "the network"
    for part in parts:
        if part.trouble:
            continue
        if not columns:
            columns = _own(part, width, target)
            whose = f"'{part.name}'"
        _require_same(part, columns, whose, target)
        for name in columns:
            _require_number(part, name)
    return columns


def _own(part: Part, width: int, target: str) -> tuple[str, ...]:
    """All columns of a part, those of its folders too if it takes them to be enough."""
    own, every = (tuple(c for c in found if c != target) for found in (part.own, part.columns))
    if not every:
        raise WrongColumns(
            f"'{part.name}' has no column to take as input: the network takes {width} of them"
        )
    return own if len(own) == width else matched(every, (), width, f"'{part.name}'")


def _require_same(part: Part, columns: Sequence[str], whose: str, target: str) -> None:
    """The columns of the part are those, in any order; folders may say more."""
    gone = [c for c in columns if c not in part.columns or c == target]
    more = [c for c in part.own if c not in columns and c != target]
    said = [f"{what}: {listed(c)}" for what, c in (("missing", gone), ("not known", more)) if c]
    if said:
        raise WrongColumns(
            f"the columns of '{part.name}' are not those of {whose} ({'; '.join(said)}): every "
            "file must have the same, in any order"
        )


def _require_number(part: Part, name: str) -> None:
    kind = part.kind(name)
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    if not any(test(kind) for test in (*tests, pa.types.is_decimal, pa.types.is_null)):
        raise WrongColumns(
            f"column '{name}' of '{part.name}' holds {kind}, not numbers: convert it first"
        )


def _needs_making(part: Part, columns: Sequence[str]) -> bool:
    """Is a column in the names of folders, or kept as codes of its values?"""
    if part.trouble:
        return False
    schema = part.fragment.physical_schema
    return any(c in part.folders or pa.types.is_dictionary(schema.field(c).type) for c in columns)


def _derived(part: Part, columns: tuple[str, ...]) -> Part:
    return replace(part, fragment=raw.Derived(part, columns, columns, raw.matrix))


# -- raw columns --


def _prepared(
    parts: tuple[Part, ...], wanted: Sequence[str], target: str, prepare: Callable[[Any], Any]
) -> Table:
    """The table of what a Network's own preparation makes of raw columns."""
    needs = _needs(parts, target, prepare)
    columns = tuple(wanted) or tuple(getattr(prepare, "names", ()))
    whole = [p for p in parts if not p.trouble]
    texts = {c for c in needs for p in whole if _sort(p.kind(c)) == "text"}
    convert = raw.prepared(prepare, frozenset(texts))
    made = tuple(
        p if p.trouble else replace(p, fragment=raw.Derived(p, needs, columns, convert))
        for p in parts
    )
    return Table(made, columns, needs, target, convert, _preparation(parts, needs, convert))


def _needs(parts: Sequence[Part], target: str, prepare: Any) -> tuple[str, ...]:
    """The raw columns that are read: by name, or all of them where there were no names."""
    first = next(p for p in parts if not p.trouble)
    known = tuple(getattr(prepare, "columns", ()))
    if getattr(prepare, "named", False):
        needs = tuple(known[j] for j in prepare.needs)
    elif known:
        needs = _own(first, len(known), target)
    else:
        needs = tuple(c for c in first.columns if c != target)
    for part in parts:
        gone = [c for c in needs if not part.trouble and (c not in part.columns or c == target)]
        if gone:
            raise WrongColumns(
                f"'{part.name}' lacks columns that the model was trained on (missing: "
                f"{listed(gone)}; it has {listed(part.columns)}): they are found by name"
            )
    return needs


def _preparation(parts: Sequence[Part], needs: Sequence[str], convert: raw.Convert) -> str:
    """What the first rows that can be read become: a Pipeline that was refitted is noticed."""
    found = hashlib.sha256(repr(needs).encode())
    for part in parts:
        if not part.trouble:
            for batch in islice(raw.batches(part, needs, SAMPLE), 1):
                found.update(raw.made_of(convert, batch, part.name, 0).tobytes())
                return found.hexdigest()
    return found.hexdigest()


def _require_target(parts: Sequence[Part], target: str) -> None:
    for part in parts:
        if not part.trouble and target not in part.columns:
            raise DataError(
                f"no column '{target}' to use as target: '{part.name}' has {listed(part.columns)}"
            )


def _agreed(
    parts: tuple[Part, ...], texts: frozenset[str], on_bad_files: OnBadFiles
) -> tuple[Part, ...]:
    """Parts whose raw columns are of one kind in all files; else both files are named."""
    first: dict[str, Part] = {}
    for part in parts:
        if part.trouble and on_bad_files == "raise":
            raise unreadable(part.name, part.trouble)
        for name in texts.intersection(() if part.trouble else part.columns):
            kind, seen = _sort(part.kind(name)), first.get(name)
            if kind and seen is not None and _sort(seen.kind(name)) != kind:
                raise WrongColumns(
                    f"column '{name}' holds {seen.kind(name)} in '{seen.name}' and "
                    f"{part.kind(name)} in '{part.name}': write it as one kind in every file"
                )
            if kind and seen is None:
                first[name] = part
    kinds = {name: part.kind(name) for name, part in first.items()}
    return tuple(_again(part, texts, kinds) for part in parts)


def _sort(kind: Any) -> str:
    """Numbers of all types are one, and so are texts; "" for a column of nothing."""
    if pa.types.is_null(kind):
        return ""
    types = pa.types
    numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    if any(test(kind) for test in numbers):
        return "numbers"
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    return "text" if any(test(kind) for test in texts) else str(kind)


def _again(part: Part, texts: frozenset[str], kinds: Mapping[str, Any]) -> Part:
    """A CSV whose first rows leave a column empty, opened with the type that others give it."""
    if part.trouble or not isinstance(part.fragment.format, pa.dataset.CsvFileFormat):
        return part
    empty = [c for c in texts.intersection(part.own) if pa.types.is_null(part.kind(c))]
    if not empty:
        return part
    held = {c: kinds.get(c, pa.string()) for c in empty}
    return replace(part, fragment=opening.fragment_at(Path(part.fragment.path), texts, held))


# -- the files --


def _stored(found: Listing, root: Path, texts: frozenset[str]) -> Iterator[Part]:
    """The parts of a path."""
    folders = opening.typed([opening.folders_of(file.path, root) for file in found.files])
    for file, held in zip(found.files, folders, strict=True):
        name = shown(file.path)
        place = shown(file.path.relative_to(root)) if found.tops else shown(file.path.name)
        part = Part(name, None, trouble=file.trouble, place=place)
        yield part if part.trouble else _opened(part, file.path, texts, held)


def _handed(source: Any) -> Iterator[Part]:
    """The parts of a pyarrow dataset."""
    if not isinstance(source, pa.dataset.FileSystemDataset):
        raise DataError(
            f"rows are streamed from a path or a pyarrow dataset of files, got "
            f"{type(source).__name__}: write it to Parquet files first"
        )
    try:
        fragments = sorted(source.get_fragments(), key=lambda f: str(f.path))
    except ValueError:
        raise DataError(
            "the dataset is filtered or projected, and files are read whole: hand over the dataset "
            "itself, or write its rows to Parquet files first"
        ) from None
    paths = [f.path for f in fragments]
    top = posixpath.commonpath([posixpath.dirname(p) for p in paths]) if paths else ""
    for fragment, path in zip(fragments, paths, strict=True):
        held = pa.dataset.get_partition_keys(fragment.partition_expression)
        part = Part(path, fragment, place=posixpath.relpath(path, top or "."))
        yield _looked_at(part, held)


def _opened(part: Part, path: Path, texts: frozenset[str], folders: Mapping[str, Any]) -> Part:
    try:
        fragment = opening.fragment_at(path, texts, {})
    except (pa.ArrowException, OSError, UnicodeError) as error:
        return replace(part, trouble=one_line(error))
    return _looked_at(replace(part, fragment=fragment), folders)


def _looked_at(part: Part, folders: Mapping[str, Any]) -> Part:
    """The part with what its schema, its end and its folders say."""
    csv = isinstance(part.fragment.format, pa.dataset.CsvFileFormat)
    try:
        part = replace(part, digest=opening.digest(part.fragment))
        names = tuple(n for n in part.fragment.physical_schema.names if not INDEX.fullmatch(n))
        rows = None if csv else part.fragment.count_rows()
    except (pa.ArrowException, OSError, UnicodeError) as error:
        return replace(part, trouble=one_line(error))
    if len(set(names)) < len(names):
        raise duplicates(f"'{part.name}'", names)
    more = {name: value for name, value in folders.items() if name not in names}
    return replace(part, columns=(*names, *more), rows=rows, folders=more)
