"""The convolutional tables on CIFAR-10: VCONV, GCONV, and gates learnt step by step.

Four 3 x 3 convolutions, then flatten (VCONV) or a global average (GCONV), two dense layers and the
head; every layer but the head is gated. Networks, regimes and recipes as published; the small run
has fewer channels, images of 16 x 16 and fewer passes, so its accuracies are its own.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from mnist import folder
from torch import Tensor, nn

BETA, EPSILON = 4.0, 0.1
REGIMES = ("FRNPF-II", "FRNPF-DI", "DNPFL", "FLNPF", "ReLU")


class Stack(nn.Module):
    """Convolutions, a global average or flattening, dense layers, the head."""

    def __init__(self, c: dict, seed: int) -> None:
        super().__init__()
        channels, size = c["channels"], c["size"]
        inputs = [3, *channels[:-1]]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(inputs, channels, strict=True)
        )
        self.pooled = c["pooled"]
        first = channels[-1] if self.pooled else channels[-1] * size * size
        widths = [first, *c["dense"]]
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], 10)
        draw = torch.Generator().manual_seed(seed)
        for layer in (*self.convolutions, *self.dense, self.head):
            nn.init.xavier_uniform_(layer.weight, generator=draw)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, gate) -> Tensor:
        """gate(layer, q) -> the layer's output of its pre-activation q."""
        at = 0
        for layer in self.convolutions:
            x, at = gate(at, layer(x)), at + 1
        x = x.mean((2, 3)) if self.pooled else x.flatten(1)
        for layer in self.dense:
            x, at = gate(at, layer(x)), at + 1
        return self.head(x)

    def pre_activations(self, x: Tensor) -> list[Tensor]:
        """q of every gated layer of the ReLU network."""
        found: list[Tensor] = []

        def keep(_: int, q: Tensor) -> Tensor:
            found.append(q)
            return F.relu(q)

        self.forward(x, keep)
        return found


class Regime(nn.Module):
    """A value network under its own gates, a frozen network's, or a trained network's soft ones."""

    def __init__(self, value: Stack, feature: Stack | None, soft: bool) -> None:
        super().__init__()
        self.value, self.feature, self.soft = value, feature, soft
        if feature is not None and not soft:
            feature.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        if self.feature is None:
            return self.value(x, lambda _, q: F.relu(q))
        q = self.feature.pre_activations(x)
        if self.soft:
            masks = [(1 + EPSILON) * torch.sigmoid(BETA * a) for a in q]
        else:
            masks = [(a > 0).to(a.dtype) for a in q]
        return self.value(x, lambda k, v: masks[k] * v)


def made(regime: str, c: dict, seed: int, learnt: Stack | None = None) -> Regime:
    """A regime at its start. learnt: the ReLU network whose gates FLNPF takes."""
    value = Stack(c, 10 * seed)
    feature = {
        "ReLU": None,
        "FRNPF-II": Stack(c, 10 * seed + 1),
        "FRNPF-DI": copy.deepcopy(value),
        "DNPFL": Stack(c, 10 * seed + 1),
        "FLNPF": learnt,
    }[regime]
    return Regime(value, copy.deepcopy(feature), regime == "DNPFL")


@dataclass(frozen=True, eq=False)
class Images:
    """Training and test images (rows, 3, size, size) in [0, 1], labels (rows,)."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def load(size: int, rows: int | None, device: str) -> Images:
    """The CIFAR-10 files of the data folder (the largest training file), shrunk by averaging."""
    here = folder() / "images" / "cifar10"
    train = max(here.glob("cifar10_train*.npz"), key=lambda p: p.stat().st_size)
    test = max(here.glob("cifar10_test*.npz"), key=lambda p: p.stat().st_size)
    found: list[Tensor] = []
    for path, most in ((train, rows), (test, None)):
        with np.load(path, allow_pickle=False) as kept:
            pixels = torch.from_numpy(kept["images"][:most]).permute(0, 3, 1, 2).float() / 255
            labels = torch.from_numpy(kept["labels"][:most].astype(np.int64))
        pixels = F.avg_pool2d(pixels, 32 // size) if size < 32 else pixels
        found += [pixels.to(device), labels.to(device)]
    return Images(*found)


@dataclass(frozen=True, eq=False)
class Trained:
    """Test accuracy by pass; the value network at its best pass, and so far at every tenth."""

    curve: np.ndarray
    best: Stack
    stages: list[Stack]
    cpu: float


def train(regime: Regime, data: Images, c: dict, seed: int, epochs: int) -> Trained:
    """Cross-entropy, Adam or SGD, batches of 32 in an order drawn anew each pass."""
    begun = time.process_time()
    regime.to(data.x.device)
    moved = [p for p in regime.parameters() if p.requires_grad]
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[c["optimizer"]]
    optimiser = kind(moved, lr=c["lr"], **({"eps": 1e-7} if c["optimizer"] == "adam" else {}))
    curve, best, stages = np.zeros(epochs), copy.deepcopy(regime.value), []
    draw = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        order = torch.randperm(len(data.x), generator=draw).to(data.x.device)
        for rows in order.split(c["batch"]):
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(regime(data.x[rows]), data.y[rows]).backward()
            optimiser.step()
        curve[epoch] = accuracy(regime, data)
        if epoch == 0 or curve[epoch] > curve[:epoch].max():
            best = copy.deepcopy(regime.value)
        if (epoch + 1) % 10 == 0:
            stages.append(copy.deepcopy(best))
    return Trained(curve, best, stages, time.process_time() - begun)


@torch.no_grad()
def accuracy(regime: Regime, data: Images) -> float:
    """On the test images."""
    parts = zip(data.test_x.split(500), data.test_y.split(500), strict=True)
    return sum(int((regime(x).argmax(1) == y).sum()) for x, y in parts) / len(data.test_x)


def rows(c: dict, data: Images, seed: int) -> list[dict]:
    """A row a regime, the ReLU network first: the best and the last test accuracy."""
    found, learnt = [], None
    for regime in ("ReLU", *REGIMES[:-1]):
        one = train(made(regime, c, seed, learnt), data, c, seed, c["epochs"])
        learnt = one.best if regime == "ReLU" else learnt
        curve = 100 * one.curve
        found.append({"net": c["net"], "regime": regime, "seed": seed, "best": curve.max(),
                      "last": curve[-1], "passes": len(curve), "cpu": one.cpu})  # fmt: skip
        print(f"{c['net']} {regime} seed {seed}: best {curve.max():.2f} last {curve[-1]:.2f}, "
              f"{one.cpu:.0f} CPU s", flush=True)  # fmt: skip
    return found


def stepwise(c: dict, data: Images, seed: int) -> list[dict]:
    """FLNPF with gates taken after every tenth pass of the ReLU network; stage 0: at its start."""
    start = made("ReLU", c, seed)
    stages = [copy.deepcopy(start.value)]
    stages += train(start, data, c, seed, 10 * c["stages"]).stages
    found = []
    for k, stage in enumerate(stages):
        one = train(made("FLNPF", c, seed, stage), data, c, seed, c["stage_epochs"])
        found.append({"stage": k, "seed": seed, "best": 100 * one.curve.max()})
        print(f"gates of stage {k}: {found[-1]['best']:.2f}", flush=True)
    return found
