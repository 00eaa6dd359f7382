"""Tables in files for audits, and networks that know something of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

import gatewise as gw
from gatewise.ir.kinds import Smooth
from gatewise.ir.network import Node
from streamed import written

N = 2200


def network(outputs: int, sigmoid: bool) -> gw.Network:
    """Ahead of every linear model on |x0| + x1; several outputs are random ones."""
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(8, 3)), rng.normal(size=8)
    last, offset = rng.normal(size=(outputs, 8)), rng.normal(size=outputs)
    if outputs == 1:
        weight[:3], bias[:3] = [[1, 0, 0], [-1, 0, 0], [0, 1, 0]], 0
        last[:], offset[:] = [[2, 2, 1, 0, 0, 0, 0, 0]], -1.5
    found = gw.read([(weight, bias), (last, offset)])
    head = Node("p", "Sigmoid", Smooth(torch.sigmoid, (), 0.25), (found.output,), (1, 1))
    return replace(found, head=(head,)) if sigmoid else found


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
