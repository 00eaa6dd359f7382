"""The strongest paths: the same list as brute force gives, ties and signs included."""

import gzip
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import cases
import gatewise as gw
from gatewise.dual.gating import masks
from gatewise.dual.paths.edges import unit_graph
from gatewise.dual.paths.explicit import explicit_paths, path_blocks
from gatewise.dual.paths.graph import coefficients, row_masks, starts
from gatewise.dual.paths.strongest import named, path_products, strongest_edges, strongest_paths
from gatewise.errors import BadRows, DataError, NotGated
from oracles import each_path as oracle


def perceptron(sizes, bias=True, seed=0, whole=False):
    """A ReLU perceptron, read, its weights and biases; whole: small whole numbers, many ties."""
    torch.manual_seed(seed)
    linear = [nn.Linear(a, b, bias) for a, b in pairwise(sizes)]
    module = nn.Sequential(*[m for la in linear for m in (la, nn.ReLU())][:-1]).double()
    if whole:
        with torch.no_grad():
            for p in module.parameters():
                p.copy_(torch.randint(-2, 3, p.shape))
    weights = [la.weight.detach().numpy() for la in linear]
    biases = [la.bias.detach().numpy() if bias else None for la in linear]
    return gw.read(module, torch.zeros(2, sizes[0]).double()), weights, biases


def rows(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ways(found):
    units = [[None if u < 0 else u for u in row] for row in found.units.tolist()]
    return [(s, *u) for s, u in zip(found.starts.tolist(), units, strict=True)]


SIZES = st.lists(st.integers(1, 4), min_size=2, max_size=5)


@given(SIZES, st.booleans(), st.booleans(), st.integers(0, 1000), st.sampled_from([1, 3, 17, 400]))
@settings(max_examples=30, deadline=None)
def test_the_same_list_as_brute_force_ties_in_order(sizes, bias, whole, seed, k):
    network, weights, biases = perceptron(sizes, bias, seed, whole)
    x = rows(sizes[0], seed=seed)
    x = x.round() if whole else x
    output = seed % sizes[-1]
    expected = oracle.strongest(weights, biases, x.numpy(), output, k)
    found = strongest_paths(network, x, k, output)
    assert ways(found) == [way for way, _ in expected]
    assert found.contributions.tolist() == [c for _, c in expected]


@given(SIZES, st.integers(0, 1000), st.sampled_from([2, 25]))
@settings(max_examples=15, deadline=None)
def test_one_sign_at_a_time(sizes, seed, k):
    network, weights, biases = perceptron(sizes, True, seed, whole=seed % 2 == 0)
    x = rows(sizes[0], seed=seed).round()
    everything = oracle.strongest(weights, biases, x.numpy(), 0, 10**6)
    for sign, keep in (("positive", 1), ("negative", -1)):
        expected = [(w, c) for w, c in everything if np.sign(c) == keep][:k]
        found = strongest_paths(network, x, k, 0, sign)
        assert list(zip(ways(found), found.contributions.tolist(), strict=True)) == expected
        assert found.sign == sign


def test_mass_number_and_cancellation_are_those_of_all_paths():
    network, *_ = perceptron([4, 5, 4, 3], seed=2)
    x = rows(4)
    table = explicit_paths(network, x[None])
    mine = table.contributions[0, table.outputs == 1]
    found = strongest_paths(network, x, 5, 1)
    np.testing.assert_allclose(found.mass, np.abs(mine).sum(), rtol=1e-13)
    assert found.active == np.count_nonzero(mine)
    np.testing.assert_allclose(found.value, mine.sum(), rtol=1e-12)
    top = np.sort(np.abs(mine))[::-1][:5]
    np.testing.assert_allclose(found.carried, top.sum() / np.abs(mine).sum(), rtol=1e-12)
    np.testing.assert_allclose(found.cancellation, abs(mine.sum()) / np.abs(mine).sum())
    everything = strongest_paths(network, x, 10**6, 1)
    assert len(everything) == found.active and everything.carried == pytest.approx(1)


@pytest.mark.parametrize("name", ["residual", "dlgn", "reused_relu", "tied_weights"])
def test_other_graphs_against_all_their_paths(name):
    case = cases.CASES[name]
    network = gw.read(case.module().double(), case.rows(2).double())
    graph = unit_graph(network)
    for row in case.rows(3).double():
        on = row_masks(graph, masks(graph.source, row[None]))[0]
        c, start = coefficients(graph, on), starts(graph, row.numpy())
        every = [
            e[e >= 0].tolist()
            for block in path_blocks(graph)
            for o, e in zip(block.outputs, block.edges, strict=True)
            if o == 1
        ]
        value = path_products(graph, c, start, every)
        order = sorted(range(len(every)), key=lambda i: (-abs(value[i]), every[i]))
        best = [every[i] for i in order if value[i]][:40]
        assert strongest_edges(graph, c, start, int(graph.outputs[1]), 40) == best
        found = strongest_paths(graph, row, 40, 1)
        np.testing.assert_array_equal(found.units, named(graph, best)[1])


def test_a_path_that_skips_passes_layers_by():
    case = cases.CASES["residual"]
    network = gw.read(case.module().double(), case.rows(2).double())
    found = strongest_paths(network, case.rows(1).double(), 500)
    past = (found.units[:, 0] < 0) & (found.starts >= 0)
    assert past.any() and not past.all()
    i = int(np.nonzero(past)[0][0])
    assert found.path(i).startswith(f"x{found.starts[i]} -> ") and "first" not in found.path(i)


def test_units_of_a_convolution_are_named_by_channel_and_position():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4, 1)]
    x = rows(1, 1, 4, 4)
    found = strongest_paths(gw.read(nn.Sequential(*body).double(), x), x[0], 5000)
    i = int(np.nonzero((found.starts >= 0) & (found.units[:, 0] >= 0))[0][0])
    unit = found.units[i, 0]
    where = f"[{unit // 4},{unit % 4 // 2},{unit % 2}]"
    assert found.path(i) == f"x{found.starts[i]} -> 0{where} -> 3[0]"
    assert found.contributions.sum() == pytest.approx(found.value)


