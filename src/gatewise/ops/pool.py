"""Average pools: sliding, adaptive and global. (MaxPool is a gate.)"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import computed, flat_call, ints, named, only
from gatewise.ops.reduce import reduce
from gatewise.ops.table import Adapter, Entry, OnnxExample, TorchExample
from gatewise.ops.windows import Ends, Window, amounts, onnx_window, per_axis

# -- rules --


@dataclass(frozen=True)
class WindowSum:
    """The sum over each window of the last n axes, each sum times its own factor."""

    window: Window
    pads: Ends

    def __call__(self, factor: Tensor, x: Tensor) -> Tensor:
        return factor * window_sum(F.pad(x, amounts(self.pads)), self.window)


def window_sum(x: Tensor, window: Window) -> Tensor:
    """The sum over each window of the last n axes, channel by channel."""
    n = len(window.kernel)
    lead, zero = x.shape[:-n], (0,) * n
    taps = x.new_ones(1, 1, *window.kernel)
    settings = (window.stride, zero, window.dilation, False, zero, 1)
    flat = x.reshape(math.prod(lead), 1, *x.shape[-n:])
    y = torch.convolution(flat, taps, None, *settings)
    return y.reshape(*lead, *y.shape[2:])


@dataclass(frozen=True)
class Adaptive:
    """Means over windows that divide the last axes into parts of nearly one size."""

    size: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        n = len(self.size)
        return flat_call(lambda v: ADAPTIVE[n](v, self.size), x, n + 1)


ADAPTIVE: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}


@dataclass(frozen=True)
class Average:
    """torch's own average pool, which needs no factors."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        n = len(self.kernel)
        return flat_call(lambda v: AVERAGE[n](v, self.kernel, self.stride), x, n + 1)


AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}

# -- nodes --


