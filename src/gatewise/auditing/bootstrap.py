"""The paired bootstrap: test rows drawn anew with replacement, the same ones for every model.

Intervals say how far figures could be off because of which rows happen to be test rows. The models
are held fixed, so what another training set would have changed is not in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
AT_ONCE = 4_000_000  # weights


@dataclass(frozen=True)
class Draws:
    """How many, from which seed; level: the share of them that an interval holds."""

    count: int
    level: float
    seed: int


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its interval."""

    value: float
    low: float
    high: float

    @property
    def settled(self) -> int:
        """1 where it is above 0, -1 where it is below, 0 where that is undecided."""
        return int(self.low > 0) - int(self.high < 0)


def draws(rows: int, count: int, seed: int) -> Iterator[Floats]:
    """(some draws, rows) how often each draw holds each row, `count` draws in all."""
    rng = np.random.default_rng(seed)
    step = max(1, AT_ONCE // max(rows, 1))
    for start in range(0, count, step):
        here = min(step, count - start)
        picked = rng.integers(rows, size=(here, rows)) + np.arange(here)[:, None] * rows
        held = np.bincount(picked.ravel(), minlength=here * rows)
        yield held.reshape(here, rows).astype(np.float64)


def resampled(
    rows: int, how: Draws, figures: Callable[[Floats], dict[str, Floats]]
) -> dict[str, Floats]:
    """Each figure under every draw, (count,)."""
    parts = [figures(weights) for weights in draws(rows, how.count, how.seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(value: float, drawn: Floats, level: float) -> Interval:
    """Percentiles of the draws, those that are nan left out."""
    kept = drawn[np.isfinite(drawn)]
    if not len(kept):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def together(values: Floats, drawn: Floats, level: float) -> list[Interval]:
    """Intervals that hold all at once at this level: value ± c standard errors, drawn (draws, k).

    c is the level's quantile, over draws, of the largest |drawn - value| / standard error: the
    studentised maximum, which counts how many there are and how they hang together.
    """
    error = np.nanstd(drawn, 0)
    usable = (error > 0) & np.isfinite(values)
    if not usable.any():
        return [Interval(float(v), float("nan"), float("nan")) for v in values]
    away = np.abs(drawn[:, usable] - values[usable]) / error[usable]
    wide = float(np.quantile(np.nanmax(away, 1), level))
    half = np.where(usable, wide * error, np.nan)
    return [
        Interval(float(v), float(v - h), float(v + h)) for v, h in zip(values, half, strict=True)
    ]
