"""Expected kernels under fixed gates: Monte Carlo over fresh weights, and the papers' formulas."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import BatchNorm1d, Conv1d, Flatten, Linear

import gatewise as gw
from gatewise.dual.gating import masks
from gatewise.dual.kernels.expectation import Variance, expected_kernel, expected_tangent_kernel
from gatewise.dual.kernels.path_kernel import npk
from gatewise.errors import DataError
from oracles.paths import Add, Graph, Mask

GAP = nn.AdaptiveAvgPool1d(1)
DRAWS = 400


def dgn(*layers):
    """Values whose masks come from other, random networks of the input."""
    torch.manual_seed(1)
    module = Graph(*layers).double().eval()
    for m in module.modules():
        if hasattr(m, "reset_parameters"):
            m.reset_parameters()
    return module


CASES = {
    "fully connected": lambda: (
        dgn(Linear(3, 8), Mask(Linear(3, 8)), Linear(8, 6), Mask(Linear(3, 6)), Linear(6, 2)),
        (3,),
    ),
    "convolution and mean": lambda: (
        dgn(
            Conv1d(1, 4, 3, padding=1),
            Mask(Conv1d(1, 4, 3, padding=1)),
            Conv1d(4, 4, 3, padding=1, padding_mode="circular"),
            Mask(Conv1d(1, 4, 3, padding=1)),
            GAP,
            Flatten(),
            Linear(4, 1),
        ),
        (1, 5),
    ),
    "residual": lambda: (
        dgn(
            Linear(3, 5, bias=False),
            Mask(Linear(3, 5)),
            Linear(5, 5),
            Add(2),
            Mask(Linear(3, 5)),
            Linear(5, 5, bias=False),
            Add(3),
            Linear(5, 1),
        ),
        (3,),
    ),
    "a fixed factor": lambda: (
        dgn(
            Linear(3, 5, bias=False),
            Mask(Linear(3, 5)),
            Linear(5, 5),
            Add(2, 3.0),
            Mask(Linear(3, 5)),
            Linear(5, 1),
        ),
        (3,),
    ),
    "norm": lambda: (
        dgn(Linear(3, 6), Mask(Linear(3, 6)), BatchNorm1d(6, affine=True), Linear(6, 1)),
        (3,),
    ),
}


def rows(shape, n):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(2)).double()


def drawn(module, variances):
    """Fresh weights of the value layers, in place of the old; returns the parameters."""
    found = []
    for name, layer in module.named_modules():
        chosen = next((v for key, v in variances.items() if key.startswith(name) and name), None)
        if chosen is None or "feature" in name or not hasattr(layer, "weight"):
            continue
        nn.init.normal_(layer.weight, 0, chosen.weight**0.5)
        found.append(layer.weight)
        if layer.bias is not None:
            nn.init.normal_(layer.bias, 0, chosen.bias**0.5)
            found.append(layer.bias)
    return found


def sampled(module, X, variances):
    """Means over draws and their standard errors: of f f', and of output 0's tangent kernel."""
    products, tangents = [], []
    module = copy.deepcopy(module)
    for _ in range(DRAWS):
        parameters = drawn(module, variances)
        f = module(X)[:, 0]
        products.append(torch.outer(f, f).detach())
        grads = [torch.autograd.grad(v, parameters, retain_graph=True) for v in f]
        J = torch.stack([torch.cat([g.flatten() for g in gs]) for gs in grads])
        tangents.append(J @ J.T)
    return [
        (t.mean(0).numpy(), (t.std(0) / DRAWS**0.5).numpy())
        for t in (torch.stack(products), torch.stack(tangents))
    ]


@pytest.mark.parametrize("name", CASES)
def test_monte_carlo_agrees_within_three_standard_errors(name):
    module, shape = CASES[name]()
    X = rows(shape, 3)
    net = gw.read(module, X)
    layers = expected_kernel(net, X).variances
    chosen = {n: Variance(0.2 + 0.1 * k, 0.3 - 0.02 * k) for k, n in enumerate(layers)}
    exact = [f(net, X, variances=chosen).values for f in (expected_kernel, expected_tangent_kernel)]
    torch.manual_seed(11)
    for found, (mean, error) in zip(exact, sampled(module, X, chosen), strict=True):
        assert (np.abs(found - mean) <= 3 * error + 1e-12).all()
        assert (np.abs(found - mean) > 0).any()
        assert (np.abs(1.5 * found - mean) > 3 * error).any()  # it can fail


def test_without_biases_the_papers_factors_come_out():
    """E[f f'] = H prod s_l², E[tangent kernel] = H sum_l prod_{k != l} s_k²: d s^{2(d-1)} H."""
    values = [Linear(3, 4, bias=False), Linear(4, 5, bias=False), Linear(5, 1, bias=False)]
    module = dgn(values[0], Mask(Linear(3, 4)), values[1], Mask(Linear(3, 5)), values[2])
    X = rows((3,), 4)
    net = gw.read(module, X)
    H = npk(net, X).values
    names = list(expected_kernel(net, X).variances)
    a, b, c = 0.5, 0.25, 2.0
    chosen = dict(zip(names, (a, b, c), strict=True))
    assert np.allclose(expected_kernel(net, X, variances=chosen).values, a * b * c * H)
    tangent = expected_tangent_kernel(net, X, variances=chosen).values
    assert np.allclose(tangent, (a * b + b * c + a * c) * H)
    same = expected_tangent_kernel(net, X, variances=dict.fromkeys(names, 0.3)).values
    assert np.allclose(same, 3 * 0.3**2 * H)


def test_skipped_sub_networks_have_each_its_own_factor():
    """K -> sum over sub-networks J of n_J s^{2(n_J - 1)} H_J."""
    stem, body, head = (Linear(a, b, bias=False) for a, b in ((3, 4), (4, 4), (4, 1)))
    module = dgn(stem, Mask(Linear(3, 4)), body, Add(1), Mask(Linear(3, 4)), head)
    X = rows((3,), 4)
    net = gw.read(module, X)
    g, h = (m.flatten(1).double() for m in masks(net, X))
    x = X @ X.T
    short, long = x * ((g * h) @ (g * h).T), x * (g @ g.T) * (h @ h.T)
    s = 0.4
    names = dict.fromkeys(expected_kernel(net, X).variances, s)
    expected = 2 * s * short + 3 * s**2 * long
    assert np.allclose(expected_tangent_kernel(net, X, variances=names).values, expected)


def test_fan_in_is_the_normalised_kernel_and_network_measures():
    module, shape = CASES["convolution and mean"]()
    X, Y = rows(shape, 3), rows(shape, 2)
    net = gw.read(module, X)
    found = expected_kernel(net, X, Y)
    assert np.allclose(found.values, npk(net, X, Y, scale="normalised").values)
    own = expected_kernel(net, X, Y, variances="network", batch=2)
    conv = module.layers[0]
    measured = next(iter(own.variances.values()))
    assert measured.weight == pytest.approx(float((conv.weight.detach() ** 2).mean()), rel=1e-12)
    assert measured.bias == pytest.approx(float((conv.bias.detach() ** 2).mean()), rel=1e-12)
    assert "E[f f'] of 3 x 2 rows under fixed gates" in str(own)
    assert own.error < 1e-12


@pytest.mark.parametrize("size", [1e200, 1e-200])
@pytest.mark.parametrize("kernel", [expected_kernel, expected_tangent_kernel])
def test_variances_beyond_the_numbers_are_refused(size, kernel):
    torch.manual_seed(0)
    net = gw.read(nn.Sequential(Linear(4, 6), nn.ReLU(), Linear(6, 3)))
    X = rows((4,), 5)
    for bias in (0.0, size):
        chosen = {"0": Variance(size, bias), "2": Variance(size, bias)}
        if size < 1 and kernel is expected_tangent_kernel:  # one factor is left: it is held
            assert (kernel(net, X, variances=chosen).values.diagonal() > 0).all()
            continue
        if size < 1 and bias:  # the last bias is what is left
            assert np.allclose(kernel(net, X, variances=chosen).values, bias)
            continue
        with pytest.raises(DataError, match="leaves what float64 holds: variance times fan-in"):
            kernel(net, X, variances=chosen)
    held = {"0": Variance(1e100, 0), "2": Variance(1e-100, 0)}
    unit = dict.fromkeys(held, Variance(1.0, 0.0))
    found = expected_kernel(net, X, variances=held).values
    assert np.allclose(found, expected_kernel(net, X, variances=unit).values)


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "4"])
def test_a_batch_is_a_number_of_rows(batch):
    module, shape = CASES["residual"]()
    X = rows(shape, 3)
    net = gw.read(module, X)
    for kernel in (npk, expected_kernel, expected_tangent_kernel):
        with pytest.raises(DataError, match="batch must be a whole number, at least 1, got"):
            kernel(net, X, batch=batch)
        assert np.allclose(kernel(net, X, batch=np.int64(2)).values, kernel(net, X).values)


def test_bad_variances_are_refused():
    module, shape = CASES["fully connected"]()
    X = rows(shape, 2)
    net = gw.read(module, X)
    names = list(expected_kernel(net, X).variances)
    with pytest.raises(DataError, match="variances must be 'fan_in', 'network' or a mapping"):
        expected_kernel(net, X, variances="he")
    with pytest.raises(DataError, match=r"it does not name .* and it names also head"):
        expected_kernel(net, X, variances={"head": 1.0})
    with pytest.raises(DataError, match="must be finite and not negative, got -1"):
        expected_kernel(net, X, variances=dict.fromkeys(names, -1))
