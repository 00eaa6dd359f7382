"""Gates as half-spaces: exact where they are linear, least squares elsewhere, accuracy on data."""

from __future__ import annotations

import dataclasses
import gzip
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from torch import nn

import gatewise as gw
import shared
from gatewise import models
from gatewise.dual.distilling.network import distill
from gatewise.dual.machines.know import gates_know
from gatewise.errors import BadRows, DataError, EmptyData, NotGated, WrongShape
from gatewise.given.labels import network_score, truth_of


def mlp(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    pairs = [(rng.normal(size=(b, a)) / a**0.5, rng.normal(size=b)) for a, b in pairwise(sizes)]
    return gw.read(pairs)


def rows(net, n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, net.inputs))


def weights(net):
    found = [n.kind for n in net.nodes if getattr(n.kind, "taps", None) is not None]
    return [(k.weights[0].numpy(), k.bias.numpy().reshape(-1)) for k in found]


def test_least_squares_gates_and_the_forward_pass_are_what_numpy_says():
    net = mlp(4, 9, 7, 3)
    X, X2 = rows(net, 80), rows(net, 33, seed=5)
    made = distill(net, X, X_test=X2, ridge=0.0, batch=16)
    (w1, b1), (w2, b2), (w3, b3) = weights(net)

    def trained(x):
        z1 = x @ w1.T + b1
        return z1, np.maximum(z1, 0) @ w2.T + b2

    def one(x):
        return np.concatenate([x, np.ones((len(x), 1))], 1)

    planes = np.linalg.lstsq(one(X), trained(X)[1], rcond=None)[0]
    for x, layer in ((X, "agreement"), (X2, "held")):
        z1, z2 = trained(x)
        gates = one(x) @ planes > 0
        h1 = (z1 > 0) * z1
        expected = (gates * (h1 @ w2.T + b2)) @ w3.T + b3
        np.testing.assert_allclose(made.network(x).numpy(), expected, atol=1e-10)
        assert getattr(made.layers[0], layer) == 1
        assert getattr(made.layers[1], layer) == pytest.approx((gates == (z2 > 0)).mean())
    on = (trained(X)[1] > 0).mean(0)
    assert made.layers[1].majority == pytest.approx(np.maximum(on, 1 - on).mean())
    f, g = net(X).numpy(), made.network(X).numpy()
    spread = ((f - f.mean(0)) ** 2).sum()
    assert made.change == pytest.approx((((f - g) ** 2).sum() / spread) ** 0.5)


def test_a_network_of_one_gate_layer_is_kept_as_it_is():
    net = mlp(5, 12, 2)
    made = distill(net, rows(net, 40))
    X = rows(net, 20, seed=1)
    assert made.layers[0].agreement == 1
    assert made.change == 0
    assert torch.equal(made.network(X), net(X))


def test_a_dlgn_is_kept_since_its_gates_are_half_spaces_already():
    module = models.DLGN((5, 8, 8, 8, 3), bias=True, seed=0)
    net = gw.read(module)
    made = distill(net, rows(net, 60))
    assert [layer.agreement for layer in made.layers] == [1, 1, 1]
    X = rows(net, 50, seed=1)
    np.testing.assert_allclose(made.network(X), net(X), atol=1e-12)


def test_skips_are_followed():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            h = x + torch.relu(self.a(x))
            return self.head(h + torch.relu(self.b(h)))

    torch.manual_seed(0)
    net = gw.read(Residual())
    made = distill(net, rows(net, 200))
    assert made.layers[0].agreement == 1
    assert made.layers[1].agreement > 0.9
    assert made.change < 0.2


def test_only_the_named_layers_are_replaced():
    net = mlp(4, 9, 7, 6, 3)
    X = rows(net, 80)
    last = distill(net, X, layers=[-1])
    assert [layer.name for layer in last.layers] == [net.gates[-1].name]
    assert len(last.network.gates) == 3
    assert distill(net, X).change > last.change > 0


def test_the_result_is_a_hyperplane_arrangement():
    """Every wall of a region is one gate's half-space, the same in every region."""
    net = distill(mlp(3, 5, 4, 2), rows(mlp(3, 5), 90)).network
    X = rows(net, 30, seed=2)
    planes = torch.cat([n.kind.weights[0] for n in net.nodes if n.layer == "Half-spaces"])
    region = gw.region(net, X)
    for i in range(len(X)):
        a = region.halfspaces(i).a
        gap = torch.minimum(
            (a[:, None] - planes).abs().amax(2), (a[:, None] + planes).abs().amax(2)
        )
        assert (gap.amin(1) < 1e-12).all()
    maps = gw.affine(net, X)
    np.testing.assert_allclose(maps.mv(X), net(X), atol=1e-10)


