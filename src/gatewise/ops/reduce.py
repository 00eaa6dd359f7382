"""Affine layers that add up axes: sum, mean, cumulative sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.ir.kinds import Shape
from gatewise.ops.arithmetic import function
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import axes, axis, computed, ints, named, only, real
from gatewise.ops.table import Adapter, Entry, OnnxExample

# -- rules --


@dataclass(frozen=True)
class Reduce:
    """The sum of x over tensor axes, or its mean."""

    over: tuple[int, ...]
    keep: bool
    mean: bool
    source: Shape

    def __call__(self, x: Tensor) -> Tensor:
        return (torch.mean if self.mean else torch.sum)(x, self.over, keepdim=self.keep)

    def back(self, g: Tensor) -> tuple[Tensor, ...]:
        """g repeated over what was summed (divided by its size, for a mean)."""
        kept = [1 if a + 1 in self.over else n for a, n in enumerate(self.source)]
        g = g.reshape(len(g), *kept)
        return ((g / self.size if self.mean else g).expand(len(g), *self.source),)

    @property
    def size(self) -> int:
        """Count of entries behind one output."""
        return math.prod(self.source[a - 1] for a in self.over)


@dataclass(frozen=True)
class Cumulate:
    """y_i = x_1 + ... + x_i along an axis; `exclusive` leaves out x_i, `reverse` runs back."""

    over: int
    exclusive: bool = False
    reverse: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        x = x.flip(self.over) if self.reverse else x
        if self.exclusive:
            first = torch.zeros_like(x.narrow(self.over, 0, 1))
            x = torch.cat([first, x.narrow(self.over, 0, x.shape[self.over] - 1)], self.over)
        y = x.cumsum(self.over)
        return y.flip(self.over) if self.reverse else y


# -- adapters --


def reduce(b: Builder, x: Ref, over: Sequence[int] | None, keep: bool, mean: bool) -> Ref:
    """Sum or mean over the source's axes (None: all of them)."""
    where = range(x.ndim) if over is None else over
    if not len(where):
        return x
    rule = Reduce(tuple(sorted(axes(x, where))), bool(keep), mean, x.shape)
    return b.affine(rule, x, terms=rule.size, terms_back=int(mean), pullback=rule.back)


def _torch(mean: bool) -> Adapter:
    def adapter(
        b: Builder, x: Operand, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
    ) -> Ref:
        real(b, dtype)
        over = None if dim is None else ints(b, dim, "dim")
        return reduce(b, computed(b, x), over or None, keepdim, mean)

    return adapter


def _onnx(mean: bool) -> Adapter:
    def adapter(
        b: Builder,
        x: Operand,
        axes: Any = None,
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Ref:
        over = () if axes is None else ints(b, axes, "axes")
        if not over and noop_with_empty_axes:
            return computed(b, x)
        return reduce(b, computed(b, x), over or None, bool(keepdims), mean)

    return adapter


def cumulate(b: Builder, x: Ref, dim: int, exclusive: bool = False, reverse: bool = False) -> Ref:
    """Cumulative sum along one of the source's axes."""
    a = axis(x, dim)
    return b.affine(Cumulate(a, exclusive, reverse), x, terms=x.shape[a - 1])


def cumsum(b: Builder, x: Operand, dim: int, *, dtype: Any = None) -> Ref:
    """y_i = x_1 + ... + x_i."""
    real(b, dtype)
    return cumulate(b, computed(b, x), dim)


def cumsum_onnx(
    b: Builder, x: Operand, over: Operand, *, exclusive: int = 0, reverse: int = 0
) -> Ref:
    """ONNX CumSum, whose axis is an input."""
    (dim,) = ints(b, over, "axis")
    only(b, "exclusive", exclusive, 0, 1)
    only(b, "reverse", reverse, 0, 1)
    return cumulate(b, computed(b, x), dim, bool(exclusive), bool(reverse))


ENTRIES = (
    Entry(
        "Sum",
        "Affine",
        "y = sum of x over axes",
        torch=named("sum", _torch(False)),
        onnx=named("ReduceSum", _onnx(False)),
        examples=(
            function(lambda x: x.sum(-1), (5, 3, 4)),
            function(lambda x: x.sum((1, 2), keepdim=True), (5, 3, 4)),
            function(lambda x: x.sum(1, dtype=torch.float64), (5, 3)),
            OnnxExample("ReduceSum", ((1, 3, 4), [1]), {"keepdims": 0}, 13),
            OnnxExample("ReduceSum", ((1, 3, 4), [-1, 1])),
            OnnxExample("ReduceSum", ((1, 3, 4),), {"axes": [2], "keepdims": 0}, 11),
            OnnxExample("ReduceSum", ((1, 3, 4),), {"noop_with_empty_axes": 1}, 13),
            OnnxExample("ReduceSum", ((1, 3, 4),), {"keepdims": 1}, 7),
        ),
    ),
    Entry(
        "Mean",
        "Affine",
        "y = mean of x over axes",
        torch=named("mean", _torch(True)),
        onnx=named("ReduceMean", _onnx(True)),
        examples=(
            function(lambda x: x.mean(1), (5, 3, 4)),
            function(lambda x: x.mean((-1, -2), keepdim=True), (5, 2, 3, 4)),
            OnnxExample("ReduceMean", ((1, 3, 4),), {"axes": [1], "keepdims": 0}, 8),
            OnnxExample("ReduceMean", ((1, 3, 4), [1, 2]), {"keepdims": 1}, 18),
        ),
    ),
    Entry(
        "CumSum",
        "Affine",
        "y_i = x_1 + ... + x_i along an axis",
        torch=named("cumsum cumsum_", cumsum),
        onnx=named("CumSum", cumsum_onnx),
        examples=(
            function(lambda x: x.cumsum(1), (5, 3, 4)),
            OnnxExample("CumSum", ((1, 3, 4), 1)),
            OnnxExample("CumSum", ((1, 4), 1), {"exclusive": 1, "reverse": 1}, 11),
        ),
    ),
)
