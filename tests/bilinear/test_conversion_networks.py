"""Whole networks: what is found and refused by name, scores, positions, trained and real nets."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import nn
from torch.nn import functional as F

import gatewise as gw
import shared
from bilinear.layers import Chunked, random
from gatewise.bilinear import bilinear_layer, bilinear_layers, layer_input, stack, to_bilinear
from gatewise.errors import BadRows, DataError, EmptyData, NotBilinear, WrongColumns, WrongShape


class Of(nn.Module):
    """A function of two dense layers' values, and of x."""

    def __init__(self, fn, h: int = 4) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.v, self.w, self.out, self.fn = nn.Linear(5, h), nn.Linear(5, h), nn.Linear(h, 3), fn
        self.double()

    def forward(self, x):
        return self.out(self.fn(self.v(x), self.w(x)))


def read(fn):
    return gw.read(Of(fn), random(3, 5))


def chain(*layers):
    torch.manual_seed(1)
    return nn.Sequential(*layers).double()


# -- found by what nodes compute --


def test_a_deep_network_becomes_a_stack_and_each_block_is_measured():
    module = chain(
        nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.BatchNorm1d(6), nn.GELU(), nn.Linear(6, 3)
    ).eval()
    net, X = gw.read(module, random(3, 5)), random(80, 5, seed=2)
    made = to_bilinear(net, X)
    assert [(b.name, b.units) for b in made.blocks] == [("1", 7), ("4", 6)]
    whole = stack(bilinear_layers(made.network))
    assert (whole.degree, whole.inputs, whole.outputs) == (4, 5, 3)
    torch.testing.assert_close(whole(X), made.network(X))
    f, g = net(X), made.network(X)
    off = ((f - g).square().sum() / (f - f.mean(0)).square().sum()).item()
    assert made.fitted.r2 == pytest.approx(1 - off)
    assert made.fitted.agreement == pytest.approx(
        float((f.argmax(1) == g.argmax(1)).double().mean())
    )
    assert made.fitted.blocks[1].r2 == pytest.approx(made.fitted.r2)
    assert "products in the place of '1', '4'" in made.network.notes[-1]


def test_moments_are_taken_of_what_the_converted_blocks_before_give():
    module = chain(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4), nn.ReLU())
    net, X = gw.read(module, random(3, 5)), random(200, 5, seed=2)
    made = to_bilinear(net, X)
    first = bilinear_layers(made.network)[0]
    dense = net.node("2").kind
    y = first(X) @ dense.weights[0].T + dense.bias
    layer = bilinear_layers(made.network)[1]
    left = layer_input(made.network, layer, X) @ layer.W.mT + layer.w_bias
    torch.testing.assert_close(left, (y - y.mean(0)) / y.std(0, unbiased=False))


