"""Tangent kernels from autograd on a torch module: one row and one output at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def jacobian(module: nn.Module, X: Tensor, names: set[str] | None = None) -> Tensor:
    """d f_o(x) / d theta over the named parameters: (rows, outputs, parameters), float64."""
    chosen = [p for n, p in module.named_parameters() if names is None or n in names]
    rows = []
    for x in X:
        outputs = module(x[None]).flatten()
        grads = [
            torch.autograd.grad(o, chosen, retain_graph=True, allow_unused=True) for o in outputs
        ]
        rows.append(torch.stack([_flat(chosen, g) for g in grads]))
    return torch.stack(rows)


def _flat(chosen: list[nn.Parameter], grads: tuple[Tensor | None, ...]) -> Tensor:
    pairs = zip(chosen, grads, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])


def full(module: nn.Module, X: Tensor, X2: Tensor, names: set[str] | None = None) -> Tensor:
    """(rows, rows2, outputs, outputs)."""
    return torch.einsum("aip,bjp->abij", jacobian(module, X, names), jacobian(module, X2, names))
