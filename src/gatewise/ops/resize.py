"""Resizing images: each output pixel is one input pixel, or a mean of two along each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.ops.arithmetic import function
from gatewise.ops.builder import Builder, Operand, Ref
from gatewise.ops.common import axis, computed, fixed, ints, named, only
from gatewise.ops.moves import pick
from gatewise.ops.table import Adapter, Entry, OnnxExample, TorchExample

# -- rules --


@dataclass(frozen=True)
class Blend:
    """Along each axis in turn, y[i] = p[i] x[j[i]] + q[i] x[k[i]]: weights j, k, p, q an axis."""

    over: tuple[int, ...]

    def __call__(self, *weights_and_x: Tensor) -> Tensor:
        *tables, x = weights_and_x
        for n, a in enumerate(self.over):
            j, k, p, q = tables[4 * n : 4 * n + 4]
            shape = (-1,) + (1,) * (x.ndim - a - 1)
            x = x.index_select(a, j) * p.reshape(shape) + x.index_select(a, k) * q.reshape(shape)
        return x


# -- nodes --


def nearest(b: Builder, x: Ref, where: dict[int, Tensor]) -> Ref:
    """Each output takes the input at a position; positions outside are moved to the edge."""
    return pick(b, x, {a: w.long().clamp(0, x.shape[a] - 1) for a, w in where.items()})


def linear(b: Builder, x: Ref, where: dict[int, Tensor]) -> Ref:
    """Each output lies between two inputs, at a fractional position along each axis."""
    tables: list[Tensor] = []
    back = 1
    for a, at in where.items():
        at = at.clamp(0, x.shape[a] - 1)
        low = at.floor().long()
        high = (low + 1).clamp(max=x.shape[a] - 1)
        tables += [low, high, 1 - (at - low), at - low]
        back *= 2 * int(torch.bincount(torch.cat([low, high])).max())
    rule = Blend(tuple(axis(x, a) for a in where))
    return b.affine(rule, x, weights=tables, terms=2 * len(where) + 1, terms_back=back)


# -- torch --


def upsample(mode: str, n: int) -> Adapter:
    """aten.upsample_*: sizes, or factors, for the last n axes."""

    def adapter(b: Builder, x: Operand, output_size: Any, *more: Any) -> Ref:
        part = computed(b, x)
        align, scales = (more[0], more[1:]) if mode == "linear" else (False, more)
        scales = tuple(scales[0]) if scales and isinstance(scales[0], Sequence) else scales
        factors = scales if scales and scales[0] is not None else (None,) * n
        over = range(part.ndim - n, part.ndim)
        if output_size is None:
            sizes = [math.floor(part.shape[a] * f) for a, f in zip(over, factors, strict=True)]
        else:
            sizes = list(ints(b, output_size, "output_size"))
        where = {
            a: _torch_places(mode, part.shape[a], m, f, align)
            for a, m, f in zip(over, sizes, factors, strict=True)
        }
        return (linear if mode == "linear" else nearest)(b, part, where)

    return adapter


def _torch_places(mode: str, n: int, m: int, factor: float | None, align: bool) -> Tensor:
    """Positions in an axis of n for m outputs; torch itself is asked for the nearest ones."""
    if mode != "linear":
        pixels = torch.arange(n, dtype=torch.float64).reshape(1, 1, n)
        op = {
            "nearest": torch.ops.aten.upsample_nearest1d,
            "exact": torch.ops.aten._upsample_nearest_exact1d,
        }[mode]
        found: Tensor = op(pixels, [m], factor)
        return found.reshape(-1)
    out = torch.arange(m, dtype=torch.float64)
    if align:
        return out * ((n - 1) / (m - 1)) if m > 1 else out * 0
    return (out + 0.5) * (1 / factor if factor else n / m) - 0.5


def refuse_cubic(b: Builder, *_args: Any, **_options: Any) -> Ref:
    """Cubic interpolation."""
    raise b.refuse("cubic and antialiased resizing are not read; use nearest or linear")


# -- ONNX --


def resize_onnx(
    b: Builder,
    x: Operand,
    second: Operand = None,
    scales: Any = None,
    sizes: Any = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    antialias: int = 0,
    axes: Any = None,
    keep_aspect_ratio_policy: str = "stretch",
) -> Ref:
    """ONNX Resize. In opset 10 the second input is the scales, and corners are asymmetric."""
    part = computed(b, x)
    only(b, "antialias", antialias, 0)
    only(b, "keep_aspect_ratio_policy", keep_aspect_ratio_policy, "stretch")
    if b.opset == 10:
        return _onnx(b, part, mode, "asymmetric", "simple", second, None, None)
    given = None if _empty(scales) else scales
    wanted = None if _empty(sizes) else sizes
    corners = coordinate_transformation_mode
    return _onnx(b, part, mode, corners, nearest_mode, given, wanted, axes)


def upsample_onnx(b: Builder, x: Operand, scales: Any = None, *, mode: str = "nearest") -> Ref:
    """ONNX Upsample: scales are an attribute in opset 7 and an input in opset 9."""
    return _onnx(b, computed(b, x), mode, "asymmetric", "simple", scales, None, None)


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, Tensor) and value.numel() == 0)


def _onnx(
    b: Builder, x: Ref, mode: str, corners: str, rounding: str, scales: Any, sizes: Any, axes: Any
) -> Ref:
    only(b, "mode", mode, "nearest", "linear", "bilinear", "trilinear")
    over = range(x.ndim) if axes is None else [a % x.ndim for a in ints(b, axes, "axes")]
    if (scales is None) == (sizes is None):
        raise b.refuse("either scales or sizes must be given, and not both")
    if sizes is not None:
        out = ints(b, sizes, "sizes")
        factors = [m / x.shape[a] for a, m in zip(over, out, strict=True)]
    else:
        factors = fixed(b, torch.as_tensor(scales), "scales").reshape(-1).tolist()
        out = tuple(math.floor(x.shape[a] * f) for a, f in zip(over, factors, strict=True))
    where: dict[int, Tensor] = {}
    for a, f, m in zip(over, factors, out, strict=True):
        if f == 1 and m == x.shape[a]:
            continue
        at = coordinates(b, corners, x.shape[a], m, f)
        where[a] = _rounded(b, at, rounding, f) if mode == "nearest" else at
    if not where:
        return x
    return (nearest if mode == "nearest" else linear)(b, x, where)


def coordinates(b: Builder, corners: str, n: int, m: int, f: float) -> Tensor:
    """Where each of m outputs lies in an axis of n, by ONNX's coordinate transformation."""
    out = torch.arange(m, dtype=torch.float64)
    half = (out + 0.5) / f - 0.5
    known = {
        "half_pixel": half,
        "half_pixel_symmetric": half + n / 2 * (1 - m / (f * n)),
        "pytorch_half_pixel": half if m > 1 else out * 0,
        "tf_half_pixel_for_nn": half + 0.5,
        "asymmetric": out / f,
        "align_corners": out * ((n - 1) / (m - 1)) if m > 1 else out * 0,
    }
    only(b, "coordinate_transformation_mode", corners, *known)
    return known[corners]


