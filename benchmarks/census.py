"""Ids and exact maps of every distinct pattern, beside an expert's own loop.

The floor is one forward and one backward pass. Aletheia 1.3.4 (needs Python 3.9) took 112 CPU s for
100,000 rows of the first net in float64, as published, on a core whose floor for the job was 1.1 s:
what carries over to another machine is the distance to the floor. In float32 the gates are decided
in float64 all the same, so that every row has its right pattern.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn

import gatewise as gw
from benchmarks.measure import Curve, Job, Setup, Way, gemm, perceptron, weights

NETS = {"20-256-256-256-1": (20, 256, 256, 256, 1), "30-40-40-1": (30, 40, 40, 1)}
ROWS = {"quick": (10_000,), "default": (30_000,), "full": (100_000, 1_000_000)}
ALETHEIA_CPU_S, ALETHEIA_FLOOR_S = 112.0, 1.1


def expert(net: nn.Sequential, X: torch.Tensor, batch: int = 4096):
    """Batched forward, packbits, unique, backward on the distinct patterns only."""
    packed = []
    with torch.no_grad():
        for rows in X.split(batch):
            masks, h = [], rows
            for layer in net:
                h = layer(h)
                if isinstance(layer, nn.ReLU):
                    masks.append(h > 0)
            packed.append(np.packbits(torch.cat(masks, 1).numpy(), axis=1))
    _, first, ids = np.unique(
        np.concatenate(packed), axis=0, return_index=True, return_inverse=True
    )
    slopes, offsets = [], []
    for rows in X[torch.from_numpy(first)].split(batch):
        x = rows.clone().requires_grad_()
        y = net(x)
        (w,) = torch.autograd.grad(y.sum(), x)
        slopes.append(w)
        offsets.append(y.detach()[:, 0] - (w * rows).sum(1))
    return ids, torch.cat(slopes), torch.cat(offsets)


def ours(net: gw.Network, X: torch.Tensor):
    """The same answer: ids, W and b of every distinct pattern."""
    found = gw.census(net, X)
    slopes, offset = found.maps.rows([0])
    return found.ids, slopes[:, 0], offset[:, 0]


def normal(rows: int, inputs: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(rows, inputs, dtype=dtype, generator=torch.Generator().manual_seed(1))


def build(sizes: tuple[int, ...], rows: int, dtype: torch.dtype) -> Setup:
    """Both contenders and the floor on one net."""
    net, X = perceptron(sizes, dtype), normal(rows, sizes[0], dtype)
    network = gw.read(net).to(dtype)
    floor = gemm(4 * rows * weights(sizes), sizes[1], dtype)

    def right(answer) -> str:
        ids, slopes, offset = answer
        error = float(((slopes[ids] * X).sum(1) + offset[ids] - net(X)[:, 0]).abs().max())
        assert error < (1e-4 if dtype == torch.float32 else 1e-12), error
        return f"{len(slopes):,} patterns, error {error:.0e}"

    peers = [Way("an expert's loop", lambda: expert(net, X))]
    if sizes == NETS["20-256-256-256-1"] and dtype == torch.float64:
        scale = floor.scale * ALETHEIA_CPU_S / ALETHEIA_FLOOR_S
        peers.append(Way("Aletheia, published, by the floors", floor.run, scale))
    mine = Way("gatewise", lambda: ours(network, X))
    return Setup(mine, [floor], peers, right, warm=lambda: ours(network, X[:4096]))


def deep(rows: int) -> Setup:
    """16 layers: rounding bounds grow by a factor a layer until they reach knots."""
    sizes = (20, *[128] * 16, 1)
    net, X = perceptron(sizes), normal(rows, 20)
    network = gw.read(net)
    return Setup(
        Way("gatewise", lambda: gw.census(network, X)),
        [Way("the forward pass", lambda: net(X))],
        check=lambda found: f"{len(found):,} patterns",
    )


def jobs(size: str) -> list[Job]:
    found = [
        Job(
            f"{name}, {str(dtype).removeprefix('torch.')}, {rows:,} rows",
            partial(build, sizes, rows, dtype),
        )
        for name, sizes in NETS.items()
        for dtype in (torch.float32, torch.float64)
        for rows in ROWS[size]
    ]
    rows = {"quick": 500, "default": 1_000, "full": 5_000}[size]
    return [*found, Job(f"ids only, 20-128 × 16 layers-1, {rows:,} rows", partial(deep, rows))]


def counted(sizes: tuple[int, ...], rows: int):
    """The census alone."""
    network, X = gw.read(perceptron(sizes)), normal(rows, sizes[0])
    return lambda: gw.census(network, X)


def growth(size: str) -> list[Curve]:
    """Depth is fitted to 6: rounding bounds grow by a factor a layer, and between 8 and 12 layers
    they reach knots, so that rows are looked at again in higher precision (the deep job above)."""
    k = 1 if size == "quick" else 4
    return [
        Curve(
            "census, rows",
            "rows N",
            [k * n for n in (5_000, 10_000, 20_000, 40_000)] + ([] if k == 1 else [1_000, 5_000]),
            lambda n: counted((20, 128, 128, 1), n),
            1.0,
            "every row passes once",
        ),
        Curve(
            "census, width",
            "units a layer",
            [k * w for w in (128, 256, 512)] if k == 1 else [512, 768, 1024, 1536, 2048],
            lambda w: counted((20, w, w, w, 1), 1000),
            2.0,
            "layers are width × width",
            beyond=[] if k == 1 else [128, 256],
            aside="conjecture: below, packing and sorting the bits weigh, linear in the width",
        ),
        Curve(
            "census, depth",
            "hidden layers",
            [2, 3, 4, 6],
            lambda d: counted((512, *[512] * d, 1), k * 250),
            1.0,
            "one product a layer",
            beyond=[] if k == 1 else [1, 8, 12],
            aside="measured: at 12 layers rounding leaves 99% of rows open in float64",
        ),
    ]
