"""Sums over rows that agree to 1e-12 in whatever order they are merged.

Within STEP rows numbers are added as they are, which loses STEP u of sum |v| at most (4.6e-13);
beyond that every sum is a pair (high, low) of which TwoSum loses nothing worth the name
(Knuth; Dekker 1971). Both classes are commutative monoids: partial results of any cut of the rows,
on any machine, merge into that of all rows. Counts, smallest and largest values are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.compute import exponents, mean
from gatewise.tables import listed

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
STEP = 4096  # rows that are added up in plain float64
MODERATE = 300  # |exponent| of numbers whose squares neither overflow nor vanish


def two_sum(a: Floats, b: Floats) -> Floats:
    """(2, ...) the rounded sum and what rounding lost: their sum is a + b exactly (Knuth)."""
    total = a + b
    part = total - a
    return np.stack([total, (a - (total - part)) + (b - part)])


def added(x: Floats, y: Floats) -> Floats:
    """(2, ...) the sum of two such pairs, to twice the precision of a float64."""
    total = two_sum(x[0], y[0])
    return two_sum(total[0], total[1] + x[1] + y[1])


# -- columns of numbers: means, deviations, ranges --


@dataclass(frozen=True, eq=False)
class Columns:
    """Rows, mean, spread, smallest and largest of some columns, merged as Chan et al. (1983) do.

    centre (2, columns): the mean as a pair; scatter (2, columns): sum (x - mean)² as a pair, over
    4**exponent (whole numbers, 0 unless a square would overflow or vanish).
    """

    rows: int
    centre: Floats
    scatter: Floats
    exponent: Ids
    low: Floats
    high: Floats

    @classmethod
    def of(cls, x: Floats) -> Columns:
        """Of the rows of x (rows, columns), finite."""
        whole = cls.none(x.shape[1])
        for start in range(0, len(x), STEP):
            whole = whole.merge(_columns(x[start : start + STEP]))
        return whole

    @classmethod
    def none(cls, columns: int) -> Columns:
        """Of no row."""
        pair, inf = np.zeros((2, columns)), np.full(columns, np.inf)
        return cls(0, pair, pair, np.zeros(columns, np.int64), inf, -inf)

    def merge(self, other: Columns) -> Columns:
        """Of the rows of both."""
        if not self.rows or not other.rows:
            return other if not self.rows else self
        rows = self.rows + other.rows
        gap = added(other.centre, -self.centre).sum(0)
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        exponent = _exponents(low, high)
        centre = added(self.centre, np.stack([gap * (other.rows / rows), np.zeros_like(gap)]))
        between = np.ldexp(gap, -exponent) ** 2 * (self.rows * (other.rows / rows))
        mine, theirs = (p._scatter_at(exponent) for p in (self, other))
        scatter = added(added(mine, theirs), np.stack([between, np.zeros_like(between)]))
        return Columns(rows, centre, scatter, exponent, low, high)

    def _scatter_at(self, exponent: Ids) -> Floats:
        return np.asarray(np.ldexp(self.scatter, 2 * (self.exponent - exponent)))

    @property
    def mean(self) -> Floats:
        """(columns,)."""
        return np.asarray(self.centre[0])

    @property
    def deviation(self) -> Floats:
        """(columns,) the standard deviation, exactly 0 for a column of one value."""
        spread = np.sqrt(self.scatter[0].clip(0) / max(self.rows, 1))
        return np.where(self.low == self.high, 0.0, np.ldexp(spread, self.exponent))

    @property
    def total(self) -> Floats:
        """(columns,) the sum of the rows."""
        return np.asarray(self.rows * self.centre[0] + self.rows * self.centre[1])

    @property
    def squares(self) -> Floats:
        """(columns,) the sum of squares."""
        with np.errstate(over="ignore"):
            own = np.ldexp(self.scatter[0], 2 * self.exponent)
            return np.asarray(own + self.rows * self.mean**2)

    @property
    def reach(self) -> Floats:
        """(columns,) the largest |x|."""
        return np.maximum(self.high, -self.low)


def _columns(x: Floats) -> Columns:
    """Of at most STEP rows."""
    low, high = x.min(0), x.max(0)
    exponent = _exponents(low, high)
    middle = mean(x)
    away = np.ldexp(x, -exponent) - np.ldexp(middle, -exponent)
    left = away.sum(0) / len(x)
    scatter = (away**2).sum(0) - len(x) * left**2
    centre = two_sum(middle, np.ldexp(left, exponent))
    return Columns(len(x), centre, np.stack([scatter, 0 * scatter]), exponent, low, high)


def _exponents(low: Floats, high: Floats) -> Ids:
    """(columns,) e so that x / 2**e is moderate: 0 for most."""
    found = exponents(np.stack([low, high])).astype(np.int64)
    return np.where(np.abs(found) > MODERATE, found, 0)


# -- sums by group --


@dataclass(frozen=True, eq=False)
class Sums:
    """For each group of rows how many there are, and the sum of every column over them.

    counts (groups,); pairs (2, groups, columns): see `totals`.
    """

    names: tuple[str, ...]
    counts: Ids
    pairs: Floats

    @classmethod
    def of(cls, names: tuple[str, ...], ids: Ids, groups: int, values: Floats) -> Sums:
        """ids (rows,): the group of each row, below `groups`; values (rows, columns)."""
        pairs = np.zeros((2, groups, len(names)))
        for start in range(0, len(ids), STEP):
            part = slice(start, start + STEP)
            there, sums = _by_group(ids[part], values[part])
            total = two_sum(pairs[0, there], sums)
            pairs[0, there] = total[0]
            pairs[1, there] += total[1]
        return cls(names, np.bincount(ids, minlength=groups).astype(np.int64), pairs)

    @classmethod
    def none(cls, names: tuple[str, ...], groups: int) -> Sums:
        """Of no row."""
        return cls(names, np.zeros(groups, np.int64), np.zeros((2, groups, len(names))))

    def merge(self, other: Sums) -> Sums:
        """Of the rows of both, which were told apart in the same way."""
        if (self.names, len(self)) != (other.names, len(other)):
            raise DataError(
                f"only sums of the same columns and groups can be merged: here are {len(self)} "
                f"groups of {listed(self.names)}, there {len(other)} of {listed(other.names)}"
            )
        return Sums(self.names, self.counts + other.counts, added(self.pairs, other.pairs))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def totals(self) -> Floats:
        """(groups, columns)."""
        return np.asarray(self.pairs.sum(0))

    @property
    def means(self) -> Floats:
        """(groups, columns), nan for a group without a row."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.totals / self.counts[:, None])

    def whole(self) -> dict[str, float]:
        """Each column's mean over all rows."""
        pair = np.zeros((2, len(self.names)))
        for group in range(len(self)):
            pair = added(pair, self.pairs[:, group])
        means = pair.sum(0) / max(self.counts.sum(), 1)
        return dict(zip(self.names, means.tolist(), strict=True))


def _by_group(ids: Ids, values: Floats) -> tuple[Ids, Floats]:
    """The groups there are, in order, and the sums of their rows."""
    order = np.argsort(ids, kind="stable")
    held = ids[order]
    starts = np.flatnonzero(np.diff(held, prepend=held[0] - 1))
    return held[starts], np.add.reduceat(values[order], starts, axis=0)
