"""Partial censuses added up by ranges of their patterns' hashes, and the folder of the answer.

Patterns are in order of (hash, bits), so a range of hashes is a slice of every part, and the
ranges of the answer, one after another, are the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.patterns.hashing import hashes
from gatewise.patterns.streaming import folder, runs
from gatewise.patterns.streaming.opening import pa
from gatewise.patterns.streaming.runs import BUCKETS, OUTSIDE, Ids, Run, merged
from gatewise.patterns.streaming.tally import summed
from gatewise.tables.writing import whole_file

GROUP_ROWS = 1 << 20  # of a row group of the patterns
WAITING = 1 << 16  # patterns to wait for before the first merge


def sliced(run: Run, ranges: int) -> list[Run]:
    """The run in so many ranges of hashes, a power of two up to BUCKETS."""
    bounds = run.bounds[:: BUCKETS // ranges]
    pairs = pairwise(bounds)
    return [Run(run.bits[a:b], run.counts[a:b], run.first[a:b]) for a, b in pairs]


def added(parts: Iterable[Run]) -> Run:
    """The sum of parts whose rows follow one another, merged whenever the sum has doubled."""
    whole: list[Run] = []
    waiting: list[Run] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) > max([WAITING, *map(len, whole)]):
            whole, waiting = [summed([*whole, *waiting])], []
    return summed([*whole, *waiting]) if waiting or not whole else whole[0]


def went(whole: Run, parts: Iterable[Run]) -> Iterator[NDArray[np.int32]]:
    """Where each part's patterns are in the whole, which has them all."""
    keys = hashes(whole.bits)
    for part in parts:
        at = np.searchsorted(keys, hashes(part.bits)) if len(part) else np.empty(0, np.int64)
        if not (whole.bits[at] == part.bits).all():  # two patterns share a hash
            at = merged([whole, part])[1][len(whole) :]
        yield at.astype(np.int32)


def shifted(run: Run, start: int) -> Run:
    """The run with its rows numbered from `start`."""
    return Run(run.bits, run.counts, run.first + start)


def by_size(run: Run) -> Ids:
    """The order of the clusters: the largest first, ties in order of (hash, bits)."""
    return np.argsort(-run.counts, kind="stable")


def chained(parts: Sequence[Run]) -> Run:
    """Ranges one after another."""
    bits, counts, first = (
        np.concatenate([getattr(p, name) for p in parts]) for name in ("bits", "counts", "first")
    )
    return Run(bits, counts, first)


def write_patterns(out: Path, run: Run) -> None:
    """patterns.parquet: cluster after cluster, its pattern, its rows, its first row."""
    schema = runs.as_table(run).schema
    with whole_file(out / folder.PATTERNS) as draft, runs.writer(draft, schema) as writer:
        for a in range(0, len(run), GROUP_ROWS):
            b = a + GROUP_ROWS
            writer.write_table(runs.as_table(Run(run.bits[a:b], run.counts[a:b], run.first[a:b])))


def write_rows(out: Path, kept: Iterable[tuple[NDArray[np.int32], NDArray[np.int32], Ids]]) -> None:
    """rows.parquet: row after row, its cluster (-1: left out) and its undecided units.

    kept: of each piece, its rows' places in its run, their undecided units, and the cluster of
    each pattern of its run.
    """
    schema = pa.schema({"cluster": pa.int64(), "undecided": pa.int32()})
    with ExitStack() as stack:
        draft = stack.enter_context(whole_file(out / folder.ROWS))
        writer: Any = stack.enter_context(
            pa.parquet.ParquetWriter(
                draft, schema, compression="none", use_dictionary=["undecided"]
            )
        )
        for places, units, clusters in kept:
            ids = np.append(clusters, OUTSIDE)[places]
            writer.write_table(pa.table([ids, units], schema=schema))
