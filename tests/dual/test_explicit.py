"""Every path: against recursion over units, bundle by bundle; too many are refused."""

import dataclasses
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import cases
import gatewise as gw
from gatewise.dual.kernels.path_kernel import npk
from gatewise.dual.paths.edges import unit_graph
from gatewise.dual.paths.explicit import explicit_paths, path_blocks
from gatewise.dual.paths.graph import count_paths
from gatewise.errors import DataError, NotGated, WrongShape
from oracles import each_path as oracle
from oracles import path_nets
from oracles.paths import Add, Opposites


def perceptron(sizes, bias=True, seed=0):
    """A ReLU perceptron as a user has it, read; its weights and biases in numpy."""
    torch.manual_seed(seed)
    linear = [nn.Linear(a, b, bias) for a, b in pairwise(sizes)]
    module = nn.Sequential(*[m for la in linear for m in (la, nn.ReLU())][:-1]).double()
    weights = [la.weight.detach().numpy() for la in linear]
    biases = [la.bias.detach().numpy() if bias else None for la in linear]
    return gw.read(module, torch.zeros(2, sizes[0]).double()), weights, biases


def rows(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ways(table):
    """Each path as the oracle names it: the start and the units, None before it starts."""
    units = [[None if u < 0 else u for u in row] for row in table.units.tolist()]
    return [(s, *u) for s, u in zip(table.starts.tolist(), units, strict=True)]


@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=5),
    st.booleans(),
    st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_every_path_of_a_perceptron(sizes, bias, seed):
    network, weights, biases = perceptron(sizes, bias, seed)
    x = rows(3, sizes[0], seed=seed)
    table = explicit_paths(network, x)
    assert table.error <= 1e-13
    for o in range(sizes[-1]):
        for r, row in enumerate(x.numpy()):
            expected = {w: (v, p) for w, v, p in oracle.dense(weights, biases, row, o)}
            mine = table.outputs == o
            pairs = zip(ways(table), table.values, table.features[r], mine, strict=True)
            found = {way: (v, p) for way, v, p, here in pairs if here}
            assert found.keys() == expected.keys()
            for way, pair in expected.items():
                np.testing.assert_allclose(found[way], pair, rtol=1e-12)


def test_bundles_of_a_convolution_with_global_average_pooling():
    torch.manual_seed(3)
    first, second, head = (
        nn.Conv1d(2, 3, 3, padding=1),
        nn.Conv1d(3, 2, 3, padding=1),
        nn.Linear(2, 2),
    )
    module = nn.Sequential(
        first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), head
    ).double()  # fmt: skip
    network = gw.read(module, torch.zeros(2, 2, 5).double())
    x = rows(2, 2, 5)
    table = explicit_paths(network, x)
    assert table.error <= 1e-13 and (table.members > 1).any()
    w, c = ([getattr(m, k).detach().numpy() for m in (first, second)] for k in ("weight", "bias"))
    for r, row in enumerate(x.numpy()):
        bundles = defaultdict(float)
        members, values = defaultdict(int), {}
        for o in range(2):
            found = oracle.convolution(w, c, head.weight.detach().numpy(), row, o)
            for way, value, feature in found:
                bundles[o, way] += feature
                members[o, way] += 1
                values[o, way] = value
        expected = sorted((v, bundles[k], members[k]) for k, v in values.items())
        starts_at_head = (table.index[:, :2] < 0).all(1)
        assert starts_at_head.sum() == 2  # the biases of the head itself
        got = sorted(
            zip(
                table.values[~starts_at_head],
                table.features[r, ~starts_at_head],
                table.members[~starts_at_head],
                strict=True,
            )
        )
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)


