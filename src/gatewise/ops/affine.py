"""Affine layers over the last axes: products of a computed value with constant matrices."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.ops.arithmetic import add, function, times
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import computed, fixed, named, number
from gatewise.ops.einsum import einsum, einsum_onnx, tensordot
from gatewise.ops.moves import permute, reshape
from gatewise.ops.table import Entry, OnnxExample, TorchExample
from gatewise.ops.taps import AxisTaps

# -- rules --


def dense(w: Tensor, x: Tensor) -> Tensor:
    """x wᵀ over the last axis, w (out, in)."""
    return F.linear(x, w)


def dense_back(w: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """g w: the transpose of `dense`."""
    return (g @ w,)


def dense_direct(w: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """x wᵀ + bias in one kernel call."""
    return F.linear(x, w, bias)


def right(c: Tensor, x: Tensor) -> Tensor:
    """x c, for matrices in the last two axes."""
    return x @ c


def left(c: Tensor, x: Tensor) -> Tensor:
    """c x, for matrices in the last two axes."""
    return c @ x


def right_back(c: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """g cᵀ: the transpose of `right` for one matrix c."""
    return (g @ c.mT,)


def left_back(c: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """cᵀ g: the transpose of `left` for one matrix c."""
    return (c.mT @ g,)


# -- nodes --


def layer(b: Builder, x: Ref, w: Tensor, bias: Operand = None) -> Ref:
    """y = x wᵀ + bias over the last axis, w (out, in); one kernel call where the bias is a row."""
    out, inside = w.shape
    if x.shape[-1:] != (inside,):
        raise b.refuse(f"the weight takes {inside} values, but its input has shape {x.shape}")
    if isinstance(bias, Ref):
        return add(b, layer(b, x, w), bias)
    c = None if bias is None else number(bias)
    if c is not None and not _is_row(c, out, x.ndim):
        return add(b, layer(b, x, w), c)
    c = None if c is None else c.reshape(-1).expand(out)
    return b.affine(
        dense,
        x,
        weights=(w,),
        bias=c,
        terms=inside,
        terms_back=out,
        pullback=dense_back,
        direct=dense_direct,
        taps=AxisTaps(-1),
    )


def _is_row(c: Tensor, out: int, ndim: int) -> bool:
    """Is c one value for each output of the last axis (or one for all of them)?"""
    return c.numel() in {1, out} and c.shape[-1:] in {(), (1,), (out,)} and c.ndim <= ndim


def matmul(b: Builder, x: Operand, y: Operand) -> Ref:
    """y = x C or C x over the last two axes, the others broadcast (vectors as torch has it)."""
    if isinstance(x, Ref):
        return _times_right(b, x, fixed(b, y, "the second factor"))
    return _times_left(b, number(x), computed(b, y))


def _times_right(b: Builder, x: Ref, c: Tensor) -> Ref:
    if c.ndim == 1:
        y = layer(b, x, c.reshape(1, -1))
        return reshape(b, y, y.shape[:-1])
    if c.ndim == 2:
        return layer(b, x, c.mT)
    if x.ndim == 1:
        y = _times_right(b, reshape(b, x, (1, *x.shape)), c)
        return reshape(b, y, (*y.shape[:-2], y.shape[-1]))
    return _product(b, right, x, c, back=None)


def _times_left(b: Builder, c: Tensor, x: Ref) -> Ref:
    if x.ndim == 1:
        return _times_right(b, x, c.mT if c.ndim > 1 else c)
    if c.ndim == 1:
        y = _times_left(b, c.reshape(1, -1), x)
        return reshape(b, y, (*y.shape[:-2], y.shape[-1]))
    return _product(b, left, x, c, back=left_back if c.ndim == 2 else None)


def _product(b: Builder, rule: Any, x: Ref, c: Tensor, back: Any) -> Ref:
    """x c or c x; x gets as many axes as c, so that rows stay in front of both."""
    x = reshape(b, x, (1,) * max(0, c.ndim - x.ndim) + x.shape)
    inside, across = c.shape[-2:] if rule is right else c.shape[:-3:-1]
    lead = torch.broadcast_shapes(x.shape[:-2], c.shape[:-2])
    copies = math.prod(lead) // max(1, math.prod(x.shape[:-2]))
    if x.shape[-1 if rule is right else -2] != inside:
        raise b.refuse(f"a matrix of shape {tuple(c.shape)} does not fit a value of {x.shape}")
    return b.affine(
        rule,
        x,
        weights=(c,),
        terms=inside,
        terms_back=across * copies,
        pullback=back,
        taps=AxisTaps(-2) if rule is left and c.ndim == 2 else None,
    )


# -- adapters --


def linear(b: Builder, x: Operand, weight: Operand, bias: Operand = None) -> Ref:
    """y = x Wᵀ + c over the last axis."""
    w = fixed(b, weight, "the weight")
    if w.ndim == 2:
        return layer(b, computed(b, x), w, bias)
    y = matmul(b, computed(b, x), w)
    return y if bias is None else add(b, y, bias)


def addmm(
    b: Builder, c: Operand, x: Operand, y: Operand, *, beta: float = 1, alpha: float = 1
) -> Ref:
    """y = beta c + alpha x1 x2 (addmm, addmv, baddbmm)."""
    return _affine_product(b, x, y, c, alpha, beta)


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
    """y = alpha A B + beta C, with A and B transposed where it says so."""
    return _affine_product(b, _turned(b, x, transA), _turned(b, y, transB), c, alpha, beta)


def _turned(b: Builder, x: Operand, turn: int) -> Operand:
    if not turn:
        return x
    return permute(b, x, (1, 0)) if isinstance(x, Ref) else number(x).mT


def _affine_product(
    b: Builder, x: Operand, y: Operand, c: Operand, alpha: float, beta: float
) -> Ref:
    """alpha x y + beta c: one dense layer where y and c are constant."""
    if isinstance(x, Ref):
        y = fixed(b, y, "the second factor") * alpha
    else:
        x = number(x) * alpha
    if c is None or beta == 0:
        return matmul(b, x, y)
    c = (times(b, c, beta) if beta != 1 else c) if isinstance(c, Ref) else number(c) * beta
    if isinstance(x, Ref) and isinstance(y, Tensor) and y.ndim == 2:
        return layer(b, x, y.mT, c)
    return add(b, matmul(b, x, y), c)


# -- the rows of the table --


def weights(*shape: int) -> Tensor:
    """Some constants for the examples: the same ones every time."""
    n = math.prod(shape)
    return torch.sin(torch.arange(n, dtype=torch.float64) * 2.7 + n).reshape(shape)


def listed(*shape: int) -> list[Any]:
    """The same constants, as an ONNX example has them."""
    values: list[Any] = weights(*shape).tolist()
    return values


W, W3, BIAS = weights(4, 3), weights(2, 4, 3), weights(3)

ENTRIES = (
    Entry(
        "Linear",
        "Affine",
        "y = x Wᵀ + c over the last axis",
        torch=named("linear", linear),
        examples=(
            TorchExample(lambda: nn.Linear(3, 4).double(), ((5, 3),)),
            TorchExample(lambda: nn.Linear(3, 4, bias=False).double(), ((5, 2, 3),)),
            function(lambda x: F.linear(x, BIAS), (5, 2, 3)),
        ),
    ),
    Entry(
        "MatMul",
        "Affine",
        "y = x C or C x, C constant, other axes broadcast",
        torch=named("matmul __matmul__ mm bmm mv dot", matmul),
        onnx=named("MatMul", matmul),
        examples=(
            function(lambda x: x @ W, (5, 4)),
            function(lambda x: x @ W[:, 0], (5, 2, 4)),
            function(lambda x: x @ W3, (5, 1, 6, 4)),
            function(lambda x: W @ x, (5, 3, 2)),
            function(lambda x: W3 @ x, (5, 1, 3, 2)),
            function(lambda x: W[0] @ x, (5, 3, 2)),
            OnnxExample("MatMul", ((1, 4), listed(4, 3))),
            OnnxExample("MatMul", ((1, 2, 4), listed(4))),
            OnnxExample("MatMul", ((1, 4), listed(2, 4, 3))),
            OnnxExample("MatMul", (listed(3, 4), (1, 4, 2)), opset=9),
            OnnxExample("MatMul", (listed(2, 3, 4), (1, 1, 4, 2))),
            OnnxExample("MatMul", (listed(4), (1, 4, 2))),
        ),
    ),
    Entry(
        "Gemm",
        "Affine",
        "y = α A B + β C, one factor constant",
        torch=named("addmm addmm_ addmv baddbmm", addmm),
        onnx=named("Gemm", gemm),
        examples=(
            function(lambda x: torch.addmm(BIAS, x, W, beta=0.5, alpha=2), (5, 4)),
            function(lambda x, z: torch.addmm(z, x, W, beta=-1), (5, 4), (5, 3)),
            OnnxExample("Gemm", ((1, 4), listed(3, 4), listed(3)), {"transB": 1}),
            OnnxExample("Gemm", ((1, 4), listed(4, 3)), {"alpha": 0.5}, 11),
            OnnxExample("Gemm", ((1, 4), listed(4, 3), listed(1, 3)), {"beta": 0.5}, 7),
            OnnxExample("Gemm", ((4, 2), listed(4, 3), listed(2, 1)), {"transA": 1, "alpha": 3.0}),
            OnnxExample("Gemm", (listed(4, 2), (4, 3), (2, 3)), {"transA": 1, "beta": 2.0}),
        ),
    ),
    Entry(
        "Einsum",
        "Affine",
        "a sum of products over named axes, one operand computed",
        torch=named("einsum", einsum) | named("tensordot", tensordot),
        onnx=named("Einsum", einsum_onnx),
        examples=(
            function(lambda x: torch.einsum("bij,jk->bik", x, W), (5, 2, 4)),
            function(lambda x: torch.einsum("ijk,bj", W3, x), (5, 4)),
            function(lambda x: torch.einsum("b...j,ij->b...i", x, W.mT), (5, 2, 2, 4)),
            function(lambda x: torch.einsum("bii->bi", x), (5, 3, 3)),
            function(lambda x: torch.einsum("bij->bj", x), (5, 2, 3)),
            function(lambda x: torch.tensordot(x, W3, ([2, 1], [1, 0])), (5, 2, 4)),
            OnnxExample("Einsum", ((1, 2, 4), listed(4, 3)), {"equation": "bij,jk->bki"}),
        ),
    ),
)
