"""Signs that floats leave open, decided in integers: the side of a row that a vertex lies on.

Weights, the slice and its box are floats, hence whole numbers over powers of two, and so is every
row on a cell. A vertex is where d rows T s + c vanish; for another row (f, g),
det [[T, c], [f, g]] = det T * (f.s + g), so its sign there is that of two integer determinants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gatewise.ir.kinds import Affine, Pieces, Winner
from gatewise.ir.network import INPUT
from gatewise.ir.pattern import Pattern, layout
from gatewise.patterns.dyadic import Dyadic, dyadic, join
from gatewise.patterns.exact import Rational, branch, rational
from gatewise.regions.cells.slices import Slice
from gatewise.regions.cells.stages import KNOT, Plan, unlabel

Integers = tuple[int, ...]
REMEMBERED = 256  # patterns whose rows are kept
BUDGET = 4_000_000  # products for the rows of one cell, some seconds; and in all, some minutes
IN_ALL = 400_000_000


@dataclass(eq=False)
class Signs:
    """Decides open signs of one enumeration (a builder: it remembers rows of recent cells)."""

    plan: Plan
    rows: dict[bytes, Dyadic] = field(default_factory=dict)
    spent: int = 0

    @cached_property
    def exact(self) -> Rational | None:
        """The network in integers, or None where it has no such form; most boxes never ask."""
        return rational(self.plan.network, BUDGET)

    def __call__(self, bits: np.ndarray, vertex: Sequence[int], who: int) -> int | None:
        """-1, 0 or 1 on the cell with packed pattern `bits` (1, bytes), or None: cannot be told.

        vertex: the rows that vanish there; who: the row asked for (see `stages.label`).
        """
        tight = [self.row(bits, w) for w in vertex]
        asked = self.row(bits, who)
        if asked is None or any(row is None for row in tight):
            return None
        rows = [row for row in tight if row is not None]
        below = determinant([row[:-1] for row in rows])
        if below == 0:
            return None
        whole = determinant([*rows, asked])
        return _sign(whole) * _sign(below)

    def row(self, bits: np.ndarray, who: int) -> Integers | None:
        """The row as integers, up to a positive factor."""
        if who < 0:
            return _wall(self.plan.slice, -1 - who)
        gate, challenger, place, unit = unlabel(who)
        z = self._gate_rows(bits, gate)
        if z is None:
            return None
        node = self.plan.stages[gate].gate
        if challenger == KNOT:
            assert isinstance(node.kind, Pieces)
            knot = dyadic(node.kind.knots[place].expand(node.shape).reshape(-1)[unit].item())
            row = z[unit] + Dyadic(-knot.whole * _last(z.whole.shape[1]), knot.scale)
            return tuple(row.whole.tolist())
        assert isinstance(node.kind, Winner)
        index = node.kind.index.reshape(-1, node.kind.branches)[unit].tolist()
        return tuple((z[index[challenger]].whole - z[index[place]].whole).tolist())

    def _gate_rows(self, bits: np.ndarray, gate: int) -> Dyadic | None:
        """What enters the gate, unit by unit, as rows over the coordinates; None: too costly."""
        fields = layout(self.plan.network)
        start = fields[gate].start
        key = bits[0, :start].tobytes() + gate.to_bytes(4, "little")
        found = self.rows.get(key)
        if found is None and self.exact is not None and self.spent <= IN_ALL:
            self.spent += self.exact.cost * (self.plan.slice.dimension + 1)
            if len(self.rows) >= REMEMBERED:
                self.rows.clear()  # another thread may hold what was in it
            found = self.rows[key] = self._fold(bits, gate)
        return found

    def _fold(self, bits: np.ndarray, gate: int) -> Dyadic:
        assert self.exact is not None
        network, where = self.plan.network, self.plan.slice
        pattern = Pattern(bits, layout(network))
        columns = np.concatenate([where.directions, where.origin[None]]).T
        one = dyadic(np.arange(columns.shape[1]) == columns.shape[1] - 1)
        values: dict[str, Dyadic] = {INPUT: dyadic(columns)}
        target = self.plan.stages[gate].gate
        for node in network.nodes:
            z = join([values[name] for name in node.inputs])
            if node is target:
                return z
            if isinstance(node.kind, Affine):
                values[node.name] = self.exact.rows[node.name](z, one)
                continue
            assert isinstance(node.kind, Pieces | Winner)
            codes = pattern.codes(node.name).reshape(-1, 1).long().numpy()
            values[node.name] = branch(node.kind, node.shape, z, codes, one)
        raise AssertionError("the gate is a node of the network")


def _wall(where: Slice, wall: int) -> Integers:
    """Row 2 i: s_i - low_i; row 2 i + 1: high_i - s_i."""
    i, upper = divmod(wall, 2)
    bound = dyadic(np.array([where.high[i] if upper else where.low[i]]))
    row = [0] * (where.dimension + 1)
    row[i] = (-1 if upper else 1) << bound.scale
    row[-1] = int(bound.whole[0]) * (1 if upper else -1)
    return tuple(row)


def _last(k: int) -> np.ndarray:
    return np.array([0] * (k - 1) + [1], object)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def determinant(rows: Sequence[Sequence[int]]) -> int:
    """The determinant of a square integer matrix, exactly (Bareiss: no fractions on the way)."""
    m = [list(row) for row in rows]
    n, sign, previous = len(m), 1, 1
    for c in range(n - 1):
        pivot = next((r for r in range(c, n) if m[r][c] != 0), None)
        if pivot is None:
            return 0
        if pivot != c:
            m[c], m[pivot], sign = m[pivot], m[c], -sign
        for r in range(c + 1, n):
            for j in range(c + 1, n):
                m[r][j] = (m[r][j] * m[c][c] - m[r][c] * m[c][j]) // previous
        previous = m[c][c]
    return sign * m[-1][-1] if n else 1
