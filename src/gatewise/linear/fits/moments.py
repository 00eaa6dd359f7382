"""Moments: means and the square root of centred second moments, rows added batch by batch.

rootᵀ root = Σ (z - mean)(z - mean)ᵀ for z = (x, y). Two parts merge as means and scatter do (Chan,
Golub and LeVeque 1983), on the roots: the QR of both roots and of √(n m / (n + m)) (mean - mean').
The scatter itself is never formed, so a fit loses digits with the condition number and not with
its square, and data far from 0 cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewise.errors import DataError, EmptyData
from gatewise.linear.fits.data import Batches, Floats, batches_of, numbers
from gatewise.tables import counted, listed

HUGE = 1e140
TINY = 1e-13  # of a column's size: it spreads less by rounding alone


@dataclass(frozen=True, eq=False)
class Moments:
    """What least squares needs of any number of rows; a commutative monoid under `merge`.

    mean (columns,); root (columns, columns) upper triangular; the features come first, `targets`
    columns of y last. names (features,).
    """

    rows: int
    mean: Floats
    root: Floats
    targets: int
    names: tuple[str, ...]

    @classmethod
    def of(cls, X: Any, y: Any = None) -> Moments:
        """Of a table with its target, or of batches (X, y), each read once."""
        return moments_of(batches_of(X, y))

    @classmethod
    def empty(cls, names: tuple[str, ...], targets: int = 1) -> Moments:
        """Of no row: what `merge` leaves anything as it is with."""
        wide = len(names) + targets
        return cls(0, np.zeros(wide), np.zeros((wide, wide)), targets, tuple(names))

    def add(self, X: Any, y: Any) -> Moments:
        """With more rows."""
        return self.merge(Moments.of(X, y))

    def merge(self, other: Moments) -> Moments:
        """Of the rows of both."""
        if (self.names, self.targets) != (other.names, other.targets):
            raise DataError(
                f"only moments of the same columns can be merged: here are {_said(self)}, there "
                f"{_said(other)}"
            )
        if not self.rows or not other.rows:
            return other if not self.rows else self
        rows = self.rows + other.rows
        gap = other.mean - self.mean
        bridge = np.sqrt(self.rows * (other.rows / rows)) * gap
        root = triangle(np.vstack([self.root, other.root, bridge]))
        mean = self.mean + gap * (other.rows / rows)
        return Moments(rows, mean, root, self.targets, self.names)

    @property
    def features(self) -> int:
        """How many columns are not the target."""
        return len(self.names)

    @property
    def scatter(self) -> Floats:
        """Σ (z - mean)(z - mean)ᵀ, (columns, columns)."""
        return np.asarray(self.root.T @ self.root)

    @property
    def covariance(self) -> Floats:
        """The scatter over rows - 1."""
        return self.scatter / max(self.rows - 1, 1)

    @property
    def scale(self) -> Floats:
        """(features,) the norm of each centred column; exactly 0 for one of a single value."""
        p = self.features
        norm = np.sqrt((self.root[:, :p] ** 2).sum(0))
        size = np.abs(self.mean[:p]) * np.sqrt(self.rows)
        return np.asarray(np.where(norm > TINY * size, norm, 0.0))

    def __repr__(self) -> str:
        return f"Moments({self.rows:,} rows of {_said(self)})"


def moments_of(batches: Batches) -> Moments:
    """Of all batches, each read once."""
    found: Moments | None = None
    for x, y, names in batches:
        part = of_rows(x, numbers(y), names)
        found = part if found is None else found.merge(part)
    if found is None:
        raise EmptyData("the data hold 0 rows: give at least one")
    return found


def of_rows(x: Floats, y: Floats, names: tuple[str, ...]) -> Moments:
    """Of x (rows, features) and y (rows, targets)."""
    z = np.hstack([x, y])
    _require_room(z, names)
    mean = z.mean(0)
    z -= mean
    return Moments(len(x), mean, triangle(z), y.shape[1], names)


def _require_room(z: Floats, names: tuple[str, ...]) -> None:
    large = np.abs(z).max(0, initial=0.0)
    if large.max(initial=0.0) > HUGE:
        j = int(large.argmax())
        name = f"column '{names[j]}'" if j < len(names) else "y"
        raise DataError(
            f"{name} holds numbers as large as {large[j]:.3g}, and squares of numbers above "
            f"{HUGE:g} overflow: divide it by a constant"
        )


def triangle(z: Floats) -> Floats:
    """R of z = Q R, square: rows of zeros below where z has fewer rows than columns."""
    found = np.linalg.qr(z, mode="r")
    short = z.shape[1] - len(found)
    return np.vstack([found, np.zeros((short, z.shape[1]))]) if short else np.asarray(found)


def _said(m: Moments) -> str:
    return (
        f"{counted(m.features, 'feature')} ({listed(m.names)}) and {counted(m.targets, 'target')}"
    )