def test_refitted_weights_come_nearer_to_the_trained_outputs():
    net = mlp(6, 20, 20, 20, 3, seed=3)
    X = rows(net, 2000)
    kept, refitted = distill(net, X), distill(net, X, refit=True)
    assert refitted.change < 0.9 * kept.change
    assert len(refitted.refitted) == 3
    for a, b in zip(kept.network.gates, refitted.network.gates, strict=True):
        assert torch.equal(
            kept.network.node(a.inputs[0]).kind.weights[0],
            refitted.network.node(b.inputs[0]).kind.weights[0],
        )


def test_batches_change_nothing():
    net = mlp(4, 9, 7, 3)
    X = rows(net, 50)
    for refit in (False, True):
        a, b = (distill(net, X, refit=refit, batch=n) for n in (7, 1000))
        np.testing.assert_allclose(a.network(X), b.network(X), atol=1e-9)
        assert a.layers == b.layers


def test_inputs_that_span_less_than_their_space_are_said():
    net = mlp(4, 9, 7, 3)
    X = rows(net, 50)
    X[:, 2], X[:, 3] = 1.0, X[:, 0]
    made = distill(net, X, X_test=X)
    assert made.rank == 2
    assert "span 2 of 4 dimensions" in str(made)
    assert np.isfinite(made.network(rows(net, 9)).numpy()).all()


def test_digits_keep_their_accuracy():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:1347], order[1347:]
    model = MLPClassifier((128,) * 3, max_iter=60, tol=0, n_iter_no_change=99, random_state=0)
    with pytest.warns(Warning, match="Maximum iterations"):
        model.fit(X[train], y[train])
    made = distill(gw.read(model), X[train], y[train], X_test=X[test], y_test=y[test])
    before, after = made.held_score
    assert before == pytest.approx(model.score(X[test], y[test]))
    assert after >= before - 0.01
    assert all(layer.held > layer.held_majority + 0.03 for layer in made.layers)
    assert all(layer.held > 0.93 for layer in made.layers)
    assert "held-out rows: outputs change by" in str(made)


def images(part: str, count: int):
    """The first images of MNIST and their labels."""
    folder = shared.folder() / "images" / "mnist"
    names = [f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    pixels, labels = (gzip.decompress((folder / name).read_bytes()) for name in names)
    X = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 784)[:count] / 255.0
    return X, np.frombuffer(labels, np.uint8, offset=8)[:count].astype(int)


@pytest.mark.real_data
def test_a_trained_mnist_network_that_others_made(shared_data):
    """9 layers of 200 (ERAN): what is kept and what is lost, as measured."""
    net = gw.read(shared.folder() / "onnx" / "eran_mnist" / "mnist_relu_9_200.onnx")
    X, y = images("train", 4000)
    X2, y2 = images("t10k", 2000)
    made = distill(net, X, y, X_test=X2, y_test=y2)
    before, after = made.held_score
    assert before > 0.92
    assert before > after > before - 0.1
    assert made.layers[0].held == 1
    assert all(layer.held > layer.held_majority + 0.01 for layer in made.layers)


# -- scores and refusals --


def score(net, x, y):
    return network_score(net, x, truth_of(net, y, len(x)))


def test_scores_of_labels_names_and_regressions():
    net = gw.read([(np.array([[1.0], [-1.0]]), np.zeros(2))])
    x = torch.tensor([[1.0], [2.0], [-1.0]], dtype=torch.float64)
    assert score(net, x, np.array([0, 1, 1])) == pytest.approx(2 / 3)
    named = dataclasses.replace(net, classes=("1", "2"))
    assert score(named, x, np.array([1, 2, 2])) == pytest.approx(2 / 3)
    assert score(named, x, np.array(["1", "1", "2"])) == 1
    line = gw.read([(np.array([[2.0]]), np.zeros(1))])
    assert score(line, x, np.array([2.0, 4.0, -2.0])) == 1
    assert score(line, x, np.array([1, 1, 1])) == pytest.approx(1 / 3 * 2)


LABELS = {
    "a column": lambda k: k[:, None],
    "floats": lambda k: k.astype(float),
    "text": lambda k: k.astype(str),
    "a list": lambda k: k.tolist(),
}


