"""How far every rectified unit can go on a box cut by a cost ball: by substitution of lines.

On [l, u] with l < 0 < u, a z <= max(0, z) <= u (z - l) / (u - l) for a in [0, 1]. Lines are put in
from the last stage back to the inputs, where a linear function of a box and a ball has its largest
value in closed form (Zhang et al. 2018, CROWN; the L1 ball is a fractional knapsack). The loops are
in `kernels`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.recourse.milp_form import Rectified

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
MULTIPLIERS = np.array([0, 0.15, 0.35, 0.6, 1, 1.8])  # of a cut, relative to the rows' sizes
SLACK = 1e-9  # bounds are widened by so much, relatively: more than float64 rounds in any of them


@dataclass(frozen=True)
class OneHot:
    """Inputs of which exactly one is 1 and the others 0; `none`: or all are 0.

    levels: what a 1 in each says; dropped: what zeros in all say.
    """

    name: str
    members: tuple[int, ...]
    none: bool = False
    levels: tuple[str, ...] = ()
    dropped: str = "none"

    def said(self, x: Floats) -> str:
        """The level at x by name."""
        on = np.flatnonzero(x[list(self.members)])
        return self.levels[on[0]] if len(on) else self.dropped

    def holds(self, x: Floats) -> bool:
        """Is x zeros and one 1 there (or zeros alone, where that is a level)?"""
        cells = x[list(self.members)]
        return bool(np.isin(cells, (0, 1)).all()) and cells.sum() in ((0, 1) if self.none else (1,))


@dataclass(frozen=True, eq=False)
class Domain:
    """{ x : low <= x <= high, cost(x) <= radius }, some inputs integers or one-hot.

    cost(x) = sum weight |x - home|, or with `largest` the maximum instead of the sum.
    cut: (g, c), what is known of the points that matter: g . x + c >= 0.
    """

    home: Floats
    low: Floats
    high: Floats
    weight: Floats
    integer: NDArray[np.bool_]
    groups: tuple[OneHot, ...] = ()
    largest: bool = False
    radius: float = np.inf
    cut: tuple[Floats, float] | None = None

    def cost(self, x: Floats) -> float:
        """What the change from home to x costs."""
        each = self.weight * np.abs(x - self.home)
        return float(each.max(initial=0) if self.largest else each.sum())

    @property
    def centre(self) -> Floats:
        """The nearest point of the box: where the ball's budget starts to be spent."""
        return np.clip(self.home, self.low, self.high)

    @property
    def empty(self) -> bool:
        """No point of the box is in the ball."""
        return bool((self.low > self.high).any() or self.cost(self.centre) > self.radius)

    def holds(self, x: Floats) -> bool:
        """Is x in the box, with whole numbers and categories as they must be, exactly?"""
        inside = (self.low <= x) & (x <= self.high) & (~self.integer | (x == np.round(x)))
        return bool(inside.all()) and all(group.holds(x) for group in self.groups)

    def within(self, radius: float) -> Domain:
        """The domain cut by a (smaller) ball: its box shrinks, integers to whole numbers."""
        if not np.isfinite(radius):
            return self
        spare = radius if self.largest else radius - self.cost(self.centre)
        middle = self.home if self.largest else self.centre
        reach = max(spare, 0) / self.weight * (1 + SLACK) + SLACK * np.abs(middle)
        low, high = np.maximum(self.low, middle - reach), np.minimum(self.high, middle + reach)
        low = np.where(self.integer, np.ceil(low - 1e-6), low)
        high = np.where(self.integer, np.floor(high + 1e-6), high)
        return replace(self, low=low, high=high, radius=min(radius, self.radius))

    def support(self, c: Floats) -> Floats:
        """(rows,) an upper bound of c . x over the domain, for c (rows, inputs).

        With a cut it is the least over some multipliers m >= 0 of max (c + m g) . x + m constant.
        """
        from gatewise.explain.recourse.kernels import most_rows

        g, constant = self.cut or (np.zeros(c.shape[1]), 0.0)
        times = MULTIPLIERS[: 0 if self.cut is None else None]
        return np.asarray(most_rows(np.ascontiguousarray(c), self.ball, g, constant, times))

    @cached_property
    def ball(self) -> Any:
        """The domain as arrays for the compiled loops."""
        from gatewise.explain.recourse.kernels import Ball

        centre, groups = self.centre, [g for g in self.groups if self._switches(g)]
        sizes = [len(g.members) for g in groups]
        spare = np.inf if self.largest else self.radius - self.cost(centre)
        return Ball(
            centre,
            self.high - centre,
            centre - self.low,
            np.asarray(self.weight, np.float64),
            float(spare),
            np.array([j for g in groups for j in g.members], np.int64),
            np.r_[0, np.cumsum(sizes, dtype=np.int64)].astype(np.int64),
            np.array([g.none for g in groups], bool),
            np.asarray(self.home, np.float64),
            np.asarray(self.high >= 1),
        )

    def _switches(self, group: OneHot) -> bool:
        """Do the members move together, or do their own boxes say all?"""
        members = np.array(group.members)
        now, low, high = self.home[members], self.low[members], self.high[members]
        return bool(((now >= low) & (now <= high)).all() and not (low == 1).any())


