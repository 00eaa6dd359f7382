"""The parts of a `BilinearTransformer`: its settings, heads, the MLP that multiplies, RMSNorm.

The names of the parts are those of the published bilinear transformers' state dicts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from gatewise.errors import ModelError
from gatewise.models.bilinear.layers import GLU, GLUGate
from gatewise.models.checks import is_number, whole

PatternName = Literal["softmax", "bilinear"]
NormName = Literal["none", "rmsnorm"]
EPSILON = 1e-6  # added to the mean square of RMSNorm
Table = TypeVar("Table", nn.Linear, nn.Embedding)


@dataclass(frozen=True)
class Shape:
    """The settings of every layer, as `BilinearTransformer` says."""

    width: int
    heads: int
    head_width: int
    hidden: int
    attention: PatternName
    gate: GLUGate
    beta: float
    norm: NormName
    rope_base: float | None
    bias: bool

    def __post_init__(self) -> None:
        for name, kinds in (("attention", PatternName), ("gate", GLUGate), ("norm", NormName)):
            _require_one_of(name, getattr(self, name), get_args(kinds))
        if not is_number(self.beta):
            raise ModelError(f"`beta` is a number from 0, and it is {self.beta!r}")
        if self.rope_base is None:
            return
        if not (is_number(self.rope_base) and self.rope_base > 1):
            raise ModelError(
                f"`rope_base` is a number above 1, 10000 is usual, and it is {self.rope_base!r}"
            )
        if self.head_width % 2:
            raise ModelError(
                f"rotary positions turn pairs of a head's numbers, and a head has "
                f"{self.head_width}: give an even `head_width`"
            )


def _require_one_of(name: str, value: Any, kinds: tuple[str, ...]) -> None:
    if value not in kinds:
        said = " or ".join(f"'{kind}'" for kind in kinds)
        raise ModelError(f"`{name}` is {said}, and it is {value!r}")


def require_shape(width: Any, heads: Any, hidden: Any, head_width: Any) -> None:
    """Whole sizes from 1, and heads that share the width or have their own."""
    sizes = {"width": width, "heads": heads, "hidden": hidden}
    sizes |= {} if head_width is None else {"head_width": head_width}
    for name, value in sizes.items():
        if not whole(value, 1):
            raise ModelError(f"`{name}` is a whole number from 1, and it is {value!r}")
    if head_width is None and width % heads:
        raise ModelError(
            f"{heads} heads cannot share a width of {width}: give `head_width`, or a multiple"
        )


def linear(inputs: int, outputs: int, bias: bool, rng: torch.Generator | None) -> nn.Linear:
    """Weights normal with variance 1 / inputs, biases 0."""
    part: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)
    return _drawn(part, inputs, rng)


def table(rows: int, width: int, rng: torch.Generator | None) -> nn.Embedding:
    """An embedding, normal with variance 1 / width."""
    part: nn.Embedding = nn.utils.skip_init(nn.Embedding, rows, width)
    return _drawn(part, width, rng)


def _drawn(part: Table, fan_in: int, rng: torch.Generator | None) -> Table:
    with torch.no_grad():
        part.weight.normal_(0, 1 / math.sqrt(fan_in), generator=rng)
        if isinstance(part, nn.Linear) and part.bias is not None:
            part.bias.zero_()
    return part


def normed_by(shape: Shape) -> nn.Module:
    """RMSNorm with a scale a channel, or nothing."""
    return RMSNorm(shape.width) if shape.norm == "rmsnorm" else nn.Identity()


class RMSNorm(nn.Module):
    """x / sqrt(mean x² + 1e-6) * scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(.., d), in and out."""
        n: Tensor = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * self.scale
        return n


class Heads(nn.Module):
    """z_q = sum_h sum_{j <= q} A^h[q, j] O_h V_h x_j, a score s = Q x_q · K x_j / sqrt(w).

    "softmax": A = softmax over j of s; "bilinear": A = s_1 s_2, of two queries and two keys.
    """

    def __init__(self, shape: Shape, rng: torch.Generator | None) -> None:
        super().__init__()
        self.shape = shape
        d, inner = shape.width, shape.heads * shape.head_width
        which = ("",) if shape.attention == "softmax" else ("1", "2")
        self.sides = [(f"q{i}_proj", f"k{i}_proj") for i in which]
        for name in sum(self.sides, ()):
            self.add_module(name, linear(d, inner, shape.bias, rng))
        self.v_proj = linear(d, inner, shape.bias, rng)
        self.o_proj = linear(inner, d, shape.bias, rng)

    def forward(self, x: Tensor) -> Tensor:
        """z (rows, n, d)."""
        z = self.pattern(x) @ self._heads(self.v_proj(x))
        return self.o_proj(z.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def pattern(self, x: Tensor) -> Tensor:
        """A (rows, heads, n, n)."""
        n = x.shape[1]
        later = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
        scores = [self._score(x, q, k) for q, k in self.sides]
        if self.shape.attention == "softmax":
            return scores[0].masked_fill(later, -math.inf).softmax(-1)
        return (scores[0] * scores[1]).masked_fill(later, 0.0)

    def _score(self, x: Tensor, query: str, key: str) -> Tensor:
        q, k = (self._heads(self.get_submodule(name)(x)) for name in (query, key))
        if self.shape.rope_base is not None:
            q, k = (turned(side, self.shape.rope_base) for side in (q, k))
        return q @ k.transpose(-1, -2) / math.sqrt(self.shape.head_width)

    def _heads(self, x: Tensor) -> Tensor:
        """(rows, n, heads w) as (rows, heads, n, w)."""
        return x.reshape(*x.shape[:2], self.shape.heads, -1).transpose(1, 2)


def turned(x: Tensor, base: float) -> Tensor:
    """Rotary positions: the halves of x (.., n, w) as pairs, turned by position * base^(-2i/w)."""
    n, half = x.shape[-2], x.shape[-1] // 2
    where, pair = (torch.arange(m, dtype=x.dtype, device=x.device) for m in (n, half))
    angle = where[:, None] * base ** (-pair / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def products(shape: Shape, rng: torch.Generator | None) -> GLU:
    """y = P (W x * g(V x)), g the identity or a swish."""
    d, h, bias = shape.width, shape.hidden, shape.bias
    W, V = (linear(d, h, bias, rng) for _ in range(2))
    return GLU(W, V, linear(h, d, bias, rng), gate=shape.gate, beta=shape.beta)
