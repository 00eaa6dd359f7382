"""How alike two layers are, and how concentrated their spectra: from weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.layer import BilinearLayer
from gatewise.bilinear.quadratic import Forms, forms, kernel
from gatewise.bilinear.spectral.spectrum import Spectrum
from gatewise.errors import DataError, WrongShape
from gatewise.numeric import as_tensor, device_of


@dataclass(frozen=True, eq=False)
class Similarity:
    """cosine: of the whole tensors; outputs (o,): of each output's form (nan where one is 0)."""

    cosine: float
    outputs: Tensor

    def __str__(self) -> str:
        listed = "  ".join(f"{v:+.3f}" for v in self.outputs.tolist()[:12])
        return f"cosine of the tensors {self.cosine:+.4f}; by output: {listed}"


def similarity(a: BilinearLayer, b: BilinearLayer, *, space: str = "hidden") -> Similarity:
    """<B, B'> / (|B| |B'|) of the symmetric tensors, exact, through h x h kernels.

    space "input": both through their embeddings, where two runs have different hidden spaces.
    """
    left, right = (_forms(layer, space) for layer in (a, b))
    if left.size != right.size or len(left) != len(right):
        raise WrongShape(
            f"layers to compare need as many inputs and outputs: got {left.size} and {len(left)} "
            f"against {right.size} and {len(right)}; through embeddings: space='input'"
        )
    across = paired(left, right)
    own, other = paired(left, left), paired(right, right)
    size = (own.sum() * other.sum()).clamp(min=0).sqrt()
    return Similarity(float(across.sum() / size), across / (own * other).clamp(min=0).sqrt())


def _forms(layer: BilinearLayer, space: str) -> Forms:
    if space == "hidden":
        return forms(layer)
    if space != "input" or layer.embedding is None or not layer.homogeneous:
        raise DataError(
            f"space must be 'hidden', or 'input' for a layer with an embedding and no bias; "
            f"got {space!r} for layer '{layer.name}'"
        )
    return forms(layer).into(layer.embedding)


def paired(a: Forms, b: Forms) -> Tensor:
    """<Q_u, Q'_u> for every u: (m,)."""
    return (a.C @ kernel(a.W, a.V, b.W, b.V) * b.C).sum(1) / 2


def effective_rank(values: Any) -> Tensor:
    """(Σ|v| / √Σv²)²: how many entries of equal size would be as spread out; along the last axis.

    Of eigenvalues, a rank; of an eigenvector, a count of pixels. 0 for zeros.
    """
    v = as_tensor(values, torch.float64, device_of(values)).abs()
    square = v.square().sum(-1)
    return torch.where(square > 0, v.sum(-1).square() / square.clamp(min=1e-300), 0.0)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Mean |cosine| of eigenvectors of equal rank between runs: (m, k) over distinct pairs.

    with_self: the same mean where every run is also compared with itself, as published code
    counts it: ((R - 1) distinct + 2) / (R + 1) for R runs.
    """

    distinct: Tensor
    with_self: Tensor


def eigenvector_agreement(runs: Sequence[Spectrum], positive: bool = True) -> Agreement:
    """|v · v'| between runs, output by output, rank by rank among the positive (or negative) λ.

    The readers are compared, made unit; runs must read one space (embeddings: space='input').
    """
    if len(runs) < 2:
        raise DataError(f"agreement is between at least 2 runs, got {len(runs)}")
    ordered = [_ordered(run, positive) for run in runs]
    k = min(v.shape[1] for v in ordered)
    if len({v.shape[2] for v in ordered}) > 1 or len({len(v) for v in ordered}) > 1:
        raise WrongShape("the runs' eigenvectors have different lengths or outputs")
    stack = torch.stack([v[:, :k] for v in ordered])
    cos = torch.einsum("rukn,sukn->rsuk", stack, stack).abs()
    n = len(runs)
    upper = torch.triu_indices(n, n, 1, device=cos.device)
    distinct = cos[upper[0], upper[1]].mean(0)
    return Agreement(distinct, ((n - 1) * distinct + 2) / (n + 1))


def _ordered(run: Spectrum, positive: bool) -> Tensor:
    """Unit readers of one sign, largest first, as many as every output has: (m, k', n)."""
    values = run.values if positive else -run.values
    count = int((values > 0).sum(1).min())
    order = values.argsort(dim=1, descending=True, stable=True)[:, :count]
    picked = run.readers.gather(1, order.unsqueeze(2).expand(-1, -1, run.readers.shape[2]))
    unit: Tensor = picked / picked.norm(dim=2, keepdim=True).clamp(min=1e-300)
    return unit
