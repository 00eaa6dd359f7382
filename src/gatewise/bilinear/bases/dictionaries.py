"""Interactions between dictionary entries: b̃_bc = f_bᵀ Q f_c, strongest pairs without all pairs.

With |Q| = Σ |λ| v vᵀ, Cauchy and Schwarz give |f_bᵀ Q f_c| <= s_b s_c, s_b² = f_bᵀ |Q| f_b: entries
are sorted by s, tiles are taken from the top, and what cannot reach the k-th best is never formed.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.layer import BilinearLayer, directions_of
from gatewise.bilinear.quadratic import Forms, forms
from gatewise.errors import DataError, WrongShape
from gatewise.numeric import as_tensor

TILE = 512


@dataclass(frozen=True, eq=False)
class PairsOf:
    """The pairs of entries that interact most for one output direction.

    pairs (k, 2), the first index the smaller; values (k,): b̃_bc, so that the term of x = Σ z_b f_b
    is 2 b̃_bc z_b z_c, and b̃_bb z_b² where both are one entry; formed: share of all pairs computed.
    """

    pairs: Tensor
    values: Tensor
    formed: float

    def __str__(self) -> str:
        listed = zip(self.pairs.tolist(), self.values.tolist(), strict=True)
        lines = [f"{b:6d} x {c:6d}  {v:+.4g}" for (b, c), v in listed]
        return "\n".join([*lines, f"{self.formed:.1%} of all pairs were formed"])


def in_dictionary(layer: BilinearLayer, entries: Any, directions: Any = None) -> Forms:
    """The forms over z, x = Σ_b z_b f_b, entries f (n_f, d): b̃ = F Q Fᵀ, implicit.

    directions: output directions (m, o), rows of an output dictionary's encoder, say.
    """
    F = _entries(layer, entries)
    return forms(layer, directions).into(F.mT)


def _entries(layer: BilinearLayer, entries: Any) -> Tensor:
    F = as_tensor(entries, layer.W.dtype, layer.W.device)
    if not layer.homogeneous:
        raise DataError(
            f"layer '{layer.name}' has biases or a skip: give a dictionary of [x, 1] and "
            f"folded(layer), whose last input is the constant 1"
        )
    if F.ndim != 2 or F.shape[1] != layer.inputs:
        raise WrongShape(
            f"dictionary entries are rows of {layer.inputs} numbers, got shape {tuple(F.shape)}"
        )
    return F


def strongest_pairs(
    layer: BilinearLayer, entries: Any, direction: Any, k: int = 20, tile: int = TILE
) -> PairsOf:
    """The k pairs with the largest |b̃_bc|, exactly, for one output direction (o,)."""
    F = _entries(layer, entries)
    u = directions_of(layer, direction)
    n = len(F)
    if len(u) != 1 or not 1 <= k <= n * (n + 1) // 2:
        raise DataError(f"needs one direction and 1 <= k <= {n * (n + 1) // 2}, got k={k}")
    Q = forms(layer, u).dense()[0]
    s, order = _sizes(F, Q).sort(descending=True)
    return _search(F[order], F[order] @ Q, s, order, k, tile)


def _sizes(F: Tensor, Q: Tensor) -> Tensor:
    """s_b = √(f_bᵀ |Q| f_b), a hair up for rounding."""
    values, V = torch.linalg.eigh(Q)
    s: Tensor = ((F @ V).square() @ values.abs()).clamp(min=0).sqrt()
    raised: Tensor = s + 64 * torch.finfo(F.dtype).eps ** 0.5 * s.max()
    return raised


def _search(F: Tensor, FQ: Tensor, s: Tensor, order: Tensor, k: int, tile: int) -> PairsOf:
    """Best first over tiles of the sorted entries, by the bound of their best pair."""
    n = len(F)
    starts = list(range(0, n, tile))
    queue = [(-float(s[i] * s[i]), i, i) for i in starts]
    heapq.heapify(queue)
    best = F.new_zeros(0), order.new_zeros(0, 2)
    formed = 0
    while queue:
        bound, i, j = heapq.heappop(queue)
        if len(best[0]) == k and -bound <= float(best[0].abs().min()):
            break
        if j + tile < n:
            heapq.heappush(queue, (-float(s[i] * s[j + tile]), i, j + tile))
        block = FQ[i : i + tile] @ F[j : j + tile].mT
        block = torch.triu(block) if i == j else block
        formed += block.numel() if i != j else len(block) * (len(block) + 1) // 2
        best = _merge(best, block, i, j, k)
    values, where = best
    pairs = order[where].sort(dim=1).values
    return PairsOf(pairs, values, formed / (n * (n + 1) / 2))


def _merge(
    best: tuple[Tensor, Tensor], block: Tensor, i: int, j: int, k: int
) -> tuple[Tensor, Tensor]:
    """The k largest of those held and those of a new tile (a diagonal tile's lower half is out)."""
    size = block.abs()
    if i == j:
        size = size.masked_fill(torch.ones_like(size, dtype=torch.bool).tril(-1), -1.0)
    found = size.reshape(-1).topk(min(k, size.numel()))
    kept = found.indices[found.values >= 0]
    rows = torch.stack([kept // block.shape[1] + i, kept % block.shape[1] + j], 1)
    values = torch.cat([best[0], block.reshape(-1)[kept]])
    where = torch.cat([best[1], rows])
    top = values.abs().topk(min(k, len(values))).indices
    return values[top], where[top]
