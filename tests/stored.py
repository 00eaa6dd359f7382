"""Small tables in files, and what goes wrong with them: for the tests of streamed censuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from gatewise.patterns.census import census
from gatewise.patterns.streaming.census import streamed
from nets import F64, mlp

NET = mlp(3, 2, 1)
X = torch.randn(600, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
SKIP = {"on_bad_files": "skip", "on_bad_rows": "skip"}


def table(x: torch.Tensor, names: str = "abc") -> pa.Table:
    return pa.table({n: x[:, j].numpy() for j, n in enumerate(names)})


def parquet(path: Path, x: torch.Tensor, names: str = "abc") -> None:
    pa.parquet.write_table(table(x, names), path, row_group_size=64)


def three_files(place: Path) -> Path:
    """f0, f1, f2: 200 rows of X each."""
    place.mkdir()
    for i, x in enumerate(X.split(200)):
        parquet(place / f"f{i}.parquet", x)
    return place


def contents(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir()}


def assert_is_census_of(found, x: torch.Tensor) -> None:
    expected = census(NET, x)
    assert found.rows == len(x)
    assert np.array_equal(found.counts, expected.counts)
    assert np.array_equal(found.pattern.bits, expected.pattern.bits)
    if found.folder is not None:
        assert np.array_equal(np.concatenate(list(found.ids())), expected.ids)


def while_read(change, source, *, at: int = 100, **asked):
    """A census during which `change()` happens once, when `at` rows were counted."""
    waiting = [change]

    def progress(rows, total, rate):
        if rows >= at and waiting:
            waiting.pop()()

    return streamed(NET, source, progress=progress, batch_size=50, **asked)


class Stop(Exception):
    """What ends a census on the way."""


def stopped(data: Path, out: Path, rows: int, **asked) -> None:
    """A census that ends in an exception once so many rows were counted."""

    def stop():
        raise Stop

    with pytest.raises(Stop):
        while_read(stop, data, at=rows, out=out, **asked)
