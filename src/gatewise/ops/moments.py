"""Norms and variances over axes: curved, but for the norms of order 1 and ∞."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gatewise.ops.arithmetic import function
from gatewise.ops.builder import Builder, Operand, Ref, Smooth
from gatewise.ops.common import (
    axes,
    computed,
    fixed,
    ints,
    named,
    only,
    position,
    real,
)
from gatewise.ops.gates import absolute
from gatewise.ops.products import square
from gatewise.ops.reduce import reduce
from gatewise.ops.softmax import onnx_reduction
from gatewise.ops.table import Adapter, Entry, OnnxExample, TorchExample
from gatewise.ops.winners import reduce as extreme


def vector_norm(
    b: Builder,
    x: Operand,
    ord: float = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Ref:
    """(Σ |x|^p)^(1/p): a gate and a sum for p = 1, two gates for p = ∞, else curved."""
    real(b, dtype)
    x = computed(b, x)
    over = list(range(x.ndim)) if dim is None else list(ints(b, dim, "dim")) or list(range(x.ndim))
    if ord == 1:
        return reduce(b, absolute(b, x), over, keepdim, False)
    if ord == math.inf:
        return extreme(b, absolute(b, x), over, keepdim, 1)
    if ord <= 0:
        raise b.refuse(f"a norm of order {ord} is not supported; use one above 0")
    fn = partial(torch.linalg.vector_norm, ord=float(ord), dim=axes(x, over), keepdim=bool(keepdim))
    return b.add(Smooth(fn), x)


def torch_norm(
    b: Builder,
    x: Operand,
    p: Operand = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Ref:
    """aten.norm: p may be absent."""
    order = 2.0 if p is None else float(fixed(b, p, "p"))
    return vector_norm(b, x, order, dim, keepdim, dtype=dtype)


def _l1(b: Builder, x: Ref, over: list[int], keep: bool) -> Ref:
    return vector_norm(b, x, 1, over, keep)


def _l2(b: Builder, x: Ref, over: list[int], keep: bool) -> Ref:
    return vector_norm(b, x, 2, over, keep)


def _sum_square(b: Builder, x: Ref, over: list[int], keep: bool) -> Ref:
    return reduce(b, square(b, x), over, keep, False)


def onnx_lp_normalize(b: Builder, x: Operand, *, axis: int = -1, p: int = 2) -> Ref:
    """x divided by its norm along an axis; 0 where the norm is 0."""
    x = computed(b, x)
    only(b, "p", p, 1, 2)
    a = position(axis, x.ndim) + 1
    tiny = float(torch.finfo(torch.float32).tiny)
    return b.add(Smooth(partial(F.normalize, p=float(p), dim=a, eps=tiny)), x)


def moment(fn: Callable[..., Tensor]) -> tuple[Adapter, Adapter]:
    """var.dim and var.correction (or std)."""

    def correction(
        b: Builder,
        x: Operand,
        dim: Any = None,
        *,
        correction: float | None = None,
        keepdim: bool = False,
    ) -> Ref:
        x = computed(b, x)
        over = axes(x, () if dim is None else ints(b, dim, "dim")) or tuple(range(1, x.ndim + 1))
        less = 1 if correction is None else correction
        return b.add(Smooth(partial(fn, dim=over, correction=less, keepdim=bool(keepdim))), x)

    def unbiased(
        b: Builder, x: Operand, dim: Any, unbiased: bool = True, keepdim: bool = False
    ) -> Ref:
        return correction(b, x, dim, correction=int(unbiased), keepdim=keepdim)

    return unbiased, correction


# -- the rows of the table --


def _moments(fn: Callable[..., Tensor]) -> tuple[TorchExample, ...]:
    return (
        function(lambda x: fn(x, 1), (5, 4)),
        function(lambda x: fn(x, dim=(1, 2), correction=0, keepdim=True), (5, 4, 3)),
    )


_VAR, _STD = moment(torch.var), moment(torch.std)

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "Norm",
        "Smooth",
        "y = (Σ |x|^p)^(1/p) over axes (p = 1 and ∞: gates; squares: a Product)",
        {"linalg_vector_norm": vector_norm} | named("norm norm.ScalarOpt_dim", torch_norm),
        {
            "ReduceL1": onnx_reduction(_l1),
            "ReduceL2": onnx_reduction(_l2),
            "ReduceSumSquare": onnx_reduction(_sum_square),
            "LpNormalization": onnx_lp_normalize,
        },
        (
            function(lambda x: x.norm(dim=1), (5, 3)),
            function(lambda x: x.norm(p=1, dim=(1, 2)), (5, 3, 2)),
            function(lambda x: torch.linalg.vector_norm(x, math.inf, 1, True), (5, 3)),
            function(lambda x: F.normalize(x, dim=1), (5, 3)),
            OnnxExample("ReduceL1", ((1, 3, 2),), {"axes": [2]}),
            OnnxExample("ReduceL2", ((1, 3, 2),), {"keepdims": 0}),
            OnnxExample("ReduceL2", ((1, 3, 2), [1]), {}, 18),
            OnnxExample("ReduceSumSquare", ((1, 3, 2), [1, 2]), {"keepdims": 0}, 18),
            OnnxExample("LpNormalization", ((1, 3, 2),), {"axis": 1}),
        ),
    ),
    Entry(
        "Variance",
        "Smooth",
        "y = the variance over axes",
        {"var.dim": _VAR[0], "var.correction": _VAR[1]},
        {},
        _moments(torch.var),
    ),
    Entry(
        "Deviation",
        "Smooth",
        "y = the standard deviation over axes",
        {"std.dim": _STD[0], "std.correction": _STD[1]},
        {},
        _moments(torch.std),
    ),
)