@dataclass(frozen=True, eq=False)
class Reach:
    """low <= P v + b <= high for every unit, over a domain."""

    low: Floats
    high: Floats

    @property
    def open(self) -> Ids:
        """Units that may be on or off."""
        return np.flatnonzero((self.low < 0) & (self.high > 0))


def reach(form: Rectified, domain: Domain, known: Reach | None = None) -> Reach:
    """Bounds of every unit by lines, stage after stage, never wider than what is `known`."""
    n = form.units
    low, high = np.full(n, -np.inf), np.full(n, np.inf)
    if known is not None:
        low, high = known.low.copy(), known.high.copy()
    found = Reach(low, high)
    for s in form.stages:
        # A unit that is known to be on or off may keep the ends it has.
        u = s.start + np.flatnonzero((low[s] < 0) & (high[s] > 0))
        below, above = most_and_least(form, domain, found, form.pre[u], form.bias[u])
        low[u], high[u] = np.maximum(low[u], below), np.minimum(high[u], above)
    return found


def intervals(form: Rectified, domain: Domain) -> Reach:
    """Bounds by interval arithmetic on the box alone: the plain way, to compare with."""
    d = form.inputs
    low, high = np.r_[domain.low, np.zeros(form.units)], np.r_[domain.high, np.zeros(form.units)]
    found = Reach(np.zeros(form.units), np.zeros(form.units))
    for s in form.stages:
        up, down = form.pre[s].clip(min=0), form.pre[s].clip(max=0)
        found.low[s] = _dot(up, low) + _dot(down, high) + form.bias[s]
        found.high[s] = _dot(up, high) + _dot(down, low) + form.bias[s]
        low[d + s.start : d + s.stop] = found.low[s].clip(min=0)
        high[d + s.start : d + s.stop] = found.high[s].clip(min=0)
    return found


def _dot(a: Floats, v: Floats) -> Floats:
    """a @ v where 0 times infinity is 0."""
    return np.asarray(np.where(a == 0, 0, a * np.where(a == 0, 0, v)).sum(1))


def most_and_least(
    form: Rectified, domain: Domain, known: Reach, matrix: Floats, offset: Floats
) -> tuple[Floats, Floats]:
    """Bounds of matrix v + offset over the domain, lines put in for the units that are known."""
    both = np.concatenate([matrix, -matrix]), np.concatenate([offset, -offset])
    over, constant = carried(form, known, *both)
    most, least = np.split(domain.support(over) + constant, 2)
    least = -least
    slack = SLACK * (1 + np.abs(most) + np.abs(least))
    slack = np.where(np.isfinite(slack), slack, 0)
    return least - slack, most + slack


def carried(form: Rectified, known: Reach, matrix: Floats, offset: Floats) -> tuple[Floats, Floats]:
    """a, c with matrix v + offset <= a x + c: units by upper or lower lines, last stage first."""
    rows, constants, _ = _carry(form, known, matrix, offset)
    return rows, constants


def pull_on_goal(form: Rectified, known: Reach, matrix: Floats) -> Floats:
    """(units,) the coefficient of each r once the goal's first row is carried back by lines."""
    return _carry(form, known, matrix[:1], np.zeros(1))[2]


def _carry(
    form: Rectified, known: Reach, matrix: Floats, offset: Floats
) -> tuple[Floats, Floats, Floats]:
    from gatewise.explain.recourse.kernels import Units, carry_rows

    rows, constants = np.array(matrix, np.float64, order="C"), np.array(offset, np.float64)
    starts = [form.inputs + s.start for s in form.stages]
    width = np.repeat(np.array(starts, np.int64), [s.stop - s.start for s in form.stages])
    units = Units(form.pre, form.bias, width, known.low, known.high)
    met = carry_rows(rows, units, constants)
    return np.ascontiguousarray(rows[:, : form.inputs]), constants, met
