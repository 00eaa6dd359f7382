"""Input directions on which a stack's output is largest: maxima of u · f on the unit sphere.

f is homogeneous of degree D = 2^L, so x = argmax satisfies ∇(u·f)(x) = D f_u(x) x: an eigenvector
of the symmetric tensor. Shifted symmetric power iteration (Kolda & Mayo 2011) climbs to one,
x <- (∇ f_u / D + α x) / |.|, with α raised whenever a step would not climb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.bilinear.deep.stack import Stack
from gatewise.bilinear.layer import directions_of
from gatewise.errors import DataError, NotBilinear


@dataclass(frozen=True, eq=False)
class Peaks:
    """values (k,) falling; directions (k, d), unit; residuals |∇ f_u / D - value x| (k,);
    found (k,): how many of the starts came there. Local maxima: what no start reached is unknown.
    """

    values: Tensor
    directions: Tensor
    residuals: Tensor
    found: Tensor
    starts: int

    def __str__(self) -> str:
        rows = zip(self.values.tolist(), self.residuals.tolist(), self.found.tolist(), strict=True)
        lines = [f"{v:+.5g}  (residual {r:.0e}, {n} of {self.starts} starts)" for v, r, n in rows]
        return "\n".join(lines)


def top_directions(
    deep: Stack,
    direction: Any,
    *,
    starts: int = 64,
    steps: int = 2000,
    tol: float = 1e-8,
    sign: int = 1,
    seed: int = 0,
) -> Peaks:
    """Distinct local maxima of sign · u · f on |x| = 1, from random starts, all climbed at once."""
    if not deep.homogeneous:
        raise NotBilinear(
            "top directions need a homogeneous stack, and a layer here has a bias or a skip; "
            "use homogenised(stack), whose last input is the constant 1"
        )
    if sign not in (1, -1):
        raise DataError(f"sign must be 1 or -1, got {sign}")
    u = sign * directions_of(deep.layers[-1], direction)[0]
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(starts, deep.inputs, generator=rng, dtype=u.dtype).to(u.device)
    x, value, residual = _climb(deep, u, x / x.norm(dim=1, keepdim=True), steps, tol)
    return _distinct(x, sign * value, residual, sign, starts)


def _climb(
    deep: Stack, u: Tensor, x: Tensor, steps: int, tol: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Power steps with a shift for each start: doubled where f would fall, else let down."""
    value, slope = deep(x) @ u, _slope(deep, u, x)
    shift = torch.zeros_like(value)
    for _ in range(steps):
        residual = (slope - value.unsqueeze(1) * x).norm(dim=1)
        if bool((residual <= tol * slope.norm(dim=1).clamp(min=1e-300)).all()):
            break
        new = slope + shift.unsqueeze(1) * x
        new = new / new.norm(dim=1, keepdim=True).clamp(min=1e-300)
        then = deep(new) @ u
        up = then >= value - 1e-14 * value.abs()
        x = torch.where(up.unsqueeze(1), new, x)
        value = torch.where(up, then, value)
        slope = torch.where(up.unsqueeze(1), _slope(deep, u, x), slope)
        shift = torch.where(up, shift / 2, 2 * shift + slope.norm(dim=1) / 2)
    return x, value, (slope - value.unsqueeze(1) * x).norm(dim=1)


def _slope(deep: Stack, u: Tensor, x: Tensor) -> Tensor:
    """∇ f_u / D."""
    found: Tensor = deep.pullback(x, u.expand(len(x), -1)) / deep.degree
    return found


def _distinct(x: Tensor, value: Tensor, residual: Tensor, sign: int, starts: int) -> Peaks:
    """One of each group of equal directions (x and -x are one: the degree is even)."""
    order = (sign * value).argsort(descending=True)
    kept: list[int] = []
    count: list[int] = []
    for i in order.tolist():
        near = [n for n, j in enumerate(kept) if abs(float(x[i] @ x[j])) > 1 - 1e-6]
        if near:
            count[near[0]] += 1
        else:
            kept.append(i)
            count.append(1)
    return Peaks(value[kept], x[kept], residual[kept], order.new_tensor(count), starts)
