"""The nearest point, proven: branch and bound over units, in balls of growing cost.

A node fixes some units on or off (and cuts the box of whole-number inputs). Its lower bound is an
LP: every other open unit between its lines, with bounds taken anew for the node by substitution.
In a ball of radius R few units are open, so balls grow until one holds an answer, or all of them
up to the best answer known hold none: that is the proof. One solver is kept warm for a ball.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InternalError
from gatewise.explain.recourse.bounds import (
    Domain,
    Reach,
    carried,
    most_and_least,
    pull_on_goal,
    reach,
)
from gatewise.explain.recourse.milp import (
    GAP,
    Answer,
    Goal,
    Rows,
    Substituted,
    highs,
    program,
    solver_of,
    substituted,
)
from gatewise.explain.recourse.milp_form import Rectified

Floats = NDArray[np.float64]
GROWTH = 1.3  # of the ball
MET = 1e-9  # a goal missed by less than the solver's tolerance is met; `recourse` repairs the rest
SHARPEN = 2  # rounds of cutting by the goal's line
WHOLE = 1e-6  # how far from a whole number an input may be, before it is branched on
FIRST_BALL = 1e-3  # of the best cost known (or of 1), where lines say nothing about the goal
VAST = 1e18  # balls above it are not tried by lines alone
FARTHEST = 1e6  # without bounds, costs above so many times the size of home are not searched


@dataclass(frozen=True, eq=False)
class Branch:
    """A node of the search: what is known of the units, the box, and the parent's bound."""

    known: Reach
    low: Floats
    high: Floats
    bound: float


@dataclass(eq=False)
class Tally:
    """The state of one search (a builder): the best answer, its cost, nodes seen, units open."""

    best: Floats | None
    cost: float
    until: float
    nodes: int = 0
    open: int = 0

    @property
    def late(self) -> bool:
        return time.monotonic() > self.until

    def offer(self, x: Floats | None, cost: float) -> None:
        """Keep the point if it is cheaper."""
        if x is not None and cost < self.cost:
            self.best, self.cost = x, cost


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What an LP said: cost, point, p and r of the open units, the box left to better points."""

    cost: float
    x: Floats
    p: Floats
    r: Floats
    low: Floats
    high: Floats


class Relaxation:
    """The LP of one ball, its solver kept warm from node to node.

    Columns: up u and down v of each input in steps of cost 1 (x = home + (u - v) / weight), the
    largest cost e where that is what counts, then p and r of each unit open at the root. Rows:
    p as affine forms, r >= p, the goal, groups, and r <= slope p - slope low (changed by node).
    """

    def __init__(self, form: Rectified, domain: Domain, known: Reach, goal: Goal) -> None:
        self.domain, self.seen = domain, substituted(form, known)
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
        self.kinds = highs()
        self.solver = solver_of(self.kinds, np.inf)
        self.solver.setOptionValue("presolve", "off")
        self.solver.passModel(program(self.kinds, rows, np.zeros(width), np.zeros(width), cost))
        self.columns = np.arange(width, dtype=np.int32)

    def _rows(self, form: Rectified, goal: Goal) -> Rows:
        seen, d, eye = self.seen, self.d, np.eye(self.n)
        rows = Rows(self.r + self.n)
        if self.n:
            x, b = self._moves(seen.pre[seen.open, :d], seen.bias[seen.open])
            rows.add(-b, -b, x=(0, x), p=(self.p, -eye), r=(self.r, seen.pre[seen.open, d:]))
            rows.add(0.0, np.inf, p=(self.p, -eye), r=(self.r, eye))
        g = goal.matrix @ seen.matrix
        x, b = self._moves(g[:, :d], goal.matrix @ seen.offset + goal.offset)
        rows.add(-b, np.inf, x=(0, x), r=(self.r, g[:, d:]))
        for group in self.domain.groups:
            ones = np.zeros((1, d))
            ones[0, list(group.members)] = 1
            x, b = self._moves(ones, np.zeros(1))
            rows.add((0.0 if group.none else 1.0) - b, 1.0 - b, x=(0, x))
        if self.domain.largest:
            both = np.concatenate([np.eye(d), np.eye(d)], 1)
            rows.add(-np.inf, 0.0, x=(0, both), e=(2 * d, -np.ones((d, 1))))
        return rows

    def _moves(self, matrix: Floats, offset: Floats) -> tuple[Floats, Floats]:
        """matrix x + offset over the columns (u, v)."""
        step = matrix / self.domain.weight
        return np.concatenate([step, -step], 1), offset + matrix @ self.domain.home

    def solve(self, box: Domain, known: Reach, cutoff: float) -> Relaxed | None:
        """The node's relaxation, or None: nothing in it is below the cutoff."""
        self._set(box, known)
        self.solver.setOptionValue("objective_bound", cutoff)
        self.solver.run()
        kinds = self.kinds.HighsModelStatus
        known_ends = (kinds.kInfeasible, kinds.kObjectiveBound, kinds.kOptimal)
        if self.solver.getModelStatus() not in known_ends:
            self.solver.clearSolver()  # a basis from another node led nowhere: start afresh
            self.solver.run()
        status = self.solver.getModelStatus()
        if status not in known_ends:
            raise InternalError(f"the LP of a node ended as {status}")
        if status != kinds.kOptimal:
            return None
        solution, d = self.solver.getSolution(), self.d
        v, dual = np.array(solution.col_value), np.array(solution.col_dual[: 2 * d])
        x = np.clip(self.domain.home + (v[:d] - v[d : 2 * d]) / box.weight, box.low, box.high)
        cost = float(self.solver.getInfo().objective_function_value)
        return Relaxed(
            cost, x, v[self.p : self.r], v[self.r :], *self._left(box, dual, cutoff - cost)
        )

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


