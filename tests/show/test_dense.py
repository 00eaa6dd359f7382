"""A network as dense layers computes what the network does, whatever stands between its gates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.ir.kinds import Affine, Winner
from gatewise.ir.network import Network
from gatewise.show import dense
from nets import GATES, Chain, add, mlp


def same(network: Network, rows: int = 50, seed: int = 0) -> None:
    x = np.random.default_rng(seed).normal(size=(rows, network.inputs)) * 2
    layers = dense.dense(network, range(network.outputs))
    assert not isinstance(layers, str), layers
    there = network(torch.from_numpy(x)).double().numpy()
    np.testing.assert_allclose(dense.evaluate(layers, x), there, atol=1e-12, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    gates=st.lists(st.sampled_from(sorted(GATES)), min_size=0, max_size=4),
    widths=st.lists(st.integers(1, 6), min_size=6, max_size=6),
    seed=st.integers(0, 99),
)
def test_any_chain_of_gates(gates, widths, seed):
    chain = Chain(widths[0], seed)
    for gate, width in zip(gates, widths[1:], strict=False):
        chain.linear(width)
        chain.put(GATES[gate])
    chain.linear(widths[-1])
    same(chain.network(), seed=seed)


def test_a_skip_connection():
    chain = Chain(4, 1)
    chain.linear(5)
    first = chain.put(GATES["relu"])
    chain.linear(5)
    second = chain.put(GATES["abs"])
    chain.put(Affine(add, (torch.tensor(2.0).double(), torch.tensor(-1.0).double())), first, second)
    chain.linear(2)
    network = chain.network()
    same(network)
    layers = dense.dense(network, [0, 1])
    assert sorted(layers[-1].weights) == [1, 2]


def test_only_the_outputs_asked_for():
    network = mlp(3, 5, 4)
    layers = dense.dense(network, [2, 0])
    x = np.ones((2, 3))
    there = network(torch.from_numpy(x)).numpy()[:, [2, 0]]
    np.testing.assert_allclose(dense.evaluate(layers, x), there, atol=1e-13)


def test_units_with_knots_of_their_own():
    chain = Chain(3, 2)
    chain.linear(4)
    own = dataclasses.replace(
        GATES["hardtanh"], knots=torch.stack([-torch.rand(4), torch.rand(4)]).double(), direct=None
    )
    chain.put(own)
    chain.linear(1)
    same(chain.network())


def test_what_it_cannot_hold_it_says():
    chain = Chain(4, 0)
    chain.linear(4)
    chain.put(Winner(torch.tensor([[0, 1], [2, 3]])), shape=(2,))
    why = dense.dense(chain.network(), [0])
    assert why.endswith("chooses between inputs")
    assert "200,000 weights" in dense.dense(mlp(100, 3000, 1), [0])
    assert dense.dense(mlp(1001, 2, 1), [0]) == "it has 1,001 inputs, and 1,000 fit"


def test_a_network_of_float32():
    same(mlp(3, 5, 1).to(torch.float32).to(torch.float64))
    network = mlp(3, 5, 1).to(torch.float32)
    layers = dense.dense(network, [0])
    x = np.random.default_rng(0).normal(size=(9, 3))
    exact = network.to(torch.float64)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(dense.evaluate(layers, x), exact, atol=1e-13)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 2), (2, 3, 1)])
def test_small_ones(sizes):
    same(mlp(*sizes))
