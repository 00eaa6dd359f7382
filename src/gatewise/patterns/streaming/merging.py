"""Runs merged into one census, a 64th of the hashes at a time: disk holds what memory does not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from gatewise.patterns.streaming import folder, runs
from gatewise.patterns.streaming.runs import BUCKETS, OUTSIDE, Ids, Run
from gatewise.tables.writing import sentences, whole_file

ROWS = 1 << 20  # of a row group of the answer
MERGED = "merged.parquet"  # all distinct patterns, a row group a bucket


@dataclass(frozen=True, eq=False)
class Merge:
    """Unfinished work: what every run says of itself, and the folder of the answer."""

    out: Path
    work: Path
    done: list[dict[str, Any]]
    width: int

    @property
    def sizes(self) -> list[int]:
        """Distinct patterns of each run."""
        return [facts["bounds"][-1] for facts in self.done]


def merge(out: Path, work: Path, done: list[dict[str, Any]], width: int) -> int:
    """Write patterns.parquet and rows.parquet; the number of clusters.

    Clusters are numbered by size, the largest 0, ties in order of (hash, bits): what a pattern's
    number depends on is the set of all rows, not how they were cut into runs.
    """
    job = Merge(out, work, done, width)
    with sentences(out):
        clusters, sizes = _join(job)
        _rank(job, clusters, sizes)
        _write_patterns(job, clusters)
        _write_rows(job, clusters)
    return clusters


def _join(job: Merge) -> tuple[int, Counter[int]]:
    """Distinct patterns of all runs in order of hash, and how many have each size.

    Keeps where each pattern of each run went, as its place in that order.
    """
    offsets = np.cumsum([0, *job.sizes])
    went, total, tally = _mapped(job.work / "went", int(offsets[-1]), 1), 0, Counter[int]()
    schema = runs.as_table(runs.nothing(job.width)).schema
    with runs.writer(job.work / MERGED, schema) as out:
        for b, parts in _buckets(job):
            run, inverse = runs.merged([part for _, part in parts])
            out.write_table(runs.as_table(run), row_group_size=len(run))
            at = 0
            for k, part in parts:
                start = offsets[k] + job.done[k]["bounds"][b]
                went[start : start + len(part), 0] = total + inverse[at : at + len(part)]
                at += len(part)
            total += len(run)
            sizes, times = np.unique(run.counts, return_counts=True)
            tally.update(dict(zip(sizes.tolist(), times.tolist(), strict=True)))
    return total, tally


def _buckets(job: Merge) -> Iterator[tuple[int, list[tuple[int, Run]]]]:
    """The parts of all runs whose hash begins alike, each with the number of its run."""
    for b in range(BUCKETS):
        read = (
            (k, runs.bucket(folder.run_path(job.work, k), facts["bounds"], b))
            for k, facts in enumerate(job.done)
        )
        with folder.known(job.out):
            parts = [(k, run) for k, run in read if run is not None]
        if parts:
            yield b, parts


def _rank(job: Merge, clusters: int, sizes: Counter[int]) -> None:
    """Every pattern to its final place: after the larger ones and those before it of its size.

    The place of each size's next pattern is all that is held: at most sqrt(2 rows) numbers.
    """
    largest_first = sorted(sizes, reverse=True)
    ends = np.cumsum([sizes[s] for s in largest_first])
    ascending = np.array(largest_first[::-1], np.int64)
    upcoming = (ends - [sizes[s] for s in largest_first])[::-1].copy()
    rank, bits = _mapped(job.work / "rank", clusters, 1), _mapped_bits(job, clusters)
    facts, at = _mapped(job.work / "facts", clusters, 2), 0
    with pa.parquet.ParquetFile(job.work / MERGED) as file:
        for group in range(file.num_row_groups):
            run = runs.as_run(file.read_row_group(group))
            places = _places(np.searchsorted(ascending, run.counts), upcoming)
            rank[at : at + len(run), 0] = places
            bits[places] = run.bits
            facts[places, 0], facts[places, 1] = run.counts, run.first
            at += len(run)


def _places(kinds: Ids, upcoming: Ids) -> Ids:
    """The next free place of each kind, in order; `upcoming` moves on by those given out."""
    order = np.argsort(kinds, kind="stable")
    times = np.bincount(kinds, minlength=len(upcoming))
    before = np.cumsum(times) - times
    places = np.empty(len(kinds), np.int64)
    held = kinds[order]
    places[order] = upcoming[held] + np.arange(len(kinds)) - before[held]
    upcoming += times
    return places


def _write_patterns(job: Merge, clusters: int) -> None:
    """Cluster after cluster: its pattern, its rows, its first row."""
    bits, facts = _mapped_bits(job, clusters), _mapped(job.work / "facts", clusters, 2)
    schema = runs.as_table(runs.nothing(job.width)).schema
    with whole_file(job.out / folder.PATTERNS) as draft, runs.writer(draft, schema) as writer:
        for a in range(0, clusters, ROWS):
            part = slice(a, a + ROWS)
            counts, first = (np.ascontiguousarray(facts[part, j]) for j in (0, 1))
            writer.write_table(runs.as_table(Run(bits[part], counts, first)))


def _write_rows(job: Merge, clusters: int) -> None:
    """Row after row: its cluster (-1: left out) and its undecided units."""
    went = _mapped(job.work / "went", sum(job.sizes), 1)
    rank = _mapped(job.work / "rank", clusters, 1)
    schema = pa.schema({"cluster": pa.int64(), "undecided": pa.int32()})
    at = 0
    with (
        whole_file(job.out / folder.ROWS) as draft,
        pa.parquet.ParquetWriter(
            draft, schema, compression="none", use_dictionary=["undecided"]
        ) as writer,
    ):
        for k, size in enumerate(job.sizes):
            with folder.known(job.out):
                table = pa.parquet.read_table(folder.ids_path(job.work, k))
            final = np.append(rank[went[at : at + size, 0], 0], OUTSIDE)
            ids = final[table.column("place").to_numpy()]
            writer.write_table(pa.table([ids, table.column("undecided")], schema=schema))
            at += size


def _mapped_bits(job: Merge, clusters: int) -> NDArray[np.uint8]:
    return _mapped(job.work / "bits", clusters, job.width, np.uint8)


def _mapped(path: Path, rows: int, columns: int, dtype: Any = np.int64) -> NDArray[Any]:
    """An array (rows, columns) that lies in a file, made where it is not there.

    The space is taken first: a full disk is an error then, and no broken bus later.
    """
    size = rows * columns * np.dtype(dtype).itemsize
    if size == 0:
        return np.empty((rows, columns), dtype)
    with path.open("r+b" if path.is_file() else "w+b") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return np.memmap(path, dtype, "r+", shape=(rows, columns))
