"""Linear chains: their starts, the map they make, and that the library reads them as one map."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

import gatewise as gw
from gatewise.errors import ModelError
from gatewise.models import Chains, LinearChain

F64 = torch.float64


def product(chain: LinearChain) -> tuple[torch.Tensor, torch.Tensor]:
    """M and C by hand, a layer at a time."""
    n = chain.layers[0].in_features
    M, C = torch.eye(n, dtype=F64), torch.zeros(n, dtype=F64)
    for layer in chain.layers:
        M, C = layer.weight @ M, layer.weight @ C + layer.bias
    return M, C


@pytest.mark.parametrize("init", ["default", "identity", "xavier", "orthogonal", "balanced"])
def test_a_chain_is_read_as_the_product_of_its_layers(init):
    chain = LinearChain(4, 3, 5, 2, init=init, seed=1).double()
    network = gw.read(chain, torch.zeros(1, 3))
    assert not network.gates
    M, C = product(chain)
    x = torch.randn(7, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(x), x @ M.T + C, rtol=1e-13, atol=1e-13)


def test_the_default_start_is_that_of_linear_layers():
    """Same range, and the same moments, as torch's own Linear over many draws."""
    drawn = Chains.draw(4000, 3, 4, 9, 2, seed=0)
    own = [nn.Linear(n, m) for n, m in ((4, 9), (9, 9), (9, 2)) for _ in range(1)]
    for weight, bias, layer in zip(drawn.weights, drawn.biases, own, strict=True):
        bound = 1 / layer.in_features**0.5
        assert weight.shape[1:] == layer.weight.shape and bias.shape[1:] == layer.bias.shape
        assert layer.weight.abs().max() <= bound and layer.bias.abs().max() <= bound
        for values in (weight, bias):
            assert 0.99 * bound < values.abs().max() <= bound
            assert float(values.square().mean()) == pytest.approx(bound**2 / 3, rel=0.05)
            assert abs(float(values.mean())) < 0.02 * bound


@pytest.mark.parametrize("sizes", [(3, 5, 2), (6, 2, 4), (1, 1, 1)])
def test_balanced_layers_are_balanced_and_orthogonal_ones_orthonormal(sizes):
    d, width, o = sizes
    for depth in (1, 2, 5):
        chains = Chains.draw(6, depth, d, width, o, init="balanced", seed=2)
        for first, second in pairwise(chains.weights):
            torch.testing.assert_close(second.mT @ second, first @ first.mT, atol=1e-12, rtol=0)
        assert float(chains.imbalance().max()) < 1e-12
        rank = min(sizes) if depth > 1 else min(d, o)
        assert torch.linalg.matrix_rank(chains.map()[0]).eq(rank).all()
    for weight in Chains.draw(6, 3, d, width, o, init="orthogonal", seed=2).weights:
        small = weight if weight.shape[1] <= weight.shape[2] else weight.mT
        eye = torch.eye(small.shape[1], dtype=F64).expand(6, -1, -1)
        torch.testing.assert_close(small @ small.mT, eye, atol=1e-12, rtol=0)


def test_imbalance_is_the_worst_difference_of_neighbours():
    chains = Chains.draw(3, 3, 2, 4, 1, seed=5)
    for case in range(3):
        worst = 0.0
        for layer in range(2):
            w, v, b = (
                t[case] for t in (chains.weights[layer], chains.weights[layer + 1],
                                  chains.biases[layer])
            )  # fmt: skip
            worst = max(worst, float((v.T @ v - w @ w.T - torch.outer(b, b)).norm()))
        assert float(chains.imbalance()[case]) == pytest.approx(worst)


def test_one_of_many_becomes_a_module_and_a_seed_repeats():
    chains = Chains.draw(5, 3, 2, 3, 2, seed=9)
    M, C = chains.map()
    x = torch.randn(4, 2, dtype=F64)
    for case in range(5):
        got = LinearChain.of(chains, case)(x)
        torch.testing.assert_close(got, x @ M[case].T + C[case])
    again = LinearChain(3, 2, 3, 2, seed=9)
    twin = LinearChain(3, 2, 3, 2, seed=9)
    for a, b in zip(again.parameters(), twin.parameters(), strict=True):
        assert a.dtype == torch.float32 and a.requires_grad and torch.equal(a, b)
    assert LinearChain(2, bias=False).layers[0].bias is None


def test_settings_that_cannot_be_are_refused():
    for settings, message in (
        ({"depth": 0}, "`depth` is a whole number from 1, and it is 0"),
        ({"depth": 2, "width": True}, "`width` is a whole number from 1, and it is True"),
        ({"depth": 2, "init": "he"}, "there is no initialisation 'he': choose one of 'default', "),
    ):
        with pytest.raises(ModelError, match=message):
            LinearChain(**settings)
    with pytest.raises(ModelError, match=r"chains are numbered 0 .. 2, and `case` is 3"):
        LinearChain.of(Chains.draw(3, 2), 3)
