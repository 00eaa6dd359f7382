"""streamed(network, source): the census of a table larger than memory, in one pass, resumable."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from numpy.typing import NDArray

from gatewise.errors import BadRows, DataError, EmptyData
from gatewise.ir.network import Network, fingerprint, require_piecewise_affine
from gatewise.ir.pattern import Pattern, layout, row_bytes
from gatewise.linear.affine_map import AffineMap
from gatewise.numeric import whole_number
from gatewise.patterns.hashing import names
from gatewise.patterns.observe import Observer, default_batch
from gatewise.patterns.streaming import folder, runs
from gatewise.patterns.streaming.merging import merge
from gatewise.patterns.streaming.parts import OnBadFiles, Table, table_of, unreadable
from gatewise.patterns.streaming.reading import Block, ahead, blocks
from gatewise.patterns.streaming.runs import Ids, Run, Segment
from gatewise.tables.words import counted, listed

VERSION = 1  # of the files of unfinished work
SEGMENT_ROWS = 1 << 21  # rows of a run, at most
SEGMENT_BYTES = 1 << 26  # of packed patterns of a run, at most
OnBadRows = Literal["raise", "skip"]
Progress = Callable[[int, int | None, float], None]  # rows done, rows in all if known, rows/s


@dataclass(frozen=True)
class Broken:
    """A file that could not be read from `row` on (0: at all), and why."""

    file: str
    row: int
    why: str


@dataclass(frozen=True, eq=False)
class StreamedCensus:
    """The clusters of the rows of some files: what `Census` says, with the rows left on disk.

    rows: all that were read; undecided: those with a unit that rounding leaves in doubt; skipped:
    those left out for NaN or infinity; broken: files left out, from where on; folder: of
    patterns.parquet and rows.parquet, None where none was asked for.
    Rows are numbered in the order of the files' names; a broken file's missing rows have no number.
    """

    network: Network
    rows: int
    clusters: int
    undecided: int
    skipped: int
    broken: tuple[Broken, ...]
    folder: Path | None
    held: Run | None = None

    def __len__(self) -> int:
        return self.clusters

    def __repr__(self) -> str:
        left = f", {self.skipped} skipped" if self.skipped else ""
        return (
            f"StreamedCensus({self.rows} rows in {self.clusters} clusters; "
            f"{self.undecided} rows undecided{left})"
        )

    @cached_property
    def _run(self) -> Run:
        if self.held is not None:
            return self.held
        assert self.folder is not None
        return runs.read(self.folder / folder.PATTERNS)

    @property
    def counts(self) -> Ids:
        """(clusters,) rows of each, the largest first."""
        return self._run.counts

    @property
    def first(self) -> Ids:
        """(clusters,) the earliest row of each."""
        return self._run.first

    @property
    def pattern(self) -> Pattern:
        """One row a cluster."""
        return Pattern(self._run.bits, layout(self.network))

    @property
    def maps(self) -> AffineMap:
        """The affine map of each cluster, lazy."""
        return AffineMap(self.network, self.pattern)

    @property
    def names(self) -> list[str]:
        """A 128-bit name for each cluster's pattern, the same in every run."""
        return names(self.pattern.bits)

    def ids(self) -> Iterator[Ids]:
        """The cluster of each row (-1: left out), some rows at a time."""
        if self.folder is None:
            raise DataError(
                "the rows' clusters were not kept: give the census a folder, out=, and they are "
                f"written to {folder.ROWS}"
            )
        with pa.parquet.ParquetFile(self.folder / folder.ROWS) as file:
            for batch in file.iter_batches(1 << 20, columns=["cluster"]):
                yield batch.column(0).to_numpy()


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
    are matched by name. Memory beyond the answer: a few blocks of 16 MB, one run of at most
    2,097,152 rows' packed patterns (64 MB at most) and its sort, a 64th of the distinct patterns.
    out: a folder; a census that was killed goes on where its last run ended.
    """
    require_piecewise_affine(network, "a census of patterns")
    size = None if batch_size is None else whole_number(batch_size, "batch_size")
    for name, value in (("on_bad_rows", on_bad_rows), ("on_bad_files", on_bad_files)):
        if value not in ("raise", "skip"):
            raise DataError(f"{name} must be 'raise' or 'skip', got {value!r}")
    if network.prepare is not None:
        raise DataError(
            "the model prepares raw columns (a scikit-learn Pipeline), which is not streamed: "
            "write the prepared table to Parquet and read the network alone"
        )
    table = table_of(source, network.feature_names, network.inputs, on_bad_files)
    job = _job(network, table, {"on_bad_rows": on_bad_rows, "on_bad_files": on_bad_files})
    how = _How(on_bad_rows, on_bad_files, size, progress)
    with _place(out) as where:
        if not folder.finished(where, job):
            _run(network, table, where, job, how, rows=out is not None)
        found = _read(network, where)
        if out is None:
            return dataclasses.replace(found, folder=None, held=found._run)
        return found


@dataclass(frozen=True, eq=False)
class _How:
    on_bad_rows: OnBadRows
    on_bad_files: OnBadFiles
    batch_size: int | None
    progress: Progress | None


def _job(network: Network, table: Table, settings: dict[str, str]) -> folder.Job:
    """What a census is of: two that agree here give the same answer."""
    return {
        "version": VERSION,
        "model": fingerprint(network),
        "columns": list(table.columns),
        "files": [[p.name, p.digest or p.trouble] for p in table.parts],
        "run rows": [SEGMENT_ROWS, SEGMENT_BYTES],
        **settings,
    }


@contextmanager
def _place(out: str | Path | None) -> Iterator[Path]:
    """The folder asked for, locked; or one that is gone afterwards."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="gatewise-census-") as name:
            yield Path(name)
    else:
        with folder.only_one(Path(out)):
            yield Path(out)