def _rounded(b: Builder, at: Tensor, rounding: str, f: float) -> Tensor:
    """A position from a fractional one; `simple` is what ONNX did before it had a rule."""
    known = {
        "round_prefer_floor": (at - 0.5).ceil(),
        "round_prefer_ceil": (at + 0.5).floor(),
        "floor": at.floor(),
        "ceil": at.ceil(),
        "simple": at.ceil() if f < 1 else at.floor(),
    }
    only(b, "nearest_mode", rounding, *known)
    return known[rounding]


# -- the rows of the table --


def _up(*shape: int, **settings: Any) -> TorchExample:
    return TorchExample(partial(nn.Upsample, **settings), ((3, *shape),))


def _resize(*inputs: Any, opset: int = 13, **attrs: Any) -> OnnxExample:
    return OnnxExample("Resize", inputs, attrs, opset)


def _sized(x: Tensor) -> Tensor:
    return F.interpolate(x, (4, 3), mode="bilinear")


IMAGE = (1, 2, 3, 4)
MODES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")

ENTRIES = (
    Entry(
        "Upsample",
        "Affine",
        "y = each pixel copied from the nearest, or blended linearly",
        torch={f"upsample_nearest{n}d": upsample("nearest", n) for n in (1, 2, 3)}
        | {f"_upsample_nearest_exact{n}d": upsample("exact", n) for n in (1, 2, 3)}
        | named("upsample_linear1d", upsample("linear", 1))
        | named("upsample_bilinear2d", upsample("linear", 2))
        | named("upsample_trilinear3d", upsample("linear", 3))
        | named("upsample_bicubic2d _upsample_bicubic2d_aa _upsample_bilinear2d_aa", refuse_cubic),
        onnx=named("Resize", resize_onnx) | named("Upsample", upsample_onnx),
        examples=(
            _up(2, 5, scale_factor=1.7),
            _up(2, 3, 4, scale_factor=2),
            _up(2, 3, 4, size=(5, 2), mode="nearest-exact"),
            _up(2, 3, 2, 2, scale_factor=2),
            _up(2, 5, scale_factor=1.7, mode="linear"),
            _up(2, 3, 4, scale_factor=2, mode="bilinear", align_corners=True),
            _up(2, 3, 4, size=(5, 7), mode="bilinear"),
            _up(2, 3, 2, 2, scale_factor=2, mode="trilinear"),
            function(_sized, (3, 2, 7, 2)),
            *(
                _resize(
                    IMAGE,
                    None,
                    None,
                    [1, 2, 5, 7],
                    mode="linear",
                    coordinate_transformation_mode=mode,
                )
                for mode in MODES
            ),
            *(
                _resize(
                    IMAGE,
                    None,
                    [1.0, 1.0, 2.0, 1.5],
                    nearest_mode=mode,
                    coordinate_transformation_mode="asymmetric",
                )
                for mode in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
            ),
            _resize(IMAGE, None, [1.0, 1.0, 0.6, 0.5], mode="linear"),
            _resize(
                IMAGE,
                [],
                [1.0, 1.0, 2.0, 2.0],
                opset=11,
                coordinate_transformation_mode="tf_half_pixel_for_nn",
            ),
            _resize(IMAGE, None, [2.5], opset=18, axes=[3], mode="linear"),
            _resize(
                IMAGE,
                None,
                [1.0, 1.0, 0.7, 2.3],
                opset=19,
                mode="linear",
                coordinate_transformation_mode="half_pixel_symmetric",
            ),
            _resize(IMAGE, [1.0, 1.0, 2.0, 0.5], opset=10),
            _resize(IMAGE, [1.0, 1.0, 2.0, 2.0], opset=10, mode="linear"),
            OnnxExample("Upsample", (IMAGE, [1.0, 1.0, 2.0, 3.0]), {}, 9),
            OnnxExample("Upsample", (IMAGE,), {"scales": [1.0, 1.0, 2.0, 3.0]}, 7),
            OnnxExample(
                "Upsample", (IMAGE,), {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "linear"}, 7
            ),
        ),
    ),
)
