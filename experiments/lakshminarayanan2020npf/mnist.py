"""The fully connected table on MNIST: what is learnt in the gates, what in the weights.

Published protocol: 784-128x5-10 with biases, Glorot uniform, inputs / 255, softmax cross-entropy,
Adam at 1e-4, batches of 32, 100 passes over all 60,000 rows; the best test accuracy of the passes.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from train import Data, Job, Net, State, network_of, run, start_of

ROOT = Path(__file__).resolve().parents[2]
REGIMES = ("ReLU", "ReLU held", "FRNPF-II", "FRNPF-DI", "DNPFL", "FLNPF", "FLNPF held")


def folder() -> Path:
    """Where real data lie: GATEWISE_DATA, or ../shared/data beside the repository."""
    return Path(os.environ.get("GATEWISE_DATA") or ROOT.parent / "shared" / "data")


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of a gzipped IDX file."""
    raw = gzip.decompress(path.read_bytes())
    axes = raw[3]
    shape = np.frombuffer(raw, ">u4", axes, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def images(part: str) -> tuple[np.ndarray, np.ndarray]:
    """(rows, 784) bytes and labels of `train` or `t10k`."""
    here = folder() / "images" / "mnist"
    x, y = (read_idx(here / f"{part}-{what}-ubyte.gz") for what in ("images-idx3", "labels-idx1"))
    return x.reshape(len(x), -1), y


def load(rows: int | None = None) -> Data:
    """All rows, or the first `rows` for training; pixels / 255, labels one-hot."""
    (x, y), (test_x, test_y) = images("train"), images("t10k")
    x, y = x[:rows], y[:rows]
    hot = np.eye(10, dtype=np.float32)
    pixels = [torch.from_numpy(a.astype(np.float32) / 255) for a in (x, test_x)]
    return Data(pixels[0], torch.from_numpy(hot[y]), pixels[1], torch.from_numpy(hot[test_y]))


@dataclass(frozen=True, eq=False)
class Outcome:
    """Test accuracy by pass of every network: (regime, seed) -> (epochs,)."""

    curves: dict[tuple[str, int], np.ndarray]
    held: dict[int, int]  # seed -> the pass that the held-out rows choose
    cpu: float


def net(c: dict, regime: str, seed: int, rows: int, feature=None) -> Net:
    """One network: all rows, or, for `ReLU held`, all but those kept to choose the checkpoint."""
    every = np.arange(rows)
    if regime != "ReLU held":
        return Net(regime, seed, every, every[:0], feature)
    mixed = np.random.default_rng([seed, 11]).permutation(rows)
    return Net(regime, seed, np.sort(mixed[c["held"] :]), np.sort(mixed[: c["held"]]))


def job(c: dict, name: str, kind: str, nets: list[Net]) -> Job:
    sizes = (784, *c["hidden"], 10)
    seeds = "-".join(str(s) for s in sorted({n.seed for n in nets}))
    return Job(f"{name}-{seeds}", kind, sizes, nets, c["epochs"], c["batch"], c["lr"])


def relu_job(c: dict, seeds: list[int], rows: int) -> Job:
    nets = [net(c, regime, s, rows) for regime in ("ReLU", "ReLU held") for s in seeds]
    return job(c, "relu", "own", nets)


def random_job(c: dict, seeds: list[int], rows: int) -> Job:
    """Gates of a network at its start: another one's (II), or the value network's own (DI)."""
    sizes, nets = (784, *c["hidden"], 10), []
    for regime, source in (("FRNPF-II", "gates"), ("FRNPF-DI", "FRNPF-DI")):
        for s in seeds:
            weights = [w.float() for w in start_of(sizes, source, s)[:-1]]
            feature = weights, [torch.zeros(w.shape[1]) for w in weights]
            nets.append(net(c, regime, s, rows, feature))
    return job(c, "random", "frozen", nets)


def soft_job(c: dict, seeds: list[int], rows: int) -> Job:
    return job(c, "soft", "decoupled", [net(c, "DNPFL", s, rows) for s in seeds])


def learned_job(c: dict, seeds: list[int], rows: int, relu: Job, state: State) -> Job:
    """Gates of the ReLU network at its best test pass (published), or at its best held-out pass."""
    nets = []
    for k, source in enumerate(relu.nets):
        held = source.regime == "ReLU held"
        weights, biases = network_of(relu, state.best_held if held else state.best_test, k)
        regime = "FLNPF held" if held else "FLNPF"
        nets.append(net(c, regime, source.seed, rows, (weights[:-1], biases[:-1])))
    return job(c, "learned", "frozen", nets)


def protocol(c: dict, data: Data, work: Path, stop: int | None = None) -> Outcome:
    """Every regime and seed; jobs that the folder `work` holds to their end are not run again.

    stop: the pass at which every job ends; 0: nothing is trained, the checkpoints are read.
    """
    curves, held, cpu, rows = {}, {}, 0.0, len(data.x)
    for at in range(0, len(c["seeds"]), c["together"]):
        seeds = c["seeds"][at : at + c["together"]]
        relu = relu_job(c, seeds, rows)
        found = [(relu, run(relu, data, work, stop))]
        later = (
            random_job(c, seeds, rows),
            learned_job(c, seeds, rows, relu, found[0][1]),
            soft_job(c, seeds, rows),
        )
        found += [(j, run(j, data, work, stop)) for j in later]
        for j, state in found:
            cpu += state.cpu
            for k, one in enumerate(j.nets):
                curves[one.regime, one.seed] = state.test[k]
                if one.regime == "ReLU held" and state.epoch:
                    held[one.seed] = int(np.nanargmax(state.held[k]))
    return Outcome(curves, held, cpu)
