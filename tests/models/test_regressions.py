"""Layers learnt by regression: what has to hold in one round, and that nets learn what they can."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import gatewise as gw
from gatewise.errors import BadRows, DataError, ModelError, UnsupportedLayer, WrongShape
from gatewise.models import fit_by_regressions

F64 = torch.float64


def net(*sizes: int, slope: float = 0.5, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m), nn.LeakyReLU(slope)]
    return nn.Sequential(*layers[:-1]).double()


def square(count: int = 200, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, generator=draw, dtype=F64) * 2 - 1


def test_without_activations_one_round_is_least_squares():
    x = square()
    y = x @ torch.tensor([[1.0], [-2.0]], dtype=F64) + 0.3 + 0.1 * square(200, 1)[:, :1]
    module = nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 4), nn.Linear(4, 1)).double()
    found = fit_by_regressions(module, x, y, rounds=1, ridge=1e-10)
    columns = np.hstack([x.numpy(), np.ones((200, 1))])
    best = columns @ np.linalg.lstsq(columns, y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(module(x).detach().numpy(), best, atol=1e-6)
    assert found.losses[1] == pytest.approx(float(np.square(best - y.numpy()).mean()))


def test_a_single_layer_is_ridge_regression_from_where_it_starts():
    x, y = square(), square(200, 1)[:, :1]
    module = nn.Sequential(nn.Linear(2, 1)).double()
    start = torch.cat([module[0].weight[0], module[0].bias]).detach().numpy()
    fit_by_regressions(module, x, y, rounds=1, ridge=0.1)
    # a second regression follows on the read-out, from where the first one ended
    columns = np.hstack([x.numpy(), np.ones((200, 1))])
    wall = np.sqrt(0.1 * 200) * np.eye(3)
    for _ in range(2):
        goal = np.concatenate([y.numpy()[:, 0], np.sqrt(0.1 * 200) * start])
        start = np.linalg.lstsq(np.vstack([columns, wall]), goal, rcond=None)[0]
    found = torch.cat([module[0].weight[0], module[0].bias]).detach().numpy()
    np.testing.assert_allclose(found, start, rtol=1e-10)


def test_a_small_change_goes_down_the_gradient_of_every_layer():
    """With a large ridge a round is a gradient step, the first layer's over |w|^2 of the next."""
    x, y, module = square(), square(200, 1)[:, :1], net(2, 5, 1)
    loss = nn.functional.mse_loss(module(x), y)
    first, bias, last, _ = torch.autograd.grad(loss, list(module.parameters()))
    old = [p.detach().clone() for p in module.parameters()]
    fit_by_regressions(module, x, y, rounds=1, ridge=1e4, step=1e-5)
    new = list(module.parameters())
    size = 1e-5 / (2e4 * float(old[2].square().sum()))
    torch.testing.assert_close(new[0].detach() - old[0], -size * first, rtol=0.01, atol=1e-13)
    torch.testing.assert_close(new[1].detach() - old[1], -size * bias, rtol=0.01, atol=1e-13)
    twice = -2 * last / 2e4  # the read-out is regressed again at the end
    torch.testing.assert_close(new[2].detach() - old[2], twice, rtol=0.01, atol=1e-8)


def test_hidden_layers_learn_what_a_read_out_cannot():
    """Half the error of the best read-out on the layers as they were drawn; then it is read."""
    x = square()
    y = x[:, :1] * x[:, 1:]
    module = net(2, 8, 8, 1)
    with torch.no_grad():
        features = torch.cat([module[:-1](x), torch.ones(200, 1)], 1)
    readout = features @ torch.linalg.lstsq(features, y).solution
    found = fit_by_regressions(module, x, y)
    loss = float((module(x) - y).square().mean().detach())
    assert loss == pytest.approx(found.losses[found.kept]) == pytest.approx(min(found.losses))
    assert loss < 0.1 * float(y.var()) and loss < 0.5 * float((readout - y).square().mean())
    network = gw.read(module, torch.zeros(1, 2))
    torch.testing.assert_close(network(x), module(x).detach())
    assert str(found).startswith("100 rounds of regressions: mean squared error ")


def test_float32_modules_and_several_outputs_are_trained_in_place():
    x = square()
    y = torch.cat([x[:, :1].abs(), (x[:, 1:] - x[:, :1]).abs()], 1)
    module = net(2, 10, 2).float()
    found = fit_by_regressions(module, x.float(), y, rounds=20)
    assert module[0].weight.dtype == torch.float32
    loss = float((module(x.float()) - y).square().mean().detach())
    assert loss == pytest.approx(found.losses[found.kept], rel=1e-3)
    assert loss < 0.3 * found.losses[0]


def test_what_cannot_be_undone_or_used_is_refused():
    x, y = square(10), square(10, 1)[:, :1]
    for layers, message in (
        (
            [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)],
            r"layer 1 is ReLU\(\): repeated regression",
        ),
        ([nn.Linear(2, 3), nn.LeakyReLU(0.0), nn.Linear(3, 1)], "layer 1 is LeakyReLU"),
        ([nn.LeakyReLU(), nn.Linear(2, 1)], "layer 0 is LeakyReLU"),
        ([nn.Linear(2, 1), nn.LeakyReLU()], "the last layer is to be Linear"),
    ):
        with pytest.raises(UnsupportedLayer, match=message):
            fit_by_regressions(nn.Sequential(*layers), x, y)
    for settings, message in (
        ({"rounds": 0}, "`rounds` is a whole number from 1, and it is 0"),
        ({"ridge": 0.0}, "`ridge` is a number above 0, and it is 0.0"),
        ({"step": 1.5}, "`step` is a number above 0 up to 1, and it is 1.5"),
    ):
        with pytest.raises(ModelError, match=message):
            fit_by_regressions(net(2, 3, 1), x, y, **settings)
    with pytest.raises(DataError, match="y holds whole numbers, which are labels"):
        fit_by_regressions(net(2, 3, 1), x, (y > 0)[:, 0].long())
    for inputs, targets, message in (
        (x, square(10), "y has 2 numbers a row and the module 1 outputs"),
        (square(10)[:, :1], y, "the module does not take rows of shape"),
    ):
        with pytest.raises(WrongShape, match=message):
            fit_by_regressions(net(2, 3, 1), inputs, targets)
    with pytest.raises(BadRows, match="y holds NaN or infinity in rows 3"):
        fit_by_regressions(net(2, 3, 1), x, y.index_fill(0, torch.tensor([3]), torch.nan))
