"""Tangent kernels against autograd, row by row and output by output."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gatewise as gw
from cases import CASES
from gatewise import models
from gatewise.dual.gating import gated
from gatewise.dual.kernels.expectation import expected_tangent_kernel
from gatewise.dual.kernels.path_kernel import npk
from gatewise.dual.tangents import empirical as tangent_module
from gatewise.dual.tangents import split as split_module
from gatewise.dual.tangents.empirical import tangent_kernel
from gatewise.dual.tangents.split import tangent_split
from gatewise.errors import BadRows, DataError, EmptyData, UnsupportedLayer, WrongShape
from gatewise.ir.kinds import Affine
from oracles.gradients import full, jacobian

TRAINABLE = [  # cases whose parameters are all matrices with biases
    *("nested_sequential", "functional_relu", "reused_relu", "residual", "in_place", "concat"),
    *("max_pool", "pooled_view", "leaky_relu", "hardtanh", "dlgn", "linear", "mlp", "glu", "gelu"),
    "attention",
]


def close(found, expected, tol=1e-10):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tol * np.abs(expected).max()


def module_and_rows(name: str):
    case = CASES[name]
    module = case.module().double().eval()
    return module, gw.read(case.module().eval(), case.rows(2)), case.rows(6).double()


@pytest.mark.parametrize("name", TRAINABLE)
def test_every_architecture_agrees_with_autograd(name):
    module, net, X = module_and_rows(name)
    oracle = full(module, X, X[:4] + 0.1).detach().numpy()
    close(tangent_kernel(net, X, X[:4] + 0.1, outputs="full"), oracle)


@pytest.mark.parametrize("name", ["mlp", "pooled_view", "max_pool", "nested_sequential"])
def test_sum_trace_and_one_output_are_sums_of_the_full_kernel(name):
    module, net, X = module_and_rows(name)
    whole = full(module, X, X).detach().numpy()
    close(tangent_kernel(net, X), whole.sum((2, 3)))
    close(tangent_kernel(net, X, outputs="trace"), np.einsum("abii->ab", whole))
    close(tangent_kernel(net, X, outputs=-1, batch=2), whole[:, :, -1, -1])
    assert np.array_equal(*(tangent_kernel(net, X).values.T, tangent_kernel(net, X).values))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=5),
    st.booleans(),
    st.integers(0, 10_000),
    st.integers(1, 7),
)
def test_random_networks(sizes, bias, seed, rows):
    torch.manual_seed(seed)
    layers = [nn.Linear(a, b, bias) for a, b in pairwise(sizes)]
    module = nn.Sequential(*[m for layer in layers for m in (layer, nn.ReLU())][:-1]).double()
    X = torch.randn(rows, sizes[0], dtype=torch.float64)
    found = np.asarray(tangent_kernel(gw.read(module), X, outputs="full"))
    oracle = full(module, X, X).detach().numpy()
    assert np.abs(found - oracle).max() <= 1e-10 * max(1.0, np.abs(oracle).max())


def test_a_convolution_over_few_and_over_many_positions():
    """Pairs of positions where they are few, the gradient whole where they are many."""
    torch.manual_seed(0)
    for size in (3, 9):
        module = nn.Sequential(
            nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
        ).double()
        X = torch.randn(5, 3, size, size, dtype=torch.float64)
        module(X)
        oracle = full(module, X, X).detach().numpy()
        close(tangent_kernel(gw.read(module, X), X, outputs="full"), oracle)


def test_a_batch_norm_counts_by_its_scale_and_offset_in_evaluation():
    _, net, X = module_and_rows("batch_norm_before")

    class Evaluated(nn.Module):
        def __init__(self):
            super().__init__()
            first, norm, _, last = net.nodes
            held = [first.kind.weights[0], first.kind.bias, norm.kind.weights[0], norm.kind.bias]
            held += [last.kind.weights[0], last.kind.bias]
            self.p = nn.ParameterList([nn.Parameter(t.clone()) for t in held])

        def forward(self, x):
            w, b, s, c, v, d = self.p
            return torch.relu((x @ w.T + b) * s + c) @ v.T + d

    close(tangent_kernel(net, X, outputs="full"), full(Evaluated(), X, X).detach().numpy())


def test_tiles_and_blocks_change_nothing(monkeypatch):
    torch.manual_seed(0)
    _, net, _ = module_and_rows("pooled_view")
    X, X2 = CASES["pooled_view"].rows(23).double(), CASES["pooled_view"].rows(9, seed=5).double()
    asked = [(X, None, "sum"), (X, X2, "trace"), (X, X2, "full"), (X, None, "full")]
    whole = [tangent_kernel(net, a, b, outputs=o).values for a, b, o in asked]
    monkeypatch.setattr(tangent_module, "FACTOR_BYTES", 60_000)
    monkeypatch.setattr(tangent_module, "BLOCK", 16)
    for (a, b, o), expected in zip(asked, whole, strict=True):
        close(tangent_kernel(net, a, b, outputs=o), expected, 1e-13)


def test_tied_weights_are_one_weight_and_can_be_counted_as_two():
    module, net, X = module_and_rows("nested_sequential")
    shared = tangent_kernel(net, X)
    assert shared.parameters == sum(p.numel() for p in module.parameters())
    assert "equal, so counted once (tied): 1.0, 2.0" in str(shared)
    apart = tangent_kernel(net, X, tied=False)
    assert apart.parameters > shared.parameters
    assert np.abs(apart.values - shared.values).max() > 1e-3


def test_a_weight_used_transposed_is_refused_by_name():
    _, net, X = module_and_rows("tied_weights")
    with pytest.raises(UnsupportedLayer, match="node 'linear' is that of 'first' transposed"):
        tangent_kernel(net, X)
    assert tangent_kernel(net, X, tied=False).values.shape == (6, 6)


def test_a_grouped_convolution_is_refused_by_name():
    _, net, X = module_and_rows("grouped_conv")
    with pytest.raises(UnsupportedLayer, match="node '0' \\(Conv\\) holds weights"):
        tangent_kernel(net, X)


def test_what_is_not_counted_is_named():
    _, net, X = module_and_rows("prelu")
    assert "not counted as weights: 1, 3" in str(tangent_kernel(net, X))
    _, net, X = module_and_rows("dlgn")
    assert "nothing flows back, through steps: gates.0, gates.1" in str(tangent_kernel(net, X))


def test_some_nodes_alone():
    module, net, X = module_and_rows("mlp")
    names = {"2.weight", "2.bias"}
    close(
        tangent_kernel(net, X, nodes=["2"], outputs="full"),
        full(module, X, X, names).detach().numpy(),
    )
    with pytest.raises(DataError, match="nodes without weights: 1; those with weights are 0, 2"):
        tangent_kernel(net, X, nodes=["1"])


def test_gates_of_another_network():
    """f = W2 (m(x) (W1 x + b1)) + b2, m from a network of its own."""
    torch.manual_seed(1)
    a, b = (nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2)).double() for _ in range(2))
    X = torch.randn(7, 4, dtype=torch.float64)

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = a[0], a[2]

        def forward(self, x):
            with torch.no_grad():
                mask = (b[0](x) > 0).to(x.dtype)
            return self.last(mask * self.first(x))

    found = tangent_kernel(gw.read(a), X, outputs="full", gates=gw.read(b))
    close(found, full(Fixed(), X, X).detach().numpy())
    assert "fixed by another network" in str(found)
    assert np.abs(found.values - tangent_kernel(gw.read(a), X, outputs="full").values).max() > 0.1
    with pytest.raises(DataError, match="gates of the same shapes in the same order"):
        tangent_kernel(gw.read(a), X, gates=gw.read(nn.Sequential(nn.Linear(4, 3), nn.ReLU())))


def drawn(net, generator):
    """Weights of variance 1 / taps, biases of variance 1."""
    nodes = []
    for node in net.nodes:
        kind = node.kind
        if isinstance(kind, Affine) and kind.taps is not None:
            w, b = kind.weights[0], kind.bias
            new = torch.randn(w.shape, generator=generator, dtype=w.dtype) / w[0].numel() ** 0.5
            c = None if b is None else torch.randn(b.shape, generator=generator, dtype=w.dtype)
            node = dataclasses.replace(node, kind=dataclasses.replace(kind, weights=(new,), bias=c))
        nodes.append(node)
    return dataclasses.replace(net, nodes=tuple(nodes))


@pytest.mark.parametrize("name", ["functional_relu", "residual", "conv"])
def test_the_mean_over_fresh_weights_is_the_expected_tangent_kernel(name):
    """Within 3 standard errors, entry by entry, for gates fixed by a network of their own."""
    torch.manual_seed(3)
    if name == "conv":
        module = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2),
        )  # fmt: skip
        X = torch.randn(3, 2, 4, 4, dtype=torch.float64)
        net = gw.read(module, X)
    else:
        _, net, X = module_and_rows(name)
        X = X[:3]
    expected = np.asarray(expected_tangent_kernel(net, X))
    generator = torch.Generator().manual_seed(4)
    draws = (
        np.stack(
            [
                tangent_kernel(drawn(net, generator), X, outputs="trace", gates=net).values
                for _ in range(250)
            ]
        )
        / net.outputs
    )
    error = draws.std(0, ddof=1) / len(draws) ** 0.5
    assert (np.abs(draws.mean(0) - expected) <= 3 * error).all()
    assert (error < 0.2 * np.abs(expected).max()).all()


def test_the_own_tangent_kernel_is_not_the_npk():
    torch.manual_seed(0)
    sizes = [16, 128, 128, 128, 128]
    pairs = pairwise(sizes)
    layers = [m for a, b in pairs for m in (nn.Linear(a, b, False), nn.ReLU())]
    net = gw.read(nn.Sequential(*layers, nn.Linear(128, 1, False)))
    X = torch.randn(40, 16, dtype=torch.float64)
    own, paths = tangent_kernel(net, X), np.asarray(npk(net, X))
    cosine = (own.values * paths).sum() / np.linalg.norm(own.values) / np.linalg.norm(paths)
    assert cosine < 0.95
    assert "not the NPK" in str(own)


def test_bad_input_is_refused():
    net = gw.read(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    with pytest.raises(DataError, match='outputs must be "sum", "trace", "full" or an index'):
        tangent_kernel(net, np.ones((2, 4)), outputs=2)
    with pytest.raises(EmptyData, match="X2 has 0 rows"):
        tangent_kernel(net, np.ones((2, 4)), np.ones((0, 4)))
    with pytest.raises(BadRows, match="X holds NaN or infinity in rows 1"):
        tangent_kernel(net, [[1, 2, 3, 4], [1, np.nan, 3, 4]])
    with pytest.raises(DataError, match="no weights to differentiate by"):
        tangent_kernel(gw.read(nn.ReLU(), torch.ones(1, 4)), np.ones((2, 4)))


# -- the split into values and features --


def split_oracle(module, X, X2, outputs):
    kernels = []
    for part in ("values", "features"):
        names = {n for n, _ in module.named_parameters() if n.startswith(part)}
        a, b = (jacobian(module, x, names) for x in (X, X2))
        if outputs == "sum":
            a, b = a.sum(1, keepdim=True), b.sum(1, keepdim=True)
        elif outputs != "trace":
            a, b = a[:, [outputs]], b[:, [outputs]]
        kernels.append(torch.einsum("aop,bop->ab", a, b).numpy())
    return kernels


@pytest.mark.parametrize("outputs", ["sum", "trace", 1])
@pytest.mark.parametrize("gate", ["sigmoid", "scaled_sigmoid"])
@pytest.mark.parametrize("kind", [models.DGN, models.DLGN, models.DLGNShallow])
def test_the_split_agrees_with_autograd(kind, gate, outputs):
    module = kind((5, 6, 6, 3), gate=gate, bias=True, order=(1, 0), seed=0).double()
    X = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    split = tangent_split(module, X, X[:4] + 0.1, outputs=outputs, batch=3)
    value, feature = split_oracle(module, X, X[:4] + 0.1, outputs)
    close(split.value, value)
    close(split.feature, feature)
    assert split.error < 1e-12
    assert not split.reason
    assert "against the whole module by autograd" in str(split)


def test_the_split_takes_convolutions_and_norms():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4))
            self.values = nn.ModuleList([nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, 2)])

        def feature_parameters(self):
            return self.features.parameters()

        def value_parameters(self):
            return self.values.parameters()

        def forward(self, x):
            h = torch.sigmoid(4 * self.features(x)) * self.values[0](x)
            return self.values[1](h.mean((2, 3)))

    torch.manual_seed(0)
    module = Net().double().eval()
    X = torch.randn(5, 2, 6, 6, dtype=torch.float64)
    split = tangent_split(module, X, outputs="trace")
    value, feature = split_oracle(module, X, X, "trace")
    close(split.value, value)
    close(split.feature, feature)
    close(split.total, value + feature)


def test_hard_gates_and_frozen_features_have_no_feature_kernel():
    X = np.random.default_rng(0).normal(size=(4, 5))
    hard = tangent_split(models.DLGN((5, 6, 3), seed=0), X)
    assert not hard.feature.any()
    assert "K^f = 0: the gates are hard, and a step has no derivative" in str(hard)
    frozen = tangent_split(models.DGN((5, 6, 3), gate="sigmoid", seed=0).freeze_features(), X)
    assert not frozen.feature.any()
    assert frozen.reason == "the feature weights are frozen"
    assert frozen.error < 1e-12


def test_the_value_kernel_of_a_hard_dlgn_is_the_tangent_kernel_of_its_network():
    module = models.DLGN((5, 6, 6, 3), bias=True, seed=0)
    X = np.random.default_rng(0).normal(size=(8, 5))
    close(tangent_split(module, X).value, tangent_kernel(gw.read(module), X).values)


def test_the_split_leaves_the_module_as_it_was():
    module = models.DLGN((5, 6, 3), gate="sigmoid", seed=0).train()
    before = {n: p.clone() for n, p in module.named_parameters()}
    tangent_split(module, np.ones((2, 5)))
    assert module.training
    for name, p in module.named_parameters():
        assert torch.equal(p, before[name])
        assert p.grad is None
        assert p.dtype == torch.float32


def test_a_module_without_parts_is_refused():
    with pytest.raises(DataError, match="takes a torch module with feature_parameters"):
        tangent_split(nn.Linear(3, 2), np.ones((2, 3)))
    module = models.DLGN((5, 6, 3), gate="sigmoid", seed=0)
    with pytest.raises(DataError, match='outputs must be "sum", "trace" or an index below 3'):
        tangent_split(module, np.ones((2, 5)), outputs=3)
    with pytest.raises(WrongShape, match="X must be rows of inputs"):
        tangent_split(module, np.ones(5))
    module.extra = nn.PReLU()
    with pytest.raises(UnsupportedLayer, match="layer 'extra' \\(PReLU\\)"):
        tangent_split(module, np.ones((2, 5)))


# -- what a weight is --


def test_a_folded_norm_counts_by_scale_and_offset_here_and_by_gamma_and_beta_in_the_split():
    """f = v (gamma (w x - m) / 2 + beta) at x = 2, w = 3, m = 1, gamma = .5, beta = .25, v = 2."""
    module = models.ConvDLGN(models.Layout((1, 1), 1, kernel=1, batch_norm=True), seed=0)
    numbers = ([3.0], [1.0], [0.0], [3.0], [0.5], [0.25], [2.0])  # features, then values
    for p, number in zip(module.double().parameters(), numbers, strict=True):
        p.data.fill_(number[0])
    norm = module.values[0][1]
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0 - norm.eps)
    x = np.full((1, 1, 1, 1), 2.0)
    split = tangent_split(module.eval(), x)
    # by w: v gamma / 2 x = 1; by gamma: v (6 - 1) / 2 = 5; by beta: v = 2; by v: h = 1.5
    close(split.value, [[1 + 25 + 4 + 2.25]])
    found = tangent_kernel(gw.read(module, x), x)
    # h = s (w x) + c with s = 1/4: by w: 1; by s: v w x = 12; by c: v = 2; by v: 1.5
    close(found.values, [[1 + 144 + 4 + 2.25]])


def test_a_folded_constant_input_is_no_weight_here_and_one_in_the_split():
    """f = v2 v1 1 with the gate on: by v1: v2 = 5; by v2: v1 = 3, which is all that is left."""
    module = models.DLGN((1, 1, 1), value_input="ones", seed=0).double()
    for p, number in zip(module.parameters(), (1.0, 3.0, 5.0), strict=True):
        p.data.fill_(number)
    x = np.ones((1, 1))
    close(tangent_split(module, x).value, [[25 + 9]])
    close(tangent_kernel(gw.read(module), x).values, [[9]])


def test_the_error_of_the_split_is_measured(monkeypatch):
    """A kernel that is 1 % too large is found 1 % off, by differentiation of the whole module."""
    module = models.DLGN((5, 6, 3), gate="sigmoid", seed=0)
    x = np.random.default_rng(0).normal(size=(6, 5))
    right = tangent_split(module, x)
    gram = split_module._gram
    monkeypatch.setattr(split_module, "_gram", lambda *asked: 1.01 * gram(*asked))
    wrong = tangent_split(module, x)
    c = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    off = np.abs(wrong.total @ c - right.total @ c).max()
    expected = off / (np.abs(wrong.total) @ np.abs(c)).max()
    assert wrong.error == pytest.approx(expected, rel=1e-6) and 1e-4 < wrong.error <= 0.01
    assert right.error < 1e-12


# -- refusals --


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "2"])
def test_batches_that_are_no_number_of_rows_are_refused(batch):
    module = models.DLGN((5, 6, 3), seed=0)
    words = f"batch must be a whole number, at least 1, got {batch!r}"
    with pytest.raises(DataError, match=words):
        tangent_kernel(gw.read(module), np.ones((2, 5)), batch=batch)
    with pytest.raises(DataError, match=words):
        tangent_split(module, np.ones((2, 5)), batch=batch)


def test_true_is_no_index_of_an_output():
    module = models.DLGN((5, 6, 3), seed=0)
    with pytest.raises(DataError, match="or an index below 3, got True"):
        tangent_kernel(gw.read(module), np.ones((2, 5)), outputs=True)
    with pytest.raises(DataError, match="or an index below 3, got True"):
        tangent_split(module, np.ones((2, 5)), outputs=True)
    one = np.int64(1)
    x = np.random.default_rng(0).normal(size=(4, 5))
    close(tangent_split(module, x, outputs=one).value, tangent_split(module, x, outputs=1).value)
    found = tangent_kernel(gw.read(module), x, outputs=one)
    close(found.values, tangent_kernel(gw.read(module), x, outputs=1).values)
    assert "output 1" in str(found)


def test_one_node_may_be_named_alone():
    body = [nn.Linear(3, 3), nn.ReLU()] * 6
    net = gw.read(nn.Sequential(*body, nn.Linear(3, 2)).double())
    X = np.random.default_rng(0).normal(size=(4, 3))
    found = tangent_kernel(net, X, nodes="12")
    assert found.nodes == ("12",)
    close(found.values, tangent_kernel(net, X, nodes=["12"]).values)


def test_rows_and_gates_of_another_width_are_refused():
    module = models.DLGN((5, 6, 3), seed=0)
    X = np.ones((2, 5))
    with pytest.raises(WrongShape, match=r"does not take rows of X, of shape \(4,\)"):
        tangent_split(module, X[:, :4])
    with pytest.raises(WrongShape, match=r"does not take rows of X2, of shape \(4,\)"):
        tangent_split(module, X, X[:, :4])
    a, b = (gw.read(nn.Sequential(nn.Linear(n, 6), nn.ReLU(), nn.Linear(6, 3))) for n in (5, 4))
    with pytest.raises(DataError, match=r"of the same rows, of shape .*5\); it takes .*4\)"):
        tangent_kernel(a, X, gates=b)


def test_a_network_read_as_values_and_masks_is_taken_and_a_module_is_not():
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    net, X = gw.read(module), np.random.default_rng(0).normal(size=(5, 4))
    expected = tangent_kernel(net, X).values
    close(tangent_kernel(gated(net), X).values, expected, 0)
    close(tangent_kernel(net, X, gates=gated(net)).values, expected)
    with pytest.raises(DataError, match=r"give a Network.*; got a Sequential"):
        tangent_kernel(module, X)
    with pytest.raises(DataError, match=r"give a Network.*; got a Sequential"):
        tangent_kernel(net, X, gates=module)
