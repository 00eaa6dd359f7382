"""Ragged grids of knots on many lines at once, and functions that are affine between the knots.

A ray has its end at t = inf (or -inf). There a curve holds not a value but a slope, counted away
from the line: the value at t beyond the last finite knot s is v(s) + (t - s) v(inf). So an
affine map acts on the ends of rays without its bias, and everything else is interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Grid:
    """Knots of some lines, line after line: row (K,) says whose, t (K,) increases along each.

    A piece is named by its left knot; the last knot of a line names none (`inside` is False).
    """

    row: Tensor
    t: Tensor

    def __len__(self) -> int:
        return len(self.t)

    @property
    def inside(self) -> Tensor:
        """(K-1,) True where knots k and k + 1 are on one line."""
        return self.row[1:] == self.row[:-1]

    @property
    def rays(self) -> Tensor:
        """(K,) True at the ends of rays."""
        return self.t.isinf()

    @property
    def lengths(self) -> Tensor:
        """(K,) the length of each piece, 0 for what is none."""
        gap = torch.where(self.inside, self.t.diff(), 0)
        return torch.cat([gap, gap.new_zeros(1)])


@dataclass(frozen=True, eq=False)
class Curve:
    """A value along the lines: value (K, *shape) at the knots of `grid`, affine between them."""

    grid: Grid
    value: Tensor


@dataclass(frozen=True, eq=False)
class Finer:
    """A grid with more knots: left (K',) is the piece of the coarser grid each new piece is in."""

    grid: Grid
    left: Tensor

    def lift(self, curve: Curve) -> Curve:
        """The same curve at the knots of the finer grid: values of knots that stay are copied."""
        old, t = curve.grid.t, self.grid.t
        value = curve.value.index_select(0, self.left)
        new = (t != old[self.left]).nonzero().flatten()
        left = self.left[new]
        a, b = _between(old[left], old[left + 1], t[new])
        shape = (-1, *[1] * (value.ndim - 1))
        inner = a.reshape(shape) * value[new] + b.reshape(shape) * curve.value[left + 1]
        return Curve(self.grid, value.index_copy(0, new, inner))

    def lower(self, g: Tensor, size: int) -> Tensor:
        """Sums over the pieces (K', ...) of the finer grid, for each piece of the coarser."""
        return g.new_zeros(size, *g.shape[1:]).index_add_(0, self.left, g)


def _between(left: Tensor, right: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """a, b with value(t) = a value(left) + b value(right)."""
    inside = torch.where(right.isinf(), t - left, (t - left) / (right - left))
    b = torch.where(left.isinf(), 1, inside)
    a = torch.where(left.isinf(), right - t, torch.where(right.isinf(), 1, 1 - b))
    return a, b


def whole(start: Tensor, stop: Tensor) -> Grid:
    """One piece a line, from start (rows,) to stop; a line without ends is held at 0 as well."""
    ends = torch.stack([start, stop], 1)
    middle = start.isinf() & stop.isinf()
    t = torch.cat([ends, torch.where(middle, 0.0, torch.nan)[:, None]], 1).sort(1).values
    keep = ~t.isnan()
    row = torch.arange(len(t), device=t.device)[:, None].expand_as(t)
    return Grid(row[keep], t[keep])


def crossing(grid: Grid, piece: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """t where a function of opposite signs at the ends of some pieces is zero.

    before, after: its values there (at the end of a ray: its slope).
    """
    left, right = grid.t[piece], grid.t[piece + 1]
    part = before / (before - after)
    t = left + part * (right - left)
    t = torch.where(right.isinf(), left - before / after, t)
    return torch.where(left.isinf(), right + after / before, t)


def insert(grid: Grid, piece: Tensor, t: Tensor) -> Finer | None:
    """The grid with knots t (M,) put into some pieces, or None when none is new.

    Knots that coincide are put in once; one that rounding put on an end is left out.
    """
    free = (t > grid.t[piece]) & (t < grid.t[piece + 1])
    piece, t = piece[free], t[free]
    order = _lexsort(piece, t)
    piece, t = piece[order], t[order]
    fresh = _changes(piece, t)
    piece, t = piece[fresh], t[fresh]
    if not len(t):
        return None
    left = torch.arange(len(grid), device=t.device)
    before = torch.bincount(piece, minlength=len(grid)).cumsum(0)
    old = left + torch.cat([before.new_zeros(1), before[:-1]])
    new = piece + 1 + torch.arange(len(t), device=t.device)
    size = len(grid) + len(t)
    where = torch.empty(size, dtype=torch.long, device=t.device)
    where[old], where[new] = left, piece
    knots = grid.t.new_empty(size)
    knots[old], knots[new] = grid.t, t
    return Finer(Grid(grid.row[where], knots), where)


def common(curves: list[Curve]) -> tuple[list[Curve], list[Finer | None]]:
    """The curves on one grid, the union of theirs; None where a curve's own grid is that one."""
    first = curves[0].grid
    if all(c.grid is first for c in curves):
        return curves, [None] * len(curves)
    grids = [c.grid for c in curves]
    row, t = torch.cat([g.row for g in grids]), torch.cat([g.t for g in grids])
    source = torch.repeat_interleave(torch.tensor([len(g) for g in grids], device=t.device))
    order = _lexsort(row, t)
    row, t, source = row[order], t[order], source[order]
    fresh = _changes(row, t)
    last = torch.cat([fresh[1:], fresh.new_ones(1)])
    union = Grid(row[fresh], t[fresh])
    finer = [Finer(union, ((source == k).cumsum(0) - 1)[last]) for k in range(len(grids))]
    return [f.lift(c) for f, c in zip(finer, curves, strict=True)], list(finer)


def _lexsort(first: Tensor, second: Tensor) -> Tensor:
    """The order by `first`, equal ones by `second`."""
    order = second.argsort(stable=True)
    return order[first[order].argsort(stable=True)]


def _changes(a: Tensor, b: Tensor) -> Tensor:
    """(K,) True where (a, b) is not what it was one place earlier."""
    same = (a[1:] == a[:-1]) & (b[1:] == b[:-1])
    return torch.cat([same.new_zeros(min(1, len(a))), same]).logical_not()
