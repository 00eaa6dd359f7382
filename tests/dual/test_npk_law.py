"""The path kernel is the explicit sum over paths: of every network whose gates are on or off."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import AvgPool1d, Conv1d, Flatten, Linear

import gatewise as gw
from gatewise.dual.gating import gated, masks
from gatewise.dual.kernels.expectation import expected_kernel
from gatewise.dual.kernels.path_kernel import Recursion, npk, npk_of_gates
from gatewise.dual.kernels.program import plan
from gatewise.dual.paths.explicit import explicit_paths
from gatewise.errors import DataError, EmptyData, NotGated
from nets import Chain
from oracles import paths as oracle
from oracles.path_nets import GAP1, NETS, circular, drawn, made, pairs, relu
from oracles.paths import Add, Graph, Mask, Ones

TIGHT = 1e-12


@pytest.mark.parametrize("name", NETS)
def test_it_is_the_sum_over_all_paths(name):
    layers, shape = NETS[name]
    module = made(layers)
    X, Y = drawn(shape), drawn(shape, 2, 6)
    left, right = oracle.features(layers, X), oracle.features(layers, Y)
    numbers = np.stack([n for _, n, _ in left])
    assert np.allclose(numbers, module(X).detach().flatten(1), rtol=TIGHT, atol=TIGHT)

    expected = oracle.kernel(left, right)
    found = npk(gw.read(module, X), X, Y)
    scale = np.abs(expected).max()
    assert np.abs(found.values - expected).max() <= TIGHT * scale
    recursion = Recursion(plan(gated(gw.read(module, X))), {})(X, Y)
    assert np.abs(np.ldexp(recursion[0][0], recursion[1]) - expected).max() <= TIGHT * scale


def test_the_comparison_can_fail():
    layers, shape = NETS["residual, gates after the sum"]
    module = made(layers)
    X = drawn(shape)
    expected = oracle.kernel(oracle.features(layers, X))
    whole = gated(gw.read(module, X))
    work = Recursion(plan(whole), {}).without_biases()
    assert np.abs(work(X)[0][0] - expected).max() > 0.1


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 3), min_size=2, max_size=5),
    st.booleans(),
    st.integers(0, 999),
)
def test_of_any_sizes(sizes, bias, seed):
    layers = [Linear(sizes[0], sizes[1], bias=bias)]
    for a, b in pairs(sizes[1:]):
        layers += [nn.ReLU(), Linear(a, b, bias=bias)]
    module = made(layers, seed)
    X = drawn((sizes[0],), 3, seed)
    found = npk(gw.read(module, X), X).values
    expected = oracle.kernel(oracle.features(layers, X))
    assert np.allclose(found, expected, rtol=TIGHT, atol=TIGHT)


@settings(max_examples=12)
@given(
    st.integers(1, 2),
    st.integers(3, 6),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 999),
)
def test_of_any_convolution(channels, length, kernel, stride, padding, pooled, seed):
    first = Conv1d(1, channels, kernel, stride=stride, padding=padding)
    size = (length + 2 * padding - kernel) // stride + 1
    head = [GAP1, Flatten(), Linear(2, 1)] if pooled else [Flatten(), Linear(2 * size, 1)]
    layers = [first, nn.ReLU(), Conv1d(channels, 2, 3, padding=1), nn.ReLU(), *head]
    module = made(layers, seed)
    X = drawn((1, length), 2, seed)
    found = npk(gw.read(module, X), X).values
    expected = oracle.kernel(oracle.features(layers, X))
    assert np.allclose(found, expected, rtol=TIGHT, atol=TIGHT)


# -- the papers' forms --


def test_circular_convolutions_and_a_mean_give_the_sum_over_rotations():
    """H = 1/P² sum over rotations r of <x, rot(x', r)> through the gates of both (GAP)."""
    p = 5
    layers = [circular(2, 3), relu(), circular(3, 2), relu(), GAP1, Flatten(), Linear(2, 1)]
    for layer in layers:
        if hasattr(layer, "bias"):
            layer.bias = None
    module = made(layers)
    net = gw.read(module, drawn((2, p)))
    X, Y = drawn((2, p)), drawn((2, p), 2, 6)
    masks_x, masks_y = masks(net, X), masks(net, Y)
    total = np.zeros((3, 2))
    for r in range(p):
        turned = [m.roll(r, -1) for m in masks_y]
        total += at_equal_positions(X, Y.roll(r, -1), masks_x, turned)
    assert np.allclose(npk(net, X, Y).values, total / p**2, rtol=TIGHT)
    rotated = npk(net, X.roll(2, -1), Y).values
    assert np.allclose(rotated, npk(net, X, Y).values, rtol=TIGHT)


def at_equal_positions(x, y, gates_x, gates_y):
    """sum over positions of <x, y> through both gates, a window of 3 at a time."""
    k = torch.einsum("ncp,mcp->nmp", x, y)
    for a, b in zip(gates_x, gates_y, strict=True):
        a, b = (g.reshape(len(g), -1, g.shape[-1]).double() for g in (a, b))
        k = sum(k.roll(t, -1) for t in (-1, 0, 1)) * torch.einsum("ncp,mcp->nmp", a, b)
    return k.sum(-1).numpy()


def test_residual_blocks_are_the_sum_over_sub_networks():
    """Keep any of b blocks: 2^b plain networks, whose kernels add (the stream has no gate)."""
    layers = [Linear(3, 4, bias=False)]
    for _ in range(3):
        layers += [nn.ReLU(), Linear(4, 4, bias=False), Add(2)]
    layers.append(Linear(4, 1, bias=False))
    module, X = made(layers), drawn((3,), 6)
    net = gw.read(module, X)
    gates = [m.flatten(1).numpy() for m in masks(net, X)]
    total = np.zeros((6, 6))
    for size in range(4):
        for kept in itertools.combinations(range(3), size):
            each = [gates[k].astype(float) for k in kept]
            total += 4 * (X @ X.T).numpy() * np.prod([g @ g.T for g in each], axis=0)
    assert np.allclose(npk(net, X).values, total, rtol=TIGHT)


def test_gate_layers_of_equal_width_may_change_places():
    """Identity 9: the kernel is a product over layers, so their order does not matter."""
    torch.manual_seed(3)
    features = [Linear(4, 5) for _ in range(3)]
    values = [Linear(4, 5, bias=False), Linear(5, 5, bias=False), Linear(5, 5, bias=False)]
    head = Linear(5, 2, bias=False)
    X = drawn((4,), 7)

    def kernel(order):
        gates = [Mask(features[k]) for k in order]
        layers = [v for pair in zip(values, gates, strict=True) for v in pair]
        module = Graph(*layers, head).double()
        return npk(gw.read(module, X), X).values

    for order in itertools.permutations(range(3)):
        assert np.array_equal(kernel(order), kernel((0, 1, 2)))


# -- what the arguments do --


def dgn(constant):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.f, self.g = Linear(4, 5), Linear(5, 6)
            self.v, self.w, self.head = Linear(4, 5), Linear(5, 6), Linear(6, 1)

        def forward(self, x):
            value = torch.ones_like(x) if constant else x
            feature = torch.relu(self.f(x))
            h = self.v(value) * (feature > 0).to(x.dtype)
            return self.head(self.w(h) * (self.g(feature) > 0).to(x.dtype))

    torch.manual_seed(0)
    return Net().double()


def test_a_constant_input_leaves_the_gates_alone():
    X = drawn((4,), 5)
    net = gw.read(dgn(constant=True), X)
    a, b = (m.flatten(1).double().numpy() for m in masks(net, X))
    expected = (a @ a.T + 1) * (b @ b.T) + 1
    assert np.array_equal(npk(net, X).values, expected)
    assert not npk(net, X).inputs
    bare = npk(gw.read(dgn(constant=False), X), X, inputs=False, biases=False).values
    assert np.array_equal(bare, (a @ a.T) * (b @ b.T))


def in_place_of_the_input(ones):
    """Circular convolutions whose values start from x, or from ones; no biases."""
    first = circular(1, 2, bias=False)
    values = [Ones(first) if ones else first, circular(2, 2, bias=False), Linear(2, 1, bias=False)]
    gates = [Mask(circular(1, 2)), Mask(circular(1, 2))]
    return made([values[0], gates[0], values[1], gates[1], GAP1, Flatten(), values[2]])


def test_convolutions_that_start_from_ones_are_those_whose_input_is_put_to_one():
    X, Y = drawn((1, 5), 4), drawn((1, 5), 3, 6)
    ones, plain = (gw.read(in_place_of_the_input(o), X) for o in (True, False))
    expected = npk(plain, X, Y, inputs=False, scale="normalised").values
    assert np.ptp(expected) > 0
    for found in (npk(ones, X, Y, scale="normalised"), expected_kernel(ones, X, Y)):
        assert np.allclose(found.values, expected, rtol=TIGHT)
    assert not npk(ones, X, Y).inputs and npk(plain, X).inputs


@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_convolutional_models_with_the_constant_input(head):
    """Of the models to train, by their paths one by one."""
    from gatewise.models import ConvDGN, Layout

    layout = Layout((1, 2, 2), 2, 3, head=head, size=3)
    module = ConvDGN(layout, value_input="ones", seed=0).double().eval()
    X = drawn((1, 3, 3), 4)
    net = gw.read(module, X)
    table = explicit_paths(net, X)
    assert table.error <= TIGHT
    expected = table.features @ table.features.T / 2
    assert np.allclose(npk(net, X).values, expected, rtol=TIGHT)
    assert (expected_kernel(net, X).values > 0).any()


def test_the_inputs_are_said_alike_by_product_and_recursion():
    X = drawn((4,), 5)
    for constant in (True, False):
        net = gated(gw.read(dgn(constant), X))
        said = npk(net, X).inputs
        object.__setattr__(net, "layers", None)
        assert npk(net, X).inputs == said == (not constant)


@pytest.mark.parametrize("inputs", [True, False])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("scale", ["raw", "normalised", "cosine", "log"])
def test_recursion_and_product_agree_in_every_scale(scale, inputs, biases):
    layers, shape = NETS["with biases"]
    X, Y = drawn(shape, 6), drawn(shape, 4, 8)
    net = gw.read(made(layers), X)
    skipped = gated(net)
    settings_ = {"scale": scale, "inputs": inputs, "biases": biases}
    chain = npk(net, X, Y, **settings_).values
    object.__setattr__(skipped, "layers", None)
    found = npk(skipped, X, Y, **settings_).values
    assert np.allclose(found, chain, rtol=1e-11, atol=1e-13, equal_nan=True)


def test_normalised_divides_each_layer_by_its_taps():
    layers, shape = NETS["convolution, zeros, pooled"]
    layers = [Conv1d(2, 3, 3, padding=1, bias=False), *layers[1:-1], Linear(2, 1, bias=False)]
    layers[2] = Conv1d(3, 2, 3, padding=1, bias=False)
    net = gw.read(made(layers), drawn(shape))
    X = drawn(shape)
    raw, share = npk(net, X).values, npk(net, X, scale="normalised").values
    assert np.allclose(share, raw / (6 * 9 * 2), rtol=TIGHT)


@pytest.mark.parametrize("name", ["residual convolution", "residual, gates inside"])
def test_tiles_and_symmetry_change_nothing(name):
    layers, shape = NETS[name]
    X = drawn(shape, 7)
    net = gw.read(made(layers), X)
    whole = npk(net, X).values
    assert np.array_equal(whole, whole.T)
    assert np.allclose(npk(net, X, batch=3).values, whole, rtol=TIGHT)
    assert np.allclose(npk(net, X, X, batch=4).values, whole, rtol=TIGHT)
    cosine = npk(net, X, X[:3], scale="cosine", batch=2).values
    assert np.allclose(cosine, npk(net, X, scale="cosine").values[:, :3], rtol=TIGHT)


@pytest.mark.parametrize("product", [False, True])
def test_a_deep_network_overflows_raw_and_not_the_logarithm(product):
    chain = Chain(8, 0)
    for _ in range(300):
        chain.linear(32)
        chain.gate("relu")
    chain.linear(1)
    net = gated(oracle.with_taps(chain.network()))
    if not product:
        object.__setattr__(net, "layers", None)
    X = drawn((8,), 3)
    with pytest.raises(DataError, match="more than float64 holds: use scale"):
        npk(net, X)
    logs = npk(net, X, scale="log").values
    assert np.isfinite(logs).all() and logs.max() > 709
    assert np.allclose(npk(net, X, scale="cosine").values.diagonal(), 1)


def test_given_gates_may_be_soft():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4, 3))
    soft = [rng.random((4, 5)), rng.random((4, 6))]
    expected = (X @ X.T) * (soft[0] @ soft[0].T) * (soft[1] @ soft[1].T)
    assert np.allclose(npk_of_gates(soft, inputs=X).values, expected, rtol=TIGHT)
    hard = [g > 0.5 for g in soft]
    counted = (hard[0].astype(int) @ hard[0].T.astype(int)) * (
        hard[1].astype(int) @ hard[1].T.astype(int)
    )
    assert np.array_equal(npk_of_gates([torch.tensor(g) for g in hard]).values, counted)


