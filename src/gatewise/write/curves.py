"""Curved layers as ONNX operators, or as a few of them where one does not exist in the opset."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from gatewise.ir.kinds import Smooth
from gatewise.ops.attention import masked_softmax
from gatewise.ops.normalise import Group, Layer, Root
from gatewise.ops.products import Turned, quotient
from gatewise.ops.smooth import Elu, log1p_exp, tanhshrink
from gatewise.ops.softmax import Flat
from gatewise.write.graph import Draft

Settings = dict[str, Any]
Writer = Callable[[Draft, Smooth, Any, Settings], str]


def smooth(draft: Draft, kind: Smooth) -> str:
    """The name of the value of the node being written."""
    fn: Any = kind.fn
    settings: Settings = {}
    if isinstance(fn, partial):
        fn, settings = fn.func, dict(fn.keywords)
    writer = CURVES.get(fn) or TYPES.get(type(fn))
    if writer is None:
        raise draft.refuse("no operator is known for its function")
    return writer(draft, kind, fn, settings)


def _number(draft: Draft, value: float) -> str:
    return draft.constant(torch.tensor(float(value), dtype=torch.float64), "part")


def _times(draft: Draft, x: str, value: float) -> str:
    return x if value == 1 else draft.op("Mul", x, _number(draft, value))


# -- entry by entry --


def _chain(*names: str) -> Writer:
    """Operators one after another."""

    def write(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
        x = draft.given()
        for name in names:
            x = draft.op(name, x)
        return x

    return write


def _with(name: str, build: Callable[[Draft, str], str]) -> Writer:
    """x joined by an operator with what is built from it."""

    def write(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
        x = draft.given()
        return draft.op(name, x, build(draft, x))

    return write


def _scaled(name: str, factor: float, shift: float = 0.0) -> Writer:
    """factor OP(x + shift)."""

    def write(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
        x = draft.given()
        x = x if shift == 0 else draft.op("Add", x, _number(draft, shift))
        return _times(draft, draft.op(name, x), factor)

    return write


def _expm1(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    return draft.op("Sub", draft.op("Exp", draft.given()), _number(draft, 1))


def _exp2(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    return draft.op("Pow", _number(draft, 2), draft.given())


def _error_function(draft: Draft, x: str) -> str:
    if draft.dtype == torch.float64:
        raise draft.refuse("those that run ONNX know erf to eight digits; write it in float32")
    return draft.op("Erf", x)


def _erf(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    return _error_function(draft, draft.given())


def _erfc(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    return draft.op("Sub", _number(draft, 1), _error_function(draft, draft.given()))


def _hard_swish(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    """x min(max(x + 3, 0), 6) / 6; the operator knows 1/6 as a float32."""
    x = draft.given()
    if draft.dtype == torch.float32:
        return draft.op("HardSwish", x)
    ends = (_number(draft, end) for end in (0, 6))
    ramp = draft.op("Clip", draft.op("Add", x, _number(draft, 3)), *ends)
    return draft.op("Mul", x, _times(draft, ramp, 1 / 6))


def _trunc(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    x = draft.given()
    return draft.op("Mul", draft.op("Sign", x), draft.op("Floor", draft.op("Abs", x)))


def _log_sigmoid(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    return draft.op("Neg", draft.op("Softplus", draft.op("Neg", draft.given())))


def _softplus(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    """x itself where beta x is above the threshold."""
    x, beta = draft.given(), settings["beta"]
    z = _times(draft, x, beta)
    y = _times(draft, draft.op("Softplus", z), 1 / beta)
    return draft.op("Where", draft.op("Greater", z, _number(draft, settings["threshold"])), x, y)


def _gelu(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    """x (1 + s) / 2, with s = erf(x / √2), or its tanh form √(2/π) (x + 0.044715 x³)."""
    x = draft.given()
    if settings.get("approximate", "none") == "none":
        s = _error_function(draft, _times(draft, x, math.sqrt(0.5)))
    else:
        cube = draft.op("Mul", x, draft.op("Mul", x, x))
        z = draft.op("Add", x, _times(draft, cube, 0.044715))
        s = draft.op("Tanh", _times(draft, z, math.sqrt(2 / math.pi)))
    return draft.op("Mul", _times(draft, x, 0.5), draft.op("Add", s, _number(draft, 1)))


def _elu(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    """Elu, Selu or Celu where it is that; their settings are float32."""
    x, alpha, scale, inner = draft.given(), fn.alpha, fn.scale, fn.inner
    if draft.dtype == torch.float32 and inner == 1:
        more = {"alpha": alpha} if scale == 1 else {"alpha": alpha, "gamma": scale}
        return draft.op("Elu" if scale == 1 else "Selu", x, **more)
    if draft.dtype == torch.float32 and alpha and (scale, inner) == (1, 1 / alpha):
        return draft.op("Celu", x, alpha=alpha)
    zero = _number(draft, 0)
    below = draft.op("Exp", _times(draft, draft.op("Min", x, zero), inner))
    low = _times(draft, draft.op("Sub", below, _number(draft, 1)), alpha)
    return _times(draft, draft.op("Where", draft.op("Greater", x, zero), x, low), scale)


def _pair(name: str) -> Writer:
    """OP(u, v) of two values, or of a constant and one."""

    def write(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
        if not kind.weights:
            return draft.op(name, draft.given(0), draft.given(1))
        return draft.op(name, draft.broadcast(kind.weights[0]), draft.given())

    return write


def _turned(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    if fn.fn is not torch.pow:
        raise draft.refuse("no operator is known for its function")
    return draft.op("Pow", draft.given(), draft.broadcast(kind.weights[0]))


# -- over axes --


def _softmax(name: str) -> Writer:
    return lambda draft, kind, fn, settings: draft.op(
        name, draft.given(), axis=draft.axis(settings["dim"])
    )


def _flat(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    """Over everything from an axis on, joined."""
    shape = draft.given_shape()
    if fn.tail > len(shape):
        raise draft.refuse("it works on the batch axis of its source")
    head, tail = shape[: len(shape) - fn.tail], shape[len(shape) - fn.tail :]
    joined = draft.reshape(draft.given(), (*head, math.prod(tail)))
    name = {torch.softmax: "Softmax", torch.log_softmax: "LogSoftmax"}[fn.fn]
    return draft.reshape(draft.op(name, joined, axis=-1), shape)


def _masked(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    x = draft.op("Add", draft.given(), draft.broadcast(kind.weights[0], "mask"))
    return draft.op("Softmax", x, axis=-1)


def _axes(draft: Draft, settings: Settings) -> list[int]:
    dim = settings["dim"]
    return [draft.axis(a) for a in ([dim] if isinstance(dim, int) else dim)]


def _log_sum_exp(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    over, keep = _axes(draft, settings), int(settings["keepdim"])
    return draft.fitted(draft.op("ReduceLogSumExp", draft.given(), axes=over, keepdims=keep))


def _norm(draft: Draft, over: list[int], order: float, keep: int) -> str:
    """(Σ |x|^p)^(1/p)."""
    if order in (1, 2):
        return draft.op(f"ReduceL{order:g}", draft.given(), axes=over, keepdims=keep)
    powers = draft.op("Pow", draft.op("Abs", draft.given()), _number(draft, order))
    total = draft.op("ReduceSum", powers, draft.constant(over, "axes"), keepdims=keep)
    return draft.op("Pow", total, _number(draft, 1 / order))


def _vector_norm(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    over, keep = _axes(draft, settings), int(settings["keepdim"])
    return draft.fitted(_norm(draft, over, settings["ord"], keep))


def _normalize(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    size = _norm(draft, _axes(draft, settings), settings["p"], 1)
    return draft.op("Div", draft.given(), draft.op("Max", size, _number(draft, settings["eps"])))


def _moment(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    """Variance or deviation: Σ (x - mean)² / (n - correction), and its root."""
    over, keep = _axes(draft, settings), int(settings["keepdim"])
    count = math.prod(draft.given_shape()[a - 1] for a in over)
    x = _centred(draft, draft.given(), over)
    total = draft.op("ReduceSum", draft.op("Mul", x, x), draft.constant(over, "a"), keepdims=keep)
    found = _times(draft, total, 1 / (count - settings["correction"]))
    return draft.fitted(draft.op("Sqrt", found) if fn is torch.std else found)


# -- normalised --


def _centred(draft: Draft, x: str, over: Sequence[int]) -> str:
    return draft.op("Sub", x, draft.op("ReduceMean", x, axes=list(over), keepdims=1))


def _over_root(draft: Draft, x: str, over: Sequence[int], eps: float) -> str:
    """x / √(mean x² + ε)."""
    mean = draft.op("ReduceMean", draft.op("Mul", x, x), axes=list(over), keepdims=1)
    return draft.op("Div", x, draft.op("Sqrt", draft.op("Add", mean, _number(draft, eps))))


def _layer(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    """LayerNormalization; its ε is float32, so that float64 takes smaller steps."""
    n, (w, c) = len(fn.shape), (draft.constant(v) for v in kind.weights)
    if draft.dtype == torch.float32:
        return draft.op("LayerNormalization", draft.given(), w, c, axis=-n, epsilon=fn.eps)
    over = range(-n, 0)
    y = _over_root(draft, _centred(draft, draft.given(), over), over, fn.eps)
    return draft.op("Add", draft.op("Mul", y, w), c)


def _root(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    eps = torch.finfo(draft.dtype).eps if fn.eps is None else fn.eps
    y = _over_root(draft, draft.given(), range(-len(fn.shape), 0), eps)
    return draft.op("Mul", y, draft.constant(kind.weights[0]))


def _group(draft: Draft, kind: Smooth, fn: Any, settings: Settings) -> str:
    """InstanceNormalization of groups laid side by side, then w and c by channel."""
    shape, rest = draft.given_shape(), fn.ndim - 2
    each = math.prod(shape[len(shape) - rest - 1 :])
    if math.prod(shape) != each:
        raise draft.refuse(f"it normalises channels of a value of shape {shape}")
    x = draft.reshape(draft.given(), (fn.groups, each // fn.groups))
    if draft.dtype == torch.float32:
        ends = (draft.constant(f(fn.groups)) for f in (torch.ones, torch.zeros))
        y = draft.op("InstanceNormalization", x, *ends, epsilon=fn.eps)
    else:
        y = _over_root(draft, _centred(draft, x, [2]), [2], fn.eps)
    w, c = (draft.constant(v.reshape(-1, *[1] * rest)) for v in kind.weights)
    return draft.op("Add", draft.op("Mul", draft.reshape(y, shape), w), c)


NAMES: dict[str, Any] = {
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Softplus": log1p_exp,
    "Softsign": F.softsign,
}
CURVES: dict[Any, Writer] = {fn: _chain(name) for name, fn in NAMES.items()} | {
    torch.rsqrt: _chain("Sqrt", "Reciprocal"),
    torch.exp2: _exp2,
    torch.expm1: _expm1,
    torch.log1p: _scaled("Log", 1, 1),
    torch.log2: _scaled("Log", 1 / math.log(2)),
    torch.log10: _scaled("Log", 1 / math.log(10)),
    torch.erf: _erf,
    torch.erfc: _erfc,
    torch.trunc: _trunc,
    F.logsigmoid: _log_sigmoid,
    F.softplus: _softplus,
    F.gelu: _gelu,
    F.hardswish: _hard_swish,
    F.silu: _with("Mul", lambda draft, x: draft.op("Sigmoid", x)),
    F.mish: _with("Mul", lambda draft, x: draft.op("Tanh", draft.op("Softplus", x))),
    tanhshrink: _with("Sub", lambda draft, x: draft.op("Tanh", x)),
    quotient: _pair("Div"),
    torch.pow: _pair("Pow"),
    torch.softmax: _softmax("Softmax"),
    torch.log_softmax: _softmax("LogSoftmax"),
    masked_softmax: _masked,
    torch.logsumexp: _log_sum_exp,
    torch.linalg.vector_norm: _vector_norm,
    F.normalize: _normalize,
    torch.var: _moment,
    torch.std: _moment,
}
TYPES: dict[type, Writer] = {
    Elu: _elu,
    Turned: _turned,
    Flat: _flat,
    Layer: _layer,
    Root: _root,
    Group: _group,
}
