"""A table cut into files, and an explanation of them beside that of the rows in memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import gatewise as gw
from nets import mlp

NET = mlp(3, 6, 5, 2)
X = np.random.default_rng(0).normal(size=(1500, 3))
Y = np.random.default_rng(1).integers(0, 2, len(X))
EXACT = ("row", "cluster", "target", "undecided_units")


def table(x: np.ndarray = X, y: np.ndarray | None = Y) -> pa.Table:
    columns = dict(zip("abc", x.T, strict=True))
    return pa.table(columns if y is None else {**columns, "y": y})


def written(path: Path, rows: pa.Table, cuts: tuple[int, ...] = (500, 1100), group=128) -> Path:
    """Rows as Parquet files f0, f1, ... in a folder."""
    path.mkdir(parents=True, exist_ok=True)
    for i, (a, b) in enumerate(pairwise([0, *cuts, len(rows)])):
        pa.parquet.write_table(rows.slice(a, b - a), path / f"f{i}.parquet", row_group_size=group)
    return path


def rows_of(found) -> pa.Table:
    return pa.Table.from_batches(list(found.rows()))


def assert_same(found, whole: gw.Explanation) -> None:
    """Every row and every column; what counts bit for bit, numbers to 1e-12 of their size."""
    mine, theirs = rows_of(found), pa.table(whole.to_frame(library="pyarrow"))
    assert mine.column_names == theirs.column_names
    for name in mine.column_names:
        a, b = (t[name].to_numpy(zero_copy_only=False) for t in (mine, theirs))
        if name in EXACT:
            assert np.array_equal(a, b), name
        else:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12, err_msg=name)
    assert found.clusters == whole.clusters
    assert len(found) == len(whole)
    np.testing.assert_allclose(found.reference, whole.reference, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.scale, whole.scale, rtol=1e-12)
    assert found.reference_name == whole.reference_name
    assert found.max_error == pytest.approx(whole.max_error, abs=1e-15)