def search(
    form: Rectified,
    domain: Domain,
    goal: Goal,
    *,
    best: Floats | None = None,
    cutoff: float = np.inf,
    until: float = np.inf,
    improve: Callable[[Floats], Floats | None] | None = None,
) -> Answer:
    """The cheapest x of the domain with goal(f(x)), or the proof that there is none.

    best: a point known to meet the goal; cutoff: nothing dearer is of interest; until: a
    time.monotonic() to stop at; improve: from a point to a (near) one that meets the goal, or None.
    """
    tally = Tally(best, min(cutoff, np.inf if best is None else domain.cost(best)), until)
    most = _farthest(domain, tally.cost)
    proven = unreachable(form, domain, goal, min(tally.cost, most))
    radius = max(proven * GROWTH, FIRST_BALL * (tally.cost if tally.cost < np.inf else 1.0))
    while proven < tally.cost * (1 - GAP) and proven < most and not tally.late:
        last = min(tally.cost, most)
        # A ball almost as large as the last one would be work done twice.
        ball = last if radius * GROWTH > last else radius
        proven = _one_ball(form, domain, goal, ball, tally, improve, proven)
        radius = ball * GROWTH
    everywhere = tally.best is None and proven >= _dearest(domain)
    return _verdict(tally, np.inf if everywhere else proven)


def _verdict(tally: Tally, proven: float) -> Answer:
    """What the search came to."""
    done = proven >= tally.cost * (1 - GAP)
    if tally.best is None:
        status = "infeasible" if np.isinf(proven) else "dearer" if done else "unknown"
        return Answer(status, None, np.inf, proven, tally.nodes, tally.open)
    status = "optimal" if done else "feasible"
    bound = min(proven, tally.cost)
    return Answer(status, tally.best, tally.cost, bound, tally.nodes, tally.open)


def _farthest(domain: Domain, known: float) -> float:
    """What is searched: the whole box where it is finite, else the ball of the answer known."""
    dearest = _dearest(domain)
    if np.isfinite(dearest):
        return dearest
    if np.isfinite(known):
        return known
    size = domain.cost(np.zeros_like(domain.home)) + domain.cost(domain.centre)
    return FARTHEST * (1 + size)


def _dearest(domain: Domain) -> float:
    """An upper bound of the cost of any point in the box."""
    far = np.maximum(np.abs(domain.low - domain.home), np.abs(domain.high - domain.home))
    each = domain.weight * far
    whole = float(each.max(initial=0) if domain.largest else each.sum())
    return whole * (1 + 1e-9) + 1e-12


def unreachable(form: Rectified, domain: Domain, goal: Goal, most: float) -> float:
    """A radius in whose ball lines alone prove that the goal is never met (by bisection)."""

    def never(radius: float) -> bool:
        ball = domain.within(radius)
        return ball.empty or not _may_meet(form, ball, goal, reach(form, ball))

    if never(most):
        return most
    low, high = domain.cost(domain.centre) * (1 - 1e-12), 1.0
    while high < min(most, VAST) and never(high):
        low, high = high, 2 * high
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if never(middle) else (low, middle)
    return min(low, most)


def _may_meet(form: Rectified, domain: Domain, goal: Goal, known: Reach) -> bool:
    """False is a proof that no point of the domain meets the goal."""
    matrix, offset = goal.matrix @ form.matrix, goal.matrix @ form.offset + goal.offset
    return bool((most_and_least(form, domain, known, matrix, offset)[1] >= 0).all())


