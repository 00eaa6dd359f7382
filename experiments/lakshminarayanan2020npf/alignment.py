"""Do gates turn towards the labels? nu_t = y' K^-1 y of MNIST's 4 against 7, while a net trains.

K = (X X') * prod_l (A_l A_l') over its trace, A_l the 0/1 gates of layer l on 100 images of each
digit: the smaller nu, the better the kernel of the gates fits the labels y = +-1. Published
protocol: five hidden layers of 100, no biases, weights +-sqrt(2 / 100), RMSprop at 1e-4, squared
error, batches of 64, 50 passes, nu every second pass, mean of 5 runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from mnist import images
from torch import Tensor, nn

import gatewise as gw
from gatewise import dual

DIGITS = (4, 7)


@dataclass(frozen=True, eq=False)
class Pair:
    """Rows in [0, 1] and labels +-1, to train and to test; the first images of each digit."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    shown_x: Tensor
    shown_y: Tensor


def load(shown: int, rows: int | None = None) -> Pair:
    """All rows of the two digits (or the first `rows`); `shown` training images of each for nu."""
    found = []
    for part in ("train", "t10k"):
        x, y = images(part)
        chosen = np.isin(y, DIGITS)
        labels = np.where(y[chosen] == DIGITS[0], 1.0, -1.0).astype(np.float32)
        found += [x[chosen].astype(np.float32) / 255, labels]
    x, y = found[:2]
    first = np.concatenate([np.flatnonzero(y == sign)[:shown] for sign in (1, -1)])
    kept = (x[:rows], y[:rows], *found[2:], x[first], y[first])
    return Pair(*(torch.from_numpy(np.ascontiguousarray(a)) for a in kept))


def network(width: int, hidden: int, seed: int) -> nn.Sequential:
    """784-width x hidden-1 ReLU without biases, every weight +-sqrt(2 / width)."""
    sizes = [784, *[width] * hidden, 1]
    draw = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layer = nn.Linear(a, b, bias=False)
        signs = torch.randint(0, 2, (b, a), generator=draw) * 2.0 - 1.0
        layer.weight.data.copy_(signs * math.sqrt(2 / width))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def nu(net: nn.Sequential, x: Tensor, y: Tensor) -> float:
    """y' (K / trace K)^-1 y of the gates' neural path kernel K."""
    kernel = dual.npk(gw.read(net), x.double().numpy())
    return float(dual.nu_alignment(kernel, y.numpy()))


def curve(c: dict, pair: Pair, seed: int) -> list[dict]:
    """nu and test accuracy before training and after every second pass."""
    net = network(c["width"], c["hidden"], seed)
    optimiser = torch.optim.RMSprop(net.parameters(), lr=c["lr"], alpha=0.9, eps=1e-7)
    draw = torch.Generator().manual_seed(seed)
    found = [point(net, pair, 0, seed)]
    for epoch in range(1, c["epochs"] + 1):
        for rows in torch.randperm(len(pair.x), generator=draw).split(c["batch"]):
            optimiser.zero_grad(set_to_none=True)
            (net(pair.x[rows])[:, 0] - pair.y[rows]).square().mean().backward()
            optimiser.step()
        if epoch % c["every"] == 0:
            found.append(point(net, pair, epoch, seed))
    return found


@torch.no_grad()
def point(net: nn.Sequential, pair: Pair, epoch: int, seed: int) -> dict:
    right = (net(pair.test_x)[:, 0] > 0) == (pair.test_y > 0)
    value = nu(net, pair.shown_x, pair.shown_y)
    return {"seed": seed, "pass": epoch, "nu": value, "test": 100 * float(right.float().mean())}
