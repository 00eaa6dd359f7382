"""Training by repeated linear regression: targets walk back, each layer is then least squares.

After "Using Linear Regression for Iteratively Training Neural Networks" (arXiv:2307.05189): what
goes into a unit is linear in its layer's weights, so with the ideal inputs known, a layer is one
regression. Here a row counts by the square of the activation's slope at it; so a round that
changes nothing is one where the gradient is zero, though none is taken.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.errors import DataError, ModelError, UnsupportedLayer
from gatewise.models.batches import checked_outputs, prepared
from gatewise.models.checks import is_number, whole


@dataclass(frozen=True)
class Regressions:
    """losses: the mean squared error before, and after each round; it need not fall in each.

    kept: the best round (0: the start), whose weights stay.
    """

    losses: tuple[float, ...]
    kept: int

    def __str__(self) -> str:
        return (
            f"{len(self.losses) - 1} rounds of regressions: mean squared error "
            f"{self.losses[0]:.4g} before, {self.losses[self.kept]:.4g} in round {self.kept}"
        )


def fit_by_regressions(
    module: nn.Sequential,
    X: Any,
    y: Any,
    *,
    rounds: int = 100,
    ridge: float = 1e-4,
    step: float = 1.0,
) -> Regressions:
    """Train a small Sequential of Linear and LeakyReLU layers in place, without gradients.

    A round goes from the last layer to the first: each Linear is regressed on what its outputs
    lack; its inputs should then move by `step` of the least change that would make up for the
    rest, and the activation is undone, which says what the layer before lacks. `ridge` times the
    squared change of the weights is added to the mean squared error of each regression.
    X (rows, inputs), y (rows[, outputs]) numbers. Activations have to be invertible: LeakyReLU
    with a slope that is not small (0.5, say: a unit's error is divided by it), or none at all.
    Raises UnsupportedLayer for other layers, DataError for rows, ModelError for settings.
    """
    _require_settings(rounds, ridge, step)
    layers = _layers(module)
    data = prepared(X, y, module)
    if data.task == "labels":
        raise DataError("y holds whole numbers, which are labels: regressions need real numbers")
    checked_outputs(module, data)
    work = [(copy.deepcopy(linear).double(), slope) for linear, slope in layers]
    x, t = data.X.double(), data.y.double()
    losses, best = [_loss(work, x, t)], copy.deepcopy(work)
    for _ in range(rounds):
        _round(work, x, t, ridge, step)
        losses.append(_loss(work, x, t))
        if not math.isfinite(losses[-1]):
            break
        if losses[-1] == min(losses):
            best = copy.deepcopy(work)
    for (linear, _), (found, _) in zip(layers, best, strict=True):
        linear.load_state_dict(found.state_dict())
    return Regressions(tuple(losses), losses.index(min(losses)))


def _require_settings(rounds: int, ridge: float, step: float) -> None:
    if not whole(rounds, 1):
        raise ModelError(f"`rounds` is a whole number from 1, and it is {rounds!r}")
    for name, value, most in (("ridge", ridge, float("inf")), ("step", step, 1.0)):
        if not (is_number(value) and 0 < value <= most):
            upto = " up to 1" if most == 1 else ""
            raise ModelError(f"`{name}` is a number above 0{upto}, and it is {value!r}")


Stack = list[tuple[nn.Linear, float]]  # a layer, and the slope below 0 of what follows it


def _layers(module: nn.Sequential) -> Stack:
    """The Linear layers, each with its activation's slope (1: none)."""
    found: Stack = []
    for i, layer in enumerate(module if isinstance(module, nn.Sequential) else [module]):
        if isinstance(layer, nn.Linear):
            found.append((layer, 1.0))
        elif isinstance(layer, nn.LeakyReLU) and found and layer.negative_slope > 0:
            found[-1] = (found[-1][0], found[-1][1] * layer.negative_slope)
        else:
            raise UnsupportedLayer(
                f"layer {i} is {layer}: repeated regression takes a Sequential of Linear and "
                f"LeakyReLU of positive slope, which can be undone"
            )
    if not found or found[-1][1] != 1.0:
        raise UnsupportedLayer("the last layer is to be Linear: its outputs are regressed on y")
    return found


@torch.no_grad()
def _round(work: Stack, x: Tensor, t: Tensor, ridge: float, step: float) -> None:
    """One sweep back, and the read-out once more on what has become of its inputs."""
    inputs, rest, bent = _inputs(work, x), t - _output(work, x), torch.ones_like(t)
    for k in reversed(range(len(work))):
        linear, h = work[k][0], inputs[k]
        left = rest - _regress(linear, h, rest, bent, ridge)
        if k:
            gram = linear.weight @ linear.weight.T
            gram.diagonal().add_(1e-9 * gram.diagonal().mean() + 1e-300)
            ideal = step * torch.linalg.solve(gram, left.T).T @ linear.weight
            slope = work[k - 1][1]
            before = torch.where(h < 0, h / slope, h)
            wanted = h + ideal
            rest = torch.where(wanted < 0, wanted / slope, wanted) - before
            bent = torch.where(h < 0, slope, 1.0)
    h = _inputs(work, x)[-1]
    _regress(work[-1][0], h, t - work[-1][0](h), torch.ones_like(t), ridge)


def _inputs(work: Stack, x: Tensor) -> list[Tensor]:
    """What goes into each Linear."""
    found = [x]
    for linear, slope in work[:-1]:
        z = linear(found[-1])
        found.append(torch.where(z < 0, slope * z, z))
    return found


def _regress(linear: nn.Linear, h: Tensor, rest: Tensor, bent: Tensor, ridge: float) -> Tensor:
    """Changes weight and bias by d with the least mean (bent (rest - d'h))^2 + ridge |d|^2.

    A unit at a time: rest and bent are (rows, units). Returns d'h.
    """
    columns = h if linear.bias is None else torch.cat([h, torch.ones_like(h[:, :1])], 1)
    weight = bent.square() / len(h)
    gram = torch.einsum("ni,nu,nj->uij", columns, weight, columns)
    gram.diagonal(dim1=1, dim2=2).add_(ridge)
    change = torch.linalg.solve(gram, torch.einsum("ni,nu->ui", columns, weight * rest))
    width = h.shape[1]
    linear.weight.add_(change[:, :width])
    if linear.bias is not None:
        linear.bias.add_(change[:, width])
    effect: Tensor = columns @ change.T
    return effect


def _output(work: Stack, x: Tensor) -> Tensor:
    found: Tensor = work[-1][0](_inputs(work, x)[-1])
    return found


@torch.no_grad()
def _loss(work: Stack, x: Tensor, t: Tensor) -> float:
    return float((_output(work, x) - t).square().mean())
