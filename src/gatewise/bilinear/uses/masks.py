"""Input masks made from weights: added to any row, they move the answer towards one output.

As published (Pearce et al. 2024, section 4.4): the rows of the pseudo-inverse of the largest
positive eigenvectors of all outputs, brought to the input by the embedding: m_i reaches v_i and
no other. And the gradient of the quadratic margin at the data's mean, 2 (Q_c - mean Q) μ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.layer import BilinearLayer, directions_of
from gatewise.bilinear.spectral.spectrum import Spectrum
from gatewise.bilinear.tensors import interaction
from gatewise.errors import DataError
from gatewise.numeric import as_tensor


@dataclass(frozen=True, eq=False)
class Masks:
    """masks (count, n), as they come: scale them with `scaled`; target (count,): the output each
    is for; rank (count,): which of its eigenvectors. space: hidden or input."""

    masks: Tensor
    target: Tensor
    rank: Tensor
    space: str

    def scaled(self, strength: float, by: str = "std") -> Tensor:
        """Each mask with standard deviation (as published), or norm (by="norm"), `strength`."""
        if by not in ("std", "norm"):
            raise DataError(f"by must be 'std' or 'norm', got {by!r}")
        size = self.masks.std(1, keepdim=True) if by == "std" else self.masks.norm(dim=1)[:, None]
        return self.masks * (strength / size.clamp(min=1e-300))

    def oriented(self, X: Any) -> Masks:
        """Each mask or its negative, whichever overlaps with rows X (rows, n) on the mean.

        An eigenvector's sign is arbitrary. As published, X are rows of the other outputs; a
        gradient's sign means something: leave it.
        """
        x = as_tensor(X, self.masks.dtype, self.masks.device).reshape(-1, self.masks.shape[1])
        sign = torch.where(self.masks @ x.mean(0) < 0, -1.0, 1.0).to(self.masks.dtype)
        return replace(self, masks=sign.unsqueeze(1) * self.masks)

    def of(self, rank: int) -> Masks:
        """The masks of eigenvectors 0 .. rank - 1 alone."""
        kept = self.rank < rank
        return Masks(self.masks[kept], self.target[kept], self.rank[kept], self.space)


def pseudo_inverse_masks(found: Spectrum, each: int = 10) -> Masks:
    """Rows of V⁺ for the `each` largest positive eigenvectors of every direction, to the input.

    v_j · m_i = 1 for i = j, else 0 (before the embedding, and as far as the v are independent).
    """
    if found.constant or found.space == "data":
        raise DataError("masks need eigenvectors of x itself: a layer without biases, not weighted")
    values = found.values.clamp(min=0)
    size, order = values.sort(dim=1, descending=True, stable=True)
    order = order[:, : min(each, found.k)]
    picked = found.readers.gather(1, order.unsqueeze(2).expand(-1, -1, found.readers.shape[2]))
    kept = size[:, : order.shape[1]] > 0
    V = picked[kept]
    if not len(V):
        raise DataError("no direction has a positive eigenvalue among the pairs found: raise k")
    target, rank = kept.nonzero(as_tuple=True)
    masks = torch.linalg.pinv(V.mT)
    E = found.layer.embedding if found.space == "hidden" else None
    space = "input" if E is not None or found.space == "input" else "hidden"
    return Masks(masks if E is None else masks @ E, target, rank, space)


def gradient_masks(layer: BilinearLayer, X: Any) -> Masks:
    """∇ (y_c - mean y) at the mean of rows X of what the layer reads, for every output c.

    To the input where the layer has an embedding: Eᵀ of it, the gradient there.
    """
    x = layer.rows(X).reshape(-1, layer.inputs).mean(0)
    eye = directions_of(layer)
    margins = eye - eye.mean(0)
    slopes = torch.stack([_gradient(layer, u, x) for u in margins])
    E = layer.embedding
    count = torch.arange(layer.outputs, device=x.device)
    space = "hidden" if E is None else "input"
    masks = slopes if E is None else slopes @ E
    return Masks(masks, count, torch.zeros_like(count), space)


def _gradient(layer: BilinearLayer, u: Tensor, x: Tensor) -> Tensor:
    """∇ (u · y) = 2 Q x + b."""
    Q = interaction(layer, u)
    d = layer.inputs
    return 2 * (Q[:d, :d] @ x) + (0 if layer.homogeneous else 2 * Q[:d, d])


def eigenvector_masks(found: Spectrum, which: int = 0) -> Masks:
    """The eigenvector of the `which`-th largest positive λ of every direction, for steering."""
    if found.constant or found.space == "data":
        raise DataError("masks need eigenvectors of x itself: a layer without biases, not weighted")
    order = found.values.argsort(dim=1, descending=True, stable=True)[:, which]
    count = torch.arange(len(order), device=order.device)
    v = found.readers[count, order]
    E = found.layer.embedding if found.space == "hidden" else None
    space = "input" if E is not None or found.space == "input" else "hidden"
    return Masks(v if E is None else v @ E, count, torch.full_like(count, which), space)
