"""Sorting the rows of one region into facets and redundant ones, each with its proof."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import DataError
from gatewise.patterns.dyadic import Dyadic, dyadic, join
from gatewise.patterns.exact import Rational, rational
from gatewise.regions.local.redundant import exact, plain
from gatewise.regions.local.redundant.frame import HIGH, LOW, Frame, Walls
from gatewise.regions.local.redundant.lp import middle
from gatewise.regions.local.redundant.proofs import Claims, Exactly, leaner, proven, sides
from gatewise.regions.local.redundant.search import centred, rays, search

FACET, UNDECIDED, REDUNDANT = 1, 0, -1
Exact = dict[int, dict[int, Fraction]]


@dataclass(eq=False)
class Board:
    """The rows of one region while they are sorted (a builder, not a value).

    status (m,); twin (m,): the first row that is the same half-space; asks (m,) bool: rows that
    are not zero, as far as is known; point: for a facet's first row a point beyond it alone;
    claims, fractions: the multipliers of redundant rows; whole: rows decided in whole numbers;
    inner: the step to the point the walls are seen from.
    """

    frame: Frame
    walls: Walls
    status: Tensor
    twin: Tensor
    asks: Tensor
    inner: Tensor
    point: dict[int, Tensor] = field(default_factory=dict)
    claims: list[Claims] = field(default_factory=list)
    fractions: Exact = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)

    def rational(self) -> Rational | None:
        """The network in whole numbers, where that is possible."""
        return self._rational

    @cached_property
    def _rational(self) -> Rational | None:
        return rational(self.frame.f.source)

    @cached_property
    def rows(self) -> Dyadic | None:
        """Every row in whole numbers, where that is affordable."""
        f = self.frame
        inner = self._rational if f.lift is None else rational(f.network)
        found = None if inner is None else exact.rows(inner, f.f.pattern)
        return found if found is None or f.box is None else _with_box(found, f)

    @property
    def live(self) -> Tensor:
        """(n,) one row of each half-space that is not known to be redundant."""
        first = self.twin == torch.arange(len(self.twin))
        return (first & self.asks & (self.status != REDUNDANT)).nonzero().flatten()

    @property
    def open(self) -> Tensor:
        """(n,) those of them that are not known to be facets either."""
        live = self.live
        return live[self.status[live] == UNDECIDED]

    def beyond(self, rows: Tensor, steps: Tensor, rational: Exactly | None = None) -> None:
        """Take open rows as facets, whose step from the inner point breaks nothing but them."""
        fresh = self.status[rows] == UNDECIDED
        rows, steps = rows[fresh], steps[fresh]
        if not len(rows):
            return
        x = self.frame.x(self.inner + steps)
        sign = sides(self.frame, x, rational)
        own = torch.arange(len(self.twin)) == rows[:, None]
        twin = (self.twin == rows[:, None]) & ~own  # broken with it, by the same half-space
        kept = (sign == 0) | (sign == 1) | twin | ~self.asks
        good = torch.where(own, sign == -1, kept).all(1)
        for k in good.nonzero().flatten().tolist():
            self.point[int(rows[k])] = x[k]
        self.status[rows[good]] = FACET

    def follow(self, claims: Iterable[Claims]) -> None:
        """Take rows as redundant, whose multipliers hold, at once or without the small ones."""
        for claim in claims:
            for attempt in (claim, leaner(self.walls, claim)):
                mine = self.status[attempt.target] == UNDECIDED
                if bool(mine.any()):
                    left = Claims(attempt.target[mine], attempt.by, attempt.multipliers[mine])
                    held = proven(self.walls, left)
                    self.status[held.target] = REDUNDANT
                    self.claims.append(held)


def board(frame: Frame) -> Board:
    """Everything but the rows that need a program of their own."""
    b = cleared(frame)
    if not bool(b.asks.any()):
        return b
    _enter(b)
    _pair(b)
    loose = torch.tensor(list(b.fractions), dtype=torch.long)
    rows = torch.cat([b.live, loose]).unique()  # loose rows stop rays
    before = _only(frame.walls, rows)
    seeds = rays(before).moved(b.inner) if bool((before.s > 0).all()) else None
    found = search(_only(b.walls, rows), torch.isin(rows, b.open), seeds)
    b.beyond(rows[found.facing.wall], found.facing.step)
    b.follow(Claims(rows[c.target], rows[c.by], c.multipliers) for c in found.claims)
    return b


def cleared(frame: Frame) -> Board:
    """A board with zero rows set aside, and those that may be zero; and loose rows redundant."""
    walls, m = frame.walls, len(frame.walls)
    nothing = walls.a.new_zeros(walls.a.shape[1])
    b = Board(frame, walls, torch.zeros(m).long(), torch.arange(m), ~walls.zero, nothing)
    b.status[~b.asks] = REDUNDANT
    may = plain.doubtful(b.walls)
    if bool(may.any()):
        b.asks &= ~may
        if b.rows is not None:
            zero = torch.from_numpy(np.asarray((b.rows.whole[:, :-1] == 0).all(1))) & may
            b.whole |= set(may.nonzero().flatten().tolist())
            b.status[zero] = REDUNDANT
            b.asks |= may & ~zero
    rows, nearer = plain.loose(b.frame.f, b.frame.gate)
    for row, by in zip(rows.tolist(), nearer.tolist(), strict=True):
        if b.asks[row]:
            b.fractions[row], b.status[row] = {by: Fraction(1)}, REDUNDANT
    return b


def _enter(b: Board) -> None:
    """Move to an inner point, proven to be one."""
    asks = b.asks
    for step in (centred, middle):
        u = step(b.walls)
        for inner in (u, 0 * u):
            walls = b.frame.walls.at(inner)
            x = b.frame.x(inner[None])
            strict = bool((sides(b.frame, x, b.rational)[0, asks] == 1).all())
            if strict and bool((walls.s[asks] > 0).all()):
                b.walls, b.inner = walls, inner
                return
    raise DataError(
        "the region holds no ball that float64 can find: it is a point, flat, or thinner than "
        "rounding, so its half-spaces have no facets; take a point inside a full region"
    )


def _pair(b: Board) -> None:
    """Rows that are the same half-space, decided in whole numbers."""
    asks = b.asks.nonzero().flatten()
    if len(asks) < 2 or not bool(plain.alike(_only(b.walls, asks)).any()) or b.rows is None:
        return
    same = torch.from_numpy(plain.twins(b.rows.whole[asks.numpy()]))
    b.twin[asks] = asks[same]


def _only(walls: Walls, rows: Tensor) -> Walls:
    return Walls(walls.a[rows], walls.s[rows], walls.spread[rows], walls.error[rows])


def _with_box(rows: Dyadic, frame: Frame) -> Dyadic:
    """The rows in whole numbers, and those of the box."""
    assert frame.box is not None
    d = rows.whole.shape[1] - 1
    parts = [rows]
    for name, sign, corner in ((LOW, 1, frame.box[0]), (HIGH, -1, frame.box[1])):
        k = frame.unit[torch.tensor([g == name for g in frame.gate], dtype=torch.bool)]
        eye = sign * np.eye(d)[k.numpy()]
        parts.append(dyadic(np.concatenate([eye, -sign * corner[k].numpy()[:, None]], 1)))
    return join(parts)
