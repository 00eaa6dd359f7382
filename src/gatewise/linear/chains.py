"""Products of many affine maps in float64: no overflow on the way, and a rigorous bound.

Factors are held as 2**e A with max |A| < 1, so that only the product itself can leave the range of
floats. A tree of products costs as little as any order does; among equals it is balanced, for
rounding errors are multiplied by the norms of what comes after: few of them in a shallow tree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gatewise.numeric import gamma, underflow

F32, F64 = torch.float32, torch.float64
LONG = 256  # factors: beyond, the order is not searched for but balanced


@dataclass(frozen=True, eq=False)
class Scaled:
    """2**exponent * value, with 1/2 <= max |value| < 1 (exponent 0 for zeros)."""

    value: Tensor
    exponent: int

    @property
    def norm(self) -> float:
        """At least the Frobenius norm of `value`."""
        return float(self.value.norm()) * (1 + gamma(self.value.numel() + 2, F64))


@dataclass(frozen=True, eq=False)
class Factor:
    """x -> W x + b, known to within ||dW||_F <= error and ||db|| <= offset_error.

    Both errors are in units of their own 2**exponent; offset None: no b.
    """

    weight: Scaled
    error: float = 0.0
    offset: Scaled | None = None
    offset_error: float = 0.0


def scaled(values: Tensor, exponent: int = 0) -> Scaled:
    """2**exponent * values, brought to a largest entry between 1/2 and 1: exact but for entries
    some 2**1000 below it."""
    top = float(values.abs().max()) if values.numel() else 0.0
    if not top:
        return Scaled(values, 0)
    shift = math.frexp(top)[1]
    return Scaled(times_power(values, -shift), exponent + shift)


def times_power(values: Tensor, shift: int) -> Tensor:
    """2**shift * values, without an overflow on the way."""
    shift = max(-2200, min(2200, shift))
    half = shift // 2
    if abs(shift) < 1000:
        return values * math.ldexp(1.0, shift)
    return times_power(times_power(values, half), shift - half)


def product(factors: Sequence[Factor]) -> Factor:
    """factors[-1] ... factors[0]: what goes first is first in the list."""
    split = _order([f.weight.value.shape for f in factors])

    def run(first: int, last: int) -> Factor:
        if first == last:
            return factors[first]
        k = split(first, last)
        return _after(run(k + 1, last), run(first, k))

    return run(0, len(factors) - 1)


def _after(right: Factor, left: Factor) -> Factor:
    """right o left: W = R L, b = R b_L + b_R; the errors by norms (Higham, chapter 3.5)."""
    R, L = right.weight, left.weight
    n, rows = L.value.shape[0], R.value.shape[0]
    whole = R.value @ L.value
    lost = underflow(n, F64) * math.sqrt(whole.numel())
    error = gamma(n, F64) * R.norm * L.norm + lost
    work = 4.0 * n * whole.numel()  # what a sharper norm may cost
    if left.error:
        error += (spectral(R.value, work) + right.error) * left.error
    if right.error:
        error += spectral(L.value, work) * right.error
    weight = scaled(whole, R.exponent + L.exponent)
    back = math.ldexp(1.0, R.exponent + L.exponent - weight.exponent)
    offset, offset_error = _offset(right, left, rows)
    return Factor(weight, error * back * (1 + 1e-9), offset, offset_error)


def _offset(right: Factor, left: Factor, rows: int) -> tuple[Scaled | None, float]:
    if left.offset is None:
        return right.offset, right.offset_error
    R, b = right.weight, left.offset
    n = R.value.shape[1]
    moved = Scaled(R.value @ b.value, R.exponent + b.exponent)
    error = gamma(n, F64) * R.norm * b.norm + underflow(n, F64) * math.sqrt(rows)
    error += right.error * b.norm
    if left.offset_error:
        work = 4.0 * R.value.numel() * left.weight.value.shape[1]
        error += (spectral(R.value, work) + right.error) * left.offset_error
    return _sum(moved, error, right.offset, right.offset_error)


def _sum(x: Scaled, dx: float, y: Scaled | None, dy: float) -> tuple[Scaled, float]:
    """x + y with its error; each known to within its own, in its own units."""
    y = Scaled(torch.zeros_like(x.value), x.exponent) if y is None else y
    held = [v.exponent for v, d in ((x, dx), (y, dy)) if d or bool(v.value.any())]
    top = max(held, default=0)
    a, b = (times_power(v.value, min(0, v.exponent - top)) for v in (x, y))
    error = sum(_ldexp(d, v.exponent - top) for v, d in ((x, dx), (y, dy)) if d)
    error += underflow(1, F64) * math.sqrt(len(a))
    whole = a + b
    error += gamma(1, F64) * float(whole.norm()) * (1 + 1e-9)
    done = scaled(whole, top)
    return done, _ldexp(error, top - done.exponent) * (1 + 1e-9)


def _ldexp(value: float, shift: int) -> float:
    """2**shift * value, infinite where that is too large."""
    try:
        return math.ldexp(value, shift)
    except OverflowError:
        return math.inf


def spectral(A: Tensor, work: float = math.inf) -> float:
    """At least ||A||_2, for entries below 1: the 8-norm of the singular values, in float32; or

    the Frobenius norm where that takes more than `work` products.

    ||A||_2**2 <= ||G|| and ||G||**2 <= ||G G'||_F with G the smaller of A A' and A'A; what float32
    rounds is added. For a random matrix it is some 1.5 times the norm.
    """
    whole = float(A.norm()) * (1 + gamma(A.numel() + 2, F64))
    if min(A.shape) < 8 or min(A.shape) ** 2 * sum(A.shape) > work:
        return whole
    small = A.to(F32)
    small = small if A.shape[0] <= A.shape[1] else small.mT
    k, n = small.shape
    G = small @ small.mT
    square, size = float((G @ G.mT).double().norm()), float(G.double().norm())
    tiny = underflow(n + k, F32) * k
    inner = math.sqrt(square + gamma(k + 4, F32) * size**2 + tiny) * (1 + 1e-6)
    outer = inner + gamma(n + 6, F32) * whole**2 + tiny
    return min(whole, math.sqrt(outer) * (1 + 1e-6))


class _Balanced:
    """Split in the middle."""

    def __call__(self, first: int, last: int) -> int:
        return (first + last) // 2


class _Cheapest:
    """Where the cheapest order splits (the matrix chain problem); nearest the middle of equals."""

    def __init__(self, sizes: list[int]) -> None:
        n = len(sizes) - 1
        size = np.array(sizes, dtype=np.float64)
        cost, self.split = np.zeros((n, n)), np.zeros((n, n), np.int64)
        for length in range(1, n):
            for i in range(n - length):
                j = i + length
                k = np.arange(i, j)
                each = cost[i, k] + cost[k + 1, j] + size[i] * size[k + 1] * size[j + 1]
                near = np.abs(k - (i + j - 1) / 2)
                best = np.where(each <= each.min() * (1 + 1e-12), near, np.inf).argmin()
                cost[i, j], self.split[i, j] = each[best], k[best]

    def __call__(self, first: int, last: int) -> int:
        return int(self.split[first, last])


def _order(shapes: Sequence[Sequence[int]]) -> _Balanced | _Cheapest:
    sizes = [shapes[0][1], *(s[0] for s in shapes)]
    if len(shapes) > LONG or len(set(sizes)) == 1:
        return _Balanced()
    return _Cheapest(sizes)
