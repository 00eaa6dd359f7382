"""spectrum: xᵀ Q_u x = Σ_i λ_i (t_i · x)² with the largest |λ_i| of many outputs at once.

In hidden space the t_i are orthonormal eigenvectors of Q_u. In input space they are those of
Eᵀ Q_u E for the embedding E. Weighted by data they are t = M^(-1/2) s for the eigenvectors s of
M^(1/2) Q_u M^(1/2), M = E[x xᵀ]: |λ_i| then says how much a component matters on those data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.layer import BilinearLayer, directions_of, extended, with_one
from gatewise.bilinear.quadratic import Forms, forms
from gatewise.bilinear.spectral.cost import Plan, plan
from gatewise.bilinear.spectral.pairs import Pairs, top_pairs
from gatewise.errors import DataError, WrongShape
from gatewise.numeric import as_float_dtype, as_tensor

SPACES = ("hidden", "input", "data")


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Σ_i values[u, i] (readers[u, i] · x)² for directions u: (m, k) and (m, k, n).

    |values| fall. vectors: the orthonormal eigenvectors, (m, k, .): equal to the readers but in
    the space weighted by data. residuals: ||Q v - λ v||; errors: bounds on the distance of each
    value from an eigenvalue; seen (m,): the largest |eigenvalue| that a second start met among
    those left out. x: what the layer reads ("hidden", "data") or the network's input ("input"),
    with a 1 appended where `constant`.
    """

    layer: BilinearLayer
    space: str
    directions: Tensor
    values: Tensor
    vectors: Tensor
    readers: Tensor
    residuals: Tensor
    errors: Tensor
    seen: Tensor
    method: str
    steps: int
    forms: Forms
    constant: bool

    @property
    def k(self) -> int:
        """Eigenpairs of each direction."""
        return self.values.shape[1]

    def coordinates(self, X: Any) -> Tensor:
        """The x that the readers read, (rows, n), from rows of the layer's or network's input."""
        if self.space != "input":
            x = extended(self.layer, X)
            return x.reshape(-1, x.shape[-1]).to(self.values.dtype)
        n = self.forms.size - self.constant
        x = as_tensor(X, self.values.dtype, self.values.device)
        if x.ndim < 2 or x[0].numel() != n:
            raise WrongShape(f"the input space has {n} entries a row, got shape {tuple(x.shape)}")
        x = x.reshape(-1, n)
        return with_one(x) if self.constant else x

    def __str__(self) -> str:
        lines = [
            f"{len(self.values)} directions of {self.layer}",
            f"the {self.k} largest |eigenvalues| of each in {self.space} space, {self.method}"
            f"{f', {self.steps} steps' if self.steps else ''}: "
            f"residuals up to {float(self.residuals.max()):.1e}, "
            f"values within {float(self.errors.max()):.1e}",
        ]
        for u, row in enumerate(self.values[:12].tolist()):
            listed = "  ".join(f"{v:+.4g}" for v in row[:8])
            lines.append(f"{u:4d}: {listed}{'  ..' if self.k > 8 else ''}")
        return "\n".join([*lines, ".."] if len(self.values) > 12 else lines)


def spectrum(
    layer: BilinearLayer,
    k: int = 10,
    *,
    directions: Any = None,
    space: str = "hidden",
    data: Any = None,
    method: str = "auto",
    tol: float = 3e-7,
    dtype: torch.dtype | str | None = None,
    seed: int = 0,
) -> Spectrum:
    """The k eigenpairs of largest |λ|, both signs, of every output or of directions (m, o).

    space: "hidden" (what the layer reads), "input" (through its embedding), "data" (weighted by
    the second moment of `data`, rows of what the layer reads). method: "implicit" (Lanczos, no
    form is built), "dense", "small" (2 h < n), or "auto": see `spectrum_plan`. tol: relative
    bound on the error of each value at which implicit stops. dtype: None is the layer's own.
    """
    _require_space(layer, space, data)
    layer = layer if dtype is None else layer.to(as_float_dtype(dtype))
    whole = forms(layer, directions)
    one = not layer.homogeneous
    if space == "input":
        T, one = _through(layer)
        whole = whole.into(T)
        found = _in_rows(whole, T, k, method, tol, seed)
        readers = found.vectors
    elif space == "data":
        G, back = whitening(extended(layer, data).reshape(-1, whole.size))
        found = top_pairs(whole.into(G), k, method, tol, seed)
        readers = found.vectors @ back.mT
    else:
        found = top_pairs(whole, k, method, tol, seed)
        readers = found.vectors
    return Spectrum(
        layer,
        space,
        directions_of(layer, directions),
        found.values,
        found.vectors,
        readers,
        found.residuals,
        found.errors,
        found.seen,
        found.method,
        found.steps,
        whole,
        one,
    )


def spectrum_plan(layer: BilinearLayer, k: int = 10, directions: int | None = None) -> Plan:
    """What each way to the spectrum would cost in hidden space, and which is taken."""
    whole = forms(layer)
    return plan(directions or len(whole), len(whole.W), whole.size, k)


def _require_space(layer: BilinearLayer, space: str, data: Any) -> None:
    if space not in SPACES:
        raise DataError(f"space must be one of {', '.join(SPACES)}, got {space!r}")
    if space == "data" and data is None:
        raise DataError("space 'data' weighs by a second moment: give rows of the layer's input")
    if space == "input" and layer.embedding is None:
        raise DataError(
            f"layer '{layer.name}' reads '{layer.source}', which is not affine in the network's "
            f"input, so it has no input space; use space='hidden' or 'data'"
        )


def _through(layer: BilinearLayer) -> tuple[Tensor, bool]:
    """T with (what the forms read) = T (input, or [input, 1]), and whether 1 is appended."""
    E, e = layer.embedding, layer.embedding_bias
    assert E is not None
    one = e is not None or not layer.homogeneous
    if not one:
        return E, False
    T = torch.cat([E, (E.new_zeros(len(E)) if e is None else e).unsqueeze(1)], 1)
    if layer.homogeneous:
        return T, True
    last = T.new_zeros(1, T.shape[1])
    last[0, -1] = 1
    return torch.cat([T, last]), True


def _in_rows(whole: Forms, T: Tensor, k: int, method: str, tol: float, seed: int) -> Pairs:
    """Forms that live in the rows of T (r, n): where r < n, the problem of size r through QR."""
    if method != "auto" or len(T) >= T.shape[1] or k > len(T):
        return top_pairs(whole, k, method, tol, seed)
    basis, _ = torch.linalg.qr(T.mT)
    found = top_pairs(whole.into(basis), k, "auto", tol, seed)
    vectors = found.vectors @ basis.mT
    held = found.values, vectors, found.residuals, found.errors, found.seen
    return Pairs(*held, f"rows of the embedding, {found.method}", found.steps)


def whitening(x: Tensor, cutoff: float = 1e-12) -> tuple[Tensor, Tensor]:
    """G (n, r) and its pseudo-inverse's transpose (n, r), with G Gᵀ = E[x xᵀ] over the rows.

    Directions whose second moment is below `cutoff` times the largest are left out: no row has
    them, so no value depends on them.
    """
    moment, U = torch.linalg.eigh(x.mT @ x / len(x))
    kept = moment > max(cutoff, 8 * torch.finfo(x.dtype).eps) * moment[-1]
    scale = moment[kept].sqrt()
    return U[:, kept] * scale, U[:, kept] / scale
