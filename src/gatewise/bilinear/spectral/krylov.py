"""Block Lanczos on many symmetric operators in lockstep: one matrix product a step serves all.

Every operator has its own Krylov basis, fully reorthogonalised (Golub & Van Loan, section 10.3);
with one start vector each it is Lanczos, with b of them eigenvalues of multiplicity up to b are
seen. What has converged is said by Kato and Temple's bound |θ - λ| <= min(r, r² / gap).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Apply = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Ritz:
    """k eigenpairs of each of m operators, |value| falling.

    values (m, k); vectors (m, k, n); residuals ||A v - θ v|| (m, k); errors (m, k): bound on
    |θ - λ|; done (m,): all k within the tolerance; steps: products with each operator.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    errors: Tensor
    done: Tensor
    steps: int


class Basis:
    """The growing bases of m operators, (m, at most `most`, n), and A in them."""

    def __init__(self, apply: Apply, start: Tensor, most: int, rng: torch.Generator) -> None:
        m, b, n = start.shape
        self.apply, self.block, self.rng, self.most = apply, b, rng, min(most, n)
        self.Q = start.new_zeros(m, 0, n)
        self.H = start.new_zeros(m, 0, 0)
        self.size = 0
        self._room(b)
        self.last = start.new_zeros(m, b, b)
        self.scale = start.new_full((m,), 1e-300)  # the largest entry of H so far
        first, _ = self._orthonormal(start)
        self.Q[:, :b] = first
        self.size = b
        self.multiplied, self.ended = 0, False

    def step(self) -> None:
        """Multiply the newest block, orthogonalise what comes out, and append it if it fits."""
        b, j = self.block, self.size
        new = self.Q[:, j - b : j]
        y = self.apply(new.squeeze(1)).unsqueeze(1) if b == 1 else self.apply(new)
        held = self.Q[:, :j]
        c = y @ held.mT
        y = torch.baddbmm(y, c, held, alpha=-1)
        self.H[:, j - b : j, :j] = c
        near = held[:, max(0, j - 2 * b) :]
        y = torch.baddbmm(y, y @ near.mT, near, alpha=-1)
        self.scale = torch.maximum(self.scale, c.abs().amax((1, 2)))
        self.multiplied = j
        self.ended = j + b > self.most
        if j == self.Q.shape[2]:
            self.last = torch.zeros_like(self.last)  # the whole space
            return
        y, self.last = self._orthonormal(y)
        if not self.ended:
            self._room(j + b)
            self.Q[:, j : j + b] = y
            self.size = j + b

    def keep(self, rows: Tensor, apply: Apply) -> None:
        """Go on with some of the operators alone."""
        self.apply = apply
        self.Q, self.H = self.Q[rows], self.H[rows]
        self.last, self.scale = self.last[rows], self.scale[rows]

    def _room(self, size: int) -> None:
        """Space for so many vectors, grown by a half: memory is what the steps need."""
        held = self.Q.shape[1]
        if size <= held:
            return
        new = min(self.most, max(size, held + max(16, held // 2)))
        Q, H = self.Q, self.H
        self.Q = Q.new_empty(len(Q), new, Q.shape[2])
        self.H = H.new_zeros(len(H), new, new)
        self.Q[:, :held], self.H[:, :held, :held] = Q, H

    def _orthonormal(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y = last q with q's rows orthonormal and orthogonal to the basis.

        Where y has nothing new (an invariant subspace) q goes on from a random direction and
        `last` has 0: the operator does not lead there.
        """
        last, q = _rows_qr(y)
        size = torch.diagonal(last, dim1=1, dim2=2).abs()
        eps = torch.finfo(y.dtype).eps
        lost = size <= 16 * eps * self.scale.unsqueeze(1)
        if not bool(lost.any()):
            return q, last
        last = torch.where(lost.unsqueeze(1), 0.0, last)
        rows = lost.any(1).nonzero().squeeze(1)
        noise = torch.randn(len(rows), *y.shape[1:], generator=self.rng, dtype=y.dtype)
        mended = torch.where(lost[rows].unsqueeze(2), noise.to(y.device), q[rows])
        held = self.Q[rows, : self.size]
        for _ in range(2):
            mended = mended - mended @ held.mT @ held
            mended = _rows_qr(mended)[1]
        q[rows] = mended
        return q, last


def _rows_qr(y: Tensor) -> tuple[Tensor, Tensor]:
    """y = L q for blocks (m, b, n) of rows, q with orthonormal rows."""
    if y.shape[1] == 1:
        size = y.norm(dim=2, keepdim=True)
        return size, y / size.clamp(min=1e-300)
    q, r = torch.linalg.qr(y.mT)
    return r.mT.contiguous(), q.mT.contiguous()


def lockstep(
    operator: Callable[[Tensor | None], Apply],
    start: Tensor,
    k: int,
    tol: float,
    most: int,
    rng: torch.Generator,
) -> Ritz:
    """The k largest |eigenvalues| of m symmetric operators, from start vectors (m, b, n).

    operator(rows): the products of those operators (None: all), (m, n) or (m, b, n) to the same
    shape. An operator is left alone once every |θ - λ| is bounded by tol |θ| (or by rounding), or
    after `most` basis vectors: see `Ritz.done`.
    """
    basis = Basis(operator(None), start, most, rng)
    left, parts = torch.arange(len(start), device=start.device), []
    check = max(2 * k, k + 2 * basis.block)
    while True:
        basis.step()
        if not basis.ended and basis.multiplied < check:
            continue
        check = basis.multiplied + max(2, basis.multiplied // 12)
        if not basis.ended and not bool(_ritz(basis, _some(len(left)), k, tol)[3].all()):
            continue
        found = _ritz(basis, None, k, tol)
        out = found[3] | basis.ended
        parts.append((left[out], _lift(basis, found, out)))
        if bool(out.all()):
            return _in_order(parts)
        left = left[~out]
        basis.keep(~out, operator(left))


def _some(m: int) -> Tensor | None:
    """A few of m operators, looked at before all are; None for all."""
    return None if m <= 4 else torch.linspace(0, m - 1, 4 if m <= 64 else 16).long()


def _in_order(parts: list[tuple[Tensor, Ritz]]) -> Ritz:
    """What was found in parts, in the order of the operators."""
    order = torch.cat([rows for rows, _ in parts]).argsort()
    return Ritz(
        torch.cat([r.values for _, r in parts])[order],
        torch.cat([r.vectors for _, r in parts])[order],
        torch.cat([r.residuals for _, r in parts])[order],
        torch.cat([r.errors for _, r in parts])[order],
        torch.cat([r.done for _, r in parts])[order],
        parts[-1][1].steps,
    )


Found = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _ritz(basis: Basis, which: Tensor | None, k: int, tol: float) -> Found:
    """Values, coordinates, residuals, done and error bounds of the k largest in the bases."""
    j, b = basis.multiplied, basis.block
    H = basis.H[:, :j, :j] if which is None else basis.H[which, :j, :j]
    last = basis.last if which is None else basis.last[which]
    H = torch.tril(H)
    values, S = torch.linalg.eigh(H)
    order = values.abs().argsort(dim=1, descending=True, stable=True)[:, :k]
    residual = (last.mT @ S[:, j - b :]).norm(dim=1)
    noise = 4 * torch.finfo(H.dtype).eps * values.abs().amax(1, keepdim=True)
    residual = residual.clamp(min=noise)
    top = values.gather(1, order)
    errors = bounds(values, residual).gather(1, order)
    good = errors <= torch.maximum(tol * top.abs(), 2 * noise)
    S = S.gather(2, order.unsqueeze(1).expand(-1, j, -1))
    return top, S, residual.gather(1, order), good.all(1), errors


def bounds(values: Tensor, residual: Tensor) -> Tensor:
    """On |θ - λ|, values rising along the last axis: the least of r, r² / gap (Kato and Temple),
    and, for two neighbours taken as one cluster, the sum of their r² / the gap around both."""
    far = torch.full_like(values[:, :1], torch.inf)
    apart = torch.cat([far, values.diff(dim=1), far], 1)  # to the value before, each and the end
    square = residual**2
    best = torch.minimum(residual, square / _open(apart[:, :-1], apart[:, 1:], residual))
    if values.shape[1] > 1:
        two = square[:, 1:] + square[:, :-1]
        size = torch.maximum(residual[:, 1:], residual[:, :-1])
        two = two / _open(apart[:, :-2], apart[:, 2:], size)
        best[:, 1:] = torch.minimum(best[:, 1:], two)
        best[:, :-1] = torch.minimum(best[:, :-1], two)
    return best


def _open(before: Tensor, after: Tensor, residual: Tensor) -> Tensor:
    """The gap left of the distances to both sides once a residual is taken off."""
    return (torch.minimum(before, after) - residual).clamp(min=1e-300)


def _lift(basis: Basis, found: Found, out: Tensor) -> Ritz:
    """Coordinates in the bases become vectors, for the operators that are out."""
    values, S, residual, done, errors = (part if bool(out.all()) else part[out] for part in found)
    Q = basis.Q if bool(out.all()) else basis.Q[out]
    vectors = S.mT @ Q[:, : basis.multiplied]
    return Ritz(values, vectors, residual, errors, done, basis.multiplied)
