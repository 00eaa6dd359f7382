"""Padding: with a constant, a reflection, the edge, or in a circle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.ops.arithmetic import function
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import computed, fixed, ints, named, only, position
from gatewise.ops.moves import Zeros, pick
from gatewise.ops.table import Adapter, Entry, OnnxExample, TorchExample
from gatewise.ops.windows import amounts

MODES = ("constant", "reflect", "edge", "wrap")


def pad(b: Builder, x: Ref, ends: dict[int, tuple[int, int]], mode: str, value: float) -> Ref:
    """Entries before and after, axis by axis (negative: cut off)."""
    only(b, "mode", mode, *MODES)
    ends = {a: e for a, e in ends.items() if e != (0, 0)}
    if not ends:
        return x
    if mode != "constant":
        return pick(b, x, {a: _places(b, x.shape[a], *e, mode) for a, e in ends.items()})
    rule = Zeros(amounts([ends.get(a, (0, 0)) for a in range(min(ends), x.ndim)]))
    bias = None
    if value:
        bias = value * (1 - rule(torch.ones(x.shape, dtype=torch.float64)))
    return b.affine(rule, x, bias=bias, pullback=rule.back)


def _places(b: Builder, n: int, before: int, after: int, mode: str) -> Tensor:
    """Where each entry of a padded axis of length n comes from."""
    where = torch.arange(-before, n + after)
    if mode == "edge":
        return where.clamp(0, n - 1)
    if mode == "wrap":
        return where % n
    if max(before, after) >= n:
        raise b.refuse(f"a reflection of {max(before, after)} does not fit an axis of {n}")
    return (n - 1) - ((n - 1) - where.abs()).abs()


# -- torch --


def torch_pad(mode: str) -> Adapter:
    """aten's pad of one mode: amounts come last axis first."""

    def adapter(b: Builder, x: Operand, amounts_: Any, value: Any = 0) -> Ref:
        part, flat = computed(b, x), ints(b, amounts_, "the padding")
        pairs = zip(flat[::2], flat[1::2], strict=True)
        ends = {part.ndim - 1 - k: pair for k, pair in enumerate(pairs)}
        return pad(b, part, ends, mode, 0.0 if value is None else float(value))

    return adapter


NAMES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def any_pad(
    b: Builder, x: Operand, amounts_: Any, mode: str = "constant", value: float | None = None
) -> Ref:
    """aten.pad: the mode is an argument."""
    only(b, "mode", mode, *NAMES)
    return torch_pad(NAMES[mode])(b, x, amounts_, value)  # type: ignore[return-value]


# -- ONNX --


def pad_onnx(
    b: Builder,
    x: Operand,
    pads: Any = None,
    constant_value: Operand = None,
    axes: Any = None,
    *,
    mode: str = "constant",
    value: float = 0.0,
) -> Ref:
    """ONNX Pad: amounts are attributes before opset 11 and inputs after; all starts come first."""
    part, flat = computed(b, x), ints(b, pads, "pads")
    over: Sequence[int] = range(part.ndim) if axes is None else ints(b, axes, "axes")
    n = len(over)
    if len(flat) != 2 * n:
        raise b.refuse(f"pads must be {2 * n} numbers, got {len(flat)}")
    places = [position(a, part.ndim) for a in over]
    ends = dict(zip(places, zip(flat[:n], flat[n:], strict=True), strict=True))
    fill = value if constant_value is None else float(fixed(b, constant_value, "the value"))
    return pad(b, part, ends, mode, fill)


ENTRIES = (
    Entry(
        "Pad",
        "Affine",
        "y = x with entries around it: constant, reflected, edge or circular",
        torch=named("constant_pad_nd", torch_pad("constant"))
        | named("pad", any_pad)
        | named("reflection_pad1d reflection_pad2d reflection_pad3d", torch_pad("reflect"))
        | named("replication_pad1d replication_pad2d replication_pad3d", torch_pad("edge"))
        | named("_pad_circular", torch_pad("wrap")),
        onnx=named("Pad", pad_onnx),
        examples=(
            function(lambda x: F.pad(x, (1, 2)), (5, 3)),
            function(lambda x: F.pad(x, (1, -1, 0, 2), value=-1.5), (5, 3, 4)),
            function(lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"), (5, 2, 3, 4)),
            function(lambda x: F.pad(x, (1, 3, 2, 0), mode="circular"), (5, 2, 3, 4)),
            TorchExample(lambda: nn.ReplicationPad2d((1, 0, 2, 3)), ((5, 2, 3, 4),)),
            TorchExample(lambda: nn.ReflectionPad1d((2, 1)), ((5, 2, 3),)),
            TorchExample(lambda: nn.ConstantPad1d(1, 0.5), ((5, 2, 3),)),
            OnnxExample("Pad", ((1, 3), [0, 1, 0, 2])),
            OnnxExample("Pad", ((1, 2, 3), [0, 0, 1, 0, 1, 2], 2.5), {}, 11),
            OnnxExample("Pad", ((1, 2, 3), [1, 2], 0.0, [2]), {"mode": "reflect"}, 18),
            OnnxExample("Pad", ((1, 2, 3), [0, 0, 1, 0, 1, 2]), {"mode": "edge"}, 13),
            OnnxExample("Pad", ((1, 2, 3), [0, 0, 1, 0, 1, 2]), {"mode": "wrap"}, 19),
            OnnxExample("Pad", ((1, 3),), {"pads": [0, 1, 0, 2], "value": -1.0}, 7),
        ),
    ),
)
