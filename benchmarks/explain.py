"""Explanations of HELOC rows beside plain passes, and exact integrated gradients beside Captum's.

The real table, standardised, drawn again and moved by a twentieth of a deviation; two nets trained
on it a little. An explanation is every row's rule, values, certificate and margin, and its cohort
(of eight rules found on the real table), in float64 always. A plain pass is net(X).sum() and its
gradient, all rows at once, as a user writes it, and in batches of 4,096, which is faster: the
floor. Integrated gradients are Captum's with 50 steps, same rows, same baseline.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn

import gatewise as gw
from benchmarks.measure import Curve, Job, Setup, Way, data_folder, perceptron
from gatewise.explain.integrated import integrated_gradients

NETS = {"21-32-32-1": (21, 32, 32, 1), "21-64-64-64-1": (21, 64, 64, 64, 1)}
ROWS = {"quick": (5_000, 300), "default": (50_000, 500), "full": (100_000, 2_000)}


def table(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HELOC standardised, its target, and `rows` rows like it."""
    whole = np.loadtxt(data_folder("tabular", "heloc", "heloc.csv"), delimiter=",", skiprows=1)
    x, y = whole[:, :-1], whole[:, -1]
    x = (x - x.mean(0)) / x.std(0)
    rng = np.random.default_rng(0)
    drawn = x[rng.integers(0, len(x), rows)]
    return x, y, drawn + rng.normal(size=drawn.shape) / 20


def trained(sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray) -> nn.Sequential:
    """Three epochs of Adam in float32, seed 0."""
    net = perceptron(sizes, torch.float32).requires_grad_(True)
    rows, truth = torch.from_numpy(x).float(), torch.from_numpy(y).float()[:, None]
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(3):
        for part in torch.randperm(len(rows)).split(128):
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(net(rows[part]), truth[part]).backward()
            optimiser.step()
    return net.requires_grad_(False)


def plain(net: nn.Sequential, x: torch.Tensor, batch: int) -> None:
    """Outputs and input gradients."""
    for rows in x.split(batch):
        leaf = rows.clone().requires_grad_()
        torch.autograd.grad(net(leaf).sum(), leaf)


def explaining(sizes: tuple[int, ...], rows: int) -> Setup:
    """gw.explain beside plain passes."""
    x, y, big = table(rows)
    net = trained(sizes, x, y)
    read, double, wide = gw.read(net), trained(sizes, x, y).double(), torch.from_numpy(big)
    found = gw.cohorts(gw.explain(read, x), max_rules=8)

    def ours() -> gw.Explanation:
        e = gw.explain(read, big, margin=True)
        assert e.values.shape == (rows, 21, 1)
        assert found.assign(big).shape == (rows,)
        return e

    single = wide.float()
    return Setup(
        Way("gatewise", ours),
        [Way("a pass in batches, float64", lambda: plain(double, wide, 4096))],
        [
            Way("a pass at once, float64", lambda: plain(double, wide, rows)),
            Way("a pass at once, float32", lambda: plain(net, single, rows)),
        ],
        lambda e: f"largest error {float(e.error.max()):.0e}",
        lambda: gw.explain(read, big[:2000]),
    )


def path(sizes: tuple[int, ...], rows: int) -> Setup:
    """Exact integrated gradients beside Captum's."""
    x, y, big = table(rows)
    net = trained(sizes, x, y)
    read, double = gw.read(net), trained(sizes, x, y).double()

    def captum(net: nn.Sequential) -> None:
        from captum.attr import IntegratedGradients

        dtype = next(net.parameters()).dtype
        inputs, zero = torch.from_numpy(big).to(dtype), torch.zeros(1, 21, dtype=dtype)
        IntegratedGradients(net).attribute(inputs, zero, n_steps=50)

    return Setup(
        Way("gatewise", lambda: integrated_gradients(read, big, np.zeros(21))),
        peers=[
            Way("Captum, 50 steps, float64", lambda: captum(double)),
            Way("Captum, 50 steps, float32", lambda: captum(net)),
        ],
        check=lambda found: f"completeness {found.max_error:.0e}",
    )


def jobs(size: str) -> list[Job]:
    many, few = ROWS[size]
    rules = [
        Job(f"explain, {name}, {many:,} rows", partial(explaining, sizes, many))
        for name, sizes in NETS.items()
    ]
    return rules + [
        Job(f"integrated gradients, {name}, {few:,} rows", partial(path, sizes, few))
        for name, sizes in NETS.items()
    ]


def explained(rows: int):
    """gw.explain of normal rows, all of it."""
    network = gw.read(perceptron((21, 64, 64, 1)))
    x = np.random.default_rng(0).standard_normal((rows, 21))
    return lambda: gw.explain(network, x, margin=True).values


def growth(size: str) -> list[Curve]:
    k = 1 if size == "quick" else 4
    sizes = [k * n for n in (5_000, 10_000, 20_000, 40_000)]
    few = [] if k == 1 else [1_000, 5_000]
    aside = "conjecture: below, what a call costs whatever its rows weighs"
    why = "a pass forward and one back a row"
    return [Curve("explain, rows", "rows N", sizes, explained, 1.0, why, beyond=few, aside=aside)]
