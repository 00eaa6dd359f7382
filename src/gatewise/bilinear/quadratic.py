"""Quadratic forms Q_u = ½ Σ_a C_ua (w_a v_aᵀ + v_a w_aᵀ), one for each output direction u.

Never formed unless asked: products, traces and inner products cost what the factors cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.layer import BilinearLayer, directions_of, folded


@dataclass(frozen=True, eq=False)
class Forms:
    """m symmetric matrices (n, n): Q_u = ½ (Wᵀ diag(C_u) V + Vᵀ diag(C_u) W).

    W, V (h, n); C (m, h).
    """

    W: Tensor
    V: Tensor
    C: Tensor

    def __len__(self) -> int:
        return len(self.C)

    @property
    def size(self) -> int:
        """n."""
        return self.W.shape[1]

    def __getitem__(self, which: Any) -> Forms:
        return Forms(self.W, self.V, self.C[which])

    def into(self, T: Tensor) -> Forms:
        """The forms in z with x = T z: Tᵀ Q T, T (n, r)."""
        return Forms(self.W @ T, self.V @ T, self.C)

    def apply(self, X: Tensor) -> Tensor:
        """Q_u X_u for X (m, n) or, for b vectors each, (m, b, n)."""
        C = self.C if X.ndim == 2 else self.C.unsqueeze(1)
        a, b = X @ self.W.mT, X @ self.V.mT
        return torch.matmul(b.mul_(C), self.W).add_(a.mul_(C) @ self.V).div_(2)

    def at(self, X: Tensor) -> Tensor:
        """xᵀ Q_u x for rows X (rows, n): (rows, m)."""
        return ((X @ self.W.mT) * (X @ self.V.mT)) @ self.C.mT

    def dense(self) -> Tensor:
        """Every Q_u, (m, n, n): one matrix product each."""
        out = self.W.new_empty(len(self), self.size, self.size)
        for u, c in enumerate(self.C):
            torch.matmul((self.W * c.unsqueeze(1)).mT, self.V, out=out[u])
            _symmetrise(out[u])
        return out

    def traces(self) -> Tensor:
        """tr Q_u: (m,)."""
        return self.C @ (self.W * self.V).sum(1)

    def products(self, other: Forms | None = None) -> Tensor:
        """<Q_u, Q'_t> = C K C'ᵀ / 2 over all pairs: (m, m')."""
        other = self if other is None else other
        return self.C @ (kernel(self.W, self.V, other.W, other.V) @ other.C.mT) / 2

    def norms(self) -> Tensor:
        """Frobenius norms of the Q_u, (m,): from the h x h kernel, or outright where n is small."""
        if len(self) * self.size**2 <= 4 * len(self.W) ** 2:
            return torch.stack([f.dense()[0].norm() for f in self._each()])
        K = kernel(self.W, self.V, self.W, self.V)
        return ((self.C @ K * self.C).sum(1) / 2).clamp(min=0).sqrt()

    def _each(self) -> list[Forms]:
        return [self[u : u + 1] for u in range(len(self))]


def _symmetrise(q: Tensor) -> None:
    """q becomes ½ (q + qᵀ)."""
    q.copy_((q + q.mT) / 2)


def kernel(W: Tensor, V: Tensor, W2: Tensor, V2: Tensor) -> Tensor:
    """K = (W W'ᵀ) * (V V'ᵀ) + (W V'ᵀ) * (V W'ᵀ): <Q_a, Q'_b> is half of it, (h, h')."""
    K = W @ W2.mT
    K *= V @ V2.mT
    across = W @ V2.mT
    across *= V @ W2.mT
    return K.add_(across)


def forms(layer: BilinearLayer, directions: Any = None) -> Forms:
    """The forms of some output directions (m, o), None: every output; biases are folded in."""
    u = directions_of(layer, directions)
    whole = folded(layer)
    C = whole.P if directions is None else u @ whole.P
    return Forms(whole.W, whole.V, C)