def _run(
    network: Network, table: Table, out: Path, job: folder.Job, how: _How, *, rows: bool
) -> None:
    """Runs from where the last ended, then their merge, then the file that says it is done."""
    work = folder.opened(out, job)
    try:
        _Scan(network, table, work, how, rows).all()
    finally:
        done = folder.runs_of(work)
        if not done:
            folder.discard(out)  # nothing to go on from: the next census may be of anything
    total = sum(d["inside"] for d in done)
    if total == 0:
        raise EmptyData("a census needs at least one row, got 0 rows of finite numbers")
    width = row_bytes(layout(network))
    clusters = merge(out, work, done, width, rows=rows)
    said = {
        "rows": done[-1]["stop"],
        "clusters": clusters,
        "undecided": sum(d["undecided"] for d in done),
        "skipped": done[-1]["stop"] - total,
        "broken": [b for d in done for b in d["broken"]],
        "job": job,
    }
    folder.write_json(out / folder.META, said)
    folder.discard(out)


def _read(network: Network, out: Path) -> StreamedCensus:
    """The finished census in a folder."""
    said = json.loads((out / folder.META).read_text())
    numbers = {name: said[name] for name in ("rows", "clusters", "undecided", "skipped")}
    broken = tuple(Broken(*b) for b in said["broken"])
    return StreamedCensus(network, broken=broken, folder=out, **numbers)