class Mixer(nn.Module):
    """A residual stream over positions, and a GELU block on it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.up, self.down, self.head = nn.Linear(5, 8), nn.Linear(8, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(x + self.down(F.gelu(self.up(x))))


def test_positions_share_their_unit_s_quadratic():
    module = Mixer().double()
    net, X = gw.read(module, random(3, 6, 5)), random(40, 6, 5, seed=2)
    made = to_bilinear(net, X)
    layer = bilinear_layer(made.network)
    assert layer.positions == (6,) and made.blocks[0].units == 8
    y = module.up(X).detach().reshape(-1, 8)
    left = X @ layer.W.mT + layer.w_bias
    torch.testing.assert_close(left.reshape(-1, 8), (y - y.mean(0)) / y.std(0, unbiased=False))


def test_one_activation_of_a_convolutional_network_is_converted_by_name():
    module = chain(
        nn.Unflatten(1, (1, 5)),
        nn.Conv1d(1, 3, 2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(6, 4),
        nn.ReLU(),
        nn.Linear(4, 2),
    )
    net, X = gw.read(module, random(3, 5)), random(30, 5)
    with pytest.raises(
        NotBilinear,
        match=r"node '2' \(ReLU\) stands behind '1' \(Conv\), .*convolutional activations do not "
        r"convert; what converts: blocks=\['6'\]",
    ):
        to_bilinear(net, X)
    made = to_bilinear(net, X, blocks=["6"])
    assert [n.layer for n in made.network.gates] == ["ReLU", "MaxPool"]
    with pytest.raises(DataError, match=r"blocks must name nodes that convert \(6\); got '2', whi"):
        to_bilinear(net, X, blocks=["2"])
    with pytest.raises(DataError, match="got no name"):
        to_bilinear(net, X, blocks=[])


REFUSED = {
    r"node 'max.*' \(.*\) picks a winner among several values": torch.maximum,
    r"node 'softmax' \(Softmax\) is a softmax, as attention has it": lambda y, z: y.softmax(-1) * z,
    r"node 'layer_norm.*mixes entries": lambda y, z: F.layer_norm(y + F.relu(z), (4,)),
    r"node 'gt' .* is a step": lambda y, z: (y > 0).double() + F.relu(z),
    r"node 'mul' .* is a step": lambda y, z: (y > 0) * z,
    r"node 'mul' .* multiplies two activations of different values": lambda y, z: (
        y.tanh() * z.exp()
    ),
    r"no activation to convert; its nodes are Linear, Mul": lambda y, z: y * z,
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_is_no_block_is_refused_by_its_name(sentence):
    with pytest.raises(NotBilinear, match=sentence):
        to_bilinear(read(REFUSED[sentence]), random(9, 5))


def test_a_function_of_its_own_at_each_position_is_refused():
    class Own(Mixer):
        def forward(self, x):
            y = self.up(x)
            return self.down(F.relu(y) * F.sigmoid(y + torch.arange(6.0).double()[:, None])).mean(1)

    net = gw.read(Own().double(), random(3, 6, 5))
    with pytest.raises(NotBilinear, match="is another function at each position"):
        to_bilinear(net, random(9, 6, 5))


def test_bad_rows_and_labels_are_refused():
    net = read(lambda y, z: F.relu(y) * z)
    X = random(6, 5)
    bad = X.clone()
    bad[2, 1] = torch.nan
    with pytest.raises(BadRows, match="X holds NaN or infinity in rows 2: fill"):
        to_bilinear(net, bad)
    with pytest.raises(EmptyData, match="X has 1 row: give 2 or more"):
        to_bilinear(net, X[:1])
    with pytest.raises(EmptyData, match="X_test has 0 rows"):
        to_bilinear(net, X, X_test=X[:0])
    with pytest.raises(WrongShape, match="takes rows of 5 inputs"):
        to_bilinear(net, X[:, :4])
    with pytest.raises(DataError, match="y_test was given without its rows"):
        to_bilinear(net, X, y_test=[0] * 6)
    with pytest.raises(WrongShape, match=r"one label for each of 6 rows.* shape \(5,\)"):
        to_bilinear(net, X, [0] * 5)
    with pytest.raises(DataError, match="the label 3 in y is none of the positions of its outputs"):
        to_bilinear(net, X, [0, 1, 2, 3, 0, 1])
    with pytest.raises(BadRows, match="y holds no label in rows 1"):
        to_bilinear(net, X, [0, np.nan, 2, 1, 0, 1])
    with pytest.raises(WrongShape, match="3 outputs, and y has 2 numbers a row"):
        to_bilinear(net, X, X[:, :2])
    with pytest.raises(DataError, match="batch must be a whole number"):
        to_bilinear(net, X, batch=0)


def test_bilinear_layers_that_are_there_stay_and_curved_nodes_go():
    class Both(Chunked):
        def forward(self, x):
            return torch.tanh(super().forward(x)) @ torch.ones(3, 2).double()

    net, X = gw.read(Both().double(), random(3, 5)), random(60, 5)
    made = to_bilinear(net, X)
    assert [layer.outputs for layer in bilinear_layers(net)] == [3]
    assert [layer.outputs for layer in bilinear_layers(made.network)] == [7, 2]


# -- trained networks --


def digits():
    held = load_digits()
    order = np.random.default_rng(0).permutation(len(held.target))
    X, y = held.data[order] / 16, held.target[order]
    return X[:1300], y[:1300], X[1300:], y[1300:]


def test_a_digits_network_loses_less_than_a_point_before_any_training():
    X, y, X_test, y_test = digits()
    model = MLPClassifier((64,), random_state=0, learning_rate_init=3e-3)
    for _ in range(40):
        model.partial_fit(X, y, classes=range(10))
    net = gw.read(model)
    made = to_bilinear(net, X, y, X_test=X_test, y_test=y_test)
    before, after = made.held.score
    assert before == model.score(X_test, y_test) > 0.95
    assert after > before - 0.01
    assert made.held.r2 > 0.99 and made.held.agreement > 0.98
    assert bilinear_layer(made.network).hidden == 64
    refit = to_bilinear(net, X, y, X_test=X_test, y_test=y_test, refit=True)
    assert refit.held.r2 > made.held.r2
    lines = str(made).splitlines()
    assert lines[0] == "1 block as products (gaussian fit); R2 on 497 held-out rows"
    assert lines[2].split()[1:3] == ["ReLU", "64"]
    assert lines[3].startswith("outputs: R2 0.99") and "score 0.9" in lines[3]
    assert "rows it was fitted to" in str(to_bilinear(net, X[:40]))  # fewer rows than inputs


def test_labels_are_read_as_the_network_says_them_and_targets_score_by_r2():
    X, y, _, _ = digits()
    words = np.where(y % 2, "odd", "even")
    model = MLPClassifier((16,), random_state=0)
    model.partial_fit(X, words, classes=["even", "odd"])
    for _ in range(15):
        model.partial_fit(X, words)
    made = to_bilinear(gw.read(model), X, words)
    assert made.fitted.score[0] == model.score(X, words)
    assert made.fitted.agreement > 0.95
    with pytest.raises(
        DataError, match="the label 'neither' in y is none of the network's classes"
    ):
        to_bilinear(gw.read(model), X[:2], ["odd", "neither"])
    numbers = MLPRegressor(hidden_layer_sizes=(16,), random_state=0)
    for _ in range(30):
        numbers.partial_fit(X, y.astype(float))
    made = to_bilinear(gw.read(numbers), X, y.astype(float))
    assert made.fitted.agreement is None
    assert made.fitted.score[0] == pytest.approx(numbers.score(X, y.astype(float)))


def test_columns_of_a_table_are_matched_by_name_and_one_output_decides_by_its_sign():
    table = pd.DataFrame(random(80, 3).numpy(), columns=["a", "b", "c"])
    y = (table["a"] + table["b"] ** 2 > 0.5).to_numpy()
    model = MLPClassifier((8,), random_state=0, max_iter=20, tol=1e9).fit(table, y)
    made = to_bilinear(gw.read(model), table[["c", "a", "b"]], y, X_test=table[::2], y_test=y[::2])
    said = made.network(torch.tensor(table.to_numpy()))[:, 0] > 0
    assert made.fitted.score == (model.score(table, y), float((said.numpy() == y).mean()))
    assert made.held.rows == 40
    with pytest.raises(WrongColumns):
        to_bilinear(gw.read(model), table[["a", "b"]])


def idx(name: str) -> np.ndarray:
    with gzip.open(shared.folder() / "images" / "mnist" / name) as file:
        held = file.read()
    shape = np.frombuffer(held, ">i4", held[3], 4)
    return np.frombuffer(held, np.uint8, offset=4 + 4 * held[3]).reshape(shape)


@pytest.mark.parametrize("path", shared.params("onnx/mnist_fc/mnist-net_256x4.onnx"))
def test_a_published_network_of_four_blocks_keeps_its_decisions_once_read_outs_are_refitted(path):
    images = idx("t10k-images-idx3-ubyte.gz").reshape(-1, 784) / 255.0
    labels = idx("t10k-labels-idx1-ubyte.gz").astype(int)
    train = idx("train-images-idx3-ubyte.gz")[:1000].reshape(-1, 784) / 255.0
    made = to_bilinear(gw.read(path), train, X_test=images[:600], y_test=labels[:600], refit=True)
    assert made.held.score[0] > 0.95
    assert made.held.agreement > 0.9
    assert [layer.hidden for layer in bilinear_layers(made.network)] == [256] * 4
