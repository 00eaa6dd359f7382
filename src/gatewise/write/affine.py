"""Affine nodes as ONNX operators: by rule; what only moves as a gather; the rest as a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gatewise.ir.kinds import Affine, scale
from gatewise.linear.collapse import collapse
from gatewise.linear.folding.blocks import Joined, matrix
from gatewise.linear.grafting import put
from gatewise.linear.parts import cut_out
from gatewise.ops.affine import dense, left, right
from gatewise.ops.arithmetic import combine, plus, same
from gatewise.ops.conv import Convolution, TransposedConvolution
from gatewise.ops.moves import Rearrange
from gatewise.ops.pool import Adaptive, Average, WindowSum
from gatewise.ops.reduce import Reduce
from gatewise.write.graph import Draft

MATRIX = 1 << 20  # numbers that a rule without an operator may be multiplied out to
Writer = Callable[[Draft, Affine], str]


def affine(draft: Draft, kind: Affine) -> str:
    """The name of the value of the node being written."""
    if kind.batched:
        raise draft.refuse("it is frozen to a pattern; collapse the network to W and b instead")
    writer = RULES.get(kind.rule) if callable(getattr(kind.rule, "__hash__", None)) else None
    writer = writer or TYPES.get(type(kind.rule))
    if writer is not None:
        return writer(draft, kind)
    if kind.terms or any(w.is_floating_point() for w in kind.weights):
        return _as_matrix(draft, kind)
    return draft.plus(_moved(draft, kind), kind.bias)


def _as_matrix(draft: Draft, kind: Affine) -> str:
    """A rule that no operator is known for, multiplied out: W x + c on flattened values."""
    names = draft.at.inputs
    shapes = [draft.network.shape(name) for name in names]
    size = sum(map(math.prod, shapes)) * math.prod(draft.at.shape)
    if size > MATRIX or len(set(names)) < len(names):
        raise draft.refuse(
            f"no operator is known for it, and its matrix has {size:,} numbers, more than "
            f"{MATRIX:,}"
        )
    weight, bias = collapse(cut_out([draft.at], names, shapes))
    more = None if kind.bias is None else bias[0]
    return draft.reshape(_gemm(draft, draft.flat(), weight[0], more), draft.shape(draft.at.shape))


# -- matrices --


def _dense(draft: Draft, kind: Affine) -> str:
    (w,) = kind.weights
    if len(draft.given_shape()) == 1:
        return _gemm(draft, draft.given(), w, kind.bias)
    y = draft.op("MatMul", draft.given(), draft.constant(w.T.contiguous()))
    return draft.plus(y, kind.bias)


def _gemm(draft: Draft, x: str, w: Tensor, bias: Tensor | None) -> str:
    more = [] if bias is None else [draft.constant(bias.reshape(-1).expand(len(w)), "bias")]
    return draft.op("Gemm", x, draft.constant(w), *more, transB=1)


def _joined(draft: Draft, kind: Affine) -> str:
    (w,) = kind.weights
    bias = None if kind.bias is None else kind.bias.expand(draft.at.shape).reshape(-1)
    y = _gemm(draft, draft.flat(), w, bias)
    shape = draft.shape(draft.at.shape)
    return y if len(shape) == 1 else draft.reshape(y, shape)


def _right(draft: Draft, kind: Affine) -> str:
    y = draft.op("MatMul", draft.given(), draft.broadcast(kind.weights[0]))
    return draft.plus(y, kind.bias)


def _left(draft: Draft, kind: Affine) -> str:
    y = draft.op("MatMul", draft.broadcast(kind.weights[0]), draft.given())
    return draft.plus(y, kind.bias)


# -- convolutions and pools --


def _pads(ends: list[tuple[int, int]]) -> list[int]:
    """All starts, then all ends."""
    return [lo for lo, _ in ends] + [hi for _, hi in ends]


def _pairs(amounts: tuple[int, ...]) -> list[tuple[int, int]]:
    """What F.pad takes, first axis first."""
    each = list(zip(amounts[::2], amounts[1::2], strict=True))
    return each[::-1]


def _plain(draft: Draft, n: int) -> None:
    if len(draft.given_shape()) != n + 1:
        raise draft.refuse(f"it slides over {n} axes of a value of shape {draft.given_shape()}")


def _by_channel(draft: Draft, kind: Affine, n: int) -> tuple[Tensor | None, Tensor | None]:
    """The bias as one number a channel, or as it is, to be added afterwards."""
    bias = kind.bias
    channels = draft.shape(draft.at.shape)[-n - 1]
    if bias is None or bias.numel() != channels or bias.shape[-n:] != (1,) * n:
        return None, bias
    return bias.reshape(-1), None


def _convolution(draft: Draft, kind: Affine) -> str:
    rule, (w,) = kind.rule, kind.weights
    assert isinstance(rule, Convolution)
    n = w.ndim - 2
    _plain(draft, n)
    ends = [(p + lo, p + hi) for p, (lo, hi) in zip(rule.padding, _pairs(rule.extra), strict=True)]
    if min(min(pair) for pair in ends) < 0:
        raise draft.refuse("its padding is negative")
    inside, after = _by_channel(draft, kind, n)
    more = [] if inside is None else [draft.constant(inside, "bias")]
    y = draft.op(
        "Conv",
        draft.given(),
        draft.constant(w),
        *more,
        kernel_shape=list(w.shape[2:]),
        strides=list(rule.stride),
        dilations=list(rule.dilation),
        pads=_pads(ends),
        group=rule.groups,
    )
    return draft.plus(y, after)


def _transposed(draft: Draft, kind: Affine) -> str:
    rule, (w,) = kind.rule, kind.weights
    assert isinstance(rule, TransposedConvolution)
    n = w.ndim - 2
    _plain(draft, n)
    ends = _pairs(rule.crop)
    y = draft.op(
        "ConvTranspose",
        draft.given(),
        draft.constant(w),
        kernel_shape=list(w.shape[2:]),
        strides=list(rule.stride),
        dilations=list(rule.dilation),
        pads=_pads([(max(0, -lo), max(0, -hi)) for lo, hi in ends]),
        group=rule.groups,
    )
    grown = [(max(0, lo), max(0, hi)) for lo, hi in ends]
    if any(map(any, grown)):
        y = draft.op("Pad", y, draft.constant(_pads([(0, 0), (0, 0), *grown]), "pads"))
    return draft.plus(y, kind.bias)


def _average(draft: Draft, kind: Affine) -> str:
    rule = kind.rule
    assert isinstance(rule, Average)
    _plain(draft, len(rule.kernel))
    sizes = {"kernel_shape": list(rule.kernel), "strides": list(rule.stride)}
    return draft.plus(draft.op("AveragePool", draft.given(), **sizes), kind.bias)


def _window_sum(draft: Draft, kind: Affine) -> str:
    """A sum over windows is the padded mean, times their size and the factor."""
    rule, (factor,) = kind.rule, kind.weights
    assert isinstance(rule, WindowSum)
    window, n = rule.window, len(rule.window.kernel)
    _plain(draft, n)
    if set(window.dilation) != {1}:
        return _as_matrix(draft, kind)
    pads = draft.constant(_pads([(0, 0), (0, 0), *rule.pads]), "pads")
    padded = draft.op("Pad", draft.given(), pads)
    sizes = {"kernel_shape": list(window.kernel), "strides": list(window.stride)}
    mean = draft.op("AveragePool", padded, **sizes)
    times = draft.broadcast(factor * math.prod(window.kernel))
    return draft.plus(draft.op("Mul", mean, times), kind.bias)


def _adaptive(draft: Draft, kind: Affine) -> str:
    rule = kind.rule
    assert isinstance(rule, Adaptive)
    n = len(rule.size)
    _plain(draft, n)
    given = draft.given_shape()[-n:]
    if any(m % k for m, k in zip(given, rule.size, strict=True)):
        return _as_matrix(draft, kind)  # parts of more than one size
    window = [m // k for m, k in zip(given, rule.size, strict=True)]
    y = draft.op("AveragePool", draft.given(), kernel_shape=window, strides=window)
    return draft.plus(y, kind.bias)


# -- entry by entry, sums, moves --


def _scale(draft: Draft, kind: Affine) -> str:
    (s,) = kind.weights
    y = draft.given()
    if not bool((s == 1).all()):
        y = draft.op("Mul", y, draft.broadcast(s))
    return draft.plus(y, kind.bias)


def _same(draft: Draft, kind: Affine) -> str:
    return draft.plus(draft.given(), kind.bias)


def _plus(draft: Draft, kind: Affine) -> str:
    return draft.plus(draft.op("Add", draft.given(0), draft.given(1)), kind.bias)


def _combine(draft: Draft, kind: Affine) -> str:
    parts = [
        draft.op("Mul", draft.given(k), draft.broadcast(w)) for k, w in enumerate(kind.weights)
    ]
    return draft.plus(draft.op("Add", *parts), kind.bias)


def _reduce(draft: Draft, kind: Affine) -> str:
    rule = kind.rule
    assert isinstance(rule, Reduce)
    axes = [draft.axis(a) for a in rule.over]
    if rule.mean:
        y = draft.op("ReduceMean", draft.given(), axes=axes, keepdims=int(rule.keep))
    else:
        over = draft.constant(axes, "axes")
        y = draft.op("ReduceSum", draft.given(), over, keepdims=int(rule.keep))
    return draft.plus(draft.fitted(y), kind.bias)


def _rearrange(draft: Draft, kind: Affine) -> str:
    rule = kind.rule
    assert isinstance(rule, Rearrange)
    y = draft.given()
    if rule.order is not None:
        y = draft.op(
            "Transpose", draft.reshape(y, rule.split), perm=[0, *(a + 1 for a in rule.order)]
        )
    return draft.plus(draft.reshape(y, draft.shape(rule.target)), kind.bias)


def positions(draft: Draft, kind: Affine) -> Tensor:
    """Where each entry comes from in the inputs, flattened and joined; -1 for a zero."""
    shapes = [draft.network.shape(name) for name in draft.at.inputs]
    starts = [sum(math.prod(s) for s in shapes[:k]) for k in range(len(shapes))]
    counted = [
        torch.arange(1 + at, 1 + at + math.prod(s), dtype=torch.float64).reshape(1, *s)
        for at, s in zip(starts, shapes, strict=True)
    ]
    return kind.linear(*counted)[0].long() - 1


def _moved(draft: Draft, kind: Affine) -> str:
    """A rule that only moves values: found by sending 1, 2, 3, ... through it."""
    where = positions(draft, kind)
    count = sum(math.prod(draft.network.shape(name)) for name in draft.at.inputs)
    shape = draft.shape(draft.at.shape)
    if torch.equal(where.flatten(), torch.arange(count)):
        return draft.reshape(draft.flat() if len(draft.at.inputs) > 1 else draft.given(), shape)
    return draft.reshape(gathered(draft, where.flatten(), 0.0, count), shape)


def gathered(draft: Draft, where: Tensor, filler: float, count: int) -> str:
    """x[where] over all inputs joined, `filler` where it is -1: (rows, *where.shape)."""
    flat = draft.flat()
    if bool((where < 0).any()):
        pads, fill = draft.constant([0, 0, 0, 1], "pads"), torch.tensor(filler)
        flat = draft.op("Pad", flat, pads, draft.constant(fill, "filler"))
    index = draft.constant(torch.where(where < 0, count, where), "index")
    return draft.op("Gather", flat, index, axis=1)


def _put(draft: Draft, kind: Affine) -> str:
    """slope z, and what is gated among it, from the two inputs joined."""
    kept, slope = kind.weights
    shape, n = draft.shape(draft.at.shape), slope.numel()
    where = torch.full((n,), -1).index_copy(0, kept, torch.arange(len(kept)))
    gated = draft.reshape(gathered(draft, where, 0.0, len(kept) + n), shape)
    z = draft.op("Mul", draft.given(1), draft.broadcast(slope.reshape(draft.at.shape)))
    return draft.plus(draft.op("Add", z, gated), kind.bias)


RULES: dict[Any, Writer] = {
    dense: _dense,
    matrix: _dense,
    right: _right,
    left: _left,
    scale: _scale,
    same: _same,
    plus: _plus,
    combine: _combine,
    put: _put,
}
TYPES: dict[type, Writer] = {
    Joined: _joined,
    Convolution: _convolution,
    TransposedConvolution: _transposed,
    Average: _average,
    WindowSum: _window_sum,
    Adaptive: _adaptive,
    Reduce: _reduce,
    Rearrange: _rearrange,
}
