"""exp[...] is numpy's indexing with names; every slice of a slice is the slice of the whole."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gatewise as gw
from gatewise.errors import DataError
from nets import mlp, rows

NAMES = ("age", "income", "debt")


@pytest.fixture(scope="module")
def exp():
    network = dataclasses.replace(mlp(3, 6, 2), feature_names=NAMES, output_names=("no", "yes"))
    return gw.explain(network, rows(network, 9).numpy())


@pytest.fixture(scope="module")
def single():
    network = dataclasses.replace(mlp(3, 6, 1), feature_names=NAMES, output_names=("default",))
    return gw.explain(network, rows(network, 9).numpy())


def picks(size: int, names: tuple[str, ...] = ()):
    """An index of one axis, and the same for numpy."""
    inside = st.integers(-size, size - 1)
    ways = [
        inside.map(lambda i: (i, i)),
        st.slices(size).map(lambda s: (s, s)),
        st.lists(inside, min_size=1, max_size=4).map(lambda i: (i, i)),
        st.lists(st.booleans(), min_size=size, max_size=size).map(lambda m: (np.array(m),) * 2),
    ]
    if names:
        ways.append(st.sampled_from(names).map(lambda n: (n, names.index(n))))
    return st.one_of(ways)


@given(picks(9), picks(3, NAMES), picks(2, ("no", "yes")))
def test_each_axis_by_itself_as_numpy_does(exp, n, f, o):
    (mine, row), (named, feature), (said, output) = n, f, o
    part = exp[mine, named, said]
    expected = exp.values[row][..., feature, :][..., output]
    np.testing.assert_array_equal(part.values, expected)
    assert part.shape == expected.shape
    np.testing.assert_array_equal(part.slopes, exp.slopes[row][..., feature, :][..., output])
    np.testing.assert_array_equal(part.base_values, exp.base_values[row][..., output])
    np.testing.assert_array_equal(part.intercept, exp.intercept[row][..., output])
    np.testing.assert_array_equal(part.output, exp.output[row][..., output])
    np.testing.assert_array_equal(part.data, exp.data[row][..., feature])
    np.testing.assert_array_equal(part.margin, exp.margin.scaled.numpy()[row])
    np.testing.assert_array_equal(part.feature_names, np.array(NAMES)[feature])
    np.testing.assert_array_equal(part.output_names, np.array(("no", "yes"))[output])
    np.testing.assert_array_equal(part.rows, np.arange(9)[row])


@given(picks(9), picks(3, NAMES), picks(5))
def test_a_slice_of_a_slice(exp, n, f, again):
    part = exp[2:7, :, :][again[0]]
    np.testing.assert_array_equal(part.values, exp.values[2:7][again[1]])
    part = exp[:, f[0]][n[0]]
    np.testing.assert_array_equal(part.values, exp.values[:, f[1]][n[1]])
    np.testing.assert_array_equal(part.output, exp.output[n[1]])


def test_what_is_not_said_is_whole(exp):
    assert exp[3].shape == (3, 2)
    assert exp[:, "age"].shape == (9, 2)
    assert exp[..., "yes"].shape == (9, 3)
    assert exp[3, ..., "yes"].shape == (3,)
    assert exp[...].shape == (9, 3, 2)
    assert exp[3, "age", "yes"].shape == ()
    assert exp[[0, 1], ["debt", "age"]].feature_names == ["debt", "age"]
    assert exp[[]].shape == (0, 3, 2)


def test_one_output_left_unsaid_is_that_output(single):
    assert single.values.shape == (9, 3, 1)
    assert single[3].shape == (3,)
    assert single[:].shape == (9, 3)
    assert single[:, "age"].shape == (9,)
    for kept in (single[3, :, :], single[3, ...]):
        assert kept.shape == (3, 1)
        assert kept.output_names == ["default"]
    assert single[3].output_names == "default"


def test_rows_can_be_walked(exp):
    seen = list(exp)
    assert len(seen) == 9
    np.testing.assert_array_equal(np.stack([r.values for r in seen]), exp.values)
    assert [part.shape for part in exp[0]] == [(2,)] * 3
    with pytest.raises(DataError, match="a single value has no length: its axes are all gone"):
        len(exp[0, 0, 0])


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (
            "age",
            "rows are picked by position, counted from 0, got 'age': a feature is exp[:, 'age'",
        ),
        ((0, "wage"), "no feature 'wage': there is age, income, debt"),
        ((..., "maybe"), "no output 'maybe': there is no, yes"),
        (9, "no row 9: the explanation has 9 rows, counted from 0"),
        (
            (0, 3),
            "no feature 3: the explanation has 3 features, counted from 0 (age, ",
        ),
        (1.5, "no row 1.5: the explanation has 9 rows"),
        (True, "no row True: the explanation has 9 rows"),
        (None, "no row None: the explanation has 9 rows"),
        ([True, False], "no row [True, False]: the explanation has 9 rows"),
        ((0, 0, 0, 0), "the index has 4 entries for 3 axes"),
        ((..., 0, ...), "the index has 3 entries for 3 axes"),
    ],
)
def test_an_index_that_is_none(exp, item, words):
    with pytest.raises(DataError) as caught:
        exp[item]
    assert words in str(caught.value)


def test_one_row_prints_its_rule(single):
    text = repr(single[4])
    head, columns, *lines, foot = text.splitlines()
    assert head.startswith("row 4, default: ")
    assert "at the mean of the data" in head
    assert columns.split() == ["feature", "value", "slope", "contribution"]
    assert {line.split()[0] for line in lines} == set(NAMES)
    sizes = [abs(float(line.split()[-1])) for line in lines]
    assert sizes == sorted(sizes, reverse=True)
    assert "standard deviations, error" in foot
    assert repr(single[2:4]).startswith("SlicedExplanation: 2 rows, 3 features, 1 output")


def test_many_features_are_cut_and_still_add_up():
    network = mlp(14, 4, 1)
    part = gw.explain(network, rows(network, 3).numpy(), margin=False)[1]
    lines = repr(part).splitlines()[2:-1]
    assert len(lines) == 11
    assert lines[-1].split()[:2] == ["4", "more"]
    total = sum(float(line.split()[-1]) for line in lines)
    assert total == pytest.approx(part.values.sum(), rel=1e-2, abs=1e-2)


def test_notebooks_see_text_as_text():
    network = mlp(2, 6, 1)
    frame = pd.DataFrame(rows(network, 9).numpy(), columns=["<script>alert(1)</script>", "b&b"])
    network = dataclasses.replace(network, output_names=("<b>",))
    exp = gw.explain(network, frame)
    for html in (exp._repr_html_(), exp[0]._repr_html_(), exp[0:2]._repr_html_()):
        assert "<script" not in html
        assert "<b>" not in html
    assert "&lt;script&gt;" in exp._repr_html_()
    assert "b&amp;b" in exp[0]._repr_html_()