def test_a_residual_network_has_paths_that_skip():
    """y = V (x + W2 relu(W1 x)): 3 * 4 * 3 * 2 paths through the block and 3 * 2 past it."""
    torch.manual_seed(1)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4, bias=False), nn.Linear(4, 3, bias=False)
            self.v = nn.Linear(3, 2, bias=False)

        def forward(self, x):
            return self.v(x + self.b(torch.relu(self.a(x))))

    module = Residual().double()
    x = rows(4, 3)
    table = explicit_paths(gw.read(module, x), x)
    assert table.layers == ("a", "b", "v") and len(table) == 72 + 6 and table.error <= 1e-13
    past = table.index[:, 0] < 0
    assert past.sum() == 6 and (table.index[past, 1] < 0).all()
    v = module.v.weight.detach().numpy()
    for i in np.nonzero(past)[0]:
        start, unit = table.starts[i], table.units[i, 2]
        assert table.values[i] == v[unit, start]
        np.testing.assert_array_equal(table.features[:, i], x[:, start].numpy())
    a, b = module.a.weight.detach().numpy(), module.b.weight.detach().numpy()
    for i in np.nonzero(~past)[0]:
        s, (h, k, o) = table.starts[i], table.units[i]
        np.testing.assert_allclose(table.values[i], a[h, s] * b[k, h] * v[o, k], rtol=1e-14)
        np.testing.assert_array_equal(
            table.features[:, i], x[:, s].numpy() * (x.numpy() @ a[h] > 0)
        )


@pytest.mark.parametrize("name", ["residual", "dlgn", "reused_relu", "tied_weights", "linear"])
def test_models_as_users_have_them(name):
    case = cases.CASES[name]
    network = gw.read(case.module().double(), case.rows(2).double())
    table = explicit_paths(network, case.rows(4).double())
    assert table.error <= 1e-13
    assert "sum of phi v is f to within" in str(table)


@pytest.mark.parametrize("value_input", ["ones", "x"])
def test_a_network_whose_gates_and_values_are_apart(value_input):
    """With the constant 1 as value input, paths start at the first layer's gates: none at x."""
    from gatewise.models import DGN

    torch.manual_seed(0)
    module = DGN(sizes=(3, 4, 5, 2), gate="hard", value_input=value_input).double()
    network = gw.read(module, rows(2, 3))
    x = rows(6, 3)
    table = explicit_paths(network, x)
    assert len(table) == (3 if value_input == "x" else 1) * 4 * 5 * 2
    np.testing.assert_allclose(table.sums, module(x).detach(), rtol=1e-12, atol=1e-14)
    assert (table.starts < 0).all() == (value_input == "ones")


def test_batch_normalisation_is_a_weight_of_its_own():
    module = cases.CASES["batch_norm_before"].module().double()
    network = gw.read(module, rows(2, 5))
    table = explicit_paths(network, rows(3, 5))
    assert table.error <= 1e-13 and len(table.layers) == 3
    assert len(table) == ((5 + 1) * 8 + 8) * 2 + 2


def test_blocks_are_small_and_hold_every_path_once():
    network, *_ = perceptron([4, 5, 6, 5, 2])
    graph = unit_graph(network)
    blocks = list(path_blocks(graph, size=50))
    seen = [(o, *e[e >= 0]) for b in blocks for o, e in zip(b.outputs, b.edges, strict=True)]
    assert len(seen) == len(set(seen)) == count_paths(graph) == (((5 * 5) + 1) * 6 + 1) * 10 + 2
    assert max(len(b.outputs) for b in blocks) <= 50


def test_the_number_of_paths_is_exact_beyond_floats():
    sizes = [784, *[512] * 7, 10]
    network, *_ = perceptron(sizes)
    count = sizes[0]
    for width in sizes[1:]:
        count = (count + 1) * width
    assert count > 2**70 and count_paths(unit_graph(network)) == count


@pytest.mark.parametrize("name", path_nets.NETS)
def test_the_features_of_all_bundles_make_the_path_kernel(name):
    """npk is <phi, phi'> summed over bundles: the two ways of counting are one."""
    layers, shape = path_nets.NETS[name]
    module, x = path_nets.made(layers), path_nets.drawn(shape)
    network = gw.read(module, x)
    table = explicit_paths(network, x)
    assert table.error <= 1e-13
    same = np.concatenate([table.outputs[:, None], table.index], 1)
    assert len(np.unique(same, axis=0)) == len(table)
    mean = table.features @ table.features.T / table.f.shape[1]
    np.testing.assert_allclose(mean, npk(network, x).values, rtol=1e-12, atol=1e-13)


