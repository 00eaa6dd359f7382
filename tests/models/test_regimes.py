"""Where gates come from: frozen at random, frozen as learnt, decoupled; every order of layers."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import gatewise as gw
from gatewise.errors import ModelError, UnsupportedLayer
from gatewise.models import (
    DGN,
    DLGN,
    ConvReLUNet,
    Layout,
    ReLUNet,
    decoupled,
    dnpfl,
    fit,
    flnpf,
    frnpf,
    gate_permutations,
    permuted,
)
from oracles.gated import rows

SIZES = (3, 6, 6, 6, 2)


def weights(layers):
    return [p.detach().clone() for p in layers.parameters()]


def same(first, second):
    return [torch.equal(a, b) for a, b in zip(first, second, strict=True)]


def trained(net, seed=0):
    X = rows(60, 3, seed=seed).float()
    fit(net, X, (X[:, 0] * X[:, 1] > 0).long(), epochs=5, batch=20)
    return net


def test_random_features_start_apart_or_as_the_values_do():
    net = ReLUNet(SIZES, bias=True, seed=0)
    independent, dependent = frnpf(net, seed=1), frnpf(net, dependent=True, seed=1)
    assert same(weights(dependent.features), weights(dependent.values[:-1])) == [True] * 6
    pairs = zip(independent.features, independent.values, strict=False)
    assert not any(torch.equal(u.weight, v.weight) for u, v in pairs)
    assert not any(same(weights(net.values), weights(independent.values))[::2])  # drawn anew
    assert independent.gate.hard and not any(
        p.requires_grad for p in independent.features.parameters()
    )


def test_a_dependent_start_is_the_relu_network_of_its_values():
    net = frnpf(ReLUNet(SIZES, seed=0), dependent=True, seed=3)
    twin = ReLUNet(SIZES, seed=0)
    twin.values.load_state_dict(net.values.state_dict())
    X = rows(9, 3).float()
    torch.testing.assert_close(net(X), twin(X))


@pytest.mark.parametrize("make", [frnpf, flnpf])
def test_frozen_features_stay_and_values_learn(make):
    net = make(ReLUNet(SIZES, seed=0), seed=1)
    features, values = weights(net.features), weights(net.values)
    trained(net)
    assert all(same(weights(net.features), features))
    assert not any(same(weights(net.values), values))


def test_learnt_gates_are_the_trained_networks_signs():
    relu = trained(ReLUNet(SIZES, bias=True, seed=0))
    net = flnpf(relu, seed=5)
    X, h = rows(30, 3).float(), None
    h = X
    for layer, mask in zip(relu.values, net.gates(X), strict=False):
        q = layer(h)
        assert torch.equal(mask, (q > 0).float())
        h = torch.relu(q)
    assert not any(same(weights(net.values), weights(relu.values))[::2])
    assert gw.read(net).nodes


def test_learnt_gates_of_a_dgn_are_hardened_and_may_change_places():
    net = trained(DLGN(SIZES, "sigmoid", seed=0))
    fixed = flnpf(net, value_input="ones", order=(2, 1, 0), seed=1)
    X = rows(30, 3).float()
    for mask, soft in zip(fixed.gates(X), net.gates(X)[::-1], strict=True):
        assert torch.equal(mask, (soft > 0.5).float())
    assert fixed.value_input == "ones" and net.value_input == "x"
    assert isinstance(fixed, DLGN) and not net.frozen


def test_decoupled_learning_feeds_pre_activations_of_relus_to_soft_gates():
    net = dnpfl(ReLUNet(SIZES, seed=0), seed=2)
    X = rows(10, 3).float()
    h = X
    for layer, mask in zip(net.features, net.gates(X), strict=True):
        torch.testing.assert_close(mask, 1.1 * torch.sigmoid(4 * layer(h)))
        h = torch.relu(layer(h))
    before = weights(net)
    trained(net)
    assert not any(same(weights(net), before))


def test_frozen_batch_norm_does_not_move_the_gates():
    layout = Layout((1, 3, 3), 2, batch_norm=True, bias=True)
    net = frnpf(ConvReLUNet(layout, seed=0), seed=1)
    X = rows(40, 1, 4, 4).float()
    gates = net.gates(X)
    fit(net, X, (X.mean((1, 2, 3)) > 0).long(), epochs=2)
    assert all(same(net.gates(X), gates))
    net.train()
    assert not any(part.training for part in net.features.modules()) and net.values[0].training
    norms = [part for part in net.values.modules() if isinstance(part, nn.BatchNorm2d)]
    assert all(part.running_mean.abs().sum() > 0 for part in norms)


def test_a_sequential_is_taken_apart_and_computes_the_same():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    X = rows(20, 3).float()
    torch.testing.assert_close(decoupled(net)(X), net(X))


@pytest.mark.parametrize(
    "net, sentence",
    [
        (nn.Linear(2, 2), "a Linear cannot be taken apart: give a network of gatewise.models, or"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)),
            "layer 1 of the Sequential is Tanh, where Linear, ReLU, .., Linear take turns",
        ),
        (
            nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
            "the Sequential has 2 layers: Linear, ReLU, .., Linear take turns",
        ),
    ],
)
def test_other_networks_are_refused(net, sentence):
    with pytest.raises(UnsupportedLayer, match="^" + re.escape(sentence)):
        decoupled(net)


# ---------------------------------------------------------------- orders


def test_four_equal_layers_have_twenty_three_other_orders():
    orders = list(gate_permutations(DLGN((2, 3, 3, 3, 3, 1))))
    assert len(set(orders)) == len(orders) == 23 and (0, 1, 2, 3) not in orders


def test_only_layers_of_equal_shapes_change_places():
    orders = set(gate_permutations(DGN((2, 3, 4, 3, 4, 1))))
    assert orders == {(2, 1, 0, 3), (0, 3, 2, 1), (2, 3, 0, 1)}
    for order in orders:
        DGN((2, 3, 4, 3, 4, 1), order=order)
    assert list(gate_permutations(DGN((2, 3, 4, 1)))) == []


def test_many_layers_orders_come_one_at_a_time():
    net = ReLUNet((2, *[3] * 30, 1))
    assert len(next(gate_permutations(net))) == 30


def test_an_order_that_cannot_be_is_refused():
    with pytest.raises(ModelError, match=r"^gate layer 1 cannot mask value layer 0"):
        permuted(DLGN((2, 3, 4, 1)), (1, 0))


@pytest.mark.parametrize("ask", [lambda net: permuted(net, (0, 1)), gate_permutations])
def test_a_module_without_gate_layers_has_none_to_exchange(ask):
    with pytest.raises(UnsupportedLayer, match=r"^a ReLU has no gate layers to change places: "):
        ask(nn.ReLU())
