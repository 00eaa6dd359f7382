"""Many linear programs with the same rows at once: does a row follow from others?

min c.u over a.u + 1 >= 0, with dual max -sum(l) over l >= 0, a^T l = c: the row c.u + 1 >= 0
follows if some l has sum(l) <= 1, and does not if some point of the rows has c.u < -1. One primal-
dual step (Mehrotra 1992) for all rows costs one matrix product and small Cholesky factors; a row
leaves at the first such l or point, so few steps are needed. Nothing here is trusted: what comes
out is proven elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 40
SHORT = 0.999  # of the way to the boundary
FIRST = 10.0  # the sum of the multipliers at the start: they come down sooner than they go up
ENTRIES = 8_000_000  # numbers alive in one chunk
SMALL = 64  # coordinates up to which the outer products of all rows are kept


@dataclass(frozen=True, eq=False)
class Answers:
    """verdict (n,): +1 follows, by multipliers (n, k); -1 does not, by point (n, d); 0 open."""

    verdict: Tensor
    multipliers: Tensor
    point: Tensor


def answers(a: Tensor, c: Tensor, steps: int = STEPS) -> Answers:
    """Does each row of c (n, d) follow from the rows a (k, d)? All have slack 1 at the origin."""
    k, d = a.shape
    outer = (a[:, :, None] * a[:, None, :]).reshape(k, d * d) if d <= SMALL else None
    most = max(1, ENTRIES // (d * d + 4 * k + (0 if outer is not None else k * d)))
    parts = [_Batch(a, outer, part).run(steps) for part in c.split(most)]
    verdict, multipliers, point = (
        torch.cat(column)
        for column in zip(*((p.verdict, p.multipliers, p.point) for p in parts), strict=True)
    )
    return Answers(verdict, multipliers, point)


class _Batch:
    """The programs of one chunk; rows of the state go as they are answered."""

    def __init__(self, a: Tensor, outer: Tensor | None, c: Tensor) -> None:
        n, (k, d) = len(c), a.shape
        self.a, self.outer, self.c = a, outer, c
        self.live = torch.arange(n)
        self.u, self.s = c.new_zeros(n, d), c.new_ones(n, k)
        self.l = c.new_full((n, k), FIRST / k)
        self.verdict = torch.zeros(n, dtype=torch.int8)
        self.multipliers, self.point = c.new_zeros(n, k), c.new_zeros(n, d)

    def run(self, steps: int) -> Answers:
        """At most so many steps."""
        for _ in range(steps):
            if not len(self.live):
                break
            self._step()
        self.point[self.live] = self.u
        return Answers(self.verdict, self.multipliers, self.point)

    def _gram(self, weight: Tensor) -> Tensor:
        """(n, d, d) a^T diag(weight) a."""
        d = self.a.shape[1]
        if self.outer is not None:
            gram = (weight @ self.outer).reshape(-1, d, d)
        else:
            gram = (self.a.T * weight[:, None, :]) @ self.a
        ridge = 1e-12 * gram.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)
        gram.diagonal(dim1=1, dim2=2).add_(ridge)  # where the rows leave a line free
        return gram

    def _step(self) -> None:
        """Predict, correct, move; then keep what is still open."""
        weight = self.l / self.s
        factor, _ = torch.linalg.cholesky_ex(self._gram(weight))
        du = _solve(factor, -self.c)
        ds = du @ self.a.T
        first = -weight * ds  # l after a full step: a^T of it is c
        dl = first - self.l
        mu = (self.l * self.s).mean(1, keepdim=True)
        ahead = (self.l + _reach(self.l, dl) * dl) * (self.s + _reach(self.s, ds) * ds)
        centre = ((ahead.mean(1, keepdim=True) / mu) ** 3 * mu - ds * dl) / self.s
        du = du + _solve(factor, centre @ self.a)
        ds = du @ self.a.T
        second = centre - weight * ds
        dl = second - self.l
        go, come = SHORT * _reach(self.s, ds), SHORT * _reach(self.l, dl)
        self.u, self.s, self.l = self.u + go * du, self.s + go * ds, self.l + come * dl
        self._leave(first, second)

    def _leave(self, first: Tensor, second: Tensor) -> None:
        fine = [(v.amin(1) >= 0) & (v.sum(1) < 1) for v in (first, second)]
        below = (self.u * self.c).sum(1) < -1
        follows = fine[0] | fine[1]
        sane = self.u.isfinite().all(1) & self.l.isfinite().all(1)
        gone = follows | below | ~sane
        where = self.live[gone]
        self.verdict[where] = torch.where(follows, 1, torch.where(below, -1, 0))[gone].to(
            torch.int8
        )
        self.multipliers[where] = torch.where(fine[0][:, None], first, second)[gone]
        self.point[where] = self.u[gone]
        self.live, self.c = self.live[~gone], self.c[~gone]
        self.u, self.s, self.l = self.u[~gone], self.s[~gone], self.l[~gone]


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]


def _reach(x: Tensor, dx: Tensor) -> Tensor:
    """(n, 1): the longest step up to 1 that keeps x + step dx >= 0."""
    return torch.where(dx < 0, -x / dx, torch.inf).amin(1, keepdim=True).clamp(max=1)
