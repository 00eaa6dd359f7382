"""E|y - M x - C|^2 = least + |dM F|^2 + |dM m + dC|^2: all that squared error knows of the data.

dM = M - M*, dC = C - C*, with (M*, C*) the least-squares fit, m = E[x], and F F' = cov(x). Written
around the optimum, nothing is lost to cancellation where training has nearly arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import BadRows, DataError, EmptyData, WrongShape


@dataclass(frozen=True, eq=False)
class Moments:
    """E[x], E[y], cov(x, x), cov(y, x), var(y) of T trials, all means over the rows; float64.

    mean_x (T, d), mean_y (T, o), xx (T, d, d), yx (T, o, d), yy (T, o).
    """

    mean_x: Tensor
    mean_y: Tensor
    xx: Tensor
    yx: Tensor
    yy: Tensor

    @classmethod
    def of(cls, X: Any, y: Any) -> Moments:
        """Of X (rows, d) and y (rows,) or (rows, o); or of T trials: (T, rows, d), (T, rows, o).

        Raises WrongShape, EmptyData, BadRows for NaN or infinity, DataError for text and for a y
        that is the same in every row.
        """
        x, t = _trials(X, y)
        mean_x, mean_y = x.mean(1), t.mean(1)
        x, t = x - mean_x[:, None], t - mean_y[:, None]
        yy = t.square().mean(1)
        _require_spread(yy, mean_y)
        n = x.shape[1]
        return cls(mean_x, mean_y, x.mT @ x / n, t.mT @ x / n, yy)

    def __len__(self) -> int:
        """T: the trials."""
        return len(self.mean_x)

    @property
    def inputs(self) -> int:
        """d: the columns of x."""
        return self.mean_x.shape[1]

    @property
    def outputs(self) -> int:
        """o: the columns of y."""
        return self.mean_y.shape[1]

    def bowl(self, bias: bool = True) -> Bowl:
        """The mean squared error as a function of the map M x + C; without bias, of M x."""
        mean, xx, yx, sizes = self.mean_x, self.xx, self.yx, self.yy
        if not bias:
            xx = xx + mean[:, :, None] * mean[:, None]
            yx = yx + self.mean_y[:, :, None] * mean[:, None]
            sizes = sizes + self.mean_y.square()
            mean = torch.zeros_like(mean)
        slope = yx @ torch.linalg.pinv(xx, hermitian=True)
        explained = torch.einsum("toi,toi->to", slope, yx)
        at_mean = (slope @ mean[:, :, None])[..., 0]
        intercept = self.mean_y - at_mean if bias else torch.zeros_like(self.mean_y)
        least = (sizes - explained).clamp(min=0).mean(1)
        return Bowl(mean, xx, slope, intercept, least, sizes.mean(1))


@dataclass(frozen=True, eq=False)
class Bowl:
    """The loss (mean over rows and outputs) of y = M x + C in each of B cases; its minimum.

    slope (B, o, d), intercept (B, o): the least-squares map (of least norm where columns are
    collinear); least (B,): its loss; size (B,): the loss of the best constant (without bias: of
    0); xx (B, d, d): cov(x) (without bias: E[xx']), mean (B, d): E[x] (without bias: 0).
    """

    mean: Tensor
    xx: Tensor
    slope: Tensor
    intercept: Tensor
    least: Tensor
    size: Tensor

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, cases: slice) -> Bowl:
        return Bowl(*(getattr(self, name)[cases] for name in self.__dataclass_fields__))

    def repeat(self, times: int) -> Bowl:
        """The same cases `times` over, end to end."""
        held = (getattr(self, name) for name in self.__dataclass_fields__)
        return Bowl(*(t.repeat(times, *[1] * (t.dim() - 1)) for t in held))

    @property
    def outputs(self) -> int:
        """o."""
        return self.slope.shape[1]

    def excess(self, M: Tensor, C: Tensor) -> Tensor:
        """(B,) loss of M x + C above the least one."""
        off = M - self.slope
        shift = (off @ self.mean[:, :, None])[..., 0] + C - self.intercept
        return ((off @ self.xx * off).sum(2) + shift.square()).mean(1)

    def deviation(self, M: Tensor, C: Tensor) -> Tensor:
        """(B,) D = |M - M*| + |C - C*|, summed over all entries."""
        return (M - self.slope).abs().sum((1, 2)) + (C - self.intercept).abs().sum(1)

    def gradient(self, M: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        """Of the loss by M, (B, o, d), and by C, (B, o)."""
        off = M - self.slope
        shift = (off @ self.mean[:, :, None])[..., 0] + C - self.intercept
        scale = 2 / self.outputs
        return scale * (off @ self.xx + shift[:, :, None] * self.mean[:, None]), scale * shift


def _trials(X: Any, y: Any) -> tuple[Tensor, Tensor]:
    """(T, rows, d) and (T, rows, o), float64, or a refusal."""
    x, t = _numbers(X, "X"), _numbers(y, "y")
    if x.dim() == 2:
        x, t = x[None], (t[:, None] if t.dim() == 1 else t)[None]
    elif t.dim() == 2:
        t = t[:, :, None]
    if x.dim() != 3 or t.dim() != 3 or x.shape[:2] != t.shape[:2]:
        raise WrongShape(
            f"X is (rows, inputs) and y (rows,) or (rows, outputs), each perhaps with an axis of "
            f"trials before it; got X {tuple(np.shape(X))} and y {tuple(np.shape(y))}"
        )
    if 0 in (*x.shape, *t.shape) or x.shape[1] < 2:
        raise EmptyData(f"moments need at least two rows and one column; X is {tuple(x.shape)}")
    for values, name in ((x, "X"), (t, "y")):
        bad = tuple(int(i) for i in (~values.isfinite()).any(2).any(0).nonzero()[:, 0])
        if bad:
            raise BadRows(
                f"{name} holds NaN or infinity in rows {', '.join(map(str, bad[:10]))}: repair "
                f"or leave out these rows",
                bad,
            )
    return x, t


def _numbers(values: Any, name: str) -> Tensor:
    held = values.detach() if isinstance(values, Tensor) else np.asarray(values)
    if isinstance(held, np.ndarray) and held.dtype.kind not in "fiub":
        raise DataError(f"{name} is to be numbers, and its dtype is {held.dtype}")
    return torch.as_tensor(held).to("cpu", torch.float64)


def _require_spread(yy: Tensor, mean: Tensor) -> None:
    flat = (yy <= (1e-12 * mean.abs()).square()).nonzero()
    if len(flat):
        trial, output = (int(i) for i in flat[0])
        raise DataError(
            f"y is the same in every row (trial {trial}, column {output}): there is nothing to "
            f"learn"
        )
