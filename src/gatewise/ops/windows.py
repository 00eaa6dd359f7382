"""Windows that slide over an image: sizes, strides and padding, as torch and ONNX say them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gatewise.ops.builder import Builder
from gatewise.ops.common import ints

Ends = tuple[tuple[int, int], ...]  # padding before and after, axis by axis


@dataclass(frozen=True)
class Window:
    """One window over n spatial axes."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Ends

    @property
    def reach(self) -> tuple[int, ...]:
        """Inputs from a window's first to its last, inclusive."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def symmetric(self) -> bool:
        """As much padding before as after?"""
        return all(lo == hi for lo, hi in self.pads)


def per_axis(b: Builder, value: Any, n: int, what: str) -> tuple[int, ...]:
    """One integer for each of n axes; a single one serves all."""
    given = ints(b, value, what)
    if len(given) not in {1, n}:
        raise b.refuse(f"{what} has {len(given)} entries for {n} axes")
    return given * n if len(given) == 1 else given


def same_pads(total: Sequence[int], extra_last: bool = True) -> Ends:
    """The padding shared out evenly; an odd one goes to the end (or to the start)."""
    halves = [(t // 2, t - t // 2) for t in total]
    return tuple((lo, hi) if extra_last else (hi, lo) for lo, hi in halves)


def onnx_window(
    b: Builder,
    size: Sequence[int],
    kernel: Any,
    strides: Any,
    dilations: Any,
    pads: Any,
    auto_pad: str,
) -> Window:
    """The window of an ONNX Conv or pool over an image of the given size."""
    n = len(size)
    k = per_axis(b, kernel, n, "kernel_shape")
    s = per_axis(b, 1 if strides is None else strides, n, "strides")
    d = per_axis(b, 1 if dilations is None else dilations, n, "dilations")
    if auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
        reach = [e * (m - 1) + 1 for m, e in zip(k, d, strict=True)]
        total = [
            max((-(-m // t) - 1) * t + r - m, 0) for m, t, r in zip(size, s, reach, strict=True)
        ]
        return Window(k, s, d, same_pads(total, auto_pad == "SAME_UPPER"))
    if auto_pad not in {"NOTSET", "VALID", ""}:
        raise b.refuse(f"auto_pad={auto_pad!r} is not NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    return Window(k, s, d, onnx_ends(b, None if auto_pad == "VALID" else pads, n))


def onnx_ends(b: Builder, pads: Any, n: int) -> Ends:
    """ONNX lists all starts, then all ends."""
    given = (0,) * (2 * n) if pads is None else ints(b, pads, "pads")
    if len(given) != 2 * n or min(given, default=0) < 0:
        raise b.refuse(f"pads must be {2 * n} numbers, none negative; got {list(given)}")
    return tuple(zip(given[:n], given[n:], strict=True))


def amounts(ends: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The padding as F.pad takes it: last axis first."""
    return tuple(n for pair in reversed(ends) for n in pair)
