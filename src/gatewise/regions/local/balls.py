"""inscribed(region): the largest ball inside it (Chebyshev centre), and whether it is bounded.

max r over u, r with a_j.u + s_j >= r |a_j|. What a program in floats says is checked: the ball by
the rows at its centre, the upper bound and boundedness by multipliers (see `redundant.proofs`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import DataError
from gatewise.ir.network import Network
from gatewise.ir.rounding import path_terms
from gatewise.linear.affine_map import magnitudes
from gatewise.linear.collapse import collapse
from gatewise.numeric import gamma
from gatewise.regions.constraints import Frozen, spread
from gatewise.regions.halfspaces import Region
from gatewise.regions.local.irredundant import corners
from gatewise.regions.local.redundant.decide import cleared
from gatewise.regions.local.redundant.frame import F64, Frame, Walls, frame, rounding
from gatewise.regions.local.redundant.lp import model, solver
from gatewise.regions.local.redundant.proofs import Claims, at_gates, proven

TASK = "finding the largest ball in a region"
ROOM = 1e-9  # an upper bound is claimed this much above what the program found, relatively


@dataclass(frozen=True, eq=False)
class Inscribed:
    """A ball around `centre` (inputs,) of `radius` is inside; no ball inside is above `at_most`.

    Both are proven: inf for both says that balls of any size fit, at_most alone inf that no bound
    was proven. bounded: True or False where it is proven, else None; ray (inputs,): a direction
    that never leaves the region, where one was found. Rows that may be zero are left out.
    """

    centre: Tensor
    radius: float
    at_most: float
    bounded: bool | None
    ray: Tensor | None

    def __repr__(self) -> str:
        state = {True: "bounded", False: "unbounded", None: "bounded or not: open"}[self.bounded]
        return f"Inscribed(radius {self.radius:.6g}, at most {self.at_most:.6g}; {state})"


def inscribed(region: Region, index: int = 0, *, box: Any = None) -> Inscribed:
    """The largest ball in one region (or its part in a box), and whether it is bounded.

    A flat region has radius 0. Needs the extra `lp`.
    """
    if not -len(region) <= index < len(region):
        raise DataError(f"there are {len(region)} regions, counted from 0; got index {index}")
    fr = frame(region, index % len(region), corners(box, region.network.inputs))
    rows = cleared(fr).asks.nonzero().flatten()
    norm, off = _norms(fr)
    kept = _Kept(fr, rows, norm[rows], off[rows])
    bounded, ray = _bounded(kept)
    if ray is not None and bool((kept.rate(ray) > 0).all()):
        return Inscribed(fr.home, math.inf, math.inf, False, _lifted(fr, ray))
    u, r, dual = _largest(kept)
    centre = fr.x(u[None])[0]
    inside = max(0.0, _radius(kept, centre))
    return Inscribed(
        centre, inside, _at_most(kept, r, dual), bounded, None if ray is None else _lifted(fr, ray)
    )


@dataclass(frozen=True, eq=False)
class _Kept:
    """The rows that ask something; norm (n,) of each in the input, known to within off (n,)."""

    frame: Frame
    rows: Tensor
    norm: Tensor
    off: Tensor

    @property
    def walls(self) -> Walls:
        """Those rows."""
        w = self.frame.walls
        return Walls(w.a[self.rows], w.s[self.rows], w.spread[self.rows], w.error[self.rows])

    def rate(self, way: Tensor) -> Tensor:
        """At least how fast each row grows along a direction."""
        w, d = self.walls, len(way)
        blur = (w.spread + gamma(d + 4, F64) * w.a.abs()) @ way.abs()
        return w.a @ way - blur * (1 + gamma(d + 4, F64))


def _norms(f: Frame) -> tuple[Tensor, Tensor]:
    """|a_j| in the input, and what rounding can change it by."""
    a, spread_ = f.walls.a, f.walls.spread
    k, d = a.shape[1], f.home.numel()
    if f.head is None:
        norm, blur = a.norm(dim=1), spread_.norm(dim=1)
    else:
        w, e = _matrix(f.head)
        norm = (a @ w).norm(dim=1)
        blur = (spread_ @ (w.abs() + e) + a.abs() @ (e + gamma(k + 4, F64) * w.abs())).norm(dim=1)
    return norm, (blur + gamma(d + 8, F64) * norm) * (1 + gamma(k + d + 8, F64))


def _matrix(head: Network) -> tuple[Tensor, Tensor]:
    """W (k, d) of an affine network, and what rounding can change each entry by."""
    w, size = collapse(head)[0][0], collapse(magnitudes(head))[0][0]
    terms = 2 * (path_terms(head) + path_terms(head, backward=True)) + 8
    return w, gamma(terms, F64) * size


def _lifted(f: Frame, u: Tensor) -> Tensor:
    return u if f.lift is None else f.lift @ u


# -- the ball --


def _largest(kept: _Kept) -> tuple[Tensor, float, Tensor]:
    """(u, r, multipliers) of the program; the radius is capped where it has no bound."""
    highs, w = solver(TASK), kept.walls
    n, d = len(w), w.a.shape[1]
    if not n:
        return w.a.new_zeros(d), math.inf, w.s
    rows = torch.cat([w.a, -kept.norm[:, None]], 1) / kept.norm[:, None]
    room = w.s / kept.norm
    cost = torch.zeros(d + 1, dtype=F64)
    cost[d] = -1
    most = 1e3 * (1 + float(room.abs().max()))
    found = model(highs, rows, -room, cost, [-np.inf] * d + [-np.inf], [np.inf] * d + [most])
    found.run()
    if found.getModelStatus() != highs.HighsModelStatus.kOptimal:
        return w.a.new_zeros(d), math.inf, 0 * w.s
    solution = found.getSolution()
    u = torch.tensor(solution.col_value[:d], dtype=F64)
    dual = torch.tensor(solution.row_dual, dtype=F64).clamp(min=0) / kept.norm
    return u, float(solution.col_value[d]), dual


def _radius(kept: _Kept, centre: Tensor) -> float:
    """min over rows of (slack at the centre) / |a|, rounded down."""
    fr = kept.frame
    f, x = fr.f, centre[None, None].unflatten(-1, fr.f.network.input_shape)
    value = at_gates(f, f, x)[0]
    value = value - rounding(f) * at_gates(f, Frozen(f.source, spread(f), f.pattern), x.abs())[0]
    if fr.box is not None:
        ends = ((centre - fr.box[0], fr.box[0]), (fr.box[1] - centre, fr.box[1]))
        sides = [(v - 2e-16 * v.abs())[end.isfinite()] for v, end in ends]
        value = torch.cat([value, *sides])
    room = value[kept.rows] / (kept.norm + kept.off)
    return float(room.amin()) * (1 - 1e-15) if len(room) else math.inf


def _at_most(kept: _Kept, r: float, dual: Tensor) -> float:
    """r and a little, if multipliers prove that -r' + that follows from the rows in (u, r')."""
    w = kept.walls
    top = r * (1 + ROOM) + 1e-300
    if not math.isfinite(top) or not len(w):
        return math.inf
    column = torch.cat([-kept.norm, kept.norm.new_full((1,), -1.0)])[:, None]
    a = torch.cat([torch.cat([w.a, w.a.new_zeros(1, w.a.shape[1])]), column], 1)
    blur = torch.cat([kept.off, kept.off.new_zeros(1)])[:, None]
    blurs = torch.cat([torch.cat([w.spread, w.spread.new_zeros(1, w.a.shape[1])]), blur], 1)
    one = w.s.new_ones(1)
    lifted = Walls(a, torch.cat([w.s, top * one]), blurs, torch.cat([w.error, 0 * one]))
    n = len(w)
    claim = Claims(torch.tensor([n]), torch.arange(n), dual[None])
    return top if len(proven(lifted, claim).target) else math.inf


# -- bounded or not --


def _bounded(kept: _Kept) -> tuple[bool | None, Tensor | None]:
    """Whether every direction leaves the region; one that never does, where it was found.

    Fewer rows than inputs + 1 bound nothing. Else the steepest common ascent of all rows, if it is
    > 0, is a direction; and if the rows only sum to 0 when weighted, and span, there is none.
    """
    w, d = kept.walls, kept.frame.home.numel()
    few = len(w) <= d or w.a.shape[1] < d
    free = ~((w.a != 0) | (w.spread > 0)).any(0)
    ray = _ascent(kept) if len(w) else w.a.new_ones(w.a.shape[1])
    if ray is not None and not bool((kept.rate(ray) > 0).all()):
        ray = None
    if few or bool(free.any()) or ray is not None:
        return False, ray
    return (True if _spans(kept) else None), None


def _unit_rows(kept: _Kept) -> Tensor:
    a: Tensor = kept.walls.a
    unit: Tensor = a / a.norm(dim=1, keepdim=True)
    return unit


def _ascent(kept: _Kept) -> Tensor | None:
    """max t over a direction w in a box with a_j.w >= t |a_j|."""
    highs, a = solver(TASK), _unit_rows(kept)
    d = a.shape[1]
    rows = torch.cat([a, -torch.ones(len(a), 1, dtype=F64)], 1)
    cost = torch.zeros(d + 1, dtype=F64)
    cost[d] = -1
    found = model(
        highs, rows, torch.zeros(len(a), dtype=F64), cost, [-1.0] * d + [0.0], [1.0] * (d + 1)
    )
    found.run()
    if found.getModelStatus() != highs.HighsModelStatus.kOptimal:
        return None
    return torch.tensor(found.getSolution().col_value[:d], dtype=F64)


def _spans(kept: _Kept) -> bool:
    """Are there multipliers > 0 of all rows with sum l_j a_j = 0, the rows spanning? Then bounded.

    From max sum a_j.w over 0 <= a_j.w <= 1: if it is 0, the multipliers l of the lower sides make
    sum (1 + l_j) a_j = 0.
    """
    highs, w, a = solver(TASK), kept.walls, _unit_rows(kept)
    n, d = a.shape
    found = model(highs, a, torch.zeros(n, dtype=F64), -a.sum(0))
    found.changeRowsBounds(n, np.arange(n, dtype=np.int32), np.zeros(n), np.ones(n))
    found.run()
    if found.getModelStatus() != highs.HighsModelStatus.kOptimal:
        return False
    dual = torch.tensor(found.getSolution().row_dual, dtype=F64).clamp(min=0)
    weight = (1 + dual) / w.a.norm(dim=1)
    total = 2 * float(weight @ (w.s.abs() + w.error)) + 1
    one = w.s.new_ones(1)
    walls = Walls(
        torch.cat([w.a, w.a.new_zeros(1, d)]),
        torch.cat([w.s, total * one]),
        torch.cat([w.spread, w.a.new_zeros(1, d)]),
        torch.cat([w.error, 0 * one]),
    )
    claim = Claims(torch.tensor([n]), torch.arange(n), weight[None])
    return len(proven(walls, claim).target) > 0