def test_paths_of_the_same_weights_by_two_ways_are_one_bundle():
    """o(z + relu(z)), z = i(x): 3 * 1 * 2 weight pairs, each by the skip and by the gate."""
    layers = [nn.Linear(3, 1, bias=False), nn.ReLU(), Add(1), nn.Linear(1, 2, bias=False)]
    module, x = path_nets.made(layers), rows(4, 3)
    table = explicit_paths(gw.read(module, x), x)
    assert len(table) == 6 and (table.members == 2).all()
    on = module.layers[0](x).detach().numpy() > 0
    np.testing.assert_allclose(table.features, x.numpy()[:, table.starts] * (1 + on))


def test_fixed_factors_are_no_weights():
    """o(relu(2 z)): the factor is in the feature, and no column of its own."""
    layers = [nn.Linear(3, 4, bias=False), Opposites(2.0), nn.Linear(4, 1, bias=False)]
    module, x = path_nets.made(layers), rows(4, 3)
    table = explicit_paths(gw.read(module, x), x)
    assert len(table.layers) == 2 and len(table) == 12
    weights = [w.detach().numpy() for w in (module.layers[0].weight, module.layers[2].weight)]
    way = table.units[:, 0], table.starts
    np.testing.assert_allclose(table.values, weights[0][way] * weights[1][0, way[0]])


def test_an_error_between_the_sum_and_the_network_is_seen():
    network, *_ = perceptron([3, 4, 2])
    table = explicit_paths(network, rows(3, 3))
    wrong = table.f.copy()
    wrong[1, 1] += 0.25
    assert dataclasses.replace(table, f=wrong).error == pytest.approx(0.25)
    i = int(np.abs(table.contributions[0]).argmax())
    values = table.values.copy()
    values[i] *= 2
    lost = dataclasses.replace(table, values=values).error
    assert lost == pytest.approx(np.abs(table.contributions[:, i]).max())


def test_too_many_paths_are_refused_with_their_number():
    network, *_ = perceptron([20, 100, 100, 100, 10])
    with pytest.raises(DataError, match=r"has 2\.1e8 paths, and at most 1000000 .*strongest_paths"):
        explicit_paths(network, rows(2, 20))
    small, *_ = perceptron([3, 4, 2])
    with pytest.raises(DataError, match="has 34 paths, and at most 33 are listed"):
        explicit_paths(small, rows(2, 3), limit=33)
    assert len(explicit_paths(small, rows(2, 3), limit=34)) == 34


def test_a_graph_too_large_is_refused(monkeypatch):
    from gatewise.dual.paths import edges as unit_edges

    monkeypatch.setattr(unit_edges, "EDGES", 10)
    network, *_ = perceptron([3, 4, 2])
    with pytest.raises(DataError, match=r"e\+01 edges or more.*use unit_shares"):
        explicit_paths(network, rows(2, 3))


def test_too_many_rows_are_refused(monkeypatch):
    from gatewise.dual.paths import explicit

    monkeypatch.setattr(explicit, "FEATURES", 100)
    network, *_ = perceptron([3, 4, 2])
    with pytest.raises(DataError, match=r"34 paths at 3 rows are more numbers .* give fewer rows"):
        explicit_paths(network, rows(3, 3))


def test_bad_input_is_refused():
    network, *_ = perceptron([3, 4, 2])
    with pytest.raises(WrongShape):
        explicit_paths(network, rows(2, 4))
    case = cases.CASES["leaky_relu"]
    with pytest.raises(NotGated, match=r"node '[13]' is LeakyReLU"):
        explicit_paths(gw.read(case.module().double(), case.rows(2).double()), case.rows(2))
