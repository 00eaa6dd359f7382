"""The one affine rule nearest to a network on the rows of an Explanation, by least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.explanation import Explanation
from gatewise.given.labels import winners
from gatewise.linear.fits.squares import least_squares, ridge

Floats = NDArray[np.float64]
WORK = 2e10  # multiplications in one least-squares fit, before rows are left out


@dataclass(frozen=True)
class Nearest:
    """rows it was fitted on; explained: share of the output's variance that it explains, over all
    outputs together; same: share of equal decisions, or None where there are none."""

    rows: int
    explained: float
    same: float | None


def nearest(e: Explanation, decides: bool) -> Nearest:
    """The best single affine rule, in closed form, against the network on the same rows."""
    rows = spread(len(e), max(4 * e.data.shape[1], int(WORK / (e.data.shape[1] + 1) ** 2)))
    x, y = e.data[rows], e.output[rows]
    slopes, starts = affine_map(x, y)
    found = x @ slopes.T + starts
    return Nearest(len(rows), explained(y, found), _same(e, y, found) if decides else None)


def affine_map(x: Floats, y: Floats, shrunk: bool = False) -> tuple[Floats, Floats]:
    """Slopes (outputs, inputs) and intercepts (outputs,), by least squares.

    Of the least norm where inputs are collinear; constant for an output of one value. shrunk: with
    a penalty by leave-one-out, for other rows than these.
    """
    slopes, starts = np.zeros((y.shape[1], x.shape[1])), y.mean(0)
    moving = np.flatnonzero(np.ptp(y, 0) > 1e-12 * np.abs(y).max(0))
    if len(moving) and len(x) > 1:
        some = y[:, moving]
        found = (
            ridge(x, some, alpha="loo")
            if shrunk
            else least_squares(x, some, collinear_columns="least")
        )
        slopes[moving], starts[moving] = found.coefficients, found.intercepts
    return slopes, starts


def spread(rows: int, most: int) -> NDArray[np.int64]:
    """All rows, or `most` evenly spaced ones."""
    return np.arange(rows) if rows <= most else np.linspace(0, rows - 1, most).astype(np.int64)


def explained(y: Floats, found: Floats) -> float:
    """R² over all outputs together; 1 where there is nothing to explain."""
    total = float(((y - y.mean(0)) ** 2).sum())
    return 1 - float(((y - found) ** 2).sum()) / total if total > 0 else 1.0


def _same(e: Explanation, y: Floats, found: Floats) -> float | None:
    """Equal sign of one output, or equal largest of all of them."""
    if len(e.outputs) < e.network.outputs:
        return None
    return float((winners(y) == winners(found)).mean())
