"""CP: B ≈ Σ_r D_or ½ (l_r r_rᵀ + r_r l_rᵀ), fitted through kernels of the factors alone.

For fixed l, r the best D solves a linear system, so only l and r are searched (variable
projection), by L-BFGS on what is left: the squared distance of the symmetric tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.bilinear.bases.similarity import paired
from gatewise.bilinear.layer import BilinearLayer
from gatewise.bilinear.quadratic import Forms, forms, kernel
from gatewise.bilinear.spectral.spectrum import spectrum
from gatewise.errors import DataError


@dataclass(frozen=True, eq=False)
class CP:
    """A smaller layer: L, R (rank, n), D (o, rank); over [x, 1] where biases were folded in.

    error: ||B - B̂|| / ||B||; cosine: of the tensors; steps: of the search.
    """

    layer: BilinearLayer
    error: float
    cosine: float
    steps: int

    def __str__(self) -> str:
        return f"rank {self.layer.hidden}: error {self.error:.2e}, cosine {self.cosine:.6f}"


def cp(layer: BilinearLayer, rank: int, *, steps: int = 200, seed: int = 0) -> CP:
    """A CP decomposition of `rank` products, as a layer; begun at the largest eigenpairs."""
    if rank < 1:
        raise DataError(f"a CP decomposition has a rank of at least 1, got {rank}")
    whole = forms(layer)
    L, R = (t.requires_grad_() for t in _start(layer, whole, rank, seed))
    search = torch.optim.LBFGS(
        [L, R],
        max_iter=steps,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
    )
    square = paired(whole, whole).sum()
    taken = 0

    def closure() -> Tensor:
        nonlocal taken
        taken += 1
        search.zero_grad()
        loss = 1 - explained(whole, L, R)[0] / square
        loss.backward()
        return loss

    with torch.enable_grad():
        search.step(closure)
    with torch.no_grad():
        return _result(layer, whole, L.detach(), R.detach(), taken)


def explained(whole: Forms, L: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """||B||² - min_D ||B - B̂||², and that D (o, rank)."""
    own, across = kernel(L, R, L, R) / 2, whole.C @ kernel(whole.W, whole.V, L, R) / 2
    ridge = 1e-13 * own.diagonal().mean() * torch.eye(len(own), dtype=own.dtype, device=own.device)
    D = torch.linalg.solve(own + ridge, across.mT).mT
    return 2 * (D * across).sum() - (D @ own * D).sum(), D


def _start(layer: BilinearLayer, whole: Forms, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eigenvectors of largest |λ| over all outputs, a little perturbed; then random ones."""
    k = min(whole.size, -(-rank // len(whole)) + 1)
    found = spectrum(layer, k, seed=seed)
    order = found.values.abs().reshape(-1).argsort(descending=True)[:rank]
    first = found.vectors.reshape(-1, whole.size)[order]
    rng = torch.Generator().manual_seed(seed)
    more = torch.randn(rank - len(first), whole.size, generator=rng, dtype=first.dtype)
    L = torch.cat([first, more.to(first.device) / whole.size**0.5])
    noise = torch.randn(*L.shape, generator=rng, dtype=L.dtype) / whole.size**0.5
    return L.clone(), L + 0.1 * noise.to(L.device)


def _result(layer: BilinearLayer, whole: Forms, L: Tensor, R: Tensor, steps: int) -> CP:
    D = explained(whole, L, R)[1]
    small = Forms(L, R, D)
    square, own = paired(whole, whole).sum(), paired(small, small).sum()
    across = paired(whole, small).sum()
    left = (square - 2 * across + own).clamp(min=0)
    made = BilinearLayer(L, R, D, name=f"{layer.name}, rank {len(L)}", source=layer.source)
    cosine = across / (square * own).clamp(min=1e-300).sqrt()
    return CP(made, float((left / square).sqrt()), float(cosine), steps)
