"""The quick search: rays prove facets, multipliers prove the rest, many rows at once (Clarkson).

A row is asked whether it follows from the facets known so far, which are few. If not, a point says
so, and the first wall that the ray to it meets is a facet that was not known. (Clarkson 1994, one
row at a time; here all rows take each round together, and rounds are few.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.regions.local.redundant.frame import Walls
from gatewise.regions.local.redundant.multipliers import answers
from gatewise.regions.local.redundant.proofs import Claims
from gatewise.regions.local.redundant.rays import Facing, dikin, shoot

CENTRING = 6  # Newton steps
NEAR = 1e-4  # of the farthest wall's distance
PARTS = 1 - 0.5 ** torch.arange(1, 12, dtype=torch.float64)  # of the way to the first wall


@dataclass(frozen=True, eq=False)
class Found:
    """What looks like facets, by a step beyond each; claims about rows that follow from them."""

    facing: Facing
    claims: list[Claims]


def centred(walls: Walls) -> Tensor:
    """A step towards the middle of the region: Newton on -sum log slack + |u|^2 / 2 R^2.

    R is the largest distance of a wall, so that unbounded regions have a middle too.
    """
    norms = walls.a.norm(dim=1)
    there = norms > 0
    a, s = walls.a[there] / norms[there, None], walls.s[there] / norms[there]
    u = walls.a.new_zeros(walls.a.shape[1])
    if not len(s) or not bool((s > 0).all()):
        return u
    u, s = _off_the_wall(a, u, s)
    weight = 1 / s.amax().square()
    for _ in range(CENTRING):
        scaled = a / s[:, None]
        gram = scaled.T @ scaled
        gram.diagonal().add_(weight)
        factor, info = torch.linalg.cholesky_ex(gram)
        if int(info):
            break
        slope = (weight * u - scaled.sum(0))[:, None]
        u, s = _descend(a, u, s, -torch.cholesky_solve(slope, factor)[:, 0], weight)
    return u


def _off_the_wall(a: Tensor, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """To the middle of the chord that leaves the nearest wall, while one is very near."""
    for _ in range(CENTRING):
        near = int(s.argmin())
        if float(s[near]) > NEAR * float(s.amax()):
            break
        way = a[near]
        far = min(_chord(s, a @ way), 2 * float(s.amax()))
        u = u + far / 2 * way
        s = s + a @ (far / 2 * way)
    return u, s


def _descend(a: Tensor, u: Tensor, s: Tensor, du: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The best of some steps along du."""
    ds = a @ du
    most = min(_chord(s, ds), 1e6)
    steps = torch.cat([PARTS * most, PARTS.new_tensor([0.0, min(1.0, most / 2)])])
    ahead = s + steps[:, None] * ds
    height = 0.5 * weight * (u + steps[:, None] * du).square().sum(1) - ahead.log().sum(1)
    best = int(height.nan_to_num(torch.inf).argmin())
    return u + steps[best] * du, ahead[best]


def _chord(s: Tensor, ds: Tensor) -> float:
    """How far the first wall is."""
    return float(torch.where(ds < 0, -s / ds, torch.inf).amin())


def search(walls: Walls, asked: Tensor, seeds: Facing | None = None) -> Found:
    """Sort the rows `asked` (m,) bool; every row stops rays. All slacks must be > 0.

    seeds: facets known already, with their steps.
    """
    a = walls.a / walls.s[:, None]
    facing = rays(walls) if seeds is None else rays(walls).joined(seeds)
    open_, claims, block = asked.clone(), list[Claims](), blocks(walls)
    open_[facing.wall] = False
    while bool(open_.any()) and len(facing.wall):
        known = len(facing.wall)
        for label in block[0][open_].unique():
            rows = (open_ & (block[0] == label)).nonzero().flatten()
            by = facing.wall[block[0][facing.wall] == label]
            columns = (block[1] == label).nonzero().flatten()
            if not len(by):
                by, columns = facing.wall, torch.arange(a.shape[1])
            found = answers(a[by][:, columns], a[rows][:, columns])
            yes = found.verdict == 1
            scale = walls.s[rows[yes], None] / walls.s[by]
            claims.append(Claims(rows[yes], by, found.multipliers[yes] * scale))
            open_[rows[yes]] = False
            if not bool(yes.all()):
                way = a.new_zeros(int((~yes).sum()), a.shape[1])
                way[:, columns] = found.point[~yes]
                facing = facing.joined(Facing.of(shoot(a, way)))
        open_[facing.wall] = False
        if len(facing.wall) == known:
            break
    return Found(facing, [c for c in claims if len(c.target)])


def blocks(walls: Walls) -> tuple[Tensor, Tensor]:
    """Labels of rows (m,) and coordinates (k,): the region is a product over the labels.

    Behind a unit that is off no later row looks: its coordinate has one row, its own.
    """
    linked = (walls.a != 0) | (walls.spread > 0)
    k = linked.shape[1]
    label = torch.arange(k)
    while True:
        row = torch.where(linked, label, k).amin(1)
        least = torch.where(linked, row[:, None], k).amin(0).minimum(label)
        if bool((least == label).all()):
            return row, label
        label = least[least]


def rays(walls: Walls) -> Facing:
    """The facets that Dikin rays from the origin meet."""
    a = walls.a / walls.s[:, None]
    return Facing.of(shoot(a, dikin(a)))
