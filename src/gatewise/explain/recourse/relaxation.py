"""The LP of a node: the nearest point if every open unit may be anywhere between its lines.

min cost(x) subject to r >= 0, r >= p, r <= slope p - slope low for each open unit, the goal, and
the cuts in use. One solver is kept warm for a ball; nodes change ends and slopes. Cuts that have
not mattered for a while leave the LP, and come back where they are missed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InternalError
from gatewise.explain.recourse.bounds import Domain, Reach
from gatewise.explain.recourse.hulls import Hulls, over_moves
from gatewise.explain.recourse.milp import Goal, Rows, highs, program_of, solver_of, substituted
from gatewise.explain.recourse.milp_form import Rectified

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
MET = 1e-9  # a goal missed by less than the solver's tolerance is met; `recourse` repairs the rest
IDLE, MANY = 15, 20  # cuts idle for more solves than IDLE go, when there are more than MANY such
RETURNS = 5  # turns in which cuts of the pool are taken up again, at one node


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What an LP said: cost, point, p and r of the open units, the box left to better points.

    v: the moves and r, the columns that cuts speak of.
    """

    cost: float
    x: Floats
    p: Floats
    r: Floats
    low: Floats
    high: Floats
    v: Floats


class Relaxation:
    """The LP of one ball.

    Columns: up u and down v of each input in steps of cost 1 (x = home + (u - v) / weight), the
    largest cost e where that is what counts, then p and r of each unit open at the root. Rows:
    p as affine forms, r >= p, the goal, groups, r <= slope p - slope low (changed by node), cuts.
    """

    def __init__(
        self, form: Rectified, domain: Domain, known: Reach, goal: Goal, until: float = np.inf
    ) -> None:
        self.domain, self.seen, self.until = domain, substituted(form, known), until
        self.d, self.n = form.inputs, len(self.seen.open)
        self.p = 2 * self.d + int(domain.largest)
        self.r = self.p + self.n
        rows = self._rows(form, goal)
        self.lines = sum(len(b[0]) for b in rows.blocks)
        eye = np.eye(self.n)
        if self.n:
            rows.add(-np.inf, 0.0, p=(self.p, -eye), r=(self.r, eye))
        width = self.r + self.n
        cost = np.zeros(width)
        cost[2 * self.d if domain.largest else slice(0, 2 * self.d)] = 1
        self.kinds = highs().HighsModelStatus
        self.solver = solver_of(np.inf)
        self.solver.setOptionValue("presolve", "off")
        self.solver.passModel(program_of(rows.joined(), np.zeros(width), np.zeros(width), cost))
        self.columns = np.arange(width, dtype=np.int32)
        self.hulls = Hulls(form, domain, known, self.seen)
        self.used, self.idle = np.empty(0, np.int64), np.empty(0, np.int64)  # cuts in the LP

    def _rows(self, form: Rectified, goal: Goal) -> Rows:
        seen, d, eye = self.seen, self.d, np.eye(self.n)
        rows = Rows(self.r + self.n)
        if self.n:
            x, b = over_moves(self.domain, seen.pre[seen.open, :d], seen.bias[seen.open])
            rows.add(-b, -b, x=(0, x), p=(self.p, -eye), r=(self.r, seen.pre[seen.open, d:]))
            rows.add(0.0, np.inf, p=(self.p, -eye), r=(self.r, eye))
        g = goal.matrix @ seen.matrix
        x, b = over_moves(self.domain, g[:, :d], goal.matrix @ seen.offset + goal.offset)
        rows.add(-b, np.inf, x=(0, x), r=(self.r, g[:, d:]))
        for group in self.domain.groups:
            ones = np.zeros((1, d))
            ones[0, list(group.members)] = 1
            x, b = over_moves(self.domain, ones, np.zeros(1))
            rows.add((0.0 if group.none else 1.0) - b, 1.0 - b, x=(0, x))
        if self.domain.largest:
            both = np.concatenate([np.eye(d), np.eye(d)], 1)
            rows.add(-np.inf, 0.0, x=(0, both), e=(2 * d, -np.ones((d, 1))))
        return rows

    def solve(self, box: Domain, known: Reach, cutoff: float) -> Relaxed | None:
        """The node's relaxation, or None: nothing in it is below the cutoff."""
        self._set(box, known)
        self.solver.setOptionValue("objective_bound", cutoff)
        if self._run() != self.kinds.kOptimal:
            return None
        solution, d = self.solver.getSolution(), self.d
        v, dual = np.array(solution.col_value), np.array(solution.col_dual[: 2 * d])
        working = np.abs(np.array(solution.row_dual[self.lines + self.n :])) > MET
        self.idle = np.where(working, 0, self.idle + 1)
        x = np.clip(self.domain.home + (v[:d] - v[d : 2 * d]) / box.weight, box.low, box.high)
        cost = float(self.solver.getInfo().objective_function_value)
        left = self._left(box, dual, cutoff - cost)
        p, r = v[self.p : self.r], v[self.r :]
        return Relaxed(cost, x, p, r, *left, np.r_[v[: 2 * d], r])

    def _run(self) -> object:
        """Solve; afresh where a basis from another node led nowhere, at last without cuts."""
        ends = (self.kinds.kInfeasible, self.kinds.kObjectiveBound, self.kinds.kOptimal)
        for again in (lambda: None, self.solver.clearSolver, self._bare):
            again()
            self.solver.run()
            if self.solver.getModelStatus() in ends:
                return self.solver.getModelStatus()
        raise InternalError(f"the LP of a node ended as {self.solver.getModelStatus()}")

    def tightened(
        self, box: Domain, known: Reach, found: Relaxed, cutoff: float, rounds: int
    ) -> Relaxed | None:
        """The relaxation with cuts that its point misses: known ones, then `rounds` of new ones."""
        now: Relaxed | None = found
        returns = RETURNS
        while now is not None and now.cost < cutoff and time.monotonic() < self.until:
            cuts = self.hulls.violated(now.v, self.used) if returns else self.used[:0]
            returns -= 1 if len(cuts) else 0
            if not len(cuts) and rounds:
                cuts, rounds, returns = self.hulls.more(now.v, now.p), rounds - 1, RETURNS
            if not len(cuts):
                return now
            self._use(cuts)
            now = self.solve(box, known, cutoff)
        return now

    def _use(self, cuts: Ids) -> None:
        """Take cuts into the LP, and leave out those long idle."""
        old = np.flatnonzero(self.idle > IDLE)
        if len(old) > MANY:
            self._drop(old)
        for row, end in zip(self.hulls.rows[cuts], self.hulls.ends[cuts], strict=True):
            at = np.flatnonzero(row)
            columns = np.where(at < 2 * self.d, at, at - 2 * self.d + self.r).astype(np.int32)
            self.solver.addRow(-np.inf, float(end), len(at), columns, row[at])
        self.used = np.r_[self.used, cuts]
        self.idle = np.r_[self.idle, np.zeros(len(cuts), np.int64)]

    def _drop(self, places: Ids) -> None:
        rows = (self.lines + self.n + places).astype(np.int32)
        self.solver.deleteRows(len(rows), rows)
        self.used, self.idle = np.delete(self.used, places), np.delete(self.idle, places)

    def _bare(self) -> None:
        """Cuts only help: an LP that ends badly with them is solved without."""
        self._drop(np.arange(len(self.used)))
        self.solver.clearSolver()

    def _left(self, box: Domain, dual: Floats, spare: float) -> tuple[Floats, Floats]:
        """The box that is left below the cutoff: a column may rise by spare / its reduced cost."""
        start = np.r_[((box.low - box.home) * box.weight), ((box.home - box.high) * box.weight)]
        room = (spare * (1 + 1e-6) + MET) / np.where(dual > MET, dual, 1)
        most = np.where(dual > MET, start.clip(0) + room, np.inf)
        up, down = most[: self.d] / box.weight, most[self.d :] / box.weight
        return np.maximum(box.low, box.home - down), np.minimum(box.high, box.home + up)

    def _set(self, box: Domain, known: Reach) -> None:
        """Put the node's box, unit bounds and lines into the LP."""
        low, high = known.low[self.seen.open], known.high[self.seen.open]
        is_open = (low < 0) & (high > 0)
        slope = np.where(is_open, high / np.where(is_open, high - low, 1), low >= 0)
        ends = np.where(is_open, -slope * low, 0)
        up = (box.low - box.home) * box.weight, (box.high - box.home) * box.weight
        nothing, radius = np.zeros(int(box.largest)), np.full(int(box.largest), box.radius)
        below = np.r_[up[0].clip(0), (-up[1]).clip(0), nothing, low, low.clip(0)]
        above = np.r_[up[1].clip(0), (-up[0]).clip(0), radius, high, high.clip(0)]
        self.solver.changeColsBounds(len(self.columns), self.columns, below, above)
        for j in range(self.n):
            self.solver.changeCoeff(self.lines + j, self.p + j, -float(slope[j]))
        places = np.arange(self.lines, self.lines + self.n, dtype=np.int32)
        self.solver.changeRowsBounds(self.n, places, np.full(self.n, -np.inf), ends)
