"""Proofs in float64: every verdict here holds for the exact rows, rounding included.

A facet by a point: it breaks that row and no other, and an inner point breaks none. A redundant
row by multipliers, repaired: from l >= 0 with a^T l near c take C = L^2 a (a^T L^2 a)^-1, a right
inverse of a^T for the exact rows too (|I - a^T C| = g < 1, whatever the rows' rounding). The exact
residual r, |r|_1 <= rho, is then met by a change of at most rho/(1 - g) max_k |C_jk| in l_j: if
no l_j goes below 0, exact multipliers exist, and what they say of the slacks is bounded too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.network import Node
from gatewise.numeric import gamma
from gatewise.patterns.exact import Rational
from gatewise.regions.constraints import Frozen, magnitude, slack, spread, visit
from gatewise.regions.local.redundant import exact
from gatewise.regions.local.redundant.frame import F64, Frame, Walls, rounding, with_bias

ENTRIES = 8_000_000
Exactly = Callable[[], Rational | None]
LITTLE = 1e-7


def sides(frame: Frame, x: Tensor, rational: Exactly | None = None) -> Tensor:
    """(k, m) int8: is each row +1 kept, -1 broken or 0 met at each point x (k, inputs); 2 open.

    What floats leave open is decided by the network in whole numbers, if it is given.
    """
    f = frame.f
    points = x.reshape(1, len(x), *f.network.input_shape)
    value = at_gates(f, f, points)
    size = at_gates(f, Frozen(f.source, spread(f), f.pattern), points.abs())
    bound = rounding(f) * size
    sign = (value > bound).to(torch.int8) - (value < -bound).to(torch.int8)
    sign[(sign == 0) & ~((value == 0) & (bound == 0))] = 2
    if rational is not None and bool((sign == 2).any()):
        _settle(sign, frame, x, rational())
    return torch.cat([sign, _box_sides(frame, x)], 1)


def at_gates(f: Frozen, walked: Frozen, points: Tensor) -> Tensor:
    """(k, m) the slack of every row at k points; its magnitude where |network| is walked."""
    measure = slack if walked is f else magnitude
    found: list[Tensor] = [points.new_zeros(points.shape[1], 0)]

    def see(node: Node, zs: list[Tensor]) -> None:
        kind, codes = node.kind, f.codes(node.name)
        assert isinstance(kind, Pieces | Winner)
        rows = measure(kind, zs, codes)[:, 0].movedim(1, 0).reshape(points.shape[1], -1)
        asked = slack(kind, [z[:, :1] for z in zs], codes).reshape(-1).isfinite()
        found.append(rows[:, asked])

    visit(walked, points, with_bias, see)
    return torch.cat(found, 1)


def _settle(sign: Tensor, frame: Frame, x: Tensor, rational: Rational | None) -> None:
    """Decide the open ones in whole numbers, as many points as that is affordable for."""
    if rational is None:
        return
    open_ = (sign == 2).any(1).nonzero().flatten()[: max(1, exact.AT_ONCE // rational.cost)]
    found = exact.values(rational, frame.f.pattern, x[open_])
    if found is not None:
        sign[open_] = torch.from_numpy(np.ascontiguousarray(exact.signs(found).T))


def _box_sides(frame: Frame, x: Tensor) -> Tensor:
    """The sign of one rounded difference is exact."""
    if frame.box is None:
        return torch.zeros(len(x), 0, dtype=torch.int8)
    low, high = (x - frame.box[0], frame.box[1] - x)
    ends = zip((low, high), frame.box, strict=True)
    return torch.cat([v[:, end.isfinite()] for v, end in ends], 1).sign().to(torch.int8)


@dataclass(frozen=True, eq=False)
class Claims:
    """n claims that rows `target` follow from rows `by` (k,) with multipliers (n, k)."""

    target: Tensor
    by: Tensor
    multipliers: Tensor


def proven(walls: Walls, claims: Claims) -> Claims:
    """The claims that hold for the exact rows, with their multipliers repaired."""
    rows = torch.cat([claims.by, claims.target])
    asked = ((walls.a[rows] != 0) | (walls.spread[rows] > 0)).any(0)
    walls = Walls(walls.a[:, asked], walls.s, walls.spread[:, asked], walls.error)
    k, d = len(claims.by), walls.a.shape[1]
    step = max(1, ENTRIES // max(1, 4 * k * d))
    parts = [
        _proven(walls, claims.by, t, m)
        for t, m in zip(claims.target.split(step), claims.multipliers.split(step), strict=True)
    ]
    good, multipliers = (torch.cat(column) for column in zip(*parts, strict=True))
    return Claims(claims.target[good], claims.by, multipliers[good])


def leaner(walls: Walls, claims: Claims) -> Claims:
    """The claims without the multipliers that carry least of their sum of slacks.

    Where the rows that matter leave coordinates out, small multipliers of others stand in the way.
    """
    weight = claims.multipliers * walls.s[claims.by]
    kept = weight > LITTLE * weight.amax(1, keepdim=True)
    return Claims(claims.target, claims.by, claims.multipliers * kept)


def _proven(walls: Walls, by: Tensor, target: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    a, c, spread_ = walls.a[by], walls.a[target], walls.spread[by]
    k, d = a.shape
    # coordinates in which every row at hand is 0, exactly, ask nothing
    there = ((given > 0).to(F64) @ ((a != 0) | (spread_ > 0)).to(F64) > 0) | (c != 0)
    there |= walls.spread[target] > 0
    more = 1 + gamma(4 * (k + d) + 16, F64)  # pays for sums of bounds, all of them >= 0
    g = gamma(k + 4, F64)
    inverse = _right_inverse(a, given, there)
    given = given + (inverse @ (c - given @ a)[:, :, None])[:, :, 0]
    blur = g * a.abs() + spread_
    off = (torch.eye(d, dtype=F64) - a.T @ inverse).abs() + blur.T @ inverse.abs()
    off = off.sum(1).masked_fill(~there, 0).amax(1) * more
    residual = (c - given @ a).abs() + g * c.abs() + walls.spread[target] + given @ blur
    residual = residual.sum(1) * more
    change = (residual / (1 - off))[:, None] * inverse.abs().amax(2) * more
    high = walls.s[by] + walls.error[by]
    needed = ((given + change) * high).sum(1) * more
    left = walls.s[target] - walls.error[target]
    good = (off < 0.5) & (given >= change).all(1) & (left * (1 - 2e-16) > needed * more)
    return good, given


def _right_inverse(a: Tensor, given: Tensor, there: Tensor) -> Tensor:
    """(n, k, d) C with a^T C near I, of least change beside `given`; zeros where there is none."""
    weight = given.square()
    gram = (a.T * weight[:, None, :]) @ a
    size = gram.diagonal(dim1=1, dim2=2).amax(1).clamp(min=1e-300)[:, None, None]
    gram = gram / size + torch.diag_embed((~there).to(F64))
    inverse, info = torch.linalg.inv_ex(gram)
    inverse = torch.where((info == 0)[:, None, None], inverse, 0.0).nan_to_num(0, 0, 0)
    return weight[:, :, None] * (a @ (inverse / size))
