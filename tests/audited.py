"""Tables in files for audits, and networks that know something of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torch import nn

import gatewise as gw
from streamed import written

N = 2500


def network(outputs: int, sigmoid: bool) -> gw.Network:
    """Trained a little on |x0| + x1, so that it is ahead of every linear model."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, outputs)).double()
    if outputs > 1:
        return gw.read(model)
    with torch.no_grad():
        model[0].weight[:3] = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0]])
        model[0].bias[:3] = 0
        model[2].weight.zero_()
        model[2].bias.fill_(-1.5)
        model[2].weight[-1, :3] = torch.tensor([2.0, 2.0, 1.0])
    return gw.read(nn.Sequential(*model, nn.Sigmoid()) if sigmoid else model)


def rows(n: int, classes: bool, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    signal = 2 * np.abs(x[:, 0]) + x[:, 1] - 1.5 + rng.normal(size=n)
    y = np.where(signal > 0, "yes", "no") if classes else signal
    return pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y})


def pair(tmp_path, classes: bool) -> tuple[pa.Table, pa.Table, dict]:
    fit, test = rows(N, classes, 1), rows(N, classes, 2)
    written(tmp_path / "fit", fit, (900, 1700), 400)
    written(tmp_path / "test", test, (1300,), 700)
    return fit, test, {"X": tmp_path / "fit", "test": tmp_path / "test"}
