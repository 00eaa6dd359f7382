"""Orthogonalise, diagonalise, truncate: the widths between the layers of a stack made smaller.

A stack is a tree of tensors that repeats each layer. Orthogonalise: between layers y may be any
A y; A is chosen, from the input up, so that each layer's outputs are orthonormal as tensors. Then
the weight that the rest of the tree puts on each y is a Gram matrix D (from the top down); its
eigenvectors are the coordinates, its eigenvalues what dropping each costs. With y cut to r
coordinates, ||T - T'||² <= Σ_layers 2^(L-l) Σ_(i > r) D_i, and |f(x) - f'(x)| <= ||T - T'|| |x|^D.
Nothing larger than h x h is made (the idea of Dooms et al. 2025, 2504.02667).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gatewise.bilinear.bases.hosvd import input_gram
from gatewise.bilinear.deep.stack import Stack
from gatewise.bilinear.layer import BilinearLayer, directions_of
from gatewise.bilinear.quadratic import forms
from gatewise.errors import DataError, NotBilinear

FLOOR = 1e-14  # of the largest squared length: shorter outputs are scaled no further


@dataclass(frozen=True, eq=False)
class Diagonal:
    """The same function in coordinates ordered by weight.

    stack: before truncation; weights[l] (n_l,) falling: the squared weight D of each coordinate
    between layer l and l + 1; size: ||T||, the norm of the whole tensor (layers symmetrised).
    """

    stack: Stack
    weights: tuple[Tensor, ...]
    size: float

    def bound(self, ranks: Sequence[int]) -> float:
        """On ||T - T'|| with these ranks; on |f - f'| / |x|^D too."""
        count = len(self.weights)
        tails = [
            2 ** (count - i) * float(w[r:].clamp(min=0).sum())
            for i, (w, r) in enumerate(zip(self.weights, ranks, strict=True))
        ]
        return math.sqrt(sum(tails))

    def __str__(self) -> str:
        lines = [f"{self.stack}; norm {self.size:.4g}"]
        for i, w in enumerate(self.weights, 1):
            share = w.clamp(min=0).cumsum(0) / w.sum().clamp(min=1e-300)
            need = [min(len(w), int((share < t).sum()) + 1) for t in (0.9, 0.99)]
            lines.append(f"after layer {i}: {need[0]} of {len(w)} carry 90 %, {need[1]} 99 %")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Truncated:
    """A stack of smaller widths; bound: on ||T - T'|| and on |f(x) - f'(x)| / |x|^D; size ||T||."""

    stack: Stack
    bound: float
    size: float

    def __str__(self) -> str:
        return f"{self.stack}: ||T - T'|| <= {self.bound:.3g} of {self.size:.3g}"


def orthogonalise_diagonalise(deep: Stack) -> Diagonal:
    """The stack in the coordinates described above; its function is unchanged, to rounding."""
    if not deep.homogeneous:
        raise NotBilinear(
            "orthogonalising needs a homogeneous stack, and a layer here has a bias or a skip; "
            "use homogenised(stack), whose last input is the constant 1"
        )
    layers = list(deep.layers)
    for i in range(len(layers) - 1):
        layers[i], layers[i + 1] = _orthogonal(layers[i], layers[i + 1])
    above = directions_of(layers[-1])
    size = float(forms(layers[-1]).products().diagonal().sum().clamp(min=0).sqrt())
    weights: list[Tensor] = []
    for i in range(len(layers) - 1, 0, -1):
        gram = input_gram(forms(layers[i]), above)
        values, U = torch.linalg.eigh((gram + gram.mT) / 2)
        values, U = values.flip(0), U.flip(1)
        layers[i] = replace(layers[i], W=layers[i].W @ U, V=layers[i].V @ U)
        layers[i - 1] = replace(layers[i - 1], P=U.mT @ layers[i - 1].P)
        weights.insert(0, values)
        above = torch.diag(values)
    return Diagonal(Stack(tuple(layers)), tuple(weights), size)


def _orthogonal(low: BilinearLayer, high: BilinearLayer) -> tuple[BilinearLayer, BilinearLayer]:
    """low's outputs orthonormal as tensors; what that took is put into high."""
    squares, U = torch.linalg.eigh(forms(low).products())
    length = squares.clamp(min=max(FLOOR * float(squares[-1]), 1e-300)).sqrt()
    up, down = U * length, (U / length).mT
    return replace(low, P=down @ low.P), replace(high, W=high.W @ up, V=high.V @ up)


def truncate(deep: Stack | Diagonal, ranks: Sequence[int] | float) -> Truncated:
    """Widths cut to `ranks` (one between each two layers), or as far as the bound stays within a
    share of ||T||: ranks=0.05 asks ||T - T'|| <= 0.05 ||T||."""
    ready = deep if isinstance(deep, Diagonal) else orthogonalise_diagonalise(deep)
    chosen = _within(ready, ranks) if isinstance(ranks, float) else list(ranks)
    widths = [len(w) for w in ready.weights]
    fits = len(chosen) == len(widths) and all(
        1 <= r <= w for r, w in zip(chosen, widths, strict=False)
    )
    if not fits:
        raise DataError(f"ranks must be one number for each of the widths {widths}, got {chosen}")
    layers = list(ready.stack.layers)
    for i, r in enumerate(chosen):
        layers[i] = replace(layers[i], P=layers[i].P[:r])
        layers[i + 1] = replace(layers[i + 1], W=layers[i + 1].W[:, :r], V=layers[i + 1].V[:, :r])
    return Truncated(Stack(tuple(layers)), ready.bound(chosen), ready.size)


def _within(ready: Diagonal, share: float) -> list[int]:
    """The smallest ranks, each width given an equal part of the squared bound."""
    count = len(ready.weights)
    room = (share * ready.size) ** 2 / max(count, 1)
    ranks = []
    for i, w in enumerate(ready.weights):
        tail = 2 ** (count - i) * w.clamp(min=0).flip(0).cumsum(0)
        dropped = int((tail <= room).sum())
        ranks.append(max(1, len(w) - dropped))
    return ranks
