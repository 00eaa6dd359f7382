"""Layers and modules with products that the tests of this room share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gatewise.bilinear.layer import BilinearLayer

F64 = torch.float64


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def layer(d: int = 6, h: int = 5, o: int = 3, *, seed: int = 0, biased: bool = False, **more):
    """A random layer; biased: every bias and a skip."""
    parts = {"W": random(h, d, seed=seed), "V": random(h, d, seed=seed + 1)}
    parts["P"] = random(o, h, seed=seed + 2)
    if biased:
        parts |= {"w_bias": random(h, seed=seed + 3), "v_bias": random(h, seed=seed + 4)}
        parts |= {"skip": random(o, d, seed=seed + 5), "bias": random(o, seed=seed + 6)}
    return BilinearLayer.from_weights(**parts, **more)


class Chunked(nn.Module):
    """A GLU without activation: both sides are halves of one Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.out = nn.Linear(5, 14), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.both(x).chunk(2, -1)
        return self.out(a * b)


class Squared(nn.Module):
    """Squared units."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.first(x) ** 2)


class Stream(nn.Module):
    """Two bilinear blocks on a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 6), nn.Linear(6, 3)
        self.l1, self.r1, self.p1 = nn.Linear(6, 7), nn.Linear(6, 7), nn.Linear(7, 6)
        self.l2, self.r2, self.p2 = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.p1(self.l1(x) * self.r1(x))
        x = x + self.p2(self.l2(x) * self.r2(x))
        return self.head(x)


class Three(nn.Module):
    """A product of three."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * self.b(x) * self.c(x)


class AfterRelu(nn.Module):
    """A product in which one side went through a ReLU, the other did not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.a(x)) * self.b(x)


class BehindRelu(nn.Module):
    """Both sides read what a ReLU gave: a bilinear layer of that value."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.a(x) * self.b(x)
