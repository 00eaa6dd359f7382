"""HOSVD of a bilinear tensor from its factors: B is (outputs, n²) or, by input, (n, outputs n).

<Q_o, Q_p> = (P K Pᵀ)_op / 2 with the h x h kernel K, so nothing of size n² o is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.bilinear.layer import BilinearLayer
from gatewise.bilinear.quadratic import Forms, forms


@dataclass(frozen=True, eq=False)
class HOSVD:
    """B = Σ_i singular[i] outputs[i] ⊗ q_i, and the orthonormal input directions.

    singular (r,) falling; outputs (r, o) orthonormal; parts: the q_i as forms of norm 1 (those of
    singular value above 1e-7 of the first: a kernel's square root knows no more);
    input_singular (n,) and inputs (n, n), rows orthonormal: the unfolding along an input axis.
    """

    singular: Tensor
    outputs: Tensor
    parts: Forms
    input_singular: Tensor
    inputs: Tensor

    def __str__(self) -> str:
        share = self.singular.square() / self.singular.square().sum().clamp(min=1e-300)
        lines = [f"{len(self.singular)} output directions; share of the squared norm:"]
        lines += [f"{i:4d}: {v:.4g}  {s:.3f}" for i, (v, s) in enumerate(self._rows(share))]
        return "\n".join(lines)

    def _rows(self, share: Tensor) -> list[tuple[float, float]]:
        return list(zip(self.singular.tolist()[:12], share.tolist()[:12], strict=True))


def hosvd(layer: BilinearLayer) -> HOSVD:
    """Both unfoldings, biases folded in. Singular values are right to about 1e-8 of the first."""
    whole = forms(layer)
    values, U = output_unfolding(whole)
    kept = values > 1e-7 * values[:1].clamp(min=1e-300)
    scaled = (U.mT[kept] @ whole.C) / values[kept].unsqueeze(1)
    squares, V = torch.linalg.eigh(input_gram(whole))
    return HOSVD(
        values,
        U.mT.contiguous(),
        Forms(whole.W, whole.V, scaled),
        squares.flip(0).clamp(min=0).sqrt(),
        V.flip(1).mT.contiguous(),
    )


def output_unfolding(whole: Forms) -> tuple[Tensor, Tensor]:
    """Singular values (falling) and left vectors (o, o) of B as (outputs, n²)."""
    squares, U = torch.linalg.eigh(whole.products())
    return squares.flip(0).clamp(min=0).sqrt(), U.flip(1)


def input_gram(whole: Forms, weight: Tensor | None = None) -> Tensor:
    """Σ_op weight_op Q_o Q_p, (n, n); weight None is the identity. Symmetric for symmetric weights.

    ¼ [Wᵀ(G*VWᵀ)V + Wᵀ(G*VVᵀ)W + Vᵀ(G*WWᵀ)V + Vᵀ(G*WVᵀ)W], G = Cᵀ weight C.
    """
    W, V, C = whole.W, whole.V, whole.C
    G = C.mT @ (C if weight is None else weight @ C)
    left = (G * (V @ W.mT)) @ V + (G * (V @ V.mT)) @ W
    right = (G * (W @ W.mT)) @ V + (G * (W @ V.mT)) @ W
    return (W.mT @ left + V.mT @ right) / 4
