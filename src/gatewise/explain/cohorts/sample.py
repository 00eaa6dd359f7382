"""The rows that cohorts are fitted on: the data's own, and mixtures of near rows that we label.

The network can be asked about any point, so a small table need not mean a small sample. A made row
takes each column from one of two near rows, a category as a whole: every number in it is one that
the column has, and near rows keep it where the data are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
CUTS = 200  # thresholds tried a feature: codes fit a byte
NEAR, AMONG, CHUNK = 10, 3000, 2048


@dataclass(frozen=True, eq=False)
class Scaling:
    """z = (1, (x - shift) / spread): a column of two values has range 1, others sd 1."""

    shift: Floats
    spread: Floats

    def __call__(self, x: Floats) -> Floats:
        return np.column_stack([np.ones(len(x)), (x - self.shift) / self.spread])

    def undo(self, beta: Floats) -> tuple[Floats, Floats]:
        """Coefficients (rules, features) and intercepts (rules,) on x, of rules on z."""
        slopes = beta[:, 1:] / self.spread
        return slopes, beta[:, 0] - slopes @ self.shift


def scaling(x: Floats) -> Scaling:
    """The Scaling of some rows; a constant column keeps its unit."""
    low, high = x.min(0), x.max(0)
    two = ((x == low) | (x == high)).all(0)
    spread = np.where(two, high - low, x.std(0))
    return Scaling(np.where(two, 0.0, x.mean(0)), np.where(spread > 0, spread, 1.0))


@dataclass(frozen=True, eq=False)
class Sample:
    """z (rows, 1 + features), y (rows,): less the global rule; codes (rows, features): how many of
    the feature's `cuts` lie below; real (rows,): is it a row of the data.
    """

    z: Floats
    y: Floats
    codes: NDArray[np.uint8]
    cuts: tuple[Floats, ...]
    real: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.y)


def coded(x: Floats, cuts: Sequence[Floats]) -> NDArray[np.uint8]:
    """(rows, features) c with cuts[c - 1] < x <= cuts[c]."""
    found = [np.searchsorted(cut, x[:, j], "left") for j, cut in enumerate(cuts)]
    return np.stack(found, 1).astype(np.uint8)


def cuts_of(x: Floats) -> tuple[Floats, ...]:
    """For each feature, numbers between its neighbouring values, short ones; at most CUTS."""
    return tuple(_cuts(np.sort(column)) for column in x.T)


def _cuts(column: Floats) -> Floats:
    values = np.unique(column)
    if len(values) > CUTS:
        wanted = np.unique(column[np.arange(1, CUTS) * len(column) // CUTS])
        low = np.searchsorted(values, wanted)
        low = low[low < len(values) - 1]
    else:
        low = np.arange(len(values) - 1)
    return between(values[low], values[low + 1])


def between(low: Floats, high: Floats) -> Floats:
    """For each pair a decimal t with low <= t < high, of as few digits as there are, near halfway.

    A condition `x <= t` then reads well, and parts the same rows.
    """
    middle = low + (high - low) / 2
    found = np.where((low <= middle) & (middle < high), middle, low)
    open_ = np.ones(len(found), bool)
    top = np.ceil(np.log10(np.maximum(np.abs(low), np.abs(high)) + 1e-300))
    for digits in range(17):
        unit = 10.0 ** np.clip(top - digits, -300, 300)
        short = np.round(middle / unit) * unit
        good = open_ & (low <= short) & (short < high)
        found = np.where(good, [float(f"{t:.15g}") for t in short], found)
        open_ &= ~good
    return np.where((low <= found) & (found < high), found, low)


def mixtures(
    x: Floats, parts: Sequence[Sequence[int]], count: int, rng: np.random.Generator
) -> Floats:
    """(count, features) rows, each column (of `parts`) from a row of x or from one near it."""
    if len(x) < 2 or not count:
        return x[:0]
    z = scaling(x)(x)[:, 1:]
    among = rng.permutation(len(x))[:AMONG]
    first = rng.integers(0, len(x), count)
    second = np.concatenate(
        [_near(z, rows, among, rng) for rows in np.split(first, range(CHUNK, count, CHUNK))]
    )
    made = x[first]
    for part in parts:
        columns = np.array(list(part))
        take = np.flatnonzero(rng.random(count) < 0.5)
        made[np.ix_(take, columns)] = x[np.ix_(second[take], columns)]
    return made


def _near(z: Floats, rows: Ids, among: Ids, rng: np.random.Generator) -> Ids:
    """(rows,) one of the NEAR nearest rows among some, itself left out."""
    gap = (z[among] ** 2).sum(1) - 2 * z[rows] @ z[among].T
    gap[rows[:, None] == among] = np.inf
    k = min(NEAR, len(among) - 1)
    nearest = np.argpartition(gap, k - 1, axis=1)[:, :k] if k < len(among) else gap.argsort(1)
    return np.asarray(among[nearest[np.arange(len(rows)), rng.integers(0, k, len(rows))]])
