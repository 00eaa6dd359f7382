"""Cuts that hold a rectified unit under its concave hull over a polytope of its inputs.

On D = { y >= 0 : A y <= b } let p = a y + p0. For m, n >= 0: max(0, p) <= g y + c with
g = max(a - m A, -n A) and c = max(p0 + m b, n b), since p <= g y + m A y + p0 and 0 <= g y + n A y.
The best m, n at y* are the duals of max p0 t + a s subject to A s <= t b, A (y* - s) <= (1 - t) b,
0 <= s <= y*, 0 <= t <= 1: y* in parts, t of it where the unit is on (Balas 1979). Any m, n that the
solver gives make a true cut: it is computed from them, with a bound of its rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.recourse.bounds import Domain, Reach
from gatewise.explain.recourse.milp import Substituted, program_of, solver_of
from gatewise.explain.recourse.milp_form import Rectified

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
VIOLATED = 1e-6  # a cut is of use where it is missed by more
TIGHT = 1e-4  # earlier cuts with less slack at y* take part in a polytope
TINY = 1e-9  # a coefficient that moves the cut by less is left out, on the safe side
AT_ONCE = 20  # cuts of the pool taken up in one turn
EPS = float(np.finfo(np.float64).eps)


def over_moves(domain: Domain, matrix: Floats, offset: Floats) -> tuple[Floats, Floats]:
    """matrix x + offset over the moves u, v >= 0 up and down, in steps of cost 1."""
    step = matrix / domain.weight
    return np.concatenate([step, -step], 1), offset + matrix @ domain.home


@dataclass(frozen=True, eq=False)
class Polytope:
    """{ y : 0 <= y <= most, a y <= b }; every y of interest is below `most`."""

    a: Floats
    b: Floats
    most: Floats


@dataclass(frozen=True, eq=False)
class Unit:
    """max(0, slope y + start), and its value r in the point to be cut off."""

    slope: Floats
    start: float
    r: float


def split(solver: Any, inside: Polytope, y: Floats, units: list[Unit]) -> list[Any]:
    """(g, c) for each unit, with r > g y + c, or None where the point is under its hull."""
    seen, m = y > 0, len(inside.b)
    small = np.concatenate([inside.a[:, seen], -inside.b[:, None]], 1)
    rows = np.concatenate([small, -small])
    ends = np.r_[np.zeros(m), (inside.b - inside.a @ y).clip(min=0)]
    most = np.r_[y[seen], 1.0]
    lowest, zeros = np.full(2 * m, -np.inf), np.zeros(len(most))
    solver.passModel(program_of((rows, lowest, ends), zeros, most, zeros))
    columns = np.arange(len(most), dtype=np.int32)
    found = []
    for unit in units:
        solver.changeColsCost(len(columns), columns, -np.r_[unit.slope[seen], unit.start])
        solver.run()
        dual = -np.array(solver.getSolution().row_dual)
        cut = hull_cut(inside, unit, dual[:m], dual[m:]) if len(dual) == 2 * m else None
        missed = cut is not None and unit.r > cut[0] @ y + cut[1] + VIOLATED
        found.append(cut if missed else None)
    return found


def hull_cut(inside: Polytope, unit: Unit, on: Floats, off: Floats) -> tuple[Floats, float]:
    """(g, c) with max(0, p) <= g y + c on the polytope, for any multipliers of its rows."""
    on, off = (np.where(np.isfinite(k), k, 0).clip(min=0) for k in (on, off))
    g = np.maximum(unit.slope - on @ inside.a, -(off @ inside.a))
    c = max(unit.start + on @ inside.b, off @ inside.b)
    tiny = np.abs(g) * inside.most < TINY
    c += float((g * inside.most)[tiny].clip(min=0).sum())
    g = np.where(tiny, 0.0, g)
    sizes = np.abs(inside.b) + np.abs(inside.a) @ inside.most
    size = (on + off) @ sizes + np.abs(unit.slope) @ inside.most + abs(unit.start)
    terms = len(inside.b) + len(g) + 4  # of the longest sum
    return g, float(c + 2 * terms * EPS * size)


class Hulls:
    """The cuts of one ball: each holds at all of its points for which `known` holds.

    A cut is r of `unit` <= g y + c, kept as a row (moves, r of open units) <= c; y are the moves of
    inputs, and the open units of earlier stages.
    """

    def __init__(self, form: Rectified, ball: Domain, known: Reach, seen: Substituted) -> None:
        self.solver, self.ball = solver_of(np.inf), ball
        self.solver.setOptionValue("presolve", "off")
        d, n = form.inputs, len(seen.open)
        self.moves, self.n = 2 * d, n
        ends = [s.stop for s in form.stages]
        self.stage = np.searchsorted(ends, seen.open, side="right")
        x, self.start = over_moves(ball, seen.pre[seen.open, :d], seen.bias[seen.open])
        self.slope = np.concatenate([x, seen.pre[seen.open, d:]], 1)
        self.low, self.high = known.low[seen.open], known.high[seen.open]
        up, down = ball.high - ball.home, ball.home - ball.low
        self.most = np.r_[np.r_[up * ball.weight, down * ball.weight].clip(0), self.high]
        self.rows, self.ends = np.empty((0, 2 * d + n)), np.empty(0)
        self.of = np.empty(0, np.int64)  # the unit of each cut

    def violated(self, v: Floats, but: Ids) -> Ids:
        """Cuts that the point misses most, of those not in use."""
        by = self.rows @ v - self.ends
        by[but] = 0
        worst = np.argsort(-by)[:AT_ONCE]
        return worst[by[worst] > VIOLATED]

    def more(self, v: Floats, p: Floats) -> Ids:
        """New cuts that the point (moves, r) misses."""
        before, r = len(self.ends), v[self.moves :]
        loose = np.flatnonzero(r - p.clip(0) > VIOLATED)
        for stage in np.unique(self.stage[loose]):
            units = loose[self.stage[loose] == stage]
            columns = np.r_[np.full(self.moves, True), self.stage < stage]
            y = v[columns].clip(min=0)
            inside = self._polytope(int(stage), columns, y)
            asked = [Unit(self.slope[k, columns], self.start[k], r[k]) for k in units]
            self._add(units, columns, split(self.solver, inside, y, asked))
        return np.arange(before, len(self.ends))

    def _polytope(self, stage: int, columns: NDArray[np.bool_], y: Floats) -> Polytope:
        """Box, ball, and for each earlier unit p <= r <= its line, and cuts that are tight."""
        most, unit = self.most[columns], np.flatnonzero(self.stage < stage)
        eye = np.eye(len(y))
        moved = np.flatnonzero(y[: self.moves] > 0)
        p, r, low = self.slope[unit][:, columns], eye[self.moves + np.arange(len(unit))], self.low
        rise = self.high[unit] / (self.high[unit] - low[unit])
        near = np.flatnonzero(self.stage[self.of] < stage)
        near = near[self.ends[near] - self.rows[near][:, columns] @ y < TIGHT]
        a = [eye[moved], p - r, r - rise[:, None] * p, self.rows[near][:, columns]]
        b = [most[moved], -self.start[unit], rise * (self.start[unit] - low[unit]), self.ends[near]]
        if np.isfinite(self.ball.radius) and not self.ball.largest:
            a.append((np.arange(len(y)) < self.moves)[None].astype(float))
            b.append(np.array([self.ball.radius]))
        return Polytope(np.concatenate(a), np.concatenate(b), most)

    def _add(self, units: Ids, columns: NDArray[np.bool_], cuts: list[Any]) -> None:
        """Keep the cuts that were found."""
        kept = [(k, *cut) for k, cut in zip(units.tolist(), cuts, strict=True) if cut is not None]
        rows = np.zeros((len(kept), self.rows.shape[1]))
        for row, (k, g, _) in zip(rows, kept, strict=True):
            row[columns] = -g
            row[self.moves + k] = 1
        self.rows = np.concatenate([self.rows, rows])
        self.ends = np.r_[self.ends, [c for *_, c in kept]]
        self.of = np.r_[self.of, np.array([k for k, *_ in kept], np.int64)]
