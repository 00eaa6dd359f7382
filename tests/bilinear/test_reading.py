"""Bilinear layers are found by what nodes compute; what is none is refused by its name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import cases
import gatewise as gw
from bilinear.layers import F64, AfterRelu, BehindRelu, Chunked, Squared, Stream, Three, random
from gatewise.bilinear import BilinearLayer, bilinear_layer, bilinear_layers, layer_input, probe
from gatewise.errors import DataError, NotBilinear, WrongShape


def read(make, *shape: int):
    torch.manual_seed(0)
    module = make().double()
    X = random(4, *(shape or (5,)), seed=9)
    return gw.read(module, X), X, module(X).detach()


@pytest.mark.parametrize("make", [Chunked, Squared])
@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_one_layer_is_the_whole_network(make, shape):
    net, X, y = read(make, *shape)
    [layer] = bilinear_layers(net)
    assert (layer.hidden, layer.outputs, layer.source, layer.target) == (7, 3, "input", net.output)
    assert layer.positions == shape[:-1]
    torch.testing.assert_close(layer(X), y, rtol=1e-12, atol=1e-12)


def test_squared_units_have_equal_sides():
    net, _, _ = read(Squared)
    layer = bilinear_layer(net)
    assert torch.equal(layer.W, layer.V) and torch.equal(layer.w_bias, layer.v_bias)


@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_blocks_behind_a_residual_stream(shape):
    net, X, y = read(Stream, *shape)
    first, second = bilinear_layers(net)
    assert first.target == second.source
    assert torch.equal(first.skip, torch.eye(6, dtype=F64))
    at = layer_input(net, first, X)
    torch.testing.assert_close(at, X @ first.embedding.mT + first.embedding_bias)
    between = first(at)
    torch.testing.assert_close(between, layer_input(net, second, X), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(second(between), y, rtol=1e-12, atol=1e-12)
    assert second.embedding is None


def test_an_input_that_is_reshaped_is_reached_through_the_embedding():
    net, X, y = read(lambda: nn.Sequential(nn.Flatten(), Stream()), 5, 1)
    first, second = bilinear_layers(net)
    at = X.flatten(1) @ first.embedding.mT + first.embedding_bias
    torch.testing.assert_close(second(first(at)), y, rtol=1e-12, atol=1e-12)


def test_behind_a_relu_the_relu_is_what_is_read():
    net, X, y = read(BehindRelu)
    layer = bilinear_layer(net)
    assert net.node(layer.source).layer == "ReLU" and layer.embedding is None
    torch.testing.assert_close(layer(layer_input(net, layer, X)), y)


def test_convolutions_are_one_dense_layer():
    class Convolved(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv1d(2, 3, 3), nn.Conv1d(2, 3, 3)

        def forward(self, x):
            return (self.a(x) * self.b(x)).mean(-1)

    net, X, y = read(Convolved, 2, 6)
    layer = bilinear_layer(net)
    assert (layer.inputs, layer.hidden, layer.outputs) == (12, 12, 3)
    torch.testing.assert_close(layer(X.flatten(1)), y, rtol=1e-12, atol=1e-12)


def test_a_pooled_layer_too_large_to_write_out_is_read_by_position(monkeypatch):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Chunked()

        def forward(self, x):
            return self.inner(x).mean(-2)

    net, X, y = read(Pooled, 3, 5)
    whole = bilinear_layer(net)
    assert (whole.inputs, whole.outputs, whole.positions) == (15, 3, ())
    torch.testing.assert_close(whole(X.flatten(1)), y, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(probe, "LARGEST", 100)
    part = bilinear_layer(net)
    assert (part.inputs, part.outputs, part.positions) == (5, 7, (3,))
    assert part.target == part.name
    monkeypatch.setattr(probe, "LARGEST", 10)
    with pytest.raises(NotBilinear, match=r"'.*mul' \(Mul\) mixes positions.*it is not read"):
        bilinear_layer(net)


def test_a_product_of_three_is_refused():
    net, _, _ = read(Three)
    with pytest.raises(NotBilinear, match=r"'mul#2'.*holds the product 'mul'.*three or more"):
        bilinear_layers(net)
    assert [layer.name for layer in bilinear_layers(net, strict=False)] == ["mul"]


def test_a_side_that_is_not_affine_is_named():
    net, _, _ = read(AfterRelu)
    with pytest.raises(NotBilinear, match=r"'mul'.*not affine, it holds 'relu' \(ReLU, Gate\)"):
        bilinear_layers(net)


def test_a_gated_unit_is_refused_by_its_sigmoid():
    net, _, _ = read(cases.Gated)
    with pytest.raises(NotBilinear, match=r"not affine, it holds '.*' \(.*Smooth\)"):
        bilinear_layers(net)


def test_attention_that_was_not_frozen_is_refused():
    net, _, _ = read(cases.Attention, 4, 6)
    with pytest.raises(NotBilinear, match=r"does not multiply entry by entry.*freeze its pattern"):
        bilinear_layers(net)


def test_a_softmax_on_one_side_is_named():
    class Soft(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 4), nn.Linear(5, 4)

        def forward(self, x):
            return torch.softmax(self.a(x), -1) * self.b(x)

    net, _, _ = read(Soft)
    with pytest.raises(NotBilinear, match=r"behind the softmax 'softmax', which is not frozen"):
        bilinear_layers(net)


def test_a_network_without_products_is_refused():
    net, _, _ = read(lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU()))
    with pytest.raises(NotBilinear, match="multiplies no two computed values"):
        bilinear_layers(net)


def test_names_that_do_not_exist_or_do_not_suffice():
    net, _, _ = read(Stream)
    with pytest.raises(DataError, match="no Product 'up'; its Products: 'mul', 'mul#2'"):
        bilinear_layer(net, "up")
    with pytest.raises(DataError, match="2 bilinear layers, name one"):
        bilinear_layer(net)


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(WrongShape, match=r"both be \(hidden, inputs\), got \(3, 2\) and \(3, 4\)"):
        BilinearLayer.from_weights(np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(WrongShape, match=r"P must have shape \(2, 3\), got \(2, 5\)"):
        BilinearLayer.from_weights(np.ones((3, 2)), np.ones((3, 2)), np.ones((2, 5)))
    layer = BilinearLayer.from_weights(np.ones((3, 2)), np.ones((3, 2)))
    with pytest.raises(WrongShape, match=r"rows of 2 numbers.*got shape \(1, 3\)"):
        layer(np.ones((1, 3)))
