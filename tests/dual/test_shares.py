"""Shares of units and of starts: against autograd, explicit sums, and silenced layers."""

import gzip

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import cases
import gatewise as gw
import nets
from gatewise.dual.gating import gated
from gatewise.dual.paths.shares import layer_shares, unit_shares
from gatewise.errors import BadRows, DataError, EmptyData, NotPiecewiseAffine

CONVOLUTIONAL = nn.Sequential(
    nn.Conv2d(2, 4, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(4, 5, 3),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(5, 3),
)


@given(nets.networks(), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_every_layer_adds_up_to_f(network, seed):
    x = nets.rows(network, seed=seed)
    found = unit_shares(network, x, output=0)
    assert np.allclose(found.values, network(x)[:, 0], rtol=1e-12)
    assert found.error <= 1e-12


@pytest.mark.parametrize("name", ["residual", "pooled_view", "dlgn", "reused_relu", "leaky_relu"])
def test_models_as_users_have_them(name):
    case = cases.CASES[name]
    network = gw.read(case.module().double(), case.rows(2).double())
    x = case.rows(7).double()
    for output in range(network.outputs):
        assert unit_shares(network, x, output).error <= 1e-12
        assert layer_shares(network, x, output).relative <= 1e-12


@pytest.mark.parametrize("gate", ["relu", "leaky"])
def test_a_share_is_the_value_times_the_derivative_that_autograd_finds(gate):
    network = nets.mlp(5, 7, 6, 3, gate=gate, seed=3)
    x = nets.rows(network, 6)
    found = unit_shares(network, x, [0, 1, 2, 0, 1, 2])
    value, hidden = x, []
    for node in network.nodes:
        value = node.kind(value)
        if node in network.gates:
            value = value.detach().requires_grad_()
            hidden.append((node.name, value))
    for (name, h), layer in zip(hidden, found.layers, strict=True):
        later = [n for n in network.nodes if int(n.name[1:]) > int(name[1:])]
        y = h
        for node in later:
            y = node.kind(y)
        picked = y[range(6), [0, 1, 2, 0, 1, 2]].sum()
        (g,) = torch.autograd.grad(picked, h)
        assert layer.name == name
        np.testing.assert_allclose(layer.shares, (h * g).detach(), rtol=1e-12, atol=1e-14)


def test_a_convolution_and_global_average_pooling():
    torch.manual_seed(0)
    module = CONVOLUTIONAL.double()
    network = gw.read(module, torch.randn(2, 2, 6, 6).double())
    x = torch.randn(4, 2, 6, 6).double()
    found = unit_shares(network, x, 1)
    assert found.error <= 1e-12 and [la.shape[-3:] for la in found.layers] == [(4, 6, 6), (5, 4, 4)]
    h = module[:4](x).detach().requires_grad_()
    (g,) = torch.autograd.grad(module[4:](h)[:, 1].sum(), h)
    np.testing.assert_allclose(found.layers[1].shares, (h * g).detach().flatten(1), rtol=1e-12)


def test_starts_are_what_silenced_biases_take_away():
    """A frozen network is affine in its biases together: each one's part is f with less f without
    it, gates held. Oracle: masks from numpy, biases set to zero one layer at a time."""
    network = nets.mlp(4, 6, 5, 2, seed=1)
    x = nets.rows(network, 5)
    layers = [n.kind for n in network.nodes if hasattr(n.kind, "rule")]
    weights = [(k.weights[0].numpy(), k.bias.numpy()) for k in layers]

    def run(starts, masks=None):
        h, seen = x.numpy() * starts[0], []
        for i, (w, c) in enumerate(weights):
            h = h @ w.T + c * starts[i + 1]
            if i < len(weights) - 1:
                seen.append(h > 0 if masks is None else masks[i])
                h = h * seen[-1]
        return h[:, 0], seen

    _, masks = run([1, 1, 1, 1])
    alone = np.stack([run(row, masks)[0] for row in np.eye(4)], 1)
    found = layer_shares(network, x, 0)
    assert found.starts == ("input", "bias of n0", "bias of n2", "bias of n4")
    np.testing.assert_allclose(found.parts, alone, rtol=1e-12, atol=1e-14)
    assert "add up to f" in str(found)


def test_gates_that_feed_only_gates_carry_no_share():
    case = cases.CASES["dlgn"]
    network = gw.read(case.module().double(), case.rows(2).double())
    found = unit_shares(network, case.rows(3).double())
    kinds = {n.name: type(n.kind).__name__ for n in network.nodes}
    assert [kinds[layer.name] for layer in found.layers] == ["Product", "Product"]


def test_each_row_is_asked_for_its_largest_output():
    network = nets.mlp(4, 6, 3, seed=6)
    x = 3 * nets.rows(network, 12)
    found = unit_shares(network, x)
    assert (found.outputs == network(x).argmax(1).numpy()).all() and len(found) == 12
    assert len(set(found.outputs)) > 1 and "each row's output" in str(found)


def test_top_and_mass():
    network = nets.mlp(4, 30, 1, seed=5)
    layer = unit_shares(network, nets.rows(network, 5)).layers[0]
    size = np.abs(layer.shares)
    by_hand = np.sort(size, 1)[:, -3:].sum(1) / size.sum(1)
    np.testing.assert_allclose(layer.in_top(3), by_hand)
    assert layer.top(3).tolist() == np.argsort(-size.mean(0))[:3].tolist()
    assert (layer.in_top(99) == 1).all()


def test_the_error_is_measured_and_can_be_large():
    network = nets.mlp(4, 6, 3, seed=5)
    found = unit_shares(network, nets.rows(network, 3))
    layer = found.layers[0]
    wrong = type(layer)(layer.name, layer.shape, layer.shares, layer.later, layer.error + 1)
    assert type(found)(found.outputs, found.values, (wrong,)).error > 0.01


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"X": np.zeros((0, 4))}, EmptyData, "X has 0 rows"),
        ({"X": np.full((2, 4), np.nan)}, BadRows, "NaN or infinity in rows 0"),
        ({"output": 3}, DataError, "outputs run from 0 to 2, got 3"),
        ({"output": [0, 1]}, DataError, "one for each of the 5 rows"),
        ({"output": 1.5}, DataError, "one whole number"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(change, error, says):
    network = nets.mlp(4, 6, 3)
    given_ = {"X": nets.rows(network, 5), "output": None} | change
    for ask in (unit_shares, layer_shares):
        with pytest.raises(error, match=says):
            ask(network, given_["X"], given_["output"])


def test_a_network_read_as_values_and_masks_is_taken_and_a_module_is_not():
    case = cases.CASES["mlp"]
    network, X = gw.read(case.module().double(), case.rows(2).double()), case.rows(5).double()
    shares, starts = unit_shares(gated(network), X), layer_shares(gated(network), X)
    assert np.array_equal(shares.layers[0].shares, unit_shares(network, X).layers[0].shares)
    assert np.array_equal(starts.parts, layer_shares(network, X).parts)
    for ask in (unit_shares, layer_shares):
        with pytest.raises(DataError, match=r"give a Network.*; got a Sequential"):
            ask(CONVOLUTIONAL, X)


def test_a_curved_network_is_refused_by_node_name():
    case = cases.CASES["gelu"]
    network = gw.read(case.module().double(), case.rows(2).double())
    with pytest.raises(NotPiecewiseAffine, match=r"unit_shares needs .* node '1'"):
        unit_shares(network, case.rows(2))


def test_an_unknown_layer_is_refused_with_those_there_are():
    network = nets.mlp(4, 6, 3)
    found = unit_shares(network, nets.rows(network, 5))
    assert found["n1"] is found.layers[0]
    with pytest.raises(DataError, match="no gate layer 'x' on the way; there are: n1"):
        found["x"]


def mnist(folder, count):
    pixels = gzip.decompress(
        (folder / "images" / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes()
    )[16:]
    return np.frombuffer(pixels, np.uint8).reshape(10000, 784)[:count] / 255


@pytest.mark.real_data
def test_a_trained_network_on_mnist(shared_data):
    network = gw.read(shared_data / "onnx" / "mnist_fc" / "mnist-net_256x4.onnx")
    x = mnist(shared_data, 200)
    found = unit_shares(network, x)
    assert len(found.layers) == 4 and found.error <= 1e-12
    assert layer_shares(network, x).relative <= 1e-12
    assert all(20 / 256 < layer.in_top(20).mean() <= 1 for layer in found.layers)
    print(found, layer_shares(network, x), sep="\n")