def _one_ball(
    form: Rectified,
    domain: Domain,
    goal: Goal,
    radius: float,
    tally: Tally,
    improve: Callable[[Floats], Floats | None] | None,
    proven: float,
) -> float:
    """Search a ball to its end (or until it is late): the radius proven to hold nothing cheaper."""
    ball = domain.within(radius)
    if ball.empty:
        return radius
    root = reach(form, ball)
    relaxed = Relaxation(form, ball, root, goal)
    tally.open = relaxed.n
    stack = [Branch(root, ball.low, ball.high, proven)]
    while stack:
        if tally.late:
            left = min(branch.bound for branch in stack)
            return max(proven, min(left, tally.cost))
        branch = stack.pop()
        cutoff = min(radius, tally.cost)
        if branch.bound < cutoff * (1 - GAP):
            stack += _expand(form, goal, ball, relaxed, branch, cutoff, tally, improve)
    return min(radius, tally.cost)


def _expand(
    form: Rectified,
    goal: Goal,
    ball: Domain,
    relaxed: Relaxation,
    branch: Branch,
    cutoff: float,
    tally: Tally,
    improve: Callable[[Floats], Floats | None] | None,
) -> list[Branch]:
    """One node: its bound, maybe a new best answer, and its children, the likelier one last."""
    tally.nodes += 1
    box = replace(ball, low=branch.low, high=branch.high)
    known = None if box.empty else _sharpened(form, box, goal, branch.known)
    if known is None:
        return []
    found = relaxed.solve(box, known, cutoff)
    if found is None or found.cost >= cutoff * (1 - GAP):
        return []
    cost, x, p, r = found.cost, found.x, found.p, found.r
    fractional = box.integer & (np.abs(x - np.round(x)) > WHOLE)
    if not fractional.any():
        x = np.where(box.integer, np.round(x), x)
        if goal.short(form(x[None])[0]) <= MET:
            tally.offer(x, box.cost(x))
            return []
    if improve is not None and tally.nodes & (tally.nodes - 1) == 0:  # nodes 1, 2, 4, 8, ...
        better = improve(x)
        if better is not None:
            tally.offer(better, box.cost(better))
    at = Branch(known, found.low, found.high, max(cost, branch.bound))
    unit = _split_unit(form, goal, known, relaxed.seen, p, r)
    if unit is not None and not fractional.any():
        return _split(form, at, *unit)
    if not fractional.any():
        tally.offer(x, box.cost(x))  # every unit is known: the LP is the network itself
        return []
    return _split_input(at, x, fractional)


def _sharpened(form: Rectified, box: Domain, goal: Goal, known: Reach) -> Reach | None:
    """Bounds that hold where the goal is met, or None where it never is.

    The goal's own line is a cut g . x + c >= 0: where home fails it, points that meet it must spend
    their budget on it, and units reach less far; which gives a better line, and so on.
    """
    matrix, offset = goal.matrix @ form.matrix, goal.matrix @ form.offset + goal.offset
    for _ in range(SHARPEN):
        g, c = carried(form, known, matrix, offset)
        if (box.support(g) + c < 0).any():
            return None
        at_home = g @ box.centre + c
        worst = int(np.argmin(at_home))
        cut = (g[worst], float(c[worst])) if at_home[worst] < 0 else None
        known = reach(form, replace(box, cut=cut), known)
        if (known.low > known.high + MET).any():
            return None
        if cut is None:
            break
    return known


def _split_unit(
    form: Rectified, goal: Goal, known: Reach, seen: Substituted, p: Floats, r: Floats
) -> tuple[int, bool] | None:
    """The open unit whose line costs the goal most, and whether the LP has it on."""
    low, high = known.low[seen.open], known.high[seen.open]
    is_open = (low < 0) & (high > 0)
    if not is_open.any():
        return None
    pull = pull_on_goal(form, known, goal.matrix @ form.matrix)[seen.open]
    width = np.where(is_open, high - low, 1)
    above, below = -low * high / width, np.minimum(-low, high) / 2
    loose = 1e-3 + (r - p.clip(0) > MET)  # a unit that the LP has right is split last
    score = np.where(pull > 0, pull * above, -pull * below) * loose
    best = int(np.argmax(np.where(is_open, score, -1)))
    return int(seen.open[best]), bool(p[best] > 0)


def _split(form: Rectified, branch: Branch, unit: int, on: bool) -> list[Branch]:
    """The unit off, and on."""
    low, high = branch.known.low.copy(), branch.known.high.copy()
    low[unit], high[unit] = 0, 0
    up = replace(branch, known=Reach(low, branch.known.high))
    down = replace(branch, known=Reach(branch.known.low, high))
    return [down, up] if on else [up, down]


def _split_input(branch: Branch, x: Floats, fractional: NDArray[np.bool_]) -> list[Branch]:
    """The input farthest from a whole number: at most the one below, at least the one above."""
    j = int(np.argmax(np.where(fractional, np.abs(x - np.round(x)), -1)))
    low, high = branch.low.copy(), branch.high.copy()
    low[j], high[j] = np.ceil(x[j]), np.floor(x[j])
    up, down = replace(branch, low=low), replace(branch, high=high)
    return [down, up] if x[j] % 1 > 0.5 else [up, down]
