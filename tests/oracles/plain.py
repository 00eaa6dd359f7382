"""Slow and obvious: every row on its own, by autograd and by rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import torch


def jacobian(f, x: torch.Tensor) -> torch.Tensor:
    """(rows, outputs, inputs), one row at a time."""
    return torch.stack([torch.func.jacrev(lambda v: f(v[None])[0])(row) for row in x])


def same_pattern(bits, other) -> torch.Tensor:
    """Row by row equality of packed bits."""
    return torch.tensor([bytes(a) == bytes(b) for a, b in zip(bits, other, strict=True)])


def exact_mlp(layers, x) -> tuple[list[Fraction], list[list[Fraction]]]:
    """Output and pre-activations of a ReLU MLP [(W, b), ...] at x, in rational arithmetic."""
    h, seen = [Fraction(float(v)) for v in x], []
    for k, (w, b) in enumerate(layers):
        z = [
            sum((Fraction(float(p)) * q for p, q in zip(row, h, strict=True)), Fraction(float(c)))
            for row, c in zip(w, b, strict=True)
        ]
        seen.append(z)
        h = [max(v, Fraction(0)) for v in z] if k < len(layers) - 1 else z
    return h, seen
