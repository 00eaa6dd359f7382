"""The census on an engine that hands over Arrow batches: Spark's mapInArrow, Dask, Ray Data.

`PartialCensus(packed(network))` maps the batches of one partition to one small table, `reduced`
adds such tables up in any order, and `census_of` makes the census of their sum. All three are
pure; no engine is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewise.errors import DataError, EmptyData, WrongColumns
from gatewise.ir.network import Network
from gatewise.ir.parcel import unpacked
from gatewise.ir.pattern import WORD, layout, row_bytes
from gatewise.numeric import whole_number
from gatewise.patterns.streaming import runs
from gatewise.patterns.streaming.answer import StreamedCensus
from gatewise.patterns.streaming.gathering import by_size
from gatewise.patterns.streaming.opening import pa
from gatewise.patterns.streaming.pieces import Partial, counted_up, sent, settled
from gatewise.patterns.streaming.reading import Block, Place, columns_of
from gatewise.patterns.streaming.runs import Run, merged
from gatewise.patterns.streaming.watch import OnBadRows, Watch
from gatewise.tables.frames import matched
from gatewise.tables.words import listed

SCHEMA = pa.schema(
    {"pattern": pa.binary(), "rows": pa.int64(), "undecided": pa.int64(), "first": pa.int64()}
)
BATCH_BYTES = 1 << 28  # of patterns in one batch: Arrow's offsets end at 2 GiB
SPARK_SCHEMA = "pattern binary, rows bigint, undecided bigint, first bigint"  # the same for Spark


@dataclass(frozen=True)
class PartialCensus:
    """Record batches of the rows of one partition -> their patterns, counted, as one batch.

    Columns are found by name (in order, where the network has no names). The batch has one row a
    pattern: its packed bits, how many rows have it, how many of them are undecided, the first of
    them; and one with no pattern (null) for the rows left out. Rows are numbered from `start`,
    or from what start() says where the partition is computed: without either every partition
    counts from 0, and `first` then says which row of some partition, not which row of the table.
    """

    network: bytes
    on_bad_rows: OnBadRows = "raise"
    batch_size: int | None = None
    start: int | Callable[[], int] = 0

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        network = unpacked(self.network)
        watch = Watch(network, self.on_bad_rows, self.batch_size)
        found = counted_up(watch, _blocks(batches, network), "a partition")
        yield from _batches(found, self.start() if callable(self.start) else self.start)


def spread(
    network: Network,
    *,
    on_bad_rows: OnBadRows = "raise",
    batch_size: int | None = None,
    start: int | Callable[[], int] = 0,
) -> PartialCensus:
    """The function for a network that has regions: what an engine sends to its workers."""
    size = settled(batch_size, on_bad_rows=on_bad_rows)
    begin = start if callable(start) else whole_number(start, "start", 0)
    return PartialCensus(sent(network), on_bad_rows, size, begin)


def _blocks(batches: Iterable[Any], network: Network) -> Iterator[Block]:
    """Batches with columns in the network's order."""
    row = 0
    for batch in batches:
        have = tuple(batch.schema.names)
        columns = network.feature_names or matched(have, (), network.inputs, "the partition")
        gone = [name for name in columns if name not in have]
        if gone:
            raise WrongColumns(
                f"a batch lacks {listed(gone)}, which the network takes; it has {listed(have)}"
            )
        for name in columns:
            _require_number(name, batch.schema.field(name).type)
        if len(batch):
            yield Block(Place(0, row), columns_of(batch, columns))
        row += len(batch)


def _require_number(name: str, kind: Any) -> None:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    if not any(test(kind) for test in (*tests, pa.types.is_null)):
        raise WrongColumns(f"column '{name}' holds {kind}, not numbers: convert it first")


