"""A quadratic output bends the same everywhere: Hessian 2 Q, so its curvature is exact.

f(x) = xᵀ Q x + b · x + c; where f = 0 (a decision boundary, for the direction of two outputs'
difference) the boundary's principal curvatures are the eigenvalues of T (2 Q) T / |∇f|, T the
projection onto the tangent space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.layer import BilinearLayer, directions_of
from gatewise.bilinear.tensors import interaction
from gatewise.errors import DataError


@dataclass(frozen=True, eq=False)
class Curvature:
    """hessian (d, d) of u · y in x, the same at every row; values (d,) its eigenvalues, rising.

    gradients (rows, d); principal (rows, d - 1): curvatures of the level set through each row,
    rising, positive where it bends towards falling u · y (nan where the gradient is 0).
    """

    hessian: Tensor
    values: Tensor
    gradients: Tensor
    principal: Tensor


def curvature(layer: BilinearLayer, direction: Any, X: Any) -> Curvature:
    """Gradient, Hessian and level-set curvatures of u · y at rows X (rows, d)."""
    u = directions_of(layer, direction)
    if len(u) != 1:
        raise DataError(f"curvature is of one output direction, got {len(u)}")
    x = layer.rows(X).reshape(-1, layer.inputs)
    d = layer.inputs
    Q = interaction(layer, u[0])
    hessian = 2 * Q[:d, :d]
    gradients = x @ hessian + (0 if layer.homogeneous else 2 * Q[:d, d])
    principal = torch.stack([_principal(hessian, g) for g in gradients])
    return Curvature(hessian, torch.linalg.eigvalsh(hessian), gradients, principal)


def _principal(hessian: Tensor, gradient: Tensor) -> Tensor:
    """Eigenvalues of the Hessian on the tangent space, over |∇f|: (d - 1,)."""
    size = gradient.norm()
    if float(size) == 0:
        return gradient.new_full((len(gradient) - 1,), torch.nan)
    tangent = torch.linalg.qr(gradient.unsqueeze(1), mode="complete")[0][:, 1:]
    values: Tensor = torch.linalg.eigvalsh(tangent.mT @ hessian @ tangent) / size
    return values


def along(layer: BilinearLayer, direction: Any, x: Any, v: Any) -> tuple[float, float, float]:
    """f(x + t v) = a + b t + c t², exactly: (a, b, c) for the output direction u."""
    u = directions_of(layer, direction)[0]
    start, step = layer.rows(x).reshape(-1), layer.rows(v).reshape(-1)
    back, here, on = (layer(start + t * step) @ u for t in (-1.0, 0.0, 1.0))
    return float(here), float((on - back) / 2), float((on + back) / 2 - here)
