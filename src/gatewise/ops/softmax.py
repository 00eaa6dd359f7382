"""Softmax and its kin: curved along axes, with Lipschitz constants in the ∞-norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gatewise.ops.arithmetic import function
from gatewise.ops.builder import Builder, Operand, Ref, Smooth
from gatewise.ops.common import axes, axis, computed, ints, only, position, real
from gatewise.ops.table import Adapter, Entry, OnnxExample

# In the ∞-norm the Jacobian of softmax, diag(p) - p pᵀ, has size max 2 p (1 - p) <= 1/2,
# and that of its logarithm, 1 - 1 pᵀ, has size max 2 (1 - p) <= 2.
SOFTMAXES: dict[str, tuple[Callable[..., Tensor], float]] = {
    "softmax": (torch.softmax, 0.5),
    "log_softmax": (torch.log_softmax, 2.0),
}


def softmax(name: str) -> Adapter:
    """softmax or log_softmax along one axis."""
    fn, lipschitz = SOFTMAXES[name]

    def adapter(b: Builder, x: Operand, dim: int, dtype: Any = None) -> Ref:
        real(b, dtype)
        x = computed(b, x)
        a = axis(x, dim)
        return b.add(Smooth(partial(fn, dim=a), (), lipschitz, x.shape[a - 1]), x)

    return adapter


def core_softmax(name: str) -> Adapter:
    """aten._softmax and aten._log_softmax."""
    plain = softmax(name)

    def adapter(b: Builder, x: Operand, dim: int, half_to_float: bool) -> Any:
        only(b, "half_to_float", half_to_float, False)
        return plain(b, x, dim)

    return adapter


@dataclass(frozen=True)
class Flat:
    """fn over everything from an axis on, taken as one: ONNX before opset 13."""

    fn: Callable[..., Tensor]
    tail: int

    def __call__(self, x: Tensor) -> Tensor:
        return self.fn(x.flatten(x.ndim - self.tail), dim=-1).reshape(x.shape)


def onnx_softmax(name: str) -> Adapter:
    """Along one axis (-1) from opset 13 on; before it over all axes from `axis` (1) on."""
    fn, lipschitz = SOFTMAXES[name]
    plain = softmax(name)

    def adapter(b: Builder, x: Operand, *, axis: int | None = None) -> Any:
        if b.opset >= 13:
            return plain(b, x, -1 if axis is None else axis)
        x = computed(b, x)
        start = position(1 if axis is None else axis, x.ndim)
        terms = math.prod(x.shape[start:])
        return b.add(Smooth(Flat(fn, x.ndim - start), (), lipschitz, terms), x)

    return adapter


def logsumexp(b: Builder, x: Operand, dim: Any, keepdim: bool = False) -> Ref:
    """log Σ exp(x); its slopes are a softmax, which add up to 1."""
    x = computed(b, x)
    over = axes(x, ints(b, dim, "dim")) or tuple(range(1, x.ndim + 1))
    terms = math.prod(x.shape[a - 1] for a in over)
    fn = partial(torch.logsumexp, dim=over, keepdim=bool(keepdim))
    return b.add(Smooth(fn, (), 1.0, terms), x)


def onnx_reduction(of: Callable[[Builder, Ref, list[int], bool], Ref]) -> Adapter:
    """A reduction whose axes are an attribute before opset 18 and an input after."""

    def adapter(
        b: Builder,
        x: Operand,
        axes: Any = None,
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Ref:
        x = computed(b, x)
        over = [] if axes is None else list(ints(b, axes, "axes"))
        if not over and noop_with_empty_axes:
            raise b.refuse("noop_with_empty_axes without axes is not supported here; name the axes")
        return of(b, x, over or list(range(x.ndim)), bool(keepdims))

    return adapter


# -- the rows of the table --


def _softmax_row(name: str, torch_name: str, doc: str) -> Entry:
    fn, onnx_name = SOFTMAXES[torch_name][0], {"softmax": "Softmax"}.get(torch_name, "LogSoftmax")
    return Entry(
        name,
        "Smooth",
        doc,
        {torch_name: softmax(torch_name), f"_{torch_name}": core_softmax(torch_name)},
        {onnx_name: onnx_softmax(torch_name)},
        (
            function(lambda x: fn(x, dim=-1), (5, 3)),
            function(lambda x: fn(x, dim=1), (5, 3, 2)),
            OnnxExample(onnx_name, ((1, 2, 3),)),
            OnnxExample(onnx_name, ((1, 2, 3),), {"axis": 1}),
            OnnxExample(onnx_name, ((1, 2, 3),), {}, 11),
            OnnxExample(onnx_name, ((1, 2, 3),), {"axis": 2}, 11),
        ),
    )


ENTRIES: tuple[Entry, ...] = (
    _softmax_row("Softmax", "softmax", "y = exp(x) / Σ exp(x) along an axis"),
    _softmax_row("LogSoftmax", "log_softmax", "y = x - log Σ exp(x) along an axis"),
    Entry(
        "LogSumExp",
        "Smooth",
        "y = log Σ exp(x) over axes",
        {"logsumexp": logsumexp},
        {"ReduceLogSumExp": onnx_reduction(logsumexp)},
        (
            function(lambda x: x.logsumexp(1), (5, 3)),
            function(lambda x: x.logsumexp((1, 2), keepdim=True), (5, 3, 2)),
            OnnxExample("ReduceLogSumExp", ((1, 3, 2),), {"axes": [1], "keepdims": 0}),
        ),
    ),
)
