"""The third-order tensor B of a bilinear layer: y_o = Σ_jk B_ojk x_j x_k (Sharkey 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.layer import BilinearLayer, folded, megabytes
from gatewise.bilinear.quadratic import forms
from gatewise.errors import DataError, WrongShape
from gatewise.numeric import as_tensor, device_of

LARGEST = 4096.0  # megabytes a materialised tensor may take unless asked


def tensor_inner(U: Any, V: Any, j: int, k: int) -> Tensor:
    """U ·_jk V: the sum over axis j of U against axis k of V, counted from 1.

    T[.. axes of U but j .., .. axes of V but k ..] = Σ_β U[.. β at j ..] V[.. β at k ..]
    (Sharkey 2023): u ·_11 v is a dot product, A ·_21 B a matrix product.
    """
    a, b = (as_tensor(t, torch.float64, device_of(U, V)) for t in (U, V))
    if not (1 <= j <= a.ndim and 1 <= k <= b.ndim):
        raise WrongShape(
            f"axes are counted from 1: axis {j} of {a.ndim} and axis {k} of {b.ndim} do not exist"
        )
    if a.shape[j - 1] != b.shape[k - 1]:
        raise WrongShape(
            f"axis {j} has {a.shape[j - 1]} entries and axis {k} has {b.shape[k - 1]}; "
            f"an inner product needs as many in both"
        )
    found: Tensor = torch.tensordot(a, b, dims=([j - 1], [k - 1]))
    return found


def three_way_identity(n: int) -> Tensor:
    """Z (n, n, n): 1 where all three indices agree, else 0. B = W ·_21 Z ·_21 V, axes moved."""
    z = torch.zeros(n, n, n, dtype=torch.float64)
    i = torch.arange(n)
    z[i, i, i] = 1
    return z


def tensor(
    layer: BilinearLayer,
    *,
    read_out: bool = True,
    symmetric: bool = True,
    largest: float = LARGEST,
) -> Tensor:
    """B (o, n, n), or before the read-out (h, n, n); n is d, or d + 1 where biases are folded in.

    symmetric: ½ (B_ojk + B_okj), the only part that a value depends on. Refuses more than
    `largest` megabytes: every analysis here works without B.
    """
    whole = folded(layer)
    count = whole.outputs if read_out else whole.hidden
    size = megabytes(count, whole.inputs, whole.inputs, dtype=whole.W.dtype)
    if size > largest:
        raise DataError(
            f"the tensor of layer '{layer.name}' is {count} x {whole.inputs} x {whole.inputs}, "
            f"{size:,.0f} MB; raise `largest` above {largest:,.0f}, or use interaction(), "
            f"spectrum() or hosvd(), which never form it"
        )
    C = whole.P if read_out else torch.eye(whole.hidden, dtype=whole.W.dtype, device=whole.W.device)
    B = torch.stack([(whole.W * c.unsqueeze(1)).mT @ whole.V for c in C])
    return (B + B.mT) / 2 if symmetric else B


def interaction(layer: BilinearLayer, direction: Any) -> Tensor:
    """Q_u = Σ_o u_o Q_o, symmetrised: u · y = xᵀ Q_u x, over [x, 1] where biases are folded in.

    direction (o,) gives (n, n); several (m, o) give (m, n, n).
    """
    u = as_tensor(direction, layer.P.dtype, layer.P.device)
    found = forms(layer, u).dense()
    return found[0] if u.ndim == 1 else found


def neurons(layer: BilinearLayer) -> tuple[Tensor, Tensor, Tensor]:
    """(p·x)² and (m·x)²: w_a·x v_a·x = ((p_a·x)² - (m_a·x)²) / 4, p = w + v, m = w - v.

    Returns p (h, n), m (h, n) and the importance ||w|| ||v|| ||P_a|| of each neuron (h,). The two
    sides are first scaled to equal norm, which leaves their product as it is.
    """
    whole = folded(layer)
    W, V = balanced(whole.W, whole.V)
    weight = W.norm(dim=1) * V.norm(dim=1) * whole.P.norm(dim=0)
    return W + V, W - V, weight


def balanced(W: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
    """W s and V / s, s for each neuron such that both have one norm: the same products."""
    w, v = W.norm(dim=1, keepdim=True), V.norm(dim=1, keepdim=True)
    s = torch.where((w > 0) & (v > 0), (v / w.clamp(min=1e-300)).sqrt(), 1.0)
    s = torch.where(s > 0, s, 1.0)
    return W * s, V / s
