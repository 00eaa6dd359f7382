"""A profile is the network along one feature, held at the knots where it truly bends."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
from gatewise.errors import DataError, EmptyData
from gatewise.explain.profile import profile
from nets import mlp, rows


def moved(x, feature, value):
    """The rows with one feature set."""
    x = x.clone()
    x[:, feature] = value
    return x


@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 8), min_size=2, max_size=5),
    st.sampled_from(["relu", "leaky", "hardtanh", "abs"]),
    st.integers(0, 10_000),
)
def test_curves_and_their_mean_are_the_network(sizes, gate, seed):
    network = mlp(*sizes, gate=gate, seed=seed)
    x, j = rows(network, 6, seed), seed % network.inputs
    found = profile(network, x, j, -3, 3)
    assert found.error < 1e-11
    for value in np.linspace(-3, 3, 13):
        truth = network(moved(x, j, value)).numpy()
        curves = np.array(
            [[np.interp(value, *(t, v)) for v in y.T] for t, y in map(found.curve, range(6))]
        )
        np.testing.assert_allclose(curves, truth, atol=1e-8 * (1 + np.abs(truth).max()))
        mean = [np.interp(value, found.t, column) for column in found.mean.T]
        np.testing.assert_allclose(mean, truth.mean(0), atol=1e-11 * (1 + np.abs(truth).max()))


def test_knots_are_where_the_curve_bends_and_nowhere_else():
    """Of 12 units two do not reach the output, and one has its threshold outside."""
    network = mlp(2, 12, 1, seed=3)
    first, last = network.nodes[0].kind, network.nodes[2].kind
    last.weights[0][0, :2] = 0
    x = rows(network, 5)
    found = profile(network, x, 1, -2, 2)
    w, c = first.weights[0].numpy(), first.bias.numpy()
    for i in range(5):
        places = -(w[2:, 0] * x[i, 0].item() + c[2:]) / w[2:, 1]
        expected = np.sort([t for t in places if -2 < t < 2])
        np.testing.assert_allclose(found.curve(i)[0], [-2, *expected, 2], atol=1e-12)
        assert found.bends[i] == len(expected)
    np.testing.assert_array_equal(found.curve(-1)[0], found.curve(4)[0])


def test_the_mean_may_have_fewer_knots_and_says_what_that_costs():
    network = mlp(3, 20, 20, 2, seed=1)
    x = rows(network, 40)
    whole, thin = profile(network, x, 0), profile(network, x, 0, max_knots=9)
    assert len(thin.t) == 9
    assert whole.dropped == 0
    gap = [np.interp(whole.t, thin.t, column) for column in thin.mean.T] - whole.mean.T
    assert thin.dropped == np.abs(gap).max() > 0
    assert "from those left out" in repr(thin)
    with pytest.raises(DataError, match="max_knots must be at least 2"):
        profile(network, x, 0, max_knots=1)


def test_an_explanation_lends_its_rows_and_outputs():
    network = mlp(3, 9, 2, seed=2)
    frame = pd.DataFrame(rows(network, 30).numpy(), columns=["age", "debt", "income"])
    e = gw.explain(network, frame, output=1)
    found = profile(e, feature="debt")
    assert (found.low, found.high) == (frame["debt"].min(), frame["debt"].max())
    assert found.output_names == e.output_names
    np.testing.assert_array_equal(found.at, frame["debt"])
    own = [
        np.interp(v, t, y[:, 0])
        for v, (t, y) in zip(found.at, map(found.curve, range(30)), strict=True)
    ]
    np.testing.assert_allclose(own, e.output[:, 0], atol=1e-9)
    few = profile(e, frame.head(4), "debt", 0, 1)
    assert len(few) == 4
    assert "Profile of debt from 0 to 1: 4 rows" in repr(few)


def test_bad_input_is_refused_in_words():
    network = mlp(3, 5, 1)
    x = rows(network, 4)
    with pytest.raises(EmptyData, match="no rows of its own"):
        profile(network)
    with pytest.raises(DataError, match="no feature 'age': the network has 3"):
        profile(network, x, "age")
    with pytest.raises(DataError, match="no feature 3"):
        profile(network, x, 3)
    for low, high in ((1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)):
        with pytest.raises(DataError, match="give low= and high=, two finite numbers"):
            profile(network, x, 0, low, high)
    same = moved(x, 0, 0.5)
    with pytest.raises(DataError, match=r"runs from 0.5 to 0.5"):
        profile(network, same, 0)


def test_a_group_has_no_profile_and_says_whose_there_is():
    network = mlp(3, 5, 1)
    e = gw.explain(network, rows(network, 9), groups={"person": ["x0", "x2"]})
    with pytest.raises(
        DataError, match=r"'person' is a group of 2 inputs .* profile one of x0, x2, or compare"
    ):
        profile(e, feature="person")
