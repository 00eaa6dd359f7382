"""Where masks multiply values, read off a network; what is not on/off is refused by name."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gatewise as gw
import gatewise.dual
from cases import CASES
from gatewise.dual.gating import CONSTANT, gated, masks, pattern_of, value_input
from gatewise.errors import NotGated
from gatewise.ir.kinds import Affine
from gatewise.ir.kinds import settings as told
from gatewise.ir.network import INPUT, fingerprint, fold
from nets import mlp
from oracles.paths import with_taps

REFUSED = {
    "in_place": "leaky_relu' is LeakyReLU (Gate)",
    "grouped_conv": "0' (Conv) is no dense layer or ungrouped convolution",
    "max_pool": "2' is MaxPool (a Winner)",
    "pooled_view": "pool' is MaxPool (a Winner)",
    "concat": "hardtanh' is HardTanh (Gate)",
    "prelu": "3' is PReLU (Gate)",
    "leaky_relu": "3' is LeakyReLU (Gate)",
    "hardtanh": "3' is HardTanh (Gate)",
    "relu6": "3' is HardTanh (Gate)",
    "glu": "(GLU) multiplies two computed values",
    "gelu": "3' is GELU (Smooth)",
    "attention": "multiplies two computed values",
}
CHAINS = ["nested_sequential", "functional_relu", "tied_weights", "dlgn", "linear", "mlp"]


@pytest.mark.parametrize("name", CASES)
def test_gates_that_are_on_or_off_are_read_and_others_refused(name):
    case = CASES[name]
    net = gw.read(case.module().eval(), case.rows())
    if name in REFUSED:
        with pytest.raises(NotGated) as caught:
            gated(net)
        assert REFUSED[name] in str(caught.value)
    else:
        whole = gated(net)
        assert (whole.layers is not None) == (name in [*CHAINS, "softmax_head", "sigmoid_head"])
        assert gated(whole) is whole
        assert f"{len(whole.sites)} gate layers of" in str(whole)


def recomputed(net, X):
    """f from the chain's weights and masks alone."""
    chain, h = gated(net).layers, value_input(net, X)
    gates = [m.reshape(len(h), -1) for m in masks(net, X)]
    for k, (w, b) in enumerate(zip(chain.weights, chain.biases, strict=True)):
        h = h @ w.T + (0 if b is None else b)
        h = h * gates[k] if k < len(gates) else h
    return h


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_recomputes_the_network(name):
    case = CASES[name]
    X = case.rows(20)
    net = gw.read(case.module().eval(), X)
    assert torch.allclose(recomputed(net, X), net(X), rtol=1e-12, atol=1e-12)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.booleans(), st.integers(0, 99))
def test_a_chain_of_any_sizes(sizes, bias, seed):
    net = with_taps(mlp(*sizes, seed=seed, bias=bias))
    X = torch.randn(5, sizes[0], generator=torch.Generator().manual_seed(seed)).double()
    chain = gated(net).layers
    assert chain.widths == tuple(sizes)
    assert all((b is not None) == bias for b in chain.biases)
    assert torch.allclose(recomputed(net, X), net(X), rtol=1e-12, atol=1e-12)


def test_masks_are_where_the_relu_passes():
    net = gw.read(CASES["residual"].module(), CASES["residual"].rows())
    X = CASES["residual"].rows(50)
    whole = gated(net)
    values = value_of_inputs(net, X)
    for site, mask in zip(whole.sites, masks(net, X), strict=True):
        assert torch.equal(mask, values[site.value] > 0)
        assert mask.dtype == torch.bool and mask.shape[1:] == site.shape
    batched = pattern_of(net, X, batch=7)
    assert np.array_equal(batched.bits, pattern_of(net, X).bits)
    assert all(torch.equal(a, b) for a, b in zip(masks(net, batched), masks(net, X), strict=True))


def value_of_inputs(net, X):
    exact = net.to(torch.float64)
    names = [n.name for n in exact.nodes]
    x = exact.rows(X)
    found = fold(exact, x, lambda node, xs: node.kind(*xs), keep=names)
    return found | {INPUT: x}


