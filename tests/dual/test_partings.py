"""Where two inputs part: counts by hand, and a difference that adds up for any two rows."""

import gzip
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import cases
import gatewise as gw
from gatewise.dual.paths import partings as partings_module
from gatewise.dual.paths.explicit import explicit_paths
from gatewise.dual.paths.partings import partings
from gatewise.errors import BadRows, DataError, NotGated


def perceptron(sizes, bias=True, seed=0):
    torch.manual_seed(seed)
    linear = [nn.Linear(a, b, bias) for a, b in pairwise(sizes)]
    module = nn.Sequential(*[m for la in linear for m in (la, nn.ReLU())][:-1]).double()
    return module, gw.read(module, torch.zeros(2, sizes[0]).double())


def rows(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.lists(st.integers(1, 9), min_size=3, max_size=6), st.booleans(), st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_the_difference_adds_up(sizes, bias, seed):
    module, network = perceptron(sizes, bias, seed)
    x = rows(2, sizes[0], seed=seed)
    found = partings(network, x[0], x[1], output=0)
    y = module(x)[:, 0].detach()
    assert found.difference == pytest.approx(float(y[0] - y[1]), rel=1e-10, abs=1e-12)
    assert found.relative <= 1e-12


@pytest.mark.parametrize("name", ["residual", "dlgn", "reused_relu", "tied_weights", "linear"])
def test_models_as_users_have_them(name):
    case = cases.CASES[name]
    network = gw.read(case.module().double(), case.rows(2).double())
    for pair in case.rows(8).double().reshape(4, 2, *case.shape):
        found = partings(network, pair[0], pair[1])
        assert found.relative <= 1e-12
        back = partings(network, pair[1], pair[0], found.output)
        assert back.difference == pytest.approx(-found.difference)
        assert back.linear == pytest.approx(-found.linear)


def test_a_convolution():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU()]
    module = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).double()
    x = rows(2, 1, 6, 6)
    found = partings(gw.read(module, x), x[0], x[1])
    assert found.relative <= 1e-12 and found.layers[0].shared is None
    assert found.layers[1].first.size == 4 * 4 * 4


def test_gates_counts_and_shared_paths():
    """Against masks from numpy and paths counted one by one."""
    module, network = perceptron([3, 5, 4, 2], seed=7)
    x = rows(2, 3, seed=5)
    found = partings(network, x[0], x[1])
    with torch.no_grad():
        h = module[0](x)
        masks = [h > 0, module[2](h.relu()) > 0]
    for layer, (a, b) in zip(found.layers, masks, strict=True):
        assert (layer.first == a.numpy()).all() and (layer.second == b.numpy()).all()
        both = int((a & b).sum())
        assert layer.counts["both"] == both and sum(layer.counts.values()) == len(a)
        assert layer.counts["only first"] == int((a & ~b).sum())
        assert layer.overlap == pytest.approx(both / float(a.sum() * b.sum()) ** 0.5)
    table = explicit_paths(network, x)
    live = table.features != 0
    mine = (table.outputs == 0) & (table.units[:, 1] >= 0)
    last = found.layers[-1]
    counted = [int((live[i] & live[j] & mine).sum()) for i, j in ((0, 1), (0, 0), (1, 1))]
    assert [last.shared, last.of_first, last.of_second] == counted


def test_a_parting_unit_brings_what_it_takes_away_when_silenced():
    """One parting unit in the last layer brings weight * value: the others are linear."""
    _, network = perceptron([3, 6, 5, 1], seed=1)
    x = rows(40, 3)
    head = network.nodes[-1].kind.weights[0][0].numpy()
    tried = 0
    for x1, x2 in zip(x[:20], x[20:], strict=True):
        found = partings(network, x1, x2)
        layer = found.layers[-1]
        h = {}
        for i, row in enumerate((x1, x2)):
            z = row[None]
            for node in network.nodes[:-1]:
                z = node.kind(z)
            h[i] = z[0].numpy()
        for unit in layer.parting:
            sign, which = (1, 0) if layer.first[unit] else (-1, 1)
            assert layer.brings[unit] == pytest.approx(sign * head[unit] * h[which][unit])
            tried += 1
        shared = layer.first == layer.second
        assert (layer.brings[shared] == 0).all()
        size = np.abs(layer.brings[layer.parting])
        assert (np.diff(size) <= 0).all()
    assert tried > 2


def test_two_inputs_of_one_region_part_nowhere():
    _, network = perceptron([3, 6, 5, 2])
    x = rows(1, 3)
    found = partings(network, x, x + 1e-9)
    assert found.first_parting is None and found.linear == pytest.approx(found.difference, rel=1e-6)
    assert "all gates are the same: one region" in str(found)


def test_the_words():
    _, network = perceptron([3, 6, 5, 2])
    x = rows(2, 3)
    found = partings(network, x[0], -3 * x[0])
    text = str(found)
    assert found.first_parting == network.gates[0].name
    assert f"they part first at {found.first_parting}" in text and "shared paths so far" in text
    assert "parting units bring" in text and "they add up to within" in text


def test_bad_input_is_refused():
    _, network = perceptron([3, 6, 2])
    x = rows(2, 3)
    with pytest.raises(DataError, match="x2 must be one row of 3 inputs, got 2 rows"):
        partings(network, x[0], x)
    with pytest.raises(DataError, match="outputs run from 0 to 1, got 5"):
        partings(network, x[0], x[1], output=5)
    case = cases.CASES["max_pool"]
    pooled = gw.read(case.module().double(), case.rows(2).double())
    with pytest.raises(NotGated, match="is MaxPool"):
        partings(pooled, case.rows(1), case.rows(1))


def test_the_row_that_cannot_be_used_is_named():
    _, network = perceptron([3, 6, 2])
    x = rows(3)
    for pair, name in (((x * np.nan, x), "x1"), ((x, x * np.inf), "x2")):
        with pytest.raises(BadRows, match=f"^{name} holds NaN or infinity in rows 0"):
            partings(network, *pair)


def test_the_error_of_the_parts_is_measured(monkeypatch):
    """Parts that miss half a unit of the difference are found half a unit off."""
    _, network = perceptron([3, 6, 5, 2])
    x = rows(2, 3)
    right = partings(network, x[0], x[1])
    divided = partings_module._difference

    def short(*asked):
        parts, linear = divided(*asked)
        return parts, linear - 0.5

    monkeypatch.setattr(partings_module, "_difference", short)
    wrong = partings(network, x[0], x[1])
    assert wrong.error == pytest.approx(0.5) and right.error < 1e-14
    assert wrong.relative > 0.01 and "add up to within 5.0e-01" in str(wrong)


@pytest.mark.real_data
def test_two_images_on_a_trained_network(shared_data):
    path = shared_data / "images" / "mnist" / "t10k-images-idx3-ubyte.gz"
    images = np.frombuffer(gzip.decompress(path.read_bytes())[16:], np.uint8).reshape(-1, 784) / 255
    network = gw.read(shared_data / "onnx" / "eran_mnist" / "mnist_relu_9_200.onnx")
    for other in (1, 2, 3):
        found = partings(network, images[0], images[other])
        assert found.relative <= 1e-12 and len(found.layers) == 9
        assert found.first_parting == found.layers[0].name
    print(found)
