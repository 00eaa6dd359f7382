"""Gates, unit by unit: activations with finitely many affine branches (`Pieces`).

Where a unit is exactly at a knot, the branch is the one torch's own derivative takes there; the
rows below say it by `closed` (True: the branch above the knot).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.ir.kinds import Rule
from gatewise.ops.builder import Builder, Operand, Pieces, Ref
from gatewise.ops.common import broadcast, fixed, number, only, together
from gatewise.ops.table import Adapter, Entry, OnnxExample, TorchExample

FLOAT32_MAX = float(torch.finfo(torch.float32).max)


def single(value: float) -> float:
    """The number rounded to float32: what an attribute of ONNX, or its default, can be."""
    return float(np.float32(value))


def also_in_place(adapter: Adapter, *names: str) -> dict[str, Adapter]:
    """The adapter under each name and its in-place twin: relu and relu_."""
    return {twin: adapter for name in names for twin in (name, name + "_")}


def column(values: Sequence[Operand]) -> Tensor:
    """(K, ...): constants, broadcast together and stacked."""
    return torch.stack(torch.broadcast_tensors(*(number(v) for v in values)))


def pieces(
    b: Builder,
    x: Ref,
    knots: Sequence[Operand],
    slopes: Sequence[Operand],
    offsets: Sequence[Operand],
    closed: Sequence[bool],
    direct: Rule | None = None,
) -> Ref:
    """y = slopes[k] x + offsets[k] on cell k; constants that differ by unit broadcast against x."""
    tables = [column(values) for values in (knots, slopes, offsets)]
    if any(not table.isfinite().all() for table in tables):
        raise b.refuse("a constant is NaN or infinite; replace it by a finite number")
    shape = together(b, x.shape, *(tuple(table.shape[1:]) for table in tables))
    knots_, slopes_, offsets_ = tables
    kind = Pieces(knots_, slopes_, offsets_, tuple(closed), direct)
    return b.add(kind, broadcast(b, x, shape))


def exact32(*values: Operand) -> bool:
    """True for plain numbers that float32 holds exactly, so that no cast moves a knot."""
    plain = all(isinstance(v, int | float) for v in values)
    return plain and all(single(v) == v for v in values)  # type: ignore[arg-type]


# -- activations --


def relu(b: Builder, x: Ref) -> Ref:
    """max(x, 0), off at 0."""
    return pieces(b, x, [0], [0, 1], [0, 0], [False], torch.relu)


def leaky_relu(b: Builder, x: Ref, negative_slope: float = 0.01) -> Ref:
    """x above 0, a x below."""
    direct = partial(F.leaky_relu, negative_slope=negative_slope)
    return pieces(b, x, [0], [negative_slope, 1], [0, 0], [False], direct)


def onnx_leaky_relu(b: Builder, x: Ref, *, alpha: float = single(0.01)) -> Ref:
    """ONNX names the slope alpha."""
    return leaky_relu(b, x, alpha)


def rrelu(
    b: Builder,
    x: Ref,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: object = None,
) -> Ref:
    """In evaluation, a leaky ReLU with the mean slope."""
    only(b, "training", training, False)
    return leaky_relu(b, x, (lower + upper) / 2)


def prelu(b: Builder, x: Ref, weight: Operand) -> Ref:
    """A slope below 0 for each channel: axis 1 of the source."""
    slope = fixed(b, weight, "the slope")
    if slope.numel() > 1:
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))
    return prelu_broadcast(b, x, slope.reshape(()) if slope.numel() == 1 else slope)


def prelu_broadcast(b: Builder, x: Ref, weight: Operand) -> Ref:
    """A slope below 0 that broadcasts against x as it is."""
    slope = fixed(b, weight, "the slope")
    return pieces(b, x, [0], [slope, 1], [0, 0], [False])


def hardtanh(b: Builder, x: Ref, min_val: float = -1.0, max_val: float = 1.0) -> Ref:
    """x held between two numbers; flat at both."""
    direct = partial(F.hardtanh, min_val=min_val, max_val=max_val)
    fast = direct if exact32(min_val, max_val) else None
    return _held(b, x, min_val, max_val, (False, True), fast)


def relu6(b: Builder, x: Ref) -> Ref:
    """min(max(x, 0), 6)."""
    return hardtanh(b, x, 0.0, 6.0)


def _held(
    b: Builder, x: Ref, low: Operand, high: Operand, closed: tuple[bool, bool], fast: Rule | None
) -> Ref:
    if bool((number(low) > number(high)).any()):
        raise b.refuse(f"its lower bound {low} is above its upper bound {high}")
    return pieces(b, x, [low, high], [0, 1, 0], [low, 0, high], closed, fast)


def clamp(b: Builder, x: Ref, min: Operand = None, max: Operand = None) -> Ref:
    """x held between two numbers, either of which may be absent; slope 1 at both."""
    low, high = _bound(b, min, -math.inf), _bound(b, max, math.inf)
    if low is not None and high is not None:
        fast = partial(torch.clamp, min=low, max=high) if exact32(low, high) else None
        return _held(b, x, low, high, (True, False), fast)
    if low is not None:
        return pieces(b, x, [low], [0, 1], [low, 0], [True])
    return x if high is None else pieces(b, x, [high], [1, 0], [0, high], [False])


def _bound(b: Builder, value: Operand, absent: float) -> Operand:
    """A bound of `clamp`; None for one that holds nothing back."""
    if value is None:
        return None
    known = fixed(b, value, "a bound")
    if known.ndim:
        return known
    return None if float(known) == absent else float(known)


def clamp_min(b: Builder, x: Ref, min: Operand) -> Ref:
    """max(x, bound)."""
    return clamp(b, x, min=min)


def clamp_max(b: Builder, x: Ref, max: Operand) -> Ref:
    """min(x, bound)."""
    return clamp(b, x, max=max)


def onnx_clip(b: Builder, x: Ref, min: Operand = None, max: Operand = None) -> Ref:
    """Bounds are attributes before opset 11 and inputs after; float32's own limits are none."""
    low = None if _is_limit(min, -FLOAT32_MAX) else min
    return clamp(b, x, low, None if _is_limit(max, FLOAT32_MAX) else max)


