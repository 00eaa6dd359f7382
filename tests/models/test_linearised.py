"""A network linear in its weights: the Jacobian by autograd, the solution by least squares."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from gatewise.errors import DataError, ModelError, UnsupportedLayer, WrongShape
from gatewise.models import Linearised, linearise_weights

F64 = torch.float64


def net(*sizes: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


def rows(count: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, d, dtype=F64, generator=torch.Generator().manual_seed(seed))


def jacobian(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(rows x outputs, weights), one backward pass an output."""
    params = list(module.parameters())
    found = []
    for f in module(x).reshape(-1):
        grads = torch.autograd.grad(f, params, retain_graph=True)
        found.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(found)


@pytest.mark.parametrize("count", [60, 9])  # more rows than weights, and fewer: both solutions
def test_the_change_is_ridge_regression_on_the_jacobian(count):
    module, x, ridge = net(3, 4, 2), rows(count, 3), 0.01
    y = rows(count, 2, seed=1)
    found = linearise_weights(module, x, y, ridge=ridge)
    J, r = jacobian(module, x), (y - module(x).detach()).reshape(-1)
    wall = np.sqrt(ridge * count) * np.eye(J.shape[1])
    stacked = np.vstack([J.numpy(), wall]), np.concatenate([r.numpy(), np.zeros(J.shape[1])])
    expected = torch.from_numpy(np.linalg.lstsq(*stacked, rcond=None)[0])
    got = torch.cat([found.delta[n].flatten() for n, _ in module.named_parameters()])
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)
    new = rows(5, 3, seed=2)
    line = module(new) + (jacobian(module, new) @ expected).reshape(5, 2)
    torch.testing.assert_close(found(new), line.detach(), rtol=1e-8, atol=1e-10)
    assert found.after == pytest.approx(float((found(x) - y).square().mean()))
    assert found.before == pytest.approx(float(r.square().mean())) and found.after < found.before


def test_the_read_out_is_linear_already():
    """Weights of the last layer alone: least squares on the features, in the network itself."""
    module, x = net(2, 6, 1), rows(50, 2)
    y = torch.sin(2 * x[:, 0]) + x[:, 1]
    found = linearise_weights(module, x, y, ridge=1e-12, weights="readout")
    assert list(found.delta) == ["2.weight", "2.bias"]
    features = torch.cat([module[:2](x), torch.ones(50, 1)], 1).detach()
    best = torch.linalg.lstsq(features, y[:, None]).solution
    torch.testing.assert_close(found(x), features @ best, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        for name, change in found.delta.items():
            module.get_parameter(name).add_(change)
    torch.testing.assert_close(found(x), module(x).detach())


def test_labels_are_one_hot_rows_and_the_module_is_left_as_it_was():
    module, x = net(2, 5, 3).float(), rows(40, 2).float()
    label = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    before = [p.clone() for p in module.parameters()]
    found = linearise_weights(module, x, label, weights=["2.weight", "2.bias"])
    hot = linearise_weights(module, x, torch.eye(3)[label], weights="readout")
    torch.testing.assert_close(found.delta["2.weight"], hot.delta["2.weight"])
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert module.training and isinstance(found, Linearised)
    right = (found(x.double()).argmax(1) == label).double().mean()
    assert right > (module(x).argmax(1) == label).double().mean()
    assert str(found).startswith("linear in 18 weights: mean squared error ")


def test_more_weights_fit_better_and_a_large_ridge_changes_nothing():
    module, x = net(3, 8, 1), rows(30, 3)
    y = (x[:, 0] * x[:, 1]).tanh()
    every, last = (linearise_weights(module, x, y, weights=w) for w in ("all", "readout"))
    assert every.after < last.after < last.before == every.before
    still = linearise_weights(module, x, y, ridge=1e9)
    torch.testing.assert_close(still(x), module(x).detach(), atol=1e-6, rtol=0)


def test_float32_rows_are_taken():
    x = rows(10, 2)
    made = linearise_weights(net(2, 3, 1), x, rows(10, 1))
    assert torch.allclose(made(x.float()), made(x), atol=1e-5) and made(x.float()).dtype == F64


def test_what_cannot_be_linearised_is_refused(monkeypatch):
    module, x, y = net(2, 3, 1), rows(10, 2), rows(10, 1)
    for settings, message in (
        ({"ridge": 0}, "`ridge` is positive, and it is 0"),
        ({"weights": "last"}, "`weights` is 'all', 'readout' or names of parameters, got 'last'"),
        ({"weights": 3}, "`weights` is 'all', 'readout' or names of parameters, got 3"),
        ({"weights": []}, r"got \[\]: they are 0.weight, 0.bias"),
    ):
        with pytest.raises(ModelError, match=message):
            linearise_weights(module, x, y, **settings)
    with pytest.raises(ModelError, match="`module` is a torch module, got a function"):
        linearise_weights(net, x, y)
    with pytest.raises(DataError, match="labels need an output a class, and the module has 1"):
        linearise_weights(module, x, (y[:, 0] > 0).long())
    with pytest.raises(WrongShape, match="y has 2 numbers a row and the module 1 outputs"):
        linearise_weights(module, x, rows(10, 2))
    with pytest.raises(UnsupportedLayer, match="no Linear layer to read out with"):
        linearise_weights(nn.Sequential(nn.Conv1d(1, 1, 2), nn.Flatten()).double(), x[:, None], y,
                          weights="readout")  # fmt: skip
    monkeypatch.setattr("gatewise.models.linearised.LARGEST", 100)
    with pytest.raises(DataError, match="Jacobian has 10 rows x outputs by 13 weights, more than"):
        linearise_weights(module, x, y)
