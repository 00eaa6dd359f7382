"""Convolutions and transposed convolutions in 1, 2 and 3 dimensions; each is the other's back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.ops.affine import listed, weights
from gatewise.ops.arithmetic import function
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import computed, fixed, flat_call, ints, named
from gatewise.ops.table import Entry, OnnxExample, TorchExample
from gatewise.ops.taps import ConvolutionTaps
from gatewise.ops.windows import Window, amounts, onnx_ends, onnx_window, per_axis, same_pads

# -- rules --


@dataclass(frozen=True)
class Convolution:
    """y = w * x over the last n axes of (.., channels, *size); `extra` is padding one-sided.

    size: of the padded input, spatial axes only: what the transpose has to give back.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    extra: tuple[int, ...]
    size: tuple[int, ...]

    def __call__(self, w: Tensor, x: Tensor) -> Tensor:
        return self._run(w, None, x)

    def direct(self, w: Tensor, bias: Tensor, x: Tensor) -> Tensor:
        """With the bias, in the same kernel call."""
        return self._run(w, bias.reshape(-1), x)

    def _run(self, w: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        n = len(self.size)
        x = F.pad(x, self.extra) if any(self.extra) else x
        settings = (self.stride, self.padding, self.dilation, False, (0,) * n, self.groups)
        return flat_call(lambda v: torch.convolution(v, w, bias, *settings), x, n + 1)

    def back(self, w: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """The transposed convolution of g."""
        n = len(self.size)
        shortest = transposed_size(g.shape[-n:], w.shape[2:], self.stride, self.dilation)
        over = tuple(
            m + 2 * p - k for m, p, k in zip(self.size, self.padding, shortest, strict=True)
        )
        settings = (self.stride, self.padding, self.dilation, True, over, self.groups)
        x = flat_call(lambda v: torch.convolution(v, w, None, *settings), g, n + 1)
        return (F.pad(x, tuple(-e for e in self.extra)) if any(self.extra) else x,)


@dataclass(frozen=True)
class TransposedConvolution:
    """y = wᵀ * x, cropped (or filled up with zeros) by `crop`, as F.pad takes it.

    size: of the input, spatial axes only.
    """

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    crop: tuple[int, ...]
    size: tuple[int, ...]

    def __call__(self, w: Tensor, x: Tensor) -> Tensor:
        return self._run(w, None, x)

    def direct(self, w: Tensor, bias: Tensor, x: Tensor) -> Tensor:
        """With the bias, in the same kernel call (not where zeros are filled up after it)."""
        return self._run(w, bias.reshape(-1), x)

    def _run(self, w: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        zero = (0,) * len(self.size)
        settings = (self.stride, zero, self.dilation, True, zero, self.groups)
        y = flat_call(lambda v: torch.convolution(v, w, bias, *settings), x, len(zero) + 1)
        return F.pad(y, self.crop) if any(self.crop) else y

    def back(self, w: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """The convolution of g."""
        zero = (0,) * len(self.size)
        g = F.pad(g, tuple(-c for c in self.crop)) if any(self.crop) else g
        settings = (self.stride, zero, self.dilation, False, zero, self.groups)
        return (flat_call(lambda v: torch.convolution(v, w, None, *settings), g, len(zero) + 1),)


def transposed_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """(size - 1) stride + dilation (kernel - 1) + 1: all that a transposed convolution reaches."""
    each = zip(size, kernel, stride, dilation, strict=True)
    return tuple((m - 1) * s + d * (k - 1) + 1 for m, k, s, d in each)


# -- nodes --


def convolve(b: Builder, x: Ref, w: Tensor, bias: Operand, window: Window, groups: int) -> Ref:
    """A convolution with the window's padding, symmetric or not."""
    n = w.ndim - 2
    channels = w.shape[1] * groups
    if x.ndim < n + 1 or x.shape[-n - 1] != channels or min(*window.stride, groups) < 1:
        raise b.refuse(
            f"a weight of shape {tuple(w.shape)} in {groups} groups takes {channels} "
            f"channels and {n} more axes; its input has shape {x.shape}"
        )
    padding = tuple(min(pair) for pair in window.pads)
    extra = [(lo - p, hi - p) for (lo, hi), p in zip(window.pads, padding, strict=True)]
    size = tuple(m + lo + hi for m, (lo, hi) in zip(x.shape[-n:], extra, strict=True))
    rule = Convolution(window.stride, padding, window.dilation, groups, amounts(extra), size)
    taps = math.prod(w.shape[2:])
    return b.affine(
        rule,
        x,
        weights=(w,),
        bias=_column(b, bias, n),
        terms=w.shape[1] * taps,
        terms_back=w.shape[0] // groups * taps,
        pullback=rule.back,
        direct=rule.direct,
        taps=ConvolutionTaps(tuple(w.shape[2:]), rule) if groups == 1 else None,
    )


def deconvolve(
    b: Builder, x: Ref, w: Tensor, bias: Operand, window: Window, over: Sequence[int], groups: int
) -> Ref:
    """A transposed convolution, cropped by the padding; `over` more entries at the end."""
    n = w.ndim - 2
    if x.ndim < n + 1 or x.shape[-n - 1] != w.shape[0]:
        raise b.refuse(
            f"a weight of shape {tuple(w.shape)} takes {w.shape[0]} channels and {n} "
            f"more axes; its input has shape {x.shape}"
        )
    crop = amounts([(-lo, e - hi) for (lo, hi), e in zip(window.pads, over, strict=True)])
    rule = TransposedConvolution(window.stride, window.dilation, groups, crop, x.shape[-n:])
    taps = math.prod(w.shape[2:])
    return b.affine(
        rule,
        x,
        weights=(w,),
        bias=_column(b, bias, n),
        terms=w.shape[0] // groups * taps,
        terms_back=w.shape[1] * taps,
        pullback=rule.back,
        direct=rule.direct if max(crop) <= 0 else None,
    )


def _column(b: Builder, bias: Operand, n: int) -> Tensor | None:
    """A bias for each channel, to be added to (channels, *size)."""
    return None if bias is None else fixed(b, bias, "the bias").reshape(-1, *[1] * n)


# -- torch --


def conv(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Ref:
    """torch's conv1d, conv2d and conv3d; padding may be 'same' or 'valid'."""
    w = fixed(b, weight, "the weight")
    n = w.ndim - 2
    d = per_axis(b, dilation, n, "dilation")
    if padding == "same":
        ends = same_pads([e * (k - 1) for e, k in zip(d, w.shape[2:], strict=True)])
    else:
        ends = _symmetric(b, 0 if padding == "valid" else padding, n)
    window = Window(tuple(w.shape[2:]), per_axis(b, stride, n, "stride"), d, ends)
    return convolve(b, computed(b, x), w, bias, window, groups)


def conv_transpose(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Ref:
    """torch's conv_transpose1d, 2d and 3d."""
    w = fixed(b, weight, "the weight")
    n = w.ndim - 2
    s, d = per_axis(b, stride, n, "stride"), per_axis(b, dilation, n, "dilation")
    window = Window(tuple(w.shape[2:]), s, d, _symmetric(b, padding, n))
    over = per_axis(b, output_padding, n, "output_padding")
    return deconvolve(b, computed(b, x), w, bias, window, over, groups)


def convolution(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    *_flags: bool,
) -> Ref:
    """aten.convolution: both, in any number of dimensions (the last flags choose kernels)."""
    if transposed:
        return conv_transpose(b, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(b, x, weight, bias, stride, padding, dilation, groups)


def _symmetric(b: Builder, padding: Any, n: int) -> tuple[tuple[int, int], ...]:
    return tuple((p, p) for p in per_axis(b, padding, n, "padding"))


# -- ONNX --


def conv_onnx(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Ref:
    """ONNX Conv."""
    part, w = computed(b, x), fixed(b, weight, "the weight")
    kernel = _kernel(b, w, kernel_shape)
    window = onnx_window(b, part.shape[2:], kernel, strides, dilations, pads, auto_pad)
    return convolve(b, part, w, bias, window, group)


def conv_transpose_onnx(
    b: Builder,
    x: Operand,
    weight: Operand,
    bias: Operand = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    output_padding: Any = None,
    output_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Ref:
    """ONNX ConvTranspose: a wanted output shape, or SAME, decides the padding."""
    part, w = computed(b, x), fixed(b, weight, "the weight")
    n, kernel = w.ndim - 2, _kernel(b, w, kernel_shape)
    s, d = per_axis(b, strides or 1, n, "strides"), per_axis(b, dilations or 1, n, "dilations")
    over = per_axis(b, output_padding or 0, n, "output_padding")
    if not output_shape and not auto_pad.startswith("SAME"):
        ends = onnx_ends(b, None if auto_pad == "VALID" else pads, n)
        return deconvolve(b, part, w, bias, Window(kernel, s, d, ends), over, group)
    wanted: Sequence[int] = [m * t for m, t in zip(part.shape[2:], s, strict=True)]
    if output_shape:
        wanted = ints(b, output_shape, "output_shape")[-n:]
    full = transposed_size(part.shape[2:], kernel, s, d)
    total = [max(0, f + e - m) for f, e, m in zip(full, over, wanted, strict=True)]
    ends = same_pads(total, auto_pad == "SAME_UPPER")
    over = tuple(m + t - f for f, t, m in zip(full, total, wanted, strict=True))
    return deconvolve(b, part, w, bias, Window(kernel, s, d, ends), over, group)


def _kernel(b: Builder, w: Tensor, kernel_shape: Any) -> tuple[int, ...]:
    kernel = tuple(w.shape[2:])
    if kernel_shape is not None and ints(b, kernel_shape, "kernel_shape") != kernel:
        raise b.refuse(f"kernel_shape is {kernel_shape}, but the weight has {list(kernel)}")
    return kernel


# -- the rows of the table --


def _module(make: type[nn.Module], *sizes: Any, **settings: Any) -> TorchExample:
    *arguments, shape = sizes
    return TorchExample(lambda: make(*arguments, **settings).double(), ((3, *shape),))


ENTRIES = (
    Entry(
        "Conv",
        "Affine",
        "y = w * x + c: sliding inner products, in groups of channels",
        torch=named("conv1d conv2d conv3d", conv) | named("convolution _convolution", convolution),
        onnx=named("Conv", conv_onnx),
        examples=(
            _module(nn.Conv1d, 2, 3, 3, (2, 7), stride=2, padding=1, bias=False),
            _module(nn.Conv1d, 2, 2, 4, (2, 7), padding="same", dilation=2, groups=2),
            _module(nn.Conv2d, 2, 4, (3, 2), (2, 5, 6), padding=(1, 0), groups=2),
            _module(nn.Conv2d, 2, 3, 3, (2, 9, 8), stride=(2, 3), dilation=(2, 1)),
            _module(nn.Conv2d, 2, 3, 2, (2, 4, 4), padding="valid"),
            _module(nn.Conv2d, 2, 3, 3, (2, 5, 5), padding=1, padding_mode="reflect"),
            _module(nn.Conv2d, 2, 3, 3, (2, 5, 5), padding=1, padding_mode="replicate"),
            _module(nn.Conv2d, 2, 3, 3, (2, 5, 5), padding=1, padding_mode="circular"),
            _module(nn.Conv3d, 2, 2, 2, (2, 4, 3, 3), stride=2, padding=1),
            function(lambda x: F.conv2d(x, weights(3, 2, 2, 2), weights(3)), (3, 2, 4, 4)),
            OnnxExample("Conv", ((1, 2, 6), listed(3, 2, 3), listed(3)), {"pads": [2, 0]}),
            OnnxExample(
                "Conv",
                ((1, 2, 5, 6), listed(4, 1, 3, 3)),
                {"group": 2, "strides": [2, 2], "auto_pad": "SAME_UPPER"},
                11,
            ),
            OnnxExample("Conv", ((1, 2, 5, 6), listed(4, 2, 2, 2)), {"auto_pad": "SAME_LOWER"}),
            OnnxExample("Conv", ((1, 2, 5, 6), listed(4, 2, 2, 2)), {"auto_pad": "VALID"}, 8),
            OnnxExample(
                "Conv",
                ((1, 1, 7, 7), listed(1, 1, 3, 2)),
                {"dilations": [2, 1], "pads": [1, 0, 2, 1], "kernel_shape": [3, 2]},
                7,
            ),
            OnnxExample(
                "Conv", ((1, 1, 3, 4, 3), listed(2, 1, 2, 2, 2)), {"pads": [1, 0, 0, 0, 1, 0]}
            ),
        ),
    ),
    Entry(
        "ConvTranspose",
        "Affine",
        "y = wᵀ * x + c: the transpose of a convolution",
        torch=named("conv_transpose1d conv_transpose2d conv_transpose3d", conv_transpose),
        onnx=named("ConvTranspose", conv_transpose_onnx),
        examples=(
            _module(nn.ConvTranspose1d, 2, 3, 3, (2, 5), stride=2, padding=1, output_padding=1),
            _module(nn.ConvTranspose2d, 4, 4, 3, (4, 3, 4), stride=2, groups=2, dilation=2),
            _module(nn.ConvTranspose2d, 2, 3, 2, (2, 3, 4), stride=3, output_padding=(1, 2)),
            _module(
                nn.ConvTranspose2d, 2, 3, 3, (2, 4, 4), padding=2, dilation=3, output_padding=2
            ),
            _module(nn.ConvTranspose3d, 2, 2, 2, (2, 2, 3, 2), stride=2, bias=False),
            OnnxExample(
                "ConvTranspose",
                ((1, 2, 3, 4), listed(2, 3, 3, 3), listed(3)),
                {"strides": [2, 2], "pads": [1, 0, 0, 2], "output_padding": [1, 0]},
                9,
            ),
            OnnxExample(
                "ConvTranspose",
                ((1, 2, 3, 3), listed(2, 1, 3, 3)),
                {"strides": [3, 2], "output_shape": [10, 8], "group": 2},
            ),
            OnnxExample(
                "ConvTranspose",
                ((1, 2, 3, 3), listed(2, 1, 3, 3), listed(1)),
                {"strides": [2, 2], "output_shape": [6, 6]},
            ),
            OnnxExample(
                "ConvTranspose",
                ((1, 2, 3, 3), listed(2, 1, 3, 3)),
                {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
            ),
            OnnxExample(
                "ConvTranspose",
                ((1, 2, 5), listed(2, 2, 4)),
                {"strides": [3], "auto_pad": "SAME_LOWER"},
                11,
            ),
            OnnxExample("ConvTranspose", ((1, 2, 5), listed(2, 2, 3)), {"dilations": [2]}),
        ),
    ),
)
