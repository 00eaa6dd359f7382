"""Operators that onnx's reference evaluator (as of onnx 1.23) has wrong, or in float32 only.

Each is f(opset, *inputs, **attributes) in numpy, after ONNX's own text. What was found:
BatchNormalization before opset 14 uses the statistics of the batch; ConvTranspose mixes up groups
(and took 0.56 s a row on cGAN_imgSz32_nCh_1, where this one takes 0.01 s); Softmax and LogSoftmax
before opset 13 do not flatten; Erf, Gelu, GroupNormalization and HardSwish (its 1/6) are of
float32; Upsample knows whole factors only. Two more are mended in onnx_reference.py: MaxPool with
SAME padding loses its last window, and Resize takes neither opset 10 nor negative axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Ends = list[tuple[int, int]]


def batch_norm(
    opset: int,
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    var: Array,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    spatial: int = 1,
) -> Array:
    """scale (x - mean) / sqrt(var + epsilon) + bias, a channel at a time (axis 1)."""
    if training_mode or not spatial:
        raise NotImplementedError("BatchNormalization in training mode, or with spatial=0")
    column = (-1, *[1] * (x.ndim - 2))
    s, b, m, v = (part.reshape(column) for part in (scale, bias, mean, var))
    y: Array = s * (x - m) / np.sqrt(v + epsilon) + b
    return y


def conv_transpose(
    opset: int,
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """Each input entry adds its multiple of the kernel to the output; then the ends are cropped."""
    n = w.ndim - 2
    s, d = strides or [1] * n, dilations or [1] * n
    over = output_padding or [0] * n
    full = [s[i] * (x.shape[2 + i] - 1) + d[i] * (w.shape[2 + i] - 1) + 1 for i in range(n)]
    if not output_shape and auto_pad.startswith("SAME"):
        output_shape = [x.shape[2 + i] * s[i] for i in range(n)]
    if output_shape:  # what the windows do not reach is filled with zeros, at the end
        over = [max(o, m - f) for o, m, f in zip(over, output_shape, full, strict=True)]
        total = [full[i] + over[i] - output_shape[i] for i in range(n)]
        ends = [_halves(t, auto_pad == "SAME_UPPER") for t in total]
    else:
        p = pads or [0] * (2 * n)
        ends = [(p[i], p[i + n]) for i in range(n)]
    y = np.zeros((len(x), w.shape[1] * group, *(f + o for f, o in zip(full, over, strict=True))))
    for channels, part, kernel in _groups(x, w, group):
        for at in np.ndindex(*w.shape[2:]):
            spots = tuple(
                slice(d[i] * at[i], d[i] * at[i] + s[i] * (x.shape[2 + i] - 1) + 1, s[i])
                for i in range(n)
            )
            y[(slice(None), channels, *spots)] += np.einsum(
                "rc...,co->ro...", part, kernel[(slice(None), slice(None), *at)], optimize=True
            )
    crop = tuple(slice(lo, m - hi) for (lo, hi), m in zip(ends, y.shape[2:], strict=True))
    y = y[(slice(None), slice(None), *crop)]
    return y if b is None else y + b.reshape(-1, *[1] * n)


def _groups(x: Array, w: Array, group: int) -> Iterator[tuple[slice, Array, Array]]:
    """(output channels, the input's channels, their kernels) of each group."""
    taken, given = len(w) // group, w.shape[1]
    for g in range(group):
        part = slice(g * taken, (g + 1) * taken)
        yield slice(g * given, (g + 1) * given), x[:, part], w[part]


def _halves(total: int, more_at_end: bool) -> tuple[int, int]:
    """A padding split in two, the odd one at the end or at the start."""
    small, large = total // 2, total - total // 2
    return (small, large) if more_at_end else (large, small)


def same_ends(
    size: Sequence[int],
    auto_pad: str,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    **_others: Any,
) -> Ends:
    """The padding of SAME: as many windows as a stride of that length has steps, rounded up."""
    n = len(size)
    s, d = strides or [1] * n, dilations or [1] * n
    reach = [(-(-size[i] // s[i]) - 1) * s[i] + d[i] * (kernel_shape[i] - 1) + 1 for i in range(n)]
    total = [max(0, r - m) for r, m in zip(reach, size, strict=True)]
    return [_halves(t, auto_pad == "SAME_UPPER") for t in total]


def softmax(opset: int, x: Array, axis: int = -1) -> Array:
    """exp(x) / sum exp(x) over an axis; before opset 13 over that axis and all behind it."""
    y: Array = np.exp(log_softmax(opset, x, axis))
    return y


def log_softmax(opset: int, x: Array, axis: int = -1) -> Array:
    """x - log sum exp(x), over the same axes."""
    over = axis if opset >= 13 else tuple(range(axis % x.ndim, x.ndim))
    z = x - x.max(axis=over, keepdims=True)
    y: Array = z - np.log(np.exp(z).sum(axis=over, keepdims=True))
    return y


def erf(opset: int, x: Array) -> Array:
    """The error function, by the C library."""
    y: Array = np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else x
    return y


def gelu(opset: int, x: Array, approximate: str = "none") -> Array:
    """x times the normal distribution function, or its approximation by tanh."""
    if approximate == "tanh":
        y: Array = x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return y
    z: Array = x / 2 * (1 + erf(opset, x / math.sqrt(2)))
    return z


def group_norm(
    opset: int,
    x: Array,
    scale: Array,
    bias: Array,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Array:
    """Each group of channels (axis 1) to mean 0 and variance 1; then scaled, channel by channel."""
    parts = x.reshape(len(x), num_groups, -1)
    centred = parts - parts.mean(2, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(2, keepdims=True) + epsilon)
    column = (-1, *[1] * (x.ndim - 2))
    s, b = (np.repeat(v, x.shape[1] // len(v)).reshape(column) for v in (scale, bias))
    y: Array = s * unit.reshape(x.shape) + b
    return y


def hard_swish(opset: int, x: Array) -> Array:
    """x max(0, min(1, x / 6 + 1 / 2))."""
    y: Array = x * np.clip(x / 6 + 0.5, 0, 1)
    return y


def upsample(opset: int, x: Array, scales: Any = None, mode: str = "nearest") -> Array:
    """Upsample, and Resize of opset 10: output i lies at i / scale, along each axis in turn."""
    y = x.astype(np.float64)
    for axis, scale in enumerate(np.asarray(scales, np.float64).tolist()):
        size = math.floor(x.shape[axis] * scale)
        at = np.minimum(np.arange(size) / scale, x.shape[axis] - 1)
        low = np.floor(at).astype(np.int64)
        if mode == "nearest":
            y = y.take(np.ceil(at).astype(np.int64) if scale < 1 else low, axis)
            continue
        share = (at - low).reshape(-1, *[1] * (x.ndim - axis - 1))
        high = np.minimum(low + 1, x.shape[axis] - 1)
        y = y.take(low, axis) * (1 - share) + y.take(high, axis) * share
    return y


OPERATORS: Mapping[str, Callable[..., Array]] = {
    "BatchNormalization": batch_norm,
    "ConvTranspose": conv_transpose,
    "Erf": erf,
    "Gelu": gelu,
    "GroupNormalization": group_norm,
    "HardSwish": hard_swish,
    "LogSoftmax": log_softmax,
    "Softmax": softmax,
    "Upsample": upsample,
}
