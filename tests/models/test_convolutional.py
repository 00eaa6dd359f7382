"""Convolutional gated networks against loops over positions; layouts; residual ensembles."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gatewise as gw
from gatewise.errors import ModelError
from gatewise.models import (
    ConvDGN,
    ConvDLGN,
    ConvReLUNet,
    Layout,
    c4gap,
    decoupled,
    resnet_like,
    vgg_like,
)
from oracles.gated import rows, with_biases

PLAIN = Layout((2, 3, 3), 2, pools=(2, 1), bias=True)
NORMED = Layout((2, 3), 2, hidden=(4,), batch_norm=True, bias=True)
FLAT = Layout((2, 3), 2, strides=(2,), head="flatten", size=5, hidden=(4, 4))
RESIDUAL = resnet_like(1, 2, channels=2, outputs=3)
FAMILIES = {"dgn": ConvDGN, "dlgn": ConvDLGN}


def convolved(x, layer):
    """A 3x3 convolution with zero padding, position by position: (channels, height, width)."""
    w, (side, _) = layer.weight.detach().numpy(), x.shape[1:]
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    steps = range(0, side, layer.stride[0])
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()
    out = [
        [(w * wide[:, i : i + 3, j : j + 3]).sum((1, 2, 3)) + bias for j in steps] for i in steps
    ]
    return np.array(out).transpose(2, 0, 1)


def halved(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def moved_norms(net, seed=0):
    """Batch normalisation with statistics of its own, in evaluation mode."""
    rng = torch.Generator().manual_seed(seed)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(generator=rng)
            part.running_var.uniform_(0.5, 2, generator=rng)
            nn.init.normal_(part.weight, generator=rng)
    return net.eval()


# ---------------------------------------------------------------- against loops


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("value_input", ["x", "ones"])
def test_convolutions_are_masked_pooled_and_averaged(kind, value_input):
    net = with_biases(FAMILIES[kind](PLAIN, "sigmoid", 2.0, value_input=value_input, seed=1))
    X = rows(3, 2, 4, 4)
    for x, out in zip(X.numpy(), net(X), strict=True):
        q1 = convolved(x, net.features[0])
        q2 = convolved(halved(np.maximum(q1, 0) if kind == "dgn" else q1), net.features[1])
        g1, g2 = (1 / (1 + np.exp(-2 * q)) for q in (q1, q2))
        start = x if value_input == "x" else np.ones_like(x)
        h = g2 * convolved(halved(g1 * convolved(start, net.values[0])), net.values[1])
        head = net.values[2][1]
        want = head.weight.detach().numpy() @ h.mean((1, 2)) + head.bias.detach().numpy()
        np.testing.assert_allclose(out.detach(), want, atol=1e-12)


@pytest.mark.parametrize("size", [4, 5])
def test_a_flat_head_reads_every_position_that_strides_leave(size):
    layout = Layout((2, 3), 2, strides=(2,), head="flatten", size=size, hidden=(4,))
    net = ConvDLGN(layout, "sigmoid", seed=2).double()
    x = rows(1, 2, size, size)
    q1 = convolved(x[0].numpy(), net.features[0])
    q2 = net.features[1][1].weight.detach().numpy() @ q1.ravel()
    got = [g[0].detach().numpy() for g in net.gates(x)]
    for found, q in zip(got, (q1, q2), strict=True):
        np.testing.assert_allclose(found, 1 / (1 + np.exp(-4 * q)), atol=1e-12)


@pytest.mark.parametrize("layout", [PLAIN, NORMED, RESIDUAL], ids=["plain", "normed", "residual"])
def test_a_dlgns_feature_tower_is_affine_normalised_pooled_or_residual(layout):
    net = moved_norms(with_biases(ConvDLGN(layout, seed=3)))
    x, y = rows(2, 1, 2, 8, 8)
    for a, b, middle in zip(*map(net.pre_activations, (x, y, (x + 3 * y) / 4)), strict=True):
        torch.testing.assert_close(middle, (a + 3 * b) / 4)
    curved = moved_norms(with_biases(ConvDGN(layout, seed=3)))
    ends = zip(*map(curved.pre_activations, (x, y, (x + 3 * y) / 4)), strict=True)
    assert not all(torch.allclose(m, (a + 3 * b) / 4) for a, b, m in ends)


def test_a_residual_network_is_the_sum_of_its_sub_networks():
    layout = resnet_like(2, 2, channels=2, outputs=3, batch_norm=False)
    net = ConvDGN(layout, "sigmoid", seed=4).double()
    for p in (p for name, p in net.named_parameters() if name.endswith("bias")):
        nn.init.zeros_(p)  # one path more each, were they there
    x = rows(2, 2, 8, 8)
    masks = net.gates(x)
    blocks = [(i - 1, i) for i, skip in enumerate(layout.skips) if skip is not None]
    inside = {layer for block in blocks for layer in block}
    total = 0
    for kept in itertools.product([False, True], repeat=len(blocks)):
        layers = {layer for block, k in zip(blocks, kept, strict=True) if k for layer in block}
        h = x
        for i, (mask, value) in enumerate(zip(masks, net.values, strict=False)):
            h = mask * value(h) if i not in inside or i in layers else h
        total = total + net.values[-1](h)
    assert len(blocks) == 6
    torch.testing.assert_close(net(x), total)


@pytest.mark.parametrize("layout", [PLAIN, NORMED, FLAT, RESIDUAL])
def test_a_relu_network_and_its_two_towers_compute_the_same(layout):
    relu = moved_norms(with_biases(ConvReLUNet(layout, seed=5)))
    x = rows(4, 2, layout.size or 8, layout.size or 8)
    torch.testing.assert_close(decoupled(relu).eval()(x), relu(x))


# ---------------------------------------------------------------- read


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("value_input", ["x", "ones"])
@pytest.mark.parametrize(
    "layout", [PLAIN, NORMED, FLAT, RESIDUAL], ids=["plain", "normed", "flat", "residual"]
)
def test_a_hard_gated_network_is_read_exactly(kind, value_input, layout):
    net = moved_norms(with_biases(FAMILIES[kind](layout, value_input=value_input, seed=6)))
    x = rows(4, 2, layout.size or 8, layout.size or 8)
    torch.testing.assert_close(gw.read(net, x[:1])(x), net(x), rtol=0, atol=1e-12)


# ---------------------------------------------------------------- layouts


def test_the_layouts_are_the_papers():
    vgg = vgg_like()
    assert vgg.channels[1:] == (64, 64, 128, 128, 256, 256, 256, *[512] * 6)
    assert vgg.scales()[-1] == (512, 32)
    net = resnet_like()
    assert net.depth == 111 and sum(s is not None for s in net.skips) == 54
    assert net.scales()[-1] == (64, 4)
    assert c4gap().channels == (3, 128, 128, 128, 128)
    for layout in (vgg_like(2), resnet_like(2, 2), c4gap(4)):
        for family in (ConvDGN, ConvDLGN, ConvReLUNet):
            assert family(layout, seed=0)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_pooling_in_a_layout_is_by_averages_only():
    kinds = {type(part) for part in ConvDLGN(vgg_like(2), seed=0).modules()}
    assert not any("Pool" in kind.__name__ or "ReLU" in kind.__name__ for kind in kinds)


def test_a_layer_keeps_positions_at_stride_one():
    layer = ConvDLGN(Layout((1, 1), 1, kernel=5), seed=0).features[0]
    x = rows(1, 1, 7, 7).float()
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, padding=2))


def refused(sentence):
    return pytest.raises(ModelError, match="^" + re.escape(sentence))


def test_layouts_that_are_no_network_are_refused():
    with refused("`channels` is (inputs, of each convolution ..), whole numbers from 1, as are"):
        Layout((3,), 10)
    with refused("`channels` is"):
        Layout((3, 4), 10, hidden=(0,))
    with refused("`kernel` is odd, so that positions are kept, and it is 2"):
        Layout((3, 4), 10, kernel=2)
    with refused("`pools` has 2 entries for 1 convolutions: one each"):
        Layout((3, 4), 10, pools=(1, 2))
    with refused("`head` is 'gap', or 'flatten' with `size`, the rows and columns of an image"):
        Layout((3, 4), 10, head="flatten")
    with refused("`head` is 'gap', or 'flatten' with `size`"):
        Layout((3, 4), 10, head="flatten", size=0)
    with refused("nothing is left of images of 4 x 4 after the strides and pools: give larger"):
        ConvDLGN(Layout((1, 2), 2, pools=(8,), head="flatten", size=4))
    with refused("`channels` is"):
        Layout((3, 2.5), 10)
    for name, least in (("pools", 1), ("strides", 1), ("skips", 0)):
        for value in (least - 1, 1.5):
            with refused(f"`{name}` is made of whole numbers from {least}, and it is ({value},)"):
                Layout((3, 4), 10, **{name: (value,)})
    with refused("`blocks` is a whole number from 1, and it is 0"):
        resnet_like(0)


@pytest.mark.parametrize("skips", [(None, 0, None), (None, 2, None), (None, None, 1)])
def test_a_skip_between_unequal_shapes_or_backwards_is_refused(skips):
    layout = Layout((1, 2, 2, 2), 1, pools=(1, 2, 1), skips=skips)
    with refused("`skips` adds output "):
        ConvDLGN(layout)


def test_gates_may_change_places_only_at_one_scale():
    layout = Layout((3, 4, 4, 4, 4), 2, pools=(1, 2, 1, 1))
    X = rows(2, 3, 8, 8)
    own = ConvDLGN(layout, "sigmoid", seed=7).double()
    moved = ConvDLGN(layout, "sigmoid", order=(1, 0, 3, 2), seed=7).double()
    torch.testing.assert_close(moved.gates(X)[3], own.gates(X)[2], rtol=0, atol=0)
    assert moved(X).shape == (2, 2)
    with refused(
        "gate layer 2 cannot mask value layer 1: their shapes are (4, 2) and (4, 1); "
        "`order` may exchange layers of equal shapes only"
    ):
        ConvDLGN(layout, order=(0, 2, 1, 3))
