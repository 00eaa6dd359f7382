"""Spark's mapInArrow, Dask, an engine's own group-by: the sum of partial censuses is the census.

pyspark is not installed where this runs: its function is called as Spark calls it, on an iterator
of record batches, pickled on the way as Spark pickles it.
"""

from __future__ import annotations

import dataclasses
import pickle
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
import relu_nets
from gatewise.errors import BadRows, DataError, EmptyData, ModelError, WrongColumns
from gatewise.patterns.spread import SCHEMA, SPARK_SCHEMA, PartialCensus, census_of, reduced, spread
from nets import mlp

X = torch.randn(1500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
NET = relu_nets.read(3, 6, 5, 1)
OTHER = relu_nets.read(3, 80, 1)


@pytest.fixture(scope="module")
def whole():
    return gw.census(NET, X)


def partitions(x: torch.Tensor, cuts: list[int], names: str = "abc") -> list[pa.Table]:
    """The rows in partitions, columns in that order."""
    tables = torch.tensor_split(x, sorted(cuts))
    return [pa.table({n: t[:, "abc".index(n)].numpy() for n in names}) for t in tables]


def assert_same(found, whole, first: np.ndarray | None = None) -> None:
    assert np.array_equal(found.counts, whole.counts)
    assert np.array_equal(found.pattern.bits, whole.pattern.bits)
    assert np.array_equal(found.first, whole.first if first is None else first)
    assert found.undecided == (whole.undecided > 0).sum()


@settings(max_examples=6)
@given(
    cuts=st.lists(st.integers(0, 1500), max_size=5),
    order=st.randoms(use_true_random=False),
    size=st.integers(20, 700),
)
def test_partitions_reduced_in_any_order_are_the_census(cuts, order, size):
    """Undecided rows too: some share a pattern, in one partition and in others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gatewise.patterns.exact.AT_ONCE", 0)
        in_any_order(relu_nets.doubtful(NET, X, [100, 101, 900, 1400]), cuts, order, size)


def in_any_order(x, cuts, order, size) -> None:
    whole = gw.census(NET, x)
    assert (whole.undecided > 0).sum() == 4
    named = dataclasses.replace(NET, feature_names=("a", "b", "c"))
    count, at, found = spread(named), 0, []
    for table in partitions(x, cuts, "cab"):
        mine = pickle.loads(pickle.dumps(PartialCensus(count.network, start=at)))
        found += mine(iter(table.to_batches(max_chunksize=size)))
        at += len(table)
    assert all(batch.schema == SCHEMA for batch in found)
    order.shuffle(found)
    k = len(found) // 2
    parts = [reduced(found[:k]), reduced(found[k:]), reduced([])]
    assert_same(census_of(named, reduced(parts)), whole)
    assert_same(census_of(named, found), whole)


def test_a_group_by_of_the_engine_is_the_reduction(whole):
    """As Spark would: groupBy("pattern").agg(sum, sum, min)."""
    number = iter((0, 1 << 33))
    count = spread(NET, start=lambda: next(number))  # Spark's own numbers: partition << 33 + row
    halves = partitions(X, [750])
    tables = [pa.Table.from_batches(count(t.to_batches(max_chunksize=100))) for t in halves]
    both = pa.concat_tables(tables).group_by("pattern")
    sums = both.aggregate([("rows", "sum"), ("undecided", "sum"), ("first", "min")])
    summed = sums.rename_columns(["pattern", "rows", "undecided", "first"])
    late = whole.first >= 750
    expected = np.where(late, whole.first - 750 + (1 << 33), whole.first)
    assert_same(census_of(NET, summed), whole, expected)
    kinds = [f"{f.name} {'binary' if f.name == 'pattern' else 'bigint'}" for f in SCHEMA]
    assert ", ".join(kinds) == SPARK_SCHEMA


def test_dask_bags_and_delayed_partitions(whole):
    dask = pytest.importorskip("dask", reason="dask is not installed: its recipe was NOT tested")
    bag = pytest.importorskip("dask.bag")
    count = spread(NET)
    tables = partitions(X, [400, 900])
    with dask.config.set(scheduler="threads"):
        starts = np.cumsum([0, *map(len, tables)]).tolist()
        lazy = [
            dask.delayed(lambda t, a: list(spread(NET, start=a)(t.to_batches())))(t, a)
            for t, a in zip(tables, starts, strict=False)
        ]
        (total,) = dask.compute(dask.delayed(lambda parts: reduced(chain(*parts)))(lazy))
        assert_same(census_of(NET, total), whole)
        seq = bag.from_sequence(tables, npartitions=3)
        total = seq.map(lambda t: reduced(count(t.to_batches()))).reduction(reduced, reduced)
        found = census_of(NET, total.compute())
    assert np.array_equal(found.counts, whole.counts)  # rows counted from 0 in each partition


def test_rows_left_out_are_counted_and_what_is_wrong_is_said():
    bad = X[:20].clone()
    bad[7, 1] = float("nan")
    batches = partitions(bad, [])[0].to_batches(max_chunksize=5)
    with pytest.raises(BadRows, match=r"'a partition', rows counted from 0: 7 ") as error:
        list(spread(NET)(iter(batches)))
    again = pickle.loads(pickle.dumps(error.value))
    assert (again.rows, str(again)) == ((7,), str(error.value))
    found = census_of(NET, spread(NET, on_bad_rows="skip")(iter(batches)))
    good = gw.census(NET, torch.cat([bad[:7], bad[8:]]))
    assert np.array_equal(found.counts, good.counts)
    assert (found.rows, found.skipped) == (20, 1)
    with pytest.raises(EmptyData, match="needs at least one row"):
        census_of(NET, spread(NET)(iter([])))
    text = pa.table({"a": ["x"], "b": [1.0], "c": [2]}).to_batches()
    with pytest.raises(WrongColumns, match=r"column 'a' holds string, not numbers"):
        list(spread(NET)(iter(text)))
    with pytest.raises(WrongColumns, match=r"the network takes 3 inputs, .* has 1 column"):
        list(spread(NET)(iter(pa.table({"a": [1.0]}).to_batches())))
    with pytest.raises(DataError, match=r"is an Arrow table of pattern, rows, .*got \['a'\]"):
        reduced([pa.table({"a": [1.0]})])
    with pytest.raises(DataError, match=r"patterns have 8 bytes, the network's 16"):
        census_of(OTHER, spread(NET)(iter(batches[:1])))
    with pytest.raises(ModelError, match="cannot be sent"):
        spread(mlp(3, 2, 1))
    piped = dataclasses.replace(NET, prepare=lambda raw: raw)
    with pytest.raises(DataError, match=r"prepares raw columns .* not sent to other processes"):
        spread(piped)
    for asked in ({"on_bad_rows": "drop"}, {"batch_size": -1}, {"start": "0"}):
        ((name, value),) = asked.items()
        with pytest.raises(DataError, match=rf"{name} must be .*got {value!r}"):
            spread(NET, **asked)
