"""A box of inputs, or of an affine slice of them: x = origin + s @ directions, low <= s <= high."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError, WrongShape
from gatewise.ir.network import Network

Floats = NDArray[np.float64]
MOST = 8  # dimensions: a box has 2**d corners, and so does each simple vertex have cells
FAR = 1e150  # beyond it sizes overflow
MARGIN = 0.25  # of the size of what the points of a slice span, on every side of it


@dataclass(frozen=True, eq=False)
class Slice:
    """x = origin + s @ directions for s in a box of k coordinates.

    origin (inputs,), directions (k, inputs), low and high (k,) with low < high: floats, taken as
    they are. marks (m, k): points to be shown, such as those the slice was put through.
    """

    origin: Floats
    directions: Floats
    low: Floats
    high: Floats
    marks: Floats

    @property
    def dimension(self) -> int:
        """k, the number of coordinates."""
        return len(self.directions)

    @property
    def reach(self) -> Floats:
        """The largest |s_i| in the box."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def inputs(self, s: Any) -> Floats:
        """The network's inputs (rows, inputs) at coordinates s (rows, k)."""
        points: Floats = self.origin + np.asarray(s, np.float64) @ self.directions
        return points

    def coordinates(self, x: Any) -> Floats:
        """The coordinates of the points of the slice nearest to x (rows, inputs)."""
        gap = (np.asarray(x, np.float64) - self.origin).T
        found, *_ = np.linalg.lstsq(self.directions.T, gap, rcond=None)
        return np.asarray(found.T, np.float64)

    def within(self, low: Any, high: Any) -> Slice:
        """The same plane with another box of coordinates."""
        return _checked(self.origin, self.directions, low, high, self.marks)


def box_slice(network: Network, box: Any) -> Slice:
    """The box of the whole input space: (low, high), each a number or one a feature.

    A feature whose low and high are equal is held there: it is no coordinate.
    """
    low, high = _corners(box, network.inputs)
    free = np.flatnonzero(low < high)
    origin = np.where(low < high, 0.0, low)
    return _checked(origin, np.eye(network.inputs)[free], low[free], high[free], None)


def slice_through(*points: Any, margin: float = MARGIN) -> Slice:
    """The flat through two points or more (a line, a plane ..), with orthonormal coordinates.

    The box holds the points, with a margin of that share of its size on every side.
    """
    rows = [_point(p) for p in points]
    if len(rows) < 2 or len({r.shape for r in rows}) > 1:
        raise DataError(
            f"a slice goes through two points or more of one size, got {len(rows)} of sizes "
            f"{sorted({r.size for r in rows})}"
        )
    gaps = np.stack(rows[1:]) - rows[0]
    q, r = np.linalg.qr(gaps.T)
    size = np.abs(np.diag(r))
    if not (size > 1e-12 * np.abs(gaps).max(initial=0.0)).all():
        raise DataError(
            f"the {len(rows)} points span fewer than {len(rows) - 1} dimensions: they are equal, "
            f"or on one line; choose others"
        )
    directions = (q * np.sign(np.diag(r))).T
    marks = np.concatenate([np.zeros((1, len(gaps))), gaps @ directions.T])
    low, high = marks.min(0), marks.max(0)
    return _checked(
        rows[0], directions, low - margin * (high - low), high + margin * (high - low), marks
    )


def _point(values: Any) -> Floats:
    held = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    return np.asarray(held, np.float64).reshape(-1)


def _corners(box: Any, inputs: int) -> tuple[Floats, Floats]:
    try:
        low, high = (
            np.broadcast_to(_point(b), inputs) if np.size(b) in (1, inputs) else None for b in box
        )
    except (TypeError, ValueError):
        low = high = None
    if low is None or high is None:
        raise WrongShape(
            f"box must be (low, high), each one number or {inputs} numbers, one for each input"
        )
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise DataError("a box must be finite: give every input a lowest and a highest value")
    if (low > high).any():
        worst = int(np.argmax(low > high))
        raise DataError(
            f"box: low must not exceed high, got low {low[worst]:g} and high {high[worst]:g} for "
            f"input {worst}"
        )
    return low, high


def _checked(origin: Floats, directions: Floats, low: Any, high: Any, marks: Any) -> Slice:
    k = len(directions)
    if k > MOST:
        raise DataError(
            f"enumerating regions takes at most {MOST} free inputs, got {k}: hold inputs by equal "
            f"bounds, cut a slice, or walk from region to region"
        )
    low, high = (np.array(np.broadcast_to(b, k), np.float64) for b in (low, high))
    held = [np.ascontiguousarray(a, np.float64) for a in (origin, directions, low, high)]
    if not all(np.isfinite(a).all() for a in held) or not (low < high).all():
        raise DataError("a slice needs finite numbers, and low < high in every coordinate")
    if not (np.abs(held[2:]) < FAR).all():
        raise DataError(f"a box reaches {FAR:g} at most, got {np.abs(held[2:]).max():g}")
    shown = np.empty((0, k)) if marks is None else np.asarray(marks, np.float64)
    return Slice(held[0], held[1], held[2], held[3], shown)
