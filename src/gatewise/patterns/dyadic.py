"""Exact arithmetic on floats: whole numbers over a power of two, as arrays of Python integers.

Every float is m / 2**s, sums and products of such are such again, and numpy runs the loops: some
fifty times quicker than fractions, whose every step looks for a common divisor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[Any]  # of Python integers


@dataclass(frozen=True, eq=False)
class Dyadic:
    """The numbers whole / 2**scale, exactly."""

    whole: Whole
    scale: int

    def __getitem__(self, key: Any) -> Dyadic:
        return Dyadic(self.whole[key], self.scale)

    def __mul__(self, other: Dyadic) -> Dyadic:
        return Dyadic(self.whole * other.whole, self.scale + other.scale)

    def __add__(self, other: Dyadic) -> Dyadic:
        scale = max(self.scale, other.scale)
        return Dyadic(self.at(scale) + other.at(scale), scale)

    def at(self, scale: int) -> Whole:
        """The whole numbers over a larger power of two."""
        return self.whole if scale == self.scale else self.whole * (1 << (scale - self.scale))

    def compare(self, other: Dyadic) -> NDArray[np.int8]:
        """The sign of self - other."""
        scale = max(self.scale, other.scale)
        mine, theirs = self.at(scale), other.at(scale)
        return (mine > theirs).astype(np.int8) - (mine < theirs).astype(np.int8)


def dyadic(floats: Any) -> Dyadic:
    """Floats (finite) as they are, without rounding."""
    values = np.asarray(floats, np.float64)
    mantissa, exponent = np.frexp(values.ravel())
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    low = np.where(whole == 0, 1, whole & -whole)  # the lowest bit that is set
    spare = np.frexp(low.astype(np.float64))[1] - 1
    power = np.where(whole == 0, 0, exponent - 53 + spare)
    scale = max(0, -int(power.min(initial=0)))
    pairs = zip((whole // low).tolist(), (power + scale).tolist(), strict=True)
    return Dyadic(objects([w << p for w, p in pairs]).reshape(values.shape), scale)


def objects(numbers: Sequence[int]) -> Whole:
    """A flat array of Python integers, whatever their size."""
    out = np.empty(len(numbers), object)
    out[:] = numbers
    return out


def join(parts: Sequence[Dyadic]) -> Dyadic:
    """Several arrays as one, end to end."""
    scale = max(part.scale for part in parts)
    return Dyadic(np.concatenate([part.at(scale) for part in parts]), scale)


@dataclass(frozen=True, eq=False)
class Rows:
    """A sparse matrix L and an offset c: weight of entry e in `column[e]`, rows from `start` on."""

    weight: Dyadic
    column: NDArray[np.int64]
    start: NDArray[np.int64]
    filled: NDArray[np.int64]  # rows that have an entry
    offset: Dyadic

    def __call__(self, x: Dyadic, one: Dyadic) -> Dyadic:
        """L x for the columns of x (n, k), plus c where `one` (k,) is 1: (rows, k)."""
        products = self.weight[:, None] * x[self.column]
        total = np.zeros((len(self.offset.whole), x.whole.shape[1]), object)
        if len(self.filled):
            total[self.filled] = np.add.reduceat(products.whole, self.start, axis=0)
        return Dyadic(total, products.scale) + self.offset[:, None] * one


def sparse(matrix: NDArray[np.float64], offset: NDArray[np.float64]) -> Rows:
    """The rows of a float matrix, without their zeros."""
    row, column = matrix.nonzero()
    filled, start = np.unique(row, return_index=True)
    return Rows(dyadic(matrix[row, column]), column, start, filled, dyadic(offset))
