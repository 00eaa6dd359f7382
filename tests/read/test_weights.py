"""Plain lists of (W, b)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatewise.errors import ModelError, UnsupportedLayer
from gatewise.read import read
from gatewise.read.weights import read_weights

rng = np.random.default_rng(0)
W1, b1 = rng.normal(size=(8, 3)), rng.normal(size=8)
W2, b2 = rng.normal(size=(2, 8)), rng.normal(size=2)
X = rng.normal(size=(20, 3))


def by_hand(act=lambda z: np.maximum(z, 0)):
    return act(X @ W1.T + b1) @ W2.T + b2


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor, lambda a: a.tolist()])
def test_arrays_of_every_kind(convert):
    network = read([(convert(W1), convert(b1)), (convert(W2), convert(b2))])
    np.testing.assert_allclose(network(X), by_hand(), rtol=1e-13)


def test_no_bias_and_other_activations():
    network = read_weights([(W1, None), (W2, None)], activation="tanh")
    np.testing.assert_allclose(network(X), np.tanh(X @ W1.T) @ W2.T, rtol=1e-13)
    with pytest.raises(UnsupportedLayer, match="activation='swoosh' is not in the table"):
        read_weights([(W1, b1), (W2, b2)], activation="swoosh")


def test_one_layer_is_linear():
    network = read([(W1, b1)])
    assert not network.gates and network.outputs == 8


def test_the_arrays_may_change_afterwards():
    weight = W1.copy()
    network = read([(weight, b1), (W2, b2)])
    weight[:] = 0
    np.testing.assert_allclose(network(X), by_hand(), rtol=1e-13)


def test_transposed_weights_are_refused():
    with pytest.raises(ModelError, match=r"every W transposed: these are \(in, out\)"):
        read([(W1.T, b1), (W2.T, b2)])


def test_square_weights_are_taken_as_out_in():
    square = rng.normal(size=(3, 3))
    network = read([(square, None)])
    np.testing.assert_allclose(network(X), X @ square.T, rtol=1e-13)
    assert "every W is square" in network.notes[0]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "the list of"),
        ([(W1, b1), (W1, b1)], r"layer 0 gives 8 values and W of layer 1 has shape \(8, 3\)"),
        ([(W1, b2)], r"W of layer 0 has shape \(8, 3\) and its b \(2,\)"),
        ([W1, b1], "layer 0 of the list is a ndarray, not a pair"),
        ([(W1, b1, b1)], "layer 0 of the list is a tuple of 3, not a pair"),
        ([(b1, b1)], r"W of layer 0 has shape \(8,\), not \(out, in\)"),
        ([(W1 * np.nan, b1)], "W of layer 0 holds NaN or infinity"),
        ([("abc", b1)], "W of layer 0 is not an array of numbers"),
    ],
)
def test_what_does_not_fit_is_refused(layers, words):
    with pytest.raises(ModelError, match=words):
        read(layers)
