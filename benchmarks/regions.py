"""Every region of a box: counts, CPU and wall seconds, against published figures of peers.

    python benchmarks/regions.py [--repeat 7] [--largest]

No peer here installs (see the table's notes), so theirs are the published CPU seconds of one
thread on another machine, scaled by what a reference of the same kind takes here: every vertex
through the network once in float64, which took 0.026 s there for 2-128-128-128-1. The counts must
be the published ones. `--largest` adds nets of a million regions and the memory they take.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from itertools import pairwise

import numpy as np
import torch
from torch import nn

import gatewise as gw

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


def default(*sizes: int) -> nn.Sequential:
    """torch's default initialisation at seed 0, in float64."""
    torch.manual_seed(0)
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).double()


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


def timed(
    network: gw.Network, repeat: int, workers: int, half: float = 1.0
) -> tuple[float, float, object]:
    """Median CPU and wall seconds on [-half, half]^d, after one run to warm up."""
    box = (-half, half)
    found = gw.regions.enumerate_regions(network, box, workers=workers)
    cpu, wall = [], []
    for _ in range(repeat):
        start = time.process_time(), time.perf_counter()
        found = gw.regions.enumerate_regions(network, box, workers=workers)
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    return statistics.median(cpu), statistics.median(wall), found


def reference(repeat: int) -> float:
    """CPU seconds of 21,012 points through 2-128-128-128-1 in float64, on one thread."""
    model, x = default(2, 128, 128, 128, 1), torch.rand(21_012, 2, dtype=torch.float64)
    took = []
    with torch.no_grad():
        for _ in range(repeat + 1):
            start = time.process_time()
            model(x)
            took.append(time.process_time() - start)
    return statistics.median(took[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--largest", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    here = reference(asked.repeat)
    print(f"reference {here:.4f} s here, {THERE} s there: published figures x {here / THERE:.2f}")
    print("| net | regions | CPU s | us a region | wall s, 2 threads | peer, scaled | ratio |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for sizes, (regions, peer) in PUBLISHED.items():
        network = read(default(*sizes))
        cpu, _, found = timed(network, asked.repeat, 1)
        _, wall, _ = timed(network, asked.repeat, 2)
        assert len(found) == regions and found.undecided == 0, (sizes, len(found))
        gap = abs(found.volumes().sum() / 2.0 ** sizes[0] - 1) if sizes[0] < 6 else float("nan")
        assert not gap > 1e-9
        scaled = peer * here / THERE
        rows.append({"net": sizes, "cpu": cpu, "wall": wall, "ratio": scaled / cpu, "gap": gap})
        print(
            f"| {'-'.join(map(str, sizes))} | {regions:,} | {cpu:.4f} | {cpu / regions * 1e6:.1f} "
            f"| {wall:.4f} | {scaled:.3f} | {scaled / cpu:.0f} |",
            flush=True,
        )
    if asked.largest:
        largest()
    print(json.dumps(rows))


def largest() -> None:
    """How time and memory a region go from 10^4 to 10^6 regions: one net, growing boxes."""
    print("| net, box | regions | regions a second, 2 threads | us of CPU a region | bytes |")
    print("|---|---|---|---|---|")
    nets = [(192, 0, 0.1), (192, 0, 0.3), (192, 0, 1.0)]
    nets += [(64, 0, 1.0), (128, 0, 1.0), (160, 2, 1.0), (256, 0, 1.0)]
    for width, seed, half in nets:
        cpu, wall, found = timed(read(folding(width, seed)), 3, 2, half)
        n = len(found)
        held = [found.vertices, found.error, found.who, found.pattern.bits, *found.cells]
        size = sum(a.nbytes for a in held)
        print(
            f"| folding, width {width}, seed {seed}, +-{half} | {n:,} | {n / wall:,.0f} "
            f"| {cpu / n * 1e6:.2f} | {size / n:.0f} |",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak resident memory of the process: {peak / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