class _Scan:
    """The pass over the rows, from where the runs in `work` end (a builder, not a value)."""

    def __init__(self, network: Network, table: Table, work: Path, how: _How, rows: bool) -> None:
        self.network, self.table, self.work, self.how = network, table, work, how
        self.keep_rows = rows
        exact = network.to(torch.float64)
        self.observer = Observer(exact)
        self.step = how.batch_size or default_batch(exact)
        done = folder.runs_of(work)
        self.runs = len(done)
        self.next, self.stop = folder.place_after(done)
        width = row_bytes(self.observer.fields)
        capacity = max(1, min(SEGMENT_ROWS, SEGMENT_BYTES // width))
        self.segment = Segment(self.stop, capacity, width)
        self.broken: list[tuple[str, int, str]] = []
        self.begin, self.begun = time.monotonic(), self.stop

    def all(self) -> None:
        """Every block that is left, and the last run."""
        for block in ahead(blocks(self.table, self.next)):
            if block.trouble:
                self._leave(block)
            self._take(block)
            self.next = block.next
        if self.segment.rows or self.broken:
            self._flush()

    def _leave(self, block: Block) -> None:
        name = self.table.parts[block.place.part].name
        if self.how.on_bad_files == "raise":
            raise unreadable(name, f"{block.trouble} (after {counted(block.place.row, 'row')})")
        self.broken.append((name, block.place.row, block.trouble))

    def _take(self, block: Block) -> None:
        """Batch after batch; a run that is full on the way is written."""
        values, at = block.values, 0
        while at < len(values):
            size = min(self.step, self.segment.room, len(values) - at)
            self._observe(values[at : at + size], block, at)
            at += size
            self.next = dataclasses.replace(block.place, row=block.place.row + at)
            if not self.segment.room:
                self._flush()
        self._tell()

    def _observe(self, values: NDArray[np.float64], block: Block, at: int) -> None:
        exact = self.observer.network
        given = torch.from_numpy(values).to(self.network.dtype)
        bad = ~_finite_rows(given)
        if bad.any():
            self._skip(np.flatnonzero(bad), block, at)
            given = torch.where(torch.from_numpy(bad)[:, None], torch.zeros_like(given), given)
        x = given.to(exact.device, exact.dtype).reshape(-1, *exact.input_shape)
        seen = self.observer(x)
        if not _sum_is_finite(seen.output):
            row = int(np.flatnonzero(~_finite_rows(seen.output.cpu()))[0]) + at + block.place.row
            raise DataError(
                f"the network's output is not finite at row {row} (counted from 0) of "
                f"'{self._file(block)}': its inputs are too large"
            )
        self.segment.put(seen.pattern.bits, seen.undecided)
        if bad.any():
            self.segment.leave_out(self.segment.rows - len(values) + np.flatnonzero(bad))

    def _skip(self, bad: Ids, block: Block, at: int) -> None:
        if self.how.on_bad_rows == "raise":
            rows = (bad + at + block.place.row).tolist()
            raise BadRows(
                f"NaN or infinity in {counted(len(rows), 'row')} of '{self._file(block)}', rows "
                f"counted from 0: {listed(rows)} (and perhaps later ones). Repair them, or leave "
                "such rows out (on_bad_rows='skip')",
                tuple(rows),
            )

    def _file(self, block: Block) -> str:
        return self.table.parts[block.place.part].name

    def _flush(self) -> None:
        """One more run on the disk: its rows' places first, for it is the run that counts."""
        run, ids = self.segment.close(ids=self.keep_rows)
        doubts = self.segment.doubts[: self.segment.rows]
        if self.keep_rows:
            runs.write_ids(folder.ids_path(self.work, self.runs), ids, doubts)
        self.stop = self.segment.start + self.segment.rows
        facts = {
            "next": [self.next.part, self.next.row],
            "stop": self.stop,
            "inside": int(run.counts.sum()),
            "undecided": int((doubts > 0).sum()),
            "broken": self.broken,
        }
        runs.write(folder.run_path(self.work, self.runs), run, facts)
        self.segment.reopen()
        self.runs, self.broken = self.runs + 1, []

    def _tell(self) -> None:
        if self.how.progress is not None:
            rows = self.segment.start + self.segment.rows
            spent = max(time.monotonic() - self.begin, 1e-9)
            self.how.progress(rows, self.table.rows, (rows - self.begun) / spent)


def _sum_is_finite(values: torch.Tensor) -> bool:
    """One pass without a mask; finite numbers whose sum is not are looked at again, row by row."""
    return bool(values.sum().isfinite()) or bool(_finite_rows(values.cpu()).all())


def _finite_rows(values: torch.Tensor) -> NDArray[np.bool_]:
    """(rows,) which hold finite numbers only."""
    if values.sum().isfinite():
        return np.ones(len(values), bool)
    return values.reshape(len(values), -1).isfinite().all(1).numpy()
