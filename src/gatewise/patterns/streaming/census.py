"""streamed(network, source): the census of a table larger than memory, in one pass, resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from gatewise.errors import EmptyData, OutputError
from gatewise.ir.network import Network, fingerprint, require_piecewise_affine
from gatewise.ir.pattern import layout, row_bytes
from gatewise.patterns.streaming import folder, runs
from gatewise.patterns.streaming.abreast import abreast
from gatewise.patterns.streaming.answer import Broken, StreamedCensus
from gatewise.patterns.streaming.merging import merge
from gatewise.patterns.streaming.parts import OnBadFiles, Table, table_of, unreadable
from gatewise.patterns.streaming.pieces import settled
from gatewise.patterns.streaming.reading import Block, Place, blocks
from gatewise.patterns.streaming.runs import Segment
from gatewise.patterns.streaming.tally import Records, Tally, records
from gatewise.patterns.streaming.watch import OnBadRows, Seen, Watch, chains_of
from gatewise.tables.words import counted

T = TypeVar("T")
VERSION = 3  # of the files of unfinished work
SEGMENT_ROWS = 1 << 21  # rows of a run, at most
SEGMENT_BYTES = 1 << 26  # of packed patterns of a run, at most
NO_ROWS = "a census needs at least one row, got 0 rows of finite numbers"
Progress = Callable[[int, int | None, float], None]  # rows done, rows in all if known, rows/s


def streamed(
    network: Network,
    source: Any,
    *,
    out: str | Path | None = None,
    on_bad_rows: OnBadRows = "raise",
    on_bad_files: OnBadFiles = "raise",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> StreamedCensus:
    """Clusters of the rows of `source` by activation pattern: `census` of a table not in memory.

    source: a file or folder of Parquet, Arrow or CSV files, or a pyarrow dataset of files; columns
    are matched by name. Memory: the distinct patterns, some blocks of 16 MB a thread (torch's
    number), and what the patterns' sort takes.
    out: a folder; patterns and rows lie there and not in memory, but for a 64th of the patterns and
    one run of at most 2,097,152 rows; a census that was killed goes on where its last run ended.
    """
    require_piecewise_affine(network, "a census of patterns")
    bad: dict[str, str] = {"on_bad_rows": on_bad_rows, "on_bad_files": on_bad_files}
    size = settled(batch_size, **bad)
    table = table_of(
        source, network.feature_names, network.inputs, on_bad_files, prepare=network.prepare
    )
    how = _How(on_bad_rows, on_bad_files, size, progress)
    if out is None:
        return replace(_in_memory(network, table, how), passed=table.passed)
    where = folder.place_of(out)
    job = job_of(network, table, bad)
    with folder.only_one(where, read=table.tops):
        if not folder.finished(where, job):
            _in_folder(network, table, where, job, how)
        return replace(finished_in(network, where), passed=table.passed)


def job_of(network: Network, table: Table, settings: dict[str, str]) -> folder.Job:
    """What a census is of: two that agree here give the same answer."""
    return {
        "version": VERSION,
        "model": fingerprint(network),
        "columns": list(table.columns),
        "preparation": table.preparation,
        "files": table.files,
        "run rows": [SEGMENT_ROWS, SEGMENT_BYTES],
        **settings,
    }


def finished_in(network: Network, out: Path) -> StreamedCensus:
    """The finished census in a folder."""
    with folder.known(out):
        said = json.loads((out / folder.META).read_text())
        numbers = {name: said[name] for name in ("rows", "clusters", "undecided", "skipped")}
        broken = tuple(Broken(*b) for b in said["broken"])
        return StreamedCensus(network, broken=broken, folder=out, **numbers)


@dataclass(frozen=True, eq=False)
class _How:
    on_bad_rows: OnBadRows
    on_bad_files: OnBadFiles
    batch_size: int | None
    progress: Progress | None


# -- the pass over the rows --


def _watched(
    network: Network, table: Table, start: Place, how: _How, then: Callable[[Seen], T]
) -> Iterator[tuple[Block, Seen, T]]:
    """Every block from `start` on, its patterns, and `then` of them; one with trouble has none."""

    def name(block: Block) -> str:
        return table.parts[block.place.part].name

    chains = chains_of(network)

    def make() -> Callable[[Block], tuple[Block, Seen, T]]:
        watch = Watch(network, how.on_bad_rows, how.batch_size, chains)

        def work(block: Block) -> tuple[Block, Seen, T]:
            seen = watch(block, name(block))
            return block, seen, then(seen)

        return work

    for block, seen, more in abreast(make, blocks(table, start), torch.get_num_threads()):
        if block.trouble and how.on_bad_files == "raise":
            raise unreadable(
                name(block), f"{block.trouble} (after {counted(block.place.row, 'row')})"
            )
        yield block, seen, more


@dataclass(eq=False)
class _Count:
    """What a pass has met beside patterns (a builder)."""

    table: Table
    how: _How
    rows: int = 0
    undecided: int = 0
    skipped: int = 0
    broken: list[tuple[str, int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin, self.begun = time.monotonic(), self.rows

    def take(self, block: Block, seen: Seen) -> None:
        """One more block."""
        if block.trouble:
            place = self.table.parts[block.place.part].place
            self.broken.append((place, block.place.row, block.trouble))
        self.rows += len(seen)
        self.undecided += int(np.count_nonzero(seen.units))
        self.skipped += int(np.count_nonzero(seen.outside))

    def tell(self) -> None:
        """Progress, to those who asked for it."""
        if self.how.progress is not None:
            spent = max(time.monotonic() - self.begin, 1e-9)
            self.how.progress(self.rows, self.table.rows, (self.rows - self.begun) / spent)


def _in_memory(network: Network, table: Table, how: _How) -> StreamedCensus:
    """One pass; the distinct patterns are held."""
    count = _Count(table, how)
    threads = torch.get_num_threads() + 1  # those that decide, and this one, which reads
    tally = Tally(row_bytes(layout(network)), threads, table.rows)
    for block, seen, made in _watched(network, table, Place(), how, _records):
        tally.add(replace(made, start=count.rows))
        count.take(block, seen)
        count.tell()
    if count.rows == count.skipped:
        raise EmptyData(NO_ROWS)
    run, broken = tally.close(), tuple(Broken(*b) for b in count.broken)
    numbers = (count.rows, len(run), count.undecided, count.skipped)
    return StreamedCensus(network, *numbers, broken, None, run)


def _records(seen: Seen) -> Records:
    if not seen.outside.any():
        return records(seen.bits)
    inside = np.flatnonzero(~seen.outside)
    return records(seen.bits[inside], rows=inside)


# -- the same in a folder --


def _in_folder(network: Network, table: Table, out: Path, job: folder.Job, how: _How) -> None:
    """Runs from where the last ended, then their merge, then the file that says it is done."""
    work, width = folder.opened(out, job), row_bytes(layout(network))
    scan = _Runs(network, table, work, how)
    try:
        scan.all()
    finally:
        if not scan.inside:
            folder.discard(out)  # nothing to go on from: the next census may be of anything
    if not scan.inside:
        raise EmptyData(NO_ROWS)
    done = folder.runs_of(work)
    total = sum(d["inside"] for d in done)
    if total != scan.inside:
        raise OutputError(f"'{out}' was changed while the census wrote to it: start again")
    said = {
        "rows": done[-1]["stop"],
        "clusters": merge(out, work, done, width),
        "undecided": sum(d["undecided"] for d in done),
        "skipped": done[-1]["stop"] - total,
        "broken": [b for d in done for b in d["broken"]],
        "job": job,
    }
    folder.write_json(out / folder.META, said)
    folder.discard(out)


class _Runs:
    """The pass over the rows, from where the runs in `work` end (a builder, not a value)."""

    def __init__(self, network: Network, table: Table, work: Path, how: _How) -> None:
        self.network, self.table, self.work, self.how = network, table, work, how
        done = folder.runs_of(work)
        self.runs, self.inside = len(done), sum(d["inside"] for d in done)
        self.next, stop = folder.place_after(done)
        width = row_bytes(layout(network))
        capacity = max(1, min(SEGMENT_ROWS, SEGMENT_BYTES // width))
        self.segment = Segment(stop, capacity, width)
        self.count = _Count(table, how, stop)

    def all(self) -> None:
        """Every block that is left, and the last run."""
        for block, seen, _ in _watched(self.network, self.table, self.next, self.how, len):
            self.count.take(block, seen)
            self._take(block, seen)
            self.next = block.next
            self.count.tell()
        if self.segment.rows or self.count.broken:
            self._flush()

    def _take(self, block: Block, seen: Seen) -> None:
        """A run that is full on the way is written."""
        at = 0
        while at < len(seen):
            size = min(self.segment.room, len(seen) - at)
            here = slice(at, at + size)
            self.segment.put(seen.bits[here], seen.units[here], seen.outside[here])
            at += size
            self.next = replace(block.place, row=block.place.row + at)
            if not self.segment.room:
                self._flush()

    def _flush(self) -> None:
        """One more run on the disk: its rows' places first, for it is the run that counts."""
        run, ids = self.segment.close()
        doubts = self.segment.doubts[: self.segment.rows]
        runs.write_ids(folder.ids_path(self.work, self.runs), ids, doubts)
        facts: folder.Job = {
            "next": [self.next.part, self.next.row],
            "stop": self.segment.start + self.segment.rows,
            "inside": int(run.counts.sum()),
            "undecided": int((doubts > 0).sum()),
            "broken": self.count.broken,
        }
        runs.write(folder.run_path(self.work, self.runs), run, facts)
        self.segment.reopen()
        self.inside += facts["inside"]
        self.runs, self.count.broken = self.runs + 1, []
