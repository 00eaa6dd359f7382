"""What a streamed census says: its clusters in memory or in a folder, the rows left on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from gatewise.errors import DataError
from gatewise.ir.network import Network
from gatewise.ir.pattern import Pattern, layout
from gatewise.linear.affine_map import AffineMap
from gatewise.patterns.hashing import names
from gatewise.patterns.streaming import folder, runs
from gatewise.patterns.streaming.runs import Ids, Run
from gatewise.tables.words import counted


@dataclass(frozen=True)
class Broken:
    """A file of the table that could not be read from `row` on (0: at all), and why."""

    file: str
    row: int
    why: str


@dataclass(frozen=True, eq=False)
class StreamedCensus:
    """The clusters of the rows of some files: what `Census` says, with the rows left on disk.

    rows: all that were read; undecided: those with a unit that rounding leaves in doubt; skipped:
    those left out for NaN or infinity; broken: files left out, from where on; folder: of
    patterns.parquet and rows.parquet, None where none was asked for; passed: files of other kinds
    in the folder that was read, which were passed over.
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
    passed: int = 0

    def __len__(self) -> int:
        return self.clusters

    def __repr__(self) -> str:
        left = f", {self.skipped} skipped" if self.skipped else ""
        left += f"; {counted(self.passed, 'other file')} passed over" if self.passed else ""
        return (
            f"StreamedCensus({self.rows} rows in {self.clusters} clusters; "
            f"{self.undecided} rows undecided{left})"
        )

    @cached_property
    def _run(self) -> Run:
        if self.held is not None:
            return self.held
        assert self.folder is not None
        with folder.known(self.folder):
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
        with folder.known(self.folder), pa.parquet.ParquetFile(self.folder / folder.ROWS) as file:
            for batch in file.iter_batches(1 << 20, columns=["cluster"]):
                yield batch.column(0).to_numpy()
