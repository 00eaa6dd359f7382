"""Gates over groups: the largest or smallest of several values (`Winner`).

A group is a row of positions in its inputs, flattened and joined; -1 pads short groups. The first
of equal candidates wins, as torch's max_pool and max(dim) have it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.ir.kinds import Shape
from gatewise.ops.builder import Builder, Operand, Ref, Winner
from gatewise.ops.common import fixed, ints, only, position, together
from gatewise.ops.gates import pieces
from gatewise.ops.table import Adapter, Entry, OnnxExample, TorchExample


def winner(b: Builder, refs: Sequence[Ref], index: Tensor, sign: int = 1) -> Ref:
    """The winner of each group of the table index (*shape, candidates)."""
    if bool((index < 0).all(-1).any()):
        raise b.refuse("a window lies wholly in the padding, where there is nothing to choose")
    return b.add(Winner(index.contiguous(), sign), *refs)


def positions(shape: Shape) -> Tensor:
    """0, 1, 2, ... in the given shape: where each entry of a flattened row comes from."""
    return torch.arange(math.prod(shape)).reshape(shape)


# -- of several values --


def extreme(sign: int) -> Adapter:
    """max (sign = 1) or min (-1) of any number of values, constants among them."""

    def adapter(b: Builder, *operands: Operand) -> Ref:
        refs = [o for o in operands if isinstance(o, Ref)]
        constants = [fixed(b, o, "an operand") for o in operands if not isinstance(o, Ref)]
        best = refs[0] if len(refs) == 1 else _of_refs(b, refs, sign)
        return _against(b, best, constants, sign) if constants else best

    return adapter


def _of_refs(b: Builder, refs: list[Ref], sign: int) -> Ref:
    """Broadcasting costs nothing here: it is only repeated positions."""
    shape = together(b, *(r.shape for r in refs))
    starts = itertools.accumulate((math.prod(r.shape) for r in refs), initial=0)
    tables = [
        (positions(r.shape) + s).broadcast_to(shape) for r, s in zip(refs, starts, strict=False)
    ]
    return winner(b, refs, torch.stack(tables, -1), sign)


def _against(b: Builder, x: Ref, constants: list[Tensor], sign: int) -> Ref:
    """max(x, c) or min(x, c): a gate of two branches, the constant at a tie."""
    c = torch.stack(torch.broadcast_tensors(*constants))
    if sign > 0:
        return pieces(b, x, [c.amax(0)], [0, 1], [c.amax(0), 0], [False])
    return pieces(b, x, [c.amin(0)], [1, 0], [0, c.amin(0)], [True])


# -- over axes of one value --


def reduce(b: Builder, x: Ref, axes: Sequence[int], keepdim: bool, sign: int) -> Ref:
    """The largest (smallest) over some axes; none named means all."""
    out = sorted({position(a, x.ndim) for a in axes}) or list(range(x.ndim))
    kept = [a for a in range(x.ndim) if a not in out]
    shape = [1 if a in out else n for a, n in enumerate(x.shape)]
    index = positions(x.shape).permute(*kept, *out)
    final = shape if keepdim else [x.shape[a] for a in kept]
    return winner(b, [x], index.reshape(*final, -1), sign)


def over_axes(sign: int) -> Adapter:
    """amax and amin."""

    def adapter(b: Builder, x: Ref, dim: Any = (), keepdim: bool = False) -> Ref:
        return reduce(b, x, ints(b, dim, "dim"), keepdim, sign)

    return adapter


def over_axis(sign: int) -> Adapter:
    """max(dim) and min(dim): values only; what needs the indices is refused."""

    def adapter(b: Builder, x: Ref, dim: int, keepdim: bool = False) -> tuple[Ref, ...]:
        return (reduce(b, x, [dim], keepdim, sign),)

    return adapter


def over_all(sign: int) -> Adapter:
    """max and min of a whole value."""
    return lambda b, x: reduce(b, x, (), False, sign)


def onnx_reduce(sign: int) -> Adapter:
    """ReduceMax and ReduceMin: axes are an attribute before opset 18 and an input after."""

    def adapter(
        b: Builder, x: Ref, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Ref:
        chosen = () if axes is None else ints(b, axes, "axes")
        if not chosen and noop_with_empty_axes:
            return x
        return reduce(b, x, chosen, bool(keepdims), sign)

    return adapter


# -- over windows --


def sliding(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> Tensor:
    """(out, kernel) positions along one axis, -1 in the padding."""
    starts = torch.arange(max(0, out)).unsqueeze(1) * stride - pad
    at = starts + torch.arange(kernel) * dilation
    return at.where((at >= 0) & (at < size), -1)


def adaptive(size: int, out: int) -> Tensor:
    """(out, longest) positions: window i is floor(i size / out) to ceil((i + 1) size / out)."""
    i = torch.arange(out).unsqueeze(1)
    first, stop = i * size // out, -(-(i + 1) * size // out)
    at = first + torch.arange(int((stop - first).max()))
    return at.where(at < stop, -1)


def pool(b: Builder, x: Ref, windows: Sequence[Tensor]) -> Ref:
    """max over the windows of the last axes, each given as its (out, kernel) positions."""
    n = len(windows)
    if any(not len(w) for w in windows):
        raise b.refuse(f"its window is larger than what it slides over, of shape {x.shape}")
    lead, spatial = x.shape[:-n], x.shape[-n:]
    at, good = torch.zeros((), dtype=torch.long), torch.ones((), dtype=torch.bool)
    for d, window in enumerate(windows):
        view = [1] * (2 * n)
        view[d], view[n + d] = window.shape
        at = at * spatial[d] + window.reshape(view)
        good = good & (window >= 0).reshape(view)
    groups = at.where(good, -1).flatten(n)
    shift = (positions(lead) * math.prod(spatial)).reshape(*lead, *[1] * (n + 1))
    return winner(b, [x], torch.where(groups >= 0, groups + shift, -1))


def _out_size(size: int, kernel: int, stride: int, pads: int, dilation: int, ceil: bool) -> int:
    """Windows along one axis, before any that would start beyond the input are dropped."""
    return (size + pads - dilation * (kernel - 1) - 1 + (stride - 1 if ceil else 0)) // stride + 1


def _dims(b: Builder, value: Any, n: int, what: str) -> tuple[int, ...]:
    found = ints(b, value, what)
    return found * n if len(found) == 1 else found


def max_pool(n: int) -> Adapter:
    """max_pool1d, 2d, 3d with torch's arguments."""

    def adapter(
        b: Builder,
        x: Ref,
        kernel_size: Any,
        stride: Any = (),
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Ref:
        kernel = _dims(b, kernel_size, n, "kernel_size")
        steps = _dims(b, stride, n, "stride") or kernel
        pads, dilations = _dims(b, padding, n, "padding"), _dims(b, dilation, n, "dilation")
        windows = []
        for size, k, s, p, d in zip(x.shape[-n:], kernel, steps, pads, dilations, strict=True):
            out = _out_size(size, k, s, 2 * p, d, ceil_mode)
            # torch: the last window must start inside the input or the padding before it
            out -= int(ceil_mode and (out - 1) * s >= size + p)
            windows.append(sliding(size, out, k, s, p, d))
        return pool(b, x, windows)

    return adapter


def first_of(adapter: Adapter) -> Adapter:
    """The same, for a name whose second output (indices) is not offered."""

    @functools.wraps(adapter)
    def wrapped(*args: Any, **kwargs: Any) -> tuple[Ref, ...]:
        y = adapter(*args, **kwargs)
        return y if isinstance(y, tuple) else (y,)

    return wrapped


def adaptive_max_pool(n: int) -> Adapter:
    """adaptive_max_pool1d, 2d, 3d: values only."""

    def adapter(b: Builder, x: Ref, output_size: Any) -> tuple[Ref, ...]:
        sizes = _dims(b, output_size, n, "output_size")
        windows = [adaptive(size, o) for size, o in zip(x.shape[-n:], sizes, strict=True)]
        return (pool(b, x, windows),)

    return adapter


def onnx_max_pool(
    b: Builder,
    x: Ref,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> Ref:
    """ONNX MaxPool; its Indices are not offered."""
    only(b, "storage_order", storage_order, 0)
    only(b, "auto_pad", auto_pad, "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    if auto_pad.startswith("SAME") and any(d != 1 for d in dilations or ()):
        raise b.refuse(f"auto_pad {auto_pad} with dilations {dilations} has no agreed meaning")
    n = len(kernel_shape)
    steps, gaps = strides or [1] * n, dilations or [1] * n
    windows = []
    for a, (size, k, s, d) in enumerate(zip(x.shape[-n:], kernel_shape, steps, gaps, strict=True)):
        explicit = (pads[a], pads[a + n]) if pads and auto_pad == "NOTSET" else (0, 0)
        out, before = _onnx_axis(auto_pad, size, k, s, d, explicit, bool(ceil_mode))
        windows.append(sliding(size, out, k, s, before, d))
    return pool(b, x, windows)


def _onnx_axis(
    auto_pad: str, size: int, k: int, s: int, d: int, pads: tuple[int, int], ceil: bool
) -> tuple[int, int]:
    """(windows, padding before) along one axis."""
    if auto_pad.startswith("SAME"):
        out = -(-size // s)
        total = max(0, (out - 1) * s + (k - 1) * d + 1 - size)
        return out, total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
    out = _out_size(size, k, s, sum(pads), d, ceil)
    out -= int(ceil and (out - 1) * s >= size + pads[0])
    return out, pads[0]


def onnx_global_max_pool(b: Builder, x: Ref) -> Ref:
    """The largest over all axes behind the channels."""
    return reduce(b, x, range(2, x.ndim), True, 1)


def _fn(f: Callable[..., Tensor], *shapes: Shape) -> TorchExample:
    return TorchExample(lambda: f, shapes or ((5, 3, 5),))


def _module(make: Callable[[], nn.Module], *shape: int) -> TorchExample:
    return TorchExample(make, ((5, *shape),))


def _onnx(op: str, *inputs: Any, opset: int = 17, **attrs: Any) -> OnnxExample:
    return OnnxExample(op, inputs, attrs, opset)


def _bounded(x: Tensor) -> Tensor:
    return torch.min(torch.max(x, torch.full((5,), -0.5)), torch.tensor(0.5))


_IMAGE, _ROW = (1, 2, 7, 7), (1, 3, 5)

POOL_EXAMPLES: tuple[TorchExample | OnnxExample, ...] = (
    _module(lambda: nn.MaxPool1d(3, 2, padding=1), 2, 9),
    _module(lambda: nn.MaxPool2d(2), 2, 6, 6),
    _module(lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), 2, 7, 6),
    _module(lambda: nn.MaxPool2d((2, 3), (1, 2), (0, 1), dilation=(2, 1)), 2, 6, 7),
    _module(lambda: nn.MaxPool2d(2, 3, ceil_mode=True), 1, 7, 7),
    _module(lambda: nn.MaxPool3d(2), 1, 4, 4, 4),
    _fn(lambda x: F.max_pool2d(x, 2, return_indices=True)[0], (5, 2, 6, 6)),
    _module(lambda: nn.AdaptiveMaxPool1d(3), 2, 7),
    _module(lambda: nn.AdaptiveMaxPool2d((2, None)), 2, 5, 3),
    _module(lambda: nn.AdaptiveMaxPool3d(2), 1, 3, 4, 5),
    _onnx("MaxPool", _IMAGE, kernel_shape=[2, 2]),
    _onnx("MaxPool", _IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 2]),
    _onnx("MaxPool", _IMAGE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    _onnx("MaxPool", _IMAGE, kernel_shape=[2, 2], dilations=[2, 3]),
    _onnx("MaxPool", _IMAGE, kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    _onnx("MaxPool", _IMAGE, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    _onnx("MaxPool", _IMAGE, kernel_shape=[3, 3], strides=[2, 2], auto_pad="VALID"),
    _onnx("GlobalMaxPool", _IMAGE),
)

EXTREME_EXAMPLES: tuple[TorchExample | OnnxExample, ...] = (
    _fn(torch.maximum, (5, 3, 5), (5, 3, 5)),
    _fn(torch.minimum, (5, 3, 5), (5, 1, 5)),
    _fn(torch.max, (5, 3, 5), (5, 3, 5)),
    _fn(torch.fmin, (5, 3, 5), (5, 3, 5)),
    _fn(_bounded),
    _onnx("Max", _ROW, _ROW, (1, 1, 5)),
    _onnx("Min", _ROW, _ROW),
    _onnx("Max", _ROW, [0.0]),
    _onnx("Max", _ROW),
    _onnx("Min", _ROW, [[0.1], [0.2], [-0.5]], (1, 3, 1), [0.3]),
)

REDUCE_EXAMPLES: tuple[TorchExample | OnnxExample, ...] = (
    _fn(lambda x: x.amax(-1)),
    _fn(lambda x: x.amax((1, 2), keepdim=True)),
    _fn(lambda x: x.amin(1)),
    _fn(lambda x: x.max(2).values),
    _fn(lambda x: x.min(-2, keepdim=True)[0]),
    _onnx("ReduceMax", _ROW, axes=[2], keepdims=0),
    _onnx("ReduceMin", _ROW, axes=[-1]),
    _onnx("ReduceMax", _ROW, [1, 2], opset=18),
    _onnx("ReduceMin", _ROW, opset=18, noop_with_empty_axes=1),
)

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "MaxPool",
        "Gate",
        "y = max over a window; the first of equals wins",
        {f"max_pool{n}d": max_pool(n) for n in (1, 2, 3)}
        | {f"max_pool{n}d_with_indices": first_of(max_pool(n)) for n in (1, 2, 3)}
        | {f"adaptive_max_pool{n}d": adaptive_max_pool(n) for n in (1, 2, 3)},
        {"MaxPool": onnx_max_pool, "GlobalMaxPool": onnx_global_max_pool},
        POOL_EXAMPLES,
    ),
    Entry(
        "Max, Min",
        "Gate",
        "y = the largest (smallest) of several; the first of equals wins",
        dict.fromkeys(("maximum", "max.other", "fmax"), extreme(1))
        | dict.fromkeys(("minimum", "min.other", "fmin"), extreme(-1)),
        {"Max": extreme(1), "Min": extreme(-1)},
        EXTREME_EXAMPLES,
    ),
    Entry(
        "Amax, Amin",
        "Gate",
        "y = the largest (smallest) along axes (maxout)",
        {
            "amax": over_axes(1),
            "amin": over_axes(-1),
            "max": over_all(1),
            "min": over_all(-1),
            "max.dim": over_axis(1),
            "min.dim": over_axis(-1),
        },
        {"ReduceMax": onnx_reduce(1), "ReduceMin": onnx_reduce(-1)},
        REDUCE_EXAMPLES,
    ),
)
