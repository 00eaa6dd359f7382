"""Near answers fast: an LP inside one region, and a walk from region to region.

On the region of x the network is W x + c and the region is A x + b >= 0: the cheapest point that
meets the goal there is an LP (a small MILP with whole-number inputs). The walk first follows the
rules of the points it meets (the cheapest point that would meet the goal, were the rule here true
everywhere), then descends: flip the unit of a wall that the answer leans on, solve again, keep what
is cheaper. What comes out is an upper bound of the least cost, never a proof.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.explain.recourse.bounds import Domain
from gatewise.explain.recourse.milp import Answer, Goal, nearest, settled, substituted
from gatewise.explain.recourse.milp_form import Rectified
from gatewise.ir.network import Network
from gatewise.regions.halfspaces import region

Floats = NDArray[np.float64]
STEPS = 15  # rules followed from one start
PUSHES = (0.0, 0.3, 1.0)  # of what is missing at home: aim beyond the goal
LEANS = 1e-7  # a wall with less slack (relative to its size) is one the answer leans on
TURNS = 40  # regions solved on the way down
SCATTERED, REACHES = 64, 2.0 ** np.arange(-3, 7)  # points at random, at each of these costs
STARTS = 3  # of the points found, how many to descend from


@dataclass(frozen=True, eq=False)
class Piece:
    """One region: A x + b >= 0 there, and f(x) = W x + c. pattern: which rectified units are on."""

    a: Floats
    b: Floats
    weight: Floats
    offset: Floats
    pattern: NDArray[np.bool_] | None = None


Pieces = Callable[[Floats], Piece]


def piece_of_form(form: Rectified, pattern: NDArray[np.bool_]) -> Piece:
    """The piece of a pattern of rectified units (there may be no point in it)."""
    seen = substituted(form, settled(pattern))
    sign = np.where(pattern, 1.0, -1.0)
    return Piece(sign[:, None] * seen.pre, sign * seen.bias, seen.matrix, seen.offset, pattern)


def pattern_at(form: Rectified, x: Floats) -> NDArray[np.bool_]:
    """Which rectified units are on at x."""
    v, d = np.concatenate([x, np.zeros(form.units)]), form.inputs
    for s in form.stages:
        v[d + s.start : d + s.stop] = np.maximum(0, form.pre[s] @ v + form.bias[s])
    return np.asarray(v[d:] > 0)


def piece_at(network: Network, x: Floats) -> Piece:
    """The piece around x of any network that has regions."""
    home = region(network, network.rows(torch.from_numpy(x[None])))
    walls = home.halfspaces(0)
    weight, offset = home.map.rows(range(network.outputs))
    return Piece(walls.a.numpy(), walls.b.numpy(), weight[0].numpy(), offset[0].numpy())


@dataclass(frozen=True, eq=False)
class Walk:
    """What a walk works with: the goal in its domain, f of many rows, the pieces, when to stop."""

    domain: Domain
    goal: Goal
    many: Callable[[Floats], Floats]
    piece: Pieces
    form: Rectified | None = None
    until: float = np.inf

    def inside(self, piece: Piece, cutoff: float = np.inf) -> Floats | None:
        """The cheapest point of one region that meets the goal, if it is below the cutoff."""
        rows = self._goal_rows(piece, 0.0)
        found = self._nearest(
            np.concatenate([piece.a, rows[0]]), np.concatenate([piece.b, rows[1]]), cutoff
        )
        return found.x

    def follow(self) -> Iterator[Floats]:
        """Points that meet the goal, by following the rules of the points met."""
        home = self.domain.centre
        missing = max(self.goal.short(self.f(home)), 1e-9)
        for push in PUSHES:
            x = home
            for _ in range(STEPS):
                a, b = self._goal_rows(self.piece(x), push * missing)
                found = self._nearest(a, b, np.inf)
                if found.x is None or np.array_equal(found.x, x) or self._late():
                    break
                x = found.x
                if self.goal.short(self.f(x)) <= 0:
                    yield self._back(x)
                    break

    def scatter(self) -> list[Floats]:
        """Points that meet the goal, of those at random with one to three inputs changed."""
        d, rng = self.domain, np.random.default_rng(0)
        grouped = [j for g in d.groups for j in g.members]
        free = np.setdiff1d(np.flatnonzero(d.low < d.high), grouped)
        if not len(free) or self._late():
            return []
        count = SCATTERED * len(REACHES)
        move = np.zeros((count, len(d.low)))
        for _ in range(3):
            move[np.arange(count), rng.choice(free, count)] += rng.normal(size=count)
        size = np.abs(move).max(1) if d.largest else np.abs(move).sum(1)
        move *= (np.repeat(REACHES, SCATTERED) / size)[:, None] / d.weight
        x = np.clip(d.centre + move, d.low, d.high)
        x = np.where(d.integer, np.round(x), x)
        met = (self.many(x) @ self.goal.matrix.T + self.goal.offset >= 0).all(1)
        near = sorted((self._back(one) for one in x[met][: 4 * STARTS]), key=d.cost)
        return near[:STARTS]

    def f(self, x: Floats) -> Floats:
        """(outputs,) f of one row."""
        return np.asarray(self.many(x[None])[0])

    def _back(self, x: Floats) -> Floats:
        """The point nearest home on the segment to x that still meets the goal, by bisection."""
        if self.domain.integer.any():
            return x
        start, near, far = self.domain.centre, 0.0, 1.0
        for _ in range(40):
            middle = (near + far) / 2
            if self.goal.short(self.f(start + middle * (x - start))) <= 0:
                far = middle
            else:
                near = middle
        return np.clip(start + far * (x - start), self.domain.low, self.domain.high)

    def descend(self, x: Floats) -> Floats:
        """The cheapest point found from x by solving its region, then those it leans on."""
        piece = self.piece(x)
        best = self._better(x, self.inside(piece, self.domain.cost(x)))
        turns = 0
        while self.form is not None and piece.pattern is not None and turns < TURNS:
            turns += 1
            for other in self._leaning(piece, best):
                found = self.inside(other, self.domain.cost(best))
                if found is not None and self._cheaper(found, best):
                    best, piece = found, other
                    break
            else:
                return best
        return best

    def _leaning(self, piece: Piece, x: Floats) -> Iterator[Piece]:
        """The regions across the walls that x lies on."""
        assert self.form is not None and piece.pattern is not None
        slack = piece.a @ x + piece.b
        size = np.abs(piece.a) @ np.abs(x) + np.abs(piece.b)
        for unit in np.flatnonzero(slack <= LEANS * size):
            if self._late():
                return
            pattern = piece.pattern.copy()
            pattern[unit] = ~pattern[unit]
            yield piece_of_form(self.form, pattern)

    def _cheaper(self, x: Floats, than: Floats) -> bool:
        return self.domain.cost(x) < self.domain.cost(than) * (1 - 1e-6)

    def _better(self, x: Floats, other: Floats | None) -> Floats:
        return x if other is None or not self._cheaper(other, x) else other

    def _goal_rows(self, piece: Piece, push: float) -> tuple[Floats, Floats]:
        m = self.goal.matrix
        return m @ piece.weight, m @ piece.offset + self.goal.offset - push

    def _nearest(self, a: Floats, b: Floats, cutoff: float) -> Answer:
        limit = max(0.1, self.until - time.monotonic())
        return nearest(self.domain.within(cutoff), (a, b), limit)

    def _late(self) -> bool:
        return time.monotonic() > self.until


def walk(walk: Walk) -> Floats | None:
    """The cheapest point that a walk from home finds, its own region first; None if none."""
    own = walk.inside(walk.piece(walk.domain.centre))
    found = [] if own is None else [own]
    found += [*walk.follow(), *walk.scatter()]
    good = sorted((x for x in found if walk.goal.short(walk.f(x)) <= 1e-9), key=walk.domain.cost)
    ends = [walk.descend(x) for x in good[:STARTS]]
    return min([*good, *ends], key=walk.domain.cost, default=None)
