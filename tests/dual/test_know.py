"""gates_know against kernels and ridge written out by hand, and the ordering training makes."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from torch import nn

import gatewise as gw
import shared
from gatewise.dual.gates.alignment import centred_alignment
from gatewise.dual.gating import gated, masks
from gatewise.dual.kernels.path_kernel import npk
from gatewise.dual.machines.know import _split, fresh, gates_know
from gatewise.dual.machines.solvers import ridge_machine
from gatewise.errors import BadRows, DataError, NotGated, WrongShape
from gatewise.models import ReLUNet, fit

ORDER = ["inputs and gates", "gates alone"]


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


@pytest.fixture(scope="module")
def digits():
    """(network trained on digits, X, X_test, y, y_test)."""
    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X / 16, y, random_state=0)
    module = ReLUNet((64, 64, 64, 64, 10), bias=True, seed=0)
    fit(module, parts[0], parts[2], epochs=30, lr=3e-3, schedule="cosine")
    return gw.read(module), *parts


@pytest.fixture(scope="module")
def table(digits):
    net, X, X_test, y, y_test = digits
    return gates_know(net, X, y, X_test=X_test, y_test=y_test, draws=2)


def by_hand(net, X, X_test, inputs):
    """Masks of a plain chain from its weights alone, and the cosine of the NPK."""
    layers = [n.kind for n in net.nodes if n.kind.__class__.__name__ == "Affine"]

    def gates(x):
        found = []
        for kind in layers[:-1]:
            x = x @ kind.weights[0].numpy().T + kind.bias.numpy()
            found.append((x > 0).astype(float))
            x = np.maximum(x, 0)
        return found

    def kernel(a, b):
        k = a @ b.T if inputs else np.ones((len(a), len(b)))
        for one, two in zip(gates(a), gates(b), strict=True):
            k = (k + 1) * (one @ two.T)
        return k + 1

    size, size_test = (np.array([kernel(r, r)[0, 0] for r in x[:, None]]) for x in (X, X_test))
    gram = kernel(X, X) / np.sqrt(np.outer(size, size))
    return gram, kernel(X_test, X) / np.sqrt(np.outer(size_test, size))


@pytest.mark.parametrize("kernel", ORDER)
def test_figures_of_the_path_kernel_are_those_of_ridge_written_out(digits, kernel):
    net, X, X_test, y, y_test = digits
    few = slice(0, 150)
    found = gates_know(net, X[few], y[few], X_test=X_test[few], y_test=y_test[few])[kernel]
    gram, cross = by_hand(net, X[few], X_test[few], kernel == ORDER[0])
    one_hot = np.eye(10)[y[few]]
    unit = 1e-2 * np.trace(gram) / 150
    weights = np.linalg.solve(gram + unit * np.eye(150), one_hot - one_hot.mean(0))
    said = (cross @ weights + one_hot.mean(0)).argmax(1)
    assert found.own == (said == y_test[few]).mean()
    assert_allclose(found.alignment, centred_alignment(gram, y[few]), rtol=1e-9)


def test_a_layer_alone_is_the_share_of_its_gates_that_are_on_at_both(digits):
    net, X, X_test, y, y_test = digits
    found = gates_know(net, X[:200], y[:200], X_test=X_test, y_test=y_test, seed=1)
    last = gated(net).sites[-1]
    on, there = (masks(net, x)[-1].flatten(1).double().numpy() for x in (X[:200], X_test))
    units = [g / np.sqrt(g.sum(1, keepdims=True)).clip(1e-9) for g in (on, there)]
    machine = ridge_machine(units[0] @ units[0].T, y[:200])
    assert found[last.at].own == machine.score(units[1] @ units[0].T, y_test)
    assert found[last.at].units == 64


def test_training_puts_the_labels_into_the_gates_of_the_last_layer(table, digits):
    last = table.kernels[-1]
    assert table.network > 0.95
    assert table["inputs and gates"].own > table.network - 0.02
    assert last.own > max(last.random) + 0.04
    assert last.alignment > max(last.random_alignment) + 0.1
    assert table.linear < table.network
    assert [k.kernel for k in table.kernels][:2] == ORDER and len(table.kernels) == 5
    assert 0 < table.standard_error < 0.02 and table.residual < 1e-8


def test_the_table_says_what_its_figures_are(table):
    text = str(table)
    assert "fitted on 1347 rows, tested on 450" in text
    assert "the gates saw the labels of the rows that the network was trained on" in text
    assert "NPK, inputs and gates" in text and "64 gates of relu#3 alone" in text
    assert " ± " in text and f"{100 * table.network:.2f}" in text
    assert "held out" not in text


def test_without_test_rows_a_quarter_is_held_out_and_the_table_says_so(digits):
    net, X, _, y, _ = digits
    found = gates_know(net, X, y, rows=300)
    assert (found.rows, found.test_rows) == (300, 300)
    assert "a quarter of X was held out" in str(found)


def test_a_quarter_is_rounded_down_and_no_row_is_in_both(digits):
    net, X, _, y, _ = digits
    found = gates_know(net, X[:43], y[:43])
    assert (found.rows, found.test_rows) == (33, 10)
    split = _split(net, (X[:43], y[:43], None, None), 5000, None, np.random.default_rng(0))
    both = torch.cat([split.fit.x, split.test.x]).flatten(1).numpy()
    assert_allclose(np.sort(both, 0), np.sort(X[:43], 0))


def test_the_standard_error_is_that_of_a_share_with_two_right_and_two_wrong_added(table):
    right = round(table.network * table.test_rows) + 2
    n = table.test_rows + 4
    assert_allclose(table.standard_error, np.sqrt(right * (n - right) / n**3))
    assert f"accuracy: {100 * table.standard_error:.2f} points" in str(table)


def test_a_kernel_that_is_not_there_is_named(table):
    with pytest.raises(KeyError, match="no kernel 'zz'; there are inputs and gates, gates alone"):
        table["zz"]


def test_a_constant_column_changes_nothing():
    rng = np.random.default_rng(0)
    X = np.c_[rng.normal(size=(40, 2)), np.full(40, 0.1)]
    y = (X[:, 0] > 0).astype(int)
    net = gw.read([(rng.normal(size=(6, 3)), np.zeros(6)), (rng.normal(size=(2, 6)), np.zeros(2))])
    near = X + np.array([0, 0, 1e-9])  # far away in units of what rounding left of the spread
    assert X.std(0)[2] > 0
    same, other = (gates_know(net, X, y, X_test=rows, y_test=y) for rows in (X, near))
    assert same.linear == other.linear


def test_columns_of_a_table_are_matched_by_their_names():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list("abc"))
    y = (X.a > 0).astype(int)
    net = gw.read(MLPClassifier((6,), max_iter=2000, random_state=0).fit(X, y))
    other = X[["c", "b", "a"]]
    found, turned = (gates_know(net, t, y, X_test=t, y_test=y) for t in (X, other))
    assert found.kernels == turned.kernels and found.network == turned.network > 0.9


def test_fresh_weights_keep_shapes_scalers_and_gates_and_undo_norms():
    body = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2)]
    module = seeded(lambda: nn.Sequential(nn.BatchNorm2d(1), *body)).eval()
    for norm in (module[0], module[2]):
        nn.init.uniform_(norm.running_var, 2, 3)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    net = gw.read(module, torch.zeros(2, 1, 5, 5))
    other = fresh(net, torch.Generator().manual_seed(0))
    first, conv, norm, *_, head = (n.kind for n in other.nodes)
    before = {n.name: n.kind for n in net.nodes}
    assert torch.equal(first.weights[0], before[net.nodes[0].name].weights[0])
    assert bool((norm.weights[0] == 1).all()) and not bool(norm.bias.any())
    for kind, node in ((conv, net.nodes[1]), (head, net.nodes[-1])):
        assert kind.weights[0].shape == node.kind.weights[0].shape
        assert not torch.isclose(kind.weights[0], node.kind.weights[0]).any()
    x = torch.randn(4, 25, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert masks(other, x)[0].shape == masks(net, x)[0].shape


def test_a_residual_convolution_is_read_layer_by_layer():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv1d(1, 4, 3, padding=1), nn.Conv1d(4, 4, 3, padding=1)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            h = torch.relu(self.first(x))
            return self.head((h + torch.relu(self.second(h))).mean(2))

    net = gw.read(seeded(Net), torch.zeros(2, 1, 6))
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 6))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    found = gates_know(net, X[:80], y[:80], X_test=X[80:], y_test=y[80:], ridge=0.1)
    rows = np.random.default_rng(0).permutation(80)  # the machine does not depend on their order
    gram = npk(net, X[:80][rows], scale="cosine").values
    machine = ridge_machine(gram, y[:80][rows], ridge=0.1)
    cross = npk(net, X[80:], X[:80][rows], scale="cosine").values
    assert found["inputs and gates"].own == machine.score(cross, y[80:])
    assert [k.units for k in found.kernels] == [48, 48, 24, 24]


def test_a_regression_is_measured_by_r2():
    X, y = load_diabetes(return_X_y=True)
    module = seeded(lambda: nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1)))
    fit(module, X, y / 100, epochs=60, lr=1e-2)
    found = gates_know(
        gw.read(module), X[:300], y[:300] / 100, X_test=X[300:], y_test=y[300:] / 100
    )
    out = module(torch.tensor(X[300:], dtype=torch.float32)).detach().numpy()[:, 0]
    off = ((out - y[300:] / 100) ** 2).sum() / ((y[300:] / 100 - (y[300:] / 100).mean()) ** 2).sum()
    assert found.task == "regression" and np.isnan(found.standard_error)
    assert_allclose(found.network, 1 - off, atol=1e-5)
    assert 0.2 < found["inputs and gates"].own < 0.7 and 0.2 < found.linear < 0.7
    assert "Test R2" in str(found) and "standard error" not in str(found)


def test_labels_are_taken_as_the_network_says_its_classes(digits):
    net, X, X_test, y, y_test = digits
    names = np.array([f"digit {k}" for k in range(10)])
    named = gw.read(net, classes=list(names))
    given = {"X_test": X_test, "y_test": names[y_test]}
    found = gates_know(named, X[:200], names[y[:200]], **given)
    plain = gates_know(net, X[:200], y[:200].astype(float), X_test=X_test, y_test=y_test)
    assert found.network == plain.network and found.kernels == plain.kernels
    with pytest.raises(DataError, match="label 'seven' in y is none of the network's classes"):
        gates_know(named, X[:2], ["digit 1", "seven"], **given)


def test_bad_input_is_refused_in_a_sentence(digits):
    net, X, X_test, y, y_test = digits
    with pytest.raises(DataError, match=r"labels are '3', .*at least two classes"):
        gates_know(net, X[y == 3], y[y == 3])
    with pytest.raises(DataError, match="X_test and y_test go together"):
        gates_know(net, X, y, X_test=X_test)
    with pytest.raises(WrongShape, match="y must hold one label for each of 1347 rows"):
        gates_know(net, X, y[:5])
    with pytest.raises(DataError, match="X_test holds NaN or infinity"):
        gates_know(net, X, y, X_test=X_test * np.nan, y_test=y_test)
    with pytest.raises(DataError, match="or 'regression', got 'foo'"):
        gates_know(net, X, y, task="foo")
    with pytest.raises(DataError, match="draws must be a whole number, at least 1, got 0"):
        gates_know(net, X, y, draws=0)
    with pytest.raises(BadRows, match="y_test holds NaN or infinity in rows 0"):
        gates_know(net, X, y, X_test=X_test, y_test=y_test * np.nan)
    with pytest.raises(NotGated, match="no gates, so they know nothing"):
        gates_know(gw.read(nn.Linear(64, 10)), X, y)
    pooled = nn.Sequential(nn.Linear(64, 8), nn.GELU(), nn.Linear(8, 10))
    with pytest.raises(NotGated, match="node '1'"):
        gates_know(gw.read(pooled), X, y)


@pytest.mark.real_data
def test_mnist_what_is_learned_is_in_the_gates():
    """Trained gates beat random ones, later layers alone beat earlier; a linear model is last."""
    if not shared.folder().is_dir():
        pytest.fail(shared.reason()) if shared.required() else pytest.skip(shared.reason())

    def images(name, offset):
        file = shared.folder() / "images" / "mnist" / name
        return np.frombuffer(gzip.open(file).read(), np.uint8, offset=offset)

    X = images("train-images-idx3-ubyte.gz", 16).reshape(-1, 784)[:12000] / np.float32(255)
    y = images("train-labels-idx1-ubyte.gz", 8)[:12000].astype(int)
    X_test = images("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 784) / np.float32(255)
    y_test = images("t10k-labels-idx1-ubyte.gz", 8).astype(int)
    module = ReLUNet((784, 128, 128, 128, 10), bias=True, seed=0)
    fit(module, X, y, epochs=6, batch=128, lr=2e-3, schedule="cosine")
    found = gates_know(gw.read(module), X, y, X_test=X_test, y_test=y_test, rows=1500)
    own = [k.own for k in found.kernels]
    assert found.network > 0.95
    assert own[0] > found["inputs and gates"].random[0] + 0.01
    assert own[1] > found["gates alone"].random[0] + 0.02
    assert own[0] > found.network - 0.03
    assert own[2] < own[3] < own[4]  # each layer alone knows more than the one before it
    assert found.linear < min(own[0], own[1]) - 0.05
