"""ReLU networks as users have them: torch modules that were read, so that they can travel."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

import gatewise as gw


def read(*sizes: int, seed: int = 0) -> gw.Network:
    """A float64 MLP with torch's default initialisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        return gw.read(nn.Sequential(*layers[:-1]).double(), torch.zeros(1, sizes[0]).double())


def doubtful(network: gw.Network, x: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """x with the first of these rows moved onto a neuron's boundary, where rounding decides, and
    the others made equal to it."""
    weight, bias = network.nodes[0].kind.weights[0], network.nodes[0].kind.bias
    row = x[rows[0]] - weight[0] * (weight[0] @ x[rows[0]] + bias[0]) / (weight[0] @ weight[0])
    return x.index_put((torch.tensor(rows),), row)