def _is_limit(value: Operand, limit: float) -> bool:
    if value is None or isinstance(value, Ref):
        return False
    known = number(value)
    return known.numel() == 1 and float(known) / limit >= 1


def hardsigmoid(b: Builder, x: Ref) -> Ref:
    """x / 6 + 1/2 held between 0 and 1."""
    return pieces(b, x, [-3, 3], [0, 1 / 6, 0], [0, 0.5, 1], [False, True], F.hardsigmoid)


def onnx_hardsigmoid(b: Builder, x: Ref, *, alpha: float = single(0.2), beta: float = 0.5) -> Ref:
    """alpha x + beta held between 0 and 1."""
    if alpha <= 0:
        raise b.refuse(f"alpha must be positive, got {alpha}")
    knots = [-beta / alpha, (1 - beta) / alpha]
    return pieces(b, x, knots, [0, alpha, 0], [0, beta, 1], [False, True])


def absolute(b: Builder, x: Ref) -> Ref:
    """|x|; at 0, where torch says 0, the lower branch."""
    return pieces(b, x, [0], [-1, 1], [0, 0], [False], torch.abs)


def threshold(b: Builder, x: Ref, threshold: float, value: float) -> Ref:
    """x above the threshold, a constant up to it."""
    return pieces(b, x, [threshold], [0, 1], [value, 0], [False])


def onnx_thresholded_relu(b: Builder, x: Ref, *, alpha: float = 1.0) -> Ref:
    """x above alpha, 0 up to it."""
    return threshold(b, x, alpha, 0.0)


def hardshrink(b: Builder, x: Ref, lambd: float = 0.5) -> Ref:
    """0 within lambda of 0, x elsewhere."""
    return onnx_shrink(b, x, lambd=lambd, bias=0.0)


def softshrink(b: Builder, x: Ref, lambd: float = 0.5) -> Ref:
    """x moved towards 0 by lambda, and 0 within it."""
    return onnx_shrink(b, x, lambd=lambd, bias=lambd)


def onnx_shrink(b: Builder, x: Ref, *, bias: float = 0.0, lambd: float = 0.5) -> Ref:
    """x + bias below -lambda, x - bias above lambda, 0 between."""
    if lambd < 0:
        raise b.refuse(f"lambda must not be negative, got {lambd}")
    return pieces(b, x, [-lambd, lambd], [1, 0, 1], [bias, 0, -bias], [True, False])


def _fn(f: Callable[..., Tensor], *shapes: tuple[int, ...]) -> TorchExample:
    return TorchExample(lambda: f, shapes or ((5, 3, 5),))


def _onnx(op: str, *more: list[Any] | float | None, opset: int = 17, **attrs: Any) -> OnnxExample:
    return OnnxExample(op, ((1, 3, 5), *more), attrs, opset)


def _channel_prelu() -> nn.Module:
    module = nn.PReLU(3)
    module.weight.data = torch.tensor([0.25, -0.5, 1.5])
    return module


def _relu_in_place(x: Tensor) -> Tensor:
    return F.relu_(x + 1)


