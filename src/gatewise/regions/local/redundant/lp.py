"""One HiGHS model of the rows a.u + 1 >= 0, kept warm while rows are asked about one by one."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import missing
from gatewise.regions.local.redundant.frame import Walls


def solver(task: str) -> ModuleType:
    """The module highspy, or the error that says how to get it."""
    try:
        import highspy
    except ImportError:
        raise missing("highspy", "lp", task) from None
    return highspy


def model(
    highs: ModuleType, a: Tensor, lower: Tensor, cost: Tensor, low: Any = None, high: Any = None
) -> Any:
    """min cost.u over a.u >= lower, and low <= u <= high (free where not given)."""
    k, d = a.shape
    infinity = highs.kHighsInf
    dense = a.numpy()
    lp = highs.HighsLp()
    lp.num_col_, lp.num_row_ = d, k
    lp.col_cost_ = cost.numpy()
    lp.col_lower_ = np.full(d, -infinity) if low is None else np.asarray(low)
    lp.col_upper_ = np.full(d, infinity) if high is None else np.asarray(high)
    lp.row_lower_, lp.row_upper_ = lower.numpy(), np.full(k, infinity)
    lp.a_matrix_.format_ = highs.MatrixFormat.kRowwise
    row, column = dense.nonzero()
    lp.a_matrix_.start_ = np.concatenate([[0], np.bincount(row, minlength=k).cumsum()])
    lp.a_matrix_.index_, lp.a_matrix_.value_ = column, dense[row, column]
    found = highs.Highs()
    found.setOptionValue("output_flag", False)
    found.setOptionValue("threads", 1)
    found.passModel(lp)
    return found


class Warm:
    """min a_i.u over the other rows that are still there."""

    def __init__(self, a: Tensor) -> None:
        self.highs = solver("deciding which rows are redundant")
        self.a, self.columns = a, np.arange(a.shape[1], dtype=np.int32)
        self.model = model(self.highs, a, torch.full((len(a),), -1.0), a[0])

    def ask(self, i: int) -> tuple[float, Tensor, Tensor] | None:
        """The least a_i.u down to -2, where, and the other rows' multipliers."""
        infinity = self.highs.kHighsInf
        self.model.changeColsCost(len(self.columns), self.columns, self.a[i].numpy())
        self.model.changeRowBounds(i, -2.0, infinity)
        self.model.run()
        status, found = self.model.getModelStatus(), self.model.getSolution()
        self.model.changeRowBounds(i, -1.0, infinity)  # which forgets the status
        if status != self.highs.HighsModelStatus.kOptimal:
            return None
        dual = torch.tensor(found.row_dual, dtype=self.a.dtype).clamp(min=0)
        dual[i] = 0
        u = torch.tensor(found.col_value, dtype=self.a.dtype)
        return float(u @ self.a[i]), u, dual

    def drop(self, i: int) -> None:
        """Leave a row out from now on."""
        infinity = self.highs.kHighsInf
        self.model.changeRowBounds(i, -infinity, infinity)


def middle(walls: Walls) -> Tensor:
    """The step to the middle of a ball in a.u + s >= 0, of a radius no more than the slacks'."""
    highs = solver("finding a point inside the region")
    norms = walls.a.norm(dim=1)
    there = norms > 0
    d, n = walls.a.shape[1], norms[there]
    rows = torch.cat([walls.a[there] / n[:, None], -torch.ones(len(n), 1, dtype=n.dtype)], 1)
    room = walls.s[there] / n
    cost = torch.zeros(d + 1, dtype=n.dtype)
    cost[d] = -1
    most = [np.inf] * d + [1 + float(room.abs().max()) if len(n) else 1.0]
    found = model(highs, rows, -room, cost, [-np.inf] * (d + 1), most)
    found.run()
    if found.getModelStatus() != highs.HighsModelStatus.kOptimal:
        return walls.a.new_zeros(d)
    return torch.tensor(found.getSolution().col_value[:d], dtype=walls.a.dtype)
