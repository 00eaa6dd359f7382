"""The nearest point, proven: branch and bound over units, in balls of growing cost.

A node fixes some units on or off (and cuts the box of whole-number inputs). Its lower bound is an
LP: every other open unit between its lines, with bounds taken anew for the node by substitution,
and under hull cuts, which hold in the whole ball (`relaxation`, `hulls`). In a ball of radius R few
units are open, so balls grow until one holds an answer, or all of them up to the best answer known
hold none: that is the proof.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.recourse.bounds import (
    SLACK,
    Domain,
    Reach,
    carried,
    most_and_least,
    pull_on_goal,
    reach,
)
from gatewise.explain.recourse.milp import GAP, Answer, Goal, nearest
from gatewise.explain.recourse.milp_form import Rectified
from gatewise.explain.recourse.relaxation import MET, Relaxation, Relaxed

Floats = NDArray[np.float64]
GROWTH = 1.3  # of the ball
PATIENCE = 20  # nodes of a ball before cuts are looked for: easy balls do without
ROUNDS = 10, 1  # of cuts: at the first node that has them, and at every later one
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


@dataclass(frozen=True, eq=False)
class Hunt:
    """What the nodes of one ball share."""

    form: Rectified
    goal: Goal
    ball: Domain
    relaxed: Relaxation
    tally: Tally
    improve: Callable[[Floats], Floats | None] | None
    first: int  # nodes there were before

    @property
    def rounds(self) -> int:
        """How many rounds of cuts the present node gets."""
        seen = self.tally.nodes - self.first - PATIENCE
        return 0 if seen <= 0 else ROUNDS[min(seen - 1, 1)]


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
    root = None if ball.empty else _sharpened(form, ball, goal, reach(form, ball))
    if root is None:
        return radius
    relaxed = Relaxation(form, ball, root, goal, tally.until)
    hunt = Hunt(form, goal, ball, relaxed, tally, improve, tally.nodes)
    tally.open = hunt.relaxed.n
    stack = [Branch(root, ball.low, ball.high, proven)]
    while stack:
        if tally.late:
            left = min(branch.bound for branch in stack)
            return max(proven, min(left, tally.cost))
        branch = stack.pop()
        cutoff = min(radius, tally.cost)
        if branch.bound < cutoff * (1 - GAP):
            stack += _expand(hunt, branch, cutoff)
    return min(radius, tally.cost)


def _expand(hunt: Hunt, branch: Branch, cutoff: float) -> list[Branch]:
    """One node: its bound, maybe a new best answer, and its children, the likelier one last."""
    tally = hunt.tally
    tally.nodes += 1
    box = replace(hunt.ball, low=branch.low, high=branch.high)
    known = None if box.empty else _sharpened(hunt.form, box, hunt.goal, branch.known)
    found = None if known is None else hunt.relaxed.solve(box, known, cutoff)
    if found is not None and known is not None and hunt.rounds and found.cost < cutoff:
        found = hunt.relaxed.tightened(box, known, found, cutoff, hunt.rounds)
    if known is None or found is None or found.cost >= cutoff * (1 - GAP):
        return []
    x = found.x
    fractional = box.integer & (np.abs(x - np.round(x)) > WHOLE)
    if not fractional.any():
        x = np.where(box.integer, np.round(x), x)
        if hunt.goal.short(hunt.form(x[None])[0]) <= MET:
            tally.offer(x, box.cost(x))
            return []
    _try(hunt, x)
    at = Branch(known, found.low, found.high, max(found.cost, branch.bound))
    if fractional.any():
        return _split_input(at, x, fractional)
    unit = _split_unit(hunt, known, found)
    if unit is None:
        end = _at_leaf(hunt, box, known, x)
        tally.offer(end, np.inf if end is None else box.cost(end))
        return []
    return _split(at, *unit)


def _at_leaf(hunt: Hunt, box: Domain, known: Reach, x: Floats) -> Floats | None:
    """The cheapest point at which every unit is on or off as the node has it; None: there is none.

    The LP's own x need not be so: units known at the root are known where the goal is met, and have
    no row there. x where this program is not solved: the bound holds, and x is to be repaired.
    """
    on = np.where(known.low >= 0, 1.0, -1.0)
    walls, ends = carried(hunt.form, known, hunt.form.pre, hunt.form.bias)
    goal = hunt.goal.matrix @ hunt.form.matrix, hunt.goal.matrix @ hunt.form.offset
    a, b = carried(hunt.form, known, goal[0], goal[1] + hunt.goal.offset)
    real = walls.any(1)
    on = on[real]
    found = nearest(box, (np.r_[on[:, None] * walls[real], a], np.r_[on * ends[real], b]))
    return x if found.x is None and found.status != "infeasible" else found.x


def _try(hunt: Hunt, x: Floats) -> None:
    """An answer near the node's point, at nodes 1, 2, 4, 8, ..."""
    if hunt.improve is not None and hunt.tally.nodes & (hunt.tally.nodes - 1) == 0:
        better = hunt.improve(x)
        if better is not None:
            hunt.tally.offer(better, hunt.ball.cost(better))


def _sharpened(form: Rectified, box: Domain, goal: Goal, known: Reach) -> Reach | None:
    """Bounds that hold where the goal is met, or None where it never is.

    The goal's own line is a cut g . x + c >= 0: where home fails it, points that meet it must spend
    their budget on it, and units reach less far; which gives a better line, and so on.
    """
    matrix, offset = goal.matrix @ form.matrix, goal.matrix @ form.offset + goal.offset
    for _ in range(SHARPEN):
        g, c = carried(form, known, matrix, offset)
        most = box.support(g)
        if (most + c < -SLACK * (np.abs(most) + np.abs(c))).any():
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


def _split_unit(hunt: Hunt, known: Reach, found: Relaxed) -> tuple[int, bool] | None:
    """The open unit by which the LP cheats most on the goal, and whether the LP has it on."""
    form, open_ = hunt.form, hunt.relaxed.seen.open
    low, high = known.low[open_], known.high[open_]
    is_open = (low < 0) & (high > 0)
    if not is_open.any():
        return None
    pull = np.abs(pull_on_goal(form, known, hunt.goal.matrix @ form.matrix)[open_])
    above = -low * high / np.where(is_open, high - low, 1)  # the most that a line lies above
    score = pull * (found.r - found.p.clip(0) + 1e-3 * above)  # one the LP has right comes last
    best = int(np.argmax(np.where(is_open, score, -1)))
    return int(open_[best]), bool(found.p[best] > 0)


def _split(branch: Branch, unit: int, on: bool) -> list[Branch]:
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
