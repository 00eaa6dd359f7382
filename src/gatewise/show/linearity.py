"""How linear the network is on the rows: units that never switch, rules in use, one affine fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.explanation import Explanation, deviation, mean
from gatewise.ir.pattern import Field
from gatewise.show import truth
from gatewise.show.truth import Target

Floats = NDArray[np.float64]
CODES = 10_000_000  # unpacked at once
WORK = 2e10  # multiplications in one least-squares fit, before rows are left out


@dataclass(frozen=True)
class GateUse:
    """Units of one gate: on the rows always on the first branch, always on another, or neither."""

    name: str
    units: int
    off: int
    on: int

    @property
    def both(self) -> int:
        return self.units - self.off - self.on


@dataclass(frozen=True)
class LinearFit:
    """One affine rule fitted by least squares to the outputs, and one to the target.

    network: share of the output's variance that it explains; same: share of equal decisions, or
    None; target, target_network: accuracy or R² of the second rule and of the network, or None.
    """

    rows: int
    network: float
    same: float | None
    metric: str
    target: float | None
    target_network: float | None


def gate_uses(e: Explanation) -> tuple[GateUse, ...]:
    """Each gate's units by what they do on the rows."""
    return tuple(_gate_use(e, field) for field in e.census.pattern.fields)


def _gate_use(e: Explanation, field: Field) -> GateUse:
    step = max(1, CODES // max(1, field.units))
    low = np.full(field.units, np.iinfo(np.int64).max)
    high = np.full(field.units, -1)
    for start in range(0, e.clusters, step):
        part = e.census.pattern[slice(start, start + step)]
        codes = part.codes(field.name).reshape(len(part), -1).numpy().astype(np.int64)
        low, high = np.minimum(low, codes.min(0)), np.maximum(high, codes.max(0))
    fixed = low == high
    return GateUse(
        field.name, field.units, int((fixed & (high == 0)).sum()), int((fixed & (high > 0)).sum())
    )


def effective_rules(e: Explanation) -> float:
    """exp(entropy of the cluster sizes): how many equally large clusters would be as mixed."""
    p = e.share[e.share > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def linear_fit(e: Explanation, t: Target | None) -> LinearFit:
    """The best single affine rule, in closed form, against the network on the same rows."""
    rows = _spread(len(e), e.data.shape[1])
    x = _design(e)
    y = e.output[rows]
    found = x[rows] @ _least_squares(x[rows], y)
    fit = truth.fit(e, t)
    mine = None if t is None or fit is None else _on_target(x, t, rows)
    same = _same_decisions(e, y, found) if truth.decides(e, t) else None
    return LinearFit(
        len(rows),
        _explained(y, found),
        same,
        fit.name if fit and mine is not None else "",
        mine,
        fit.value if fit and mine is not None else None,
    )


def _spread(rows: int, features: int) -> NDArray[np.int64]:
    """All rows, or as many evenly spaced ones as can be fitted in a few seconds."""
    most = max(4 * features, int(WORK / (features + 1) ** 2))
    return np.arange(rows) if rows <= most else np.linspace(0, rows - 1, most).astype(np.int64)


def _design(e: Explanation) -> Floats:
    """(rows, features + 1) standardised inputs and a column of ones."""
    spread = deviation(e.data)
    x = (e.data - mean(e.data)) / np.where(spread > 0, spread, 1)
    return np.hstack([x, np.ones((len(e), 1))])


def _least_squares(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(x, y, rcond=None)[0])


def _explained(y: Floats, found: Floats) -> float:
    """R² over all outputs together; 1 where there is nothing to explain."""
    spread = float(((y - y.mean(0)) ** 2).sum())
    return 1 - float(((y - found) ** 2).sum()) / spread if spread > 0 else 1.0


def _same_decisions(e: Explanation, y: Floats, found: Floats) -> float | None:
    """Equal sign of one output, or equal largest of all of them."""
    if e.network.outputs == 1:
        return float(((y[:, 0] > 0) == (found[:, 0] > 0)).mean())
    if len(e.outputs) < e.network.outputs:
        return None
    return float((y.argmax(1) == found.argmax(1)).mean())


def _on_target(x: Floats, t: Target, rows: NDArray[np.int64]) -> float | None:
    rows = rows[t.known[rows]]
    if t.measured:
        y = t.values[rows, None]
        return _explained(y, x[rows] @ _least_squares(x[rows], y))
    codes = t.codes[rows]
    y = np.eye(len(t.names))[codes]
    found = x[rows] @ _least_squares(x[rows], y)
    value = float((found.argmax(1) == codes).mean())
    return value if math.isfinite(value) else None
