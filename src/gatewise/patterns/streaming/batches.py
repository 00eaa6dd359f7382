"""Record batches of one file, from a row on, and their columns as float64."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def batches_of(
    fragment: Any, is_parquet: bool, columns: list[str], skip: int, size: int
) -> Iterator[Any]:
    """Of at most about `size` rows from row `skip` on, none of them empty."""
    found = _parquet if is_parquet and columns else _scanned
    for batch in found(fragment, columns, skip, size):
        if len(batch):
            yield batch


def _parquet(fragment: Any, columns: list[str], skip: int, size: int) -> Iterator[Any]:
    """Row groups before `skip` are not read at all."""
    with (
        fragment.filesystem.open_input_file(fragment.path) as source,
        pa.parquet.ParquetFile(source, pre_buffer=False) as file,
    ):
        for g in range(file.num_row_groups):
            rows = file.metadata.row_group(g).num_rows
            if skip < rows:  # group by group: a batch that ends in a broken one would be lost whole
                yield from _after(_group(file, g, rows, columns, size), skip)
            skip = max(0, skip - rows)


def _group(file: Any, g: int, rows: int, columns: list[str], size: int) -> Iterator[Any]:
    """One that is small enough is decoded at once, which is a little quicker, and cut evenly: of
    threads that take a piece each none waits for the one with a rest."""
    if rows > 2 * size:
        yield from file.iter_batches(size, [g], columns, use_threads=False)
    else:
        whole = file.read_row_group(g, columns, use_threads=False)
        pieces = math.ceil(rows / size)
        yield from whole.to_batches(max_chunksize=math.ceil(rows / pieces))


def _scanned(fragment: Any, columns: list[str], skip: int, size: int) -> Iterator[Any]:
    scanner = fragment.scanner(
        columns=columns, batch_size=size, batch_readahead=1, use_threads=False
    )
    yield from _after(scanner.to_batches(), skip)


def _after(found: Iterator[Any], skip: int) -> Iterator[Any]:
    for batch in found:
        taken = min(skip, len(batch))
        skip -= taken
        yield batch.slice(taken)


def columns_of(batch: Any, names: Sequence[str]) -> tuple[Floats, ...]:
    """Columns as float64, missing values NaN: float64 without any is not copied."""
    found = (batch.column(name) for name in names)
    plain = (c if c.type == pa.float64() else c.cast(pa.float64(), safe=False) for c in found)
    return tuple(c.to_numpy(zero_copy_only=False) for c in plain)
