"""How the distinct patterns of real rows grow with their number: D(n) = K n^beta."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import gatewise as gw

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import shared
import tabular

TABLES = (
    ("banknote", (32, 32)),
    ("wine_quality", (32, 32)),
    ("heloc", (32, 32)),
    ("california_housing", (16, 16)),
    ("california_housing", (32, 32)),
    ("california_housing", (64, 64, 64)),
    ("adult", (16, 16)),
    ("adult", (32, 32)),
)
ORDERS = 20  # random orders that a curve is the mean of


def measured(small: bool = False) -> list[dict[str, float | str]]:
    """One line a table and network: rows, gates, distinct patterns, K, beta, what they predict."""
    torch.set_num_threads(1)
    return [line(name, ids, gates, drawn) for name, ids, gates, drawn in _all(small)]


def _all(small: bool) -> Iterator[tuple[str, np.ndarray, int, bool]]:
    for name, hidden in TABLES[:2] if small else TABLES:
        said = f"{name.replace('_', ' ')}, trained {' × '.join(map(str, hidden))}"
        yield said, *_trained(name, hidden), False
    onnx = shared.folder() / "onnx"
    if not small:
        net = gw.read(next(onnx.rglob("mnist-net_256x2.onnx")))
        yield "MNIST images, VNN-COMP's 2 × 256", *_ids(net, _mnist()), False
    rows = 20_000 if small else 1_000_000
    for said, name, low, high in (
        ("ACAS Xu 1_1, uniform rows", "ACASXU_run2a_1_1_batch_2000", -0.5, 0.5),
        ("TLL 2 inputs, N = M = 8, uniform rows", "tllBench_n=2_N=M=8_m=1_instance_0_0", -2, 2),
    ):
        net = gw.read(next(onnx.rglob(f"{name}.onnx")))
        x = np.random.default_rng(0).uniform(low, high, (rows, net.inputs))
        yield said, *_ids(net, x), True


def _trained(name: str, hidden: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """All rows of a table through a network that scikit-learn fitted to three quarters of it."""
    model, a, b, _, _ = tabular.pipeline(name, hidden, max_iter=25)
    found = gw.census(model, pd.concat([a, b]))
    return found.ids, found.pattern.units


def _ids(net: gw.Network, x: np.ndarray) -> tuple[np.ndarray, int]:
    found = gw.census(net, torch.from_numpy(x).to(net.dtype).reshape(-1, *net.input_shape))
    return found.ids, found.pattern.units


def _mnist() -> np.ndarray:
    with gzip.open(shared.folder() / "images" / "mnist" / "train-images-idx3-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784) / 255.0


def curve(ids: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Mean distinct ids among the first `at` rows, over random orders."""
    rng, total = np.random.default_rng(0), np.zeros(len(at))
    for _ in range(ORDERS):
        first = np.full(ids.max() + 1, len(ids))
        np.minimum.at(first, ids, rng.permutation(len(ids)))
        total += np.searchsorted(np.sort(first), at)
    return total / ORDERS


def fitted(n: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """K and beta by least squares of the logarithms."""
    beta, log_k = np.polyfit(np.log(n), np.log(d), 1)
    return float(np.exp(log_k)), float(beta)


def line(name: str, ids: np.ndarray, gates: int, drawn: bool) -> dict[str, float | str]:
    """K, beta over the last factor 32; what a fit to the first eighth says of all, over truth."""
    n = np.unique(np.geomspace(16, len(ids), 60).astype(np.int64))
    d = curve(ids, n)
    late, early = n >= len(ids) / 32, (n >= len(ids) / 256) & (n <= len(ids) / 8)
    k, beta = fitted(n[late], d[late])
    k_early, beta_early = fitted(n[early], d[early])
    predicted = k_early * len(ids) ** beta_early
    return {
        "name": name,
        "rows": len(ids),
        "gates": gates,
        "drawn": drawn,
        "distinct": float(d[-1]),
        "k": k,
        "beta": beta,
        "predicted": float(predicted / d[-1]),
    }
