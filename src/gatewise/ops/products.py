"""Products of two computed values, and the names they share with products by a constant.

`mul`, `matmul`, `einsum`, `div`, `pow` and `where` mean an Affine layer when one operand is
constant; the adapters here look at the operands and hand that case to the Affine rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gatewise.ops import affine, arithmetic, einsum, steps
from gatewise.ops.arithmetic import add, function, times
from gatewise.ops.builder import Builder, Operand, Product, Ref, Smooth
from gatewise.ops.common import (
    broadcast,
    computed,
    fixed,
    named,
    number,
    only,
    pair_broadcast,
    position,
    together,
)
from gatewise.ops.moves import cut, reshape
from gatewise.ops.table import Entry, OnnxExample, TorchExample


def two_refs(x: Operand, y: Operand) -> bool:
    """Are both operands computed?"""
    return isinstance(x, Ref) and isinstance(y, Ref)


# -- entry by entry --


def product(b: Builder, x: Ref, y: Ref) -> Ref:
    """x y, entry by entry."""
    return b.add(Product(torch.mul), *pair_broadcast(b, x, y))


def mul(b: Builder, x: Operand, y: Operand) -> Ref:
    """x y; one of them may be constant."""
    if isinstance(x, Ref) and isinstance(y, Ref):
        return product(b, x, y)
    return arithmetic.mul(b, x, y)


def square(b: Builder, x: Ref) -> Ref:
    """x²."""
    return product(b, x, x)


def addcmul(b: Builder, x: Operand, y: Operand, z: Operand, *, value: float = 1) -> Ref:
    """x + value y z."""
    if two_refs(y, z):
        return add(b, x, mul(b, y, z), alpha=value)
    return arithmetic.addcmul(b, x, y, z, value=value)


def quotient(w: Tensor, x: Tensor) -> Tensor:
    """w / x."""
    return w / x


def div(b: Builder, x: Operand, y: Operand, *, rounding_mode: str | None = None) -> Ref:
    """x / y; curved where y is computed."""
    if not isinstance(y, Ref):
        return arithmetic.div(b, x, y, rounding_mode=rounding_mode)
    only(b, "rounding_mode", rounding_mode, None)
    return curve(b, quotient, x, y)


def curve(b: Builder, fn: Any, x: Operand, y: Operand) -> Ref:
    """fn(x, y) for a curved fn, one of them maybe constant."""
    if isinstance(x, Ref) and isinstance(y, Ref):
        return b.add(Smooth(fn), *pair_broadcast(b, x, y))
    if isinstance(x, Ref):
        c = fixed(b, y, "an operand")
        return b.add(Smooth(Turned(fn), (c,)), broadcast(b, x, c.shape))
    c = fixed(b, x, "an operand")
    return b.add(Smooth(fn, (c,)), broadcast(b, computed(b, y), c.shape))


@dataclass(frozen=True)
class Turned:
    """fn(x, w) for weights that come first."""

    fn: Any

    def __call__(self, w: Tensor, x: Tensor) -> Tensor:
        out: Tensor = self.fn(x, w)
        return out


def power(b: Builder, x: Operand, y: Operand) -> Ref:
    """x to the power y: x itself for 1, a Product for 2, else curved."""
    if isinstance(x, Ref) and not isinstance(y, Ref):
        exponent = fixed(b, y, "the exponent")
        same = exponent.numel() == 1 and together(b, x.shape, tuple(exponent.shape)) == x.shape
        if same and float(exponent) == 2:
            return square(b, x)
        if same and float(exponent) == 1:
            return x
    return curve(b, torch.pow, x, y)


def where(b: Builder, condition: Operand, x: Operand, y: Operand) -> Ref:
    """x where the condition holds, else y."""
    if isinstance(condition, Ref):
        return steps.where(b, condition, x, y)
    return arithmetic.where(b, condition, x, y)


def masked_fill(b: Builder, x: Operand, mask: Operand, value: Operand) -> Ref:
    """A value where the mask holds, else x."""
    return where(b, mask, value, x)


def glu(b: Builder, x: Ref, dim: int = -1) -> Ref:
    """The first half of an axis times the sigmoid of the second."""
    half = x.shape[position(dim, x.ndim)] // 2
    gate = b.add(Smooth(torch.sigmoid, (), 0.25), cut(b, x, dim, half, 2 * half))
    return product(b, cut(b, x, dim, 0, half), gate)


# -- inner products --


def matmul(b: Builder, x: Operand, y: Operand) -> Ref:
    """x y over the last two axes, the others broadcast; one of them may be constant."""
    if not (isinstance(x, Ref) and isinstance(y, Ref)):
        return affine.matmul(b, x, y)
    u = reshape(b, x, (1, *x.shape)) if x.ndim == 1 else x
    v = reshape(b, y, (*y.shape, 1)) if y.ndim == 1 else y
    out = inner(b, u, v)
    if x.ndim == 1:
        out = reshape(b, out, (*out.shape[:-2], out.shape[-1]))
    return reshape(b, out, out.shape[:-1]) if y.ndim == 1 else out


def inner(b: Builder, x: Ref, y: Ref) -> Ref:
    """The matrix product, after both have as many axes: rows stay in front."""
    n = max(x.ndim, y.ndim)
    x, y = (reshape(b, v, (1,) * (n - v.ndim) + v.shape) for v in (x, y))
    (rows, k), columns = x.shape[-2:], y.shape[-1]
    if y.shape[-2] != k:
        raise b.refuse(f"matrices of shapes {x.shape} and {y.shape} do not fit together")
    lead = math.prod(together(b, x.shape[:-2], y.shape[:-2]))
    back = max(columns * lead // math.prod(x.shape[:-2]), rows * lead // math.prod(y.shape[:-2]))
    return b.add(Product(torch.matmul, max(k, back)), x, y)


@dataclass(frozen=True)
class Contract:
    """A sum of products over named axes, any axes in front shared."""

    equation: str

    def __call__(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.einsum(self.equation, u, v)


def sum_of_products(b: Builder, equation: str, operands: Sequence[Operand], **more: Any) -> Ref:
    """einsum: a Product of two computed operands, else affine in one."""
    if sum(isinstance(v, Ref) for v in operands) != 2:
        return einsum.einsum(b, equation, operands, **more)
    only(b, "the number of operands", len(operands), 2)
    refs = [v for v in operands if isinstance(v, Ref)]
    (first, second), out = einsum.spell(b, equation, [r.shape for r in refs])
    lengths = zip(first + second, refs[0].shape + refs[1].shape, strict=True)
    sizes: dict[str, int] = {}
    for letter, n in lengths:
        sizes[letter] = max(n, sizes.get(letter, 1))
    terms = [math.prod(sizes[c] for c in sizes if c not in kept) for kept in (out, first, second)]
    return b.add(Product(Contract(f"...{first},...{second}->...{out}"), max(terms)), *refs)


def onnx_einsum(b: Builder, *operands: Operand, equation: str) -> Ref:
    """ONNX Einsum: the equation is an attribute."""
    return sum_of_products(b, equation, operands)


def addmm(
    b: Builder, c: Operand, x: Operand, y: Operand, *, beta: float = 1, alpha: float = 1
) -> Ref:
    """beta c + alpha x y (addmm, baddbmm)."""
    if not two_refs(x, y):
        return affine.addmm(b, c, x, y, beta=beta, alpha=alpha)
    return _plus(b, matmul(b, x, y), c, alpha, beta)


def gemm(
    b: Builder,
    x: Operand,
    y: Operand,
    c: Operand = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Ref:
    """alpha A B + beta C, with A and B transposed where it says so."""
    if not two_refs(x, y):
        return affine.gemm(b, x, y, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    equation = f"{'ki' if transA else 'ik'},{'jk' if transB else 'kj'}->ij"
    return _plus(b, sum_of_products(b, equation, (x, y)), c, alpha, beta)


def _plus(b: Builder, y: Ref, c: Operand, alpha: float, beta: float) -> Ref:
    y = y if alpha == 1 else times(b, y, alpha)
    if c is None or beta == 0:
        return y
    if isinstance(c, Ref):
        return add(b, y, c if beta == 1 else times(b, c, beta))
    return add(b, y, number(c) * beta)


def bilinear(b: Builder, x: Ref, y: Ref, weight: Operand, bias: Operand = None) -> Ref:
    """y_k = xᵀ W_k y: affine in x, then a Product with y (nn.Bilinear)."""
    w = fixed(b, weight, "the weight")
    sided = sum_of_products(b, "...i,kij->...kj", (x, w))
    out = sum_of_products(b, "...kj,...j->...k", (sided, y))
    return out if bias is None else add(b, out, bias)


# -- the rows of the table --


def _relu_spelt_out(x: Tensor) -> Tensor:
    return x * (x > 0)


def _leaky_by_where(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.1 * x)


def _three_ways(x: Tensor) -> Tensor:
    return torch.where(x > 0, torch.where(x < 1, x, 1.0), -0.5).masked_fill(x < -1, 2.0)


def _into(x: Tensor, y: Tensor) -> Tensor:
    return torch.baddbmm(x, x, y, beta=0.5, alpha=2)


class _Bilinear(nn.Module):
    """nn.Bilinear of one value with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Bilinear(3, 3, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inside(x, x)
        return out


_PAIR = ((1, 2, 3), (1, 2, 3))

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "Mul",
        "Product",
        "y = u v, entry by entry, both computed",
        named("mul mul_ multiply __mul__ __rmul__", mul) | named("addcmul addcmul_", addcmul),
        named("Mul", mul),
        (
            function(lambda x, y: x * y, (5, 3), (5, 3)),
            function(lambda x, y: x * y, (5, 2, 3), (5, 1, 3)),
            function(_relu_spelt_out, (5, 3)),
            function(lambda x, y: torch.addcmul(x, x, y, value=-0.5), (5, 3), (5, 3)),
            OnnxExample("Mul", _PAIR),
            OnnxExample("Mul", ((1, 2, 3), (1, 1, 1))),
        ),
    ),
    Entry(
        "Square",
        "Product",
        "y = u u (other powers are curved)",
        named("square square_", square),
        {},
        (function(torch.square, (5, 3)),),
    ),
    Entry(
        "Pow",
        "Smooth",
        "y = x to the power e (e = 2 is a Product), c to the power x",
        named("pow pow_ __pow__ __rpow__", power),
        named("Pow", power),
        (
            function(lambda x: x**2, (5, 3)),
            function(lambda x: x**3, (5, 3)),
            function(lambda x: x**1, (5, 3)),
            function(lambda x: 2.0**x, (5, 3)),
            function(lambda x: (x.abs() + 1) ** -0.5, (5, 3)),
            function(lambda x, y: (x.abs() + 1) ** y, (5, 2, 3), (5, 1, 3)),
            function(lambda x: x ** torch.tensor([1.0, 2.0, 3.0]), (5, 3)),
            OnnxExample("Pow", ((1, 3), [2.0])),
            OnnxExample("Pow", ((1, 3), [3.0])),
            OnnxExample("Pow", ([2.0, 3.0, 0.5], (1, 3))),
        ),
    ),
    Entry(
        "Quotient",
        "Smooth",
        "y = x / z or c / z for a computed z",
        named("div div_ divide true_divide __rtruediv__", div),
        named("Div", div),
        (
            function(lambda x, y: x / (1 + y * y), (5, 3), (5, 3)),
            function(lambda x: 2 / (1 + x.abs()), (5, 3)),
            function(lambda x: torch.tensor([[1.0], [2.0]]) / (1 + x.abs()), (5, 1, 3)),
            OnnxExample("Div", _PAIR),
            OnnxExample("Div", ([1.0, 2.0, 3.0], (1, 2, 3))),
        ),
    ),
    Entry(
        "Where",
        "Product",
        "y = m x + (1 - m) z for the m of a comparison (Compare)",
        named("where where_", where) | named("masked_fill masked_fill_", masked_fill),
        named("Where", where),
        (function(_leaky_by_where, (5, 3)), function(_three_ways, (5, 3))),
    ),
    Entry(
        "GLU",
        "Product",
        "y = u sigmoid(v), u and v the halves of an axis",
        named("glu", glu),
        {},
        (
            TorchExample(nn.GLU, ((5, 4),)),
            TorchExample(lambda: nn.GLU(1), ((5, 4, 3),)),
        ),
    ),
    Entry(
        "MatMul of two",
        "Product",
        "y = u v over the last two axes, both computed",
        named("matmul __matmul__ mm bmm mv dot", matmul)
        | named("addmm addmm_ addmv baddbmm", addmm),
        named("MatMul", matmul) | named("Gemm", gemm),
        (
            function(lambda x, y: x @ y.mT, (5, 2, 3), (5, 4, 3)),
            function(lambda x: x @ x.mT, (5, 2, 3, 4)),
            function(lambda x, y: x @ y, (5, 1, 2, 3), (5, 4, 3, 2)),
            function(torch.bmm, (5, 2, 3), (5, 3, 4)),
            function(_into, (5, 3, 3), (5, 3, 3)),
            OnnxExample("MatMul", ((1, 2, 3), (1, 3, 4))),
            OnnxExample("MatMul", ((1, 1, 2, 3), (1, 2, 3, 4))),
            OnnxExample("MatMul", ((3,), (1, 3, 4))),
            OnnxExample("MatMul", ((1, 2, 3), (3,))),
            OnnxExample("Gemm", ((1, 3), (3, 4), [1.0]), {"alpha": 2.0, "beta": 0.5}),
            OnnxExample("Gemm", ((3, 1), (4, 3)), {"transA": 1, "transB": 1}),
        ),
    ),
    Entry(
        "Einsum of two",
        "Product",
        "a sum of products over named axes, two operands computed",
        named("einsum", sum_of_products),
        named("Einsum", onnx_einsum),
        (
            function(lambda x, y: torch.einsum("bqd,bkd->bqk", x, y), (5, 2, 3), (5, 4, 3)),
            function(lambda x, y: torch.einsum("b...i,bi->b...", x, y), (5, 2, 3), (5, 3)),
            OnnxExample("Einsum", ((1, 2, 3), (1, 4, 3)), {"equation": "bij,bkj->bik"}),
        ),
    ),
    Entry(
        "Bilinear",
        "Product",
        "y_k = uᵀ W_k v + c_k (nn.Bilinear)",
        named("bilinear", bilinear),
        {},
        (
            TorchExample(_Bilinear, ((5, 3),)),
            TorchExample(lambda: nn.Bilinear(3, 2, 4, bias=False).double(), ((5, 3), (5, 2))),
        ),
    ),
)