def test_the_bound_holds_and_is_printed():
    layers, shape = NETS["residual convolution"]
    X = drawn(shape)
    net = gw.read(made(layers), X)
    found = npk(net, X)
    assert 0 < found.error < 1e-12
    assert "neural path kernel of 3 x 3 rows (raw)" in str(found)
    assert np.array_equal(np.asarray(found), found.values)
    assert f"rounding error at most {found.error:.1e} H(|x|, |x'|)" in str(found)
    for scale in ("cosine", "log"):
        assert f"no bound on rounding errors in scale '{scale}'" in str(npk(net, X, scale=scale))


# -- refusals --


@pytest.mark.parametrize(
    "gates, inputs, said",
    [
        ([[[1.0, np.nan]]], None, r"gates 1 holds NaN or infinity in rows 0"),
        ([[[1, 0]], [[1.0, np.inf]]], None, r"gates 2 holds NaN or infinity in rows 0"),
        ([[[1, 0]]], [[np.nan]], r"inputs holds NaN or infinity in rows 0"),
        ([["ab"]], None, r"gates 1 must be numbers \(rows, width\)"),
        ([1], None, r"gates 1 must be numbers \(rows, width\)"),
        ([], None, r"gates has no layers"),
    ],
)
def test_gates_that_are_no_numbers_are_refused(gates, inputs, said):
    with pytest.raises(DataError, match=said):
        npk_of_gates(gates, inputs=inputs)


def test_what_does_not_factor_is_refused_by_name():
    pooled = [Conv1d(1, 2, 3), relu(), AvgPool1d(2), relu(), Flatten(), Linear(4, 1)]
    X = drawn((1, 6))
    with pytest.raises(NotGated, match=r"node '.*3' \(ReLU\) is a gate on an average of gated"):
        npk(gw.read(made(pooled), X), X)
    mixed = [
        Conv1d(2, 2, 3, padding=1),
        relu(),
        Flatten(),
        nn.Unflatten(1, (3, 2)),
        Conv1d(3, 2, 1),
    ]
    X = drawn((2, 3))
    with pytest.raises(NotGated, match=r"reads one unit's value as another's"):
        npk(gw.read(made(mixed), X), X)


def test_bad_arguments_are_refused():
    layers, shape = NETS["with biases"]
    X = drawn(shape)
    net = gw.read(made(layers), X)
    with pytest.raises(DataError, match="scale must be one of raw, normalised, cosine, log; got"):
        npk(net, X, scale="percent")
    with pytest.raises(EmptyData, match="X has 0 rows"):
        npk(net, X[:0])