def average(
    b: Builder, x: Ref, window: Window, ceil: bool, padding_counts: bool, divisor: int | None
) -> Ref:
    """The mean over each window: over its entries, or with the padding (or a number) as divisor.

    A window may hang over the end where `ceil` is set, if it starts before it; what lies beyond
    the padding never counts.
    """
    n = len(window.kernel)
    if x.ndim <= n:
        raise b.refuse(f"it pools {n} axes after the channels, but its input has shape {x.shape}")
    size = x.shape[-n:]
    overhang = _overhang(b, size, window, ceil)
    taps = math.prod(window.kernel)
    back = math.prod(-(-r // s) for r, s in zip(window.reach, window.stride, strict=True))
    padded = any(map(any, window.pads)) or any(overhang)
    if not padded and divisor is None and set(window.dilation) == {1}:
        plain = Average(window.kernel, window.stride)
        return b.affine(plain, x, terms=taps, terms_back=back)
    ends = tuple((lo, hi + e) for (lo, hi), e in zip(window.pads, overhang, strict=True))
    if divisor is None:
        inner = F.pad(
            torch.ones(size, dtype=torch.float64), amounts(window.pads), value=float(padding_counts)
        )
        counted = F.pad(inner, amounts([(0, e) for e in overhang]))
        factor = 1 / window_sum(counted, window)
    else:
        factor = torch.tensor(1 / divisor, dtype=torch.float64)
    return b.affine(
        WindowSum(window, ends), x, weights=(factor,), terms=taps + 1, terms_back=back + 1
    )


def _overhang(b: Builder, size: Sequence[int], window: Window, ceil: bool) -> list[int]:
    """How far the last window reaches beyond the padding, axis by axis."""
    found = []
    for m, (lo, hi), r, s in zip(size, window.pads, window.reach, window.stride, strict=True):
        room = m + lo + hi - r
        if room < 0 and not ceil:
            raise b.refuse(f"a window of {r} is larger than its padded input of {m + lo + hi}")
        last = -(-room // s) * s if ceil else room // s * s
        if ceil and last >= m + lo:
            last -= s
        found.append(max(0, last - room))
    return found


def adaptive(b: Builder, x: Ref, size: Sequence[int]) -> Ref:
    """Means over nearly equal parts of the last axes."""
    n = len(size)
    each = list(zip(x.shape[-n:], size, strict=True))
    terms = math.prod(-(-m // k) + 1 for m, k in each)
    back = math.prod(-(-k // m) + 1 for m, k in each)
    return b.affine(Adaptive(tuple(size)), x, terms=terms, terms_back=back)


# -- adapters --


def avg_pool(n: int) -> Adapter:
    """torch's avg_pool1d, 2d or 3d."""

    def adapter(
        b: Builder,
        x: Operand,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Ref:
        kernel = per_axis(b, kernel_size, n, "kernel_size")
        s = kernel if stride is None or stride == [] else per_axis(b, stride, n, "stride")
        pads = tuple((p, p) for p in per_axis(b, padding, n, "padding"))
        window = Window(kernel, s, (1,) * n, pads)
        if divisor_override is not None and divisor_override < 1:
            raise b.refuse(f"divisor_override must be positive, got {divisor_override}")
        part = computed(b, x)
        return average(b, part, window, ceil_mode, count_include_pad, divisor_override)

    return adapter


def adaptive_avg_pool(n: int) -> Adapter:
    """torch's adaptive_avg_pool1d, 2d or 3d; None keeps a size."""

    def adapter(b: Builder, x: Operand, output_size: Any) -> Ref:
        part = computed(b, x)
        given = output_size if isinstance(output_size, Sequence) else [output_size] * n
        kept = zip(given, part.shape[-n:], strict=True)
        return adaptive(b, part, ints(b, [m if k is None else k for k, m in kept], "output_size"))

    return adapter


def average_onnx(
    b: Builder,
    x: Operand,
    *,
    kernel_shape: Any,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Ref:
    """ONNX AveragePool."""
    part = computed(b, x)
    only(b, "ceil_mode", ceil_mode, 0, 1)
    window = onnx_window(b, part.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    return average(b, part, window, bool(ceil_mode), bool(count_include_pad), None)


def global_average(b: Builder, x: Operand) -> Ref:
    """ONNX GlobalAveragePool: the mean of each channel."""
    part = computed(b, x)
    return reduce(b, part, range(2, part.ndim), keep=True, mean=True)


# -- the rows of the table --


def _pool(make: Callable[[], nn.Module], *shape: int) -> TorchExample:
    return TorchExample(make, ((3, *shape),))


def _onnx(shape: tuple[int, ...], opset: int = 17, **attrs: Any) -> OnnxExample:
    return OnnxExample("AveragePool", (shape,), attrs, opset)


ENTRIES = (
    Entry(
        "AvgPool",
        "Affine",
        "y = the mean over each window of each channel",
        torch={f"avg_pool{n}d": avg_pool(n) for n in (1, 2, 3)},
        onnx=named("AveragePool", average_onnx),
        examples=(
            _pool(partial(nn.AvgPool1d, 3, 2, 1), 2, 7),
            _pool(partial(nn.AvgPool1d, 2), 2, 5),
            _pool(partial(nn.AvgPool2d, (3, 2)), 2, 6, 5),
            _pool(partial(nn.AvgPool2d, 3, 2, 1, count_include_pad=False), 2, 6, 5),
            _pool(partial(nn.AvgPool2d, 3, 2, 1, ceil_mode=True), 2, 6, 7),
            _pool(partial(nn.AvgPool2d, 2, 3, ceil_mode=True), 2, 6, 7),
            _pool(partial(nn.AvgPool2d, 2, divisor_override=3), 2, 4, 4),
            _pool(partial(nn.AvgPool3d, 2, 1, 1, True, False), 2, 3, 4, 2),
            _onnx((1, 2, 6), kernel_shape=[3], strides=[2], pads=[1, 0]),
            _onnx((1, 2, 5, 6), kernel_shape=[3, 3], pads=[1, 0, 2, 1], count_include_pad=1),
            _onnx((1, 2, 5, 6), 10, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
            _onnx((1, 2, 5, 6), 8, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
            _onnx((1, 2, 5, 5), 11, kernel_shape=[2, 2], auto_pad="SAME_LOWER"),
            _onnx((1, 2, 7, 7), 19, kernel_shape=[2, 3], dilations=[2, 1], pads=[1, 1, 1, 1]),
            _onnx(
                (1, 2, 5, 5),
                19,
                kernel_shape=[3, 3],
                strides=[2, 2],
                pads=[1, 1, 1, 1],
                ceil_mode=1,
                count_include_pad=1,
            ),
        ),
    ),
    Entry(
        "AdaptiveAvgPool",
        "Affine",
        "y = the mean over nearly equal parts of each channel",
        torch={f"adaptive_avg_pool{n}d": adaptive_avg_pool(n) for n in (1, 2, 3)}
        | {f"_adaptive_avg_pool{n}d": adaptive_avg_pool(n) for n in (2, 3)},
        examples=(
            _pool(partial(nn.AdaptiveAvgPool1d, 3), 2, 7),
            _pool(partial(nn.AdaptiveAvgPool2d, (None, 2)), 2, 3, 5),
            _pool(partial(nn.AdaptiveAvgPool2d, 1), 2, 3, 5),
            _pool(partial(nn.AdaptiveAvgPool2d, 4), 2, 3, 6),
            _pool(partial(nn.AdaptiveAvgPool3d, 2), 2, 3, 4, 2),
        ),
    ),
    Entry(
        "GlobalAveragePool",
        "Affine",
        "y = the mean of each channel",
        onnx=named("GlobalAveragePool", global_average),
        examples=(
            OnnxExample("GlobalAveragePool", ((1, 2, 3, 4),)),
            OnnxExample("GlobalAveragePool", ((1, 2, 3),), {}, 7),
        ),
    ),
)