class Tower(nn.Module):
    """Hard gates of a feature network with ReLUs of its own; one of them is written (z <= 0)."""

    def __init__(self, constant):
        super().__init__()
        self.f, self.g = nn.Linear(4, 5), nn.Linear(5, 5)
        self.v, self.w, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2)
        self.constant = constant

    def forward(self, x):
        value = torch.ones_like(x) if self.constant else x
        feature = self.f(x)
        value = self.v(value) * (feature > 0).to(x.dtype)
        feature = self.g(torch.relu(feature))
        return self.head((feature <= 0).to(x.dtype) * self.w(value))


@pytest.mark.parametrize("constant", [False, True])
def test_gates_of_the_feature_network_do_not_count(constant):
    torch.manual_seed(0)
    module = Tower(constant).double()
    X = torch.randn(30, 4, dtype=torch.float64)
    net = gw.read(module, X)
    whole = gated(net)
    assert [s.units for s in whole.sites] == [5, 5] and len(net.gates) == 3
    first, second = masks(net, X)
    feature = module.f(X)
    assert torch.equal(first.flatten(1), feature > 0)
    assert torch.equal(second.flatten(1), module.g(torch.relu(feature)) <= 0)
    assert torch.allclose(recomputed(net, X), module(X), rtol=1e-12, atol=1e-12)
    chain = whole.layers
    assert chain.widths[0] == (1 if constant else 4)
    assert (chain.constant_input is not None) == constant
    assert (whole.sites[0].value == CONSTANT) == constant


def test_a_scaler_before_the_network_stays_before_it():
    import warnings

    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    X = 3 + 5 * rng.normal(size=(40, 3))
    y = (X[:, 0] > 3).astype(int)
    scaler = StandardScaler()
    model = MLPClassifier((6,), max_iter=3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = make_pipeline(scaler, model).fit(X, y)
    net = gw.read(pipe)
    assert np.allclose(value_input(net, X), scaler.transform(X), rtol=1e-9, atol=1e-9)
    assert torch.allclose(recomputed(net, X), net(X), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (nn.Linear(3, 4), (5, 3)),
        lambda: (nn.Conv1d(2, 3, 3, stride=2, padding=1, dilation=2), (2, 9)),
        lambda: (nn.Conv2d(2, 3, (2, 3), padding=(1, 0), bias=False), (2, 5, 6)),
        lambda: (nn.Conv2d(2, 3, 3, padding="same"), (2, 5, 4)),
        lambda: (nn.Conv3d(1, 2, 2, padding=1), (1, 3, 2, 3)),
    ],
)
def test_taps_are_the_columns_of_the_weight_matrix(make):
    """units(y) = W taps(x) + bias, at every position."""
    module, shape = make()
    X = torch.randn(4, *shape)
    net = gw.read(module.double(), X.double())
    (node,) = [n for n in net.nodes if isinstance(n.kind, Affine) and n.kind.taps is not None]
    kind, x = node.kind, net.rows(X)
    y = F.linear(kind.taps(x).mT, kind.weights[0].flatten(1)).mT
    assert torch.allclose(kind.taps.units(kind.linear(x)), y, rtol=1e-12, atol=1e-12)


def test_taps_change_no_fingerprint():
    net = mlp(3, 4, 2)
    (first, *_) = net.nodes
    assert "Taps" not in str(told(first.kind))
    read = gw.read(nn.Conv1d(2, 3, 3), torch.randn(2, 2, 5))
    assert all("Taps" not in str(told(n.kind)) for n in read.nodes)
    assert fingerprint(read.to(torch.float64)) == fingerprint(read.to(torch.float64))
    moved = read.to(torch.float32)
    assert any(getattr(n.kind, "taps", None) is not None for n in moved.nodes)


def test_a_value_input_needs_a_chain():
    net = gw.read(CASES["residual"].module(), CASES["residual"].rows())
    with pytest.raises(NotGated, match="no plain chain"):
        value_input(net, CASES["residual"].rows())


@pytest.mark.parametrize("name", gw.dual.__all__)
def test_a_name_of_the_door_is_no_file(name):
    """Also where the file is named alike: the function is what `gw.dual.gated` means."""
    found = getattr(gw.dual, name)
    assert not isinstance(found, types.ModuleType)
    assert callable(found) and name in dir(gw.dual)


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match=r"module 'gatewise\.dual' has no attribute 'nothing'"):
        gw.dual.nothing  # noqa: B018