@pytest.mark.parametrize("form", LABELS)
def test_labels_count_the_same_here_and_in_gates_know(form):
    net = mlp(3, 8, 6, 3)
    X = rows(net, 40)
    places = np.where(np.arange(40) % 4 == 0, np.arange(40) % 3, net(X).argmax(1).numpy())
    y = LABELS[form](places)
    expected = (net(X).argmax(1).numpy() == places).mean()
    assert 0 < expected < 1
    made = distill(net, X, y, X_test=X, y_test=y)
    assert made.score == made.held_score and made.score[0] == expected
    assert gates_know(net, X, y, X_test=X, y_test=y).network == expected


def test_both_refuse_the_labels_that_the_network_does_not_have():
    net = mlp(3, 8, 2)
    named = gw.read(net, classes=("no", "yes"))
    X = rows(net, 12)
    for given, y, words in (
        (net, ["a", "b"] * 6, "label 'a' in y is none of the positions of its outputs .0, 1."),
        (net, [0, 5] * 6, "label 5 in y is none of the positions of its outputs .0, 1."),
        (named, [0, 1] * 6, "label 0 in y is none of the network's classes .no, yes."),
    ):
        for measure in (distill, gates_know):
            with pytest.raises(DataError, match=words):
                measure(given, X, y)
    y = np.array(["no", "yes"])[named(X).argmax(1).numpy()]
    assert distill(named, X, y).score[0] == 1
    assert gates_know(named, X, y, X_test=X, y_test=y).network == 1


def test_regression_targets_are_finite_and_as_many_as_the_outputs():
    net = mlp(3, 8, 1, seed=4)
    X = rows(net, 12)
    y = net(X).numpy()
    assert y.min() < 0 < y.max()
    assert distill(net, X, y).score == distill(net, X, y[:, 0]).score == (1, 1)
    whole = (y > 0).astype(float)
    assert distill(net, X, whole).score[0] == 1  # labels
    assert distill(net, X, whole, task="regression").score[0] < 1
    with pytest.raises(BadRows, match="y holds NaN or infinity in rows 0, 1"):
        distill(net, X, y * np.nan)
    with pytest.raises(WrongShape, match="the network has 1 output, and y has 2 numbers a row"):
        distill(net, X, np.c_[y, y])
    with pytest.raises(DataError, match="'classification' or 'regression', got 'foo'"):
        distill(net, X, y, task="foo")


def test_constant_outputs_have_no_spread_to_measure_by():
    rng = np.random.default_rng(0)
    parts = [(rng.normal(size=(5, 3)), None), (rng.normal(size=(5, 5)), None)]
    net = gw.read([*parts, (np.zeros((1, 5)), np.array([0.1]))])
    made = distill(net, rows(net, 30))
    assert np.isnan(made.change)
    assert "fitted rows: the trained outputs are constant" in str(made)


def test_the_change_is_right_far_from_zero():
    net = mlp(4, 9, 7, 3)
    X = rows(net, 60)
    *body, (w, b) = weights(net)
    far = gw.read([*body, (w, b + 1e7)])
    assert distill(far, X).change == pytest.approx(distill(net, X).change, rel=1e-6)


def test_bad_input_is_refused():
    net = mlp(3, 4, 4, 2)
    X = np.ones((5, 3))
    with pytest.raises(EmptyData, match="X has 1 row: give 2 or more"):
        distill(net, X[:1])
    with pytest.raises(BadRows, match="X_test holds NaN or infinity in rows 0"):
        distill(net, X, X_test=X * np.nan)
    with pytest.raises(DataError, match=r"positions of the 2 gate layers, got \[2\]"):
        distill(net, X, layers=[2])
    with pytest.raises(WrongShape, match="y must hold one label for each of 5 rows"):
        distill(net, X, [0, 1])
    with pytest.raises(DataError, match="y_test was given without its rows"):
        distill(net, X, y_test=[0, 1])
    with pytest.raises(NotGated, match="no gates, so there is nothing to distill"):
        distill(mlp(3, 2), X)
    conv = nn.Sequential(nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(NotGated, match=r"gate layer '1' has shape .* with positions"):
        distill(gw.read(conv, torch.ones(1, 1, 3)), np.ones((5, 3)))
    with pytest.raises(DataError, match="ridge must be 0 or more"):
        distill(net, X, ridge=-1.0)
    for batch in (0, -1, 1.5):
        with pytest.raises(DataError, match="batch must be a whole number, at least 1, got"):
            distill(net, X, batch=batch)
