"""logit_a - logit_b is explained exactly, as the output of a network of its own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier

import gatewise as gw
from gatewise.errors import DataError
from nets import mixed, rows


@given(st.integers(0, 200), st.permutations(range(3)))
def test_it_is_the_difference_of_the_two(seed, order):
    network, (a, b, _) = mixed(seed), order
    x = rows(network, 8, seed)
    exp = gw.explain(network, x)
    pair = exp.contrast(a, b)
    y = network(x).numpy()
    np.testing.assert_allclose(pair.output[:, 0], y[:, a] - y[:, b], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(
        pair.values[..., 0], exp.values[..., a] - exp.values[..., b], rtol=1e-12, atol=1e-12
    )
    total = pair.base_values + pair.values.sum(1)
    np.testing.assert_allclose(total, pair.output, rtol=1e-11, atol=1e-11)
    assert (pair.error <= pair.bound).all()
    assert pair.output_names == (f"y{a} - y{b}",)
    back = exp.contrast(b, a)
    np.testing.assert_array_equal(back.coefficients, -pair.coefficients)
    np.testing.assert_array_equal(back.output, -pair.output)


def test_its_network_stands_on_its_own():
    """Explained from scratch, the same rules, regions and margins come out."""
    network = dataclasses.replace(mixed(3), output_names=("no", "yes", "maybe"))
    x = rows(network, 12)
    pair = gw.explain(network, x).contrast("yes", "no")
    again = gw.explain(pair.network, x)
    np.testing.assert_allclose(again.values, pair.values, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(again.ids, pair.ids)
    np.testing.assert_allclose(again.margin.l2, pair.margin.l2)
    assert again.output_names == ("yes - no",)
    slope = torch.func.vmap(torch.func.jacrev(lambda r: pair.network(r[None])[0, 0]))(x)
    np.testing.assert_allclose(pair.slopes[..., 0], slope, rtol=1e-10, atol=1e-10)


def test_of_softmax_logits_it_is_the_log_odds():
    iris = load_iris()
    model = MLPClassifier((8,), max_iter=1500, random_state=0).fit(iris.data, iris.target)
    pair = gw.explain(model, iris.data).contrast("1", "2")
    p = model.predict_proba(iris.data)
    log_odds = np.log(p[:, 1] / p[:, 2])
    np.testing.assert_allclose(pair.output[:, 0], log_odds, rtol=1e-9, atol=1e-9)
    share = p[:, 1] / (p[:, 1] + p[:, 2])
    np.testing.assert_allclose(pair.network.predict(iris.data)[:, 0], share, atol=1e-12)
    odds = pair.importances(kind="odds")
    np.testing.assert_allclose(np.log(odds.values[0, :, 0]), pair.slopes[..., 0].mean(0))


def test_contrasts_of_one_output_or_of_itself():
    exp = gw.explain(mixed(0), rows(mixed(0), 4))
    with pytest.raises(DataError, match="'y1' against itself is 0: name two of y0, y1, y2"):
        exp.contrast(1, "y1")
    with pytest.raises(DataError, match="no output 'y9'"):
        exp.contrast("y9", 0)
    with pytest.raises(DataError, match=r"a contrast needs two outputs, and the network has one"):
        exp.contrast(0, 1).contrast(0, 1)
