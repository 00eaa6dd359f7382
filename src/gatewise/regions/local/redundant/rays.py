"""Facets by rays: the first wall that a ray from an inner point meets is a facet.

In the rows' own scale (slack 1 at the origin) wall j is met at -1 / (a_j.w) along w. Directions
that meet many walls: H^-1 a_i with H = sum a_j a_j^T, which are extreme on the Dikin ellipsoid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ENTRIES = 4_000_000  # of a matrix of rays and walls


@dataclass(frozen=True, eq=False)
class Met:
    """For each of n directions the wall met first, -1 for none; and a step beyond that wall alone.

    gap (n,): how much later the next wall is met: 0 together, 1 never.
    """

    wall: Tensor
    step: Tensor
    gap: Tensor


def shoot(a: Tensor, w: Tensor) -> Met:
    """Rays w (n, k) from the origin against the walls a.u + 1 >= 0; at least one of each."""
    parts = [_shoot(a, part) for part in w.split(max(1, ENTRIES // len(a)))]
    wall, step, gap = (
        torch.cat(column) for column in zip(*((p.wall, p.step, p.gap) for p in parts), strict=True)
    )
    return Met(wall, step, gap)


def _shoot(a: Tensor, w: Tensor) -> Met:
    least = (w @ a.T).topk(min(2, len(a)), 1, largest=False)
    first = least.values[:, 0]
    second = least.values[:, 1].clamp(max=0) if len(a) > 1 else torch.zeros_like(first)
    hit = first < 0
    # halfway in 1 / t, where "never" is a number too
    rate = torch.where(hit, (first + second) / -2, 1.0)
    gap = torch.where(hit, 1 - second / torch.where(hit, first, 1.0), 0.0)
    return Met(torch.where(hit, least.indices[:, 0], -1), w / rate[:, None], gap)


def dikin(a: Tensor) -> Tensor:
    """(2 m, k) directions: +-H^-1 a_i."""
    gram = a.T @ a
    gram.diagonal().add_(1e-12 * gram.diagonal().mean())  # lines in the region: any ray will do
    factor, info = torch.linalg.cholesky_ex(gram)
    w = a if int(info) else torch.cholesky_solve(a.T, factor).T
    return torch.cat([w, -w])


@dataclass(frozen=True, eq=False)
class Facing:
    """The walls that rays have met first, and for each the step that keeps farthest from others."""

    wall: Tensor
    step: Tensor

    @staticmethod
    def of(met: Met) -> Facing:
        """Of several rays that meet a wall, the one with the widest gap."""
        order = met.gap.argsort(descending=True, stable=True)
        order = order[(met.wall[order] >= 0) & (met.gap[order] > 0)]
        wall, place = met.wall[order].unique(return_inverse=True)
        first = torch.full((len(wall),), len(order)).scatter_reduce_(
            0, place, torch.arange(len(order)), "amin"
        )
        return Facing(wall, met.step[order[first]])

    def moved(self, u: Tensor) -> Facing:
        """The steps as seen from the origin + u."""
        return Facing(self.wall, self.step - u)

    def joined(self, other: Facing) -> Facing:
        """Both, a wall of each once."""
        new = ~torch.isin(other.wall, self.wall)
        return Facing(
            torch.cat([self.wall, other.wall[new]]), torch.cat([self.step, other.step[new]])
        )
