"""How one weight matrix is used at every position (`ir.kinds.Taps`): dense layers, convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from gatewise.ops.windows import amounts

if TYPE_CHECKING:
    from gatewise.ops.conv import Convolution


@dataclass(frozen=True)
class AxisTaps:
    """One tap and one unit for each place on an axis (-1 or -2); the other axes are positions."""

    axis: int

    def __call__(self, x: Tensor) -> Tensor:
        return x.movedim(self.axis, 1).reshape(len(x), x.shape[self.axis], -1)

    def units(self, y: Tensor) -> Tensor:
        """(rows, units, positions)."""
        return self(y)


@dataclass(frozen=True)
class ConvolutionTaps:
    """One tap for each channel and place in the kernel; positions are where the window stands."""

    kernel: tuple[int, ...]
    rule: Convolution

    def __call__(self, x: Tensor) -> Tensor:
        n, rule = len(self.kernel), self.rule
        x = F.pad(x, rule.extra) if any(rule.extra) else x
        x = F.pad(x, amounts([(p, p) for p in rule.padding]))
        channel = x.ndim - n - 1
        each = zip(self.kernel, rule.stride, rule.dilation, strict=True)
        for axis, (k, s, d) in enumerate(each, channel + 1):
            x = x.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
        taps = (channel, *range(x.ndim - n, x.ndim))
        places = x.movedim(taps, tuple(range(1, n + 2)))
        return places.reshape(len(x), math.prod(places.shape[1 : n + 2]), -1)

    def units(self, y: Tensor) -> Tensor:
        """(rows, units, positions)."""
        channel = y.ndim - len(self.kernel) - 1
        return y.movedim(channel, 1).reshape(len(y), y.shape[channel], -1)