def _by_unit(x: Tensor) -> Tensor:
    return torch.clamp(x, torch.linspace(-1, 0, 5), torch.linspace(0, 1, 5))


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "ReLU",
        "Gate",
        "y = max(x, 0); off at 0",
        also_in_place(relu, "relu"),
        {"Relu": relu},
        (TorchExample(nn.ReLU, ((5, 3, 5),)), _fn(_relu_in_place), _onnx("Relu")),
    ),
    Entry(
        "LeakyReLU",
        "Gate",
        "y = x above 0, a x below",
        also_in_place(leaky_relu, "leaky_relu") | also_in_place(rrelu, "rrelu"),
        {"LeakyRelu": onnx_leaky_relu},
        (
            TorchExample(lambda: nn.LeakyReLU(0.1), ((5, 3, 5),)),
            TorchExample(lambda: nn.LeakyReLU(-2.0), ((5, 3, 5),)),
            TorchExample(lambda: nn.RReLU().eval(), ((5, 3, 5),)),
            _onnx("LeakyRelu"),
            _onnx("LeakyRelu", alpha=0.3),
        ),
    ),
    Entry(
        "PReLU",
        "Gate",
        "y = x above 0, a[channel] x below",
        {"prelu": prelu, "_prelu_kernel": prelu_broadcast},
        {"PRelu": prelu_broadcast},
        (
            TorchExample(nn.PReLU, ((5, 3, 5),)),
            TorchExample(_channel_prelu, ((5, 3, 5),)),
            TorchExample(_channel_prelu, ((5, 3, 2, 2),)),
            _onnx("PRelu", [[0.1], [-0.2], [2.0]]),
            _onnx("PRelu", [0.25]),
        ),
    ),
    Entry(
        "HardTanh",
        "Gate",
        "y = x held between two numbers; flat at both (ReLU6: 0 and 6)",
        also_in_place(hardtanh, "hardtanh") | also_in_place(relu6, "relu6"),
        {},
        (
            TorchExample(nn.Hardtanh, ((5, 3, 5),)),
            TorchExample(lambda: nn.Hardtanh(-0.1, 0.7), ((5, 3, 5),)),
            TorchExample(nn.ReLU6, ((5, 3, 5),)),
            _fn(F.relu6),
        ),
    ),
    Entry(
        "Clip",
        "Gate",
        "y = x held between two constants, either of which may be absent",
        also_in_place(clamp, "clamp", "clip")
        | also_in_place(clamp_min, "clamp_min")
        | also_in_place(clamp_max, "clamp_max"),
        {"Clip": onnx_clip},
        (
            _fn(lambda x: torch.clamp(x, -0.3, 0.5)),
            _fn(lambda x: x.clamp(min=0.25)),
            _fn(lambda x: x.clamp_max(0.5)),
            _fn(lambda x: x.clamp_min(0)),
            _fn(_by_unit),
            _onnx("Clip", [-0.5], [0.25]),
            _onnx("Clip", None, [0.25]),
            _onnx("Clip", [-0.5]),
            _onnx("Clip"),
            _onnx("Clip", opset=10, min=-0.5, max=0.25),
            _onnx("Clip", opset=10, min=0.0),
        ),
    ),
    Entry(
        "HardSigmoid",
        "Gate",
        "y = a x + b held between 0 and 1 (torch: a = 1/6, b = 1/2)",
        also_in_place(hardsigmoid, "hardsigmoid"),
        {"HardSigmoid": onnx_hardsigmoid},
        (
            TorchExample(nn.Hardsigmoid, ((5, 3, 5),)),
            _onnx("HardSigmoid"),
            _onnx("HardSigmoid", alpha=0.7, beta=0.25),
        ),
    ),
    Entry(
        "Abs",
        "Gate",
        "y = |x|; the lower branch at 0",
        also_in_place(absolute, "abs"),
        {"Abs": absolute},
        (_fn(torch.abs), _onnx("Abs")),
    ),
    Entry(
        "Threshold",
        "Gate",
        "y = x above t, a constant up to t",
        also_in_place(threshold, "threshold"),
        {"ThresholdedRelu": onnx_thresholded_relu},
        (
            TorchExample(lambda: nn.Threshold(0.25, -1.0), ((5, 3, 5),)),
            _onnx("ThresholdedRelu"),
            _onnx("ThresholdedRelu", alpha=0.25),
        ),
    ),
    Entry(
        "Shrink",
        "Gate",
        "y = 0 within λ of 0; beyond, x (hard) or x moved towards 0 (soft)",
        {"hardshrink": hardshrink, "softshrink": softshrink},
        {"Shrink": onnx_shrink},
        (
            TorchExample(nn.Hardshrink, ((5, 3, 5),)),
            TorchExample(lambda: nn.Softshrink(0.25), ((5, 3, 5),)),
            _onnx("Shrink", bias=0.25, lambd=0.5),
            _onnx("Shrink"),
        ),
    ),
)
