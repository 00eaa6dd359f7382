"""Does a row follow from others, in whole numbers: yes with multipliers, or no with a point.

Phase 1 of the simplex method on  M l = q, l >= 0,  where the columns of M are the rows (a_j, b_j)
and (0, 1), and q is the row asked about; by Farkas' lemma one of l, y exists. Fraction-free
pivots (Edmonds, Bareiss): every entry stays a whole number, over the last pivot. Bland's rule
after a while, so it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from gatewise.patterns.dyadic import Whole, objects

ENTRIES = 2_500  # of a tableau: a second or so
GREEDY = 3  # pivots a row of the tableau before Bland's rule


@dataclass(frozen=True, eq=False)
class Answer:
    """multipliers (k,) where the row follows; else w (d + 1,): (a_j, b_j).w >= 0 > (a, b).w."""

    multipliers: list[Fraction] | None
    point: list[int] | None


def follows(rows: Sequence[Sequence[int]], row: Sequence[int]) -> Answer | None:
    """Is row (a, b) sum l_j (a_j, b_j) + (0, t), l, t >= 0? None: the tableau is too large."""
    n, k = len(row), len(rows)
    if n * (k + n + 2) > ENTRIES:
        return None
    columns = [list(r) for r in rows] + [[0] * (n - 1) + [1]]
    matrix = np.stack([objects(c) for c in columns], 1)
    right = objects(list(row))
    flip = np.array([-1 if v < 0 else 1 for v in row], object)
    table = _Table(matrix * flip[:, None], right * flip)
    table.solve()
    if not table.cost[-1]:
        found = table.solution(k)
        return Answer(found, None)
    return Answer(None, list(-table.dual() * flip))


class _Table:
    """A tableau over one common denominator, its artificial columns last but one."""

    def __init__(self, matrix: Whole, right: Whole) -> None:
        n, self.columns = matrix.shape
        self.basis = list(range(self.columns, self.columns + n))
        eye = np.eye(n, dtype=int).astype(object)
        self.body = np.concatenate([matrix, eye, right[:, None]], 1)
        self.cost = -self.body.sum(0)
        self.cost[self.columns : -1] = 0
        self.last = 1

    def solve(self) -> None:
        """Pivot until no reduced cost is negative."""
        pivots = 0
        while self.cost[-1]:
            negative = np.flatnonzero(self.cost[: self.columns] < 0)
            if not len(negative):
                return
            greedy = pivots < GREEDY * len(self.basis)
            column = int(negative[np.argmin(self.cost[negative])] if greedy else negative[0])
            self._pivot(self._leaving(column), column)
            pivots += 1

    def _leaving(self, column: int) -> int:
        """The row of least ratio; of several the one whose basic column comes first."""
        best = -1
        entry, right = self.body[:, column], self.body[:, -1]
        for r in np.flatnonzero(entry > 0).tolist():
            if best < 0:
                best = r
                continue
            gap = right[r] * entry[best] - right[best] * entry[r]
            if gap < 0 or (gap == 0 and self.basis[r] < self.basis[best]):
                best = r
        return best

    def _pivot(self, row: int, column: int) -> None:
        own, pivot = self.body[row].copy(), self.body[row, column]
        self.body = (self.body * pivot - np.outer(self.body[:, column], own)) // self.last
        self.cost = (self.cost * pivot - self.cost[column] * own) // self.last
        self.body[row] = own
        self.basis[row], self.last = column, pivot

    def solution(self, k: int) -> list[Fraction]:
        """The first k variables."""
        found = [Fraction(0)] * k
        for r, column in enumerate(self.basis):
            if column < k:
                found[column] = Fraction(int(self.body[r, -1]), int(self.last))
        return found

    def dual(self) -> Whole:
        """y >= 0 . with y.M <= 0 < y.q: 1 less the reduced costs of the artificial columns."""
        reduced: Whole = self.last - self.cost[self.columns : -1]
        return reduced