def test_paths_that_all_tie_end_in_time():
    """5^8 paths of the same size: the first ones in order, without listing the others."""
    sizes = [5] * 8 + [1]
    torch.manual_seed(0)
    linear = [nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)]
    module = nn.Sequential(*[m for la in linear for m in (la, nn.ReLU())][:-1]).double()
    for p in module.parameters():
        nn.init.ones_(p)
    found = strongest_paths(gw.read(module, torch.ones(2, 5).double()), torch.ones(5), 7)
    assert found.active == 5**8 and (found.contributions == 1).all()
    assert found.units[:, :-1].max() == 0 or found.units[:5, :-1].max() == 0
    assert found.starts[:5].tolist() == [0, 1, 2, 3, 4]


def test_the_words_say_how_little_single_paths_carry():
    network, *_ = perceptron([50, 60, 60, 60, 3], seed=1)
    found = strongest_paths(network, rows(50), 20)
    text = str(found)
    assert found.carried < 0.01
    assert "single paths of this network carry almost nothing: read its units first" in text
    assert "and 10 more" in text and "active ones to output" in text
    small = str(strongest_paths(perceptron([2, 2, 1])[0], rows(2), 3))
    assert "almost nothing" not in small and "Read units first" in small


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"k": 0}, DataError, "k must be a whole number, at least 1, got 0"),
        ({"k": 2.5}, DataError, "k must be a whole number"),
        ({"k": True}, DataError, "k must be a whole number"),
        ({"x": np.zeros((3, 4))}, DataError, "x must be one row of 4 inputs, got 3 rows"),
        ({"x": np.full(4, np.inf)}, BadRows, "^x holds NaN or infinity in rows 0"),
        ({"output": 7}, DataError, "outputs run from 0 to 1, got 7"),
        ({"sign": "up"}, DataError, "sign must be None, 'positive' or 'negative', got 'up'"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(change, error, says):
    network, *_ = perceptron([4, 5, 2])
    with pytest.raises(error, match=says):
        strongest_paths(network, **({"x": rows(4)} | change))


def test_a_row_of_a_table_is_taken_by_its_names():
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    network = gw.read(module, torch.zeros(1, 3).double(), feature_names=("a", "b", "c"))
    table = pd.DataFrame(rows(2, 3).numpy(), columns=["a", "b", "c"])
    turned = table[["c", "a", "b"]]
    expected = strongest_paths(network, table.to_numpy()[1])
    for x in (
        table.iloc[[1]],
        turned.iloc[[1]],
        table.iloc[1],
        turned.iloc[1],
        list(rows(2, 3)[1]),
    ):
        found = strongest_paths(network, x)
        assert np.array_equal(found.contributions, expected.contributions)
    unnamed = strongest_paths(network, pd.Series(table.to_numpy()[1]))
    assert unnamed.value == expected.value


def test_gates_that_are_not_on_or_off_are_refused_by_name():
    case = cases.CASES["hardtanh"]
    network = gw.read(case.module().double(), case.rows(2).double())
    with pytest.raises(NotGated, match=r"is Hardtanh|is HardTanh"):
        strongest_paths(network, case.rows(1).double())


@pytest.mark.real_data
@pytest.mark.parametrize("net", ["mnist_fc/mnist-net_256x4", "eran_mnist/mnist_relu_9_200"])
def test_a_trained_network_on_mnist(shared_data, net):
    """On trained networks: paths add up to f by the sweep, and few of them are a small part."""
    path = shared_data / "images" / "mnist" / "t10k-images-idx3-ubyte.gz"
    pixels = np.frombuffer(gzip.decompress(path.read_bytes())[16:], np.uint8)
    network = gw.read(shared_data / "onnx" / f"{net}.onnx")
    graph = unit_graph(network)
    for image in pixels.reshape(-1, 784)[:3] / 255:
        found = strongest_paths(graph, image, 1000)
        assert (np.diff(np.abs(found.contributions)) <= 0).all() and len(found) == 1000
        assert found.active > 10**5 and 0 < found.carried < 1
        assert abs(found.value) <= found.mass
        print(found)
