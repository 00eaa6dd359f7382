"""Every region of a box, exactly, beside the published figures of the fastest peer.

No peer for regions installs here, so theirs are the published CPU seconds of one thread on another
machine (edge subdivision in float64, with its pass for patterns), by the time a reference of the
same kind takes here: every vertex through the network once, 0.026 s there for 2-128-128-128-1. The
counts must be the published ones, and the volumes must add up to the box.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn

import gatewise as gw
from benchmarks.measure import Curve, Job, Setup, Way, perceptron

# sizes: regions, and CPU seconds elsewhere of the fastest float64 peer that lists the regions
PUBLISHED = {
    (2, 32, 32, 1): (795, 0.135),
    (2, 64, 64, 64, 1): (6_668, 0.87),
    (2, 128, 128, 128, 1): (20_714, 10.1),
    (3, 16, 16, 1): (1_276, 0.093 + 0.01),
    (4, 16, 16, 1): (6_658, 0.145 + 0.1),
    (5, 16, 16, 1): (15_621, 0.51 + 0.5),
    (6, 16, 16, 1): (35_227, 3.0 + 2.7),
}
THERE = 0.026  # seconds of the reference on the machine of the published figures
QUICK = ((2, 32, 32, 1), (3, 16, 16, 1))
FOLDED = {"quick": (), "default": (64,), "full": (64, 128, 192, 256)}  # widths


def folding(width: int, seed: int = 0) -> nn.Sequential:
    """Three layers; the first folds each axis into zigzags, so that the second repeats itself."""
    rng, half = np.random.default_rng(seed), width // 2
    knots = np.linspace(-1, 1, half + 2)[1:-1] + rng.uniform(-0.2, 0.2, half) / half
    axes = np.repeat(np.eye(2), half, 0) + rng.normal(size=(width, 2)) * 0.02
    turn = (-1.0) ** np.arange(half)
    turn[0] = 0.5
    zigzag = np.tile(turn, 2) * rng.normal(size=(width, 2)).repeat(half, 1)
    weights = [axes, zigzag, rng.normal(size=(width, width)) * (2 / width) ** 0.5]
    model = nn.Sequential()
    for i, w in enumerate(weights):
        layer = nn.Linear(w.shape[1], width).double()
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w))
            at = model(torch.from_numpy(rng.uniform(-1, 1, (width, 2))))
            through = -(layer.weight * at).sum(1)  # each unit has its knot at a point of the box
            layer.bias.copy_(-torch.from_numpy(np.tile(knots, 2)) if i == 0 else through)
        model.append(layer).append(nn.ReLU())
    return model.append(nn.Linear(width, 1).double())


def read(model: nn.Module) -> gw.Network:
    return gw.read(model, torch.zeros(1, model[0].in_features, dtype=torch.float64))


def listing(network: gw.Network, half: float = 1.0, workers: int = 1):
    """Run: all regions of [-half, half]^d."""
    return lambda: gw.regions.enumerate_regions(network, (-half, half), workers=workers)


def build(sizes: tuple[int, ...], workers: int) -> Setup:
    """A net whose count is published; the floor: as many points as regions through it."""
    regions, peer = PUBLISHED[sizes]
    model, run = perceptron(sizes), listing(read(perceptron(sizes)), workers=workers)
    reference, x = perceptron((2, 128, 128, 128, 1)), torch.rand(21_012, 2, dtype=torch.float64)
    points = torch.rand(regions, sizes[0], dtype=torch.float64)

    def right(found) -> str:
        assert len(found) == regions and found.undecided == 0, len(found)
        if sizes[0] == 6:  # volumes in six dimensions take longer than the regions
            return f"{regions:,} regions"
        gap = abs(found.volumes().sum() / 2.0 ** sizes[0] - 1)
        assert gap < 1e-9, gap
        return f"{regions:,} regions, volume off by {gap:.0e}"

    return Setup(
        Way("gatewise", run),
        [Way("a point a region, forward", lambda: model(points))],
        [Way("edge subdivision, published, scaled", lambda: reference(x), peer / THERE)],
        right,
    )


def folded(width: int, half: float = 1.0) -> Setup:
    """A net with very many regions; the floor is one point a region through it."""
    model = folding(width).requires_grad_(False)
    network = read(model)
    points = torch.rand(len(listing(network, half)()), 2, dtype=torch.float64).split(4096)
    return Setup(
        Way("gatewise", listing(network, half)),
        [Way("a point a region, forward", lambda: [model(x) for x in points])],
        check=lambda found: f"{len(found):,} regions",
    )


def jobs(size: str) -> list[Job]:
    nets = QUICK if size == "quick" else PUBLISHED
    found = [Job("-".join(map(str, s)), partial(build, s, 1)) for s in nets]
    found += [Job(f"folded plane, width {w}", partial(folded, w)) for w in FOLDED[size]]
    if size != "quick":
        two = partial(build, (2, 128, 128, 128, 1), 2)
        found.append(Job("2-128-128-128-1, two threads", two, threads=2, clock="wall"))
    return found


def growth(size: str) -> list[Curve]:
    """One net on growing boxes: only the number of regions grows."""
    nets = {
        2: (lambda: folding(96), (0.2, 0.4, 0.6, 0.9), (0.03, 0.1)),
        3: (lambda: perceptron((3, 64, 64, 1)), (0.4, 0.6, 0.8, 1.2), (0.1, 0.2)),
        4: (lambda: perceptron((4, 24, 24, 1)), (0.7, 1.0, 1.4, 2.0), (0.2, 0.4)),
    }
    return [
        Curve(
            f"regions of a box, {d}-D",
            "regions",
            halves[: 3 if size == "quick" else 4],
            lambda half, net=net: listing(read(net()), half),
            1.0,
            "a bounded number of cuts a region",
            size_of=len,
            beyond=() if size == "quick" else fewer,
            aside="conjecture: below, what a call costs whatever its regions weighs",
        )
        for d, (net, halves, fewer) in nets.items()
    ]
