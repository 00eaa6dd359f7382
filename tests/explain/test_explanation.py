"""What an Explanation says adds up, for any table that comes in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gatewise as gw
from nets import mixed, mlp, networks, rows


@given(networks(), st.integers(0, 99))
def test_contributions_add_up_to_the_network(network, seed):
    x = rows(network, 12, seed)
    e = gw.explain(network, x.numpy())
    assert e.values.shape == (12, network.inputs, network.outputs)
    total = e.base_values + e.values.sum(1)
    np.testing.assert_allclose(total, network(x).numpy(), rtol=1e-11, atol=1e-11)
    rule = np.einsum("nfo,nf->no", e.slopes, e.data) + e.intercept
    np.testing.assert_allclose(rule, network(x).numpy(), rtol=1e-11, atol=1e-11)
    assert (e.error <= e.bound).all()
    assert e.max_error == e.error.max()


def test_importance_is_the_share_of_slope_times_deviation():
    network = mlp(3, 8, 2, seed=4)
    x = rows(network, 200).numpy() * [1, 10, 0.1]
    e = gw.explain(network, x, margin=False)
    raw = np.abs(e.coefficients) * x.std(0)
    np.testing.assert_allclose(e.importance, raw / raw.sum(-1, keepdims=True))
    np.testing.assert_allclose(e.importance.sum(-1), 1)
    each = e.importance[e.ids].mean(0)
    np.testing.assert_allclose(e.global_importance, each)
    assert e.margin is None


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, pa.table, "numpy", "torch"])
def test_any_table_gives_the_same_explanation(kind):
    network = mlp(3, 5, 1)
    x = rows(network, 20)
    columns = {name: x[:, j].numpy() for j, name in enumerate("abc")}
    table = {"numpy": x.numpy(), "torch": x}.get(kind) if isinstance(kind, str) else kind(columns)
    e = gw.explain(network, table)
    np.testing.assert_array_equal(e.data, x.numpy())
    assert e.feature_names == (("x0", "x1", "x2") if isinstance(kind, str) else ("a", "b", "c"))


def test_columns_are_taken_by_name_when_the_network_has_names():
    import dataclasses

    network = dataclasses.replace(mlp(3, 5, 1), feature_names=("a", "b", "c"))
    x = rows(network, 20).numpy()
    frame = pd.DataFrame(x, columns=list("abc"))
    e = gw.explain(network, frame[["c", "a", "b"]])
    np.testing.assert_array_equal(e.data, x)


def test_target_column_is_left_out_and_compared():
    network = mlp(2, 5, 1)
    x = rows(network, 30).numpy()
    frame = pd.DataFrame({"a": x[:, 0], "y": np.arange(30) % 2, "b": x[:, 1]})
    e = gw.explain(network, frame, target="y")
    assert e.feature_names == ("a", "b")
    assert e.target.tolist() == frame["y"].tolist()
    assert e.cluster_mean(e.target)[e.ids[0], 0] == frame["y"][e.ids == e.ids[0]].mean()


def test_outputs_are_picked_by_index_or_name():
    import dataclasses

    network = dataclasses.replace(mlp(2, 5, 3), output_names=("no", "maybe", "yes"))
    x = rows(network, 10)
    whole = gw.explain(network, x)
    for pick in (2, -1, "yes", [2], ["yes"]):
        e = gw.explain(network, x, output=pick)
        assert e.output_names == ("yes",)
        np.testing.assert_array_equal(e.values[..., 0], whole.values[..., 2])


def test_bad_rows_are_skipped_and_listed():
    network = mlp(2, 5, 1)
    x = rows(network, 10).numpy()
    x[3, 0], x[7, 1] = np.nan, -np.inf
    e = gw.explain(network, x, on_bad_rows="skip", target=np.arange(10))
    assert e.matrix.skipped == (3, 7)
    assert e.matrix.index.tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    assert e.target.tolist() == [0, 1, 2, 4, 5, 6, 8, 9]


def test_an_input_with_one_value_is_named_and_harmless():
    network = mlp(2, 5, 1)
    x = rows(network, 10).numpy()
    x[:, 1] = 3.0
    e = gw.explain(network, pd.DataFrame(x, columns=["age", "<b>fixed"]))
    assert "1 input has one value in all rows (<b>fixed)" in e.notes[-1]
    assert (e.importance[:, 0, 1] == 0).all()
    assert np.isfinite(e.values).all()
    h = e.region.halfspaces(0)
    assert torch.isfinite(h.a).all()


def test_repr_says_the_numbers_that_matter():
    text = repr(gw.explain(mixed(0), rows(mixed(0), 40)))
    for word in ("40 rows", "clusters", "largest error", "bound", "undecided", "standard dev"):
        assert word in text


def test_the_reference_is_the_callers_or_the_mean():
    network = mlp(2, 5, 1)
    x = rows(network, 10)
    assert gw.explain(network, x).reference_name == "the mean of the data"
    zero = gw.explain(network, x, reference=[0, 0])
    np.testing.assert_allclose(zero.base_values, zero.intercept)
    assert zero.reference_name == "the given reference"


def test_facade_takes_batches_everywhere():
    network, x = mixed(3), rows(mixed(3), 7)
    assert gw.affine(network, x).matrix().shape == (7, 3, 4)
    assert len(gw.pattern(network, x)) == 7
    assert gw.census(network, x, batch_size=2).rows == 7
    assert len(gw.region(network, x)) == 7
    assert gw.region(network, x).contains(x.unsqueeze(1)).all()


def test_the_deviation_neither_overflows_nor_vanishes():
    from gatewise.explain.explanation import deviation, mean

    x = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_array_equal(deviation(x), x.std(0))
    np.testing.assert_array_equal(mean(x), x.mean(0))
    for power in (1020, -1000):
        np.testing.assert_array_equal(deviation(np.ldexp(x, power)), np.ldexp(x.std(0), power))
        np.testing.assert_array_equal(mean(np.ldexp(x, power)), np.ldexp(x.mean(0), power))
    assert deviation(np.full((9, 1), 0.1)).tolist() == [0]


def test_a_row_alone_has_the_margin_it_has_in_the_table():
    """No input varies, so there is no deviation to count in: it is counted in input units."""
    network, x = mlp(4, 12, 12, 1, seed=4), np.random.default_rng(0).normal(size=(20, 4))
    alone, table = gw.explain(network, x[3:4]), gw.explain(network, x)
    assert 0 < float(alone.margin.l2[0]) == pytest.approx(float(table.margin.l2[3]), rel=1e-9)
    assert float(alone.margin.linf[0]) == pytest.approx(float(table.margin.linf[3]), rel=1e-9)
    assert float(alone.margin.scaled[0]) == float(alone.margin.l2[0])
    assert "input units" in repr(alone)
    assert "input units" in repr(alone[0])
