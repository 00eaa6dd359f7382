"""A run: the census of consecutive rows as one sorted Parquet file; spill and checkpoint in one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from gatewise.patterns.compiled import hashed
from gatewise.patterns.hashing import U64, group, places
from gatewise.tables.writing import whole_file

Ids = NDArray[np.int64]
Bits = NDArray[np.uint8]
BUCKET_BITS = 6  # distinct patterns are merged by the first bits of their hash, a 64th at a time
BUCKETS = 1 << BUCKET_BITS
OUTSIDE = -1  # the id of a row that was left out


@dataclass(frozen=True, eq=False)
class Run:
    """Distinct patterns in order of (hash, bits): bits (patterns, bytes), counts, first rows."""

    bits: Bits
    counts: Ids
    first: Ids

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def bounds(self) -> list[int]:
        """Where each bucket of hashes begins, and the end."""
        tops = hashes(self.bits) >> np.uint64(64 - BUCKET_BITS)
        return [int(i) for i in np.searchsorted(tops, np.arange(BUCKETS + 1, dtype=np.uint64))]


def hashes(bits: Bits) -> U64:
    """`hashing.hashes`, compiled."""
    words, keys = bits.view(np.uint64), np.empty(len(bits), np.uint64)
    hashed(words, places(words.shape[1]), keys)
    return keys


class Segment:
    """Collects consecutive rows until they make a run (a builder, not a value)."""

    def __init__(self, start: int, capacity: int, width: int) -> None:
        self.start, self.rows = start, 0
        self.bits = np.empty((capacity, width), np.uint8)
        self.doubts = np.empty(capacity, np.int32)
        self.outside = np.empty(capacity, bool)

    @property
    def room(self) -> int:
        return len(self.bits) - self.rows

    def put(self, bits: Bits, doubts: NDArray[np.int32], outside: NDArray[np.bool_]) -> None:
        """Rows with their patterns and undecided units; those outside are in no cluster."""
        here = slice(self.rows, self.rows + len(bits))
        self.bits[here], self.doubts[here], self.outside[here] = bits, doubts, outside
        self.rows += len(bits)

    def close(self) -> tuple[Run, NDArray[np.int32]]:
        """The run, and the position in it of every row."""
        inside = np.flatnonzero(~self.outside[: self.rows])
        whole = len(inside) == self.rows
        bits = self.bits[: self.rows] if whole else self.bits[inside]
        went = np.full(self.rows, OUTSIDE, np.int32)
        found = group(bits, hashes(bits))
        went[inside] = found.inverse
        counts = np.bincount(found.inverse, minlength=len(found.first)).astype(np.int64)
        first = inside[found.first]
        return Run(self.bits[first], counts, first + self.start), went

    def reopen(self) -> None:
        """Begin anew after the rows so far."""
        self.start, self.rows = self.start + self.rows, 0


def merged(parts: list[Run]) -> tuple[Run, Ids]:
    """The run of all parts' rows, one after another, and where each of their patterns went."""
    bits = np.concatenate([p.bits for p in parts])
    found = group(bits, hashes(bits))
    sizes = np.concatenate([p.counts for p in parts])
    counts = np.bincount(found.inverse, sizes, len(found.first)).astype(np.int64)
    first = np.concatenate([p.first for p in parts])[found.first]
    return Run(bits[found.first], counts, first), found.inverse


def nothing(width: int) -> Run:
    """The run of no rows."""
    return Run(np.empty((0, width), np.uint8), np.empty(0, np.int64), np.empty(0, np.int64))


def as_table(run: Run) -> Any:
    """Columns pattern (fixed-size binary), rows and first."""
    bits = np.ascontiguousarray(run.bits)
    kind = pa.binary(bits.shape[1])
    packed = pa.Array.from_buffers(kind, len(bits), [None, pa.py_buffer(bits)])
    return pa.table({"pattern": packed, "rows": run.counts, "first": run.first})


def as_run(table: Any) -> Run:
    """What `as_table` wrote."""
    packed = table.column("pattern").combine_chunks()
    packed = packed.chunk(0) if isinstance(packed, pa.ChunkedArray) else packed
    width = packed.type.byte_width
    flat = np.frombuffer(packed.buffers()[1] or b"", np.uint8)
    bits = flat[packed.offset * width : (packed.offset + len(packed)) * width]
    counts, first = (table.column(name).to_numpy() for name in ("rows", "first"))
    return Run(bits.reshape(-1, width), counts, first)


def read(path: Path) -> Run:
    """All of a file of such columns, a row group at a time: nothing is held twice."""
    with pa.parquet.ParquetFile(path) as file:
        rows = file.metadata.num_rows
        width = file.schema_arrow.field("pattern").type.byte_width
        whole = Run(np.empty((rows, width), np.uint8), *np.empty((2, rows), np.int64))
        at = 0
        for k in range(file.num_row_groups):
            part = as_run(file.read_row_group(k))
            here = slice(at, at + len(part))
            whole.bits[here] = part.bits
            whole.counts[here], whole.first[here] = part.counts, part.first
            at += len(part)
    return whole


def writer(path: Path, schema: Any) -> Any:
    """Plain pages: hashed bits neither compress nor repeat."""
    return pa.parquet.ParquetWriter(
        path, schema, compression="none", use_dictionary=False, write_statistics=False
    )


def write(path: Path, run: Run, facts: dict[str, Any]) -> None:
    """The run as a file, whole or not at all: one row group a bucket that is not empty."""
    bounds = run.bounds
    table = as_table(run)
    said = json.dumps(facts | {"bounds": bounds})
    schema = table.schema.with_metadata({"gatewise": said})
    with whole_file(path) as draft, writer(draft, schema) as out:
        for a, b in pairwise(bounds):
            if b > a:
                out.write_table(table.slice(a, b - a), row_group_size=b - a)


def facts_of(path: Path) -> dict[str, Any]:
    """What was said of a run when it was written, and the bounds of its buckets."""
    found: dict[str, Any] = json.loads(pa.parquet.read_schema(path).metadata[b"gatewise"])
    return found


def bucket(path: Path, bounds: list[int], which: int) -> Run | None:
    """One bucket of a run, or None where it is empty."""
    if bounds[which] == bounds[which + 1]:
        return None
    group = len(set(bounds[: which + 1])) - 1
    with pa.parquet.ParquetFile(path, memory_map=False) as file:
        return as_run(file.read_row_group(group))


def write_ids(path: Path, ids: NDArray[np.int32], doubts: NDArray[np.int32]) -> None:
    """The place of every row in its run, and its undecided units."""
    table = pa.table({"place": ids, "undecided": doubts})
    with whole_file(path) as draft:
        pa.parquet.write_table(table, draft, compression="none", use_dictionary=["undecided"])
