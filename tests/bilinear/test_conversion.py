"""A block's quadratic is the best one: against every monomial, closed forms, and exact cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gatewise as gw
from bilinear.layers import F64, random
from gatewise.bilinear import bilinear_layer, bilinear_layers, fine_tune, to_bilinear
from gatewise.bilinear.conversion.blocks import blocks_of
from gatewise.bilinear.conversion.gaussian import hermite
from gatewise.bilinear.conversion.moments import Moments
from gatewise.errors import DataError, Diverged, NotBilinear
from gatewise.ir.network import fold
from oracles import conversion as oracle


class Units(nn.Module):
    """out(act(v x)), or out(act(v x) * w x) of a GLU."""

    def __init__(self, act, d: int = 4, h: int = 6, *, glu: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.v, self.out, self.act = nn.Linear(d, h), nn.Linear(h, 3), act
        self.w = nn.Linear(d, h) if glu else None
        self.double()

    def forward(self, x):
        g = self.act(self.v(x))
        return self.out(g if self.w is None else g * self.w(x))


def read(act, **more):
    module = Units(act, **more)
    return gw.read(module, random(3, 4))


def correlated(n: int) -> torch.Tensor:
    """Gaussian rows with a mean and a covariance of their own."""
    return random(n, 4, seed=1) @ random(4, 4, seed=2) + random(4, seed=5)


def spelt(y):
    return 0.5 * y * (1 + torch.tanh(0.7978845608028654 * (y + 0.044715 * y**3)))


ACTS = {"relu": torch.relu, "gelu": F.gelu, "tanh": torch.tanh, "relu2": lambda y: F.relu(y) ** 2}


@pytest.mark.parametrize(("act", "glu"), [*((a, False) for a in ACTS), ("relu", True)])
def test_the_closed_form_is_the_best_of_all_quadratics(act, glu):
    net, X = read(ACTS[act], glu=glu), correlated(10_000)
    made = to_bilinear(net, X, blocks=None)
    f, g = (n(X).numpy() for n in (net, made.network))
    best = oracle.left_over(f, oracle.best_on_rows(oracle.every_monomial(X.numpy()), f))
    ours = oracle.left_over(f, g)
    # fitted to these rows, all monomials are a hair ahead of the Gaussian optimum
    assert best <= ours <= best * 1.03
    assert best > 1e-3
    assert made.fitted.r2 == pytest.approx(1 - ours)


def test_swiglu_is_one_product_a_unit_and_a_straight_path():
    net, X = read(F.silu, glu=True), correlated(10_000)
    made = to_bilinear(net, X)
    layer = bilinear_layer(made.network)
    assert (layer.hidden, layer.inputs, layer.outputs) == (6, 4, 3)
    torch.testing.assert_close(layer(X[:50]), made.network(X[:50]))
    v, w = (net.node(name).kind for name in ("v", "w"))
    y, z = (X @ k.weights[0].T + k.bias for k in (v, w))
    value = F.silu(y) * z
    best = oracle.best_on_rows(oracle.every_monomial(X.numpy()), value.numpy())
    least = oracle.left_over(value.numpy(), best)
    assert least <= 1 - made.fitted.blocks[0].r2_units <= least * 1.03


def test_moments_of_relu_are_those_of_stein_even_far_from_the_kink():
    m = torch.tensor([0.0, 0.3, -1.0, 5.0, -8.0, 40.0], dtype=F64)
    s = torch.tensor([1.0, 0.01, 3.0, 30.0, 1.0, 0.5], dtype=F64)
    block = blocks_of(read(torch.relu))[0]
    found = hermite(block, Moments(m, s, 0 * m, 0 * m))
    want = oracle.relu_moments(m.numpy(), s.numpy())
    np.testing.assert_allclose(found.g.numpy(), want, rtol=1e-11, atol=1e-14)
    assert found.error < 1e-13


@pytest.mark.parametrize(
    ("act", "glu"),
    [
        (lambda y: y.abs() * y.abs(), False),
        (lambda y: F.relu(y) ** 2 + F.relu(-y) ** 2 + 3 * y, False),
        (lambda y: F.silu(y) - F.silu(-y), False),
        (lambda y: F.leaky_relu(y, 1.0), True),
    ],
)
def test_what_is_quadratic_converts_exactly_from_two_rows(act, glu):
    net = read(act, glu=glu)
    made = to_bilinear(net, random(2, 4))
    X = 3 * random(50, 4, seed=7)
    torch.testing.assert_close(made.network(X), net(X), rtol=1e-9, atol=1e-9)


def test_a_cube_keeps_what_hermite_keeps():
    """(m + s t)³ = m³ + 3 m s² + (3 m² s + 3 s³) t + 3 m s² He_2 + s³ He_3, the last one lost."""
    net, X = read(lambda y: y**3), correlated(500)
    made = to_bilinear(net, X)
    y = X @ net.node("v").kind.weights[0].T + net.node("v").kind.bias
    m, s = y.mean(0), y.std(0, unbiased=False)
    t = (y - m) / s
    cube = m**3 + 3 * m * s**2 + (3 * m**2 * s + 3 * s**3) * t + 3 * m * s**2 * (t * t - 1)
    out = net.node("out").kind
    torch.testing.assert_close(made.network(X), cube @ out.weights[0].T + out.bias)


@pytest.mark.parametrize("glu", [False, True])
def test_data_fits_are_each_unit_s_least_squares(glu):
    net = read(F.silu, glu=glu)
    X = random(300, 4, seed=4) ** 3  # far from Gaussian
    made = to_bilinear(net, X, fit="data", batch=64)
    v = net.node("v").kind
    y = (X @ v.weights[0].T + v.bias).numpy()
    name = made.blocks[0].name
    value, z = F.silu(torch.tensor(y)).numpy(), None
    if glu:
        z = (X @ net.node("w").kind.weights[0].T + net.node("w").kind.bias).numpy()
        value = value * z
    fits = []
    for j in range(6):
        columns = [np.ones(300), y[:, j], y[:, j] ** 2]
        columns += [] if z is None else [z[:, j], y[:, j] * z[:, j]]
        fits.append(oracle.best_on_rows(np.column_stack(columns), value[:, j]))
    off = oracle.left_over(value, np.column_stack(fits))
    assert made.fitted.blocks[0].name == name
    assert 1 - made.fitted.blocks[0].r2_units == pytest.approx(off, rel=1e-6)
    assert made.fitted.r2 > to_bilinear(net, X).fitted.r2


def test_spelt_out_activations_convert_like_their_names():
    X = correlated(200)
    pairs = [
        (spelt, lambda y: F.gelu(y, approximate="tanh")),
        (lambda y: 0.5 * y * (1 + torch.erf(y / 2**0.5)), F.gelu),
        (lambda y: y * torch.sigmoid(y), F.silu),
        (lambda y: y * (y > 0), torch.relu),
    ]
    for long, short in pairs:
        a, b = (to_bilinear(read(act), X) for act in (long, short))
        assert len(a.blocks) == 1
        torch.testing.assert_close(a.network(X), b.network(X), rtol=1e-6, atol=1e-7)


def test_refitted_read_outs_are_least_squares_too():
    net, X = read(torch.relu, h=5), correlated(400)
    made = to_bilinear(net, X, refit=True)
    plain = to_bilinear(net, X)
    node = plain.network.node(plain.blocks[0].name)
    units = fold(plain.network, X, lambda n, xs: n.kind(*xs), keep=(node.name,))[node.name]
    features = np.column_stack([np.ones(400), units.numpy()])
    want = oracle.best_on_rows(features, net(X).numpy())
    np.testing.assert_allclose(made.network(X).numpy(), want, atol=1e-4)
    assert made.fitted.r2 > plain.fitted.r2


def test_fine_tuning_brings_the_outputs_nearer_and_the_module_is_the_network():
    net, X = read(torch.relu), random(600, 4, seed=8).abs() - 0.5  # not Gaussian
    made = to_bilinear(net, X[:300])
    module = made.module()
    torch.testing.assert_close(module(X), made.network(X), rtol=1e-12, atol=1e-12)
    tuned = fine_tune(made, X[:300], epochs=8, rows=32, X_test=X[300:])
    before = to_bilinear(net, X[:300], X_test=X[300:])
    assert 1 - tuned.fitted.r2 < 0.85 * (1 - before.fitted.r2)
    assert tuned.held.r2 > before.held.r2
    again = fine_tune(made, X[:300], epochs=8, rows=32, X_test=X[300:])
    assert again.held.r2 == tuned.held.r2  # the same seed
    assert bilinear_layer(tuned.network).hidden == 6
    labels = net(X[:300]).argmax(1)
    taught = fine_tune(made, X[:300], labels, towards="labels", epochs=8, rows=32)
    assert taught.fitted.score[0] == 1
    loss = [float(F.cross_entropy(n(X[:300]), labels)) for n in (made.network, taught.network)]
    assert loss[1] < loss[0]


def test_a_read_module_can_be_read_again():
    net, X = read(F.silu, glu=True), correlated(30)
    made = to_bilinear(net, X)
    again = gw.read(made.module(), X[:3])
    torch.testing.assert_close(again(X), made.network(X), rtol=1e-10, atol=1e-10)
    assert len(bilinear_layers(again)) == 1


def test_a_unit_that_never_moves_is_said_to_be_a_constant():
    module = Units(torch.relu)
    with torch.no_grad():
        module.v.weight[0] = 0
    net, X = gw.read(module, random(3, 4)), correlated(100)
    made = to_bilinear(net, X)
    assert "1 unit of 'relu' read one value on every row" in str(made)
    y0 = float(module.v.bias[0].detach().relu())
    layer = bilinear_layer(made.network)
    assert not layer.W[0].any()
    assert y0 >= 0
    assert bool(made.network(X).isfinite().all())
    fitted = to_bilinear(net, X, fit="data")
    assert "1 unit of 'relu' read one value on every row" in str(fitted)
    assert fitted.fitted.r2 > made.fitted.r2
    same = X[:1].expand(9, -1)
    for fit in ("gaussian", "data"):
        nearly = to_bilinear(net, same, fit=fit, refit=True).network(same)
        torch.testing.assert_close(nearly, net(same), atol=1e-12, rtol=0)


def test_a_network_that_moves_by_rounding_alone_has_nothing_to_explain():
    """R2 of a spread below rounding would be a share of noise: 1.0000, say, of nothing."""
    module, X = Units(torch.relu), correlated(100)
    for scale, constant in ((1e-3, False), (1e-15, True)):
        with torch.no_grad():
            module.out.weight.copy_(scale * random(3, 6))
            module.out.bias.fill_(1.0)
        made = to_bilinear(gw.read(module, random(3, 4)), X, fit="data", refit=True)
        assert math.isnan(made.fitted.r2) == constant
        said = "outputs: constant but for rounding, so there is nothing to explain"
        assert (said in str(made)) == constant and ("outputs: R2 0.9" in str(made)) != constant


def test_settings_and_divergence_are_refused():
    net, X = read(torch.relu), correlated(50)
    made = to_bilinear(net, X)
    with pytest.raises(DataError, match="fit must be 'gaussian' or 'data', got 'ols'"):
        to_bilinear(net, X, fit="ols")
    with pytest.raises(DataError, match="refit must be True or False, got 'yes'"):
        to_bilinear(net, X, refit="yes")
    with pytest.raises(DataError, match=r"give a Network, as gw\.read"):
        to_bilinear(Units(torch.relu), X)
    with pytest.raises(DataError, match="towards must be 'outputs' or 'labels'"):
        fine_tune(made, X, towards="truth")
    with pytest.raises(DataError, match="towards='labels' needs y"):
        fine_tune(made, X, towards="labels")
    with pytest.raises(DataError, match="rate must be a number above 0, got -1"):
        fine_tune(made, X, rate=-1)
    with pytest.raises(DataError, match="seed must be a whole number, at least 0, got 'a'"):
        fine_tune(made, X, seed="a")
    with pytest.raises(DataError, match="give what to_bilinear made, a Converted; got a Network"):
        fine_tune(made.network, X)
    assert fine_tune(made, X, rate=np.float32(1e-3), epochs=1).fitted.rows == 50
    assert fine_tune(made, X, rate=10.0).fitted.r2 >= made.fitted.r2 - 1e-9  # the best is kept
    with pytest.raises(Diverged, match="in epoch 1: lower the rate"):
        fine_tune(made, X, rate=1e200, rows=5)
    with pytest.raises(NotBilinear, match=r"node 'reciprocal'.* has no mean under a Gaussian"):
        to_bilinear(read(lambda y: 1 / y), X)
    with pytest.raises(DataError, match=r"node 'log'.* gives NaN or infinity on the rows"):
        to_bilinear(read(torch.log), X, fit="data")