def _batches(found: Partial, start: int) -> Iterator[Any]:
    """The partial census as record batches, none of them too large for Arrow's short offsets."""
    whole = _table_of(found.run, found.unsure, found.run.first + start)
    if found.skipped:
        whole = pa.concat_tables([whole, _left_out(found.skipped, start)])
    size = max(1, BATCH_BYTES // found.run.bits.shape[1])
    yield from whole.to_batches(max_chunksize=size)


def _table_of(run: Run, unsure: Any, first: Any) -> Any:
    """A partial census as a table."""
    table = runs.as_table(Run(run.bits, run.counts, first)).append_column(
        "undecided", pa.array(unsure, pa.int64())
    )
    size = max(1, BATCH_BYTES // run.bits.shape[1])
    parts = [table.slice(a, size) for a in range(0, len(table), size)] or [table]
    return pa.concat_tables([part.select(SCHEMA.names).cast(SCHEMA) for part in parts])


def _left_out(rows: int, first: int) -> Any:
    """The line of the rows that are in no cluster."""
    return pa.table([[None], [rows], [0], [first]], schema=SCHEMA)


def reduced(tables: Iterable[Any]) -> Any:
    """The sum of such tables or batches, as one table: commutative and associative.

    Rows and undecided rows of a pattern are added, `first` is the least. An engine's own group-by
    on `pattern` (sum, sum, min) does the same.
    """
    whole = pa.concat_tables([SCHEMA.empty_table(), *map(_table, tables)])
    parts = [_table_of(*_sum(whole))]
    skipped = whole.filter(pa.compute.is_null(whole.column("pattern")))
    if len(skipped):
        rows, lost = (skipped.column(name).to_numpy() for name in ("rows", "first"))
        parts.append(_left_out(rows.sum(), lost.min()))
    return pa.concat_tables(parts)


def _table(given: Any) -> Any:
    table = pa.Table.from_batches([given]) if isinstance(given, pa.RecordBatch) else given
    if not isinstance(table, pa.Table) or set(table.column_names) != set(SCHEMA.names):
        raise DataError(
            f"a partial census is an Arrow table of {', '.join(SCHEMA.names)}, got "
            f"{getattr(table, 'column_names', type(given).__name__)}: see PartialCensus"
        )
    return table.select(SCHEMA.names).cast(SCHEMA)


def _sum(table: Any) -> tuple[Run, Any, Any]:
    """Equal patterns as one, in order of (hash, bits): the run, undecided rows, first rows."""
    table = table.filter(pa.compute.is_valid(table.column("pattern")))
    if not len(table):
        return runs.nothing(WORD), np.empty(0, np.int64), np.empty(0, np.int64)
    kept = runs.as_run(table.set_column(0, "pattern", _one_length(table.column("pattern"))))
    run, went = merged([kept])
    least = np.full(len(run), np.iinfo(np.int64).max)
    np.minimum.at(least, went, kept.first)
    unsure = np.zeros(len(run), np.int64)
    np.add.at(unsure, went, table.column("undecided").to_numpy())
    return run, unsure, least


def _one_length(column: Any) -> Any:
    """Packed patterns as binary of one length."""
    widths = pa.compute.binary_length(column).unique().to_pylist()
    if len(widths) != 1 or not widths[0] or widths[0] % WORD:
        raise DataError(f"patterns of one network have one length in bytes, got {sorted(widths)}")
    return column.cast(pa.binary(widths[0]))


def census_of(network: Network, tables: Any) -> StreamedCensus:
    """The census of all rows that were counted, with clusters numbered as everywhere.

    tables: one or several, reduced or not. `first` is in the numbers that the partitions gave.
    """
    several = [tables] if isinstance(tables, pa.Table | pa.RecordBatch) else tables
    table = reduced(several)
    run, unsure, first = _sum(table)
    if not len(run):
        raise EmptyData("a census needs at least one row, got 0 rows of finite numbers")
    if run.bits.shape[1] != (width := row_bytes(layout(network))):
        raise DataError(
            f"these patterns have {run.bits.shape[1]} bytes, the network's {width}: they were "
            "counted with another network"
        )
    order, rows = by_size(run), int(pa.compute.sum(table.column("rows")).as_py())
    held = Run(run.bits[order], run.counts[order], first[order])
    skipped = rows - int(run.counts.sum())
    return StreamedCensus(network, rows, len(run), int(unsure.sum()), skipped, (), None, held)
