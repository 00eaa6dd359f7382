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
