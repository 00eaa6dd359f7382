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
from numpy.typing import NDArray

from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.network import INPUT
from gatewise.ir.pattern import Layout, Pattern, layout
from gatewise.patterns.dyadic import Dyadic, dyadic, join
from gatewise.patterns.exact import Rational, branch, rational, tables
from gatewise.regions.cells.slices import Slice
from gatewise.regions.cells.stages import KNOT, Plan, unlabel

Integers = tuple[int, ...]
Ints = NDArray[np.int64]
Dyadics = dict[str, Dyadic]
REMEMBERED = 256  # patterns whose rows are kept
ASKED = 1 << 16  # single rows that are kept
BUDGET = 4_000_000  # products for the rows of one cell, some seconds; and in all, some minutes
IN_ALL = 400_000_000


@dataclass(eq=False)
class Signs:
    """Decides open signs of one enumeration (a builder: it remembers rows of recent cells)."""

    plan: Plan
    rows: dict[tuple[bytes, int], Dyadics] = field(default_factory=dict)
    asked: dict[tuple[bytes, int], Integers | None] = field(default_factory=dict)
    spent: int = 0

    @cached_property
    def exact(self) -> Rational | None:
        """The network in integers, or None where it has no such form; most boxes never ask."""
        return rational(self.plan.network, BUDGET)

    @cached_property
    def fields(self) -> Layout:
        """Where each gate's codes lie in a packed pattern."""
        return layout(self.plan.network)

    def __call__(self, bits: np.ndarray, vertex: Sequence[int], who: int) -> int | None:
        """-1, 0 or 1 on the cell with packed pattern `bits` (1, bytes), or None: cannot be told.

        vertex: the rows that vanish there; who: the row asked for (see `stages.label`).
        """
        asked = self.row(bits, who)
        if asked is None:
            return None
        if not any(asked[:-1]):  # constant on the cell: a tie of two units, mostly
            return _sign(asked[-1])
        tight = [self.row(bits, w) for w in vertex]
        if any(row is None for row in tight):
            return None
        rows = [row for row in tight if row is not None]
        below = determinant([row[:-1] for row in rows])
        if below == 0:
            return None
        whole = determinant([*rows, asked])
        return _sign(whole) * _sign(below)

    def vanish(self, bits: np.ndarray, who: Ints) -> NDArray[np.bool_]:
        """Which rows of one gate, all about knots or none, are certainly zero all over the cell."""
        gate, challenger, _, _ = unlabel(int(who[0]))
        node = self.plan.stages[gate].gate
        values = self._entering(bits, gate) if challenger == KNOT else None
        if values is None:
            return np.zeros(len(who), np.bool_)
        assert isinstance(node.kind, Pieces)
        z = join([values[name] for name in node.inputs])
        knots = tables(node.kind, node.shape)[0]
        flat = ~z.whole[:, :-1].astype(np.bool_).any(1)
        return (flat & (z[:, -1].compare(knots) == 0)).reshape(-1)

    def row(self, bits: np.ndarray, who: int) -> Integers | None:
        """The row as integers, up to a positive factor; None: too costly."""
        gate = unlabel(who)[0] if who >= 0 else 0
        key = bits[0, : self.fields[gate].start].tobytes(), who
        if key in (asked := self.asked):
            return asked[key]
        found = _wall(self.plan.slice, -1 - who) if who < 0 else self._row(bits, who)
        if len(asked) >= ASKED:
            self.asked = asked = {}  # another thread may still read the one before
        asked[key] = found
        return found

    def _row(self, bits: np.ndarray, who: int) -> Integers | None:
        gate, challenger, place, unit = unlabel(who)
        values = self._entering(bits, gate)
        if values is None:
            return None
        node = self.plan.stages[gate].gate
        z = join([values[name] for name in node.inputs])
        if challenger == KNOT:
            assert isinstance(node.kind, Pieces)
            knot = tables(node.kind, node.shape)[0][place, unit]
            row = z[unit] + Dyadic(-knot.whole * _last(z.whole.shape[1]), knot.scale)
            return tuple(row.whole.tolist())
        assert isinstance(node.kind, Winner)
        index = node.kind.index.reshape(-1, node.kind.branches)[unit].tolist()
        return tuple((z[index[challenger]].whole - z[index[place]].whole).tolist())

    def _entering(self, bits: np.ndarray, gate: int) -> Dyadics | None:
        """What enters the gate and what is needed behind it, as rows over the coordinates, unit
        by unit; None: too costly."""
        key = bits[0, : self.fields[gate].start].tobytes(), gate
        if key in (known := self.rows):
            return known[key]
        behind = self._behind(bits, gate - 1) if gate else self._start()
        if behind is None or self.exact is None or self.spent > IN_ALL:
            return None
        stages = self.plan.stages
        self.spent += self.exact.cost * (self.plan.slice.dimension + 1) // len(stages)
        for node in stages[gate].before:
            z = join([behind[name] for name in node.inputs])
            behind[node.name] = self.exact.rows[node.name](z, self.one)
        needed = {*stages[gate].gate.inputs, *stages[gate].live} & {*behind}
        if len(known) >= REMEMBERED:
            self.rows = known = {}
        known[key] = {name: behind[name] for name in needed}
        return known[key]

    def _behind(self, bits: np.ndarray, gate: int) -> Dyadics | None:
        """What is needed behind the gate, with its own value."""
        values = self._entering(bits, gate)
        if values is None:
            return None
        node = self.plan.stages[gate].gate
        assert isinstance(node.kind, Pieces | Winner)
        codes = Pattern(bits, self.fields).codes(node.name).reshape(-1, 1).long().numpy()
        z = join([values[name] for name in node.inputs])
        return {**values, node.name: branch(node.kind, node.shape, z, codes, self.one)}

    def _start(self) -> Dyadics:
        where = self.plan.slice
        return {INPUT: dyadic(np.concatenate([where.directions, where.origin[None]]).T)}

    @cached_property
    def one(self) -> Dyadic:
        """The row of the constant 1."""
        k = self.plan.slice.dimension
        return dyadic(np.arange(k + 1) == k)


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
